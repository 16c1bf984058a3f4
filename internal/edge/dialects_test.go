package edge

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/fault"
)

// dialect is a way to send several events in a protocol that is not our own.
type dialect struct {
	name   string
	target string
	header []string
	// event is an event of a name, with an id that is the same, and more
	// members; its id when it is stored begins with that, or is anything.
	event func(name, members string) string
	// request is the body of a request with the key wk_KEY.
	request func(key string, events ...string) string
	// status is that of the answer to a batch in which some are bad.
	status int
	// names are the names of events named a and b when they are stored.
	names []string
}

func joined(events []string) string { return "[" + strings.Join(events, ",") + "]" }

func formOf64(body string) string {
	return "data=" + url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(body)))
}

var dialects = []dialect{
	{
		name: "CloudEvents", target: "/v1/events?write_key=", header: []string{"Content-Type: application/cloudevents-batch+json"},
		event: func(name, members string) string {
			return `{"specversion":"1.0","source":"/s","id":"` + name + `","type":"` + name + `"` + members + `}`
		},
		request: func(_ string, events ...string) string { return joined(events) },
		status:  207, names: []string{"a", "b"},
	},
	{
		name: "Snowplow", target: "/com.snowplowanalytics.snowplow/tp2", header: []string{"Content-Type: application/json"},
		event: func(name, members string) string {
			return `{"e":"se","eid":"` + name + `","se_ac":"` + name + `","aid":"KEY"` + members + `}`
		},
		request: func(key string, events ...string) string {
			return strings.ReplaceAll(`{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":`+joined(events)+`}`, "KEY", key)
		},
		status: 200, names: []string{"a", "b"},
	},
	{
		name: "PostHog, batch", target: "/batch/",
		event: func(name, members string) string {
			return `{"event":"` + name + `","uuid":"` + name + `"` + members + `}`
		},
		request: func(key string, events ...string) string {
			return `{"api_key":"` + key + `","batch":` + joined(events) + `}`
		},
		status: 200, names: []string{"a", "b"},
	},
	{
		name: "PostHog, compressed in the page", target: "/e/?compression=gzip-js", header: []string{"Content-Type: text/plain"},
		event: func(name, members string) string {
			return `{"event":"` + name + `","uuid":"` + name + `","properties":{"token":"KEY"}` + members + `}`
		},
		request: func(key string, events ...string) string {
			return gzipOf(strings.ReplaceAll(joined(events), "KEY", key))
		},
		status: 200, names: []string{"a", "b"},
	},
	{
		name: "Mixpanel, events in a form", target: "/track/?ip=1", header: []string{"Content-Type: application/x-www-form-urlencoded"},
		event: func(name, members string) string {
			return `{"event":"` + name + `","properties":{"token":"KEY","$insert_id":"` + name + `"}` + members + `}`
		},
		request: func(key string, events ...string) string {
			return formOf64(strings.ReplaceAll(joined(events), "KEY", key)) + "&verbose=1"
		},
		status: 200, names: []string{"a", "b"},
	},
	{
		name: "Mixpanel, profiles", target: "/engage", header: []string{"Content-Type: application/json"},
		event: func(name, members string) string {
			return `{"$token":"KEY","$insert_id":"` + name + `"` + members + `}`
		},
		request: func(key string, events ...string) string {
			return strings.ReplaceAll(joined(events), "KEY", key)
		},
		status: 200, names: []string{"identify", "identify"},
	},
	{
		name: "Mixpanel, groups", target: "/groups",
		event: func(name, members string) string {
			return `{"$token":"KEY","$insert_id":"` + name + `"` + members + `}`
		},
		request: func(key string, events ...string) string {
			return "data=" + url.QueryEscape(strings.ReplaceAll(joined(events), "KEY", key))
		},
		status: 200, names: []string{"group", "group"},
	},
}

// send sends events to a rig.
func (d *dialect) send(r *rig, key string, events ...string) answer {
	target := d.target
	if strings.HasSuffix(target, "write_key=") {
		target += key
	}
	return r.post(target, "", d.request(key, events...), d.header...)
}

func TestABadEventOfAnyProtocolLeavesItsNeighboursAlone(t *testing.T) {
	t.Parallel()
	nested := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for _, d := range dialects {
		for _, tt := range []struct{ name, members, code string }{
			{"a member twice", `,"x":1,"x":2`, "duplicate_key"},
			{"a member twice, spelled in two ways", `,"x":1,"\u0078":2`, "duplicate_key"},
			{"a number beyond float64", `,"x":1e999`, "number_out_of_range"},
			{"absurd nesting", `,"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), "too_deep"},
			{"nested deeper than the limit", `,"x":` + nested, "too_deep"},
			{"invalid UTF-8", ",\"x\":\"\xc3\"", "invalid_utf8"},
			{"half a character", `,"x":"\ud83d"`, "invalid_unicode"},
			{"too large", `,"x":"` + strings.Repeat("x", 1_000_000) + `"`, "too_large"},
		} {
			t.Run(d.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, Config{Protocols: Protocols})
				bad := d.event("bad", tt.members)
				a := d.send(r, "wk_web", d.event("a", ""), bad, `7`, d.event("b", ""))
				if a.status != d.status {
					t.Fatalf("answered %d %.300s", a.status, a.body)
				}
				if got := r.names(); !slices.Equal(got, d.names) {
					t.Errorf("stored %q, want %q", got, d.names)
				}
				ls := r.letters()
				if len(ls) != 2 || ls[0].Code != tt.code || ls[1].Code != "invalid_type" {
					t.Fatalf("letters %+.300v", ls)
				}
				want := strings.ReplaceAll(bad, "KEY", "wk_web")
				if kept := string(slices.Concat(ls[0].Event, ls[0].Raw)); !strings.HasPrefix(want, kept) || len(kept) < min(len(want), keptOfLarge) {
					t.Errorf("kept %.200s", kept)
				}
				class := "invalid"
				if tt.code == "too_large" {
					class = "too_large"
				}
				rejected := map[string]uint64{"invalid": 1}
				rejected[class]++
				r.wantLedger(2, rejected)

				r.edge.cfg.Limits.MaxDepth = 100 // the fix, for one of them
				results := r.edge.Readmit(t.Context(), ls)
				fixed := tt.name == "nested deeper than the limit"
				if (results[0] == nil) != fixed || results[1] == nil {
					t.Errorf("readmitted: %v", results)
				}
				if fixed {
					e := r.events()[2]
					if e.Source != "web" || e.ReceivedAt == "" || e.Name != d.names[0] && e.Name != "bad" || strings.Contains(string(r.stream.stored[2]), "wk_web") {
						t.Errorf("readmitted %s", r.stream.stored[2])
					}
				}
			})
		}
	}
}

func TestForbiddenEventsOfAnyProtocolAreReadmittedWhenTheKeyAllowsThem(t *testing.T) {
	t.Parallel()
	for _, d := range dialects {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{Protocols: Protocols})
			// The key allows order_*; so does what it is after the fix, and more.
			d.send(r, "wk_orders", d.event("signup", `,"x":[1.0]`))
			ls := r.letters()
			if len(ls) != 1 || ls[0].Class != "forbidden" || len(r.events()) != 0 {
				t.Fatalf("letters %+v", ls)
			}
			if err := r.edge.Readmit(t.Context(), ls)[0]; fault.KindOf(err) != fault.Forbidden {
				t.Errorf("readmitted against the scope of the key: %v", err)
			}
			keys, err := source.Parse([]byte(`{"keys":[{"id":"orders","kind":"write","sha256":"`+source.Hash("wk_orders")+`"}]}`), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.keys = keys
			if err := r.edge.Readmit(t.Context(), ls)[0]; err != nil {
				t.Fatal(err)
			}
			d.send(r, "wk_orders", d.event("signup", `,"x":[1.0]`))
			events := r.events()
			if len(events) != 2 {
				t.Fatalf("%d events", len(events))
			}
			readmitted, sent := events[0], events[1]
			readmitted.ReceivedAt, readmitted.Timestamp = sent.ReceivedAt, sent.Timestamp
			if !reflect.DeepEqual(readmitted, sent) {
				t.Errorf("readmitted %+v\nsent       %+v", readmitted, sent)
			}
		})
	}
}

func TestKeysOfEveryProtocol(t *testing.T) {
	t.Parallel()
	for _, d := range dialects {
		for _, tt := range []struct {
			key    string
			status int
			code   string
		}{
			{"wk_nobody", 401, "unknown_key"},
			{"wk_off", 401, "disabled_key"},
			{"wk_old", 401, "expired_key"},
			{"", 401, "missing_key"},
			{strings.Repeat("x", 600), 401, "unknown_key"},
			{"wk_shop", 403, "origin_forbidden"},
			{"wk_orders", 0, ""},
		} {
			t.Run(fmt.Sprintf("%s/%.20s", d.name, tt.key), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, Config{Protocols: Protocols})
				a := d.send(r, tt.key, d.event("order_1", ""))
				if tt.status != 0 {
					if a.want(tt.status, tt.code); len(r.events())+len(r.letters()) != 0 {
						t.Error("something of it was kept")
					}
					return
				}
				if a.status >= 400 && d.names[0] == "a" {
					t.Errorf("answered %d %s", a.status, a.body)
				}
			})
		}
	}
}

func TestEventsOfTwoKeysAreRefused(t *testing.T) {
	t.Parallel()
	for _, d := range dialects {
		if !strings.Contains(d.event("a", ""), "KEY") {
			continue // there is one key for all of a request
		}
		for _, other := range []string{"wk_orders", "wk_nobody"} {
			r := newRig(t, Config{Protocols: Protocols})
			second := strings.ReplaceAll(d.event("b", ""), "KEY", other)
			d.send(r, "wk_web", d.event("a", ""), second).want(400, "conflicting_keys")
			if len(r.events())+len(r.letters()) != 0 {
				t.Errorf("%s: something of it was kept", d.name)
			}
		}
		// A key in force in the header, and another in the events.
		r := newRig(t, Config{Protocols: Protocols})
		r.post(d.target, "wk_backend", d.request("wk_web", d.event("a", "")), d.header...).want(400, "conflicting_keys")
		r.post(d.target, "wk_web", d.request("my-app", d.event("a", "")), d.header...)
		if len(r.events()) != 1 {
			t.Errorf("%s: the key in the header does not count", d.name)
		}
	}
}

func TestBodiesOfOtherProtocolsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	const (
		tp2        = "/com.snowplowanalytics.snowplow/tp2"
		structured = "Content-Type: application/cloudevents+json"
		batched    = "Content-Type: application/cloudevents-batch+json"
		one        = `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`
		gzipped    = "Content-Encoding: gzip"
	)
	for _, tt := range []struct {
		name, method, target, body string
		header                     []string
		status                     int
		code                       string
	}{
		{"CloudEvents: empty", "POST", "/v1/events", "", []string{structured}, 400, "empty_body"},
		{"CloudEvents: an array as one", "POST", "/v1/events", "[" + one + "]", []string{structured}, 400, "invalid_json"},
		{"CloudEvents: one as an array", "POST", "/v1/events", one, []string{batched}, 400, "invalid_json"},
		{"CloudEvents: a form as one", "POST", "/v1/events", "data=" + url.QueryEscape(one), []string{structured}, 400, "invalid_json"},
		{"CloudEvents: another format", "POST", "/v1/events", one, []string{"Content-Type: application/cloudevents+avro"}, 400, "invalid_json"},
		{"CloudEvents: cut off", "POST", "/v1/events", "[" + one + "," + one[:20], []string{batched}, 400, "invalid_json"},
		{"CloudEvents: an encoding nobody knows", "POST", "/v1/events", one, []string{structured, "Content-Encoding: br"}, 415, "unknown_encoding"},
		{"CloudEvents: gzip that is none", "POST", "/v1/events", one, []string{structured, gzipped}, 400, "invalid_encoding"},
		{"CloudEvents: no events", "POST", "/v1/events", "[]", []string{batched}, 422, "no_events"},
		{"CloudEvents: none is good", "POST", "/v1/events", "[{},7]", []string{batched}, 422, "invalid"},
		{"CloudEvents: a later version", "POST", "/v1/events", `{}`, []string{"ce-specversion: 2.0", "ce-id: 1", "ce-source: /s", "ce-type: t"}, 422, "invalid"},
		{"CloudEvents: a header is missing", "POST", "/v1/events", `{"name":"a"}`, []string{"ce-specversion: 1.0", "ce-id: 1", "ce-type: t"}, 422, "invalid"},

		{"Snowplow: empty", "POST", tp2, "", nil, 400, "empty_body"},
		{"Snowplow: a form", "POST", tp2, "e=pv&aid=wk_web", []string{"Content-Type: application/x-www-form-urlencoded"}, 400, "invalid_json"},
		{"Snowplow: an event without its document", "POST", tp2, `{"e":"pv"}`, nil, 400, "invalid_json"},
		{"Snowplow: cut off", "POST", tp2, `{"data":[{"e":"pv"}`, nil, 400, "invalid_json"},
		{"Snowplow: an empty query", "GET", "/i", "", nil, 400, "empty_body"},
		{"Snowplow: broken escapes", "GET", "/i?e=pv&page=%E4", "", nil, 400, "invalid_encoding"},
		{"Snowplow: GET of the path for POST", "GET", tp2, "", nil, 405, "method_not_allowed"},
		{"Snowplow: POST of the path for GET", "POST", "/i", "e=pv", nil, 405, "method_not_allowed"},

		{"PostHog: empty", "POST", "/e/", "", nil, 400, "empty_body"},
		{"PostHog: broken base64", "POST", "/e/?compression=base64", "data=%25%25%25", nil, 400, "invalid_encoding"},
		{"PostHog: broken gzip", "POST", "/e/", gzipOf(`[]`)[:12], nil, 400, "invalid_encoding"},
		{"PostHog: gzip in gzip", "POST", "/e/", gzipOf(gzipOf(`[]`)), nil, 400, "invalid_json"},
		{"PostHog: gzip in gzip that says so", "POST", "/e/", gzipOf(gzipOf(`[]`)), []string{gzipped}, 400, "invalid_json"},
		{"PostHog: gzip of nothing", "POST", "/e/", gzipOf(``), nil, 400, "empty_body"},
		{"PostHog: lz-string", "POST", "/e/?compression=lz64", "N4IgbghgTg5g", nil, 400, "invalid_json"},
		{"PostHog: no events", "POST", "/capture/", `{"batch":{}}`, nil, 400, "invalid_json"},
		{"PostHog: an encoding nobody knows", "POST", "/i/v0/e/", `[]`, []string{"Content-Encoding: deflate"}, 415, "unknown_encoding"},
		{"PostHog: GET", "GET", "/e/?data=e30", "", nil, 405, "method_not_allowed"},

		{"Mixpanel: empty", "POST", "/track", "", nil, 400, "empty_body"},
		{"Mixpanel: nothing in the query", "GET", "/track?ip=1", "", nil, 400, "empty_body"},
		{"Mixpanel: broken base64", "GET", "/track/?data=eyJ%3F", "", nil, 400, "invalid_encoding"},
		{"Mixpanel: base64 of no JSON", "GET", "/engage?data=AAAA", "", nil, 400, "invalid_json"},
		{"Mixpanel: broken base64 in a form", "POST", "/groups/", "data=a&verbose=1", nil, 400, "invalid_encoding"},
		{"Mixpanel: a form without the field", "POST", "/groups/", "verbose=1", nil, 400, "invalid_json"},
		{"Mixpanel: an encoding nobody knows", "POST", "/track", `[]`, []string{"Content-Encoding: x-lzma"}, 415, "unknown_encoding"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{Protocols: Protocols})
			a := r.do(newRequest(tt.method, tt.target, "wk_web", tt.body, tt.header...)).want(tt.status, tt.code)
			if len(r.events()) != 0 || tt.status != 422 && len(r.letters()) != 0 {
				t.Error("something of it was kept")
			}
			if tt.method == http.MethodGet && tt.status != 405 && a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control is %q", a.header.Get("Cache-Control"))
			}
		})
	}
}

func TestProtocolsThatAreOffAreNotThere(t *testing.T) {
	t.Parallel()
	paths := map[string][]string{
		Jitsu:    {"POST /api/s/track", "POST /api/s/s2s/page"},
		Snowplow: {"POST /com.snowplowanalytics.snowplow/tp2", "GET /i"},
		PostHog:  {"POST /e", "POST /i/v0/e", "POST /batch", "POST /capture", "POST /flags", "POST /decide", "GET /array/wk_web/config", "GET /array/wk_web/config.js"},
		Mixpanel: {"POST /track", "GET /track", "POST /engage", "GET /engage", "POST /groups", "GET /groups"},
	}
	for _, tt := range []struct {
		config []string
		on     []string
	}{
		{nil, []string{Jitsu, Snowplow}},
		{[]string{}, nil},
		{[]string{PostHog}, []string{PostHog}},
		{Protocols, Protocols},
	} {
		r := newRig(t, Config{Protocols: tt.config})
		for name, all := range paths {
			for _, endpoint := range all {
				method, path, _ := strings.Cut(endpoint, " ")
				for _, path := range []string{path, path + "/"} {
					a := r.do(newRequest(method, path, "wk_web", ""))
					if there := a.status != 404 && a.status != 405; there != slices.Contains(tt.on, name) {
						t.Errorf("%v: %s %s is answered %d", tt.config, method, path, a.status)
					}
				}
			}
		}
		if a := r.post("/v1/track", "wk_web", `{"event":"a"}`); a.status != 200 {
			t.Errorf("%v: Segment's paths are gone: %d", tt.config, a.status)
		}
	}
	if err := (Config{Protocols: []string{"heap"}}).Validate(); err == nil || !strings.Contains(err.Error(), "heap") {
		t.Errorf("a protocol that nobody knows: %v", err)
	}
}

func TestCloudEventsAreAnsweredAsEventsOfOurOwn(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	header := []string{"Content-Type: application/cloudevents-batch+json"}
	event := func(source, id string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"` + source + `","type":"t","data":{"a":1}}`
	}
	a := r.post("/v1/events", "wk_web", "["+event("/a", "1")+`,{"specversion":"1.0","id":"1","type":"t"},`+event("/b", "1")+","+event("/a", "1")+"]", header...).want(207, "")
	d := a.problem()
	if d.Accepted != 3 || d.Rejected != 1 || len(d.IDs) != 4 || d.IDs[1] != nil || d.Ack != "stream" {
		t.Fatalf("answered %s", a.body)
	}
	if e := d.Errors[0]; e.Index != 1 || e.Pointer != "/source" || e.Code != "required" {
		t.Errorf("error %+v", e)
	}
	if *d.IDs[0] == *d.IDs[2] || *d.IDs[0] != *d.IDs[3] {
		t.Errorf("two sources with an id are one event, or an event twice is two: %s", a.body)
	}
	for i, e := range r.events() {
		if want := []int{0, 2, 3}[i]; e.ID != *d.IDs[want] {
			t.Errorf("stored %s, answered %s", e.ID, *d.IDs[want])
		}
	}
	one := r.post("/v1/events", "wk_web", `{"a":1}`, "Content-Type: application/json", "ce-specversion: 1.0", "ce-id: 1", "ce-source: /a", "ce-type: t").want(202, "")
	if *one.problem().IDs[0] != *d.IDs[0] {
		t.Error("an event sent in another mode is another event")
	}
	r.post("/v1/events", "wk_orders", `{"a":1}`, "ce-specversion: 1.0", "ce-id: 1", "ce-source: /a", "ce-type: t").want(403, "forbidden")
	l := r.letters()[1]
	if l.Request != "POST /v1/events application/cloudevents+json" || !strings.Contains(string(l.Event), `"data":{"a":1}`) {
		t.Errorf("letter %q %s", l.Request, l.Event)
	}
}

func TestPostHogsSDKForPagesIsNotAnswered429(t *testing.T) {
	t.Parallel()
	body := `{"api_key":"wk_slow","batch":[` + strings.TrimSuffix(strings.Repeat(`{"event":"a"},`, 11), ",") + `]}`
	for path, status := range map[string]int{"/e/": 503, "/i/v0/e": 503, "/batch/": 429, "/capture": 429} {
		r := newRig(t, Config{Protocols: Protocols})
		r.post(path, "", body).want(200, "") // the burst
		a := r.post(path, "", body).want(status, "rate_limited")
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
		// The exchange is used again, for a route that may say so.
		r.post("/v1/batch", "wk_slow", strings.Replace(body, `"event"`, `"type":"track","event"`, 1)).want(429, "rate_limited")
	}
}

func TestWhatPagesHaveCompressedIsWithinTheLimits(t *testing.T) {
	t.Parallel()
	large := `[{"event":"a","properties":{"x":"` + strings.Repeat(" ", 3<<20) + `"}}]`
	t.Run("the limit of a body", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{Protocols: Protocols, MaxUnauthenticatedBody: 1 << 20})
		r.post("/e/", "", gzipOf(large)).want(413, "body_too_large")
	})
	t.Run("the ratio", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{Protocols: Protocols, MaxRatio: 10})
		r.post("/e/", "wk_web", gzipOf(large)).want(413, "body_too_large")
	})
	t.Run("the budget", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{Protocols: Protocols, MaxInFlight: 21 << 20})
		r.edge.inFlight.Add(19 << 20) // others are at work
		w := httptest.NewRecorder()
		r.edge.ServeHTTP(w, newRequest("POST", "/e/", "wk_web", gzipOf(large)))
		if w.Code != 503 || r.edge.InFlight() != 19<<20 {
			t.Errorf("answered %d %s, %d bytes in flight", w.Code, w.Body, r.edge.InFlight())
		}
	})
}

func TestPostHogsDocuments(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{Protocols: Protocols})
	origin := "Origin: https://shop.example"
	for _, tt := range []struct {
		method, target string
		status         int
		want           string
	}{
		{"GET", "/array/wk_web/config", 200, `"hasFeatureFlags":false`},
		{"GET", "/array/wk_web/config/", 200, `"supportedCompression":["gzip","gzip-js"]`},
		{"GET", "/array/wk_web/config.js", 200, `c["wk_web"]={config:{"supportedCompression"`},
		{"GET", "/array/wk_nobody/config", 401, `unknown_key`},
		{"GET", "/array/wk_nobody/config.js", 401, `unknown_key`},
		{"GET", "/array/wk_off/config", 401, `disabled_key`},
		{"POST", "/flags/?v=2", 200, `"featureFlags":{}`},
		{"POST", "/decide/?v=3", 200, `"errorsWhileComputingFlags":false`},
	} {
		a := r.do(newRequest(tt.method, tt.target, "", `{"token":"wk_web"}`, origin))
		if a.status != tt.status || !strings.Contains(a.body, tt.want) {
			t.Errorf("%s: %d %s", tt.target, a.status, a.body)
		}
		if a.header.Get("Access-Control-Allow-Origin") != "https://shop.example" {
			t.Errorf("%s: the page cannot read it", tt.target)
		}
	}
}

func TestASenderWhoAsksSnowplowToForgetHimHasNoAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	const target = "/i?e=pv&aid=wk_ip"
	r.do(newRequest("GET", target, "", "")).want(200, "")
	r.do(newRequest("GET", target, "", "", "SP-Anonymous: *")).want(200, "")
	events := r.events()
	if len(events) != 2 || events[0].IP == "" || events[1].IP != "" {
		t.Errorf("%+v", events)
	}
}

func TestMixpanelsAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{Protocols: Protocols})
	data := "data=" + base64.URLEncoding.EncodeToString([]byte(`{"event":"a","properties":{"token":"wk_web"}}`))
	for _, tt := range []struct{ method, target, body, contentType, want string }{
		{"GET", "/track?" + data, "", "text/plain; charset=UTF-8", "1"},
		{"GET", "/track/?ip=1&" + data + "&verbose=1", "", "application/json", `{"status":1,"error":null}`},
		{"GET", "/track/?img=1&" + data, "", "image/gif", string(transparentGIF)},
		{"POST", "/track", data, "text/plain; charset=UTF-8", "1"},
		{"POST", "/track/", data + "&verbose=1", "application/json", `{"status":1,"error":null}`},
		{"POST", "/track/?verbose=1", data, "application/json", `{"status":1,"error":null}`},
	} {
		a := r.do(newRequest(tt.method, tt.target, "", tt.body))
		if a.status != 200 || a.header.Get("Content-Type") != tt.contentType || a.body != tt.want {
			t.Errorf("%s %s: %d %s %q", tt.method, tt.target, a.status, a.header.Get("Content-Type"), a.body)
		}
	}
	if len(r.events()) != 6 || len(r.letters()) != 0 {
		t.Errorf("%d events", len(r.events()))
	}
}
