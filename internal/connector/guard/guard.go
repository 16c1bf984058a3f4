// Package guard is what every host of connectors needs between itself and a
// connector: calls that a connector cannot escape from, whatever is wrong with
// it, the letters that tell of failures, and when an event is given up.
//
// A panic, a plan that leaves events out, a wrong number of results, a Send that
// does not return: each becomes an outcome, so that no event is lost by it.
package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
)

// errPanic is wrapped by the error of a connector that panicked.
var errPanic = errors.New("connector panicked")

// Guard makes the calls of one connector. Its methods are safe for concurrent
// use.
type Guard struct {
	conn    connector.Connector
	timeout time.Duration
	// slots bounds the Sends that go on, those included that nobody waits for
	// any more.
	slots chan struct{}
	stuck func(int)
	log   *slog.Logger
}

// Timeout is how long a Send may take if its connector does not say.
const Timeout = 30 * time.Second

// Grace is how long a Send may go on after its context has ended.
const Grace = time.Second

// New returns the guard of a connector. sends bounds the Sends that go on at
// once. stuck, which may be nil, is told of each Send that does not return in
// time (1), and of its end (-1).
func New(conn connector.Connector, sends int, stuck func(int), log *slog.Logger) *Guard {
	g := &Guard{conn: conn, timeout: conn.Limits().Timeout, slots: make(chan struct{}, sends), stuck: stuck, log: log}
	if g.timeout <= 0 {
		g.timeout = Timeout
	}
	if g.stuck == nil {
		g.stuck = func(int) {}
	}
	return g
}

// Plan asks the connector for a plan and checks that every event is in it
// exactly once: what a connector forgets would otherwise be lost.
func (g *Guard) Plan(deliveries []connector.Delivery) (p connector.Plan, err error) {
	defer func() {
		if v := recover(); v != nil {
			g.log.Error("connector panicked in plan", "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w in plan: %v", errPanic, v)
		}
	}()
	p = g.conn.Plan(deliveries)
	n, seen := 0, make([]bool, len(deliveries))
	add := func(i int) error {
		if i < 0 || i >= len(seen) || seen[i] {
			g.log.Error("connector made a plan that is wrong", "event", i, "of", len(seen))
			return fmt.Errorf("connector planned event %d of %d wrongly", i, len(seen))
		}
		seen[i] = true
		n++
		return nil
	}
	for i := range p.Calls {
		for _, e := range p.Calls[i].Events {
			if err := add(e); err != nil {
				return p, err
			}
		}
	}
	for i := range p.Done {
		if err := add(p.Done[i].Event); err != nil {
			return p, err
		}
	}
	if n != len(seen) {
		g.log.Error("connector left events out of a plan", "planned", n, "of", len(seen))
		return p, fmt.Errorf("connector planned %d of %d events", n, len(seen))
	}
	return p, nil
}

// Send makes one call and returns one result per event of it, or none if ctx
// ended before there was a slot for the call. returned is false if the Send did
// not come back: it goes on by itself and holds one of the slots until it does,
// so that there is a bound on how many of them there can be.
func (g *Guard) Send(ctx context.Context, c connector.Call) (results []connector.Result, returned bool) {
	select {
	case g.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, true
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	answer := make(chan []connector.Result, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				g.log.Error("connector panicked in send", "panic", v, "stack", string(debug.Stack()))
				answer <- connector.All(len(c.Events), connector.Result{
					Class: connector.Retryable, Code: "panic", Message: fmt.Sprintf("%v in send: %v", errPanic, v),
				})
			}
			<-g.slots
		}()
		answer <- g.conn.Send(ctx, c)
	}()
	select {
	case results = <-answer:
		return g.complete(results, len(c.Events)), true
	case <-ctx.Done():
	}
	timer := time.NewTimer(Grace)
	defer timer.Stop()
	select {
	case results = <-answer:
		return g.complete(results, len(c.Events)), true
	case <-timer.C:
		g.stuck(1)
		go func() { // ends when the Send does
			<-answer
			g.stuck(-1)
		}()
		g.log.Error("connector does not return from send after its time is over", "timeout", g.timeout)
		return connector.All(len(c.Events), connector.Result{
			Class: connector.Ambiguous, Code: "timeout", Message: fmt.Sprintf("the call did not return within %v", g.timeout),
		}), false
	}
}

// complete makes the results as many as the events.
func (g *Guard) complete(results []connector.Result, n int) []connector.Result {
	if len(results) == n {
		return results
	}
	g.log.Error("connector returned a wrong number of results", "results", len(results), "events", n)
	missing := connector.Result{
		Class: connector.Retryable, Code: "no_result",
		Message: fmt.Sprintf("connector returned %d results for %d events", len(results), n),
	}
	for len(results) < n {
		results = append(results, missing)
	}
	return results[:n]
}

// Close closes the connector once its last Send has returned. There is no Send
// after it.
func (g *Guard) Close() error {
	for range cap(g.slots) {
		g.slots <- struct{}{}
	}
	return g.conn.Close()
}
