// Package telemetry is where the figures of a program go: OpenTelemetry
// instruments, read by Prometheus at /metrics. The stages count with atomics
// of their own and the program reads them when it is asked, so that a figure
// costs nothing on the path of an event.
package telemetry

import (
	"context"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// Telemetry is the meter of a program and the handler that shows its figures.
type Telemetry struct {
	Meter    metric.Meter
	Handler  http.Handler
	provider *sdkmetric.MeterProvider
}

// New returns a Telemetry with nothing registered but the figures of the Go
// runtime and the process.
func New() (*Telemetry, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(
		otelprometheus.WithRegisterer(registry),
		otelprometheus.WithoutScopeInfo(),
		otelprometheus.WithoutTargetInfo(),
	)
	if err != nil {
		return nil, fmt.Errorf("prometheus exporter: %w", err)
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	return &Telemetry{
		Meter:    provider.Meter("github.com/eventsluice/sluice"),
		Handler:  promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		provider: provider,
	}, nil
}

// Shutdown ends the collection.
func (t *Telemetry) Shutdown(ctx context.Context) error { return t.provider.Shutdown(ctx) }
