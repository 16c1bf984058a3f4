// Package tracing is what the stages know of traces: when a span is made, what
// it continues and what it is linked to. It knows the interface of
// OpenTelemetry and not its SDK: where spans go is the program's business.
//
// A nil Tracer is one that is off. Whether a trace is sampled is decided here,
// before anything is made, so that what is not sampled costs no memory.
package tracing

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/event"
)

// MaxLinks bounds the links of a span. A call may carry the events of thousands
// of requests; a few dozen lead back to them as well as all do.
const MaxLinks = 32

// Sampling says which traces are recorded.
type Sampling struct {
	// Ratio is the share of the traces that begin here, 0 to 1. It goes by the
	// trace id, so that others who sample by it choose the same traces.
	Ratio float64
	// IgnoreParent applies the ratio also to traces that began elsewhere.
	// Otherwise those are recorded that their beginner has sampled.
	IgnoreParent bool
}

// Tracer makes spans. Its methods are safe for concurrent use, and for nil.
type Tracer struct {
	tracer       trace.Tracer
	ignoreParent bool
	bound        uint64 // of the ids that are sampled, see admits
}

// New returns a Tracer whose spans go to t, which must record each of them and
// take the ids of new traces from IDs.
func New(t trace.Tracer, s Sampling) *Tracer {
	bound := uint64(math.MaxUint64)
	if s.Ratio < 1 {
		bound = uint64(s.Ratio * (1 << 63))
	}
	return &Tracer{tracer: t, ignoreParent: s.IgnoreParent, bound: bound}
}

// admits decides by the id of a trace as the SDK's TraceIDRatioBased does.
func (t *Tracer) admits(id trace.TraceID) bool { return binary.BigEndian.Uint64(id[8:])>>1 < t.bound }

// samples decides on a trace that began elsewhere.
func (t *Tracer) samples(parent trace.SpanContext) bool {
	if t.ignoreParent {
		return t.admits(parent.TraceID())
	}
	return parent.IsSampled()
}

// Request begins the span of a request that came at a time. parent is what the
// request names as its own, and state the lines of its tracestate header; if
// the parent is not valid, a trace begins here. The span is nil if the trace is
// not sampled.
func (t *Tracer) Request(name string, at time.Time, parent trace.SpanContext, state []string) trace.Span {
	if t == nil {
		return nil
	}
	ctx := context.Background()
	if parent.IsValid() {
		if !t.samples(parent) {
			return nil
		}
		// A state that cannot be read is left out, as the standard asks.
		if ts, err := trace.ParseTraceState(strings.Join(state, ",")); err == nil {
			parent = parent.WithTraceState(ts)
		}
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	} else {
		id := newTraceID()
		if !t.admits(id) {
			return nil
		}
		ctx = context.WithValue(ctx, idKey{}, id)
	}
	_, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(at)) //nolint:spancheck // the caller ends it
	return span                                                                                             //nolint:spancheck // likewise
}

// Causes are the spans that a call is made for: each once, at most MaxLinks,
// and only those that are sampled. The zero value is empty.
type Causes struct{ all []trace.SpanContext }

// Add adds a span.
func (c *Causes) Add(sc trace.SpanContext) {
	if !sc.IsSampled() || len(c.all) == MaxLinks {
		return
	}
	same := func(o trace.SpanContext) bool { return o.SpanID() == sc.SpanID() && o.TraceID() == sc.TraceID() }
	if !slices.ContainsFunc(c.all, same) {
		c.all = append(c.all, sc)
	}
}

// AddText adds the span that a traceparent names, if it names one.
func (c *Causes) AddText(traceparent string) {
	if traceparent == "" || len(c.all) == MaxLinks {
		return
	}
	if sc, ok := Parse(traceparent); ok {
		c.Add(sc)
	}
}

// Call begins the span of a call that is made for others, with links to them:
// within the trace of the one, or in a trace of its own if there are several.
// The span is nil, and the context as it was, if none of them is sampled.
func (t *Tracer) Call(ctx context.Context, name string, kind trace.SpanKind, causes *Causes) (context.Context, trace.Span) {
	if t == nil {
		return ctx, nil
	}
	links := make([]trace.Link, 0, len(causes.all))
	for _, sc := range causes.all {
		if t.samples(sc) {
			links = append(links, trace.Link{SpanContext: sc})
		}
	}
	switch len(links) {
	case 0:
		return ctx, nil
	case 1:
		ctx = trace.ContextWithSpanContext(ctx, links[0].SpanContext)
	}
	return t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithLinks(links...)) //nolint:spancheck // the caller ends it
}

// Parse reads a traceparent header. Of a version that is not known it reads
// what version 00 has. Source: W3C Trace Context, section 3.2.
func Parse(traceparent string) (trace.SpanContext, bool) {
	const size = 55
	if len(traceparent) >= size && laterVersion(traceparent[:2]) && (len(traceparent) == size || traceparent[size] == '-') {
		traceparent = "00" + traceparent[2:size]
	}
	if !event.IsTraceparent(traceparent) {
		return trace.SpanContext{}, false
	}
	// The digits are hexadecimal: IsTraceparent has seen to it.
	var ids [16 + 8 + 1]byte
	_ = decode(ids[:16], traceparent[3:35])
	_ = decode(ids[16:24], traceparent[36:52])
	_ = decode(ids[24:], traceparent[53:])
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID(ids[:16]), SpanID: trace.SpanID(ids[16:24]), TraceFlags: trace.TraceFlags(ids[24]), Remote: true,
	}), true
}

// laterVersion reports whether two digits are a version after 00.
func laterVersion(digits string) bool {
	var version [1]byte
	return digits != "00" && digits != "ff" && digits == strings.ToLower(digits) && decode(version[:], digits) == nil
}

func decode(dst []byte, digits string) error {
	_, err := hex.Decode(dst, []byte(digits))
	return err
}

// Text writes a span as a traceparent.
func Text(sc trace.SpanContext) string {
	traceID, spanID := sc.TraceID(), sc.SpanID()
	var text [55]byte
	copy(text[:], "00-")
	hex.Encode(text[3:], traceID[:])
	text[35] = '-'
	hex.Encode(text[36:], spanID[:])
	copy(text[52:], "-00")
	if sc.IsSampled() {
		text[54] = '1'
	}
	return string(text[:])
}

// IDs makes the ids of spans. It is an IDGenerator of the SDK that gives a new
// trace the id by which it was sampled.
type IDs struct{}

type idKey struct{}

// NewIDs returns the ids of a trace and of its first span.
func (IDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, ok := ctx.Value(idKey{}).(trace.TraceID)
	if !ok {
		id = newTraceID()
	}
	return id, IDs{}.NewSpanID(ctx, id)
}

// NewSpanID returns the id of another span of a trace.
func (IDs) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

func newTraceID() (id trace.TraceID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id
}
