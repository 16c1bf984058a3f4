package edge

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/edge/limit"
	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/schema"
	"github.com/eventsluice/sluice/internal/stream"
)

// exchange is one request and its answer, with the memory that both need. It
// is used again by later requests. It is the http.ResponseWriter that routes
// see, which is how they get at it without a context value.
type exchange struct {
	http.ResponseWriter
	edge  *Edge
	req   *http.Request
	start time.Time
	route route
	// keys is the table in force when the request came; nil if there is none.
	keys   *source.Keys
	origin string // the Origin header
	addr   netip.Addr

	// What authentication has found, see auth.go.
	key       *source.Key
	inactive  *source.Key
	admitted  *source.Key     // the key that was let in
	byToken   *source.Key     // the key that a token stands for
	user      string          // that the token names
	badToken  *source.Refusal // why another token does not count
	receipt   *source.Receipt // of a signed request
	unsigned  bool            // it was let in although it is not signed
	presented bool
	conflict  bool
	secret    [maxKey]byte // where a key is decoded

	// span is nil if the request is not traced; traceparent is what its events
	// carry, see trace.go.
	span        trace.Span
	traceparent string

	// status is that of the answer, zero before it is sent; code is what went
	// wrong, if anything did.
	status int
	code   code
	// accepted is how many events are durable.
	accepted int
	// cause is for the log only.
	cause error

	reserved int64 // bytes held of Config.MaxInFlight
	starved  bool  // there were not enough of them for the events
	wireSize int64 // bytes of the body as sent
	wire     []byte
	body     []byte

	sent     event.SentReader
	event    event.Event
	received string // the time, as events carry it, in clock
	clock    [32]byte
	batch    stream.Batch
	slots    []slot
	ids      []byte
	rejects  []reject
	// aside are events that a schema puts into the quarantine, as a success to
	// their sender; report is what the schema of an event found, see schema.go.
	aside  []reject
	report schema.Report
	out    []byte

	asked limit.Request // what the limits are asked about
	// overRule is one that events are over which the sender is told to send
	// again, nil if there are none; overWait is when.
	overRule *limit.Rule
	overWait time.Duration

	// What the routes of the SDKs use, see sdk.go.
	request  protocol.Request
	decoder  protocol.Decoder // that of the request
	decoders [protocols]protocol.Decoder
	onKey    func(key string)                                // presentText, made once
	onEvent  func(*event.Event, *event.Invalid, []byte) bool // takeNext, made once
	tooMany  bool
	sdkRoute *sdkRoute // nil on other routes
}

func newExchange(e *Edge) *exchange {
	x := &exchange{edge: e}
	x.onKey, x.onEvent = x.presentText, x.takeNext
	return x
}

// slot is one event of the request, in the order in which it was sent.
type slot struct {
	item     int // its index in the batch, or notStored, or putAside
	from, to int // its id in exchange.ids, in quotes
}

// What slot.item is of an event that is not in the batch.
const (
	notStored = -1 - iota // refused
	putAside              // durable in the quarantine, or on its way there
)

// keepBytes is the most memory of one buffer that an exchange keeps for the
// next request: room for the usual batch of an SDK, and a large one does not
// stay for ever.
const keepBytes = 1 << 20

// ServeHTTP answers one request.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := e.exchanges.Get().(*exchange)
	x.begin(w, r)
	defer x.end()
	if r.Method == http.MethodOptions {
		x.preflight()
		return
	}
	e.mux.ServeHTTP(x, r)
}

func (x *exchange) begin(w http.ResponseWriter, r *http.Request) {
	x.ResponseWriter, x.req, x.start = w, r, time.Now()
	x.keys = x.edge.keys()
	if o := r.Header["Origin"]; len(o) > 0 {
		x.origin = o[0]
	}
}

// end accounts for the request and gives back what it held. It is deferred: it
// also turns a panic into an answer.
func (x *exchange) end() {
	if p := recover(); p != nil {
		defer x.settle()
		x.edge.release(x.reserved)
		if p == http.ErrAbortHandler {
			panic(p)
		}
		x.panicked(p)
		// The exchange may be in any state, and so it is not used again.
		return
	}
	x.account()
	x.settle()
	x.edge.release(x.reserved)
	x.reset()
	x.edge.exchanges.Put(x)
}

func (x *exchange) panicked(p any) {
	x.edge.log.LogAttrs(context.Background(), slog.LevelError, "request handler panicked",
		slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	if x.status != 0 {
		// Half an answer is out. The sender must not take it for a whole one.
		panic(http.ErrAbortHandler)
	}
	x.Header()["Connection"] = closeIt
	x.fail(codeInternal, "the gateway has failed at this request; the events may or may not be stored")
	x.account()
}

// account counts and logs the request.
func (x *exchange) account() {
	e := x.edge
	e.stats.request(x.route, x.status, x.code, time.Since(x.start))
	x.endSpan()
	e.stats.bytesIn.Add(uint64(x.wireSize))
	e.stats.bytesDecoded.Add(uint64(len(x.body)))
	level := slog.LevelDebug
	switch {
	case x.status == http.StatusInternalServerError:
		level = slog.LevelError
	case x.status > http.StatusInternalServerError && e.logged.Allow():
		// While it sheds load, the log must not become the load.
		level = slog.LevelInfo
	}
	// A request without a context of its own: the one of r may be done.
	ctx := context.Background()
	if !e.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", x.req.Method), slog.String("path", x.req.URL.Path), // without the query: it may hold a key
		slog.Int("status", x.status), slog.Duration("took", time.Since(x.start)),
		slog.Int64("bytes", x.wireSize), slog.Int("events", len(x.slots)), slog.Int("rejected", len(x.rejects)),
	}
	if x.key != nil {
		attrs = append(attrs, slog.String("key", x.key.ID))
	}
	if x.code != codeNone {
		attrs = append(attrs, slog.String("code", x.code.String()))
	}
	if x.cause != nil {
		attrs = append(attrs, slog.Any("error", x.cause))
	}
	e.log.LogAttrs(ctx, level, "request", attrs...)
}

// reset empties the exchange and keeps its memory, within bounds.
func (x *exchange) reset() {
	big := x.batch.Size() > keepBytes || cap(x.slots) > keepBytes/24
	if big {
		*x = *newExchange(x.edge)
		return
	}
	x.ResponseWriter, x.req, x.keys, x.key, x.inactive = nil, nil, nil, nil, nil
	x.admitted, x.byToken, x.user, x.badToken, x.receipt, x.unsigned = nil, nil, "", nil, nil, false
	x.span, x.traceparent, x.accepted = nil, "", 0
	x.origin, x.addr, x.route, x.presented, x.conflict = "", netip.Addr{}, routeUnknown, false, false
	x.status, x.code, x.cause, x.reserved, x.wireSize, x.received, x.starved = 0, codeNone, nil, 0, 0, "", false
	x.event = event.Event{}
	x.asked.Reset()
	x.overRule, x.overWait = nil, 0
	x.request, x.tooMany, x.sdkRoute = protocol.Request{}, false, nil
	if x.decoder != nil {
		x.decoder.Reset(keepBytes)
		x.decoder = nil
	}
	x.batch.Reset()
	clear(x.rejects)
	clear(x.aside)
	x.slots, x.rejects, x.aside = x.slots[:0], x.rejects[:0], x.aside[:0]
	x.report.Entry = nil
	for _, buf := range []*[]byte{&x.wire, &x.body, &x.ids, &x.out} {
		if cap(*buf) > keepBytes {
			*buf = nil
		}
		*buf = (*buf)[:0]
	}
}

// slowReader is how long the receiver of an answer may take for it.
const slowReader = 30 * time.Second

// reply sends the answer. There is one of each request.
func (x *exchange) reply(status int, contentType []string, body []byte) {
	x.status = status
	h := x.Header()
	if contentType != nil {
		h["Content-Type"] = contentType
	}
	if len(body) > 2<<10 {
		// Below this net/http finds out by itself.
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
		// And above it a receiver that does not read could hold us up.
		_ = http.NewResponseController(x.ResponseWriter).SetWriteDeadline(time.Now().Add(slowReader))
	}
	x.WriteHeader(status)
	if len(body) > 0 {
		// An error means that the sender is gone: it will send again, and the
		// ids keep that from being counted twice.
		_, _ = x.Write(body)
	}
}
