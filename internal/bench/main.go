// Command bench measures what sluice costs, beside the least that an HTTP
// server in Go can do: a handler on net/http and chi that reads the body,
// throws it away and answers 202.
//
// All run as processes of their own, one right after the other in rounds,
// pinned to one core, while the load comes from a process on another. sluice
// runs as it is shipped, authentication, limits and validation on: once as
// everything on one machine, every event fsynced before its answer and a
// destination whose rules want none of them, so that reading and filtering them
// is in the figures, also with deduplication and with schemas; and as the gateway
// to Kinesis, which is a sink on the load's core that answers as soon as it has
// counted a call, or 10 ms later.
//
// After each round the ledger of sluice must account for every event that was
// answered, and the sink must have got exactly those.
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

// target is a server that is measured.
type target struct {
	name string
	// sluice is the command that it is of sluice; "" is the bare handler.
	sluice string
	// kinesis is the sink that the gateway writes to, env what else is set for
	// it.
	kinesis sinkConfig
	env     []string
	// half is for a paced load, at half the rate that the target before it has
	// just reached.
	half bool
	// ownIDs is for a load that gives each event an id that no other has;
	// otherwise the gateway makes them.
	ownIDs bool
	// schemas is that there are schemas, and every event is held to one.
	schemas bool
}

// sinkConfig says what the sink is like.
type sinkConfig struct {
	latency time.Duration
	shards  int
}

// onDemandShards are the shards of a stream that has just been made, on demand.
// Source: Kinesis developer guide, "Quotas and limits" (read 2026-11): it takes
// 4 MB/s.
const onDemandShards = 4

var (
	bareHandler = target{name: "bare handler"}
	oneMachine  = target{name: "sluice up", sluice: "up"}
	dedup       = target{name: "sluice up with deduplication", sluice: "up", env: []string{"SLUICE_DEDUP=1h"}, ownIDs: true}
	schemas     = target{name: "sluice up with 50 schemas", sluice: "up", schemas: true}
	kinesis0    = target{name: "gateway, Kinesis at once", sluice: "gateway", kinesis: sinkConfig{shards: onDemandShards}}
	kinesis10   = target{name: "gateway, Kinesis after 10 ms", sluice: "gateway", kinesis: sinkConfig{latency: 10 * time.Millisecond, shards: onDemandShards}}
	half10      = target{name: "gateway, Kinesis after 10 ms, half of that rate", sluice: "gateway", kinesis: kinesis10.kinesis, half: true}
)

// workload is one kind of traffic.
type workload struct {
	name        string
	connections int
	// perRequest events of about eventBytes stand in one request.
	perRequest int
	// rate is requests per second of a paced load; 0 is as many as are
	// answered.
	rate int
	// targets are measured one right after the other, the bare handler first.
	targets []target
}

var workloads = []workload{
	{name: "single events, 64 connections", connections: 64, perRequest: 1, targets: []target{bareHandler, oneMachine, dedup, schemas}},
	{name: "single events, 256 connections", connections: 256, perRequest: 1, targets: []target{bareHandler, oneMachine, kinesis0, kinesis10, half10}},
	{name: "batches of 100, 16 connections", connections: 16, perRequest: 100, targets: []target{bareHandler, oneMachine, dedup, schemas, kinesis0, kinesis10}},
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

// bench is one run of the benchmark.
type bench struct {
	options
	// self is this program, for load, bare handler and sink; dir is where data
	// folders are made.
	self, dir string
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
		case "sink":
			return serveSink(ctx, args[1:], out)
		case "load":
			return load(ctx, args[1:], out)
		}
	}
	o := options{serverAt: 0, loadAt: 1}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 3, "runs of each workload against each server; the medians are reported")
	flags.DurationVar(&o.duration, "duration", 5*time.Second, "measured time of each run")
	flags.DurationVar(&o.warmup, "warmup", time.Second, "time before it")
	flags.StringVar(&o.dir, "dir", "bin", "where the data folders are made; a real disk, for every write is fsynced")
	flags.StringVar(&o.binary, "sluice", "", "binary to measure (default: built from this checkout)")
	flags.StringVar(&o.only, "only", "", "only the workloads and servers whose name contains this, such as batches, Kinesis, cost")
	flags.IntVar(&o.serverAt, "server-cpu", o.serverAt, "core of the server")
	flags.IntVar(&o.loadAt, "load-cpu", o.loadAt, "core of the load")
	flags.StringVar(&o.profiles, "profiles", "", "folder for a CPU profile of sluice in each workload; taking it costs a little")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	return measure(ctx, o, out)
}

// measure runs what was asked for and prints the tables.
func measure(ctx context.Context, o options, out io.Writer) error {
	chosen, costs := choose(workloads, o.only), contains(costName, o.only)
	if len(chosen) == 0 && !costs {
		return fmt.Errorf("-only %q: no workload and no server is called so", o.only)
	}
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
	b := bench{options: o, dir: dir}
	if b.binary == "" {
		b.binary = filepath.Join(dir, "sluice")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-pgo=cmd/sluice/release.pgo", "-o", b.binary, "./cmd/sluice")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build sluice: %w\n%s", err, text)
		}
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if runtime.NumCPU() < 2 || !canPin {
		fmt.Fprintln(os.Stderr, "bench: server and load cannot have a core each here: compare within the table only")
		b.serverAt, b.loadAt = anyCPU, anyCPU
	}
	var tables []comparison
	for _, w := range chosen {
		c, err := b.compare(ctx, w)
		if err != nil {
			return err
		}
		tables = append(tables, c)
	}
	if len(tables) > 0 {
		if err := report(out, o, tables); err != nil {
			return err
		}
	}
	if !costs {
		return nil
	}
	table, err := b.costs(ctx)
	if err != nil {
		return err
	}
	return reportCosts(out, table)
}

// choose returns the workloads and targets whose name contains only, and the
// targets that those are compared with or follow.
func choose(all []workload, only string) []workload {
	var chosen []workload
	for _, w := range all {
		var targets []target
		wanted := func(t target) bool { return t.sluice != "" && contains(w.name+", "+t.name, only) }
		for i, t := range w.targets {
			next := i + 1
			if wanted(t) || next < len(w.targets) && w.targets[next].half && wanted(w.targets[next]) {
				targets = append(targets, t)
			}
		}
		if len(targets) > 0 {
			w.targets = append([]target{bareHandler}, targets...)
			chosen = append(chosen, w)
		}
	}
	return chosen
}

func contains(name, part string) bool {
	return strings.Contains(strings.ToLower(name), strings.ToLower(part))
}

// compare runs a workload against each of its targets, round by round.
func (b bench) compare(ctx context.Context, w workload) (comparison, error) {
	c := comparison{workload: w, results: make([][]result, len(w.targets))}
	for round := range b.rounds {
		fmt.Fprintf(os.Stderr, "bench: %s, round %d of %d\n", w.name, round+1, b.rounds)
		for i, t := range w.targets {
			w.rate = 0
			if t.half {
				w.rate = max(1, int(requestRate(c.results[i-1][round])/2))
			}
			r, err := b.run(ctx, t, w)
			if err != nil {
				return c, fmt.Errorf("%s, %s: %w", w.name, t.name, err)
			}
			c.results[i] = append(c.results[i], r)
		}
	}
	return c, nil
}
