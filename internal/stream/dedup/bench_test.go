package dedup

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/testenv"
)

// always is a stream that stores everything at once.
type always struct{}

func (always) PutAndTell(context.Context, *stream.Batch, func(int, bool, error)) error { return nil }

// typical returns an event of about 500 bytes, with room for n in its id.
func typical(n int) *event.Event {
	return &event.Event{
		ID: fmt.Sprintf("%08x-5b7e-4d43-9d1e-3f0a5c8d7e21", n), Type: event.TypeTrack, Name: "order_completed",
		UserID: "user-183467", AnonymousID: "7f3c1e52-9a0b", Timestamp: "2026-11-23T10:00:00.123Z",
		ReceivedAt: "2026-11-23T10:00:00.123Z", Source: "web",
		Data: json.RawMessage(`{"note":"` + strings.Repeat("x", 300) + `"}`),
	}
}

// BenchmarkPut is what deduplication adds to the Put of a batch, for each
// event: with a memory that is full of other ids, with ids that are known, and
// with ids that the gateway has made.
func BenchmarkPut(b *testing.B) {
	const events = 100
	for _, bm := range []struct {
		name  string
		own   bool
		again bool // sends what was sent
		fill  bool
	}{
		{"new", true, false, true},
		{"new, memory empty", true, false, false},
		{"duplicate", true, true, true},
		{"made by the gateway", false, false, true},
	} {
		b.Run(bm.name, func(b *testing.B) {
			f, err := New(always{}, new(ledger.Intake), Config{Window: time.Hour})
			if err != nil {
				b.Fatal(err)
			}
			batch := new(stream.Batch)
			for n := range events {
				batch.Add(typical(n))
				if bm.own {
					batch.MarkOwnID(n)
				}
			}
			sent := 0
			put := func() {
				for i := range events {
					batch.Skip(i, false)
					renumber(batch.Event(i), sent)
					sent++
				}
				if err := f.Put(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
			}
			if bm.fill {
				for sent < f.Capacity()*3/2 {
					put()
				}
			}
			known := sent
			b.ReportAllocs()
			b.ResetTimer()
			began := testenv.CPUTime()
			for b.Loop() {
				if bm.again {
					sent = known - f.Capacity()/2 + int(uint32(sent)*2654435761%uint32(f.Capacity()/4)) // anywhere
				}
				put()
			}
			b.ReportMetric(float64((testenv.CPUTime()-began).Nanoseconds())/float64(b.N*events), "cpu-ns/event")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/event")
			if duplicates := f.Stats().Duplicates > 0; duplicates != (bm.again && bm.own) {
				b.Errorf("duplicates: %v", duplicates)
			}
		})
	}
}

// renumber writes another number at the beginning of an event's id.
func renumber(event []byte, n int) {
	const digits = "0123456789abcdef"
	at := len(`{"id":"`)
	for i := range 8 {
		event[at+i] = digits[n>>(28-4*i)&15]
	}
}
