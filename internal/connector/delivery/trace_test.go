package delivery_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/telemetry/tracing"
	"github.com/eventsluice/sluice/internal/telemetry/tracingtest"
)

// receivedIn stores an event that was received in a span.
func (s *scene) receivedIn(user, traceparent string) {
	e := event.Event{ID: fmt.Sprintf("e%d", s.stream.Events()+1), Type: event.TypeTrack, Name: "bought", UserID: user, Traceparent: traceparent}
	s.stream.Append(e.Append(nil))
}

func TestEveryAttemptOfATracedEventHasASpanInItsTrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tracer, spans := tracingtest.New(t, tracing.Sampling{Ratio: 1})
		s := newScene(t)
		s.cfg.Tracer, s.conn.Bounds.Dedups = tracer, true
		var mu sync.Mutex
		var inSend []trace.SpanContext
		s.conn.Answer(func(ctx context.Context, events []connector.Delivery) []connector.Result {
			mu.Lock()
			defer mu.Unlock()
			if span := trace.SpanContextFromContext(ctx); span.IsValid() {
				inSend = append(inSend, span)
			}
			if events[0].Event.ID == "e2" && events[0].Attempt == 1 {
				return []connector.Result{{Class: connector.Ambiguous, Code: "timeout", Status: 504}}
			}
			return results(len(events), connector.Delivered)
		})
		s.receivedIn("u1", "")
		s.receivedIn("u2", tracingtest.Traceparent)
		s.start()
		for s.conn.Copies("e2") == 0 {
			s.runner.Wake()
			synctest.Wait()
		}
		s.stop()
		made := spans.All()
		if len(made) != 2 || len(inSend) != 2 {
			t.Fatalf("%d spans and %d in Send, want one for each attempt of e2", len(made), len(inSend))
		}
		for i, span := range made {
			if span.Name != "deliver crm" || span.Kind != trace.SpanKindClient || span.Parent.SpanID().String() != tracingtest.SpanID ||
				span.Context.TraceID().String() != tracingtest.TraceID || len(span.Links) != 1 || !inSend[i].Equal(span.Context) {
				t.Errorf("%+v", span)
			}
			if span.Attributes["sluice.attempt"] != int64(i+1) || span.Attributes["messaging.message.id"] != "e2" {
				t.Errorf("attempt %d: %v", i+1, span.Attributes)
			}
		}
		if first := made[0]; first.Status != "Error" || first.Attributes["error.type"] != "ambiguous" || first.Attributes["http.response.status_code"] != int64(504) {
			t.Errorf("the attempt that failed: %+v", first)
		}
		if second := made[1]; second.Status != "Unset" || second.Attributes["sluice.events.settled"] != int64(1) {
			t.Errorf("the attempt that did not: %+v", second)
		}
	})
}

func TestACallWithEventsOfManyRequestsIsLinkedToThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const events = 2 * tracing.MaxLinks
		tracer, spans := tracingtest.New(t, tracing.Sampling{Ratio: 1})
		s := newScene(t)
		s.cfg.Tracer, s.cfg.Concurrency, s.conn.Bounds.MaxEvents = tracer, 1, events
		s.conn.Bounds.Linger = time.Minute // all wait for the last
		for i := range events {
			s.receivedIn("u", fmt.Sprintf("00-%032x-%016x-01", i+1, i+1))
		}
		s.start()
		synctest.Wait()
		s.stop()
		linked := 0
		for _, span := range spans.All() {
			linked = max(linked, len(span.Links))
			if len(span.Links) > 1 && span.Parent.IsValid() {
				t.Errorf("a span for %d traces is in one of them", len(span.Links))
			}
		}
		if linked != tracing.MaxLinks {
			t.Errorf("at most %d links, want %d", linked, tracing.MaxLinks)
		}
	})
}
