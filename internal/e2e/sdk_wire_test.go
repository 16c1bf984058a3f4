package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// wire stands between a sender and the gateway. It keeps what was sent and what
// was answered, and does to the first requests that carry events what faults
// say.
type wire struct {
	*httptest.Server
	t testing.TB
	// transport sends to the gateway. It checks the contract, unless a test
	// replaces it because it sends what the contract forbids.
	transport http.RoundTripper

	mu       sync.Mutex
	gateway  string
	away     bool // nothing passes, and nothing is answered
	passages []*passage
	faults   []fault
}

// passage is one request that carried events.
type passage struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte // decompressed
	at           time.Time
	// status is what the sender was told, 0 if its connection was cut.
	status int
	// fault is what happened to it, if anything did.
	fault string
	// stored is the status of the gateway, 0 if it did not see the request, and
	// answer its body.
	stored int
	answer []byte
	over   bool // it was answered, or cut
}

// fault is what becomes of a request instead of an answer of the gateway.
type fault struct {
	name string
	// status is answered in the gateway's name; 0: the connection is cut.
	status int
	header http.Header
	// passes: the gateway gets the request first, and its answer is lost.
	passes bool
	// unreadable: the page may not read the answer.
	unreadable bool
}

var (
	throttled   = fault{name: "429 with Retry-After", status: 429, header: http.Header{"Retry-After": {"1"}}}
	unavailable = fault{name: "503 with Retry-After", status: 503, header: http.Header{"Retry-After": {"1"}}}
	refused     = fault{name: "400", status: 400}
	reset       = fault{name: "reset"}
	lostReply   = fault{name: "lost reply", passes: true}
)

// newWire opens a wire to a gateway. The faults happen to one request each, in
// their order; then everything passes.
func newWire(t testing.TB, gateway string, faults ...fault) *wire {
	w := &wire{t: t, transport: http.DefaultTransport, gateway: gateway, faults: faults}
	w.Server = httptest.NewServer(w)
	t.Cleanup(func() {
		w.CloseClientConnections()
		w.Close()
	})
	return w
}

// carriesEvents reports whether a request is one that faults are for.
func carriesEvents(r *http.Request) bool {
	switch path := strings.TrimSuffix(r.URL.Path, "/"); path {
	case "/flags", "/decide":
		return false
	case "/track", "/engage", "/groups":
		return true
	default:
		return r.Method == http.MethodPost || strings.HasPrefix(path, "/v1/pixel/")
	}
}

func (w *wire) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender has left
	}
	if w.isAway() {
		panic(http.ErrAbortHandler)
	}
	if !carriesEvents(r) {
		w.pass(out, r, body)
		return
	}
	plain, err := decompressed(r.Header, body)
	if err != nil {
		w.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	f := w.next()
	seen := &passage{method: r.Method, path: r.URL.Path, query: r.URL.Query(), header: r.Header.Clone(), body: plain, at: time.Now()}
	if f != nil {
		seen.fault = f.name
	}
	w.mu.Lock()
	w.passages = append(w.passages, seen)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		seen.over = true
		w.mu.Unlock()
	}()
	status, stored := 0, 0
	var answer []byte
	switch {
	case f == nil:
		stored, answer = w.pass(out, r, body)
		status = stored
	case f.passes:
		stored, answer = w.pass(httptest.NewRecorder(), r, body)
	case f.status > 0:
		status = f.status
		w.answer(out, r, f)
	}
	w.mu.Lock()
	seen.status, seen.stored, seen.answer = status, stored, answer
	w.mu.Unlock()
	if f != nil && status == 0 {
		panic(http.ErrAbortHandler) // cuts the connection
	}
}

// cut takes the gateway away, or, with its address, brings it back.
func (w *wire) cut(gateway string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = gateway == ""
	w.gateway = gateway
}

func (w *wire) isAway() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away
}

func (w *wire) to() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gateway
}

// next takes the next fault, if there is one left.
func (w *wire) next() *fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.faults) == 0 {
		return nil
	}
	f := w.faults[0]
	w.faults = w.faults[1:]
	return &f
}

// pass hands a request to the gateway and its answer to out. It returns the
// status and the body.
func (w *wire) pass(out http.ResponseWriter, r *http.Request, body []byte) (status int, answer []byte) {
	// A page that leaves does not take back what it has sent.
	req, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, w.to()+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		w.t.Error(err)
		return 0, nil
	}
	req.Header = r.Header.Clone()
	resp, err := w.transport.RoundTrip(req)
	if err == nil {
		answer, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the gateway is away, and so is this
	}
	for name, values := range resp.Header {
		out.Header()[name] = values
	}
	out.WriteHeader(resp.StatusCode)
	_, _ = out.Write(answer) // the sender may have left
	return resp.StatusCode, answer
}

// answer answers in the gateway's name: with the headers for the page's origin
// that it gives to a request that it refuses, and a body of its form.
func (w *wire) answer(out http.ResponseWriter, r *http.Request, f *fault) {
	refused := httptest.NewRecorder()
	other := r.Clone(r.Context())
	other.Method = http.MethodDelete
	w.pass(refused, other, nil)
	for name, values := range refused.Header() {
		if strings.HasPrefix(name, "Access-Control-") && !f.unreadable || name == "Vary" {
			out.Header()[name] = values
		}
	}
	for name, values := range f.header {
		out.Header()[name] = values
	}
	out.Header().Set("Content-Type", "application/problem+json")
	out.WriteHeader(f.status)
	fmt.Fprintf(out, `{"type":"urn:sluice:problem:test","title":%[1]q,"status":%[2]d,"detail":"a test","success":false,"error":%[1]q,"code":"test","message":"a test"}`,
		http.StatusText(f.status), f.status)
}

// String tells of the requests, for tests that fail.
func (w *wire) String() string {
	var b strings.Builder
	for _, p := range w.sent() {
		fmt.Fprintf(&b, "%s %s %s %s %q: answered %d, by the gateway %d: %d bytes, %.100s\n",
			p.at.Format("05.000"), p.method, p.path, p.query.Encode(), p.fault, p.status, p.stored, len(p.body), p.body)
	}
	return b.String()
}

// quiet reports whether no request is under way.
func (w *wire) quiet() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !slices.ContainsFunc(w.passages, func(p *passage) bool { return !p.over })
}

// sent returns the requests so far that carried events.
func (w *wire) sent() []passage {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []passage
	for _, p := range w.passages {
		all = append(all, *p)
	}
	return all
}

// noID begins what stands for the id of an event that was sent without one. Of
// the SDKs only Mixpanel's send such events.
const noID = "without id: "

// taken returns the events that the gateway has answered to have, by their
// ids. Of those with one id the first counts.
func (w *wire) taken(t testing.TB) map[string]wanted {
	t.Helper()
	events := map[string]wanted{}
	for n, r := range w.sent() {
		if !r.accepted() {
			continue
		}
		for i, e := range wantedOf(t, r) {
			if r.rejected(t, i) {
				continue
			}
			if e.id == "" {
				e.id = fmt.Sprintf("%s%d of request %d", noID, i, n)
			}
			if _, again := events[e.id]; !again {
				events[e.id] = e
			}
		}
	}
	return events
}

// rejected reports whether the gateway has answered that an event is not taken.
func (r passage) rejected(t testing.TB, i int) bool {
	t.Helper()
	if r.path != "/v1/events" {
		return false // SDKs are not told
	}
	var answer struct{ IDs []*string }
	unmarshal(t, string(r.answer), &answer)
	return i >= len(answer.IDs) || answer.IDs[i] == nil
}

// accepted reports whether the gateway has answered that it has the events.
func (r passage) accepted() bool { return r.stored >= 200 && r.stored < 300 }

func decompressed(header http.Header, body []byte) ([]byte, error) {
	if header.Get("Content-Encoding") != "gzip" {
		return body, nil
	}
	zr, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zr)
}

// fields are the members of a JSON object.
type fields map[string]json.RawMessage

// members returns the members of a JSON object; of anything else none.
func members(raw []byte) fields {
	var f fields
	_ = json.Unmarshal(raw, &f)
	return f
}

// text returns a member that is a string, or a number as its text.
func (f fields) text(name string) string {
	raw := f[name]
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	if n, err := strconv.ParseFloat(string(raw), 64); err == nil && n == n {
		return string(raw)
	}
	return ""
}

// has reports whether there is a member, and it is not null.
func (f fields) has(name string) bool { return len(f[name]) > 0 && string(f[name]) != "null" }

// wanted is a row as it has to be.
type wanted struct {
	id, kind, name, userID, anonymousID string
	// timestamp is when it happened by the sender's clock, sentAt when it was
	// sent by the same clock, zero if the sender does not say so.
	timestamp, sentAt time.Time
	data, context     any
	// loose: when it happened, whose it is, data that is nil and the context are
	// not compared.
	loose bool
}

// wantedOf returns the rows that the events of a request have to become. It is
// written from the contract, and shares no code with the gateway.
func wantedOf(t testing.TB, r passage) []wanted {
	t.Helper()
	contentType := r.header.Get("Content-Type")
	switch path := strings.TrimSuffix(r.path, "/"); {
	case path == "/v1/events" && (strings.HasPrefix(contentType, "application/cloudevents") || r.header.Get("Ce-Id") != ""):
		return cloudEventsOf(t, r)
	case path == "/v1/events":
		return nativeEvents(t, r)
	case path == "/com.snowplowanalytics.snowplow/tp2":
		return snowplowEvents(t, r)
	case path == "/e" || path == "/batch" || path == "/i/v0/e" || path == "/capture":
		return posthogEvents(t, r)
	case path == "/track" || path == "/engage" || path == "/groups":
		return mixpanelEvents(t, r)
	default:
		return segmentEvents(t, r)
	}
}

// segmentEvents reads what the SDKs of Segment and RudderStack send, and Jitsu's.
func segmentEvents(t testing.TB, r passage) []wanted {
	t.Helper()
	body := r.body
	if r.method == http.MethodGet {
		var err error
		if body, err = base64.StdEncoding.DecodeString(r.query.Get("data")); err != nil {
			t.Fatal(err)
		}
	}
	if bytes.HasPrefix(body, []byte("data=")) { // a form, of JSON
		form, err := url.ParseQuery(string(body))
		if err != nil {
			t.Fatal(err)
		}
		body = []byte(form.Get("data"))
	}
	envelope := members(body)
	var events []json.RawMessage
	if envelope.has("batch") {
		unmarshal(t, string(envelope["batch"]), &events)
	} else {
		events = []json.RawMessage{body}
		envelope = fields{"sentAt": envelope["sentAt"]}
	}
	kinds := map[string]string{"t": "track", "i": "identify", "p": "page", "s": "screen", "g": "group", "a": "alias"}
	kind := r.path[strings.LastIndexByte(strings.TrimSuffix(r.path, "/"), '/')+1:]
	if long, ok := kinds[kind]; ok {
		kind = long
	}
	switch kind {
	case "batch", "b", "import":
		kind = ""
	}
	var all []wanted
	for _, raw := range events {
		all = append(all, segmentEvent(t, members(raw), envelope, kind))
	}
	return all
}

func segmentEvent(t testing.TB, e, envelope fields, kind string) wanted {
	t.Helper()
	w := wanted{id: e.text("messageId"), kind: e.text("type"), userID: e.text("userId"), anonymousID: e.text("anonymousId")}
	if kind != "" {
		w.kind = kind
	}
	taken := map[string]bool{
		"messageId": true, "userId": true, "anonymousId": true, "context": true, "writeKey": true,
		"type": w.kind == e.text("type"), "timestamp": true, "originalTimestamp": true, "sentAt": true,
	}
	payload := "properties"
	switch w.kind {
	case "track":
		w.name, taken["event"] = e.text("event"), true
	case "page", "screen":
		w.name, taken["name"] = e.text("name"), true
	default:
		payload = "traits"
	}
	if w.name == "" {
		w.name = w.kind
	}
	taken[payload] = true
	w.data = value(t, e[payload], map[string]any{})
	context, _ := value(t, e["context"], value(t, envelope["context"], map[string]any{})).(map[string]any)
	if traits, ok := context["traits"]; ok && w.kind == "identify" && !e.has("traits") {
		w.data = traits // RudderStack has them there only
	}
	extra := map[string]any{}
	for name, raw := range e {
		if !taken[name] {
			extra[name] = value(t, raw, nil)
		}
	}
	happened := "timestamp"
	if !e.has(happened) {
		happened = "originalTimestamp"
	} else if e.has("originalTimestamp") {
		extra["originalTimestamp"] = value(t, e["originalTimestamp"], nil)
	}
	w.timestamp = timeOf(t, e.text(happened))
	sentAt := e
	if !e.has("sentAt") {
		sentAt = envelope
	}
	if w.sentAt = timeOf(t, sentAt.text("sentAt")); !w.sentAt.IsZero() {
		// The clock is corrected, and what was sent is kept.
		extra["sentAt"] = value(t, sentAt["sentAt"], nil)
		if !w.timestamp.IsZero() {
			original := "originalTimestamp"
			if happened == "timestamp" && e.has("originalTimestamp") {
				original = "timestamp"
			}
			extra[original] = value(t, e[happened], nil)
		}
	}
	if len(extra) > 0 {
		context["extra"] = extra
	}
	w.context = context
	return w
}

// nativeEvents reads what is sent to /v1/events.
func nativeEvents(t testing.TB, r passage) []wanted {
	t.Helper()
	body := bytes.TrimSpace(r.body)
	var events []json.RawMessage
	if list := members(body); body[0] == '[' {
		unmarshal(t, string(body), &events)
	} else if list.has("events") {
		unmarshal(t, string(list["events"]), &events)
	} else {
		events = []json.RawMessage{body}
	}
	var all []wanted
	for _, raw := range events {
		e := members(raw)
		w := wanted{
			id: e.text("id"), kind: e.text("type"), name: e.text("name"), userID: e.text("user_id"), anonymousID: e.text("anonymous_id"),
			timestamp: timeOf(t, e.text("timestamp")), data: value(t, e["data"], map[string]any{}),
		}
		if w.kind == "" {
			w.kind = "track"
		}
		context, _ := value(t, e["context"], map[string]any{}).(map[string]any)
		extra := map[string]any{}
		for name, raw := range e {
			switch name {
			case "id", "type", "name", "user_id", "anonymous_id", "timestamp", "data", "context":
			default:
				extra[name] = value(t, raw, nil)
			}
		}
		if len(extra) > 0 {
			context["extra"] = extra
		}
		w.context = context
		all = append(all, w)
	}
	return all
}

// value decodes a JSON value, numbers as their text; missing and null are
// otherwise.
func value(t testing.TB, raw json.RawMessage, otherwise any) any {
	t.Helper()
	if len(raw) == 0 || string(raw) == "null" {
		return otherwise
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return v
}

func timeOf(t testing.TB, text string) time.Time {
	t.Helper()
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
