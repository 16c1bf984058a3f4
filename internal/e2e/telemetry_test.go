package e2e

import (
	"bytes"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// collector takes OTLP over HTTP and keeps what it was sent: text stands in the
// messages as it is.
type collector struct {
	server *httptest.Server
	// hangs is read from before anything is answered; nil answers at once.
	hangs chan struct{}
	mu    sync.Mutex
	sent  map[string][]byte // by path
}

func newCollector(t *testing.T, hangs chan struct{}) *collector {
	c := &collector{hangs: hangs, sent: map[string][]byte{}}
	c.server = httptest.NewServer(c)
	t.Cleanup(c.server.Close)
	return c
}

func (c *collector) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	c.mu.Lock()
	c.sent[r.URL.Path] = append(c.sent[r.URL.Path], body...)
	c.mu.Unlock()
	if c.hangs != nil {
		<-c.hangs
	}
}

func (c *collector) want(t *testing.T, path string, texts ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, text := range texts {
		if !bytes.Contains(c.sent[path], []byte(text)) {
			t.Errorf("%s was not sent %q", path, text)
		}
	}
}

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// tracedHook is a webhook's receiver and the documents that lead there. It
// passes on the traceparent of each event.
func tracedHook(t *testing.T) (documents, <-chan string) {
	got := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Traceparent") }))
	t.Cleanup(server.Close)
	docs := everythingToWarehouse
	docs.rules = `[{"destination_name":"crm","enabled_events":["*"]}]`
	docs.destinations = `[{"destination_name":"crm","connector":"webhook","settings":{"url":"` + server.URL + `","allow_private":true}}]`
	return docs, got
}

func receive(t *testing.T, got <-chan string) string {
	t.Helper()
	select {
	case header := <-got:
		return header
	case <-time.After(patience):
		t.Fatal("the webhook was not called")
		return ""
	}
}

// TestATraceLeadsFromTheSenderToTheReceiver follows one event through the
// program: its trace goes to the collector and on to the webhook's receiver.
func TestATraceLeadsFromTheSenderToTheReceiver(t *testing.T) {
	t.Parallel()
	docs, got := tracedHook(t)
	c := newCollector(t, nil)
	p := start(t, dataFolder(t, docs), "OTEL_EXPORTER_OTLP_ENDPOINT="+c.server.URL, "OTEL_SERVICE_NAME=shop")
	if a := p.send("/v1/events", `{"name":"bought","user_id":"u1"}`, http.Header{"Traceparent": {traceparent}}); a.status != http.StatusAccepted {
		t.Fatalf("%d %s", a.status, a.body)
	}
	header := receive(t, got)
	if !strings.HasPrefix(header, traceparent[:36]) || header == traceparent {
		t.Errorf("the receiver was told %q, want a span of the trace %s", header, traceID)
	}
	resp, err := http.Get(p.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	figures, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`sluice_gateway_answer_time_seconds_count{class="2xx",route="events"} 1`,
		`sluice_producer_call_records_bucket{le="1"} 1`, `sluice_producer_record_events_sum 1`, `sluice_producer_call_size_bytes_count 1`,
	} {
		if !bytes.Contains(figures, []byte(line)) {
			t.Errorf("no %q in\n%s", line, figures)
		}
	}
	p.stop() // exports what is left
	trace, _ := hex.DecodeString(traceID)
	c.want(t, "/v1/traces", "shop", string(trace), "POST /v1/events", "PutRecords", "deliver crm")
	c.want(t, "/v1/metrics", "shop", "sluice.gateway.answer_time", "sluice.events.accepted")
}

// TestTheSendersTraceTravelsAlsoIfNobodyTracesHere: without the variables of
// OpenTelemetry the program makes no spans and passes on the sender's.
func TestTheSendersTraceTravelsAlsoIfNobodyTracesHere(t *testing.T) {
	t.Parallel()
	docs, got := tracedHook(t)
	p := start(t, dataFolder(t, docs))
	for _, header := range []http.Header{{"Traceparent": {traceparent}}, nil} {
		if a := p.send("/v1/events", `{"name":"bought"}`, header); a.status != http.StatusAccepted {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if told := receive(t, got); told != header.Get("Traceparent") {
			t.Errorf("the receiver was told %q, want %q", told, header.Get("Traceparent"))
		}
	}
	p.stop()
}

// TestACollectorThatHangsHarmsNobody: events go their way, and the program
// stops in order and in time.
func TestACollectorThatHangsHarmsNobody(t *testing.T) {
	t.Parallel()
	docs, got := tracedHook(t)
	hangs := make(chan struct{})
	c := newCollector(t, hangs)
	defer close(hangs)
	p := start(t, dataFolder(t, docs), "OTEL_EXPORTER_OTLP_ENDPOINT="+c.server.URL, "OTEL_BSP_SCHEDULE_DELAY=1", "OTEL_METRIC_EXPORT_INTERVAL=10")
	for range 20 {
		if a := p.send("/v1/events", `{"name":"bought"}`, nil); a.status != http.StatusAccepted {
			t.Fatalf("%d %s", a.status, a.body)
		}
		receive(t, got)
	}
	p.stop()
}

func TestABadVariableOfOpenTelemetryStopsTheStart(t *testing.T) {
	t.Parallel()
	p := launch(t, dataFolder(t, everythingToWarehouse), "OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4318", "OTEL_TRACES_SAMPLER=sometimes")
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("sluice has started")
	}
	said := p.out.String()
	for _, line := range []string{`OTEL_EXPORTER_OTLP_ENDPOINT="localhost:4318": `, `OTEL_TRACES_SAMPLER="sometimes": right would be one of always_on`} {
		if p.err == nil || strings.Count(said, line) != 1 {
			t.Errorf("ended with %v and no line %q:\n%s", p.err, line, said)
		}
	}
}
