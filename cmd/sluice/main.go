// Command sluice is the whole pipeline on one machine, the gateway alone, and
// the tools of its operator.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/eventsluice/sluice/internal/app"
)

// Exit statuses.
const (
	exitFailed   = 1
	exitWrongUse = 2
)

// wrongUse marks an error as the caller's: exit status 2.
type wrongUse struct{ error }

func (w wrongUse) Unwrap() error { return w.error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, app.ErrSaid):
		return exitFailed
	}
	fmt.Fprintln(os.Stderr, "sluice:", err)
	if _, ok := errors.AsType[wrongUse](err); ok {
		return exitWrongUse
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	var settings app.Settings
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Collect events, keep them in order, deliver them where they are wanted",
		Long: `sluice collects events over HTTP, stores them durably before it answers, and
delivers them by rules to destinations, with retries and dead letters.

Without a command it does what "sluice up" does: everything on this machine.
Every flag can be given in the environment too: --data-dir is SLUICE_DATA_DIR.`,
		Args:          noArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return up(cmd, &settings) },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return wrongUse{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	settings.Bind(root.PersistentFlags())
	root.AddCommand(
		&cobra.Command{
			Use:   "up",
			Short: "Run everything on this machine",
			Args:  noArgs,
			RunE:  func(cmd *cobra.Command, _ []string) error { return up(cmd, &settings) },
		},
		&cobra.Command{
			Use:   "gateway",
			Short: "Run the gateway alone: collect and store, deliver nothing",
			Args:  noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if err := fill(cmd, &settings); err != nil {
					return err
				}
				if err := settings.CheckGateway(); err != nil {
					return wrongUse{err}
				}
				return app.Gateway(cmd.Context(), settings, cmd.OutOrStdout(), cmd.ErrOrStderr())
			},
		},
		&cobra.Command{
			Use:   "version",
			Short: "Print the version",
			Args:  noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "sluice", app.Version())
				return err
			},
		},
		newLedger(&settings),
		newRules(&settings),
		newSchemas(&settings),
		newKeys(&settings),
		newConnectors(),
		newDestinations(&settings),
		newDeadLetters(&settings),
		newQuarantine(&settings),
		newStream(&settings),
		newSpool(&settings),
		newCost(&settings),
		newDoctor(&settings),
	)
	return root
}

func up(cmd *cobra.Command, settings *app.Settings) error {
	if err := fill(cmd, settings); err != nil {
		return err
	}
	if err := settings.CheckUp(); err != nil {
		return wrongUse{err}
	}
	return app.Up(cmd.Context(), *settings, cmd.OutOrStdout(), cmd.ErrOrStderr())
}

// fill completes the settings from the environment. Every command does so
// first; a setting that cannot be used is wrong use.
func fill(cmd *cobra.Command, settings *app.Settings) error {
	if err := settings.Fill(cmd.Flags(), os.LookupEnv); err != nil {
		return wrongUse{err}
	}
	return nil
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return wrongUse{fmt.Errorf("unknown command or argument %q (see %s --help)", args[0], cmd.CommandPath())}
	}
	return nil
}

// exactArgs wants n arguments, called as in names.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return wrongUse{fmt.Errorf("wants %d argument(s) %v, got %d (see %s --help)", len(names), names, len(args), cmd.CommandPath())}
		}
		return nil
	}
}

// atMostOne wants one argument or none; what says in words what it is.
func atMostOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return wrongUse{fmt.Errorf("wants at most one %s, got %q (see %s --help)", what, args, cmd.CommandPath())}
		}
		return nil
	}
}

// group is a command that only has commands below it.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return wrongUse{fmt.Errorf("which command? (see %s --help)", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}
