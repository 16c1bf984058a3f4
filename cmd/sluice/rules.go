package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/eventsluice/sluice/internal/app"
)

func newRules(settings *app.Settings) *cobra.Command {
	return group("rules", "Check a rules file, or explain what it does with an event",
		&cobra.Command{
			Use:   "check FILE|s3://BUCKET/KEY",
			Short: "Say what is wrong with a rules file; exit status 1 if it cannot be used",
			Args:  exactArgs("FILE"),
			RunE: func(cmd *cobra.Command, args []string) error {
				if err := fill(cmd, settings); err != nil {
					return err
				}
				doc, err := readInput(cmd, args[0])
				if err != nil {
					return err
				}
				return app.CheckRules(cmd.Context(), doc, *settings, cmd.OutOrStdout())
			},
		},
		&cobra.Command{
			Use:   "explain FILE|s3://BUCKET/KEY < event.json",
			Short: "Say which rules want an event, which do not and why, and what would be sent",
			Args:  exactArgs("FILE"),
			RunE: func(cmd *cobra.Command, args []string) error {
				if err := fill(cmd, settings); err != nil {
					return err
				}
				doc, err := readInput(cmd, args[0])
				if err != nil {
					return err
				}
				event, err := io.ReadAll(cmd.InOrStdin())
				if err != nil {
					return fmt.Errorf("read the event: %w", err)
				}
				return app.ExplainRules(doc, event, cmd.OutOrStdout())
			},
		},
	)
}

// readInput reads a file or an object (s3://…), or standard input if it is
// called "-".
func readInput(cmd *cobra.Command, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(cmd.InOrStdin())
	}
	return app.ReadDocument(cmd.Context(), name)
}
