package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
)

const good = `{"name":"button_clicked","data":{"page":"/pricing"}}`

func TestEveryFormOfABodyIsTakenApart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		body   string
		header []string
		want   []string
	}{
		{"one object", `{"name":"a"}`, nil, []string{"a"}},
		{"array", `[{"name":"a"},{"name":"b"}]`, nil, []string{"a", "b"}},
		{"object of events", `{"events":[{"name":"a"},{"name":"b"}]}`, nil, []string{"a", "b"}},
		{"byte order mark and space", "\xef\xbb\xbf \n [ {\"name\":\"a\"} ]\n", nil, []string{"a"}},
		{"NDJSON", "{\"name\":\"a\"}\n\n{\"name\":\"b\"}\r\n", []string{"Content-Type: application/x-ndjson"}, []string{"a", "b"}},
		{"JSON Lines with a charset", "{\"name\":\"a\"}\n{\"name\":\"b\"}", []string{"Content-Type: application/jsonl; charset=utf-8"}, []string{"a", "b"}},
		{"text/plain of a beacon", `{"name":"a"}`, []string{"Content-Type: text/plain;charset=UTF-8"}, []string{"a"}},
		{"a form label on JSON", `{"name":"a"}`, []string{"Content-Type: application/x-www-form-urlencoded"}, []string{"a"}},
		{"NDJSON without its label", "{\"name\":\"a\"}\n{\"name\":\"b\"}\n", []string{"Content-Type: text/plain"}, []string{"a", "b"}},
		{"one line without a label", "{\"name\":\"a\"}\n\n", nil, []string{"a"}},
		{"several lines without a label", "{\n\"name\":\n\"a\"}\n", nil, []string{"a"}},
		{"a label that is no media type", `[{"name":"a"}]`, []string{"Content-Type: ;;;"}, []string{"a"}},
		{"form field with base64", "data=eyJuYW1lIjoiYSJ9", []string{"Content-Type: text/plain"}, []string{"a"}},
		{"form field with JSON", "data=%7B%22name%22%3A%22a%22%7D&x=1", []string{"Content-Type: application/x-www-form-urlencoded"}, []string{"a"}},
		{"gzip", gzipOf(`{"name":"a"}`), []string{"Content-Encoding: gzip"}, []string{"a"}},
		{"gzip in two members", gzipOf(`[{"name":"a"},`, `{"name":"b"}]`), []string{"Content-Encoding: gzip"}, []string{"a", "b"}},
		{"zstd", zstdOf(`{"name":"a"}`), []string{"Content-Encoding: zstd"}, []string{"a"}},
		{"zstd in two frames", zstdOf(`[{"name":"a"},`, `{"name":"b"}]`), []string{"Content-Encoding: ZSTD"}, []string{"a", "b"}},
		{"identity", `{"name":"a"}`, []string{"Content-Encoding: identity"}, []string{"a"}},
		{"NDJSON in gzip", gzipOf("{\"name\":\"a\"}\n{\"name\":\"b\"}"), []string{"Content-Encoding: gzip", "Content-Type: application/x-ndjson"}, []string{"a", "b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			a := r.post("/v1/events", "wk_web", tt.body, tt.header...).want(http.StatusAccepted, "").problem()
			if a.Accepted != len(tt.want) || a.Rejected != 0 || a.Ack != "stream" || len(a.IDs) != len(tt.want) {
				t.Errorf("answered %+v", a)
			}
			events := r.events()
			for i, e := range events {
				if a.IDs[i] == nil || *a.IDs[i] != e.ID || e.ID == "" {
					t.Errorf("event %d is stored as %s, the answer says %v", i, e.ID, a.IDs[i])
				}
			}
			if got := r.names(); !slices.Equal(got, tt.want) {
				t.Errorf("stored %v, want %v", got, tt.want)
			}
			r.wantLedger(uint64(len(tt.want)), nil)
		})
	}
}

func TestTheAnswerIsExact(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	a := r.post("/v1/events", "wk_web", `[{"id":"e-1","name":"a"},{"id":"e\"2","name":"b"}]`)
	if want := `{"accepted":2,"rejected":0,"ids":["e-1","e\"2"],"ack":"stream"}`; a.body != want || a.status != 202 {
		t.Errorf("%d %s\nwant %s", a.status, a.body, want)
	}
	a = r.post("/v1/events", "wk_web", `[{"id":"e-1","name":"a"},{"data":{}}]`)
	if want := `{"accepted":1,"rejected":1,"ids":["e-1",null],"errors":[{"index":1,"pointer":"/name","code":"required","detail":`; !strings.HasPrefix(a.body, want) || a.status != 207 {
		t.Errorf("%d %s\nwant %s…", a.status, a.body, want)
	}
}

func TestTheGatewayFillsInWhatItKnows(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	before := time.Now().Add(-time.Millisecond)
	r.post("/v1/events", "wk_shop",
		`{"name":"a","source":"forged","ip":"6.6.6.6","received_at":"1999-01-01T00:00:00Z","color":"red","data":{"n": 1.10}}`,
		"Origin: https://shop.example").want(202, "")
	e := r.events()[0]
	if e.Source != "store" || e.IP != "" || e.Type != "track" {
		t.Errorf("source %q, ip %q, type %q", e.Source, e.IP, e.Type)
	}
	at, err := time.Parse(time.RFC3339, e.ReceivedAt)
	if err != nil || at.Before(before.Truncate(time.Millisecond)) || time.Since(at) > time.Minute || e.Timestamp != e.ReceivedAt {
		t.Errorf("received_at %q, timestamp %q", e.ReceivedAt, e.Timestamp)
	}
	if len(e.ID) != 36 || e.ID[14] != '7' {
		t.Errorf("id %q is no UUIDv7", e.ID)
	}
	if string(e.Data) != `{"n": 1.10}` {
		t.Errorf("data has become %s", e.Data)
	}
	extra := e.extra(t)
	if string(extra["color"]) != `"red"` || string(extra["source"]) != `"forged"` || string(extra["ip"]) != `"6.6.6.6"` {
		t.Errorf("context is %s", e.Context)
	}
}

func TestTheAddressIsKeptOnlyIfTheKeySaysSo(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.post("/v1/events", "wk_ip", good).want(202, "")
	r.post("/v1/events", "wk_web", good).want(202, "")
	if e := r.events(); e[0].IP != "192.0.2.1" || e[1].IP != "" {
		t.Errorf("addresses %q and %q", e[0].IP, e[1].IP)
	}
}

func TestBadInputIsNamedAndItsNeighboursLive(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 10_000) + `1` + strings.Repeat(`}`, 10_000)
	large := `{"name":"large","data":{"x":"` + strings.Repeat("x", 5000) + `"}}`
	const id = `"id":"g"`
	for _, tt := range []struct {
		name, bad     string
		code, pointer string
		alone         int // status if it is the only event
		aloneCode     string
		class         string
	}{
		{"no name", `{"data":{}}`, "required", "/name", 422, "invalid", "invalid"},
		{"empty name", `{"name":""}`, "required", "/name", 422, "invalid", "invalid"},
		{"not an object", `7`, "invalid_type", "", 422, "invalid", "invalid"},
		{"null", `null`, "invalid_type", "", 422, "invalid", "invalid"},
		{"data is no object", `{"name":"a","data":[]}`, "invalid_type", "/data", 422, "invalid", "invalid"},
		{"nested 10,000 deep", `{"name":"a","data":` + deep + `}`, "too_large", "", 413, "too_large", "too_large"},
		{"nested 300 deep", `{"name":"a","data":` + strings.Repeat(`{"a":`, 300) + `1` + strings.Repeat(`}`, 300) + `}`, "too_deep", "", 422, "invalid", "invalid"},
		{"invalid UTF-8", "{\"name\":\"a\",\"data\":{\"x\":\"\xff\"}}", "invalid_utf8", "/data/x", 422, "invalid", "invalid"},
		{"duplicate key", `{"name":"a","data":{"x":1,"x":2}}`, "duplicate_key", "/data/x", 422, "invalid", "invalid"},
		{"number beyond float64", `{"name":"a","data":{"x":1e400}}`, "number_out_of_range", "/data/x", 422, "invalid", "invalid"},
		{"over the size limit", large, "too_large", "", 413, "too_large", "too_large"},
		{"unknown type", `{"name":"a","type":"click"}`, "unknown_type", "/type", 422, "invalid", "invalid"},
		{"bad timestamp", `{"name":"a","timestamp":"yesterday"}`, "invalid_timestamp", "/timestamp", 422, "invalid", "invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			r.edge.cfg.Limits.MaxBytes = 4000
			body := `[{"name":"before"},` + tt.bad + `,{` + id + `,"name":"after"}]`
			a := r.post("/v1/events", "wk_web", body).want(207, "").problem()
			if got := r.names(); !slices.Equal(got, []string{"before", "after"}) {
				t.Errorf("stored %v", got)
			}
			if a.Accepted != 2 || a.Rejected != 1 || a.IDs[1] != nil || *a.IDs[2] != "g" {
				t.Errorf("answered %+v", a)
			}
			if e := a.Errors[0]; e.Index != 1 || e.Code != tt.code || !strings.HasPrefix(e.Pointer, tt.pointer) || e.Detail == "" {
				t.Errorf("error %+v, want %s at %s", e, tt.code, tt.pointer)
			}
			ls := r.letters()
			if len(ls) != 1 {
				t.Fatalf("%d letters in quarantine", len(ls))
			}
			l := ls[0]
			raw := string(l.Event) + string(l.Raw)
			if raw != tt.bad || l.Class != tt.class || l.Code != tt.code || l.Destination != "quarantine" ||
				l.Source != "web" || l.ID == "" || l.Message == "" || l.FirstSeen.IsZero() {
				t.Errorf("letter %+v\nwith %s", l, raw)
			}
			if json.Valid([]byte(tt.bad)) != (l.Event != nil) {
				t.Errorf("event %s, raw %s", l.Event, l.Raw)
			}
			r.wantLedger(2, map[string]uint64{tt.class: 1})

			alone := r.post("/v1/events", "wk_web", tt.bad).want(tt.alone, tt.aloneCode).problem()
			if len(alone.Errors) != 1 || alone.Errors[0].Code != tt.code {
				t.Errorf("alone: errors %+v", alone.Errors)
			}
		})
	}
}

func TestANDJSONLineThatIsNotJSONIsOneBadEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	a := r.post("/v1/events", "wk_web", "{\"name\":\"a\"}\n{\"name\":\n{\"name\":\"b\"}\n", "Content-Type: application/x-ndjson").want(207, "").problem()
	if len(a.Errors) != 1 || a.Errors[0].Index != 1 || a.Errors[0].Code != "invalid_json" {
		t.Errorf("errors %+v", a.Errors)
	}
	if got := r.names(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("stored %v", got)
	}
}

func TestABodyThatCannotBeReadStoresNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		body   string
		header []string
		status int
		code   string
		detail string
	}{
		{"empty", ``, nil, 400, "empty_body", ""},
		{"empty gzip", gzipOf(""), []string{"Content-Encoding: gzip"}, 400, "empty_body", ""},
		{"white space", " \n", nil, 400, "invalid_json", ""},
		{"not JSON", `name=a`, nil, 400, "invalid_json", "line 1"},
		{"HTML", `<html>`, nil, 400, "invalid_json", "byte 0"},
		{"cut off in the second event", "[{\"name\":\"a\"},\n{\"name\":", nil, 400, "invalid_json", "line 2"},
		{"more behind the end", `{"name":"a"}{"name":"b"}`, nil, 400, "invalid_json", ""},
		{"empty array", `[]`, nil, 422, "no_events", ""},
		{"no events", `{"events":[]}`, nil, 422, "no_events", ""},
		{"event and batch at once", `{"events":[{"name":"a"}],"name":"b"}`, nil, 400, "invalid_json", ""},
		{"truncated gzip", gzipOf(good)[:20], []string{"Content-Encoding: gzip"}, 400, "invalid_encoding", "too early"},
		{"truncated gzip header", gzipOf(good)[:3], []string{"Content-Encoding: gzip"}, 400, "invalid_encoding", ""},
		{"truncated second member", gzipOf(`[{"name":"a"},`, `{"name":"b"}]`)[:45], []string{"Content-Encoding: gzip"}, 400, "invalid_encoding", ""},
		{"truncated zstd", zstdOf(good)[:20], []string{"Content-Encoding: zstd"}, 400, "invalid_encoding", ""},
		{"gzip that is plain", good, []string{"Content-Encoding: gzip"}, 400, "invalid_encoding", ""},
		{"zstd that is plain", good, []string{"Content-Encoding: zstd"}, 400, "invalid_encoding", ""},
		{"broken checksum", gzipOf(good)[:len(gzipOf(good))-8] + "12345678", []string{"Content-Encoding: gzip"}, 400, "invalid_encoding", ""},
		{"unknown encoding", good, []string{"Content-Encoding: br"}, 415, "unknown_encoding", "gzip or zstd"},
		{"two encodings", good, []string{"Content-Encoding: gzip, gzip"}, 415, "unknown_encoding", ""},
		{"gzip without its label", gzipOf(good), nil, 400, "invalid_json", ""},
		{"form with broken base64", `data=!!!`, nil, 400, "invalid_encoding", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			a := r.post("/v1/events", "wk_web", tt.body, tt.header...).want(tt.status, tt.code)
			if !strings.Contains(a.problem().Detail, tt.detail) {
				t.Errorf("detail %q does not say %q", a.problem().Detail, tt.detail)
			}
			if len(r.events()) != 0 || len(r.letters()) != 0 {
				t.Error("something was kept")
			}
			r.wantLedger(0, nil)
		})
	}
}

func TestWhatTheStreamSaysReachesTheSender(t *testing.T) {
	t.Parallel()
	away := &fault.Error{Kind: fault.Unavailable, Detail: "spool full", RetryAfter: 2500 * time.Millisecond}
	unknown := &fault.Error{Kind: fault.Ambiguous}
	for _, tt := range []struct {
		name   string
		body   string
		refuse func(stored) error
		put    error
		status int
		code   string
		retry  string
		check  func(t *testing.T, r *rig, d document)
	}{
		{
			name: "nothing is stored", body: `[{"name":"a"},{"name":"b"}]`,
			refuse: func(stored) error { return away }, status: 503, code: "unavailable", retry: "3",
		},
		{
			name: "nobody knows what is stored", body: `[{"name":"a"},{"name":"b"}]`,
			refuse: func(stored) error { return unknown }, status: 503, code: "unavailable", retry: "5",
			check: func(t *testing.T, _ *rig, d document) {
				if !strings.Contains(d.Detail, "not known") {
					t.Errorf("detail %q", d.Detail)
				}
			},
		},
		{
			name: "an error that blames no event blames all", body: `{"name":"a"}`,
			put: errors.New("lost"), status: 503, code: "unavailable", retry: "5",
		},
		{
			name: "one event is not stored", body: `[{"name":"a"},{"name":"b"},{"name":"c"}]`,
			refuse: only("b", away), status: 207, retry: "3",
			check: func(t *testing.T, r *rig, d document) {
				if d.Accepted != 2 || d.Rejected != 1 || d.IDs[1] != nil || d.Errors[0].Index != 1 || d.Errors[0].Code != "unavailable" {
					t.Errorf("answered %+v", d)
				}
				if len(r.letters()) != 0 {
					t.Error("an event that is to be sent again is quarantined")
				}
			},
		},
		{
			name: "one is invalid, one is not stored, one is", body: `[{"name":"c"},{"name":"b"},{}]`,
			refuse: only("b", away), status: 207, retry: "3",
			check: func(t *testing.T, r *rig, d document) {
				if d.Accepted != 1 || d.Rejected != 2 || d.Errors[0].Index != 1 || d.Errors[1].Index != 2 || d.Errors[1].Code != "required" {
					t.Errorf("answered %+v", d)
				}
				if len(r.letters()) != 1 {
					t.Errorf("%d letters", len(r.letters()))
				}
			},
		},
		{
			name: "one is invalid and the rest is not stored", body: `[{"name":"b"},{}]`,
			refuse: only("b", away), status: 503, code: "unavailable", retry: "3",
			check: func(t *testing.T, r *rig, d document) {
				if len(r.letters()) != 0 {
					t.Error("quarantined, and sent again with the rest")
				}
			},
		},
		{
			name: "the stream will never take one", body: `[{"name":"a"},{"name":"b"}]`,
			refuse: only("b", fault.New(fault.TooLarge, "over the limit of a record")), status: 207,
			check: func(t *testing.T, r *rig, d document) {
				if d.Accepted != 1 || d.Errors[0].Index != 1 || d.Errors[0].Code != "too_large" {
					t.Errorf("answered %+v", d)
				}
				if ls := r.letters(); len(ls) != 1 || decodeStored(ls[0].Event).Name != "b" || ls[0].Class != "too_large" {
					t.Errorf("letters %+v", ls)
				}
			},
		},
		{
			name: "the stream will never take the only one", body: `{"name":"b"}`,
			refuse: only("b", fault.New(fault.TooLarge, "over the limit of a record")), status: 413, code: "too_large",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			r.stream.refuse, r.stream.blameless = tt.refuse, tt.put
			a := r.post("/v1/events", "wk_web", tt.body).want(tt.status, tt.code)
			if got := a.header.Get("Retry-After"); got != tt.retry {
				t.Errorf("Retry-After is %q, want %q", got, tt.retry)
			}
			if tt.check != nil {
				tt.check(t, r, a.problem())
			}
		})
	}
}

func only(name string, err error) func(stored) error {
	return func(ev stored) error {
		if ev.Name == name {
			return err
		}
		return nil
	}
}

func TestEventNamesOutsideTheScopeAreForbiddenOneByOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	d := r.post("/v1/events", "wk_orders", `[{"name":"order_paid"},{"id":"x","name":"signup"}]`).want(207, "").problem()
	if d.Accepted != 1 || d.Errors[0].Index != 1 || d.Errors[0].Code != "forbidden" {
		t.Errorf("answered %+v", d)
	}
	if l := r.letters()[0]; l.Class != "forbidden" || l.EventID != "x" || l.EventName != "signup" {
		t.Errorf("letter %+v", l)
	}
	r.post("/v1/events", "wk_orders", `[{"name":"signup"}]`).want(403, "forbidden")
	r.wantLedger(1, map[string]uint64{"forbidden": 2})
}

func TestAFailingQuarantineIsCountedAndTheSenderToldTheTruth(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.quarantine.err = errors.New("disk full")
	r.post("/v1/events", "wk_web", `[{"name":"a"},{}]`).want(207, "")
	if n := r.edge.Stats().QuarantineFailed; n != 1 {
		t.Errorf("%d failures counted", n)
	}
	if !strings.Contains(r.log.String(), "disk full") {
		t.Error("not logged")
	}
}

func TestTooManyEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{MaxEvents: 3})
	body := func(n int) string { return "[" + strings.Repeat(good+",", n-1) + good + "]" }
	r.post("/v1/events", "wk_web", body(3)).want(202, "")
	r.post("/v1/events", "wk_web", body(4)).want(413, "too_many_events")
	r.post("/v1/batch", "wk_web", `{"batch":`+strings.ReplaceAll(body(4), `"name"`, `"type":"track","event"`)+`}`).want(413, "too_many_events")
	r.wantLedger(3, nil)
}

func TestRoutesAndMethods(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	for _, tt := range []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{"POST", "/v1/events/", 202, "", ""},
		{"GET", "/v1/events", 405, "method_not_allowed", "POST, OPTIONS"},
		{"HEAD", "/v1/batch", 405, "method_not_allowed", "POST, OPTIONS"},
		{"PUT", "/v1/t/", 405, "method_not_allowed", "POST, OPTIONS"},
		{"TRACE", "/v1/events", 405, "method_not_allowed", "POST, OPTIONS"},
		{"BREW", "/v1/events", 405, "method_not_allowed", "POST, OPTIONS"},
		{"POST", "/livez", 405, "method_not_allowed", "GET, HEAD, OPTIONS"},
		{"POST", "/v1/nothing", 404, "not_found", ""},
		{"POST", "/", 404, "not_found", ""},
		{"POST", "//v1/events", 404, "not_found", ""},
		{"GET", "/livez", 200, "", ""},
		{"GET", "/readyz/", 200, "", ""},
		{"OPTIONS", "/v1/nothing", 204, "", "OPTIONS"},
	} {
		a := r.do(newRequest(tt.method, tt.path, "wk_web", good, "Origin: https://a.example"))
		a.want(tt.status, tt.code)
		if got := a.header.Get("Allow"); got != tt.allow {
			t.Errorf("%s %s: Allow is %q, want %q", tt.method, tt.path, got, tt.allow)
		}
		if got := a.header.Get("Access-Control-Allow-Origin"); tt.status >= 400 && got != "https://a.example" {
			t.Errorf("%s %s: a page cannot read the %d", tt.method, tt.path, tt.status)
		}
	}
}

func TestReadyzNamesTheReasons(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.edge.cfg.Ready = func(context.Context) []string { return []string{"stream: away"} }
	a := r.do(newRequest("GET", "/readyz", "", ""))
	if a.status != 503 || !strings.Contains(a.body, `"reasons":["stream: away"]`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	r.edge.cfg.Ready = nil
	r.keys = nil
	if a := r.do(newRequest("GET", "/readyz", "", "")); a.status != 503 || !strings.Contains(a.body, "keys") {
		t.Errorf("%d %s", a.status, a.body)
	}
	r.post("/v1/events", "wk_web", good).want(503, "unavailable")
	if a := r.do(newRequest("GET", "/livez", "", "")); a.status != 200 {
		t.Errorf("livez: %d", a.status)
	}
}

func TestAPanicIsAProblemAndClosesTheConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.stream.refuse = func(stored) error { panic("boom") }
	a := r.post("/v1/events", "wk_web", good).want(500, "internal")
	if a.header.Get("Connection") != "close" {
		t.Error("the connection stays open")
	}
	if !strings.Contains(r.log.String(), "boom") || strings.Contains(a.body, "boom") {
		t.Error("the reason belongs in the log and not in the answer")
	}
	r.stream.refuse = nil
	r.post("/v1/events", "wk_web", good).want(202, "")
}

func TestStatsCountRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.post("/v1/events", "wk_web", good).want(202, "")
	r.post("/v1/events", "wk_web", gzipOf(good), "Content-Encoding: gzip").want(202, "")
	r.post("/v1/events", "wk_nobody", good).want(401, "unknown_key")
	s := r.edge.Stats()
	want := []RequestCount{{"events", 202, 2}, {"events", 401, 1}}
	if !slices.Equal(s.Requests, want) || s.Refused["unknown_key"] != 1 {
		t.Errorf("%+v", s)
	}
	if wire := uint64(len(good) + len(gzipOf(good))); s.BytesIn != wire || s.BytesDecoded != uint64(2*len(good)) {
		t.Errorf("%d bytes in, %d decoded; want %d, %d", s.BytesIn, s.BytesDecoded, wire, 2*len(good))
	}
}

func TestNoLogLineHoldsAKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.post("/v1/events?write_key=wk_web", "", good).want(202, "")
	r.post("/v1/events?write_key=wk_secret_typo", "wk_other_typo", good, "X-Write-Key: wk_third").want(401, "unknown_key")
	r.post("/v1/batch", "", `{"batch":[],"writeKey":"wk_web"}`).want(200, "")
	r.stream.blameless = fmt.Errorf("away")
	r.post("/v1/events", "wk_web", good).want(503, "unavailable")
	log := r.log.String()
	if strings.Contains(log, "wk_") {
		t.Errorf("a key is in the log:\n%s", log)
	}
	if !strings.Contains(log, "level=INFO msg=request method=POST path=/v1/events status=503") || !strings.Contains(log, "key=web") {
		t.Errorf("log:\n%s", log)
	}
}
