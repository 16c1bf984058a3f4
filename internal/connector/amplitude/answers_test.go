package amplitude

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

const apiKey = "0123456789abcdef0123456789abcdef"

func open(t testing.TB, settings string) *Connector {
	t.Helper()
	conn, err := New([]byte(settings), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*Connector)
}

// toHandler returns a connector to a handler.
func toHandler(t testing.TB, handler http.HandlerFunc) *Connector {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return open(t, fmt.Sprintf(`{"api_key":%q,"endpoint":%q}`, apiKey, server.URL))
}

func shop(change func(e *event.Event)) event.Event {
	e := event.Event{
		ID: "0198f0c2-7e4c-7b1c-8a55-3f1f0e6f9b2a", Type: event.TypeTrack, Name: "Order Completed",
		UserID: "u1", AnonymousID: "a1", Timestamp: "2026-11-23T10:00:00.123Z", ReceivedAt: "2026-11-23T10:00:00.5Z", Source: "web",
		Data: []byte(`{"total":1.50,"coupon":null,"products":[{"sku":"s1","price":0.75}],"größe":"XL"}`),
		Context: []byte(`{"ip":"203.0.113.9","locale":"de-AT","os":{"name":"iOS","version":"18.1"},"app":{"version":"2.0.1"},` +
			`"device":{"type":"ios","model":"iPhone 15"},"traits":{"plan":"pro"}}`),
	}
	if change != nil {
		change(&e)
	}
	return e
}

func TestRequests(t *testing.T) {
	t.Parallel()
	var got []string
	conn := toHandler(t, func(w http.ResponseWriter, req *http.Request) {
		got = append(got, connectortest.RequestText(t, req))
		fmt.Fprint(w, `{"code":200,"events_ingested":4}`)
	})
	call := conn.Plan(connectortest.Deliveries(
		shop(nil),
		shop(func(e *event.Event) { e.Type, e.Name, e.UserID, e.Context = event.TypePage, "Pricing", "", nil }),
		shop(func(e *event.Event) {
			e.Type, e.Name, e.Context = event.TypeIdentify, "identify", nil
			e.Data = []byte(`{"email":"ada@example.com","plan":"pro"}`)
		}),
		shop(func(e *event.Event) { e.Type, e.Name, e.Data, e.Context = event.TypeScreen, "Cart", nil, nil }),
	)).Calls[0]
	for i, r := range conn.Send(t.Context(), call) {
		if r.Class != connector.Delivered {
			t.Errorf("event %d: %+v", i, r)
		}
	}
	connectortest.Golden(t, "events", strings.Join(got, "\n"))
}

// What each answer means for each of the four events of a call.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	const (
		permanent = connector.Permanent
		retryable = connector.Retryable
		tooLarge  = connector.TooLarge
	)
	all := func(c connector.Class) []connector.Class { return []connector.Class{c, c, c, c} }
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   []connector.Class
		wait   []int // seconds
		// what the first result says
		code, message string
	}{
		{name: "all is well", status: 200, body: `{"code":200,"events_ingested":4,"payload_size_bytes":50,"server_upload_time":1396381378123}`, want: all(connector.Delivered)},
		{name: "200 of something else", status: 200, body: `ok`, want: all(connector.Ambiguous), code: "unreadable"},
		{
			name: "some are invalid", status: 400, want: []connector.Class{permanent, tooLarge, permanent, tooLarge}, code: "event_type", message: "event_type: Request missing required field",
			body: `{"code":400,"error":"Request missing required field","events_with_missing_fields":{"event_type":[0]},"events_with_invalid_fields":{"time":[0,2]}}`,
		},
		{name: "an id is too short", status: 400, want: []connector.Class{permanent, tooLarge, tooLarge, tooLarge}, code: "user_id", body: `{"code":400,"error":"Invalid id length for user_id or device_id","events_with_invalid_id_lengths":{"user_id":[0]}}`},
		{
			name: "silenced and throttled", status: 400, want: []connector.Class{permanent, retryable, tooLarge, tooLarge}, wait: []int{0, 30, 0, 0}, code: "silenced", message: "Amplitude has silenced",
			body: `{"code":400,"error":"Events silenced for device_id","eps_threshold":100,"silenced_devices":["d"],"silenced_events":[0],"throttled_devices":{"e":100},"throttled_events":[1]}`,
		},
		{name: "400 that names nobody", status: 400, body: `{"code":400,"error":"Invalid JSON request body"}`, want: all(tooLarge), code: "batch_refused", message: "Invalid JSON request body"},
		{name: "400 that names others", status: 400, body: `{"code":400,"error":"e","events_with_invalid_fields":{"time":[99,-1]}}`, want: all(tooLarge), code: "batch_refused"},
		{name: "400 without a word", status: 400, want: all(tooLarge), code: "batch_refused"},
		{name: "the key is wrong", status: 400, body: `{"code":400,"error":"Invalid API key: ` + apiKey + `"}`, want: all(connector.Auth), code: "http_400", message: "Invalid API key: ***; check the setting api_key"},
		{name: "the key is missing", status: 400, body: `{"code":400,"error":"Request missing required field","missing_field":"api_key"}`, want: all(connector.Auth), message: "Request missing required field; check the setting api_key"},
		{name: "another path", status: 400, body: `{"code":400,"error":"Invalid request path"}`, want: all(connector.Auth), code: "http_400", message: "Invalid request path; check the setting api_key (and region and endpoint"},
		{name: "no Amplitude", status: 404, body: `<html>`, want: all(connector.Auth), code: "http_404"},
		{name: "403", status: 403, want: all(connector.Auth)},
		{name: "too large", status: 413, body: `{"code":413,"error":"Payload too large"}`, want: all(tooLarge), code: "http_413", message: "Payload too large"},
		{
			name: "a user is throttled", status: 429, want: []connector.Class{tooLarge, retryable, tooLarge, retryable}, wait: []int{0, 30, 0, 30}, code: "batch_refused",
			body: `{"code":429,"error":"Too many requests for some devices and users","eps_threshold":30,"throttled_users":{"u":31},"throttled_events":[1,3]}`,
		},
		{name: "the project is throttled", status: 429, body: `{"code":429,"error":"Too many requests","eps_threshold":1000}`, want: all(connector.Throttled), wait: []int{30, 30, 30, 30}, code: "http_429", message: "Too many requests"},
		{name: "429 without a word", status: 429, want: all(connector.Throttled), wait: []int{30, 30, 30, 30}, code: "http_429"},
		{name: "500", status: 500, want: all(retryable), code: "http_500"},
		{name: "503", status: 503, body: `<html>`, want: all(retryable), code: "http_503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := toHandler(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			})
			call := conn.Plan(connectortest.Deliveries(shop(nil), shop(nil), shop(nil), shop(nil))).Calls[0]
			for i, r := range conn.Send(t.Context(), call) {
				wait := 0
				if c.wait != nil {
					wait = c.wait[i]
				}
				if r.Class != c.want[i] || r.RetryAfter != time.Duration(wait)*time.Second || r.Status != c.status {
					t.Errorf("event %d: %s after %s, %d", i, r.Class, r.RetryAfter, r.Status)
				}
				if i == 0 && (c.code != "" && r.Code != c.code || !strings.HasPrefix(r.Message, c.message)) {
					t.Errorf("%q: %q", r.Code, r.Message)
				}
				if strings.Contains(fmt.Sprint(r), apiKey) || r.Class != connector.Delivered && r.Request == "" {
					t.Errorf("event %d: %+v", i, r)
				}
			}
			// Alone, an event that is refused is refused for good.
			one := conn.Plan(connectortest.Deliveries(shop(nil))).Calls[0]
			if r := conn.Send(t.Context(), one)[0]; r.Class == tooLarge && c.status != http.StatusRequestEntityTooLarge {
				t.Errorf("alone: %+v", r)
			}
		})
	}
}

// The simulated vendor throttles the user of the first event. The others arrive
// at once, he 30 seconds later.
func TestOnlyThrottledUsersWait(t *testing.T) {
	t.Parallel()
	vendor, err := simulator.New(Kind)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(vendor)
	t.Cleanup(server.Close)
	conn := open(t, string(vendor.Settings(server.URL)))
	ds := connectortest.Deliveries(
		shop(func(e *event.Event) { e.ID, e.UserID = "e0", "fast" }), shop(func(e *event.Event) { e.ID, e.UserID = "e1", "slow" }),
		shop(func(e *event.Event) { e.ID, e.UserID = "e2", "fast" }),
	)
	vendor.Trouble(simulator.Trouble{Throttle: 1})
	results := conn.Send(t.Context(), conn.Plan(ds).Calls[0])
	for i, want := range []connector.Class{connector.Retryable, connector.TooLarge, connector.Retryable} {
		r := results[i]
		if r.Class != want || (r.RetryAfter == 30*time.Second) != (want == connector.Retryable) {
			t.Errorf("event %d: %+v", i, r)
		}
	}
	vendor.Trouble(simulator.Trouble{})
	if r := conn.Send(t.Context(), conn.Plan(ds[1:2]).Calls[0])[0]; r.Class != connector.Delivered {
		t.Errorf("%+v", r)
	}
	if got := vendor.Received(); len(got) != 1 || got[0].ID != "e1" {
		t.Errorf("%+v", got)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	conn := open(t, `{"api_key":"`+apiKey+`"}`)
	for _, c := range []struct {
		name       string
		event      event.Event
		body, code string // what is sent, or why nothing is
		class      connector.Class
	}{
		{name: "null is left out", event: shop(func(e *event.Event) { e.Data = []byte(`{"a":null,"b":[null]}`) }), body: `"event_properties":{"b":[null]}`},
		{name: "non-ASCII", event: shop(func(e *event.Event) { e.Name, e.Data = "日本語 🛒", []byte(`{"ü":"\ud83d\ude00"}`) }), body: `"event_type":"日本語 🛒"`},
		{name: "names of members are only names in data", event: shop(func(e *event.Event) { e.Data = []byte(`{"user_id":"x","insert_id":"y"}`) }), body: `"event_properties":{"user_id":"x","insert_id":"y"}`},
		{name: "an old time", event: shop(func(e *event.Event) { e.Timestamp = "1999-12-31T23:59:59Z" }), body: `"time":946684799000`},
		{name: "before 1970", event: shop(func(e *event.Event) { e.Timestamp = "1969-12-31T23:59:59Z" }), body: `"time":-1000`},
		{name: "no time at all, which is then that of the call", event: shop(func(e *event.Event) { e.Timestamp, e.ReceivedAt = "", "" }), body: `"insert_id":"0198f0c2-7e4c-7b1c-8a55-3f1f0e6f9b2a","ip"`},
		{name: "a megabyte", event: shop(func(e *event.Event) { e.Data = []byte(`{"a":"` + strings.Repeat("x", 999_900) + `"}`) }), code: "too_large", class: connector.Permanent},
		{name: "a user that stands for nobody", event: shop(func(e *event.Event) { e.UserID = "Undefined" }), body: `"events":[{"device_id":"a1","event_type"`},
		{name: "a device that stands for nobody", event: shop(func(e *event.Event) { e.AnonymousID = "00000000-0000-0000-0000-000000000000" }), body: `"events":[{"user_id":"u1","event_type"`},
		{name: "both stand for nobody", event: shop(func(e *event.Event) { e.UserID, e.AnonymousID = "0", "lmy47d" }), code: "no_identity", class: connector.Permanent},
		{name: "a short id", event: shop(func(e *event.Event) { e.UserID, e.AnonymousID = "7", "" }), body: `"user_id":"7"`},
		{name: "nobody", event: event.Event{ID: "e", Type: event.TypeTrack, Name: "n", ReceivedAt: "2026-11-23T10:00:00Z"}, code: "no_identity", class: connector.Permanent},
		{name: "a group", event: shop(func(e *event.Event) { e.Type = event.TypeGroup }), code: "group", class: connector.Dropped},
		{name: "an alias", event: shop(func(e *event.Event) { e.Type = event.TypeAlias }), code: "alias", class: connector.Dropped},
		{name: "identify without traits", event: shop(func(e *event.Event) { e.Type, e.Data, e.Context = event.TypeIdentify, nil, nil }), code: "no_traits", class: connector.Dropped},
	} {
		plan := conn.Plan(connectortest.Deliveries(c.event))
		if c.code != "" {
			if len(plan.Done) != 1 || plan.Done[0].Result.Code != c.code || plan.Done[0].Result.Class != c.class || plan.Done[0].Result.Message == "" {
				t.Errorf("%s: %+v", c.name, plan)
			}
			continue
		}
		if len(plan.Calls) != 1 {
			t.Errorf("%s: %+v", c.name, plan)
			continue
		}
		if body := string(plan.Calls[0].Payload.([]byte)); !json.Valid([]byte(body)) || !strings.Contains(body, c.body) {
			t.Errorf("%s: %s", c.name, body)
		}
	}
}

func TestIDsThatStandForNobodyAreNotSent(t *testing.T) {
	t.Parallel()
	conn := open(t, `{"api_key":"`+apiKey+`"}`)
	for _, id := range nobody {
		for _, id := range []string{id, strings.ToUpper(id)} {
			plan := conn.Plan(connectortest.Deliveries(shop(func(e *event.Event) { e.UserID, e.AnonymousID = id, id })))
			if len(plan.Done) != 1 || plan.Done[0].Result.Code != "no_identity" {
				t.Errorf("%q: %+v", id, plan)
			}
		}
	}
}

// Whatever is planned is within the limits, in order, and the simulated vendor
// takes it.
func TestPlannedBodiesAreTaken(t *testing.T) {
	t.Parallel()
	vendor, err := simulator.New(Kind)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(vendor)
	t.Cleanup(server.Close)
	settings := strings.Replace(string(vendor.Settings(server.URL)), `{`, `{"batch_size":200,`, 1)
	conn := open(t, settings)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(values ...string) string { return values[random.IntN(len(values))] }
	var events []event.Event
	for i := range 250 {
		events = append(events, event.Event{
			ID: fmt.Sprintf("%d %s", i, pick("", "größe", "a.b")), Type: pick(event.TypeTrack, event.TypeTrack, event.TypePage, event.TypeScreen, event.TypeIdentify, event.TypeGroup),
			Name: pick("n", "Order Completed", "日本語", "tab\t\"quoted\""), UserID: pick("", "u1", "größe", "NULL") + pick("", fmt.Sprint(1000+i)), AnonymousID: pick("", "a1", "0"),
			Timestamp: pick("2026-11-23T10:00:00Z", "1971-01-01T00:00:00+01:00", ""), ReceivedAt: "2026-11-23T10:00:00Z", IP: pick("", "203.0.113.9"),
			Data:    []byte(pick(`{}`, `{"a":null}`, `{"a":[1,{"b":"c"}],"email":"x"}`, `{"t":"`+strings.Repeat("ü", random.IntN(70_000))+`"}`)),
			Context: []byte(pick(`{}`, `{"os":{"name":"iOS"},"locale":7}`, `{"app":{"version":"1"},"traits":{"a":{"b":[]}}}`)),
		})
	}
	ds := connectortest.Deliveries(events...)
	plan := conn.Plan(ds)
	next, sent := 0, 0
	for _, call := range plan.Calls {
		if body := call.Payload.([]byte); len(body) > maxBody || len(call.Events) > 200 || !json.Valid(body) {
			t.Fatalf("%d events in %d bytes", len(call.Events), len(body))
		}
		for i, r := range conn.Send(t.Context(), call) {
			e := call.Events[i]
			if sent++; r.Class != connector.Delivered || e < next {
				t.Errorf("event %d, %s: %s %s %s", e, ds[e].Raw[:100], r.Class, r.Code, r.Message)
			}
			next = e + 1
		}
	}
	if sent+len(plan.Done) != len(ds) || sent < 100 || len(plan.Done) == 0 || len(plan.Calls) < 3 {
		t.Errorf("%d sent by %d calls, %d done", sent, len(plan.Calls), len(plan.Done))
	}
}

func TestBatchSizeIsKept(t *testing.T) {
	t.Parallel()
	conn := open(t, `{"api_key":"`+apiKey+`","batch_size":2}`)
	if conn.Limits().MaxEvents != 2 { // no Plan sees more
		t.Errorf("%+v", conn.Limits())
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status  int
		body    string
		want    connector.Class
		message string
	}{
		{400, `{"code":400,"error":"Request missing required field","missing_field":"events"}`, connector.Delivered, "Amplitude did not refuse the api_key"},
		{200, `{"code":200,"events_ingested":0}`, connector.Delivered, ""},
		{400, `{"code":400,"error":"Invalid API key"}`, connector.Auth, "Invalid API key; check the setting api_key (and region and endpoint, if it is right)"},
		{503, ``, connector.Retryable, "the answer is 503 Service Unavailable"},
	} {
		conn := toHandler(t, func(w http.ResponseWriter, req *http.Request) {
			if body, _ := io.ReadAll(req.Body); string(body) != `{"api_key":"`+apiKey+`","options":{"min_id_length":1},"events":[]}` {
				t.Errorf("%s", body)
			}
			w.WriteHeader(c.status)
			fmt.Fprint(w, c.body)
		})
		if r := conn.Check(t.Context()); r.Class != c.want || !strings.HasPrefix(r.Message, c.message) {
			t.Errorf("%d %s: %+v", c.status, c.body, r)
		}
	}
}

// The simulated vendor looks at the key, though there are no events.
func TestCheckFindsAWrongKey(t *testing.T) {
	t.Parallel()
	vendor, err := simulator.New(Kind)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(vendor)
	t.Cleanup(server.Close)
	if r := open(t, string(vendor.Settings(server.URL))).Check(t.Context()); r.Class != connector.Delivered {
		t.Errorf("%+v", r)
	}
	if r := open(t, fmt.Sprintf(`{"api_key":%q,"endpoint":%q}`, apiKey, server.URL)).Check(t.Context()); r.Class != connector.Auth {
		t.Errorf("another key: %+v", r)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		`{}`:                                   "api_key: is required",
		`{"api_key":"k-secret","region":"de"}`: "region: must be one of us, eu",
		`{"api_key":"k-secret","batch_size":2000}`:                "batch_size: must be at most 1999",
		`{"api_key":"k-secret","endpoint":"ftp://x"}`:             "endpoint: must be https",
		`{"api_key":"k-secret","mapping":{"user_id":["data/x"]}}`: "mapping.user_id",
	} {
		_, err := New([]byte(settings), connector.Env{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "k-secret") {
			t.Errorf("%s: %v", settings, err)
		}
	}
	spec := Spec()
	if spec.Kind != Kind || spec.New == nil || spec.Summary == "" || spec.Dedup == "" || spec.Order == "" || spec.Limits == "" || !reflect.DeepEqual(spec.Settings, DefaultConfig()) {
		t.Errorf("%+v", spec)
	}
}

// FuzzOutcome: no answer makes the connector panic or leave an event without a
// result, and an event that was named as refused is.
func FuzzOutcome(f *testing.F) {
	f.Add(200, []byte(`{"code":200}`), uint8(3))
	f.Add(400, []byte(`{"error":"e","events_with_invalid_fields":{"time":[0,7,-1],"":[1]},"silenced_events":[2],"throttled_events":null}`), uint8(3))
	f.Add(429, []byte(`{"throttled_events":[0,1,1e3]}`), uint8(2))
	f.Add(400, []byte(`{"error":"Invalid API key"}`), uint8(1))
	f.Fuzz(func(t *testing.T, status int, body []byte, n uint8) {
		if status < 200 || status > 999 {
			return
		}
		count := 1 + int(n%7)
		results := outcome(connectortest.Answered(t, status, body), count)
		if len(results) != count {
			t.Fatalf("%d results for %d events", len(results), count)
		}
		var said struct {
			Code    int
			Missing map[string][]int `json:"events_with_missing_fields"`
		}
		_ = json.Unmarshal(body, &said)
		for i, r := range results {
			if r.Class == connector.Delivered && (status/100 != 2 || said.Code != http.StatusOK) {
				t.Errorf("event %d is delivered by %d %q", i, status, body)
			}
			if r.Class != connector.Delivered && (r.Code == "" || len(r.Message) > httpcall.MaxMessage) {
				t.Errorf("event %d: %+v", i, r)
			}
			if status == http.StatusBadRequest && slices.Contains(said.Missing["event_type"], i) && r.Class != connector.Permanent && r.Class != connector.Auth {
				t.Errorf("event %d is refused and %s", i, r.Class)
			}
		}
	})
}

func BenchmarkPlan(b *testing.B) {
	conn := open(b, `{"api_key":"`+apiKey+`"}`)
	var events []event.Event
	for i := range 500 {
		events = append(events, shop(func(e *event.Event) { e.ID = fmt.Sprintf("0198f0c2-7e4c-7b1c-8a55-%012d", i) }))
	}
	connectortest.BenchmarkPlan(b, connectortest.Deliveries(events...), conn.Plan)
}
