package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/schema"
	"github.com/eventsluice/sluice/internal/stream"
)

// contractsDocument has a schema of each mode: orders_MODE want a total, which
// is a number.
func contractsDocument(mode string) string {
	var entries []string
	for _, name := range []string{"observe", "quarantine", "reject"} {
		m := name
		if mode != "" {
			m = mode
		}
		for _, event := range []string{"order_" + name, "identify"} {
			if event == "identify" && name != "reject" {
				continue
			}
			entries = append(entries, fmt.Sprintf(`{"name":%q,"mode":%q,"schema":{"type":"object","required":["total"],"properties":`+
				`{"total":{"type":"number"},"currency":{"enum":["EUR","USD"]},"products":{"type":"array","items":{"type":"object","properties":{"sku":{"type":"string"}}}}}}}`, event, m))
		}
	}
	return `{"schemas":[` + strings.Join(entries, ",") + `]}`
}

type contractRig struct {
	*rig
	set       atomic.Pointer[schema.Set]
	tally     *schema.Tally
	contracts *schema.Contracts
}

func newContractRig(t testing.TB, cfg Config) *contractRig {
	t.Helper()
	r := &contractRig{tally: schema.NewTally()}
	r.contracts = schema.NewContracts(r.set.Load, r.tally)
	cfg.Contracts = r.contracts
	r.rig = newRig(t, cfg)
	r.load(contractsDocument(""))
	return r
}

func (r *contractRig) load(doc string) {
	r.t.Helper()
	set, err := schema.Parse([]byte(doc))
	if err != nil {
		r.t.Fatal(err)
	}
	r.set.Store(set)
}

func ofName(name, data string) string {
	return fmt.Sprintf(`{"id":%q,"name":%q,"data":%s}`, name+"-1", name, data)
}

func TestWhatASchemaSaysDecidesAboutAnEvent(t *testing.T) {
	t.Parallel()
	const wrong, right = `{"total":"12"}`, `{"total":12}`
	for _, c := range []struct {
		name, body string
		status     int
		code       string
		answer     string // of 2xx
		stored     []string
		letters    []string // names
		rejected   uint64
	}{
		{
			name: "right", body: ofName("order_reject", right), status: 202,
			answer: `{"accepted":1,"rejected":0,"ids":["order_reject-1"],"ack":"stream"}`, stored: []string{"order_reject"},
		},
		{
			name: "no schema", body: ofName("order_other", wrong), status: 202,
			answer: `{"accepted":1,"rejected":0,"ids":["order_other-1"],"ack":"stream"}`, stored: []string{"order_other"},
		},
		{
			name: "observed", body: ofName("order_observe", wrong), status: 202,
			answer: `{"accepted":1,"rejected":0,"ids":["order_observe-1"],"ack":"stream"}`, stored: []string{"order_observe"},
		},
		{
			name: "put aside", body: ofName("order_quarantine", wrong), status: 202,
			answer:  `{"accepted":1,"rejected":0,"ids":["order_quarantine-1"],"quarantined":1,"ack":"quarantine"}`,
			letters: []string{"order_quarantine"}, rejected: 1,
		},
		{name: "rejected", body: ofName("order_reject", wrong), status: 422, code: "invalid", letters: []string{"order_reject"}, rejected: 1},
		{
			name:   "one of each",
			body:   "[" + ofName("order_observe", wrong) + "," + ofName("order_quarantine", wrong) + "," + ofName("order_reject", wrong) + "]",
			status: 207,
			answer: `{"accepted":2,"rejected":1,"ids":["order_observe-1","order_quarantine-1",null],"errors":[{"index":2,"pointer":"/data/total","code":"schema",` +
				`"detail":"type: expected number, got string","rule":"type","expected":"number","got":"string","schema":"order_reject"}],"quarantined":1,"ack":"stream"}`,
			stored: []string{"order_observe"}, letters: []string{"order_quarantine", "order_reject"}, rejected: 2,
		},
		{
			name: "put aside and rejected", body: "[" + ofName("order_reject", `{}`) + "," + ofName("order_quarantine", wrong) + "]", status: 207,
			answer: `{"accepted":1,"rejected":1,"ids":[null,"order_quarantine-1"],"errors":[{"index":0,"pointer":"/data/total","code":"schema",` +
				`"detail":"required: expected this member, got nothing","rule":"required","expected":"this member","got":"nothing","schema":"order_reject"}],"quarantined":1,"ack":"quarantine"}`,
			letters: []string{"order_quarantine", "order_reject"}, rejected: 2,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newContractRig(t, Config{})
			a := r.post("/v1/events", "wk_web", c.body).want(c.status, c.code)
			if c.answer != "" && a.body != c.answer {
				t.Errorf("answered %s\nwant     %s", a.body, c.answer)
			}
			if got := r.names(); strings.Join(got, ",") != strings.Join(c.stored, ",") {
				t.Errorf("stored %v, want %v", got, c.stored)
			}
			var letters []string
			for _, l := range r.letters() {
				letters = append(letters, l.EventName)
				if kept := l.EventName == "order_quarantine"; l.Class != "schema" || l.Code != "schema" || l.Kept != kept || l.EventID != l.EventName+"-1" {
					t.Errorf("letter %+v", l)
				}
			}
			if strings.Join(letters, ",") != strings.Join(c.letters, ",") {
				t.Errorf("letters %v, want %v", letters, c.letters)
			}
			var rejected map[string]uint64
			if c.rejected > 0 {
				rejected = map[string]uint64{"schema": c.rejected}
			}
			r.wantLedger(uint64(len(c.stored)), rejected)
		})
	}
}

func TestAnEventPutAsideWithoutAnIDIsKeptUnderTheOneThatItsSenderIsTold(t *testing.T) {
	t.Parallel()
	r := newContractRig(t, Config{})
	a := r.post("/v1/events", "wk_web", `{"name":"order_quarantine"}`).want(202, "").problem()
	l := r.letters()[0]
	if len(a.IDs) != 1 || a.IDs[0] == nil || l.EventID != *a.IDs[0] || decodeStored(l.Event).ID != l.EventID {
		t.Errorf("told %v, kept %s: %s", a.IDs, l.EventID, l.Event)
	}
}

// orderOf notes what is written when.
type orderOf struct {
	rig    *rig
	writes []string
}

func (o *orderOf) Put(ctx context.Context, b *stream.Batch) error {
	o.writes = append(o.writes, "stream")
	return o.rig.stream.Put(ctx, b)
}

type quarantineOrder struct{ *orderOf }

func (o quarantineOrder) Put(ctx context.Context, letters []deadletter.Letter) error {
	o.writes = append(o.writes, fmt.Sprint("quarantine ", len(letters)))
	return o.rig.quarantine.Put(ctx, letters)
}

func TestWhatIsPutAsideIsDurableBeforeAnythingIsOnTheStream(t *testing.T) {
	t.Parallel()
	r := newContractRig(t, Config{})
	order := &orderOf{rig: r.rig}
	r.edge.stream, r.edge.quarantine = order, quarantineOrder{order}
	r.post("/v1/events", "wk_web", `[{"name":"a"},{"name":"order_quarantine"},{"name":"order_reject"},{"name":""}]`).want(207, "")
	if got := strings.Join(order.writes, ", "); got != "quarantine 1, stream, quarantine 2" {
		t.Errorf("written in the order %s", got)
	}
}

func TestWithoutAQuarantineNothingIsClaimedOfWhatGoesThere(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"alone":           `{"name":"order_quarantine"}`,
		"among good ones": `[{"name":"a"},{"name":"order_quarantine"},{"name":"b"},{}]`,
	} {
		for _, path := range []string{"/v1/events", "/v1/batch"} {
			t.Run(name+path, func(t *testing.T) {
				t.Parallel()
				r := newContractRig(t, Config{})
				r.quarantine.err = errors.New("the disk is full")
				sent, rejected := body, map[string]uint64{"schema": 1}
				if path == "/v1/batch" {
					sent = `{"batch":[{"type":"track","event":"a"},{"type":"track","event":"order_quarantine"},{"type":"track","event":"b"},{}]}`
				}
				if name != "alone" || path == "/v1/batch" {
					rejected["invalid"], rejected["unavailable"] = 1, 2
				}
				r.post(path, "wk_web", sent).want(503, "unavailable")
				if len(r.events()) != 0 {
					t.Errorf("on the stream: %v", r.names())
				}
				r.wantLedger(0, rejected)
			})
		}
	}
}

func TestARejectedEventIsToldAllThatIsWrong(t *testing.T) {
	t.Parallel()
	r := newContractRig(t, Config{})
	long := strings.Repeat("€", 100)
	a := r.post("/v1/events", "wk_web", `{"name":"order_reject","data":{"total":"secret","currency":"`+long+`","products":[{"sku":"a"},{"sku":7}]}}`).want(422, "invalid")
	var d struct {
		Errors []struct{ Pointer, Code, Detail, Rule, Expected, Got, Schema string }
	}
	if err := json.Unmarshal([]byte(a.body), &d); err != nil || len(d.Errors) != 1 {
		t.Fatalf("%v: %s", err, a.body)
	}
	e := d.Errors[0]
	if e.Pointer != "/data/total" || e.Rule != "type" || e.Expected != "number" || e.Got != "string" || e.Schema != "order_reject" || !strings.HasSuffix(e.Detail, "(and 2 more)") {
		t.Errorf("%+v", e)
	}
	if strings.Contains(a.body, "secret") {
		t.Error("more of the event is told than has to be")
	}
	message := r.letters()[0].Message
	for _, want := range []string{"/data/total type: expected number, got string", "/data/products/1/sku type: expected string, got number", `/data/currency enum: expected one of "EUR", "USD", got "€€`} {
		if !strings.Contains(message, want) {
			t.Errorf("the letter says %q, and not %q", message, want)
		}
	}
	if strings.Contains(message, strings.Repeat("€", 22)) {
		t.Errorf("a value is told at length: %q", message)
	}
}

func TestRoutesOfSDKsPointIntoTheirOwnForm(t *testing.T) {
	t.Parallel()
	r := newContractRig(t, Config{})
	a := r.post("/v1/batch", "wk_web", `{"context":{"library":{"name":"analytics-next","version":"1.70.0"}},"sentAt":"2026-11-23T10:00:00Z","batch":[`+
		`{"type":"track","event":"order_reject","messageId":"m-1","userId":"u","properties":{"total":"x"}},`+
		`{"type":"track","event":"order_quarantine","messageId":"m-2","properties":{}},`+
		`{"type":"identify","messageId":"m-3","userId":"u","traits":{"total":null}},`+
		`{"type":"track","event":"a","messageId":"m-4"}]}`).want(200, "")
	if a.body != `{"success":true}` {
		t.Errorf("answered %s", a.body)
	}
	messages := map[string]string{}
	for _, l := range r.letters() {
		messages[l.EventID] = l.Message
		if got := decodeStored(l.Event); got.ID != l.EventID || !strings.Contains(string(got.Context), "analytics-next") {
			t.Errorf("kept %s", l.Event) // the context of the envelope is the event's
		}
	}
	for id, want := range map[string]string{
		"m-1": "/properties/total type: expected number, got string",
		"m-2": "/properties/total required: expected this member, got nothing",
		"m-3": "/traits/total type: expected number, got null",
	} {
		if messages[id] != want {
			t.Errorf("%s: %q, want %q", id, messages[id], want)
		}
	}
	groups, _ := r.tally.Groups("order_reject", 10)
	if len(groups) != 1 || groups[0].Pointer != "/data/total" || groups[0].SDKs[0] != (schema.SDK{Name: "analytics-next", Version: "1.70.0"}) || groups[0].Sources[0] != "web" {
		t.Errorf("%+v", groups)
	}
	if got := r.names(); len(got) != 1 || got[0] != "a" {
		t.Errorf("stored %v", got)
	}
}

func TestAfterAFixAReplayMakesTheEventsThatWereSent(t *testing.T) {
	t.Parallel()
	r := newContractRig(t, Config{})
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	r.post("/v1/events", "wk_ip", `{"name":"order_quarantine","user_id":"u-1","data":{"total":"1"},"unknown":1}`, "traceparent: "+parent).want(202, "")
	r.post("/v1/track", "wk_ip", `{"event":"order_reject","messageId":"m-1","timestamp":"2026-11-23T10:00:00Z","sentAt":"2026-11-23T10:00:01Z","properties":{"total":"2"}}`).want(200, "")
	letters := r.letters()
	for i, err := range r.edge.Readmit(t.Context(), letters) {
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "schema order_") {
			t.Errorf("letter %d before the fix: %v", i, err)
		}
	}
	groups, _ := r.tally.Groups("", 100)
	before, total := received(r.intake), len(groups)
	r.load(contractsDocument("observe"))
	for i, err := range r.edge.Readmit(t.Context(), letters) {
		if err != nil {
			t.Errorf("letter %d after the fix: %v", i, err)
		}
	}
	events := r.events()
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	for i, l := range letters {
		if string(r.stream.stored[i]) != string(l.Event) {
			t.Errorf("on the stream is %s\nkept was         %s", r.stream.stored[i], l.Event)
		}
	}
	ours := events[0]
	if ours.ReceivedAt == "" || ours.IP == "" || ours.Source != "ip" || ours.UserID != "u-1" || !strings.Contains(string(r.stream.stored[0]), parent) || string(ours.extra(t)["unknown"]) != "1" {
		t.Errorf("%s", r.stream.stored[0])
	}
	if got := received(r.intake); got != before+2 {
		t.Errorf("%d received, want %d", got, before+2)
	}
	if groups, _ = r.tally.Groups("", 100); len(groups) != total || groups[0].Count != 1 {
		t.Errorf("a replay counts violations again: %+v", groups)
	}
}

func TestOtherLettersAreHeldToTheSchemasOfNow(t *testing.T) {
	t.Parallel()
	r := newContractRig(t, Config{})
	r.post("/v1/events", "wk_orders", `{"name":"signup","data":{}}`).want(403, "forbidden")
	keys, err := source.Parse([]byte(`{"keys":[{"id":"orders","kind":"write","sha256":"`+source.Hash("x")+`"}]}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.keys = keys
	r.load(`{"schemas":[{"name":"signup","mode":"quarantine","schema":{"required":["plan"]}}]}`)
	if err := r.edge.Readmit(t.Context(), r.letters())[0]; fault.KindOf(err) != fault.Invalid {
		t.Errorf("readmitted against its schema: %v", err)
	}
	r.load(`{"schemas":[]}`)
	if err := r.edge.Readmit(t.Context(), r.letters())[0]; err != nil {
		t.Error(err)
	}
}

func TestViolationsAreCountedByMode(t *testing.T) {
	t.Parallel()
	r := newContractRig(t, Config{})
	r.post("/v1/events", "wk_web", "["+ofName("order_observe", `{}`)+","+ofName("order_reject", `{}`)+","+ofName("order_quarantine", `{}`)+
		","+ofName("order_observe", `{"total":1}`)+`,{"name":"a"}]`).want(207, "")
	if got, want := r.contracts.Stats(), (schema.Stats{Checked: 4, Violated: [schema.Modes]uint64{1, 1, 1}}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A flood of large events that are wrong must stay within the memory of requests.
func TestCopiesOfWrongEventsAreCountedAsMemory(t *testing.T) {
	t.Parallel()
	r := newContractRig(t, Config{MaxBody: 1 << 20, MaxInFlight: 4 << 20})
	r.edge.inFlight.Add(2 << 20) // others are being worked on
	one := ofName("order_quarantine", `{"x":"`+strings.Repeat("x", 300_000)+`"}`)
	w := httptest.NewRecorder()
	r.edge.Handler().ServeHTTP(w, newRequest(http.MethodPost, "/v1/events", "wk_web", "["+one+","+one+","+one+"]"))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), `"code":"overloaded"`) {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
	if n := len(r.letters()); n != 0 {
		t.Errorf("%d letters of a request that was refused", n)
	}
}

func TestAViolationIsToldInTheWordsOfItsSender(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, path, body, contentType, pointer string }{
		{"Sluice", "/v1/events", ofName("order_reject", `{"total":"12"}`), "application/json", "/data/total"},
		{"Segment", "/v1/track", `{"event":"order_reject","properties":{"total":"12"}}`, "application/json", "/properties/total"},
		{"a user of Segment", "/v1/identify", `{"userId":"u","traits":{"total":"12"}}`, "application/json", "/traits/total"},
		{
			"CloudEvents", "/v1/events", `{"specversion":"1.0","id":"7","source":"/orders","type":"order_reject","data":{"total":"12"}}`,
			"application/cloudevents+json", "/data/total",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newContractRig(t, Config{})
			r.post(c.path, "wk_web", c.body, "Content-Type: "+c.contentType)
			letters := r.letters()
			if len(letters) != 1 || !strings.HasPrefix(letters[0].Message, c.pointer+" ") {
				t.Errorf("letters %+v, want the message to begin with %s", letters, c.pointer)
			}
		})
	}
}
