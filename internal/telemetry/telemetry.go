// Package telemetry is where the figures and traces of a program go.
//
// Figures are OpenTelemetry instruments, read by Prometheus at /metrics. The
// stages count with atomics of their own and the program reads them when it is
// asked, so that a figure costs nothing on the path of an event.
//
// Figures and traces also go out by OTLP if the standard environment of
// OpenTelemetry asks for it. Without it there is no exporter and no tracing.
// A collector that does not answer costs what it has not taken, and nothing
// else: spans wait in a queue with a bound and are dropped beyond it.
//
// What the stages know of it is in the folders below, which know no SDK.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/eventsluice/sluice/internal/telemetry/tracing"
)

// scope names what all instruments and spans belong to.
const scope = "github.com/eventsluice/sluice"

// Config says what a program is and how it is set. Its zero value is a program
// without an environment.
type Config struct {
	// Lookup reads the environment. What only the exporters need (headers,
	// certificates, sizes of queues) is checked through it, and then read by
	// them from the environment of the process.
	Lookup func(string) (string, bool)
	// Version is that of the program.
	Version string
	// Log gets a line when something cannot be exported, one a minute at most.
	// Default slog.Default().
	Log *slog.Logger
}

// Telemetry is the meter of a program, the handler that shows its figures, and
// its tracer.
type Telemetry struct {
	Meter   metric.Meter
	Handler http.Handler
	// Tracer is nil if traces go nowhere.
	Tracer *tracing.Tracer

	meters     *sdkmetric.MeterProvider
	spans      *sdktrace.TracerProvider // nil like Tracer
	histograms *histograms
	log        *slog.Logger
}

// New returns a Telemetry with nothing registered but the figures of the Go
// runtime and the process, which only Prometheus gets. The error has a line for
// each variable that cannot be used.
func New(ctx context.Context, cfg Config) (*Telemetry, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Lookup == nil {
		cfg.Lookup = func(string) (string, bool) { return "", false }
	}
	env, err := readEnvironment(cfg.Lookup)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	t := &Telemetry{
		Handler:    promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		histograms: &histograms{started: time.Now()},
		log:        cfg.Log,
	}
	shown, err := otelprometheus.New(
		otelprometheus.WithRegisterer(registry),
		otelprometheus.WithProducer(t.histograms),
		otelprometheus.WithoutScopeInfo(),
		otelprometheus.WithoutTargetInfo(),
	)
	if err != nil {
		return nil, fmt.Errorf("prometheus exporter: %w", err)
	}
	meters := []sdkmetric.Option{sdkmetric.WithReader(shown)}
	if env.traces != off || env.metrics != off {
		// What the exporters do not return to us they tell the handler.
		otel.SetErrorHandler(newReporter(cfg.Log, "telemetry"))
		about, err := env.resource(ctx, cfg.Version)
		if err != nil {
			return nil, fmt.Errorf("describe the program: %w", err)
		}
		meters = append(meters, sdkmetric.WithResource(about))
		if env.metrics != off {
			exporter, err := metricExporter(ctx, env.metrics, cfg.Log)
			if err != nil {
				return nil, fmt.Errorf("exporter of metrics: %w", err)
			}
			meters = append(meters, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithProducer(t.histograms))))
		}
		if env.traces != off {
			if err := t.trace(ctx, &env, about); err != nil {
				return nil, fmt.Errorf("exporter of traces: %w", err)
			}
		}
	}
	t.meters = sdkmetric.NewMeterProvider(meters...)
	t.Meter = t.meters.Meter(scope)
	return t, nil
}

// trace makes the tracer. It samples by itself, so the SDK records all that it
// is given.
func (t *Telemetry) trace(ctx context.Context, env *environment, about *resource.Resource) error {
	exporter, err := spanExporter(ctx, env.traces, t.log)
	if err != nil {
		return err
	}
	t.spans = sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(about),
		sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithIDGenerator(tracing.IDs{}),
	)
	t.Tracer = tracing.New(t.spans.Tracer(scope), env.sampling)
	return nil
}

// flushTimeout bounds how long a stop waits for a collector.
const flushTimeout = 5 * time.Second

// Shutdown exports what has been collected, within flushTimeout, and ends the
// collection. That a collector is away is logged and is no failure.
func (t *Telemetry) Shutdown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	var faults []error
	if t.spans != nil {
		faults = append(faults, t.spans.Shutdown(ctx))
	}
	faults = append(faults, t.meters.Shutdown(ctx))
	if err := errors.Join(faults...); err != nil {
		t.log.Warn("telemetry not exported to its end", "error", err)
	}
}
