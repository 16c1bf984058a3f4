package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/testenv"
)

// memoryStream keeps what Put was given, except the events that refuse names.
// It counts as the producer does.
type memoryStream struct {
	mu     sync.Mutex
	stored []json.RawMessage
	puts   int
	intake *ledger.Intake
	// refuse returns why an event is not stored; nil stores all.
	refuse func(ev stored) error
	// blameless makes Put return an error that names no event.
	blameless error
	// wait, if not nil, is read from before Put begins.
	wait chan struct{}
}

var errRefused = errors.New("put: some events are not durable")

func (s *memoryStream) Put(ctx context.Context, b *stream.Batch) error {
	if s.wait != nil {
		select {
		case <-s.wait:
		case <-ctx.Done():
			for i := range b.Len() {
				b.Fail(i, &fault.Error{Kind: fault.Ambiguous, Err: ctx.Err()})
			}
			s.intake.Rejected(ledger.Unavailable, b.Len())
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	if s.blameless != nil {
		s.intake.Rejected(ledger.Unavailable, b.Len())
		return s.blameless
	}
	var failed bool
	for i := range b.Len() {
		if s.refuse != nil {
			if err := s.refuse(decodeStored(b.Event(i))); err != nil {
				b.Fail(i, err)
				failed = true
				s.intake.Rejected(ledger.Unavailable, 1)
				continue
			}
		}
		s.stored = append(s.stored, bytes.Clone(b.Event(i)))
		s.intake.Accepted(1)
	}
	if failed {
		return errRefused
	}
	return nil
}

// stored is an event as the stream has it.
type stored struct {
	ID          string          `json:"id"`
	Type        string          `json:"type"`
	Name        string          `json:"name"`
	UserID      string          `json:"user_id"`
	AnonymousID string          `json:"anonymous_id"`
	Timestamp   string          `json:"timestamp"`
	ReceivedAt  string          `json:"received_at"`
	Source      string          `json:"source"`
	IP          string          `json:"ip"`
	Data        json.RawMessage `json:"data"`
	Context     json.RawMessage `json:"context"`
}

func (s stored) extra(t *testing.T) map[string]json.RawMessage {
	t.Helper()
	var c struct{ Extra map[string]json.RawMessage }
	if err := json.Unmarshal(s.Context, &c); err != nil {
		t.Fatalf("context %s: %v", s.Context, err)
	}
	return c.Extra
}

func decodeStored(raw []byte) stored {
	var e stored
	if err := json.Unmarshal(raw, &e); err != nil {
		panic(fmt.Sprintf("the stream has what is no JSON: %v\n%s", err, raw))
	}
	return e
}

type memoryQuarantine struct {
	mu      sync.Mutex
	letters []deadletter.Letter
	puts    int
	err     error
}

func (q *memoryQuarantine) Put(_ context.Context, letters []deadletter.Letter) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.puts++
	if q.err != nil {
		return q.err
	}
	q.letters = append(q.letters, letters...)
	return nil
}

// The keys of the rig.
const keysDocument = `{"keys":[
 {"id":"web","kind":"write","sha256":"%x"},
 {"id":"shop","kind":"write","source":"store","sha256":"%x","origins":["https://shop.example","https://*.shop.example"]},
 {"id":"backend","kind":"secret","source":"erp","sha256":"%x"},
 {"id":"ops","kind":"secret","sha256":"%x","origins":["https://ops.example"]},
 {"id":"off","kind":"write","sha256":"%x","disabled":true},
 {"id":"old","kind":"write","sha256":"%x","expires_at":"2020-01-01T00:00:00Z"},
 {"id":"orders","kind":"write","sha256":"%x","events":["order_*"]},
 {"id":"slow","kind":"write","sha256":"%x","rate":{"per_second":0.001,"burst":10}},
 {"id":"ip","kind":"write","sha256":"%x","ip":true},
 {"id":"fixture","kind":"write","sha256":"%x"}]}`

// rig is a gateway on a stream and a quarantine in memory. Its keys are
// wk_ID.
type rig struct {
	t          testing.TB
	edge       *Edge
	stream     *memoryStream
	quarantine *memoryQuarantine
	intake     *ledger.Intake
	keys       *source.Keys
	log        *testenv.Log
}

func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	doc := keysDocument
	for _, id := range []string{"web", "shop", "backend", "ops", "off", "old", "orders", "slow", "ip"} {
		doc = strings.Replace(doc, "%x", source.Hash("wk_"+id), 1)
	}
	doc = strings.Replace(doc, "%x", source.Hash("WK_fixture"), 1)
	keys, err := source.Parse([]byte(doc), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, keys: keys, intake: new(ledger.Intake), quarantine: &memoryQuarantine{}, log: &testenv.Log{}}
	r.stream = &memoryStream{intake: r.intake}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	r.edge, err = New(r.stream, r.quarantine, func() *source.Keys { return r.keys }, r.intake, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// answer is what a sender gets.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	body   string
}

func (r *rig) do(req *http.Request) answer {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.edge.Handler().ServeHTTP(w, req)
	a := answer{t: r.t, status: w.Code, header: w.Header(), body: w.Body.String()}
	a.check()
	if err := againstContract(req, w); err != nil {
		r.t.Error(err)
	}
	if n := r.edge.InFlight(); n != 0 {
		r.t.Errorf("%d bytes are in flight after the answer", n)
	}
	return a
}

// post sends a body with a key and header lines "Name: value".
func (r *rig) post(path, key, body string, header ...string) answer {
	r.t.Helper()
	return r.do(newRequest(http.MethodPost, path, key, body, header...))
}

func newRequest(method, path, key, body string, header ...string) *http.Request {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	return req
}

// events are the stored events, in order.
func (r *rig) events() []stored {
	r.stream.mu.Lock()
	defer r.stream.mu.Unlock()
	var events []stored
	for _, raw := range r.stream.stored {
		events = append(events, decodeStored(raw))
	}
	return events
}

func (r *rig) names() []string {
	var names []string
	for _, e := range r.events() {
		names = append(names, e.Name)
	}
	return names
}

func (r *rig) letters() []deadletter.Letter {
	r.quarantine.mu.Lock()
	defer r.quarantine.mu.Unlock()
	return slices.Clone(r.quarantine.letters)
}

// wantLedger checks that every event received was accepted or rejected.
func (r *rig) wantLedger(accepted uint64, rejected map[string]uint64) {
	r.t.Helper()
	got := r.intake.Balance()
	if rejected == nil {
		rejected = map[string]uint64{}
	}
	if got.Accepted != accepted || !maps.Equal(got.Rejected, rejected) {
		r.t.Errorf("ledger: accepted %d, rejected %v; want %d, %v", got.Accepted, got.Rejected, accepted, rejected)
	}
	sum := got.Accepted
	for _, n := range got.Rejected {
		sum += n
	}
	if n := received(r.intake); n != sum {
		r.t.Errorf("ledger: %d received, %d accounted for", n, sum)
	}
}

// check checks what holds for every answer.
func (a answer) check() {
	a.t.Helper()
	switch contentType, _, _ := strings.Cut(a.header.Get("Content-Type"), ";"); {
	case a.status == http.StatusNoContent:
		return
	case a.status == http.StatusOK && (contentType == "image/gif" || contentType == "text/plain" || contentType == "text/javascript"):
		return
	}
	if a.body == "" {
		a.t.Errorf("status %d without a body", a.status)
		return
	}
	var doc map[string]any
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
		a.t.Errorf("status %d: the body is not JSON: %v\n%s", a.status, err, a.body)
		return
	}
	if a.status >= 300 && a.status < 400 {
		a.t.Errorf("a redirect: %d", a.status)
	}
	if a.status < 400 || doc["reasons"] != nil {
		if got := a.header.Get("Content-Type"); got != "application/json" {
			a.t.Errorf("status %d is of type %q", a.status, got)
		}
		return
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		a.t.Errorf("status %d is of type %q", a.status, got)
	}
	if doc["status"] != float64(a.status) || doc["success"] != false {
		a.t.Errorf("status %d: status %v, success %v in the document", a.status, doc["status"], doc["success"])
	}
	for _, name := range []string{"type", "title", "detail", "error", "code", "message"} {
		if s, _ := doc[name].(string); s == "" {
			a.t.Errorf("status %d: the problem document has no %s:\n%s", a.status, name, a.body)
		}
	}
	retry := a.header.Get("Retry-After")
	if (a.status == 429 || a.status == 503) && (retry == "" || retry == "0" || strings.Trim(retry, "0123456789") != "") {
		a.t.Errorf("status %d: Retry-After is %q", a.status, retry)
	}
	if (a.status == 401) != (a.header.Get("WWW-Authenticate") != "") {
		a.t.Errorf("status %d: WWW-Authenticate is %q", a.status, a.header.Get("WWW-Authenticate"))
	}
}

// want checks status and code; "" is an answer without a problem.
func (a answer) want(status int, code string) answer {
	a.t.Helper()
	got := a.problem()
	if a.status != status || got.Code != code {
		a.t.Errorf("answered %d %s, want %d %s\n%s", a.status, got.Code, status, code, a.body)
	}
	return a
}

type entry struct {
	Index                 int
	Pointer, Code, Detail string
}

type document struct {
	Code, Detail, Title, Error, Message string
	Accepted, Rejected                  int
	IDs                                 []*string
	Errors                              []entry
	Ack                                 string
}

func (a answer) problem() document {
	a.t.Helper()
	var d document
	if a.body != "" && strings.Contains(a.header.Get("Content-Type"), "json") {
		if err := json.Unmarshal([]byte(a.body), &d); err != nil {
			a.t.Fatalf("%v\n%s", err, a.body)
		}
	}
	return d
}

func received(in *ledger.Intake) uint64 { return ledger.Books{Intake: in}.Statement().Received }

func gzipOf(parts ...string) string {
	var b bytes.Buffer
	for _, p := range parts {
		w := gzip.NewWriter(&b)
		io.WriteString(w, p)
		w.Close()
	}
	return b.String()
}

func zstdOf(parts ...string) string {
	var b bytes.Buffer
	for _, p := range parts {
		w, _ := zstd.NewWriter(&b)
		io.WriteString(w, p)
		w.Close()
	}
	return b.String()
}
