package edge

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
	"github.com/eventsluice/sluice/internal/telemetry/tracing"
	"github.com/eventsluice/sluice/internal/telemetry/tracingtest"
)

// traceparentOf returns what a stored event carries.
func traceparentOf(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	var e struct{ Traceparent string }
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	return e.Traceparent
}

func TestWithoutATracerEventsCarryTheSampledSpanOfTheirSender(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		header []string
		want   string
	}{
		"none":                {nil, ""},
		"sampled":             {[]string{"Traceparent: " + tracingtest.Traceparent}, tracingtest.Traceparent},
		"not sampled":         {[]string{"Traceparent: " + tracingtest.Unsampled}, ""},
		"of a later version":  {[]string{"Traceparent: 01" + tracingtest.Traceparent[2:] + "-more"}, tracingtest.Traceparent},
		"no traceparent":      {[]string{"Traceparent: " + tracingtest.Traceparent + "0"}, ""},
		"two, which are none": {[]string{"Traceparent: " + tracingtest.Traceparent, "Traceparent: " + tracingtest.Traceparent}, ""},
	} {
		r := newRig(t, Config{})
		r.post("/v1/events", "wk_web", `[{"name":"a"},{"name":"b","traceparent":"`+tracingtest.Unsampled+`"}]`, tt.header...).want(http.StatusAccepted, "")
		r.post("/v1/batch", "wk_web", `{"batch":[{"type":"track","event":"c"}]}`, tt.header...).want(http.StatusOK, "")
		for i, raw := range r.stream.stored {
			if got := traceparentOf(t, raw); got != tt.want {
				t.Errorf("%s: event %d carries %q, want %q", name, i, got, tt.want)
			}
		}
		// What the event says of itself is the sender's own.
		if got := string(r.events()[1].extra(t)["traceparent"]); got != `"`+tracingtest.Unsampled+`"` {
			t.Errorf("%s: the member of the event became %s", name, got)
		}
	}
}

func TestASpanSaysWhatBecameOfItsRequest(t *testing.T) {
	t.Parallel()
	tracer, spans := tracingtest.New(t, tracing.Sampling{Ratio: 1})
	r := newRig(t, Config{Tracer: tracer})
	r.stream.refuse = func(e stored) error {
		if e.Name == "away" {
			return fault.New(fault.Unavailable, "the stream is away")
		}
		return nil
	}
	for _, tt := range []struct {
		path, key, body, name, status string
		want                          map[string]any
	}{
		{"/v1/events", "wk_web", `[{"name":"a"},{"name":""}]`, "POST /v1/events", "Unset", map[string]any{
			"http.response.status_code": int64(207), "sluice.events.accepted": int64(1), "sluice.events.rejected": int64(1), "sluice.source": "web",
			"http.request.method": "POST", "http.route": "/v1/events", "url.path": "/v1/events", "url.scheme": "http",
			"server.address": "example.com", "network.protocol.version": "1.1", "http.request.body.size": int64(26), "error.type": nil,
		}},
		{"/v1/track/", "wk_web", `{"event":"a"}`, "POST /v1/track", "Unset", map[string]any{
			"http.response.status_code": int64(200), "sluice.events.accepted": int64(1), "sluice.events.rejected": int64(0),
			"http.route": "/v1/track", "url.path": "/v1/track/",
		}},
		{"/v1/events", "wk_nobody", `{"name":"a"}`, "POST /v1/events", "Unset", map[string]any{
			"http.response.status_code": int64(401), "sluice.events.accepted": int64(0), "error.type": "unknown_key", "sluice.source": nil,
		}},
		{"/v1/events?write_key=wk_web", "", `{"name":"away"}`, "POST /v1/events", "Error", map[string]any{
			"http.response.status_code": int64(503), "sluice.events.accepted": int64(0), "sluice.events.rejected": int64(1), "error.type": "unavailable",
			"url.path": "/v1/events",
		}},
	} {
		before := len(spans.All())
		r.post(tt.path, tt.key, tt.body)
		made := spans.All()[before:]
		if len(made) != 1 {
			t.Errorf("%s: %d spans", tt.path, len(made))
			continue
		}
		got := made[0]
		if got.Name != tt.name || got.Status != tt.status || got.Kind != trace.SpanKindServer || got.Parent.IsValid() {
			t.Errorf("%s: %+v", tt.path, got)
		}
		for name, want := range tt.want {
			if got.Attributes[name] != want {
				t.Errorf("%s: %s is %v, want %v", tt.path, name, got.Attributes[name], want)
			}
		}
	}
	before := len(spans.All())
	r.do(newRequest(http.MethodGet, "/livez", "", ""))
	r.do(newRequest(http.MethodOptions, "/v1/events", "", ""))
	r.do(newRequest(http.MethodPost, "/v1/nothing", "", ""))
	if n := len(spans.All()) - before; n != 0 {
		t.Errorf("%d spans of requests that send no events", n)
	}
}

// A request that is traced, one that is not, and one that begins a trace share
// calls to the stream; the second call carries the events of two.
func TestATraceLeadsFromTheRequestToTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tracer, spans := tracingtest.New(t, tracing.Sampling{Ratio: 1})
		r := newRig(t, Config{Tracer: tracer, Log: slog.New(slog.DiscardHandler)})
		memory := streamtest.NewMemory(t, streamtest.Limits{})
		gate := make(chan struct{})
		p, err := producer.New(streamtest.Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
			if !trace.SpanContextFromContext(ctx).IsSampled() {
				t.Error("the stream is called without the span")
			}
			<-gate
			return memory.PutRecords(ctx, records)
		}), r.intake, producer.Config{Tracer: tracer})
		if err != nil {
			t.Fatal(err)
		}
		r.edge.stream = p
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()

		var senders sync.WaitGroup
		post := func(user string, header ...string) {
			senders.Go(func() {
				body := `[{"name":"a","user_id":"` + user + `"},{"name":"b","user_id":"` + user + `2"}]`
				w := httptest.NewRecorder()
				r.edge.ServeHTTP(w, newRequest(http.MethodPost, "/v1/events", "wk_web", body, header...))
				if w.Code != http.StatusAccepted {
					t.Errorf("answered %d %s", w.Code, w.Body)
				}
			})
			synctest.Wait()
		}
		post("u1", "Traceparent: "+tracingtest.Traceparent)
		post("u2")
		post("u3", "Traceparent: "+tracingtest.Unsampled)
		gate <- struct{}{}
		gate <- struct{}{}
		senders.Wait()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}

		var requests, calls []tracingtest.Span
		for _, span := range spans.All() {
			switch span.Kind {
			case trace.SpanKindServer:
				requests = append(requests, span)
			case trace.SpanKindProducer:
				calls = append(calls, span)
			}
		}
		if len(requests) != 2 || len(calls) != 2 {
			t.Fatalf("%d spans of requests and %d of calls, want 2 and 2", len(requests), len(calls))
		}
		if requests[0].Context.TraceID().String() != tracingtest.TraceID {
			requests[0], requests[1] = requests[1], requests[0]
		}
		first, second := requests[0], requests[1]
		if first.Parent.SpanID().String() != tracingtest.SpanID || second.Parent.IsValid() {
			t.Errorf("requests: %+v", requests)
		}
		for i, want := range []tracingtest.Span{first, second} {
			if len(calls[i].Links) != 1 || calls[i].Links[0].SpanID() != want.Context.SpanID() || calls[i].Parent.SpanID() != want.Context.SpanID() {
				t.Errorf("call %d is linked to %+v, want %s", i, calls[i].Links, want.Context.SpanID())
			}
		}
		if got := calls[1].Attributes["sluice.events"]; got != int64(4) {
			t.Errorf("the second call has %v events, want those of both requests", got)
		}
		carried := map[string]int{}
		for _, raw := range memory.Events() {
			carried[traceparentOf(t, raw)]++
		}
		if len(carried) != 3 || carried[tracing.Text(first.Context)] != 2 || carried[tracing.Text(second.Context)] != 2 || carried[""] != 2 {
			t.Errorf("the stored events carry %v", carried)
		}
	})
}

// Exchanges are used again.
func TestATraceEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	tracer, _ := tracingtest.New(t, tracing.Sampling{Ratio: 1})
	r := newRig(t, Config{Tracer: tracer})
	x := &exchange{edge: r.edge}
	x.begin(httptest.NewRecorder(), newRequest(http.MethodPost, "/v1/events", "wk_web", `{"name":"a"}`, "Traceparent: "+tracingtest.Traceparent))
	x.trace()
	x.events()
	if x.span == nil || x.traceparent == "" || !x.batch.Span.IsValid() || x.accepted != 1 {
		t.Fatalf("span %v, events carry %q, batch of %v, %d accepted", x.span, x.traceparent, x.batch.Span, x.accepted)
	}
	r.edge.release(x.reserved)
	x.reset()
	if x.span != nil || x.traceparent != "" || x.batch.Span.IsValid() || x.accepted != 0 {
		t.Errorf("the next request has span %v, events carry %q, batch of %v, %d accepted", x.span, x.traceparent, x.batch.Span, x.accepted)
	}
}

func TestAnswersAreTimedByRouteAndClass(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.stream.refuse = func(e stored) error {
		if e.Name == "away" {
			return errors.New("away")
		}
		return nil
	}
	r.post("/v1/events", "wk_web", `{"name":"a"}`)
	r.post("/v1/events", "wk_web", `{"name":"b"}`)
	r.post("/v1/events", "wk_web", `{"name":"away"}`)
	r.post("/v1/track", "wk_nobody", `{"event":"a"}`)
	got := map[string]uint64{}
	for _, a := range r.edge.AnswerTimes() {
		if s := a.Times.Snapshot(); s.Count > 0 {
			got[a.Route+" "+a.Class] = s.Count
			if s.Sum == 0 {
				t.Errorf("%s %s took no time", a.Route, a.Class)
			}
		}
	}
	if len(got) != 3 || got["events 2xx"] != 2 || got["events 5xx"] != 1 || got["sdk 4xx"] != 1 {
		t.Errorf("counted %v", got)
	}
}

// The benchmark of the handler shows the same for a whole request; here the
// pools of net/http and ours are left out, which the race detector empties.
func TestARequestThatIsNotTracedCostsNoMemory(t *testing.T) {
	none, _ := tracingtest.New(t, tracing.Sampling{})
	for name, tracer := range map[string]*tracing.Tracer{"off": nil, "on": none} {
		for _, header := range []string{"", tracingtest.Unsampled, "nonsense"} {
			r := newRig(t, Config{Tracer: tracer})
			req := newRequest(http.MethodPost, "/v1/events/", "wk_web", "")
			if header != "" {
				req.Header.Set("Traceparent", header)
				req.Header.Set("Tracestate", "a=1")
			}
			x := &exchange{edge: r.edge}
			x.begin(httptest.NewRecorder(), req)
			if n := testing.AllocsPerRun(100, func() {
				x.trace()
				r.edge.stats.request(routeEvents, http.StatusAccepted, codeNone, time.Millisecond)
				x.endSpan()
			}); n != 0 || x.span != nil || x.traceparent != "" {
				t.Errorf("%s, %q: %v allocations, span %v, events carry %q", name, header, n, x.span, x.traceparent)
			}
		}
	}
}

// BenchmarkTrace is what tracing costs a request.
func BenchmarkTrace(b *testing.B) {
	one, _ := tracingtest.New(b, tracing.Sampling{Ratio: 1})
	none, _ := tracingtest.New(b, tracing.Sampling{})
	for _, load := range []struct {
		name   string
		tracer *tracing.Tracer
		header string
	}{
		{"off", nil, ""},
		{"off-unsampled", nil, tracingtest.Unsampled},
		{"off-sampled", nil, tracingtest.Traceparent},
		{"on-unsampled", none, tracingtest.Unsampled},
		{"on-none", none, ""},
		{"on-sampled", one, tracingtest.Traceparent},
	} {
		b.Run(load.name, func(b *testing.B) {
			r := newRig(b, Config{Log: slog.New(slog.DiscardHandler), Tracer: load.tracer})
			req := newRequest(http.MethodPost, "/v1/events", "wk_web", "")
			if load.header != "" {
				req.Header.Set("Traceparent", load.header)
			}
			x := &exchange{edge: r.edge}
			x.begin(httptest.NewRecorder(), req)
			b.ReportAllocs()
			for b.Loop() {
				x.trace()
				x.endSpan()
			}
		})
	}
}
