package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/edge/limit"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/testenv"
)

// limited returns a rig whose one key, wk_lim, has these fields besides.
func limited(t testing.TB, fields string, cfg Config) *rig {
	t.Helper()
	r := newRig(t, cfg)
	keys, err := source.Parse(fmt.Appendf(nil, `{"keys":[{"id":"lim","kind":"write","source":"shop","sha256":%q,%s}]}`, source.Hash("wk_lim"), fields), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.keys = keys
	return r
}

// said are the codes of the errors of an answer, by index, and its ids that are
// null.
func said(a answer) (codes map[int]string, null []int) {
	codes = map[int]string{}
	d := a.problem()
	for _, e := range d.Errors {
		codes[e.Index] = e.Code
	}
	for i, id := range d.IDs {
		if id == nil {
			null = append(null, i)
		}
	}
	return codes, null
}

func TestAnEventOverTheRateOfItsUserOrNameIsAnErrorOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the time stands still
		const rates = `"user_rate":{"per_second":0.1,"burst":2},"event_rate":{"per_second":0.05,"burst":3}`
		r := limited(t, rates, Config{})
		a := r.post("/v1/events", "wk_lim", `[
		{"name":"a","user_id":"ann"},{"name":"b","user_id":"ann"},{"name":"c","user_id":"ann"},
		{"data":{}},
		{"name":"a","user_id":"bob"},{"name":"a","user_id":"cid"},{"name":"a","user_id":"dan"},
		{"name":"b","anonymous_id":"ann"},{"name":"c"},{"name":"c"}]`).want(207, "")
		codes, null := said(a)
		if want := map[int]string{2: "user_rate_limited", 3: "required", 6: "event_rate_limited"}; !maps.Equal(codes, want) {
			t.Errorf("errors %v, want %v", codes, want)
		}
		if !slices.Equal(null, []int{2, 3, 6}) {
			t.Errorf("the ids of %v are null", null)
		}
		if d := a.problem(); d.Accepted != 7 || d.Rejected != 3 {
			t.Errorf("%s", a.body)
		}
		// One more of name a is there after 20 s, of user ann after 10.
		if got := a.header.Get("Retry-After"); got != "20" {
			t.Errorf("Retry-After is %s, want 20", got)
		}
		if got := strings.Join(r.names(), ""); got != "abaabcc" {
			t.Errorf("stored are %s", got)
		}
		r.wantLedger(7, map[string]uint64{"rate_limited": 2, "invalid": 1})
		// Its sender sends it again: only the invalid one is kept.
		if l := r.letters(); len(l) != 1 || l[0].Class != "invalid" {
			t.Errorf("letters %+v", l)
		}
	})
}

func TestARequestOfWhichNoEventRemainsIsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path, body string
		code             string
		errors           map[int]string
		rejected         map[string]uint64
	}{
		{
			"one event", "/v1/events", `{"name":"a","user_id":"ann"}`,
			"user_rate_limited", map[int]string{0: "user_rate_limited"}, map[string]uint64{"rate_limited": 1},
		},
		{
			"an invalid one among them", "/v1/events", `[{"name":"a","user_id":"ann"},{}]`,
			"user_rate_limited", map[int]string{0: "user_rate_limited", 1: "required"}, map[string]uint64{"rate_limited": 1, "invalid": 1},
		},
		{
			"by the name", "/v1/events", `[{"name":"full","user_id":"bob"}]`,
			"event_rate_limited", map[int]string{0: "event_rate_limited"}, map[string]uint64{"rate_limited": 1},
		},
		{
			"an SDK", "/v1/batch", `{"batch":[{"type":"track","event":"a","userId":"ann"},{"type":"track","event":"b","userId":"ann"}]}`,
			"user_rate_limited", map[int]string{}, map[string]uint64{"rate_limited": 2},
		},
		{
			"an SDK, and an invalid one", "/v1/batch", `{"batch":[{"type":"track","userId":"ann"},{"type":"track","event":"b","userId":"ann"}]}`,
			"user_rate_limited", map[int]string{}, map[string]uint64{"rate_limited": 1, "invalid": 1},
		},
		{
			"an SDK of one event a request", "/v1/track", `{"event":"full","anonymousId":"x"}`,
			"event_rate_limited", map[int]string{}, map[string]uint64{"rate_limited": 1},
		},
	} {
		synctest.Test(t, func(t *testing.T) { // the time stands still
			t.Log(tt.name)
			r := limited(t, `"user_rate":{"per_second":0.1,"burst":1},"event_rate":{"per_second":0.1,"burst":1}`, Config{})
			r.post("/v1/events", "wk_lim", `{"name":"full","user_id":"ann"}`).want(202, "")
			a := r.post(tt.path, "wk_lim", tt.body).want(429, tt.code)
			if got := a.header.Get("Retry-After"); got != "10" {
				t.Errorf("Retry-After is %s, want 10", got)
			}
			if codes, _ := said(a); !maps.Equal(codes, tt.errors) {
				t.Errorf("errors %v, want %v", codes, tt.errors)
			}
			// All of it is sent again, so nothing is kept.
			if n := len(r.events()); n != 1 || len(r.letters()) != 0 {
				t.Errorf("%d events and %d letters", n, len(r.letters()))
			}
			r.wantLedger(1, tt.rejected)
		})
	}
}

func TestAnSDKLosesNoEventThatIsOverARateAndResendsNone(t *testing.T) {
	t.Parallel()
	r := limited(t, `"ip":true,"user_rate":{"per_second":0.01,"burst":2}`, Config{})
	event := func(i int, user string) string {
		return fmt.Sprintf(`{"type":"track","event":"e%d","userId":%q,"messageId":"m%d","properties":{"i":%d},"timestamp":"2026-11-23T10:00:0%d.000Z","x":[1]}`, i, user, i, i, i)
	}
	body := `{"sentAt":"2026-11-23T10:00:10.000Z","context":{"app":"shop"},"batch":[` +
		strings.Join([]string{event(0, "ann"), event(1, "bob"), event(2, "ann"), event(3, "ann"), event(4, "bob"), `{"type":"track"}`, event(5, "bob")}, ",") + `]}`
	if a := r.post("/v1/batch", "wk_lim", body); a.status != 200 || a.body != `{"success":true}` {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if got := strings.Join(r.names(), " "); got != "e0 e1 e2 e4" {
		t.Errorf("stored are %s", got)
	}
	r.wantLedger(4, map[string]uint64{"rate_limited": 2, "invalid": 1})
	var over []deadletter.Letter
	for _, l := range r.letters() {
		if l.Class == "rate_limited" {
			over = append(over, l)
		}
	}
	if len(over) != 2 || over[0].EventID != "m3" || over[0].EventName != "e3" || over[1].EventID != "m5" || over[0].Code != "user_rate_limited" ||
		over[0].Source != "shop" || over[0].Message != "the key lim allows each user 0.01 events a second, 2 at once" {
		t.Fatalf("letters %+v", over)
	}
	for i, err := range r.edge.Readmit(t.Context(), over) {
		if err != nil {
			t.Errorf("letter %d: %v", i, err)
		}
	}
	// They are what they would have been: the clock of the sender corrected, the
	// context of the batch, the address.
	stored := r.events()
	want := limited(t, `"ip":true`, Config{})
	if a := want.post("/v1/batch", "wk_lim", body); a.status != 200 {
		t.Fatal(a.body)
	}
	for at, i := range map[int]int{4: 3, 5: 5} { // place among the stored by number
		got, want := stored[at], want.events()[i]
		// Two requests, two times.
		received, err := time.Parse(time.RFC3339, got.ReceivedAt)
		if err != nil || time.Since(received) > time.Hour {
			t.Errorf("received_at %s", got.ReceivedAt)
		}
		got.ReceivedAt, want.ReceivedAt, got.Timestamp, want.Timestamp = "", "", "", ""
		if !reflect.DeepEqual(got, want) {
			t.Errorf("e%d is %+v, want %+v", i, got, want)
		}
	}
	// Of a batch that the quarantine does not take nothing is said to be stored.
	r.quarantine.err = errors.New("disk full")
	if a := r.post("/v1/batch", "wk_lim", `{"batch":[`+event(6, "new")+`,`+event(7, "ann")+`]}`); a.status != 503 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestWhatIsOverIsAdmittedAfterItsRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := limited(t, `"user_rate":{"per_second":0.5,"burst":3},"event_rate":{"per_second":1,"burst":100}`, Config{})
		batch := "[" + strings.Repeat(`{"name":"a","user_id":"ann"},`, 4) + `{"name":"a","user_id":"ann"}]`
		a := r.post("/v1/events", "wk_lim", batch).want(207, "")
		if got := a.header.Get("Retry-After"); got != "4" { // two events at one in two seconds
			t.Fatalf("Retry-After is %s", got)
		}
		again := `[{"name":"a","user_id":"ann"},{"name":"a","user_id":"ann"}]`
		time.Sleep(3 * time.Second)
		if a := r.post("/v1/events", "wk_lim", again).want(207, ""); a.problem().Accepted != 1 || a.header.Get("Retry-After") != "1" {
			t.Errorf("%v %s", a.header, a.body)
		}
		time.Sleep(time.Second)
		r.post("/v1/events", "wk_lim", `{"name":"a","user_id":"ann"}`).want(202, "")
		r.post("/v1/events", "wk_lim", `{"name":"a","user_id":"ann"}`).want(429, "user_rate_limited")
	})
}

func TestTheRateOfAnAddressWithAKeyRefusesWholeRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the time stands still
		r := limited(t, `"address_rate":{"per_second":0.1,"burst":3}`, Config{})
		from := func(addr, body string) answer {
			req := newRequest(http.MethodPost, "/v1/events", "wk_lim", body)
			req.RemoteAddr = addr
			return r.do(req)
		}
		from("192.0.2.1:1", "["+good+","+good+"]").want(202, "")
		from("192.0.2.2:1", good).want(202, "")
		a := from("192.0.2.1:2", "["+good+","+good+"]").want(429, "address_rate_limited")
		if got := a.header.Get("Retry-After"); got != "10" {
			t.Errorf("Retry-After is %s, want 10", got)
		}
		from("192.0.2.1:1", good).want(202, "")
		// Now it is empty: the body is not read.
		unread := &endless{}
		req := newRequest(http.MethodPost, "/v1/events", "wk_lim", "")
		req.Body, req.ContentLength, req.RemoteAddr = http.NoBody, 1000, "192.0.2.1:9"
		req.Body = struct {
			*endless
			nopCloser
		}{unread, nopCloser{}}
		r.do(req).want(429, "address_rate_limited")
		if unread.read != 0 {
			t.Error("the body was read")
		}
		r.wantLedger(4, map[string]uint64{"rate_limited": 2})
	})
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

func TestRatesInModeObserveLetPassAndCount(t *testing.T) {
	t.Parallel()
	r := limited(t, `"rate":{"per_second":0.1,"burst":2},"user_rate":{"per_second":0.1,"burst":1},"event_rate":{"per_second":0.1,"burst":1},
		"modes":{"rate":"observe","user_rate":"observe","event_rate":"off"}`, Config{})
	for range 2 {
		r.post("/v1/events", "wk_lim", `[{"name":"a","user_id":"ann"},{"name":"a","user_id":"ann"}]`).want(202, "")
	}
	r.wantLedger(4, nil)
	got := map[string]uint64{}
	for _, w := range r.edge.Stats().WouldRefuse {
		got[w.Restriction.String()] += w.Count
	}
	if want := map[string]uint64{"rate": 1, "user_rate": 3}; !maps.Equal(got, want) {
		t.Errorf("would refuse %v, want %v", got, want)
	}
}

func TestWhatTheStreamRefusesAndWhatIsOverALimitAreToldApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the time stands still
		const rates = `"user_rate":{"per_second":0.1,"burst":3}`
		batch := func(names ...string) string {
			for i, n := range names {
				names[i] = fmt.Sprintf(`{"name":%q,"user_id":"ann"}`, n)
			}
			return "[" + strings.Join(names, ",") + "]"
		}
		for _, tt := range []struct {
			name   string
			refuse map[string]error
			status int
			code   string
			codes  map[int]string
			retry  string
		}{
			{
				// One is away with a Retry-After of its own: the longer wait counts.
				"one cannot be stored now", map[string]error{"b": &fault.Error{Kind: fault.Throttled, RetryAfter: 90 * time.Second}},
				207, "", map[int]string{1: "unavailable", 3: "user_rate_limited"}, "90",
			},
			{
				"one can never be stored", map[string]error{"b": fault.New(fault.TooLarge, "no")},
				207, "", map[int]string{1: "too_large", 3: "user_rate_limited"}, "10",
			},
			{
				"none can ever be stored", map[string]error{"a": fault.New(fault.TooLarge, "no"), "b": fault.New(fault.TooLarge, "no"), "c": fault.New(fault.TooLarge, "no")},
				429, "user_rate_limited", map[int]string{0: "too_large", 1: "too_large", 2: "too_large", 3: "user_rate_limited"}, "10",
			},
			{
				"none can be stored now", map[string]error{"a": fault.New(fault.Throttled, "full"), "b": fault.New(fault.Throttled, "full"), "c": fault.New(fault.Throttled, "full")},
				503, "unavailable", map[int]string{}, "5",
			},
		} {
			r := limited(t, rates, Config{})
			r.stream.refuse = func(ev stored) error { return tt.refuse[ev.Name] }
			a := r.post("/v1/events", "wk_lim", batch("a", "b", "c", "d")).want(tt.status, tt.code)
			if codes, _ := said(a); !maps.Equal(codes, tt.codes) || a.header.Get("Retry-After") != tt.retry {
				t.Errorf("%s: Retry-After %s, %s", tt.name, a.header.Get("Retry-After"), a.body)
			}
			for _, l := range r.letters() {
				if l.Class == "rate_limited" {
					t.Errorf("%s: the quarantine keeps what is sent again", tt.name)
				}
			}
		}
	})
}

// An event that a schema puts aside is as good as stored: it takes nothing of
// its user, and what is left of the request is not nothing.
func TestWhatASchemaPutsAsideAndWhatIsOverALimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newContractRig(t, Config{})
		keys, err := source.Parse(fmt.Appendf(nil, `{"keys":[{"id":"lim","kind":"write","sha256":%q,"user_rate":{"per_second":0.1,"burst":1}}]}`, source.Hash("wk_lim")), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.keys = keys
		const aside = `{"name":"order_quarantine","user_id":"ann","data":{"total":"12"}}`
		r.post("/v1/events", "wk_lim", `[`+aside+`,{"name":"a","user_id":"ann"}]`).want(202, "")
		a := r.post("/v1/events", "wk_lim", `[{"name":"a","user_id":"ann"},`+aside+`]`).want(207, "")
		if codes, _ := said(a); !maps.Equal(codes, map[int]string{0: "user_rate_limited"}) || a.problem().Accepted != 1 || a.header.Get("Retry-After") != "10" {
			t.Errorf("%v %s", a.header, a.body)
		}
		if a := r.post("/v1/batch", "wk_lim", `{"batch":[{"type":"track","event":"a","userId":"ann"},{"type":"track","event":"order_quarantine","userId":"ann","properties":{}}]}`); a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
		r.wantLedger(1, map[string]uint64{"schema": 3, "rate_limited": 2})
		classes := map[string]int{}
		for _, l := range r.letters() {
			classes[l.Class]++
		}
		if !maps.Equal(classes, map[string]int{"schema": 3, "rate_limited": 1}) {
			t.Errorf("letters %v", classes)
		}
	})
}

func TestManyEventsOverALimitAreCountedInTheBudget(t *testing.T) {
	t.Parallel()
	body := "[" + strings.Repeat(`{"name":"a","user_id":"u"},`, 9999) + `{"name":"a","user_id":"u"}]`
	r := limited(t, `"user_rate":{"per_second":0.1,"burst":1}`, Config{MaxBody: 300_000, MaxInFlight: 6 << 20})
	r.edge.inFlight.Add(1) // it is not alone
	w := httptest.NewRecorder()
	r.edge.ServeHTTP(w, newRequest(http.MethodPost, "/v1/events", "wk_lim", body))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "overloaded") {
		t.Errorf("%d %.200s", w.Code, w.Body)
	}
	r.wantLedger(0, map[string]uint64{"overloaded": 10_000})
}

// sharedLimits returns a Redis as a gateway uses it, running.
func sharedLimits(t *testing.T, url string) *limit.Redis {
	t.Helper()
	c, err := limit.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c.Timeout, c.Log = 10*time.Second, slog.New(slog.DiscardHandler)
	shared := limit.NewRedis(c)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := shared.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := shared.Close(); err != nil {
			t.Error(err)
		}
	})
	return shared
}

func untilShared(t *testing.T, want bool, gateways ...*rig) {
	t.Helper()
	deadline, ticker := time.NewTimer(time.Minute), time.NewTicker(time.Millisecond)
	defer deadline.Stop()
	defer ticker.Stop()
	for slices.ContainsFunc(gateways, func(r *rig) bool { return r.edge.Stats().Limits.Shared != want }) {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("after a minute the limits are not shared: %v", want)
		}
	}
}

// Two gateways with one Redis, which is killed and comes back: what they admit
// together, what they say, and that each ledger adds up.
func TestTwoGatewaysShareTheLimitsOfAKeyAndOfAnAddress(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	const rates = `"rate":{"per_second":1e-5,"burst":40},"user_rate":{"per_second":1e-5,"burst":5}`
	var gateways []*rig
	for range 2 {
		gateways = append(gateways, limited(t, rates, Config{
			SharedLimits: sharedLimits(t, server.URL()), AddressRate: limit.Rate{PerSecond: 1e-5, Burst: 20},
		}))
	}
	untilShared(t, true, gateways...)
	n := 0
	send := func(gateway int, address string, users ...string) answer {
		req := newRequest(http.MethodPost, "/v1/events", "wk_lim", "")
		events := make([]string, len(users))
		for i, u := range users {
			n++
			events[i] = `{"name":"a","user_id":"` + u + `","id":"e` + strconv.Itoa(n) + `"}`
		}
		body := "[" + strings.Join(events, ",") + "]"
		req = httptest.NewRequest(req.Method, req.URL.Path, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer wk_lim")
		req.RemoteAddr = address + ":1"
		return gateways[gateway].do(req)
	}
	// A user, whose events reach both.
	send(0, "192.0.2.1", "ann", "ann", "ann").want(202, "")
	a := send(1, "192.0.2.1", "ann", "ann", "ann", "bob").want(207, "")
	if codes, _ := said(a); !maps.Equal(codes, map[int]string{2: "user_rate_limited"}) || a.header.Get("Retry-After") != "86400" {
		t.Errorf("%s %s", a.header.Get("Retry-After"), a.body)
	}
	// An address, whose requests reach both: 20 in all, two of which were made.
	for i := range 18 {
		send(i%2, "192.0.2.1", "u"+strconv.Itoa(i)).want(202, "")
	}
	send(0, "192.0.2.1", "new").want(429, "address_rate_limited")
	// The key: 25 events are counted of it, the one over its user's rate
	// included.
	send(1, "192.0.2.2", strings.Fields("w"+strings.Repeat(" x y z", 4))...).want(202, "")

	server.Kill()
	// Each gateway knows what it has heard last: gateway 1 that 2 are left,
	// gateway 0 that there were 15.
	a = send(1, "192.0.2.3", "p", "q", "r").want(429, "rate_limited")
	if got := a.header.Get("Retry-After"); got != "86400" {
		t.Errorf("Retry-After is %s", got)
	}
	send(1, "192.0.2.3", "p").want(202, "")
	send(0, "192.0.2.3", "p").want(202, "")
	untilShared(t, false, gateways...)
	for _, g := range gateways {
		if s := g.edge.Stats().Limits; s.Fallbacks == 0 || !s.Shares {
			t.Errorf("%+v", s)
		}
	}
	server.Start()
	untilShared(t, true, gateways...)
	before := len(gateways[0].events()) + len(gateways[1].events())
	if send(1, "192.0.2.4", "s", "t").want(429, "rate_limited"); before != len(gateways[0].events())+len(gateways[1].events()) {
		t.Error("a refused request is stored")
	}
	for i, g := range gateways {
		s := ledger.Books{Intake: g.intake}.Statement()
		if s.Received != s.Accepted+s.Rejected || int(s.Accepted) != len(g.events()) {
			t.Errorf("gateway %d: %+v, %d stored", i, s, len(g.events()))
		}
	}
}

// BenchmarkLimits is a batch of a hundred events with the limits that judge
// each of them.
func BenchmarkLimits(b *testing.B) {
	for name, fields := range map[string]string{
		"none":  `"ip":false`,
		"key":   `"rate":{"per_second":1e9}`,
		"user":  `"user_rate":{"per_second":1e9}`,
		"all":   `"rate":{"per_second":1e9},"address_rate":{"per_second":1e9},"user_rate":{"per_second":1e9},"event_rate":{"per_second":1e9}`,
		"shows": `"user_rate":{"per_second":1e9},"modes":{"user_rate":"observe"}`,
	} {
		b.Run(name, func(b *testing.B) {
			r := limited(b, fields, Config{Log: slog.New(slog.DiscardHandler)})
			r.edge.stream = nullStream{}
			body := strings.NewReader("")
			raw := batch100()
			req := httptest.NewRequest(http.MethodPost, "/v1/events", nil)
			req.Header.Set("Authorization", "Bearer wk_lim")
			req.Header.Set("Content-Type", "application/json")
			req.ContentLength = int64(len(raw))
			req.Body = struct {
				*strings.Reader
				nopCloser
			}{body, nopCloser{}}
			w := &nullWriter{header: http.Header{}}
			b.ReportAllocs()
			begin := testenv.CPUTime()
			for b.Loop() {
				body.Reset(raw)
				clear(w.header)
				r.edge.ServeHTTP(w, req)
				if w.status >= 300 {
					b.Fatal(w.status)
				}
			}
			b.ReportMetric(float64(testenv.CPUTime()-begin)/float64(b.N), "cpu-ns/op")
		})
	}
}
