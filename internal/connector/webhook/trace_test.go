package webhook

import (
	"net/http"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/telemetry/tracing"
	"github.com/eventsluice/sluice/internal/telemetry/tracingtest"
)

func TestTheReceiverIsToldTheTraceOfTheEvent(t *testing.T) {
	t.Parallel()
	const own = "00-11111111111111111111111111111111-2222222222222222-01"
	attempt, _ := tracing.Parse("00-" + tracingtest.TraceID + "-3333333333333333-01")
	for _, tt := range []struct {
		name, settings, event string
		span                  trace.SpanContext
		want                  string
	}{
		{"not traced", "", "", trace.SpanContext{}, ""},
		{"traced by the sender only", "", tracingtest.Traceparent, trace.SpanContext{}, tracingtest.Traceparent},
		{"traced by us", "", tracingtest.Traceparent, attempt, tracing.Text(attempt)},
		{"a header of the operator wins", `,"headers":{"traceparent":"` + own + `"}`, tracingtest.Traceparent, attempt, own},
	} {
		var got []string
		c := toHandler(t, func(_ http.ResponseWriter, req *http.Request) { got = req.Header["Traceparent"] }, tt.settings)
		d := connectortest.Plain(1)[0]
		d.Event.Traceparent = tt.event
		call := c.Plan([]connector.Delivery{d}).Calls[0]
		if result := c.Send(trace.ContextWithSpanContext(t.Context(), tt.span), call)[0]; result.Class != connector.Delivered {
			t.Fatalf("%s: %+v", tt.name, result)
		}
		if len(got) > 1 || len(got) == 1 && got[0] != tt.want || len(got) == 0 && tt.want != "" {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
