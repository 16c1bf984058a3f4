package edge

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
)

// fixture is a request as an SDK sends it.
type fixture struct {
	SDK     string
	Request struct {
		Method, Path string
		Query        map[string]string
		Headers      [][2]string
		Body         json.RawMessage
		BodyBase64   []byte
		BodyText     string
	}
	Events []struct{ ID, Name, Type string }
}

func (f *fixture) request() *http.Request {
	body := []byte(f.Request.Body)
	switch {
	case f.Request.BodyBase64 != nil:
		body = f.Request.BodyBase64
	case f.Request.BodyText != "":
		body = []byte(f.Request.BodyText)
	}
	query := url.Values{}
	for k, v := range f.Request.Query {
		query.Set(k, v)
	}
	target := url.URL{Path: f.Request.Path, RawQuery: query.Encode()}
	req := httptest.NewRequest(f.Request.Method, target.String(), bytes.NewReader(body))
	for _, h := range f.Request.Headers {
		if !strings.EqualFold(h[0], "Content-Length") {
			req.Header.Add(h[0], h[1])
		}
	}
	return req
}

// sentEvents are the events in the body, as members.
func (f *fixture) sentEvents(t *testing.T) []map[string]json.RawMessage {
	t.Helper()
	var env struct{ Batch []map[string]json.RawMessage }
	if err := json.Unmarshal(f.Request.Body, &env); err != nil {
		t.Fatal(err)
	}
	if env.Batch != nil {
		return env.Batch
	}
	var one map[string]json.RawMessage
	if err := json.Unmarshal(f.Request.Body, &one); err != nil {
		t.Fatal(err)
	}
	return []map[string]json.RawMessage{one}
}

func sameJSON(t *testing.T, a, b json.RawMessage) bool {
	t.Helper()
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	return reflect.DeepEqual(x, y)
}

// orNull is a member, or null where there is none.
func orNull(m map[string]json.RawMessage, names ...string) json.RawMessage {
	for _, n := range names {
		if v := m[n]; v != nil && string(v) != "null" {
			return v
		}
	}
	return json.RawMessage("null")
}

func stringOf(raw json.RawMessage) string {
	var s string
	_ = json.Unmarshal(raw, &s)
	return s
}

func TestUnmodifiedSDKs(t *testing.T) {
	t.Parallel()
	var files []string
	err := filepath.WalkDir("testdata/sdk", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".json" {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 40 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimPrefix(file, "testdata/sdk/"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var f fixture
			if err := json.Unmarshal(raw, &f); err != nil {
				t.Fatal(err)
			}
			r := newRig(t, Config{})
			a := r.do(f.request())
			origin := f.request().Header.Get("Origin")
			if got := a.header.Get("Access-Control-Allow-Origin"); got != origin {
				t.Errorf("Access-Control-Allow-Origin is %q, the origin %q", got, origin)
			}
			if f.Request.Method == http.MethodOptions {
				checkPreflight(t, f.request(), a)
				return
			}
			if a.status != 200 || a.body != `{"success":true}` || a.header.Get("Content-Type") != "application/json" {
				t.Errorf("answered %d %s", a.status, a.body)
			}
			checkMapped(t, &f, r)
		})
	}
}

func checkPreflight(t *testing.T, req *http.Request, a answer) {
	t.Helper()
	if a.status != 204 || a.header.Get("Access-Control-Allow-Credentials") != "true" || a.header.Get("Access-Control-Max-Age") == "" {
		t.Errorf("answered %d, %v", a.status, a.header)
	}
	allowed := strings.Split(a.header.Get("Access-Control-Allow-Headers"), ", ")
	for name := range strings.SplitSeq(req.Header.Get("Access-Control-Request-Headers"), ",") {
		if !slices.Contains(allowed, name) {
			t.Errorf("header %s is not allowed", name)
		}
	}
	if m := a.header.Get("Access-Control-Allow-Methods"); !strings.Contains(m, "POST") {
		t.Errorf("methods are %s", m)
	}
}

// checkMapped compares what is stored with what the SDK sent, field by field.
func checkMapped(t *testing.T, f *fixture, r *rig) {
	t.Helper()
	sent, got := f.sentEvents(t), r.events()
	if len(got) != len(sent) || f.Events != nil && len(f.Events) != len(sent) {
		t.Fatalf("%d events are stored, %d were sent", len(got), len(sent))
	}
	for _, raw := range r.stream.stored {
		if bytes.Contains(raw, []byte("WK_fixture")) {
			t.Errorf("the key is in the event: %s", raw)
		}
	}
	r.wantLedger(uint64(len(sent)), nil)
	for i, e := range got {
		s := sent[i]
		if f.Events != nil {
			if w := f.Events[i]; e.ID != w.ID || e.Name != w.Name || e.Type != w.Type {
				t.Errorf("event %d is %s %s %s, want %+v", i, e.ID, e.Name, e.Type, w)
			}
		}
		if e.ID != stringOf(s["messageId"]) || e.Type != stringOf(s["type"]) || e.Source != "fixture" {
			t.Errorf("event %d is %s %s of %s", i, e.ID, e.Type, e.Source)
		}
		if e.UserID != stringOf(s["userId"]) || e.AnonymousID != stringOf(s["anonymousId"]) {
			t.Errorf("event %d is by %q and %q, sent %s and %s", i, e.UserID, e.AnonymousID, s["userId"], s["anonymousId"])
		}
		data := orNull(s, "properties", "traits")
		if string(data) == "null" {
			data = json.RawMessage("{}")
		}
		if !sameJSON(t, e.Data, data) {
			t.Errorf("event %d has data %s, sent %s", i, e.Data, data)
		}
		var context map[string]json.RawMessage
		if err := json.Unmarshal(e.Context, &context); err != nil {
			t.Fatal(err)
		}
		var sentContext map[string]json.RawMessage
		if err := json.Unmarshal(orNull(s, "context"), &sentContext); err != nil {
			t.Fatal(err)
		}
		for name, v := range sentContext {
			if !sameJSON(t, context[name], v) {
				t.Errorf("event %d has context.%s %s, sent %s", i, name, context[name], v)
			}
		}
		extra := e.extra(t)
		for name, v := range s {
			switch name {
			case "type", "event", "messageId", "userId", "anonymousId", "properties", "traits", "context", "timestamp", "originalTimestamp", "writeKey":
				continue
			case "name":
				if e.Type == "page" || e.Type == "screen" {
					continue
				}
			}
			if !sameJSON(t, extra[name], v) {
				t.Errorf("event %d: %s was %s and is %s", i, name, v, extra[name])
			}
		}
		original := orNull(s, "timestamp", "originalTimestamp")
		if !sameJSON(t, extra["originalTimestamp"], original) || e.Timestamp == "" {
			t.Errorf("event %d happened at %s; kept as %s, sent %s", i, e.Timestamp, extra["originalTimestamp"], original)
		}
	}
}

func TestAnUnreadableTimestampIsKept(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.post("/v1/t", "wk_web", `{"event":"a","timestamp":1795476643,"originalTimestamp":"gestern"}`).want(200, "")
	e := r.events()[0]
	if extra := e.extra(t); string(extra["timestamp"]) != "1795476643" || string(extra["originalTimestamp"]) != `"gestern"` || e.Timestamp != e.ReceivedAt {
		t.Errorf("timestamp %s, context %s", e.Timestamp, e.Context)
	}
}

func TestMappingOfSingleFields(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path, body string
		want             stored
	}{
		{"track", "/v1/track", `{"event":"Paid","properties":{"n": 1.0}}`, stored{Type: "track", Name: "Paid", Data: json.RawMessage(`{"n": 1.0}`)}},
		{"short form", "/v1/t/", `{"event":"Paid"}`, stored{Type: "track", Name: "Paid"}},
		{"the route says the type", "/v1/track", `{"type":"page","event":"Paid"}`, stored{Type: "track", Name: "Paid", Context: json.RawMessage(`{"extra":{"type":"page"}}`)}},
		{"escapes in names", "/v1/t", `{"event":"M\u00fcller \ud83d\ude00","messageId":"a\/b"}`, stored{ID: "a/b", Type: "track", Name: "Müller 😀"}},
		{"numbers as ids", "/v1/t", `{"event":"a","userId":42,"anonymousId":-1.5e3,"messageId":7}`, stored{ID: "7", Type: "track", Name: "a", UserID: "42", AnonymousID: "-1.5e3"}},
		{"null ids", "/v1/t", `{"event":"a","userId":null,"messageId":null,"context":null,"properties":null}`, stored{Type: "track", Name: "a"}},
		{"page with a name", "/v1/page", `{"name":"Home","category":"Docs"}`, stored{Type: "page", Name: "Home", Context: json.RawMessage(`{"extra":{"category":"Docs"}}`)}},
		{"page without a name", "/v1/p", `{"properties":{"url":"/"}}`, stored{Type: "page", Name: "page", Data: json.RawMessage(`{"url":"/"}`)}},
		{"screen", "/v1/s", `{"name":"Main"}`, stored{Type: "screen", Name: "Main"}},
		{"identify", "/v1/i", `{"traits":{"a":1},"properties":{"b":2},"name":"x"}`, stored{
			Type: "identify", Name: "identify", Data: json.RawMessage(`{"a":1}`), Context: json.RawMessage(`{"extra":{"name":"x","properties":{"b":2}}}`),
		}},
		{"identify with traits in the context", "/v1/identify", `{"context":{"a":1,"traits":{"b": 2}}}`, stored{
			Type: "identify", Name: "identify", Data: json.RawMessage(`{"b": 2}`), Context: json.RawMessage(`{"a":1,"traits":{"b": 2}}`),
		}},
		{"identify with traits of its own", "/v1/identify", `{"traits":{},"context":{"traits":{"b":2}}}`, stored{
			Type: "identify", Name: "identify", Context: json.RawMessage(`{"traits":{"b":2}}`),
		}},
		{"traits in the context of another type", "/v1/t", `{"event":"a","context":{"traits":{"b":2}}}`, stored{Type: "track", Name: "a", Context: json.RawMessage(`{"traits":{"b":2}}`)}},
		{"traits in the context that are none", "/v1/i", `{"context":{"traits":[1]}}`, stored{Type: "identify", Name: "identify", Context: json.RawMessage(`{"traits":[1]}`)}},
		{"group", "/v1/group", `{"groupId":"g"}`, stored{Type: "group", Name: "group", Context: json.RawMessage(`{"extra":{"groupId":"g"}}`)}},
		{"alias", "/v1/a", `{"previousId":"p","userId":"u"}`, stored{Type: "alias", Name: "alias", UserID: "u", Context: json.RawMessage(`{"extra":{"previousId":"p"}}`)}},
		{"an envelope on a route of one type", "/v1/track", `{"batch":[{"event":"a"}]}`, stored{Type: "track", Name: "a"}},
		{"an array", "/v1/batch", `[{"type":"track","event":"a"}]`, stored{Type: "track", Name: "a"}},
		{"one event to the batch", "/v1/b", `{"type":"track","event":"a"}`, stored{Type: "track", Name: "a"}},
		{"context of the envelope", "/v1/import", `{"context":{"ip":"1.2.3.4"},"batch":[{"type":"track","event":"a"}]}`, stored{Type: "track", Name: "a", Context: json.RawMessage(`{"ip":"1.2.3.4"}`)}},
		{"context of the event wins", "/v1/batch", `{"context":{"a":1},"batch":[{"type":"track","event":"a","context":{"b":2}}]}`, stored{Type: "track", Name: "a", Context: json.RawMessage(`{"b":2}`)}},
		{"a bad context of the envelope", "/v1/batch", `{"context":{"a":1,"a":2},"batch":[{"type":"track","event":"a"}]}`, stored{Type: "track", Name: "a"}},
		{"Jitsu", "/api/s/track", `{"type":"track","event":"a","writeKey":"wk_web:***"}`, stored{Type: "track", Name: "a"}},
		{"Jitsu from a server", "/api/s/s2s/page/", `{"type":"page","name":"Home"}`, stored{Type: "page", Name: "Home"}},
		{"a beacon", "/beacon/v1/batch?writeKey=wk_web", `{"batch":[{"type":"track","event":"a"}]}`, stored{Type: "track", Name: "a"}},
		{"the key is not stored", "/v1/t", `{"event":"a","writeKey":"wk_web"}`, stored{Type: "track", Name: "a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			if a := r.post(tt.path, "wk_web", tt.body); a.status != 200 || a.body != `{"success":true}` {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if ls := r.letters(); len(ls) != 0 {
				t.Fatalf("quarantined: %+v", ls)
			}
			e := r.events()[0]
			for _, f := range []*json.RawMessage{&tt.want.Data, &tt.want.Context} {
				if *f == nil {
					*f = json.RawMessage(`{}`)
				}
			}
			if tt.want.ID == "" && len(e.ID) == 36 {
				tt.want.ID = e.ID
			}
			tt.want.Timestamp, tt.want.ReceivedAt, tt.want.Source = e.ReceivedAt, e.ReceivedAt, "web"
			if !reflect.DeepEqual(e, tt.want) {
				t.Errorf("stored %+v\nwant %+v\n%s", e, tt.want, r.stream.stored[0])
			}
		})
	}
}

func TestABadEventOfAnSDKIsQuarantinedAndItsNeighboursLive(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, bad, class, code, message string }{
		{"no event name", `{"type":"track"}`, "invalid", "required", "/event: "},
		{"no type", `{"event":"a"}`, "invalid", "required", "/type: "},
		{"unknown type", `{"type":"click","event":"a"}`, "invalid", "unknown_type", "/type: "},
		{"type is a number", `{"type":1,"event":"a"}`, "invalid", "invalid_type", "/type: "},
		{"userId is an object", `{"type":"track","event":"a","userId":{}}`, "invalid", "invalid_type", "/userId: "},
		{"properties is an array", `{"type":"track","event":"a","properties":[]}`, "invalid", "invalid_type", "/properties: "},
		{"traits is a string", `{"type":"identify","traits":"a"}`, "invalid", "invalid_type", "/traits: "},
		{"context is a string", `{"type":"track","event":"a","context":""}`, "invalid", "invalid_type", "/context: "},
		{"long id", `{"type":"track","event":"a","messageId":"` + strings.Repeat("x", 257) + `"}`, "invalid", "too_long", "/messageId: "},
		{"not an object", `7`, "invalid", "invalid_type", ""},
		{"null", `null`, "invalid", "invalid_type", ""},
		{"duplicate key", `{"type":"track","event":"a","properties":{"x":1,"x":1}}`, "invalid", "duplicate_key", "/properties/x: "},
		{"number beyond float64", `{"type":"track","event":"a","properties":{"x":-1e999}}`, "invalid", "number_out_of_range", "/properties/x: "},
		{"invalid UTF-8", "{\"type\":\"track\",\"event\":\"a\",\"properties\":{\"x\":\"\xc3\"}}", "invalid", "invalid_utf8", "/properties/x: "},
		{"too deep", `{"type":"track","event":"a","properties":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, "invalid", "too_deep", "/properties/"},
		{"too large", `{"type":"track","event":"a","properties":{"x":"` + strings.Repeat("x", 100_000) + `"}}`, "too_large", "too_large", "it has 100"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			r.edge.cfg.Limits.MaxBytes = 50_000
			a := r.post("/v1/batch", "wk_web", `{"batch":[{"type":"track","event":"before"},`+tt.bad+`,{"type":"page"}]}`)
			if a.status != 200 || a.body != `{"success":true}` {
				t.Errorf("%d %s", a.status, a.body)
			}
			if got := r.names(); !slices.Equal(got, []string{"before", "page"}) {
				t.Errorf("stored %v", got)
			}
			ls := r.letters()
			if len(ls) != 1 {
				t.Fatalf("%d letters", len(ls))
			}
			if l := ls[0]; l.Class != tt.class || l.Code != tt.code || !strings.HasPrefix(l.Message, tt.message) || l.Request != "POST /v1/batch" {
				t.Errorf("letter %s %s %q %q", l.Class, l.Code, l.Message, l.Request)
			}
			kept := slices.Concat(ls[0].Event, ls[0].Raw)
			if want := tt.bad[:min(len(tt.bad), 64<<10)]; string(kept) != want {
				t.Errorf("kept %d bytes of %d", len(kept), len(want))
			}
			r.wantLedger(2, map[string]uint64{tt.class: 1})
		})
	}
}

func TestSDKsAreToldToTryAgainWhenAnythingIsNotDurable(t *testing.T) {
	t.Parallel()
	const batch = `{"batch":[{"type":"track","event":"a"},{"type":"track","event":"b"},{"type":"track"}]}`
	t.Run("one event is not stored", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.stream.refuse = only("b", &fault.Error{Kind: fault.Unavailable, RetryAfter: time.Second})
		r.post("/v1/batch", "wk_web", batch).want(503, "unavailable")
		if len(r.letters()) != 0 {
			t.Error("quarantined, and sent again with the rest")
		}
	})
	t.Run("the quarantine is away", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.quarantine.err = errors.New("away")
		r.post("/v1/batch", "wk_web", batch).want(503, "unavailable")
	})
	t.Run("the stream will never take one", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{})
		r.stream.refuse = only("b", fault.New(fault.TooLarge, "over the limit of a record"))
		r.post("/v1/batch", "wk_web", batch).want(200, "")
		if ls := r.letters(); len(ls) != 2 || decodeStored(ls[0].Event).Name != "b" || ls[0].Request != "" {
			t.Errorf("letters %+v", ls)
		}
	})
}

func TestEnvelopesOfSDKs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		header     []string
		status     int
		code       string
	}{
		{"empty batch", `{"batch":[]}`, nil, 200, ""},
		{"only bad events", `{"batch":[{},7]}`, nil, 200, ""},
		{"empty body", ``, nil, 400, "empty_body"},
		{"white space", ` `, nil, 400, "empty_body"},
		{"not JSON", `{"batch":[{]}`, nil, 400, "invalid_json"},
		{"cut off", `{"batch":[{"type":"track","event":"a"}`, nil, 400, "invalid_json"},
		{"batch is an object", `{"batch":{}}`, nil, 400, "invalid_json"},
		{"a number", `7`, nil, 400, "invalid_json"},
		{"truncated gzip", gzipOf(`{"batch":[]}`)[:15], []string{"Content-Encoding: gzip"}, 400, "invalid_encoding"},
		{"unknown content type", `{"batch":[]}`, []string{"Content-Type: application/x-www-form-urlencoded"}, 200, ""},
		{"unknown encoding", `{"batch":[]}`, []string{"Content-Encoding: br"}, 415, "unknown_encoding"},
		{"form with base64", "data=" + url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(`{"batch":[]}`))), nil, 200, ""},
		{"form with URL-safe base64", "data=" + base64.URLEncoding.EncodeToString([]byte(`{"batch":[],"a":"???>>>"}`)), nil, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			a := r.post("/v1/batch", "wk_web", tt.body, tt.header...).want(tt.status, tt.code)
			if tt.status == 200 && a.body != `{"success":true}` {
				t.Errorf("answered %s", a.body)
			}
		})
	}
}

// An SDK that does not look at the status of an answer sends again what the
// browser calls a failure: what is to be sent again is kept from its page.
func TestWhatIsToBeSentAgainFailsWhereNobodyLooksAtTheStatus(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	send := func(key, version string) answer {
		return r.do(newRequest("POST", "/v1/t", "", `{"writeKey":"`+key+`","type":"track","event":"a","anonymousId":"b",`+
			`"context":{"library":{"name":"analytics.js","version":"`+version+`"}}}`, "Origin: https://any.example", "Content-Type: text/plain"))
	}
	for version, deaf := range map[string]bool{
		"npm:next-1.55.0": true, "npm:next-1.70.0": true, "next-1.70.1": true, "npm:next-1.9": true,
		"npm:next-1.71.0": false, "npm:next-1.84.3": false, "next-1.100.0": false, "npm:next-1.": false, "npm:next-2.1.0": false, "1.70.0": false,
	} {
		readable := func(a answer, want bool) {
			t.Helper()
			h := a.header
			if got := h.Get("Access-Control-Allow-Origin") != ""; got != want || (h.Get("Access-Control-Allow-Credentials") != "") != want {
				t.Errorf("%s: the page may read the %d: %t", version, a.status, got)
			}
		}
		a := send("wk_web", version)
		a.want(200, "")
		readable(a, true)
		a = send("wk_nobody", version)
		a.want(401, "unknown_key")
		readable(a, true)
		r.stream.refuse = func(stored) error { return &fault.Error{Kind: fault.Unavailable} }
		a = send("wk_web", version)
		a.want(503, "unavailable")
		readable(a, !deaf)
		r.stream.refuse = nil
		for a.status != 429 {
			a = send("wk_slow", version)
		}
		a.want(429, "rate_limited")
		readable(a, !deaf)
		if a.header.Get("Vary") == "" {
			t.Error("no Vary")
		}
	}
}
