package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// snippetRig is a visitor of pages that have the snippet in them, and the wire
// to the gateway.
type snippetRig struct {
	t *testing.T
	g *sdkGateway
	p *pages
	v *visitor
	*wire
	key, source string
	options     string // of init, besides key: members of an object
	origin      string
}

// page is the address of a page with the snippet and calls before it loads.
func (r *snippetRig) page(calls ...string) string {
	init := fmt.Sprintf("sluice('init', {key: %q, wait: 20, %s});", r.key, r.options)
	return r.origin + "/snippet/?" + url.Values{"gateway": {r.URL}, "calls": {init + strings.Join(calls, ";")}}.Encode()
}

// open opens a page and waits until the snippet is there.
func (r *snippetRig) open(calls ...string) *tab {
	r.t.Helper()
	return r.v.open(r.page(calls...))
}

// track makes n calls of track in a page.
func track(tb *tab, n int, name string) {
	tb.v.t.Helper()
	tb.eval(fmt.Sprintf("for (let n = 1; n <= %d; n++) sluice('track', %q, { n }); 0", n, name), nil)
}

// want waits until n events are in the warehouse, and compares them with what
// was sent; it returns them in the order in which they were first sent.
func (r *snippetRig) want(n int) (rows []row) {
	r.t.Helper()
	got := r.g.wantInWarehouse(r.t, r.wire, r.source, func() int { return n })
	if len(got) != n {
		r.t.Errorf("%d events are in the warehouse, want %d", len(got), n)
	}
	for _, p := range r.sent() {
		for _, e := range wantedOf(r.t, p) {
			if row, ok := got[e.id]; ok {
				rows = append(rows, row)
				delete(got, e.id)
			}
		}
	}
	return rows
}

// once wants that the gateway has taken no event twice.
func (r *snippetRig) once() {
	r.t.Helper()
	seen := map[string]bool{}
	twice := 0
	for _, p := range r.sent() {
		if !p.accepted() {
			continue
		}
		for _, e := range wantedOf(r.t, p) {
			if seen[e.id] {
				twice++
			}
			seen[e.id] = true
		}
	}
	if twice > 0 {
		r.t.Errorf("%d events were taken twice\n%v", twice, r.wire)
	}
}

// queue returns how many events wait in the storage of a page's origin: each
// page has an entry.
func (r *snippetRig) queue(tb *tab) (n int) {
	r.t.Helper()
	tb.eval(fmt.Sprintf("Object.entries(localStorage).filter(e => e[0].slice(36) == '.sluice.%s').reduce((n, e) => n + JSON.parse(e[1]).length, 0)", r.key), &n)
	return n
}

// empty waits until nothing waits in the page.
func (r *snippetRig) empty(tb *tab) {
	r.t.Helper()
	until(r.t, func() string { return fmt.Sprintf("%d events wait in the page", r.queue(tb)) }, func() bool { return r.queue(tb) == 0 })
}

// failed waits until the page knows that its events do not arrive.
func (r *snippetRig) failed(tb *tab) {
	r.t.Helper()
	until(r.t, func() string { return "the page does not know of a failure" }, func() bool {
		var failed bool
		tb.eval(fmt.Sprintf("+localStorage['w.sluice.%s'] > Date.now() - 60000", r.key), &failed)
		return failed
	})
}

// TestSnippet tests the snippet in Chromium: what it sends, and that nothing is
// lost whatever happens to the network, the gateway, the storage or the page.
func TestSnippet(t *testing.T) {
	t.Parallel()
	c := startChromium(t)
	p := newPages(t)
	g := newSDKGateway(t, p.origin, p.insecure)
	for _, tt := range []struct {
		name   string
		faults []fault
		test   func(r *snippetRig)
	}{
		{name: "all commands", test: snippetCommands},
		{name: "a page without https", test: func(r *snippetRig) {
			r.origin = r.p.insecure
			r.open("sluice('track', 'Insecure')")
			r.want(1)
		}},
		{name: "a page with a policy", test: func(r *snippetRig) {
			policy := fmt.Sprintf("default-src 'none'; img-src data:; script-src %[1]s 'nonce-n'; connect-src %[1]s", r.URL)
			r.v.open(r.page("sluice('track', 'Within the policy')") + "&policy=" + url.QueryEscape(policy))
			r.want(1)
		}},
		{name: "nonsense does not reach the page", test: snippetNonsense},
		{name: "offline and back", test: snippetOffline},
		{name: "429 with Retry-After", faults: []fault{throttled}, test: func(r *snippetRig) {
			track(r.open(), 3, "Throttled")
			r.want(3)
			if sent := r.sent(); len(sent) != 2 || sent[1].at.Sub(sent[0].at) < time.Second {
				r.t.Errorf("%d requests, %v apart", len(sent), sent[1].at.Sub(sent[0].at))
			}
			r.once()
		}},
		{name: "503 three times", faults: []fault{{status: 503}, {status: 503}, {status: 503}}, test: snippetBackoff},
		{name: "connections that are reset", faults: []fault{reset, reset}, test: func(r *snippetRig) {
			track(r.open(), 3, "Reset")
			r.want(3)
			r.once()
		}},
		{name: "a lost reply", faults: []fault{lostReply}, test: func(r *snippetRig) {
			track(r.open(), 3, "Twice on the wire")
			r.want(3)
			until(r.t, func() string { return "the second try" }, func() bool { return len(r.sent()) == 2 })
			if sent := r.sent(); string(sent[0].body) != string(sent[1].body) {
				r.t.Errorf("sent again, but not the same:\n%s\n%s", sent[0].body, sent[1].body)
			}
		}},
		{name: "a refused key may be repaired", faults: []fault{{status: 401}, {status: 403}, {status: 404}}, test: func(r *snippetRig) {
			track(r.open(), 2, "Refused")
			r.want(2)
		}},
		{name: "invalid events are dropped, and no others", test: snippetInvalid},
		{name: "a request that is refused as a whole is split", faults: []fault{refused, refused, refused}, test: snippetSplit},
		{name: "the gateway is killed and comes back", test: snippetKilled},
		{name: "a reload while the gateway is away", test: snippetReload},
		{name: "more than 64 KiB", test: snippetLarge},
		{name: "the storage is full", test: func(r *snippetRig) {
			tb := r.open()
			tb.eval("try { for (let n = 1e6; n >= 1; n = n / 2 | 0) for (;;) { try { localStorage.setItem('x' + Math.random(), 'x'.repeat(n)) } catch (e) { break } } } finally { 0 }", nil)
			track(tb, 5, "Full")
			r.want(5)
			r.once()
		}},
		{name: "the storage is forbidden", test: func(r *snippetRig) {
			r.v.first = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError') } })"
			track(r.open(), 5, "Forbidden")
			r.want(5)
			r.once()
		}},
		{name: "the storage is not wanted", test: func(r *snippetRig) {
			r.options = "storage: false"
			tb := r.open("sluice('identify', 'user-1')")
			track(tb, 5, "Nothing kept")
			r.want(6)
			var kept int
			if tb.eval("localStorage.length", &kept); kept != 0 {
				r.t.Errorf("%d entries are in the storage", kept)
			}
		}},
		{name: "the queue has a bound", test: snippetBound},
		{name: "two tabs", test: snippetTabs},
		{name: "a tab sends what another has left", test: snippetLeft},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			key, source := g.take(true)
			v := c.visitor(t)
			v.first = "{ const random = Math.random; Math.random = () => random() / 4 }" // waits of a quarter
			tt.test(&snippetRig{
				t: t, g: g, p: p, v: v, wire: newWire(t, g.gateway, tt.faults...), key: key, source: source, origin: p.origin,
			})
		})
	}
}

var uuidv7 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// snippetCommands makes each call, some before the script is there.
func snippetCommands(r *snippetRig) {
	began := time.Now()
	tb := r.open("sluice('page')", "sluice('track', 'Änn 😀', { nested: [null, { a: 1.5 }], text: '<\\/script>\\u2028' })")
	tb.eval(`sluice('identify', 'user-1', { plan: 'pro' });
		sluice('track', 'Bought', { total: 3 }, { timestamp: '2026-01-02T03:04:05.678Z', id: 'order-1-`+r.source+`', context: { own: true } });
		sluice('group', 'group-1', { size: 7 });
		sluice('page', 'Pricing', { title: 'Prices' });
		sluice('track', 'alias', {}, { type: 'alias', user_id: 'user-2', previousId: 'user-1' });
		sluice('reset');
		sluice('track', 'Later');
		sluice('flush'); 0`, nil)
	rows := r.want(8)
	r.once()
	anonymous := rows[0].anonymousID
	for i, want := range []struct{ kind, name, user, data, extra string }{
		{"page", "page", "", `"path":"/snippet/"`, ""},
		{"track", "Änn 😀", "", `{"nested":[null,{"a":1.5}],"text":"</script>` + "\u2028" + `"}`, ""},
		{"identify", "identify", "user-1", `{"plan":"pro"}`, ""},
		{"track", "Bought", "user-1", `{"total":3}`, ""},
		{"group", "group", "user-1", `{"size":7}`, `"groupId":"group-1"`},
		{"page", "Pricing", "user-1", `"title":"Prices"`, ""},
		{"alias", "alias", "user-2", `{}`, `"previousId":"user-1"`},
		{"track", "Later", "", `{}`, ""},
	} {
		got := rows[i]
		if got.kind != want.kind || got.name != want.name || got.userID != want.user || !strings.Contains(got.data, want.data) || !strings.Contains(got.context, want.extra) {
			r.t.Errorf("event %d is %+v, want %+v", i, got, want)
		}
		if same := got.anonymousID == anonymous; same != (want.name != "Later") || !uuidv7.MatchString(got.anonymousID) {
			r.t.Errorf("event %d is of the anonymous %s, the first of %s", i, got.anonymousID, anonymous)
		}
		if want.name == "Bought" {
			if got.id != "order-1-"+r.source || got.timestamp != "2026-01-02T03:04:05.678Z" || got.context != `{"own":true}` {
				r.t.Errorf("its own fields do not replace ours: %+v", got)
			}
			continue
		}
		at := timeOf(r.t, got.timestamp)
		if !uuidv7.MatchString(got.id) || at.Before(began.Add(-time.Second)) || at.After(time.Now()) {
			r.t.Errorf("event %d has id %s, and happened at %v", i, got.id, at)
		}
		var context struct {
			Page              struct{ URL, Title string }
			UserAgent, Locale string
			Library           struct{ Name, Version string }
		}
		unmarshal(r.t, got.context, &context)
		if !strings.HasPrefix(context.Page.URL, r.origin) || context.Page.Title != "Shop" || !strings.Contains(context.UserAgent, "Chrome") ||
			context.Locale == "" || context.Library.Name != "sluice.js" || context.Library.Version == "" {
			r.t.Errorf("event %d has context %s", i, got.context)
		}
	}
	for _, p := range r.sent() {
		// Simple requests, which need no preflight.
		if p.method != http.MethodPost || p.header.Get("Content-Type") != "text/plain;charset=UTF-8" || p.query.Get("write_key") != r.key {
			r.t.Errorf("%s %s %v", p.method, p.query, p.header)
		}
	}
}

// snippetNonsense: what is wrong with a call is said in the console.
func snippetNonsense(r *snippetRig) {
	tb := r.open()
	tb.eval(`const ring = {}; ring.ring = ring;
		sluice('track', 'Ring', ring); sluice('track', 'Big', { n: 1n }); sluice('nothing'); sluice(); sluice('init', { key: 'other' }); sluice('track', 'Fine'); 0`, nil)
	r.want(1)
	warnings := strings.Join(tb.said(), "\n")
	if n := strings.Count(warnings, "warning sluice:"); n != 4 || strings.Contains(warnings, "thrown") {
		r.t.Errorf("%d warnings:\n%s", n, warnings)
	}
}

func snippetOffline(r *snippetRig) {
	tb := r.open("sluice('track', 'Before')")
	r.want(1)
	tb.offline(true)
	track(tb, 3, "Offline")
	r.failed(tb)
	if n := r.queue(tb); n != 3 {
		r.t.Errorf("%d events wait, want 3", n)
	}
	tb.offline(false)
	r.want(4)
	r.empty(tb)
	r.once()
}

// snippetBackoff: the waits are random in a range that doubles.
func snippetBackoff(r *snippetRig) {
	r.v.first = "Math.random = () => 0.25"
	tb := r.open()
	track(tb, 3, "Unavailable")
	r.want(3)
	sent := r.sent()
	if len(sent) != 4 {
		r.t.Fatalf("%d requests", len(sent))
	}
	for n, want := range []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second} {
		if gap := sent[n+1].at.Sub(sent[n].at); gap < want {
			r.t.Errorf("the wait after failure %d was %v, want %v at least", n+1, gap, want)
		}
	}
	r.empty(tb)
	r.once()
}

func snippetInvalid(r *snippetRig) {
	tb := r.open()
	tb.eval("sluice('track', 'Good 1'); sluice('track', ''); sluice('track', 'Good 2'); sluice('track', 'Bad', 7); 0", nil)
	r.want(2)
	tb.eval("sluice('track'); sluice('flush'); 0", nil) // alone: 422
	until(r.t, func() string { return strings.Join(tb.said(), "\n") }, func() bool { return len(tb.said()) == 3 })
	r.empty(tb)
	r.once()
	if n := len(r.g.quarantined(r.t, r.source)); n != 3 {
		r.t.Errorf("%d events are in the quarantine, want 3", n)
	}
}

// snippetSplit: of four events the first is refused, alone and with others.
func snippetSplit(r *snippetRig) {
	tb := r.open()
	track(tb, 4, "Split")
	rows := r.want(3)
	for _, row := range rows {
		if row.data == `{"n":1}` {
			r.t.Error("the first was refused three times, and is there")
		}
	}
	var sizes []int
	for _, p := range r.sent() {
		sizes = append(sizes, len(wantedOf(r.t, p)))
	}
	if !slices.Equal(sizes[:3], []int{4, 2, 1}) || !strings.Contains(strings.Join(tb.said(), "\n"), "dropped") {
		r.t.Errorf("requests of %v events; %v", sizes, tb.said())
	}
	r.empty(tb)
}

func snippetKilled(r *snippetRig) {
	dir := dataFolder(r.t, everythingToWarehouse)
	first := start(r.t, dir)
	r.key, r.source = writeKey, "web"
	r.cut(first.gateway)
	tb := r.open("sluice('track', 'Before')")
	first.await("the first event", func(l ledger) bool { return l.Destinations["warehouse"].Delivered == 1 })
	r.empty(tb)
	r.cut("")
	first.kill()
	track(tb, 20, "While it was away")
	r.failed(tb)
	second := start(r.t, dir)
	r.cut(second.gateway)
	r.g = &sdkGateway{process: second}
	r.want(21)
	r.empty(tb)
	second.stop()
}

func snippetReload(r *snippetRig) {
	tb := r.open()
	r.cut("")
	track(tb, 5, "Before the reload")
	r.failed(tb)
	if n := r.queue(tb); n != 5 {
		r.t.Errorf("%d events wait, want 5", n)
	}
	tb.goTo(r.p.origin + "/empty/")
	r.cut(r.g.gateway)
	tb.goTo(r.page("sluice('track', 'After')"))
	r.want(6)
	r.empty(tb)
	r.once()
}

// snippetLarge: the limit is in bytes, and ü has two. Three events do not go
// into one request, nor all of them into beacons.
func snippetLarge(r *snippetRig) {
	tb := r.open()
	large := "for (let n = 1; n <= 3; n++) sluice('track', 'Large', { n, text: 'ü'.repeat(15000) });"
	tb.eval(large+"sluice('track', 'Larger than a beacon', { text: 'ü'.repeat(80000) }); 0", nil)
	r.want(4)
	r.empty(tb)
	for _, p := range r.sent() {
		if events := len(wantedOf(r.t, p)); len(p.body) > 64<<10 && events > 1 {
			r.t.Errorf("a request has %d bytes and %d events", len(p.body), events)
		}
	}
	r.options = "wait: 60000"
	tb.goTo(r.page())
	tb.eval(large+"0", nil)
	tb.goTo(r.p.origin + "/empty/")
	until(r.t, func() string { return "beacons" }, func() bool { return len(r.taken(r.t)) >= 6 })
	// The browser may not keep that two of three were removed in the last moment.
	if n := r.queue(tb); n != 1 && n != 3 {
		r.t.Errorf("%d events are kept, of which the browser did not take one", n)
	}
	r.options = ""
	tb.goTo(r.page())
	r.want(7)
}

// snippetBound: the oldest leave.
func snippetBound(r *snippetRig) {
	tb := r.open()
	r.cut("")
	tb.eval("for (let n = 1; n <= 60; n++) sluice('track', 'Much', { n, text: 'x'.repeat(10000) }); 0", nil)
	r.failed(tb)
	var characters int
	tb.eval("Object.entries(localStorage).reduce((sum, e) => sum + e[1].length, 0)", &characters)
	kept := r.queue(tb)
	if kept < 40 || kept >= 50 || characters > 501_000 {
		r.t.Errorf("%d events are kept, with %d characters", kept, characters)
	}
	if dropped := strings.Count(strings.Join(tb.said(), "\n"), "too much waits"); dropped != 60-kept {
		r.t.Errorf("%d warnings, and %d events were dropped", dropped, 60-kept)
	}
	r.cut(r.g.gateway)
	for _, row := range r.want(kept) {
		var data struct{ N int }
		if unmarshal(r.t, row.data, &data); data.N <= 60-kept {
			r.t.Errorf("event %d is there, an old one", data.N)
		}
	}
}

// snippetTabs: of two pages side by side neither sends what the other does.
func snippetTabs(r *snippetRig) {
	first, second := r.open(), r.open()
	for range 10 {
		track(first, 5, "First")
		track(second, 5, "Second")
	}
	r.want(100)
	r.empty(first)
	r.once()
	// Both have events when the gateway comes back.
	r.cut("")
	track(first, 20, "First, away")
	track(second, 20, "Second, away")
	r.cut(r.g.gateway)
	r.want(140)
	r.empty(second)
	r.once()
}

// snippetLeft: a tab that ends while the gateway is away leaves its events to
// the other.
func snippetLeft(r *snippetRig) {
	first, second := r.open(), r.open()
	r.cut("")
	track(first, 5, "Left")
	r.failed(first)
	first.close()
	r.cut(r.g.gateway)
	track(second, 1, "Own")
	r.want(6)
	r.empty(second)
	r.once()
}
