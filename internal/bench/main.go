// Command bench measures what sluice costs, beside the least that an HTTP
// server in Go can do: a handler on net/http and chi that reads the body,
// throws it away and answers 202.
//
// Both run as processes of their own, one after the other in pairs, pinned to
// one core, while the load comes from a process on another. sluice runs as it
// is shipped: every event fsynced before its answer, authentication, limits
// and validation on, and a destination whose rules want none of the events, so
// that reading and filtering them is in the figures. After each round its
// ledger must account for every event that was answered.
//
//	go run ./internal/bench -rounds 3 -duration 5s
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// workload is one kind of traffic.
type workload struct {
	name        string
	connections int
	// perRequest events of about eventBytes stand in one request.
	perRequest int
}

var workloads = []workload{
	{"single events, 64 connections", 64, 1},
	{"single events, 256 connections", 256, 1},
	{"batches of 100, 16 connections", 16, 100},
}

// options are the flags.
type options struct {
	rounds   int
	duration time.Duration
	warmup   time.Duration
	dir      string
	binary   string
	only     string
	serverAt int
	loadAt   int
	profiles string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "bare":
			return serveBare(ctx, out)
		case "load":
			return load(ctx, args[1:], out)
		}
	}
	o := options{serverAt: 0, loadAt: 1}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 3, "pairs of runs for each workload; the medians are reported")
	flags.DurationVar(&o.duration, "duration", 5*time.Second, "measured time of each run")
	flags.DurationVar(&o.warmup, "warmup", time.Second, "time before it")
	flags.StringVar(&o.dir, "dir", "bin", "where the data folders are made; a real disk, for every write is fsynced")
	flags.StringVar(&o.binary, "sluice", "", "binary to measure (default: built from this checkout)")
	flags.StringVar(&o.only, "only", "", "only the workloads whose name contains this")
	flags.IntVar(&o.serverAt, "server-cpu", o.serverAt, "core of the server")
	flags.IntVar(&o.loadAt, "load-cpu", o.loadAt, "core of the load")
	flags.StringVar(&o.profiles, "profiles", "", "folder for a CPU profile of sluice in each workload; taking it costs a little")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	return compare(ctx, o, out)
}

// compare runs every workload against both servers and prints the table.
func compare(ctx context.Context, o options, out io.Writer) error {
	for _, dir := range []string{o.dir, o.profiles} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if o.binary == "" {
		o.binary = filepath.Join(dir, "sluice")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", o.binary, "./cmd/sluice")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build sluice: %w\n%s", err, text)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if runtime.NumCPU() < 2 || !canPin {
		fmt.Fprintln(os.Stderr, "bench: server and load cannot have a core each here: compare within the table only")
		o.serverAt, o.loadAt = anyCPU, anyCPU
	}
	var tables []comparison
	for _, w := range workloads {
		if !strings.Contains(w.name, o.only) {
			continue
		}
		c := comparison{workload: w}
		for round := range o.rounds {
			fmt.Fprintf(os.Stderr, "bench: %s, round %d of %d\n", w.name, round+1, o.rounds)
			bare, err := runBare(ctx, o, self, w)
			if err != nil {
				return fmt.Errorf("%s, bare handler: %w", w.name, err)
			}
			sluice, err := runSluice(ctx, o, self, dir, w)
			if err != nil {
				return fmt.Errorf("%s, sluice: %w", w.name, err)
			}
			c.bare, c.sluice = append(c.bare, bare), append(c.sluice, sluice)
		}
		tables = append(tables, c)
	}
	return report(out, o, tables)
}
