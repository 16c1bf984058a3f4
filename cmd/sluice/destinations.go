package main

import (
	"github.com/spf13/cobra"

	"github.com/eventsluice/sluice/internal/app"
)

func newConnectors() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "connectors [KIND]",
		Short: "List the connectors that there are, or the settings and limits of one",
		Args:  atMostOne("connector"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := app.ListConnectors(optional(args), asJSON, cmd.OutOrStdout()); err != nil {
				return wrongUse{err}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// optional returns the argument of a command that wants one or none.
func optional(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func newDestinations(settings *app.Settings) *cobra.Command {
	root := group("destinations", "Look at destinations, try them out, pause and resume them",
		listDestinations(settings), checkDestinations(settings), testDestination(settings),
		operateDestination(settings, "pause", "Make no more calls to a destination until it is resumed, also after a restart; its events wait"),
		operateDestination(settings, "resume", "Go on with a destination that was paused, or try one that is in trouble at once"),
	)
	root.Long = `Look at destinations, try them out, pause and resume them.

list, pause and resume speak to the process that runs on the data folder. check
and test need none: they read the destinations document and call the
destinations from here.`
	return root
}

func listDestinations(settings *app.Settings) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show how each destination is: state, rate, success, the oldest event that waits, the last error",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			return app.ListDestinations(cmd.Context(), *settings, asJSON, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func checkDestinations(settings *app.Settings) *cobra.Command {
	return &cobra.Command{
		Use:   "check [DESTINATION]",
		Short: "Check settings, address and credentials, without sending an event; exit status 1 if a destination is not well",
		Args:  atMostOne("destination"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			return app.CheckDestinations(cmd.Context(), *settings, optional(args), cmd.OutOrStdout())
		},
	}
}

func testDestination(settings *app.Settings) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "test DESTINATION",
		Short: "Send a marked test event, past stream and ledger, and explain the answer; exit status 1 if it did not arrive",
		Args:  exactArgs("DESTINATION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			var sent []byte
			if file != "" {
				var err error
				if sent, err = readInput(cmd, file); err != nil {
					return err
				}
			}
			return app.TryDestination(cmd.Context(), *settings, args[0], sent, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&file, "event", "", "a file with the event to send, as a sender writes it; - is standard input")
	return cmd
}

func operateDestination(settings *app.Settings, verb, short string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   verb + " DESTINATION",
		Short: short,
		Args:  exactArgs("DESTINATION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			return app.OperateDestination(cmd.Context(), *settings, args[0], verb, reason, cmd.OutOrStdout())
		},
	}
	if verb == "pause" {
		cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever asks how the destination is")
	}
	return cmd
}
