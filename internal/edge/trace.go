package edge

import (
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/telemetry/tracing"
)

// trace begins the span of the request, and decides what its events carry: that
// span if it is sampled, else the one that the sender names if that is. With
// neither nothing is made. Two traceparent headers are none.
func (x *exchange) trace() {
	var parent trace.SpanContext
	if header := x.req.Header["Traceparent"]; len(header) == 1 {
		parent, _ = tracing.Parse(header[0])
	}
	path := strings.TrimSuffix(x.req.URL.Path, "/") // routes have no variables
	if tracer := x.edge.cfg.Tracer; tracer != nil {
		x.span = tracer.Request(spanNames[endpoint{x.req.Method, path}], x.start, parent, x.req.Header["Tracestate"])
	}
	if x.span == nil {
		if parent.IsSampled() {
			x.traceparent = tracing.Text(parent)
		}
		return
	}
	x.traceparent = tracing.Text(x.span.SpanContext())
	scheme := "http"
	if x.req.TLS != nil {
		scheme = "https"
	}
	x.span.SetAttributes(
		attribute.String("http.request.method", x.req.Method),
		attribute.String("http.route", path),
		attribute.String("url.path", x.req.URL.Path), // without the query: it may hold a key
		attribute.String("url.scheme", scheme),
		attribute.String("network.protocol.version", strings.TrimPrefix(x.req.Proto, "HTTP/")),
		attribute.String("server.address", x.req.Host),
		attribute.String("user_agent.original", x.req.UserAgent()),
	)
}

// endSpan says how the request went.
func (x *exchange) endSpan() {
	if x.span == nil {
		return
	}
	x.span.SetAttributes(
		attribute.Int("http.response.status_code", x.status),
		attribute.Int64("http.request.body.size", x.wireSize),
		attribute.Int("sluice.events.accepted", x.accepted),
		attribute.Int("sluice.events.rejected", len(x.slots)-x.accepted),
	)
	if x.key != nil {
		x.span.SetAttributes(attribute.String("sluice.source", x.key.Source))
	}
	if x.code != codeNone {
		x.span.SetAttributes(attribute.String("error.type", x.code.String()))
	}
	if x.status >= http.StatusInternalServerError {
		// What is the sender's fault is no error of the server's span.
		x.span.SetStatus(otelcodes.Error, strconv.Itoa(x.status)+" "+x.code.String())
	}
	x.span.End()
}

// endpoint is a path and a method that it takes.
type endpoint struct{ method, path string }

// spanNames are method and route of the requests that are traced.
var spanNames = func() map[endpoint]string {
	names := map[endpoint]string{{http.MethodPost, "/v1/events"}: "POST /v1/events"}
	for path, rt := range sdkRoutes {
		for _, method := range rt.methods {
			names[endpoint{method, path}] = method + " " + path
		}
	}
	return names
}()
