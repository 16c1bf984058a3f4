package delivery

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
)

// errPanic is wrapped by the error of a connector that panicked.
var errPanic = errors.New("connector panicked")

// plan asks the connector for a plan and checks that every event is in it
// exactly once: what a connector forgets would otherwise be lost.
func (r *Runner) plan(deliveries []connector.Delivery) (p connector.Plan, err error) {
	defer func() {
		if v := recover(); v != nil {
			r.log.Error("connector panicked in plan", "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w in plan: %v", errPanic, v)
		}
	}()
	p = r.conn.Plan(deliveries)
	n, seen := 0, make([]bool, len(deliveries))
	add := func(i int) error {
		if i < 0 || i >= len(seen) || seen[i] {
			r.log.Error("connector made a plan that is wrong", "event", i, "of", len(seen))
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
		r.log.Error("connector left events out of a plan", "planned", n, "of", len(seen))
		return p, fmt.Errorf("connector planned %d of %d events", n, len(seen))
	}
	return p, nil
}

// sendGrace is how long a Send may go on after its context has ended.
const sendGrace = time.Second

// call makes one call and returns one result per event of it. returned is
// false if the Send did not come back: it goes on by itself and holds one of
// the slots until it does, so that there is a bound on how many of them there
// can be.
func (r *Runner) call(ctx context.Context, c connector.Call) (results []connector.Result, returned bool) {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, true
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	answer := make(chan []connector.Result, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				r.log.Error("connector panicked in send", "panic", v, "stack", string(debug.Stack()))
				answer <- connector.All(len(c.Events), connector.Result{
					Class: connector.Retryable, Code: "panic", Message: fmt.Sprintf("%v in send: %v", errPanic, v),
				})
			}
			<-r.slots
		}()
		answer <- r.conn.Send(ctx, c)
	}()
	select {
	case results = <-answer:
		return r.complete(results, len(c.Events)), true
	case <-ctx.Done():
	}
	timer := time.NewTimer(sendGrace)
	defer timer.Stop()
	select {
	case results = <-answer:
		return r.complete(results, len(c.Events)), true
	case <-timer.C:
		r.stats.addStuck(1)
		go func() { // ends when the Send does
			<-answer
			r.stats.addStuck(-1)
		}()
		r.log.Error("connector does not return from send after its time is over", "timeout", r.timeout)
		return connector.All(len(c.Events), connector.Result{
			Class: connector.Ambiguous, Code: "timeout", Message: fmt.Sprintf("the call did not return within %v", r.timeout),
		}), false
	}
}

// complete makes the results as many as the events.
func (r *Runner) complete(results []connector.Result, n int) []connector.Result {
	if len(results) == n {
		return results
	}
	r.log.Error("connector returned a wrong number of results", "results", len(results), "events", n)
	missing := connector.Result{
		Class: connector.Retryable, Code: "no_result",
		Message: fmt.Sprintf("connector returned %d results for %d events", len(results), n),
	}
	for len(results) < n {
		results = append(results, missing)
	}
	return results[:n]
}

// judge says what the results of a call mean for the destination as a whole.
func judge(items []*item, results []connector.Result) verdict {
	v := verdict{outcome: failed}
	for i := range results {
		res := &results[i]
		v.fresh = v.fresh || items[i].attempts == 0
		if res.RetryAfter > v.retryAfter && res.Class != connector.Auth {
			v.retryAfter = res.RetryAfter
		}
		switch res.Class {
		case connector.Auth:
			v.outcome, v.why = noEntrance, res.Message
		case connector.Throttled:
			if res.RetryAfter > 0 && v.outcome != noEntrance {
				v.outcome, v.why = slowDown, res.Message
			} else if v.why == "" {
				v.why = res.Message
			}
		case connector.Retryable, connector.Ambiguous:
			if v.why == "" {
				v.why = res.Message
			}
		default:
			if v.outcome == failed {
				v.outcome = answered
			}
		}
	}
	return v
}
