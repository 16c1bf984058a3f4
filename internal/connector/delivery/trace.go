package delivery

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/telemetry/tracing"
)

// beginSpan begins the span of a call, if an event in it was received in one.
// The connector finds it in the context of its Send.
func (r *Runner) beginSpan(ctx context.Context, items []*item) (context.Context, trace.Span) {
	if r.cfg.Tracer == nil {
		return ctx, nil
	}
	var received tracing.Causes
	attempt := 0 // the highest of them
	for _, it := range items {
		received.AddText(it.event.Traceparent)
		attempt = max(attempt, it.attempts+1)
	}
	ctx, span := r.cfg.Tracer.Call(ctx, "deliver "+r.cfg.Destination, trace.SpanKindClient, &received)
	if span != nil {
		span.SetAttributes(
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.destination.name", r.cfg.Destination),
			attribute.Int("messaging.batch.message_count", len(items)),
			attribute.String("sluice.connector", r.connectorName),
			attribute.Int("sluice.attempt", attempt),
		)
		if len(items) == 1 {
			span.SetAttributes(attribute.String("messaging.message.id", items[0].event.ID))
		}
	}
	return ctx, span
}

// endSpan says what became of the events: how many are settled, and the class
// of the first that is not.
func endSpan(span trace.Span, results []connector.Result) {
	if span == nil {
		return
	}
	settled, status := 0, 0
	var failed *connector.Result
	for i := range results {
		status = max(status, results[i].Status)
		if results[i].Class.Settled() {
			settled++
		} else if failed == nil {
			failed = &results[i]
		}
	}
	span.SetAttributes(attribute.Int("sluice.events.settled", settled))
	if status > 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
	}
	if failed != nil {
		span.SetAttributes(attribute.String("error.type", failed.Class.String()))
		span.SetStatus(codes.Error, failed.Class.String()+" "+failed.Code)
	}
	span.End()
}
