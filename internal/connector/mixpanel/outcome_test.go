package mixpanel

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/event"
)

// What each answer means for each of the three events of a call.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	const (
		delivered = connector.Delivered
		permanent = connector.Permanent
		auth      = connector.Auth
		tooLarge  = connector.TooLarge
	)
	all := func(c connector.Class) []connector.Class { return []connector.Class{c, c, c} }
	for _, c := range []struct {
		name, header string
		to           resource
		status       int
		body         string
		want         []connector.Class
		wait         time.Duration
		// what the first result that is not delivered says
		code, message string
	}{
		{name: "all is well", status: 200, body: `{"code":200,"num_records_imported":3,"status":"OK"}`, want: all(delivered)},
		{name: "200 of something else", status: 200, body: `<html>hello</html>`, want: all(connector.Ambiguous), code: "unreadable"},
		{name: "200 that ends too early", status: 200, body: `{"code":200,"num_re`, want: all(connector.Ambiguous), code: "unreadable"},
		{name: "200 and an error", status: 200, body: `{"code":200,"error":"no","status":"OK"}`, want: all(tooLarge), code: "batch_refused", message: "no"},
		{
			name: "some, as the page spells it", status: 400, want: []connector.Class{delivered, permanent, delivered}, code: "properties.time", message: "must be later",
			body: `{"code":400,"error":"some data points in the request failed validation","failed_records":[{"index":1,"$insert_id":"e1","field":"properties.time","message":"must be later"}],"num_records_imported":2,"status":"Bad Request"}`,
		},
		{
			name: "some, as the OpenAPI file spells it", status: 400, want: []connector.Class{permanent, delivered, permanent}, code: "properties.a", message: "m",
			body: `{"code":400,"failed_records":[{"index":0,"insert_id":"e0","field":"properties.a","message":"m"},{"index":2,"insert_id":"e2","field":"properties.b","message":"n"}],"num_records_imported":1,"status":"Bad Request"}`,
		},
		{name: "by id alone", status: 400, body: `{"failed_records":[{"$insert_id":"e2","field":"event","message":"m"}],"num_records_imported":2}`, want: []connector.Class{delivered, delivered, permanent}, code: "event", message: "m"},
		{name: "by an index that there is not, with the id", status: 400, body: `{"failed_records":[{"index":99,"insert_id":"e0","field":"event"}],"num_records_imported":2}`, want: []connector.Class{permanent, delivered, delivered}, code: "event", message: "event is refused"},
		{name: "one twice", status: 400, body: `{"failed_records":[{"index":0,"field":"a"},{"index":0,"field":"b"}],"num_records_imported":2}`, want: []connector.Class{permanent, delivered, delivered}, code: "a"},
		{name: "fewer were taken than are left", status: 400, body: `{"failed_records":[{"index":0,"field":"a","message":"m"}],"num_records_imported":1}`, want: []connector.Class{permanent, tooLarge, tooLarge}, code: "a", message: "m"},
		// The count is there if some were taken: "we will ingest them and return their count".
		{name: "some, and none was taken", status: 400, body: `{"code":400,"failed_records":[{"index":1,"insert_id":"e1","field":"a","message":"m"}],"status":"Bad Request"}`, want: []connector.Class{tooLarge, permanent, tooLarge}, code: "batch_refused", message: "the call is refused"},
		{name: "an answer that ends too early", status: 400, body: `{"code":400,"num_records_imported":2,"failed_records":[{"index":1,"insert_id":"e1","fie`, want: all(tooLarge), code: "batch_refused"},
		{name: "a page", status: 400, body: `<html><title>400</title>`, want: all(tooLarge), code: "batch_refused"},
		{name: "none of ours", status: 400, body: `{"failed_records":[{"index":7,"insert_id":"x","field":"a","message":"m"}],"error":"some"}`, want: all(tooLarge), code: "batch_refused", message: "some"},
		{name: "400 that names nobody", status: 400, body: `{"code":400,"error":"invalid json","status":"Bad Request"}`, want: all(tooLarge), code: "batch_refused", message: "invalid json"},
		{name: "400 without a word", status: 400, want: all(tooLarge), code: "batch_refused", message: "the call is refused"},
		{name: "401", status: 401, body: `{"code":401,"error":"Invalid credentials","status":"Unauthorized"}`, want: all(auth), code: "http_401", message: "Invalid credentials; check the setting token"},
		{name: "403", status: 403, body: `{"error":"no","status":"error"}`, want: all(auth), code: "http_403", message: "no; check the setting token"},
		{name: "another place", status: 301, want: all(auth), code: "http_301", message: "the answer is 301 Moved Permanently; check the setting endpoint"},
		{name: "no Mixpanel", status: 404, want: all(auth), code: "http_404", message: "there is no Mixpanel at this address: look at the setting endpoint"},
		{name: "too large", status: 413, body: `{"code":413,"error":"request exceeds max limit of 2097152 bytes","status":"Request Entity Too Large"}`, want: all(tooLarge), code: "http_413", message: "request exceeds"},
		{name: "too fast", status: 429, body: `{"code":429,"error":"Project exceeded rate limits.","status":"Too Many Requests"}`, want: all(connector.Throttled), wait: 2 * time.Second, code: "http_429", message: "Project exceeded"},
		{name: "too fast, and how long", status: 429, header: "17", want: all(connector.Throttled), wait: 17 * time.Second, code: "http_429"},
		{name: "502", status: 502, body: `<html>`, want: all(connector.Retryable), wait: 2 * time.Second, code: "http_502", message: "the answer is 502 Bad Gateway"},
		{name: "503", status: 503, want: all(connector.Retryable), wait: 2 * time.Second, code: "http_503"},
		{name: "503, and how long", status: 503, header: "30", want: all(connector.Throttled), wait: 30 * time.Second, code: "http_503"},
		{name: "500", status: 500, want: all(connector.Retryable), wait: 2 * time.Second, code: "http_500"},

		{name: "profiles: yes", to: profiles, status: 200, body: `1`, want: all(delivered)},
		{name: "profiles: yes, verbose", to: profiles, status: 200, body: `{"status":1,"error":null}`, want: all(delivered)},
		{name: "profiles: yes, strict", to: profiles, status: 200, body: `{"code":200,"num_good_events":3,"status":"OK"}`, want: all(delivered)},
		{name: "profiles: no", to: profiles, status: 200, body: `0`, want: all(tooLarge), code: "batch_refused", message: "no element"},
		{name: "profiles: no, verbose", to: profiles, status: 200, body: `{"status":0,"error":"$distinct_id, missing or empty"}`, want: all(tooLarge), code: "batch_refused", message: "$distinct_id, missing or empty"},
		{name: "profiles: yes with an error", to: profiles, status: 200, body: `{"status":1,"error":"odd"}`, want: all(tooLarge), code: "batch_refused", message: "odd"},
		{
			name: "profiles: some", to: profiles, status: 400, want: []connector.Class{delivered, delivered, permanent}, code: "$set", message: "m",
			body: `{"code":400,"error":"some","failed_records":[{"index":2,"$insert_id":"","field":"$set","message":"m"}],"num_good_events":2,"status":"Bad Request"}`,
		},
		{name: "profiles: some of 200", to: profiles, status: 200, body: `{"code":200,"failed_records":[{"index":0,"field":"$set","message":"m"}],"num_good_events":2,"status":"OK"}`, want: []connector.Class{permanent, delivered, delivered}, code: "$set", message: "m"},
		{name: "profiles: fewer are good than are left", to: profiles, status: 400, body: `{"code":400,"failed_records":[{"index":0,"field":"$set","message":"m"}],"num_good_events":1,"status":"Bad Request"}`, want: []connector.Class{permanent, tooLarge, tooLarge}, code: "$set", message: "m"},
		{name: "groups: no", to: groups, status: 401, body: `{"error":"x","status":"error"}`, want: all(auth), code: "http_401", message: "x; check the setting token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := toHandler(t, `{"token":"`+token+`","group_key":"company"}`, func(w http.ResponseWriter, _ *http.Request) {
				if c.header != "" {
					w.Header().Set("Retry-After", c.header)
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			})
			results := conn.Send(t.Context(), callOf(t, conn, c.to, 3))
			said := false
			for i, r := range results {
				if r.Class != c.want[i] || r.Status != c.status || r.RetryAfter != c.wait && r.Class != delivered {
					t.Errorf("event %d: %s after %s, %d, want %s after %s", i, r.Class, r.RetryAfter, r.Status, c.want[i], c.wait)
				}
				if r.Class != delivered && !said {
					said = true
					if r.Code != c.code || !strings.HasPrefix(r.Message, c.message) || r.Request == "" || strings.Contains(fmt.Sprint(r), token) {
						t.Errorf("%q: %q; %s", r.Code, r.Message, r.Request)
					}
				}
			}
		})
	}
}

// callOf returns a call of n events, with the ids e0, e1 and so on.
func callOf(t testing.TB, c *Connector, to resource, n int) connector.Call {
	t.Helper()
	var es []event.Event
	for i := range n {
		kind := [...]string{events: event.TypeTrack, profiles: event.TypeIdentify, groups: event.TypeGroup}[to]
		es = append(es, event.Event{
			ID: fmt.Sprintf("e%d", i), Type: kind, Name: kind, UserID: "u1", Timestamp: "2026-11-23T10:00:00Z", Data: []byte(`{"group_id":"g1","plan":"pro"}`),
		})
	}
	plan := c.Plan(connectortest.Deliveries(es...))
	if len(plan.Calls) != 1 || len(plan.Done) > 0 {
		t.Fatalf("%+v", plan)
	}
	return plan.Calls[0]
}

// An event that makes calls fail without being named ends up alone, and the
// others arrive.
func TestUnnamedRefusalsEnd(t *testing.T) {
	t.Parallel()
	calls, taken := 0, 0
	conn := toHandler(t, `{"token":"`+token+`"}`, func(w http.ResponseWriter, req *http.Request) {
		calls++
		var elements []json.RawMessage
		body := unpack(t, req)
		if err := json.Unmarshal(body, &elements); err != nil {
			t.Error(err)
		}
		if strings.Contains(string(body), `"$insert_id":"e3"`) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		taken += len(elements)
		fmt.Fprint(w, `{"code":200,"status":"OK"}`)
	})
	var es []event.Event
	for i := range 8 {
		es = append(es, event.Event{ID: fmt.Sprintf("e%d", i), Type: event.TypeTrack, Name: "n", Timestamp: "2026-11-23T10:00:00Z"})
	}
	var dead []string
	var deliver func(ds []connector.Delivery)
	deliver = func(ds []connector.Delivery) {
		for i, r := range conn.Send(t.Context(), conn.Plan(ds).Calls[0]) {
			switch r.Class {
			case connector.Permanent:
				dead = append(dead, ds[i].Event.ID+" "+r.Code)
			case connector.TooLarge:
				if i == 0 {
					deliver(ds[:len(ds)/2])
					deliver(ds[len(ds)/2:])
				}
			}
		}
	}
	deliver(connectortest.Deliveries(es...))
	if taken != 7 || strings.Join(dead, ",") != "e3 refused" || calls != 7 {
		t.Errorf("%d taken by %d calls, dead %v", taken, calls, dead)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		settings string
		status   int
		body     string
		want     connector.Class
		message  string
	}{
		{`{"token":"` + token + `"}`, 200, `{"code":200,"num_records_imported":0,"status":"OK"}`, connector.Delivered, "Mixpanel takes the credentials for events: it answered an empty batch with 200. Nothing was imported. It says nothing about profiles"},
		{`{"token":"` + token + `"}`, 400, `{"code":400,"error":"no events","status":"Bad Request"}`, connector.Delivered, "Mixpanel takes the credentials for events: it answered an empty batch with 400 (no events). Nothing was imported. It says"},
		{`{"token":"` + token + `"}`, 401, `{"code":401,"error":"Invalid credentials","status":"Unauthorized"}`, connector.Auth, "Invalid credentials; check the setting token (and region, if they are right)"},
		{`{"username":"mp.user","secret":"service-secret","project_id":"7"}`, 401, ``, connector.Auth, "the answer is 401 Unauthorized; check the setting username, secret and project_id"},
		{`{"token":"` + token + `"}`, 503, ``, connector.Retryable, "the answer is 503 Service Unavailable"},
	} {
		conn := toHandler(t, c.settings, func(w http.ResponseWriter, req *http.Request) {
			if body := unpack(t, req); string(body) != "[]" || req.URL.Path != "/import" {
				t.Errorf("%s %s", req.URL, body)
			}
			w.WriteHeader(c.status)
			fmt.Fprint(w, c.body)
		})
		if r := conn.Check(t.Context()); r.Class != c.want || !strings.HasPrefix(r.Message, c.message) {
			t.Errorf("%d: %+v", c.status, r)
		}
	}
}

// unpack returns the body of a request.
func unpack(t testing.TB, req *http.Request) []byte {
	t.Helper()
	var r io.Reader = req.Body
	if req.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(req.Body)
		if err != nil {
			t.Error(err)
			return nil
		}
		r = unpacked
	}
	body, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return body
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		`{}`: "token: is required, unless",
		`{"username":"u-secret","project_id":"7"}`:                                      "username, secret, project_id: a service account needs all three",
		`{"token":"t-secret","region":"de"}`:                                            "region: must be one of us, eu, in",
		`{"token":"t-secret","endpoint":"http://proxy.example"}`:                        "endpoint: must be https",
		`{"token":"t-secret","mapping":{"properties":{"distinct_id":"/data/x"}}}`:       "mapping.properties.distinct_id: is set by the connector",
		`{"token":"t-secret","mapping":{"properties":{"a":"= event.data.t-secret +"}}}`: "mapping.properties.a",
		`{"token":["t-secret"]}`:                                                        "token: must be a string",
		`{"token":"t-secret","tokens":1}`:                                               "tokens: unknown setting",
	} {
		_, err := New([]byte(settings), connector.Env{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", settings, err)
		}
		if err != nil && strings.Contains(err.Error(), "u-secret") {
			t.Errorf("%s: the error shows it: %v", settings, err)
		}
	}
	for region, host := range map[string]string{"us": "api.mixpanel.com", "eu": "api-eu.mixpanel.com", "in": "api-in.mixpanel.com"} {
		if hosts[region] != "https://"+host {
			t.Errorf("%s is %s", region, hosts[region])
		}
		open(t, `{"token":"`+token+`","region":"`+region+`"}`)
	}
}

// A service account without the project's token delivers events alone.
func TestProfilesNeedTheToken(t *testing.T) {
	t.Parallel()
	conn := open(t, `{"username":"mp.user","secret":"service-secret","project_id":"7","group_key":"company"}`)
	of := func(kind string) event.Event {
		return event.Event{ID: "e", Type: kind, Name: kind, UserID: "u", Timestamp: "2026-11-23T10:00:00Z", Data: []byte(`{"group_id":"g","a":1}`)}
	}
	plan := conn.Plan(connectortest.Deliveries(of(event.TypeTrack), of(event.TypeIdentify), of(event.TypeGroup)))
	if len(plan.Calls) != 1 || len(plan.Done) != 2 {
		t.Fatalf("%+v", plan)
	}
	for _, done := range plan.Done {
		if r := done.Result; r.Class != connector.Dropped || r.Code != "no_token" || !strings.Contains(r.Message, "token") {
			t.Errorf("%+v", r)
		}
	}
}

func TestSpecIsComplete(t *testing.T) {
	t.Parallel()
	spec := Spec()
	if spec.Kind != Kind || spec.New == nil || spec.Summary == "" || spec.Dedup == "" || spec.Order == "" || spec.Limits == "" || !reflect.DeepEqual(spec.Settings, DefaultConfig()) {
		t.Errorf("%+v", spec)
	}
}

// FuzzOutcome: no answer makes the connector panic, leave an event without a
// result, or deliver what was refused.
func FuzzOutcome(f *testing.F) {
	f.Add(200, []byte(`{"code":200,"status":"OK"}`), uint8(3), uint8(0))
	f.Add(400, []byte(`{"failed_records":[{"index":1,"$insert_id":"e1","field":"f","message":"m"}],"num_records_imported":2}`), uint8(3), uint8(0))
	f.Add(400, []byte(`{"failed_records":[{"index":-1},{"index":1e9},null,{"insert_id":"e0"}],"num_records_imported":-5,"error":null}`), uint8(2), uint8(1))
	f.Add(200, []byte(`0`), uint8(1), uint8(1))
	f.Add(200, []byte(`{"status":1,"error":"x","num_good_events":1}`), uint8(2), uint8(2))
	f.Add(413, []byte(`[`), uint8(1), uint8(0))
	conn := open(f, `{"token":"`+token+`","group_key":"company"}`)
	f.Fuzz(func(t *testing.T, status int, body []byte, n, to uint8) {
		if status < 200 || status > 999 {
			return
		}
		count := 1 + int(n%7)
		b := callOf(t, conn, resource(to%3), count).Payload.(*batch)
		x := connectortest.Answered(t, status, body)
		results := outcome(x, b, count)
		if len(results) != count {
			t.Fatalf("%d results for %d events", len(results), count)
		}
		said := decode(body)
		for i, r := range results {
			if r.Class == connector.Delivered && status/100 != 2 && status != http.StatusBadRequest {
				t.Errorf("event %d is delivered by a %d", i, status)
			}
			if r.Class == connector.Delivered && !said.Taken && len(said.Failed) == 0 {
				t.Errorf("event %d is delivered by %d %q", i, status, body)
			}
			if r.Class != connector.Delivered && (r.Code == "" && r.Message == "" || len(r.Message) > httpcall.MaxMessage || len(r.Code) > httpcall.MaxMessage) {
				t.Errorf("event %d: %+v", i, r)
			}
			if r.Class == connector.TooLarge && count == 1 && status != http.StatusRequestEntityTooLarge {
				t.Errorf("event %d alone is too large by a %d", i, status)
			}
		}
		for _, failed := range said.Failed {
			if i := failed.Index; i >= 0 && i < count && status == http.StatusBadRequest && results[i].Class != connector.Permanent {
				t.Errorf("event %d is refused and %s", i, results[i].Class)
			}
		}
	})
}

// FuzzShape compares the check of nested values with one by encoding/json.
func FuzzShape(f *testing.F) {
	f.Add([]byte(`{"a":{"b":{"c":{"d":1}}}}`))
	f.Add([]byte(`[[{"a":[1,2,"]}\"",{}]}]]`))
	f.Add([]byte(`[` + strings.Repeat(`1,`, 254) + `1]`))
	f.Add([]byte(strings.Repeat(`[`, 70) + `{}` + strings.Repeat(`]`, 70)))
	f.Fuzz(func(t *testing.T, value []byte) {
		code, rule := shape(value)
		if (code == "") != (rule == "") {
			t.Errorf("%q, %q", code, rule)
		}
		var doc any
		if json.Unmarshal(value, &doc) != nil || event.Check(value, event.Limits{MaxDepth: 1000, MaxBytes: 1 << 20}) != nil {
			return
		}
		if fits := nested(doc, 0); fits != (code == "") {
			t.Errorf("%s: %q, by encoding/json %t", value, code, fits)
		}
	})
}

func nested(doc any, depth int) bool {
	switch v := doc.(type) {
	case map[string]any:
		if depth++; depth > maxDepth || len(v) > maxKeys {
			return false
		}
		for _, inner := range v {
			if !nested(inner, depth) {
				return false
			}
		}
	case []any:
		if len(v) > maxItems {
			return false
		}
		for _, inner := range v {
			if !nested(inner, depth) {
				return false
			}
		}
	}
	return true
}
