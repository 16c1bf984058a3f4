package tracing_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/telemetry/tracing"
	"github.com/eventsluice/sluice/internal/telemetry/tracingtest"
)

var all = tracing.Sampling{Ratio: 1}

func parse(t *testing.T, traceparent string) trace.SpanContext {
	t.Helper()
	sc, ok := tracing.Parse(traceparent)
	if !ok {
		t.Fatalf("%q is no traceparent", traceparent)
	}
	return sc
}

func TestTraceparentsAreReadAndWritten(t *testing.T) {
	t.Parallel()
	const later = "-" + tracingtest.TraceID + "-" + tracingtest.SpanID + "-01"
	for header, want := range map[string]string{
		tracingtest.Traceparent: tracingtest.Traceparent,
		tracingtest.Unsampled:   tracingtest.Unsampled,
		// The flag for random ids, which is not passed on.
		strings.TrimSuffix(tracingtest.Traceparent, "1") + "3": tracingtest.Traceparent,
		// What a later version adds is not known.
		"01" + later:            tracingtest.Traceparent,
		"cc" + later + "-extra": tracingtest.Traceparent,
		"cc" + later + "extra":  "",
		"00" + later + "-extra": "",
		"CC" + later:            "",
		"ff" + later:            "",
		"0g" + later:            "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": "",
		"00": "",
		"":   "",
	} {
		sc, ok := tracing.Parse(header)
		switch {
		case ok != (want != ""):
			t.Errorf("%q: read %t", header, ok)
		case ok && tracing.Text(sc) != want:
			t.Errorf("%q is written as %s", header, tracing.Text(sc))
		case ok && !sc.IsRemote():
			t.Errorf("%q: not remote", header)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(tracingtest.Traceparent)
	f.Add("01-" + tracingtest.TraceID + "-" + tracingtest.SpanID + "-03-more")
	f.Fuzz(func(t *testing.T, header string) {
		sc, ok := tracing.Parse(header)
		if ok != sc.IsValid() {
			t.Fatalf("%q: read %t, valid %t", header, ok, sc.IsValid())
		}
		if !ok {
			return
		}
		again, ok := tracing.Parse(tracing.Text(sc))
		if !ok || again.TraceID() != sc.TraceID() || again.SpanID() != sc.SpanID() || again.IsSampled() != sc.IsSampled() {
			t.Fatalf("%q is written as %s", header, tracing.Text(sc))
		}
	})
}

func TestARequestContinuesTheTraceOfItsSender(t *testing.T) {
	t.Parallel()
	tracer, spans := tracingtest.New(t, all)
	at := time.Now().Add(-time.Second)
	tracer.Request("POST /v1/events", at, parse(t, tracingtest.Traceparent), []string{"a=1", "b=2"}).End()
	span := spans.One(trace.SpanKindServer)
	if span.Context.TraceID().String() != tracingtest.TraceID || span.Parent.SpanID().String() != tracingtest.SpanID || !span.Parent.IsRemote() {
		t.Errorf("%+v", span)
	}
	if got := span.Context.TraceState().String(); got != "a=1,b=2" {
		t.Errorf("the state of the trace is %q", got)
	}
	tracer.Request("POST /v1/events", at, parse(t, tracingtest.Traceparent), []string{"not a state"}).End()
	if got := spans.All()[1]; got.Context.TraceState().Len() != 0 || got.Parent.SpanID().String() != tracingtest.SpanID {
		t.Errorf("with a bad state: %+v", got)
	}
}

func TestWhatIsSampled(t *testing.T) {
	t.Parallel()
	sampled, unsampled := parse(t, tracingtest.Traceparent), parse(t, tracingtest.Unsampled)
	for _, tt := range []struct {
		name                     string
		sampling                 tracing.Sampling
		root, sampled, unsampled bool
	}{
		{"parentbased_always_on", all, true, true, false},
		{"parentbased_always_off", tracing.Sampling{}, false, true, false},
		{"always_on", tracing.Sampling{Ratio: 1, IgnoreParent: true}, true, true, true},
		{"always_off", tracing.Sampling{IgnoreParent: true}, false, false, false},
	} {
		tracer, spans := tracingtest.New(t, tt.sampling)
		for _, c := range []struct {
			parent trace.SpanContext
			want   bool
		}{{trace.SpanContext{}, tt.root}, {sampled, tt.sampled}, {unsampled, tt.unsampled}} {
			span := tracer.Request("r", time.Now(), c.parent, nil)
			if (span != nil) != c.want {
				t.Errorf("%s, parent %s: sampled %t", tt.name, tracing.Text(c.parent), span != nil)
			}
			if span != nil {
				span.End()
			}
		}
		for _, span := range spans.All() {
			if !span.Context.IsSampled() {
				t.Errorf("%s: a span that is not sampled: %+v", tt.name, span)
			}
		}
		var causes tracing.Causes
		causes.Add(sampled)
		if _, span := tracer.Call(t.Context(), "c", trace.SpanKindProducer, &causes); (span != nil) != tt.sampled {
			t.Errorf("%s: call sampled %t", tt.name, span != nil)
		}
	}
}

// The share goes by the id that the trace then has: whoever samples by it
// chooses the same.
func TestTheShareOfTracesGoesByTheirID(t *testing.T) {
	t.Parallel()
	const n = 2000
	tracer, spans := tracingtest.New(t, tracing.Sampling{Ratio: 0.25})
	for range n {
		if span := tracer.Request("r", time.Now(), trace.SpanContext{}, nil); span != nil {
			span.End()
		}
	}
	made := spans.All()
	if len(made) < n/5 || len(made) > n*3/10 { // 5 standard deviations
		t.Errorf("%d of %d are sampled", len(made), n)
	}
	for _, span := range made {
		if id := span.Context.TraceID(); id[8]>>6 != 0 {
			t.Fatalf("%s is not in the lowest quarter of ids", id)
		}
	}
}

func TestACallIsLinkedToWhatItIsMadeFor(t *testing.T) {
	t.Parallel()
	tracer, spans := tracingtest.New(t, all)
	call := func(causes *tracing.Causes) tracingtest.Span {
		ctx, span := tracer.Call(t.Context(), "c", trace.SpanKindProducer, causes)
		if !trace.SpanContextFromContext(ctx).Equal(span.SpanContext()) {
			t.Error("the context has another span")
		}
		span.End()
		made := spans.All()
		return made[len(made)-1]
	}
	var one tracing.Causes
	one.AddText("")
	one.AddText("nonsense")
	one.AddText(tracingtest.Unsampled)
	one.AddText(tracingtest.Traceparent)
	one.AddText(tracingtest.Traceparent)
	if got := call(&one); got.Parent.SpanID().String() != tracingtest.SpanID || got.Context.TraceID().String() != tracingtest.TraceID || len(got.Links) != 1 {
		t.Errorf("a call for one: %+v", got)
	}
	many := one
	for i := range 2 * tracing.MaxLinks {
		many.AddText(fmt.Sprintf("00-%032x-%016x-01", i+1, i+1))
	}
	if got := call(&many); got.Parent.IsValid() || len(got.Links) != tracing.MaxLinks || got.Links[0].SpanID().String() != tracingtest.SpanID {
		t.Errorf("a call for many: %+v", got)
	}
	ctx := context.Background()
	if got, span := tracer.Call(ctx, "c", trace.SpanKindProducer, new(tracing.Causes)); span != nil || got != ctx {
		t.Error("a call for nothing that is traced has a span")
	}
}

func TestWhatIsNotSampledCostsNoMemory(t *testing.T) {
	unsampled := parse(t, tracingtest.Unsampled)
	none, _ := tracingtest.New(t, tracing.Sampling{})
	ctx := context.Background()
	state := []string{"a=1"}
	for name, tracer := range map[string]*tracing.Tracer{"off": nil, "on": none} {
		if n := testing.AllocsPerRun(100, func() {
			if tracer.Request("r", time.Time{}, trace.SpanContext{}, nil) != nil || tracer.Request("r", time.Time{}, unsampled, state) != nil {
				t.Error("a span was made")
			}
			sc, _ := tracing.Parse(tracingtest.Unsampled)
			var causes tracing.Causes
			causes.Add(sc)
			causes.AddText(tracingtest.Unsampled)
			if _, span := tracer.Call(ctx, "c", trace.SpanKindProducer, &causes); span != nil {
				t.Error("a span was made")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
