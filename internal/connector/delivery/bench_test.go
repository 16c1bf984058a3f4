package delivery_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/stream"
)

// endless is a stream that gives the same entry again and again, until it has
// given as many as there are.
type endless struct {
	entry   stream.Entry
	events  int // of an entry
	entries uint64
	given   uint64
}

func (s *endless) Open(context.Context, uint64) (stream.Reader, error) { return s, nil }
func (s *endless) Last(context.Context) (uint64, error)                { return s.entries, nil }
func (s *endless) First(context.Context) (uint64, error)               { return 1, nil }
func (s *endless) Close() error                                        { return nil }

func (s *endless) CountBefore(_ context.Context, position uint64) (uint64, error) {
	return (position - 1) * uint64(s.events), nil
}

func (s *endless) Next(ctx context.Context) (stream.Entry, error) {
	if s.given == s.entries {
		<-ctx.Done()
		return stream.Entry{}, io.EOF
	}
	s.given++
	s.entry.Position = s.given
	return s.entry, nil
}

// entryOf returns an entry with so many events of 500 bytes, each of another
// user, as the engine's producer writes it: without the digest of Kinesis, which
// costs 0.6 µs an event to check.
func entryOf(events int) stream.Entry {
	var a stream.Aggregate
	a.Reset("bucket-0", stream.Framed)
	for i := range events {
		e := event.Event{
			ID: fmt.Sprintf("0198f3a2-0000-7000-8000-%012d", i), Type: event.TypeTrack, Name: "order_completed",
			UserID: fmt.Sprintf("user-%d", i), Timestamp: "2026-11-23T10:00:00.000Z", ReceivedAt: "2026-11-23T10:00:00.125Z", Source: "web",
		}
		text := `{"total":1.50,"text":""}`
		e.Data = []byte(strings.Replace(text, `""`, `"`+strings.Repeat("x", 500-len(e.Append(nil))-len(text)+len("{}"))+`"`, 1))
		a.Add(e.Append(nil))
	}
	return stream.Entry{Records: []stream.Record{{PartitionKey: "bucket-0", Data: slices.Clone(a.Seal()), Events: events}}}
}

// void takes everything. Its plans and results cost as little as can be.
type void struct {
	limits connector.Limits
}

func (v *void) Kind() string             { return "void" }
func (v *void) Version() string          { return "1" }
func (v *void) Limits() connector.Limits { return v.limits }
func (v *void) Close() error             { return nil }

func (v *void) Plan(events []connector.Delivery) connector.Plan {
	all := make([]int, len(events))
	for i := range all {
		all[i] = i
	}
	return connector.Plan{Calls: []connector.Call{{Events: all}}}
}

func (v *void) Send(_ context.Context, c connector.Call) []connector.Result {
	return connector.All(len(c.Events), connector.Result{Class: connector.Delivered})
}

// run takes entries through a Runner and reports the events per second.
func run(b *testing.B, perEntry, maxEvents, concurrency int, route delivery.Route) {
	s := &endless{entry: entryOf(perEntry), events: perEntry, entries: uint64(max(1, b.N/perEntry))}
	conn := &void{limits: connector.Limits{MaxEvents: maxEvents}}
	disk := &deliverytest.Store{}
	r, err := delivery.New(s, disk.Open(), conn, func() delivery.Route { return route },
		delivery.Config{Destination: "void", Concurrency: concurrency}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	all := s.entries * uint64(perEntry)
	for {
		c := r.Counts()
		if c.Filtered+c.Delivered == all {
			break
		}
		select {
		case err := <-ended:
			b.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	b.StopTimer()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(all)/b.Elapsed().Seconds(), "events/s")
}

// nothing is a Route that wants nothing and looks at nothing.
type nothing struct{}

func (nothing) Apply([]byte) ([]byte, string, bool, error) { return nil, "", false, nil }

// BenchmarkFiltered is what an event costs that no rule wants, beside the rules.
func BenchmarkFiltered(b *testing.B) { run(b, 100, 1000, 1, nothing{}) }

// everything is a Route that wants all and looks at nothing.
type everything struct{}

func (everything) Apply(raw []byte) ([]byte, string, bool, error) {
	return raw, "rules[0] void", true, nil
}

// BenchmarkDelivered is what an event costs that is delivered, beside the rules
// and the destination.
func BenchmarkDelivered(b *testing.B) {
	for _, c := range []struct{ perCall, lanes int }{{1000, 1}, {1000, 8}, {100, 8}, {1, 1}, {1, 8}} {
		b.Run(fmt.Sprintf("%d-per-call-%d-lanes", c.perCall, c.lanes), func(b *testing.B) {
			run(b, 100, c.perCall, c.lanes, everything{})
		})
	}
}
