package delivery_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
)

// clocked is a destination that answers after a time and knows when each event
// arrived.
type clocked struct {
	deliverytest.Connector
	mu      sync.Mutex
	arrived map[string]time.Time
}

func newClocked(takes time.Duration) *clocked {
	c := &clocked{arrived: map[string]time.Time{}}
	c.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
		time.Sleep(takes)
		now := time.Now()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, e := range events {
			c.arrived[e.Event.ID] = now
		}
		return results(len(events), connector.Delivered)
	})
	return c
}

// neighbours are the ways in which a destination can be bad company.
var neighbours = map[string]deliverytest.Answer{
	"hangs": func(ctx context.Context, events []connector.Delivery) []connector.Result {
		<-ctx.Done()
		return results(len(events), connector.Ambiguous)
	},
	"fails":                 always(connector.Result{Class: connector.Retryable}),
	"throttles":             always(connector.Result{Class: connector.Throttled}),
	"refuses credentials":   always(connector.Result{Class: connector.Auth}),
	"refuses what it sees":  always(connector.Result{Class: connector.Permanent}),
	"throttles with a wait": always(connector.Result{Class: connector.Throttled, RetryAfter: time.Hour}),
}

// runOn runs a destination on a stream, with a store of its own, until stop is
// called.
func runOn(tb testing.TB, s delivery.Stream, conn connector.Connector, cfg delivery.Config) (r *delivery.Runner, stop func()) {
	tb.Helper()
	r, err := delivery.New(s, (&deliverytest.Store{}).Open(), conn, func() delivery.Route { return deliverytest.Route{} }, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return r, func() { cancel(); <-ended }
}

// Two destinations on one stream. How long events take to the one is the same to
// the nanosecond, whatever is wrong with the other. BenchmarkIsolation measures it
// on a real clock and a real processor.
func TestADestinationDoesNotFeelAnother(t *testing.T) {
	t.Parallel()
	latencies := func(t *testing.T, neighbour deliverytest.Answer) (all []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			s := &deliverytest.Stream{}
			good := newClocked(20 * time.Millisecond)
			_, stop := runOn(t, s, good, delivery.Config{Destination: "good"})
			if neighbour != nil {
				bad := &deliverytest.Connector{}
				bad.Answer(neighbour)
				_, stopBad := runOn(t, s, bad, delivery.Config{Destination: "bad", MaxPendingEvents: 200})
				defer stopBad()
			}
			sent := map[string]time.Time{}
			var ids []string
			for i := range 3000 {
				id := fmt.Sprintf("e%d", i)
				sent[id] = time.Now()
				ids = append(ids, id)
				s.Append(deliverytest.Event(id, "bought", fmt.Sprintf("u%d", i%100)))
				time.Sleep(7 * time.Millisecond)
			}
			time.Sleep(time.Minute)
			stop()
			for _, id := range ids {
				at, ok := good.arrived[id]
				if !ok {
					t.Fatalf("%s has not arrived", id)
				}
				all = append(all, at.Sub(sent[id]))
			}
		})
		return all
	}
	alone := latencies(t, nil)
	for name, answer := range neighbours {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			beside := latencies(t, answer)
			if !slices.Equal(alone, beside) {
				p99 := func(all []time.Duration) time.Duration { return slices.Sorted(slices.Values(all))[len(all)*99/100] }
				t.Errorf("p99 %v alone, %v beside a destination that %s", p99(alone), p99(beside), name)
			}
		})
	}
}

// BenchmarkIsolation delivers 2000 events a second to a destination that answers
// in 5 ms, and reports how long they take, beside others that share the processor
// and the stream. Run it on a quiet machine with -benchtime 5s.
func BenchmarkIsolation(b *testing.B) {
	names := []string{""}
	for name := range neighbours {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		title := name
		if name == "" {
			title = "alone"
		}
		b.Run(title, func(b *testing.B) {
			s := &deliverytest.Stream{}
			good := newClocked(5 * time.Millisecond)
			good.Bounds.MaxEvents = 50
			r, stop := runOn(b, s, good, delivery.Config{Destination: "good"})
			defer stop()
			if name != "" {
				bad := &deliverytest.Connector{}
				bad.Bounds.MaxEvents = 50
				bad.Answer(neighbours[name])
				_, stopBad := runOn(b, s, bad, delivery.Config{Destination: "bad"})
				defer stopBad()
			}
			sent := make([]time.Time, b.N)
			next := time.Now()
			for i := range b.N {
				time.Sleep(time.Until(next))
				next = next.Add(500 * time.Microsecond)
				sent[i] = time.Now()
				s.Append(deliverytest.Event(fmt.Sprint(i), "bought", fmt.Sprintf("u%d", i%1000)))
			}
			for r.Counts().Delivered < uint64(b.N) {
				time.Sleep(time.Millisecond)
			}
			b.StopTimer()
			took := make([]float64, b.N)
			good.mu.Lock()
			for i := range took {
				took[i] = good.arrived[fmt.Sprint(i)].Sub(sent[i]).Seconds() * 1e3
			}
			good.mu.Unlock()
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2], "p50-ms")
			b.ReportMetric(took[len(took)*99/100], "p99-ms")
		})
	}
}
