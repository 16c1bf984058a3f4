package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/testenv"
)

// sdkGateway is one gateway that all tests of SDKs send to, each with a key of
// its own, which is the source of its events.
type sdkGateway struct {
	*process

	mu    sync.Mutex
	taken int
}

// sdkKeys is how many keys the gateway has.
const sdkKeys = 500

// newSDKGateway starts the gateway. The keys whose number is odd may be used
// from the origins only; back ends use the even ones.
func newSDKGateway(t *testing.T, origins ...string) *sdkGateway {
	t.Helper()
	keys := []map[string]any{{"id": "fixture", "kind": "write", "sha256": hash(fixtureKey)}}
	for n := range sdkKeys {
		key := map[string]any{"id": sourceOf(n), "kind": "write", "sha256": hash(sdkKey(n))}
		if n%2 == 1 {
			key["origins"] = origins
		}
		keys = append(keys, key)
	}
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	d := everythingToWarehouse
	d.keys = string(text)
	g := &sdkGateway{process: start(t, dataFolder(t, d), "SLUICE_PROTOCOLS=jitsu,snowplow,posthog,mixpanel")}
	key, _ := g.take(false) // so that the warehouse has its table
	g.send("/v1/events", `{"name":"first"}`, http.Header{"Authorization": {"Bearer " + key}})
	g.settle()
	return g
}

func sourceOf(n int) string { return fmt.Sprintf("sdk-%d", n) }
func sdkKey(n int) string   { return fmt.Sprintf("wk_sdk_%03d_0123456789abcdefghijklmnopqr", n) }

// take returns a key that no other test has, and the source of its events.
func (g *sdkGateway) take(fromPage bool) (key, source string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 2 * g.taken
	if fromPage {
		n++
	}
	if n >= sdkKeys {
		g.t.Fatal("there are too few keys")
	}
	g.taken++
	return sdkKey(n), sourceOf(n)
}

// rows returns the rows of a source, in the order in which they were written.
func (g *sdkGateway) rows(t *testing.T, source string) []row {
	t.Helper()
	return slices.DeleteFunc(warehouse(t, g.dir), func(r row) bool { return r.source != source })
}

// until looks until it sees what it wants, which describe says.
func until(t testing.TB, describe func() string, look func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !look(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", describe())
		}
		<-time.After(10 * time.Millisecond)
	}
}

// wantInWarehouse waits until the gateway has taken n events, and all that it
// has taken are in the warehouse, and compares each with its row, field by
// field. Nothing else may be there. It returns the rows by their ids.
func (g *sdkGateway) wantInWarehouse(t *testing.T, w *wire, source string, n func() int) map[string]row {
	t.Helper()
	var events map[string]wanted
	var rows map[string]row
	until(t, func() string {
		return fmt.Sprintf("%d events are wanted, %d taken and %d in the warehouse\n%v%s", n(), len(events), len(rows), w, g.quarantined(t, source))
	}, func() bool {
		quiet := w.quiet()
		events = w.taken(t)
		rows = map[string]row{}
		for _, r := range g.rows(t, source) {
			rows[r.id] = r
		}
		return quiet && len(events) >= n() && len(rows) >= len(events)
	})
	ours := 0 // ids that the gateway has made
	for id, e := range events {
		if r, ok := rows[id]; ok {
			compare(t, e, r)
		} else if strings.HasPrefix(id, noID) {
			ours++
		} else {
			t.Errorf("%+v is not in the warehouse", e)
		}
	}
	for id, r := range rows {
		if _, ok := events[id]; ok {
			continue
		}
		if ours--; ours < 0 {
			t.Errorf("nobody has sent %+v", r)
		}
	}
	return rows
}

// compare wants every field of e where the contract puts it.
func compare(t *testing.T, e wanted, r row) {
	t.Helper()
	if e.loose {
		if r.kind != e.kind || r.name != e.name || r.userID+r.anonymousID == "" {
			t.Errorf("%s: sent %q %q, stored %+v", e.id, e.kind, e.name, r)
		}
		if data := value(t, []byte(r.data), nil); e.data != nil && !reflect.DeepEqual(data, e.data) {
			t.Errorf("%s %s: data is %s, want %v", e.kind, e.id, r.data, e.data)
		}
		return
	}
	if r.kind != e.kind || r.name != e.name || r.userID != e.userID || r.anonymousID != e.anonymousID {
		t.Errorf("%s: sent %q %q of %q and %q, stored %q %q of %q and %q", e.id,
			e.kind, e.name, e.userID, e.anonymousID, r.kind, r.name, r.userID, r.anonymousID)
	}
	received := timeOf(t, r.receivedAt)
	happened := e.timestamp
	if happened.IsZero() {
		happened = received
	} else if !e.sentAt.IsZero() {
		happened = happened.Add(received.Sub(e.sentAt))
	}
	if stored := timeOf(t, r.timestamp); stored.Sub(happened).Abs() > time.Millisecond {
		t.Errorf("%s: happened at %v, stored %v", e.id, happened, r.timestamp)
	}
	if data := value(t, []byte(r.data), nil); !reflect.DeepEqual(data, e.data) {
		t.Errorf("%s %s: data is %s, want %v", e.kind, e.id, r.data, e.data)
	}
	if context := value(t, []byte(r.context), nil); !reflect.DeepEqual(context, e.context) {
		t.Errorf("%s %s: context is %s, want %v", e.kind, e.id, r.context, e.context)
	}
}

// call is one call of an SDK, as those of Segment's family name things.
type call struct {
	Call        string         `json:"call"`
	N           int            `json:"n"`
	Event       string         `json:"event,omitempty"`
	Name        string         `json:"name,omitempty"`
	UserID      string         `json:"userId,omitempty"`
	AnonymousID string         `json:"anonymousId,omitempty"`
	GroupID     string         `json:"groupId,omitempty"`
	PreviousID  string         `json:"previousId,omitempty"`
	Timestamp   string         `json:"timestamp,omitempty"`
	Properties  map[string]any `json:"properties,omitempty"`
	Traits      map[string]any `json:"traits,omitempty"`
	Context     map[string]any `json:"context,omitempty"`
}

// sdkCalls are the six calls, and data that is odd and allowed.
var sdkCalls = numbered([]call{
	{Call: "identify", UserID: "user-1", Traits: map[string]any{"email": "ann@example.com", "name": "Änn 😀"}},
	{Call: "page", UserID: "user-1", Name: "Home", Properties: map[string]any{"url": "https://shop.example/?a=1&b=<2>"}},
	{Call: "screen", AnonymousID: "anon-1", Name: "Main", Properties: map[string]any{"width": 390}},
	{Call: "group", UserID: "user-1", GroupID: "group-1", Traits: map[string]any{"plan": "team"}},
	{Call: "alias", UserID: "user-1", PreviousID: "anon-1"},
	{
		Call: "track", UserID: "user-1", AnonymousID: "anon-1", Event: "Order Completed",
		Properties: map[string]any{"total": 12.5, "items": []any{map[string]any{"sku": "a"}, map[string]any{"sku": "b"}}},
		Context:    map[string]any{"ip": "203.0.113.9", "campaign": map[string]any{"name": "spring"}},
	},
	{Call: "track", UserID: "user-1", Event: "Backfilled", Timestamp: "2024-01-02T03:04:05.678Z", Properties: map[string]any{"old": true}},
	{Call: "track", UserID: "ü-1", Event: "Ünïcödé – 注文 🛒", Properties: map[string]any{"emoji": "👩‍👩‍👧‍👦", "مرحبا": "שלום"}},
	{Call: "track", UserID: "user-1", Event: "Numbers", Properties: map[string]any{"zero": 0, "minus": -1.5, "tiny": 1e-7, "huge": 1e21, "exact": 9007199254740991}},
	{Call: "track", UserID: "user-1", Event: "Nested", Properties: map[string]any{
		"null": nil, "yes": true, "no": false, "a.b": map[string]any{"c d": []any{[]any{}, map[string]any{}, []any{nil, []any{1}}}}, "": "no name",
	}},
	{Call: "track", UserID: "user-1", Event: "Text", Properties: map[string]any{"controls": "\"\\/\b\f\n\r\t\x01\x1f\u2028\u2029", "html": "</script><!--", "empty": ""}},
	{Call: "track", UserID: "user-1", Event: "Long", Properties: map[string]any{"long": strings.Repeat("größer ", 1500)}},
})

// numbered numbers calls, also in their data, so that they are known again.
func numbered(calls []call) []call {
	for i := range calls {
		c := &calls[i]
		c.N = i + 1
		switch c.Call {
		case "identify", "group":
			c.Traits["n"] = c.N
		case "track", "page", "screen":
			c.Properties["n"] = c.N
		}
	}
	return calls
}

func (c call) data() map[string]any {
	if c.Traits != nil {
		return c.Traits
	}
	return c.Properties
}

// wantCalls finds each call among the rows, and compares what the caller has
// given with what is stored.
func wantCalls(t *testing.T, calls []call, rows map[string]row, cut int) {
	t.Helper()
	for _, c := range calls {
		r, ok := rowOf(t, c, rows)
		if !ok {
			t.Errorf("call %d, %s %s, is not in the warehouse", c.N, c.Call, c.Event)
			continue
		}
		var stored map[string]any
		unmarshal(t, r.data, &stored)
		for name, want := range plain(t, c.data()) {
			if text, ok := want.(string); ok && cut > 0 && utf8.RuneCountInString(text) > cut {
				want = string([]rune(text)[:cut])
			}
			if got := stored[name]; !reflect.DeepEqual(got, want) {
				t.Errorf("call %d: data.%s is %.200v, want %.200v", c.N, name, got, want)
			}
		}
	}
}

// rowOf finds the row of a call, by its number; an alias has none.
func rowOf(t *testing.T, c call, rows map[string]row) (row, bool) {
	t.Helper()
	for _, r := range rows {
		var data struct{ N int }
		unmarshal(t, r.data, &data)
		if data.N == c.N || c.Call == "alias" && r.kind == "alias" {
			return r, true
		}
	}
	return row{}, false
}

// plain is a value as JSON has it.
func plain(t *testing.T, v map[string]any) (out map[string]any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	unmarshal(t, string(text), &out)
	return out
}

func unmarshal(t testing.TB, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// sdkProgram is how to run an SDK outside of a browser.
type sdkProgram struct {
	command []string
	dir     string
	env     []string
}

// belief is what an SDK says of the calls, by their numbers.
type belief struct{ Delivered, Failed []int }

// sdkRun is one time that an SDK makes all calls: through a wire of its own,
// with a key of its own.
type sdkRun struct {
	*wire
	key, source string
	belief      belief
}

// runner makes calls with an SDK, once for each of runs, all at the same time,
// and returns when the SDK has nothing left to do.
type runner interface {
	run(t *testing.T, calls []call, runs []*sdkRun)
}

func (s sdkProgram) run(t *testing.T, calls []call, runs []*sdkRun) {
	t.Helper()
	text, err := json.Marshal(calls)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "calls.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var to []map[string]string
	for _, r := range runs {
		to = append(to, map[string]string{"host": r.URL, "key": r.key})
	}
	if text, err = json.Marshal(to); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), s.command[0], s.command[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(append(cleanEnv(), s.env...), "SLUICE_RUNS="+string(text), "SLUICE_CALLS="+file)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("the SDK failed: %v\n%s%s", err, &stdout, &stderr)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the SDK said:\n%s%s", &stdout, &stderr)
		}
	})
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	var beliefs []belief
	unmarshal(t, lines[len(lines)-1], &beliefs)
	if len(beliefs) != len(runs) {
		t.Fatalf("%d runs have %d results", len(runs), len(beliefs))
	}
	for i, b := range beliefs {
		runs[i].belief = b
	}
}

// node is an SDK in Node.js; options are for its adapter, see node/send.mjs.
func node(adapter, options string) sdkProgram {
	return sdkProgram{
		command: []string{"node", "send.mjs"}, dir: "node",
		env: []string{"SLUICE_SDK=" + adapter, "SLUICE_OPTIONS=" + options},
	}
}

// unmodifiedSDK is one SDK and what is particular of it.
type unmodifiedSDK struct {
	name string
	runner
	inPage bool
	// lacks are the calls that it does not have, or does not send.
	lacks func(call) bool
	// silent: it says nothing of single calls, or not the truth.
	silent bool
	// deaf: it does not look at the status of an answer. The gateway keeps 429
	// and 503 from it, as internal/edge tests.
	deaf bool
	// more is how many events it makes besides.
	more int
	// cut is how many characters of a text it sends; 0: all.
	cut int
	// after says what becomes of a batch at each fault; nil: it is not tried.
	after map[string]outcome
}

// calls are those of sdkCalls that the SDK sends.
func (s unmodifiedSDK) calls() []call {
	return slices.DeleteFunc(slices.Clone(sdkCalls), func(c call) bool { return s.lacks != nil && s.lacks(c) })
}

// outcome is what an SDK does after a fault.
type outcome uint8

const (
	retries outcome = iota + 1 // the events arrive
	drops                      // it gives them up, by a rule of its own
)

// Most SDKs send again what may be stored later, and drop what was refused; some
// send nothing again. (Where it is a browser that sends, it may itself do so
// after a reset.)
var (
	thorough       = map[string]outcome{throttled.name: retries, unavailable.name: retries, reset.name: retries, lostReply.name: retries, refused.name: drops}
	careless       = map[string]outcome{throttled.name: drops, unavailable.name: drops, reset.name: drops, refused.name: drops}
	carelessInPage = map[string]outcome{throttled.name: drops, unavailable.name: drops, refused.name: drops}
)

func is(calls ...string) func(call) bool {
	return func(c call) bool { return slices.Contains(calls, c.Call) }
}

// sdksInNode are the SDKs from npm for back ends.
func sdksInNode() []unmodifiedSDK {
	return []unmodifiedSDK{
		{name: "segment analytics-node 3", runner: node("segment", `{"package":"@segment/analytics-node"}`), after: thorough},
		{ // the key is in the body only
			name: "segment analytics-node 2", runner: node("segment", `{"package":"segment-node-2"}`),
			after: thorough,
		},
		{ // the key is in the header only
			name: "segment analytics-node 1", runner: node("segment", `{"package":"segment-node-1"}`),
			after: thorough,
		},
		{ // its gzipped JSON says that it is a form
			name: "rudderstack rudder-sdk-node", runner: node("rudder", ``),
			after: thorough,
		},
		{name: "rudderstack rudder-sdk-node without gzip", runner: node("rudder", `{"gzip":false}`)},
		{
			name: "jitsu js for servers", runner: node("jitsu", ``), lacks: is("screen", "alias"),
			after: careless,
		},
	}
}

// python is Segment's SDK from PyPI.
func python(t *testing.T) unmodifiedSDK {
	interpreter := testenv.Python(t, filepath.Join("python", "requirements.txt"))
	return unmodifiedSDK{
		name:   "segment-analytics-python",
		runner: sdkProgram{command: []string{interpreter, filepath.Join("python", "send.py")}},
		after:  thorough,
	}
}

func pythonGzip(t *testing.T) unmodifiedSDK {
	s := python(t)
	s.name += " with gzip"
	s.runner = sdkProgram{command: s.runner.(sdkProgram).command, env: []string{"SLUICE_GZIP=1"}}
	s.after = nil
	return s
}

// golang is Segment's SDK for Go. It retries everything, also what was refused.
func golang(t *testing.T) unmodifiedSDK {
	program := filepath.Join(t.TempDir(), "sdk")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	cmd.Dir = "go"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return unmodifiedSDK{
		name:   "segment analytics-go",
		runner: sdkProgram{command: []string{program}},
		after:  map[string]outcome{throttled.name: retries, unavailable.name: retries, reset.name: retries, lostReply.name: retries, refused.name: retries},
	}
}

// TestSDKs sends with SDKs as their registries have them, and as captured from
// them, and compares the warehouse with what they have sent.
func TestSDKs(t *testing.T) {
	t.Parallel()
	testenv.NodeModules(t, "node")
	p := newPages(t)
	c := startChromium(t)
	g := newSDKGateway(t, p.origin)
	t.Run("a page without an SDK", func(t *testing.T) {
		t.Parallel()
		testRawSenders(t, g, p, c)
	})
	t.Run("as recorded", func(t *testing.T) {
		t.Parallel()
		testFixtures(t, g)
	})
	for _, sdk := range []unmodifiedSDK{
		{name: "segment node", runner: node("segment", `{"package":"@segment/analytics-node"}`)},
		{name: "rudderstack node", runner: node("rudder", ``)},
		{name: "segment page", inPage: true, runner: sdkPage{p: p, c: c, adapter: "segment"}},
	} {
		t.Run("a bad event among good ones, "+sdk.name, func(t *testing.T) {
			t.Parallel()
			badAmongGood(t, g, sdk)
		})
	}
	t.Run("examples", func(t *testing.T) {
		t.Parallel()
		testSDKExample(t, g, c)
	})
	t.Run("pages that end", func(t *testing.T) {
		t.Parallel()
		testLastEvents(t, g, p, c)
	})
	for _, sdk := range slices.Concat(
		sdksInNode(), protocolSDKs(), []unmodifiedSDK{python(t), pythonGzip(t), golang(t)}, sdksInPages(p, c), protocolPages(p, c),
	) {
		t.Run(sdk.name, func(t *testing.T) {
			t.Parallel()
			sdk.test(t, g)
		})
	}
}

// test makes the calls once without a fault, and once for each fault.
func (s unmodifiedSDK) test(t *testing.T, g *sdkGateway) {
	runs := []*sdkRun{g.newRun(t, s.inPage)}
	faults := []fault{{}}
	for _, f := range []fault{throttled, unavailable, refused, reset, lostReply} {
		if s.after[f.name] != 0 {
			f.unreadable = s.deaf && f.status > http.StatusBadRequest
			faults = append(faults, f)
			runs = append(runs, g.newRun(t, s.inPage, f))
		}
	}
	s.run(t, s.calls(), runs)
	for i, r := range runs {
		if i == 0 {
			t.Run("all calls", func(t *testing.T) { s.wantAll(t, g, r) })
		} else {
			t.Run(faults[i].name, func(t *testing.T) { s.wantAfter(t, g, r, s.after[faults[i].name]) })
		}
	}
}

func (g *sdkGateway) newRun(t *testing.T, inPage bool, faults ...fault) *sdkRun {
	key, source := g.take(inPage)
	return &sdkRun{wire: newWire(t, g.gateway, faults...), key: key, source: source}
}

// wantAll wants every call in the warehouse, and the SDK to believe so.
func (s unmodifiedSDK) wantAll(t *testing.T, g *sdkGateway, r *sdkRun) {
	rows := g.wantInWarehouse(t, r.wire, r.source, func() int { return len(s.calls()) + s.more })
	wantCalls(t, s.calls(), rows, s.cut)
	if len(rows) != len(s.calls())+s.more {
		t.Errorf("%d calls have become %d events", len(s.calls()), len(rows))
	}
	s.wantBelief(t, r, len(rows))
	for _, p := range r.sent() {
		want := http.StatusOK
		if p.path == "/v1/events" {
			want = http.StatusAccepted
		}
		if p.status != want {
			t.Errorf("%s was answered %d", p.path, p.status)
		}
	}
}

func (s unmodifiedSDK) wantBelief(t *testing.T, r *sdkRun, delivered int) {
	t.Helper()
	if !s.silent && len(r.belief.Delivered) != delivered {
		t.Errorf("the SDK believes that %v were delivered and %v failed; %d were delivered", r.belief.Delivered, r.belief.Failed, delivered)
	}
}

// wantAfter wants that the events of the request at which the fault happened
// arrive in a later one, or are given up as the SDK's rules say; and that all
// others arrive in any case.
func (s unmodifiedSDK) wantAfter(t *testing.T, g *sdkGateway, r *sdkRun, want outcome) {
	failed := func() (ids []string) {
		for _, p := range r.sent() {
			if p.fault != "" {
				for _, e := range wantedOf(t, p) {
					ids = append(ids, e.id)
				}
			}
		}
		return ids
	}
	rows := g.wantInWarehouse(t, r.wire, r.source, func() int {
		if want == drops {
			return len(s.calls()) - len(failed())
		}
		return len(s.calls())
	})
	if len(failed()) == 0 {
		t.Fatal("the fault has not happened")
	}
	for _, id := range failed() {
		if _, ok := rows[id]; ok != (want == retries) {
			t.Errorf("%s, of the request that failed: in the warehouse: %t", id, ok)
		}
	}
	if want == retries {
		wantCalls(t, s.calls(), rows, s.cut)
	}
	s.wantBelief(t, r, len(rows))
}

// quarantined returns the letters in the quarantine that are of a source.
func (g *sdkGateway) quarantined(t *testing.T, source string) (found []fields) {
	t.Helper()
	out, errs, status := g.run("quarantine", "list", "--json")
	if status != 0 {
		t.Fatalf("sluice quarantine list: %d\n%s", status, errs)
	}
	for line := range strings.Lines(out) {
		if l := members([]byte(line)); l.text("source") == source {
			found = append(found, l)
		}
	}
	return found
}

// badAmongGood: a name that is too long goes through SDKs, and not through the
// gateway. The SDK is told nothing, for it would drop the others too; the event
// is put aside with the reason.
func badAmongGood(t *testing.T, g *sdkGateway, sdk unmodifiedSDK) {
	calls := numbered([]call{
		{Call: "track", UserID: "user-1", Event: "Good 1", Properties: map[string]any{}},
		{Call: "track", UserID: "user-1", Event: strings.Repeat("bad ", 200), Properties: map[string]any{}},
		{Call: "track", UserID: "user-1", Event: "Good 2", Properties: map[string]any{}},
	})
	r := g.newRun(t, sdk.inPage)
	r.transport = contract.Base
	sdk.run(t, calls, []*sdkRun{r})
	if len(r.belief.Delivered) != 3 {
		t.Errorf("the SDK believes %+v", r.belief)
	}
	for _, p := range r.sent() {
		if p.status != http.StatusOK || string(p.answer) != `{"success":true}` {
			t.Errorf("answered %d %s", p.status, p.answer)
		}
	}
	var names []string
	until(t, func() string { return fmt.Sprintf("%q are in the warehouse", names) }, func() bool {
		names = nil
		for _, r := range g.rows(t, r.source) {
			names = append(names, r.name)
		}
		slices.Sort(names)
		return slices.Equal(names, []string{"Good 1", "Good 2"})
	})
	letters := g.quarantined(t, r.source)
	if len(letters) != 1 || letters[0].text("code") != "too_long" || !strings.Contains(letters[0].text("message"), "/event") {
		t.Errorf("the quarantine holds %d letters: %.500s", len(letters), letters)
	}
}
