package connectortest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
)

// patience is how long after the end of its context Send may take to return,
// and how long it may take at all in a state that does not hang. It is long
// because the machine may be busy: what it finds out is "never".
var patience = 20 * time.Second

// sendCall makes one call, checks its results, and fails if it outlives its
// context by far.
func (b *bench) sendCall(ctx context.Context, call connector.Call) []connector.Result {
	b.t.Helper()
	results := make(chan []connector.Result, 1)
	go func() { results <- b.conn.Send(ctx, call) }()
	select {
	case r := <-results:
		b.checkResults(call, r)
		return r
	case <-time.After(b.timeout() + patience):
		b.t.Fatal("Send does not return")
		return nil
	}
}

func (b *bench) timeout() time.Duration {
	if timeout := b.conn.Limits().Timeout; timeout > 0 {
		return timeout
	}
	return 30 * time.Second
}

func testSend(t *testing.T, h Harness) {
	t.Run("what is delivered has arrived, in order", func(t *testing.T) {
		t.Parallel()
		b := setUp(t, h)
		deliveries := b.plain(min(200, 2*b.conn.Limits().MaxEvents))
		results := b.deliverAll(deliveries)
		b.wantClass(results, connector.Delivered)
		b.wantArrived(deliveries, results)
	})

	t.Run("odd events are settled or refused for good, each by itself", func(t *testing.T) {
		t.Parallel()
		b := setUp(t, h)
		deliveries := append(b.odd(), b.plain(10)...)
		results := b.deliverAll(deliveries)
		b.wantClass(results, connector.Delivered, connector.Dropped, connector.Permanent, connector.TooLarge)
		b.wantClass(results[len(results)-10:], connector.Delivered)
		b.wantArrived(deliveries, results)
	})

	t.Run("an event sent twice is there once, if the destination dedups", func(t *testing.T) {
		t.Parallel()
		b := setUp(t, h)
		if !b.conn.Limits().Dedups {
			return
		}
		deliveries := b.plain(min(30, b.conn.Limits().MaxEvents))
		plan := b.plan(deliveries)
		first := b.send(deliveries, plan)
		b.wantClass(first, connector.Delivered)
		again := b.send(deliveries, plan)
		b.wantClass(again, connector.Delivered, connector.Duplicate)
		// A new call, where old and new events stand side by side.
		mixed := append(b.plain(5), deliveries...)
		mixed = append(mixed, b.plain(5)...)
		results := b.deliverAll(mixed)
		b.wantClass(results, connector.Delivered, connector.Duplicate)
		b.wantClass(results[:5], connector.Delivered)
		b.wantClass(results[len(results)-5:], connector.Delivered)
		b.wantArrivedOnce(mixed)
	})

	t.Run("one id twice in a batch arrives once, if the destination dedups", func(t *testing.T) {
		t.Parallel()
		b := setUp(t, h)
		if !b.conn.Limits().Dedups || b.conn.Limits().MaxEvents < 3 {
			return
		}
		deliveries := b.plain(2)
		deliveries = append(deliveries, deliveries[0])
		results := b.deliver(deliveries)
		b.wantClass(results[:2], connector.Delivered)
		b.wantClass(results[2:], connector.Delivered, connector.Duplicate)
		b.wantArrivedOnce(deliveries)
	})

	t.Run("a call that was over before it began sends nothing", func(t *testing.T) {
		t.Parallel()
		b := setUp(t, h)
		b.wantClass(b.deliver(b.plain(1)), connector.Delivered) // connected
		deliveries := b.plain(min(5, b.conn.Limits().MaxEvents))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, call := range b.plan(deliveries).Calls {
			b.wantClass(b.sendCall(ctx, call), connector.Retryable)
		}
		if n := len(b.Arrived(t)); n != 1 {
			t.Errorf("%d events arrived, want the one before", n)
		}
		results := b.deliver(deliveries)
		b.wantClass(results, connector.Delivered)
	})

	t.Run("calls are made concurrently", func(t *testing.T) {
		t.Parallel()
		b := setUp(t, h)
		const senders = 4
		batches := make([][]connector.Delivery, senders)
		results := make([][]connector.Result, senders)
		var wg sync.WaitGroup
		for i := range batches {
			batches[i] = b.plain(min(25, b.conn.Limits().MaxEvents))
			for j := range batches[i] {
				e := &batches[i][j].Event
				e.UserID = fmt.Sprintf("sender-%d", i) // order is asked for within a key only
				batches[i][j] = deliveryOf(*e)
			}
			wg.Go(func() { results[i] = b.deliver(batches[i]) })
		}
		wg.Wait()
		var all []connector.Delivery
		var outcomes []connector.Result
		for i := range batches {
			all, outcomes = append(all, batches[i]...), append(outcomes, results[i]...)
		}
		b.wantClass(outcomes, connector.Delivered)
		b.wantArrived(all, outcomes)
	})

	t.Run("what was delivered is there after close, for another connector too", func(t *testing.T) {
		t.Parallel()
		b := setUp(t, h)
		deliveries := b.plain(3)
		first, err := b.Factory(b.Settings, b.env())
		if err != nil {
			t.Fatal(err)
		}
		plan := first.Plan(deliveries)
		for _, call := range plan.Calls {
			b.wantClass(first.Send(t.Context(), call), connector.Delivered)
		}
		if err := first.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
		more := b.plain(2)
		b.wantClass(b.deliver(more), connector.Delivered)
		b.wantArrivedOnce(append(deliveries, more...))
	})

	t.Run("a connector that was never used closes", func(t *testing.T) {
		t.Parallel()
		setUp(t, h)
	})
}

func testStates(t *testing.T, h Harness) {
	for _, c := range states {
		if h.cannot(t, c.state) {
			continue
		}
		t.Run(string(c.state), func(t *testing.T) {
			t.Parallel()
			for _, connected := range []bool{false, true} {
				t.Run(map[bool]string{false: "from the start", true: "after it worked"}[connected], func(t *testing.T) {
					t.Parallel()
					b := setUp(t, h)
					var before []connector.Delivery
					if connected {
						before = b.plain(1)
						b.wantClass(b.deliver(before), connector.Delivered)
					}
					want := c.want
					if connected && c.state == Away {
						// The call may be written before the connection is
						// seen to be dead.
						want = append(slices.Clone(want), connector.Ambiguous)
					}
					b.testState(c.state, want, before)
				})
			}
		})
	}

	if h.cannot(t, Fussy) {
		return
	}
	t.Run(string(Fussy), func(t *testing.T) {
		t.Parallel()
		b := setUp(t, h)
		leave := b.enter(Fussy)
		deliveries := b.plain(min(9, max(b.conn.Limits().MaxEvents, 3)))
		bad := len(deliveries) / 2
		deliveries[bad].Event.ID = BadID
		deliveries[bad] = deliveryOf(deliveries[bad].Event)
		results := b.deliverAll(deliveries)
		for i := range results {
			if i == bad {
				b.wantClass(results[i:i+1], connector.Permanent)
			} else {
				b.wantClass(results[i:i+1], connector.Delivered)
			}
		}
		b.wantArrived(deliveries, results)
		leave()
	})
}

// testState makes calls in a state, and again after it: then everything
// arrives, once if the destination dedups.
func (b *bench) testState(s State, want []connector.Class, before []connector.Delivery) {
	t := b.t
	leave := b.enter(s)
	deliveries := b.plain(min(3, b.conn.Limits().MaxEvents))
	plan := b.plan(deliveries)
	// Nothing but a hanging destination may need its context.
	ctx := t.Context()
	if s == Hanging {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
	}
	unknown := false
	for _, call := range plan.Calls {
		results := b.sendCall(ctx, call)
		b.wantClass(results, want...)
		for _, r := range results {
			unknown = unknown || r.Class == connector.Ambiguous
			if s == Throttling && r.RetryAfter == 0 {
				t.Error("the wait that the destination asks for is lost")
			}
		}
	}
	leave()
	if unknown && !b.conn.Limits().Dedups {
		return
	}
	b.wantClass(b.send(deliveries, plan), connector.Delivered, connector.Duplicate)
	b.wantArrivedOnce(append(before, deliveries...))
}

// deliverAll delivers any number of events, in the numbers that Plan wants.
func (b *bench) deliverAll(deliveries []connector.Delivery) []connector.Result {
	b.t.Helper()
	var results []connector.Result
	for maxEvents := b.conn.Limits().MaxEvents; len(deliveries) > 0; {
		n := min(maxEvents, len(deliveries))
		results = append(results, b.deliver(deliveries[:n])...)
		deliveries = deliveries[n:]
	}
	return results
}

// wantArrivedOnce checks that these events, and no others, are at the
// destination, once each.
func (b *bench) wantArrivedOnce(deliveries []connector.Delivery) {
	b.t.Helper()
	want := make(map[string]bool)
	for i := range deliveries {
		want[deliveries[i].Event.ID] = true
	}
	got := make(map[string]int)
	for _, id := range b.Arrived(b.t) {
		got[id]++
		if !want[id] {
			b.t.Errorf("%q arrived and was not sent", id)
		}
	}
	for id := range want {
		if got[id] != 1 {
			b.t.Errorf("%q arrived %d times, want once", id, got[id])
		}
	}
}
