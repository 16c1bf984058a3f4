package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/eventsluice/sluice/internal/app"
)

func newSpool(settings *app.Settings) *cobra.Command {
	var asJSON bool
	var limit int
	show := &cobra.Command{
		Use:   "show",
		Short: "Show how much waits in the spool, and since when",
		Args:  noArgs,
		RunE: withSpool(settings, func(cmd *cobra.Command, s app.Spool, _ []string) error {
			return app.PrintSpool(cmd.Context(), s, asJSON, cmd.OutOrStdout())
		}),
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "List the events in the spool, oldest first",
		Args: func(cmd *cobra.Command, args []string) error {
			if limit < 1 || limit > 1000 {
				return wrongUse{fmt.Errorf("--limit %d: right would be 1 to 1000", limit)}
			}
			return noArgs(cmd, args)
		},
		RunE: withSpool(settings, func(cmd *cobra.Command, s app.Spool, _ []string) error {
			return app.ListSpool(cmd.Context(), s, limit, asJSON, cmd.OutOrStdout())
		}),
	}
	export := &cobra.Command{
		Use:   "export FILE",
		Short: "Write the events in the spool to a new file of JSON lines and sync it; the spool keeps them",
		Args:  exactArgs("FILE"),
		RunE: withSpool(settings, func(cmd *cobra.Command, s app.Spool, args []string) error {
			return app.ExportSpool(cmd.Context(), s, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		}),
	}
	for _, cmd := range []*cobra.Command{show, list} {
		cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	}
	list.Flags().IntVar(&limit, "limit", 100, "most events to list")
	return group("spool", "Look at the events that wait for Kinesis to take them", show, list, export)
}

// withSpool opens the spool for a command.
func withSpool(settings *app.Settings, do func(*cobra.Command, app.Spool, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		if err := fill(cmd, settings); err != nil {
			return err
		}
		s, closeSpool, err := app.OpenSpool(cmd.Context(), *settings)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeSpool()) }()
		return do(cmd, s, args)
	}
}
