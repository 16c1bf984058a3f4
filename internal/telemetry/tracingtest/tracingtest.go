// Package tracingtest has a tracer for tests that keeps the spans it makes.
package tracingtest

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/telemetry/tracing"
)

// Traceparent is that of a sender whose trace is sampled, TraceID and SpanID
// what is in it. Unsampled is the same, not sampled.
const (
	TraceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	SpanID      = "00f067aa0ba902b7"
	Traceparent = "00-" + TraceID + "-" + SpanID + "-01"
	Unsampled   = "00-" + TraceID + "-" + SpanID + "-00"
)

// Spans are those that have ended.
type Spans struct {
	t        testing.TB
	exporter *tracetest.InMemoryExporter
}

// New returns a tracer and the spans that it will have made.
func New(t testing.TB, s tracing.Sampling) (*tracing.Tracer, *Spans) {
	spans := &Spans{t: t, exporter: tracetest.NewInMemoryExporter()}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSyncer(spans.exporter), sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithIDGenerator(tracing.IDs{}),
	)
	t.Cleanup(func() {
		if err := provider.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return tracing.New(provider.Tracer("test"), s), spans
}

// Span is one span that has ended.
type Span struct {
	Name, Status string
	Kind         trace.SpanKind
	Context      trace.SpanContext
	Parent       trace.SpanContext
	Links        []trace.SpanContext
	Attributes   map[string]any
}

// All returns the spans in the order in which they have ended.
func (s *Spans) All() []Span {
	var all []Span
	for _, stub := range s.exporter.GetSpans() {
		span := Span{
			Name: stub.Name, Status: stub.Status.Code.String(), Kind: stub.SpanKind,
			Context: stub.SpanContext, Parent: stub.Parent, Attributes: attributes(stub.Attributes),
		}
		for _, link := range stub.Links {
			span.Links = append(span.Links, link.SpanContext)
		}
		all = append(all, span)
	}
	return all
}

// One returns the only span of a kind.
func (s *Spans) One(kind trace.SpanKind) Span {
	s.t.Helper()
	var found []Span
	for _, span := range s.All() {
		if span.Kind == kind {
			found = append(found, span)
		}
	}
	if len(found) != 1 {
		s.t.Fatalf("%d spans of kind %v, want one: %+v", len(found), kind, found)
	}
	return found[0]
}

func attributes(list []attribute.KeyValue) map[string]any {
	m := make(map[string]any, len(list))
	for _, a := range list {
		m[string(a.Key)] = a.Value.AsInterface()
	}
	return m
}
