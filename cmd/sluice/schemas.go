package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/eventsluice/sluice/internal/app"
)

func newSchemas(settings *app.Settings) *cobra.Command {
	root := group("schemas", "Check schemas and events, propose schemas, look at violations",
		checkSchemas(settings), inferSchemas(settings), violations(settings))
	root.Long = `Check schemas and events, propose schemas, look at violations.

A schema says what the data of the events of a name has to be. What happens to
an event that is something else is up to its mode: observe stores and counts it,
quarantine puts it aside and tells its sender that it is safe, reject refuses it.
After a fix, "sluice quarantine replay --class schema" stores what was put aside.`
	return root
}

func checkSchemas(settings *app.Settings) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE|s3://BUCKET/KEY|-]…",
		Short: "Say what is wrong with a schemas document, or with events; exit status 1 if anything is",
		Long: `Say what is wrong with a schemas document, or with events; exit status 1 if
anything is.

A file with events (JSON lines, an array, {"events":[…]} or one event) is checked
against the document of --schemas. Without a file that document is checked.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			if len(args) == 0 {
				args = []string{settings.Schemas}
			}
			var inputs []app.Input
			for _, name := range args {
				text, err := readInput(cmd, name)
				if err != nil {
					return err
				}
				inputs = append(inputs, app.Input{Name: name, Text: text})
			}
			return app.CheckSchemas(cmd.Context(), *settings, inputs, cmd.OutOrStdout())
		},
	}
}

func inferSchemas(settings *app.Settings) *cobra.Command {
	var o app.InferOptions
	cmd := &cobra.Command{
		Use:   "infer",
		Short: "Propose schemas that the events seen agree with, in mode observe",
		Long: `Propose schemas that the events seen agree with: a document in mode observe, which
every event that it was made from passes. A member is required if all events have
it and they are --seen at least; an enum is proposed for few values among many.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			if o.Seen < 1 {
				return wrongUse{fmt.Errorf("--seen %d: right would be 1 or more", o.Seen)}
			}
			if o.Limit < 1 {
				return wrongUse{fmt.Errorf("--limit %d: right would be 1 or more", o.Limit)}
			}
			if o.From != "" && o.From != app.FromWarehouse {
				text, err := readInput(cmd, o.From)
				if err != nil {
					return err
				}
				o.Input = &app.Input{Name: o.From, Text: text}
			}
			return app.InferSchemas(cmd.Context(), *settings, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Name, "name", "", "only events of this name")
	flags.StringVar(&o.From, "from", "", "a file of events, - for standard input, or warehouse (default: the newest 1000 events of the running process)")
	flags.IntVar(&o.Seen, "seen", app.DefaultSeen, "a member that all events have is required if they are this many")
	flags.IntVar(&o.Limit, "limit", 10_000, "most events of the warehouse, the newest")
	return cmd
}

func violations(settings *app.Settings) *cobra.Command {
	var name string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "violations",
		Short: "Show what events have broken schemas in the running process, the last seen first",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			if limit < 1 {
				return wrongUse{fmt.Errorf("--limit %d: right would be 1 or more", limit)}
			}
			return app.PrintViolations(cmd.Context(), *settings, name, limit, asJSON, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "only events of this name")
	cmd.Flags().IntVar(&limit, "limit", 100, "most violations to show")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
