package telemetry

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"golang.org/x/time/rate"
)

// spans exports spans and reports its failures by itself.
type spans struct {
	sdktrace.SpanExporter
	failed *reporter
}

func spanExporter(ctx context.Context, p protocol, log *slog.Logger) (sdktrace.SpanExporter, error) {
	var exporter sdktrace.SpanExporter
	var err error
	if p == overGRPC {
		exporter, err = otlptracegrpc.New(ctx)
	} else {
		exporter, err = otlptracehttp.New(ctx)
	}
	return spans{exporter, newReporter(log, "traces")}, err
}

// ExportSpans implements sdktrace.SpanExporter.
func (s spans) ExportSpans(ctx context.Context, all []sdktrace.ReadOnlySpan) error {
	if err := s.SpanExporter.ExportSpans(ctx, all); err != nil {
		s.failed.Handle(err)
	}
	return nil
}

// metrics exports metrics and reports its failures by itself.
type metrics struct {
	sdkmetric.Exporter
	failed *reporter
}

func metricExporter(ctx context.Context, p protocol, log *slog.Logger) (sdkmetric.Exporter, error) {
	var exporter sdkmetric.Exporter
	var err error
	if p == overGRPC {
		exporter, err = otlpmetricgrpc.New(ctx)
	} else {
		exporter, err = otlpmetrichttp.New(ctx)
	}
	return metrics{exporter, newReporter(log, "metrics")}, err
}

// Export implements sdkmetric.Exporter.
func (m metrics) Export(ctx context.Context, all *metricdata.ResourceMetrics) error {
	if err := m.Exporter.Export(ctx, all); err != nil {
		m.failed.Handle(err)
	}
	return nil
}

// reporter logs failures, one a minute at most. It is an otel.ErrorHandler.
type reporter struct {
	log    *slog.Logger
	signal string
	seldom rate.Sometimes
	since  atomic.Int64 // failures since the last line
}

func newReporter(log *slog.Logger, signal string) *reporter {
	return &reporter{log: log, signal: signal, seldom: rate.Sometimes{First: 1, Interval: time.Minute}}
}

// Handle implements otel.ErrorHandler.
func (r *reporter) Handle(err error) {
	r.since.Add(1)
	r.seldom.Do(func() {
		r.log.Warn("telemetry not exported", "signal", r.signal, "failures", r.since.Swap(0), "error", err)
	})
}
