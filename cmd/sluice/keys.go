package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/eventsluice/sluice/internal/app"
)

func newKeys(settings *app.Settings) *cobra.Command {
	var key app.NewKey
	create := &cobra.Command{
		Use:   "new",
		Short: "Make a key, add its hash to the keys document, print the key once",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			if key.ID == "" {
				return wrongUse{fmt.Errorf("--id is required: it names the key in logs and metrics")}
			}
			if key.Kind != "write" && key.Kind != "secret" {
				return wrongUse{fmt.Errorf("--kind %q: right would be write or secret", key.Kind)}
			}
			return app.AddKey(cmd.Context(), *settings, key, cmd.OutOrStdout())
		},
	}
	flags := create.Flags()
	flags.StringVar(&key.ID, "id", "", "name of the key")
	flags.StringVar(&key.Kind, "kind", "write", "write (public: pages and apps) or secret (back ends)")
	flags.StringVar(&key.Source, "source", "", "source that its events carry (default: the id)")
	flags.StringSliceVar(&key.Origins, "origin", nil, "web origin that may use it, such as https://shop.example (repeatable)")
	flags.StringSliceVar(&key.Events, "event", nil, "event name that it may send, such as order_* (repeatable)")
	flags.Float64Var(&key.Rate, "rate", 0, "events per second; 0 is no limit")
	flags.IntVar(&key.Burst, "burst", 0, "events at once (default: the rate)")
	flags.DurationVar(&key.Expires, "expires", 0, "how long it is valid; 0 is for ever")
	return group("keys", "Make and list keys", create,
		&cobra.Command{
			Use:   "list",
			Short: "List the keys, without anything secret",
			Args:  noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if err := fill(cmd, settings); err != nil {
					return err
				}
				return app.ListKeys(cmd.Context(), *settings, cmd.OutOrStdout())
			},
		},
	)
}
