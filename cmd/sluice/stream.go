package main

import (
	"github.com/spf13/cobra"

	"github.com/eventsluice/sluice/internal/app"
)

func newStream(settings *app.Settings) *cobra.Command {
	return group("stream", "Look at a Kinesis stream", newPeek(settings))
}

func newPeek(settings *app.Settings) *cobra.Command {
	var o app.PeekOptions
	cmd := &cobra.Command{
		Use:   "peek",
		Short: "Print the events of a Kinesis stream as lines of JSON, whoever wrote them",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			if err := o.Validate(); err != nil {
				return wrongUse{err}
			}
			return app.Peek(cmd.Context(), *settings, o, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.From, "from", "oldest", "oldest, latest, a time (RFC 3339), how long ago (2h), or with --shard a sequence number")
	flags.StringVar(&o.Shard, "shard", "", "only this shard, and those that it was split or merged into")
	flags.BoolVar(&o.Follow, "follow", false, "go on with what is written from now on")
	flags.IntVar(&o.Limit, "limit", 0, "most events to print; 0 is no bound")
	flags.BoolVar(&o.EventsOnly, "events", false, "print the events alone, without where they stand")
	return cmd
}
