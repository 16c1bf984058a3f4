package producer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
	"github.com/eventsluice/sluice/internal/telemetry/tracing"
	"github.com/eventsluice/sluice/internal/telemetry/tracingtest"
)

// traced puts an event whose request has a span of its own.
func traced(t *testing.T, p *producer.Producer, name string, span trace.SpanContext) {
	t.Helper()
	var b stream.Batch
	b.Add(sent(name))
	b.Span = span
	if err := p.Put(t.Context(), &b); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

func spanOf(i int) trace.SpanContext {
	sc, _ := tracing.Parse(fmt.Sprintf("00-%032x-%016x-01", i, i))
	return sc
}

func TestEveryAttemptHasASpanThatSaysHowItEnded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		around func(streamtest.Stream) streamtest.Stream
		want   []string // error.type of each call
	}{
		{"stored", nil, []string{""}},
		{"not stored, then stored", func(s streamtest.Stream) streamtest.Stream { return streamtest.Throttle(s, 1, 0) }, []string{"throttled", ""}},
		{"unknown, then stored", func(s streamtest.Stream) streamtest.Stream {
			return streamtest.LostReply(s, 1, errors.New("connection reset"))
		}, []string{"ambiguous", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tracer, spans := tracingtest.New(t, tracing.Sampling{Ratio: 1})
				r := start(t, producer.Config{Tracer: tracer}, tt.around)
				traced(t, r.p, "u/1", spanOf(1))
				var got []string
				for _, span := range spans.All() {
					kind, failed := span.Attributes["error.type"].(string)
					if failed != (span.Status == "Error") || span.Kind != trace.SpanKindProducer || span.Attributes["messaging.batch.message_count"] != int64(1) {
						t.Errorf("%+v", span)
					}
					if len(span.Links) != 1 || span.Links[0].SpanID() != spanOf(1).SpanID() {
						t.Errorf("linked to %+v", span.Links)
					}
					got = append(got, kind)
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("calls ended with %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// While a call is in flight, the events of many requests gather for the next.
func TestACallIsLinkedToTheRequestsInIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const requests = 2 * tracing.MaxLinks
		tracer, spans := tracingtest.New(t, tracing.Sampling{Ratio: 1})
		gate := make(chan struct{})
		r := start(t, producer.Config{Tracer: tracer}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
				<-gate
				return s.PutRecords(ctx, records)
			})
		})
		go r.mustPut("u0/0") // is not traced, and neither is its call
		synctest.Wait()
		for i := range requests {
			go traced(t, r.p, fmt.Sprintf("u%d/%d", i, i+1), spanOf(i+1))
		}
		synctest.Wait()
		close(gate)
		synctest.Wait()
		span := spans.One(trace.SpanKindProducer)
		if len(span.Links) != tracing.MaxLinks || span.Parent.IsValid() || span.Attributes["sluice.events"] != int64(requests) {
			t.Errorf("%d links, parent %v, %v events", len(span.Links), span.Parent, span.Attributes["sluice.events"])
		}
		seen := map[trace.SpanID]bool{}
		for _, link := range span.Links {
			seen[link.SpanID()] = true
		}
		if len(seen) != tracing.MaxLinks {
			t.Errorf("%d different links", len(seen))
		}
	})
}

func TestSizesAreThoseOfCallsAndStoredRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{Buckets: 1}, func(s streamtest.Stream) streamtest.Stream { return streamtest.Throttle(s, 1, 0) })
		r.mustPut("u/1", "u/2", "u/3")
		s, sizes := r.p.Stats(), r.p.Sizes()
		calls, bytes, fill := sizes.RecordsPerCall.Snapshot(), sizes.BytesPerCall.Snapshot(), sizes.EventsPerRecord.Snapshot()
		if calls.Count != 2 || calls.Sum != 2 || bytes.Count != 2 || bytes.Sum != 2*s.Bytes {
			t.Errorf("two calls with the same record of %d bytes are counted as %+v, %+v", s.Bytes, calls, bytes)
		}
		if fill.Count != 1 || fill.Sum != 3 {
			t.Errorf("one record of three events is counted as %+v", fill)
		}
	})
}
