package telemetry

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/eventsluice/sluice/internal/telemetry/histogram"
)

// Series is one histogram of a metric and its labels.
type Series struct {
	Labels    []attribute.KeyValue
	Histogram *histogram.Histogram
}

// Unit is what a histogram is shown in, and how many of what was observed make
// one of it.
type Unit struct {
	name string
	per  float64
}

// Units of histograms.
var (
	Seconds = Unit{"s", 1e9} // observed in nanoseconds
	Bytes   = Unit{"By", 1}
	Records = Unit{"{record}", 1}
	Events  = Unit{"{event}", 1}
)

// Histograms adds a metric whose buckets somebody else counts: OpenTelemetry
// has no instrument of that kind, but readers take metrics from elsewhere.
func (t *Telemetry) Histograms(name, help string, unit Unit, series ...Series) {
	t.histograms.mu.Lock()
	defer t.histograms.mu.Unlock()
	t.histograms.all = append(t.histograms.all, histogramMetric{name: name, help: help, unit: unit, series: series})
}

// histograms is the sdkmetric.Producer of the metrics that are registered.
type histograms struct {
	started time.Time
	mu      sync.Mutex
	all     []histogramMetric
}

type histogramMetric struct {
	name, help string
	unit       Unit
	series     []Series
}

// Produce implements sdkmetric.Producer. Series that have counted nothing are
// left out.
func (h *histograms) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	var metrics []metricdata.Metrics
	for _, m := range h.all {
		var points []metricdata.HistogramDataPoint[float64]
		for _, s := range m.series {
			counted := s.Histogram.Snapshot()
			if counted.Count == 0 {
				continue
			}
			bounds := make([]float64, len(counted.Bounds))
			for i, bound := range counted.Bounds {
				bounds[i] = float64(bound) / m.unit.per
			}
			points = append(points, metricdata.HistogramDataPoint[float64]{
				Attributes: attribute.NewSet(s.Labels...), StartTime: h.started, Time: now,
				Count: counted.Count, Sum: float64(counted.Sum) / m.unit.per, Bounds: bounds, BucketCounts: counted.Counts,
			})
		}
		if len(points) > 0 {
			metrics = append(metrics, metricdata.Metrics{
				Name: m.name, Description: m.help, Unit: m.unit.name,
				Data: metricdata.Histogram[float64]{DataPoints: points, Temporality: metricdata.CumulativeTemporality},
			})
		}
	}
	if len(metrics) == 0 {
		return nil, nil
	}
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: scope}, Metrics: metrics}}, nil
}
