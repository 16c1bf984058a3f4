package producer

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/telemetry/tracing"
)

// beginSpan begins the span of w's call, if a request in it is traced. The
// shares of records in a call change only when the call has ended.
func (p *Producer) beginSpan(ctx context.Context, w *worker) (context.Context, trace.Span) {
	if p.cfg.Tracer == nil {
		return ctx, nil
	}
	var requests tracing.Causes
	events, bytes := 0, 0
	for _, r := range w.records {
		events += r.data.Len()
		bytes += r.size()
		for i := range r.shares {
			requests.Add(r.shares[i].w.span)
		}
	}
	ctx, span := p.cfg.Tracer.Call(ctx, "PutRecords", trace.SpanKindProducer, &requests)
	if span != nil {
		span.SetAttributes(
			attribute.String("messaging.operation.type", "send"),
			attribute.String("messaging.operation.name", "PutRecords"),
			attribute.Int("messaging.batch.message_count", len(w.records)),
			attribute.Int("sluice.events", events),
			attribute.Int("sluice.bytes", bytes),
		)
	}
	return ctx, span
}

// endSpan says how many records were not stored, and of what kind the first
// failure was. Of a call that failed as a whole nothing is known.
func endSpan(span trace.Span, results []stream.Result, err error) {
	if span == nil {
		return
	}
	failed, kind := 0, fault.Ambiguous
	for i := range results {
		if e := results[i].Err; e != nil {
			if failed++; err == nil {
				err, kind = e, fault.KindOf(e)
			}
		}
	}
	span.SetAttributes(attribute.Int("sluice.records.failed", failed))
	if err != nil {
		span.SetAttributes(attribute.String("error.type", kind.String()))
		span.SetStatus(codes.Error, kind.String())
	}
	span.End()
}
