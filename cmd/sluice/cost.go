package main

import (
	"bytes"

	"github.com/spf13/cobra"

	"github.com/eventsluice/sluice/internal/app"
)

func newCost(settings *app.Settings) *cobra.Command {
	o := app.DefaultCost()
	cmd := &cobra.Command{
		Use:   "cost",
		Short: "Estimate what a million events cost on AWS, from measured counts and list prices",
		Long: `cost multiplies measured counts by list prices: for this system as its template
deploys it, and for API Gateway in front of a stream that gets one record for each
event, read one by one. Both kinds of numbers come from files that say where each
is from; this build holds a copy of each, and --prices and --counts name others.
What is not measured is not guessed: it is left out, and the result says so.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			if err := o.Validate(); err != nil {
				return wrongUse{err}
			}
			return app.Cost(o, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.IntSliceVar(&o.Rates, "rate", o.Rates, "events per second, all month long; may be given again")
	flags.IntVar(&o.EventBytes, "event-bytes", o.EventBytes, "size of an event as it is posted")
	flags.IntVar(&o.Destinations, "destinations", o.Destinations, "destinations that each event goes to")
	flags.IntSliceVar(&o.MaxBatches, "max-batch", o.MaxBatches, "max_batch of the rules, a table for each; may be given again")
	flags.StringVar(&o.Stream, "stream", o.Stream, "provisioned or on-demand")
	flags.StringVar(&o.Delivery, "delivery", o.Delivery, "how events get to connectors: invoke, queue (standard), or ordered (FIFO)")
	flags.StringVar(&o.Front, "front", o.Front, "API Gateway to compare with: rest or http")
	flags.StringVar(&o.BackupUnit, "backup-unit", o.BackupUnit, "what Firehose rounds up to 5 KB: event or record")
	flags.Float64Var(&o.DeadLetters, "dead-letters", o.DeadLetters, "share of deliveries that become dead letters")
	flags.StringVar(&o.Prices, "prices", "", "file of list prices in place of that of this build")
	flags.StringVar(&o.Counts, "counts", "", "file of counts in place of that of this build")
	flags.BoolVar(&o.JSON, "json", false, "print JSON")
	flags.BoolVar(&o.Explain, "explain", false, "print every term besides: quantity x unit price (JSON has them)")
	cmd.AddCommand(newCostMeasure(settings))
	return cmd
}

func newCostMeasure(settings *app.Settings) *cobra.Command {
	var m app.CostMeasurement
	cmd := &cobra.Command{
		Use:   "measure LOG",
		Short: "Print the counts that the log of a function gives, for the file of counts",
		Long: `measure reads the log of a router or connector, message by message, from a file or
from standard input ("-"): durations from the REPORT lines that Lambda writes, bytes
from all others, events from the embedded metrics. It prints members of the file of counts.`,
		Args: exactArgs("LOG"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := fill(cmd, settings); err != nil {
				return err
			}
			if err := m.Validate(); err != nil {
				return wrongUse{err}
			}
			log, err := readInput(cmd, args[0])
			if err != nil {
				return err
			}
			return app.MeasureCost(m, bytes.NewReader(log), cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&m.Function, "function", "", "router or connector")
	flags.IntVar(&m.Batch, "batch", 0, "events of each invocation: 1 or 100")
	flags.StringVar(&m.Where, "where", "", "what the function and what it called ran on")
	flags.StringVar(&m.Command, "command", "", "the command that made the log")
	return cmd
}
