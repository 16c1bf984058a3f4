package telemetry_test

import (
	"context"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/telemetry"
	"github.com/eventsluice/sluice/internal/telemetry/histogram"
	"github.com/eventsluice/sluice/internal/telemetry/tracing"
	"github.com/eventsluice/sluice/internal/telemetry/tracingtest"
	"github.com/eventsluice/sluice/internal/testenv"
)

// set makes an environment of lines NAME=value.
func set(lines ...string) func(string) (string, bool) {
	env := map[string]string{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	return func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}
}

// export gives the process an environment of lines NAME=value, for what the
// exporters read by themselves.
func export(t *testing.T, lines ...string) telemetry.Config {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		t.Setenv(name, value)
	}
	return telemetry.Config{Lookup: os.LookupEnv, Version: "v1", Log: slog.New(slog.DiscardHandler)}
}

func start(t *testing.T, cfg telemetry.Config) *telemetry.Telemetry {
	t.Helper()
	tele, err := telemetry.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tele.Shutdown(context.WithoutCancel(t.Context())) })
	return tele
}

// figures adds an instrument and a histogram with something in it.
func figures(t *testing.T, tele *telemetry.Telemetry) {
	t.Helper()
	counter, err := tele.Meter.Int64Counter("sluice.test.things")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), 7)
	times, none := histogram.New(histogram.Durations), histogram.New(histogram.Durations)
	for _, d := range []time.Duration{400 * time.Microsecond, 3 * time.Millisecond, time.Minute} {
		times.Observe(uint64(d))
	}
	tele.Histograms("sluice.test.took", "How long it took.", telemetry.Seconds,
		telemetry.Series{Labels: []attribute.KeyValue{attribute.String("route", "events")}, Histogram: times},
		telemetry.Series{Labels: []attribute.KeyValue{attribute.String("route", "none")}, Histogram: none})
}

func scrape(t *testing.T, tele *telemetry.Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	tele.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

func TestPrometheusGetsFiguresAndHistograms(t *testing.T) {
	t.Parallel()
	tele := start(t, telemetry.Config{})
	figures(t, tele)
	got := scrape(t, tele)
	for _, line := range []string{
		"sluice_test_things_total 7",
		`sluice_test_took_seconds_bucket{route="events",le="0.0005"} 1`,
		`sluice_test_took_seconds_bucket{route="events",le="0.0025"} 1`,
		`sluice_test_took_seconds_bucket{route="events",le="0.005"} 2`,
		`sluice_test_took_seconds_bucket{route="events",le="10"} 2`,
		`sluice_test_took_seconds_bucket{route="events",le="+Inf"} 3`,
		`sluice_test_took_seconds_sum{route="events"} 60.0034`,
		`sluice_test_took_seconds_count{route="events"} 3`,
		"go_goroutines ",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	if strings.Contains(got, `route="none"`) {
		t.Error("a series that has counted nothing is shown")
	}
}

func TestWithoutTheStandardEnvironmentNothingIsTraced(t *testing.T) {
	t.Parallel()
	for _, lines := range [][]string{
		nil,
		{"OTEL_SERVICE_NAME=shop", "OTEL_TRACES_SAMPLER=always_on", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
		{"OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=prometheus", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"},
		{"OTEL_SDK_DISABLED=TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_TRACES_SAMPLER=unused"},
	} {
		tele := start(t, telemetry.Config{Lookup: set(lines...)})
		if tele.Tracer != nil {
			t.Errorf("%v: traces go somewhere", lines)
		}
		figures(t, tele)
		if !strings.Contains(scrape(t, tele), "sluice_test_things_total 7") {
			t.Errorf("%v: Prometheus gets nothing", lines)
		}
	}
}

func TestABadValueIsNamedWithWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	const on = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"
	for line, want := range map[string]string{
		"OTEL_TRACES_EXPORTER=jaeger":                                              `OTEL_TRACES_EXPORTER="jaeger": right would be one of otlp, none`,
		"OTEL_METRICS_EXPORTER=console":                                            `OTEL_METRICS_EXPORTER="console": right would be one of otlp, prometheus, none`,
		"OTEL_SDK_DISABLED=yes":                                                    `OTEL_SDK_DISABLED="yes": right would be one of true, false`,
		"OTEL_EXPORTER_OTLP_PROTOCOL=http/json":                                    `OTEL_EXPORTER_OTLP_PROTOCOL="http/json": right would be one of http/protobuf, grpc`,
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=udp":                                   `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="udp": right would be`,
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=localhost:4318":                       `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="localhost:4318": not the address of a collector; right would be "http://localhost:4318"`,
		"OTEL_EXPORTER_OTLP_ENDPOINT=http:///v1":                                   `OTEL_EXPORTER_OTLP_ENDPOINT="http:///v1": not the address`,
		"OTEL_EXPORTER_OTLP_TIMEOUT=10s":                                           `OTEL_EXPORTER_OTLP_TIMEOUT="10s": not a whole number`,
		"OTEL_EXPORTER_OTLP_COMPRESSION=zstd":                                      `OTEL_EXPORTER_OTLP_COMPRESSION="zstd": right would be one of gzip, none`,
		"OTEL_EXPORTER_OTLP_INSECURE=1":                                            `OTEL_EXPORTER_OTLP_INSECURE="1": right would be one of true, false`,
		"OTEL_EXPORTER_OTLP_HEADERS=s3cr3t":                                        `OTEL_EXPORTER_OTLP_HEADERS="…": right would be NAME=VALUE,NAME=VALUE`,
		"OTEL_EXPORTER_OTLP_CERTIFICATE=testdata/none.pem":                         `OTEL_EXPORTER_OTLP_CERTIFICATE="testdata/none.pem": not a file of certificates in PEM`,
		"OTEL_EXPORTER_OTLP_CERTIFICATE=telemetry_test.go":                         `no certificate in it`,
		"OTEL_EXPORTER_OTLP_CLIENT_KEY=testdata/none.pem":                          `OTEL_EXPORTER_OTLP_CLIENT_KEY="testdata/none.pem" not a certificate and its key in PEM`,
		"OTEL_TRACES_SAMPLER=sometimes":                                            `OTEL_TRACES_SAMPLER="sometimes": right would be one of always_on`,
		"OTEL_TRACES_SAMPLER_ARG=10%|OTEL_TRACES_SAMPLER=traceidratio":             `OTEL_TRACES_SAMPLER_ARG="10%": not a share from 0 to 1`,
		"OTEL_TRACES_SAMPLER_ARG=1.5|OTEL_TRACES_SAMPLER=parentbased_traceidratio": `OTEL_TRACES_SAMPLER_ARG="1.5": not a share`,
		"OTEL_TRACES_SAMPLER_ARG=NaN|OTEL_TRACES_SAMPLER=traceidratio":             `OTEL_TRACES_SAMPLER_ARG="NaN": not a share`,
		"OTEL_RESOURCE_ATTRIBUTES=production":                                      `OTEL_RESOURCE_ATTRIBUTES="production": right would be NAME=VALUE,NAME=VALUE`,
		"OTEL_RESOURCE_ATTRIBUTES=a=%zz":                                           `OTEL_RESOURCE_ATTRIBUTES="a=%zz": invalid URL escape`,
		"OTEL_BSP_MAX_QUEUE_SIZE=0":                                                `OTEL_BSP_MAX_QUEUE_SIZE="0": not a whole number of 1 or more`,
		"OTEL_METRIC_EXPORT_INTERVAL=-1":                                           `OTEL_METRIC_EXPORT_INTERVAL="-1": not a whole number of 1 or more`,
	} {
		_, err := telemetry.New(t.Context(), telemetry.Config{Lookup: set(append([]string{on}, strings.Split(line, "|")...)...)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
			continue
		}
		if strings.Contains(err.Error(), "s3cr3t") || !strings.Contains(line, "CERTIFICATE") && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", line, err)
		}
	}
	_, err := telemetry.New(t.Context(), telemetry.Config{Lookup: set(on, "OTEL_TRACES_SAMPLER=a", "OTEL_METRIC_EXPORT_TIMEOUT=b")})
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two faults are reported as: %v", err)
	}
}

// span makes one whole span.
func span(tele *telemetry.Telemetry) trace.Span {
	parent, _ := tracing.Parse(tracingtest.Traceparent)
	s := tele.Tracer.Request("POST /v1/events", time.Now(), parent, nil)
	s.End()
	return s
}

func TestACollectorGetsTracesAndFigures(t *testing.T) {
	const grpcTraces = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
	const grpcMetrics = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
	for _, tt := range []struct {
		name            string
		env             []string // COLLECTOR stands for its address
		traces, metrics string   // where they arrive, "" if nowhere
	}{
		{"one address", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=COLLECTOR"}, "/v1/traces", "/v1/metrics"},
		{"one address with a path", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=COLLECTOR/otlp/"}, "/otlp/v1/traces", "/otlp/v1/metrics"},
		{"gRPC", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=COLLECTOR", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, grpcTraces, grpcMetrics},
		{"each in its own way", []string{
			"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=COLLECTOR/here", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=COLLECTOR", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=grpc",
		}, "/here", grpcMetrics},
		{"traces only", []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=COLLECTOR/t"}, "/t", ""},
		{"metrics only", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=COLLECTOR", "OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=otlp"}, "", "/v1/metrics"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCollector(t)
			env := []string{"OTEL_SERVICE_NAME=shop", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=te%20st", "OTEL_EXPORTER_OTLP_HEADERS=x-token=abc"}
			for _, line := range tt.env {
				env = append(env, strings.Replace(line, "COLLECTOR", c.server.URL, 1))
			}
			tele := start(t, export(t, env...))
			figures(t, tele)
			if (tele.Tracer != nil) != (tt.traces != "") {
				t.Fatalf("tracer %v", tele.Tracer)
			}
			var made trace.Span
			if tele.Tracer != nil {
				made = span(tele)
			}
			tele.Shutdown(t.Context()) // exports what there is
			about := []string{"service.name", "shop", "deployment.environment.name", "te st", "service.version", "service.instance.id"}
			if tt.metrics != "" {
				c.want(tt.metrics, append(about, "sluice.test.things", "sluice.test.took", "events")...)
			}
			if tt.traces != "" {
				traceID, _ := hex.DecodeString(tracingtest.TraceID)
				spanID := made.SpanContext().SpanID()
				c.want(tt.traces, append(about, "POST /v1/events", string(traceID), string(spanID[:]))...)
			}
			if got := c.header.Get("X-Token"); got != "abc" {
				t.Errorf("the collector got the token %q", got)
			}
			if want := min(1, len(tt.traces)) + min(1, len(tt.metrics)); len(c.bodies) != want {
				t.Errorf("%d paths were sent something, want %d", len(c.bodies), want)
			}
		})
	}
}

// A collector that takes requests and never answers is worse than one that is
// not there. Nobody waits for it: the test would not end.
func TestACollectorThatHangsHoldsUpNobody(t *testing.T) {
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			c := newCollector(t)
			c.wait = make(chan struct{})
			defer close(c.wait)
			log := &testenv.Log{}
			cfg := export(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.server.URL, "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol,
				"OTEL_EXPORTER_OTLP_TIMEOUT=50", "OTEL_BSP_SCHEDULE_DELAY=1", "OTEL_BSP_EXPORT_TIMEOUT=50",
				"OTEL_METRIC_EXPORT_INTERVAL=10", "OTEL_METRIC_EXPORT_TIMEOUT=50")
			cfg.Log = slog.New(slog.NewTextHandler(log, nil))
			tele := start(t, cfg)
			figures(t, tele)
			for range 3 * 2048 { // the queue of spans has room for 2048
				span(tele)
			}
			log.Await(t, "signal=traces")
			log.Await(t, "signal=metrics")
			if !strings.Contains(scrape(t, tele), "sluice_test_things_total 7") {
				t.Error("Prometheus gets nothing")
			}
			stop, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			tele.Shutdown(stop)
			cancel()
			for _, signal := range []string{"signal=traces", "signal=metrics"} {
				if n := strings.Count(log.String(), signal); n != 1 {
					t.Errorf("%d lines with %s, want one a minute:\n%s", n, signal, log)
				}
			}
		})
	}
}

func TestAnUnreachableCollectorHoldsUpNeitherStartNorStop(t *testing.T) {
	c := newCollector(t)
	c.server.Close()
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		tele := start(t, export(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.server.URL, "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol))
		span(tele)
		// The exporters would try for ten seconds.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		begin := time.Now()
		tele.Shutdown(ctx)
		cancel()
		if took := time.Since(begin); took > 4*time.Second {
			t.Errorf("%s: a stop took %v", protocol, took)
		}
	}
}
