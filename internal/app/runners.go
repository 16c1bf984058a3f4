package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/time/rate"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/engine"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/router"
	"github.com/eventsluice/sluice/internal/telemetry/tracing"
)

// runners keeps one delivery.Runner going for each destination of the
// document that is in force.
type runners struct {
	engine *engine.Engine
	rules  func() *router.Table
	dir    string
	// memory is for the events of all destinations that wait for their first
	// attempt, in bytes.
	memory int
	tracer *tracing.Tracer
	log    *slog.Logger

	apply   sync.Mutex // held while destinations change
	mu      sync.Mutex // guards running
	running map[string]*running
}

type running struct {
	destination Destination
	connector   connector.Connector
	runner      *delivery.Runner
	cancel      context.CancelFunc
	done        chan struct{}
}

// Apply makes the destinations run, and no others. A destination whose entry
// did not change goes on undisturbed; one that cannot be started is reported
// and does not keep the others from running.
func (r *runners) Apply(destinations []Destination) error {
	r.apply.Lock()
	defer r.apply.Unlock()
	wanted := make(map[string]*Destination, len(destinations))
	for i := range destinations {
		wanted[destinations[i].Name] = &destinations[i]
	}
	var stopped []*running
	r.mu.Lock()
	for name, run := range r.running {
		if d := wanted[name]; d != nil && d.same(&run.destination) {
			delete(wanted, name)
			continue
		}
		stopped = append(stopped, run)
		delete(r.running, name)
	}
	r.mu.Unlock()
	stopRunning(stopped, r.log)

	var faults []error
	for name, d := range wanted {
		run, err := r.begin(d, r.memory/len(destinations))
		if err != nil {
			faults = append(faults, fmt.Errorf("destination %q: %w", name, err))
			continue
		}
		r.mu.Lock()
		r.running[name] = run
		r.mu.Unlock()
	}
	return errors.Join(faults...)
}

// begin starts a destination that may hold so many bytes of events in memory.
func (r *runners) begin(d *Destination, memory int) (*running, error) {
	log := r.log.With("destination", d.Name)
	conn, err := d.connect(r.dir, log)
	if err != nil {
		return nil, err
	}
	name, config := d.Name, deliveryConfig(d)
	config.MaxPendingBytes, config.Tracer = min(memory, mostPendingBytes), r.tracer
	runner, err := delivery.New(
		r.engine.Events(), r.engine.Destination(name), conn,
		func() delivery.Route { return r.rules().Route(name) },
		config, log,
	)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{destination: *d, connector: conn, runner: runner, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(run.done)
		if err := runner.Run(ctx); err != nil && ctx.Err() == nil {
			log.Error("delivery stopped", "error", err)
		}
		if err := conn.Close(); err != nil {
			log.Warn("connector not closed cleanly", "error", err)
		}
	}()
	return run, nil
}

// mostPendingBytes is what a destination makes use of at most: enough to keep
// its calls full.
const mostPendingBytes = 16 << 20

func deliveryConfig(d *Destination) delivery.Config {
	return delivery.Config{
		Destination: d.Name,
		Retry: retry.Policy{
			MaxAttempts: d.Retry.MaxAttempts,
			BaseDelay:   d.Retry.BaseDelay.Duration(),
			MaxDelay:    d.Retry.MaxDelay.Duration(),
		},
		Concurrency: d.Concurrency,
		Rate:        rate.Limit(d.Rate.PerSecond),
		Burst:       d.Rate.Burst,
		Start:       delivery.Start(d.Start),
		Ambiguous:   delivery.Ambiguous(d.Ambiguous),
	}
}

// Run keeps the runners until ctx is done and then stops them, each after its
// calls in flight.
func (r *runners) Run(ctx context.Context) error {
	<-ctx.Done()
	r.apply.Lock()
	defer r.apply.Unlock()
	r.mu.Lock()
	var all []*running
	for _, run := range r.running {
		all = append(all, run)
	}
	r.mu.Unlock()
	stopRunning(all, r.log)
	return nil
}

func stopRunning(all []*running, log *slog.Logger) {
	for _, run := range all {
		run.cancel()
	}
	for _, run := range all {
		<-run.done
		log.Debug("destination stopped", "destination", run.destination.Name)
	}
}

// Runner returns the runner of a destination, or a fault.NotFound.
func (r *runners) Runner(destination string) (*delivery.Runner, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if run := r.running[destination]; run != nil {
		return run.runner, nil
	}
	return nil, fault.New(fault.NotFound, "no destination %q is running", destination)
}

// All calls yield for each destination that runs.
func (r *runners) All(yield func(name string, runner *delivery.Runner) bool) {
	r.mu.Lock()
	all := make(map[string]*delivery.Runner, len(r.running))
	for name, run := range r.running {
		all[name] = run.runner
	}
	r.mu.Unlock()
	for name, runner := range all {
		if !yield(name, runner) {
			return
		}
	}
}

// Accounts returns the account of each destination, for the ledger.
func (r *runners) Accounts() map[string]ledger.Account {
	accounts := map[string]ledger.Account{}
	for name, runner := range r.All {
		accounts[name] = runner.Counts()
	}
	return accounts
}

// Settled returns the position up to which every destination is done, or
// newest if there is no destination: what lies before it may be discarded.
func (r *runners) Settled(newest uint64) uint64 {
	for _, runner := range r.All {
		newest = min(newest, runner.Position())
	}
	return newest
}
