package main

import (
	"github.com/spf13/cobra"

	"github.com/eventsluice/sluice/internal/app"
)

func newLedger(settings *app.Settings) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Show what became of every event; exit status 1 if the sums miss any",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			return app.PrintLedger(cmd.Context(), *settings, asJSON, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
