package producer_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

// cpu returns the CPU time that the process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPut has many senders put batches of 500-byte events onto a stream
// whose calls take a millisecond and cost nothing. The figure that counts is
// the CPU per event, wake-ups included.
func BenchmarkPut(b *testing.B) {
	for _, format := range []struct {
		name string
		stream.Format
	}{{"kpl", stream.KPL}, {"framed", stream.Framed}} {
		for _, load := range []struct{ senders, events int }{{1, 1}, {64, 1}, {256, 1}, {16, 100}} {
			b.Run(fmt.Sprintf("%s/senders=%d/events=%d", format.name, load.senders, load.events), func(b *testing.B) {
				benchmarkPut(b, producer.Config{Format: format.Format}, load.senders, load.events)
			})
		}
	}
}

func benchmarkPut(b *testing.B, cfg producer.Config, senders, events int) {
	var results []stream.Result
	slow := streamtest.Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
		time.Sleep(time.Millisecond)
		if len(results) < len(records) {
			results = make([]stream.Result, len(records))
		}
		return results[:len(records)], nil
	})
	p, err := producer.New(slow, new(ledger.Intake), cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.Run(ctx); err != nil {
			b.Error(err)
		}
	})
	data := []byte(`{"page":"` + strings.Repeat("x", 350) + `"}`)
	batches := make([]stream.Batch, senders)
	for i := range batches {
		for j := range events {
			batches[i].Add(&event.Event{
				ID: "0198a5c2-3c1b-7d2e-8f00-0123456789ab", Type: "track", Name: "button_clicked",
				UserID: fmt.Sprintf("u%d", i*events+j), ReceivedAt: "2026-11-23T10:00:00Z", Source: "web", Data: data,
			})
		}
	}
	// One context per sender, as requests have.
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	var group sync.WaitGroup
	for i := range senders {
		group.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			for n := i; n < b.N; n += senders {
				if err := p.Put(ctx, &batches[i]); err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
	used := cpu() - before
	b.StopTimer()
	s := p.Stats()
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*events), "cpu-ns/event")
	b.ReportMetric(float64(s.Accepted)/float64(s.Calls), "events/call")
	b.ReportMetric(0, "ns/op")
	stop()
	running.Wait()
}
