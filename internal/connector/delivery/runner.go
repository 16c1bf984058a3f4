package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/budget"
	"github.com/eventsluice/sluice/internal/connector/guard"
	"github.com/eventsluice/sluice/internal/fault"
)

// Route is what the rules want for one destination.
type Route interface {
	// Apply returns what the destination gets of an event in stored form (raw
	// itself if there is no transform), and the rule that wants it. The error
	// says that the event cannot be read: it becomes a dead letter.
	Apply(raw []byte) (out []byte, rule string, wanted bool, err error)
}

// Runner delivers to one destination.
//
// Order: events of one partition key are delivered in the order of the stream.
// While one of them waits for another attempt the later ones wait behind it. A
// dead letter lets the next go on. Within one call the order is the
// connector's: one that takes some events of a call and asks for others again
// must do so for all later events of the same key.
//
// Repeats: an event is delivered at least once. A crash repeats the deliveries
// since the State was saved last, and counts them once.
type Runner struct {
	stream        Stream
	store         Store
	conn          connector.Connector
	connectorName string
	limits        connector.Limits
	guard         *guard.Guard
	groupLimit    int // most events per plan
	route         func() Route
	cfg           Config
	log           *slog.Logger

	books    *books
	gate     *gate
	keeper   *keeper
	lanes    []*lane
	budget   *budget.Budget
	stats    stats
	position atomic.Uint64
	// crowded is true while there is no room to read on: what lingers goes.
	crowded atomic.Bool
	started atomic.Bool
	// ready is closed when the runner has recovered, done when it has ended;
	// ended is why, set before done is closed.
	ready, done chan struct{}
	ended       error
	operator    chan struct{} // held by the one operation on dead letters
	switching   chan struct{} // held by the one Pause or Resume
}

// New returns a Runner. It starts nothing; the connector remains the caller's
// to close, after Run has returned.
func New(s Stream, store Store, conn connector.Connector, route func() Route, cfg Config, log *slog.Logger) (*Runner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	limits := conn.Limits()
	if limits.MaxConcurrency > 0 {
		cfg.Concurrency = min(cfg.Concurrency, limits.MaxConcurrency)
	}
	r := &Runner{
		stream: s, store: store, conn: conn, connectorName: conn.Kind() + "@" + conn.Version(),
		limits: limits, groupLimit: max(1, limits.MaxEvents),
		route: route, cfg: cfg, log: log,
		books: newBooks(&cfg), gate: newGate(cfg.Retry),
		ready: make(chan struct{}), done: make(chan struct{}), operator: make(chan struct{}, 1), switching: make(chan struct{}, 1),
	}
	r.stats.since = time.Now()
	r.guard = guard.New(conn, 2*cfg.Concurrency, r.stats.addStuck, log)
	allowed := budget.Config{Calls: cfg.Concurrency}
	if cfg.Rate != rate.Inf {
		allowed.Rate, allowed.Burst = float64(cfg.Rate), cfg.Burst
		r.groupLimit = min(r.groupLimit, cfg.Burst)
	}
	r.budget = budget.New(allowed)
	r.keeper = &keeper{r: r, requests: make(chan *request, cfg.Concurrency), stop: make(chan struct{})}
	for range cfg.Concurrency {
		r.lanes = append(r.lanes, newLane(r))
	}
	return r, nil
}

// Run delivers until ctx is done. It then waits for the calls in flight, at
// most Config.Drain, and saves the State before it returns nil. It returns
// earlier with a fault.Conflict if another process owns the destination. It
// can be called once.
func (r *Runner) Run(ctx context.Context) (err error) {
	if !r.started.CompareAndSwap(false, true) {
		return errors.New("the runner has run already")
	}
	defer func() {
		r.ended = err
		close(r.done)
	}()
	after, err := r.recover(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("destination %s: recover: %w", r.cfg.Destination, err)
	}
	close(r.ready)

	// stop ends reading and the making of calls; calls ends the calls that are
	// in flight and the work on their results.
	stop, cancelStop := context.WithCancel(ctx)
	defer cancelStop()
	calls, cancelCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelCalls()
	defer context.AfterFunc(ctx, func() {
		timer := time.NewTimer(r.cfg.Drain)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancelCalls()
		case <-calls.Done():
		}
	})()

	kept := make(chan error, 1)
	go func() {
		err := r.keeper.run(calls)
		if err != nil {
			cancelCalls()
			cancelStop()
		}
		kept <- err
	}()
	var work errgroup.Group
	work.Go(func() error { r.read(stop, after); return nil })
	for _, l := range r.lanes {
		work.Go(func() error { return l.run(stop, calls) })
	}
	laneErr := work.Wait()
	close(r.keeper.stop)
	keepErr := <-kept
	switch {
	case fault.KindOf(keepErr) == fault.Conflict:
		return fmt.Errorf("destination %s is delivered to by another process: %w", r.cfg.Destination, keepErr)
	case keepErr != nil:
		return fmt.Errorf("destination %s: not everything was saved: %w", r.cfg.Destination, keepErr)
	case laneErr != nil:
		return fmt.Errorf("destination %s: calls in flight were given up: %w", r.cfg.Destination, laneErr)
	}
	return nil
}

// Counts returns the account of the destination at this moment.
func (r *Runner) Counts() Counts { return r.books.counts() }

// Position returns the position of the State that was saved last: what lies at
// it and before it is not read again.
func (r *Runner) Position() uint64 { return r.position.Load() }

// Wake makes the next attempt of everything that waits due now: parked events,
// those that linger, and the probe of a destination that is in trouble. A pause by
// an operator stays.
func (r *Runner) Wake() {
	r.gate.wake(time.Now())
	for _, l := range r.lanes {
		l.add(func(in *inbox) { in.wake = true })
	}
}
