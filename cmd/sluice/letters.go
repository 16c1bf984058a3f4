package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/eventsluice/sluice/internal/app"
	"github.com/eventsluice/sluice/internal/deadletter"
)

// newDeadLetters and newQuarantine are the same commands over two queues.
func newDeadLetters(settings *app.Settings) *cobra.Command {
	return newLetters(settings, false, "dlq", "Look at dead letters, and get them out: backup, replay, purge")
}

func newQuarantine(settings *app.Settings) *cobra.Command {
	return newLetters(settings, true, "quarantine", "Look at events that were rejected, and replay them after a fix")
}

type letters struct {
	settings    *app.Settings
	quarantine  bool
	destination string
	visibility  time.Duration
	filter      deadletter.Filter
	since       string
	until       string
}

func newLetters(settings *app.Settings, quarantine bool, use, short string) *cobra.Command {
	l := &letters{settings: settings, quarantine: quarantine}
	root := group(use, short, l.list(), l.count(), l.show(), l.backup(), l.replay(), l.purge())
	if !quarantine {
		root.Long = short + `.

DESTINATION is the name of a destination on this machine, or a dead letter queue
on AWS: the URL or the ARN of an SQS queue, sqs:NAME, or s3://bucket/prefix for
the objects of on-failure destinations. While a command works on a queue it
keeps the messages that it has received from others, and at its end, also after
Ctrl-C, it puts back those that it leaves.`
		root.PersistentFlags().StringVar(&l.destination, "destination", "", "the destination; it can be the first argument too")
		root.PersistentFlags().DurationVar(&l.visibility, "visibility", 5*time.Minute, "on SQS: how long messages stay away after a crash of this command")
	}
	return root
}

// usage returns how a command is called: dead letters are a destination's.
func (l *letters) usage(name, rest string) string {
	if !l.quarantine {
		name += " DESTINATION"
	}
	if rest != "" {
		name += " " + rest
	}
	return name
}

// args takes the destination off the arguments and wants n more.
func (l *letters) args(args []string, names ...string) ([]string, error) {
	if !l.quarantine && l.destination == "" && len(args) > 0 {
		l.destination, args = args[0], args[1:]
	}
	if len(args) != len(names) || !l.quarantine && l.destination == "" {
		wanted := names
		if !l.quarantine {
			wanted = append([]string{"DESTINATION"}, names...)
		}
		return nil, wrongUse{fmt.Errorf("wants the arguments %s (see --help)", strings.Join(wanted, " "))}
	}
	return args, nil
}

// bindFilter declares the flags that select letters.
func (l *letters) bindFilter(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&l.filter.Class, "class", "", "only letters of this class, such as permanent")
	flags.StringVar(&l.filter.EventName, "event", "", "only events of this name, or with this prefix: order_*")
	flags.StringVar(&l.filter.EventID, "event-id", "", "only the event with this id")
	flags.StringSliceVar(&l.filter.IDs, "id", nil, "only letters with these ids")
	flags.StringVar(&l.since, "since", "", "only letters last tried at this time or later: RFC 3339, or a duration ago such as 2h")
	flags.StringVar(&l.until, "until", "", "only letters last tried before this time")
}

// open completes the settings and the filter and opens the desk. redeem has
// events that are kept beside their letters put into them.
func (l *letters) open(cmd *cobra.Command, redeem bool) (deadletter.Desk, func(*error), error) {
	if err := fill(cmd, l.settings); err != nil {
		return nil, nil, err
	}
	for _, t := range []struct {
		name, text string
		at         *time.Time
	}{{"since", l.since, &l.filter.Since}, {"until", l.until, &l.filter.Until}} {
		if err := parseTime(t.text, t.at); err != nil {
			return nil, nil, wrongUse{fmt.Errorf("--%s %q: %w", t.name, t.text, err)}
		}
	}
	options := app.DeskOptions{Destination: l.destination, Quarantine: l.quarantine, Visibility: l.visibility, Redeem: redeem, Notices: cmd.ErrOrStderr()}
	if err := options.Validate(); err != nil {
		return nil, nil, wrongUse{err}
	}
	desk, closeDesk, err := app.OpenDesk(cmd.Context(), *l.settings, options)
	if err != nil {
		return nil, nil, err
	}
	return desk, func(err *error) { *err = errors.Join(*err, closeDesk()) }, nil
}

func parseTime(text string, into *time.Time) error {
	if text == "" {
		return nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		*into = time.Now().Add(-ago)
		return nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return errors.New(`right would be "2026-11-23T10:00:00Z" or "2h"`)
	}
	*into = at
	return nil
}

func (l *letters) list() *cobra.Command {
	var limit int
	var asJSON bool
	use := "list"
	if !l.quarantine {
		use = "list [DESTINATION]"
	}
	cmd := &cobra.Command{
		Use:   use,
		Short: "List letters, oldest first",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if !l.quarantine && l.destination == "" && len(args) == 1 {
				l.destination, args = args[0], nil
			}
			if len(args) > 0 {
				return wrongUse{fmt.Errorf("unknown argument %q", args[0])}
			}
			if limit < 1 {
				return wrongUse{fmt.Errorf("--limit %d: right would be 1 or more", limit)}
			}
			desk, closing, err := l.open(cmd, false)
			if err != nil {
				return err
			}
			defer closing(&err)
			return app.ListLetters(cmd.Context(), desk, l.destination, l.filter, limit, asJSON, cmd.OutOrStdout())
		},
	}
	l.bindFilter(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "most letters to list")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each letter whole, as a line of JSON")
	return cmd
}

func (l *letters) count() *cobra.Command {
	cmd := &cobra.Command{
		Use:   l.usage("count", ""),
		Short: "Count letters; of a queue on AWS, messages, as it says itself",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if _, err = l.args(args); err != nil {
				return err
			}
			desk, closing, err := l.open(cmd, false)
			if err != nil {
				return err
			}
			defer closing(&err)
			return app.CountLetters(cmd.Context(), desk, l.destination, l.filter, cmd.OutOrStdout())
		},
	}
	l.bindFilter(cmd)
	return cmd
}

func (l *letters) show() *cobra.Command {
	return &cobra.Command{
		Use:   l.usage("show", "LETTER"),
		Short: "Show one letter with all that is known: event, attempts, last request and answer",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if args, err = l.args(args, "LETTER"); err != nil {
				return err
			}
			desk, closing, err := l.open(cmd, true)
			if err != nil {
				return err
			}
			defer closing(&err)
			return app.ShowLetter(cmd.Context(), desk, l.destination, args[0], cmd.OutOrStdout())
		},
	}
}

func (l *letters) backup() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   l.usage("backup", "FILE"),
		Short: "Write letters to a file of JSON lines and sync it; with --delete, purge them then",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if args, err = l.args(args, "FILE"); err != nil {
				return err
			}
			desk, closing, err := l.open(cmd, true)
			if err != nil {
				return err
			}
			defer closing(&err)
			return app.BackupLetters(cmd.Context(), desk, l.destination, args[0],
				deadletter.BackupOptions{Filter: l.filter, Delete: remove}, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	l.bindFilter(cmd)
	cmd.Flags().BoolVar(&remove, "delete", false, "purge the letters once they are safe in the file")
	return cmd
}

func (l *letters) replay() *cobra.Command {
	var o deadletter.Order
	var to string
	cmd := &cobra.Command{
		Use:   l.usage("replay", ""),
		Short: "Send letters again; if it is interrupted, give the command again and it goes on",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if _, err = l.args(args); err != nil {
				return err
			}
			o.To = deadletter.Target(to)
			if err := o.Validate(); err != nil {
				return wrongUse{err}
			}
			desk, closing, err := l.open(cmd, false)
			if err != nil {
				return err
			}
			defer closing(&err)
			o.Filter = l.filter
			return app.CarryOut(cmd.Context(), "replayed", desk.Replay, l.destination, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	l.bindFilter(cmd)
	bindOrder(cmd, &o)
	if !l.quarantine {
		cmd.Flags().StringVar(&to, "to", string(deadletter.ToDestination), "destination (the one that failed), stream (all, by the rules of now), or on AWS the ARN of a function or a queue")
	}
	return cmd
}

func (l *letters) purge() *cobra.Command {
	var o deadletter.Order
	var yes bool
	cmd := &cobra.Command{
		Use:   l.usage("purge", ""),
		Short: "Delete letters for good; asks on a terminal, needs --yes elsewhere",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if _, err = l.args(args); err != nil {
				return err
			}
			if err := o.Validate(); err != nil {
				return wrongUse{err}
			}
			ask := !yes && !o.DryRun
			if ask && !isTerminal(cmd.InOrStdin()) {
				return wrongUse{errors.New("purge deletes events for good: look with --dry-run, keep them with backup, and say --yes if you are sure")}
			}
			desk, closing, err := l.open(cmd, false)
			if err != nil {
				return err
			}
			defer closing(&err)
			o.Filter = l.filter
			if ask || yes && !o.DryRun && app.OnAWS(desk) {
				if err := app.PreviewPurge(cmd.Context(), desk, l.name(), l.destination, l.filter, cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			if ask {
				if err := app.ConfirmPurge(cmd.Context(), desk, l.name(), l.destination, cmd.InOrStdin(), cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			return app.CarryOut(cmd.Context(), "purged", desk.Purge, l.destination, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	l.bindFilter(cmd)
	bindOrder(cmd, &o)
	cmd.Flags().BoolVar(&yes, "yes", false, "delete without asking")
	return cmd
}

// name is what the letters are called that have no destination.
func (l *letters) name() string {
	if l.quarantine {
		return "quarantine"
	}
	return l.destination
}

func isTerminal(in io.Reader) bool {
	file, ok := in.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func bindOrder(cmd *cobra.Command, o *deadletter.Order) {
	flags := cmd.Flags()
	flags.Float64Var(&o.Rate, "rate", 0, "most letters per second; 0 is no bound")
	flags.IntVar(&o.Limit, "limit", 0, "most letters in all; 0 is no bound")
	flags.BoolVar(&o.DryRun, "dry-run", false, "count, show a sample, change nothing")
}
