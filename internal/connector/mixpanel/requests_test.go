package mixpanel

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

// shop returns an event as an SDK in a web shop sends it.
func shop(change func(e *event.Event)) event.Event {
	e := event.Event{
		ID: "0198f0c2-7e4c-7b1c-8a55-3f1f0e6f9b2a", Type: event.TypeTrack, Name: "Order Completed",
		UserID: "u1", AnonymousID: "a1", Timestamp: "2026-11-23T10:00:00.123Z", ReceivedAt: "2026-11-23T10:00:00.5Z", Source: "web",
		Data: []byte(`{"total":1.50,"coupon":null,"products":[{"sku":"s1","price":0.75}],"größe":"XL"}`),
		Context: []byte(`{"ip":"203.0.113.9","locale":"de-AT","userAgent":"Mozilla/5.0","page":{"url":"https://shop.example/cart?utm_source=news","referrer":"https://search.example/"},` +
			`"campaign":{"source":"news","medium":"email","name":"autumn"},"screen":{"width":1512,"height":982},"os":{"name":"Mac OS","version":"15.1"},` +
			`"library":{"name":"analytics.js","version":"2.1.0"}}`),
	}
	if change != nil {
		change(&e)
	}
	return e
}

const token = "0123456789abcdef0123456789abcdef"

// toHandler returns a connector to a handler.
func toHandler(t testing.TB, settings string, handler http.HandlerFunc) *Connector {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return open(t, strings.Replace(settings, `{`, fmt.Sprintf(`{"endpoint":%q,`, server.URL), 1))
}

func TestRequests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, settings string
		events         []event.Event
	}{
		{
			name: "track", settings: `{"token":"` + token + `"}`,
			events: []event.Event{
				shop(nil),
				shop(func(e *event.Event) { e.UserID, e.Context = "", nil }),                                  // not known yet
				{ID: "order.created/1", Type: event.TypeTrack, Name: "n", ReceivedAt: "2026-11-23T10:00:00Z"}, // nobody; an id that is none of Mixpanel's
				shop(func(e *event.Event) { e.IP, e.Context, e.Data = "2001:db8::1", nil, nil }),
			},
		},
		{
			name: "page-and-screen", settings: `{"token":"` + token + `"}`,
			events: []event.Event{
				shop(func(e *event.Event) {
					e.Type, e.Name, e.Data = event.TypePage, "Pricing", []byte(`{"title":"Our prices","path":"/pricing"}`)
				}),
				shop(func(e *event.Event) {
					e.Type, e.Name, e.Data = event.TypePage, "page", []byte(`{"title":"Our prices"}`)
				}),
				shop(func(e *event.Event) { e.Type, e.Name, e.Data, e.Context = event.TypeScreen, "Cart", nil, nil }),
			},
		},
		{
			name: "identify", settings: `{"token":"` + token + `","region":"eu"}`,
			events: []event.Event{
				shop(func(e *event.Event) {
					e.Type, e.Name = event.TypeIdentify, "identify"
					e.Data = []byte(`{"email":"Ada@Example.com","firstName":"Ada","last_name":"Lovelace","createdAt":"2026-01-01T00:00:00Z","phone":"+43 1 2","plan":"pro","logins":3}`)
				}),
				shop(func(e *event.Event) {
					e.Type, e.Name, e.UserID, e.Context = event.TypeIdentify, "identify", "", nil
					e.Data = []byte(`{"$email":"a@b.example","email":"c@d.example","firstName":"A","first_name":"B"}`)
				}),
			},
		},
		{
			name: "group", settings: `{"token":"` + token + `","group_key":"company"}`,
			events: []event.Event{
				shop(func(e *event.Event) {
					e.Type, e.Name, e.Data = event.TypeGroup, "group", []byte(`{"group_id":"g1","name":"Acme","seats":5}`)
				}),
				shop(func(e *event.Event) {
					e.Type, e.Name, e.Data, e.Context = event.TypeGroup, "group", []byte(`{"seats":6}`), []byte(`{"extra":{"groupId":"g2"}}`)
				}),
			},
		},
		{
			name: "service-account", settings: `{"token":"` + token + `","username":"sluice.abc123.mp-service-account","secret":"account-secret","project_id":"1234567","group_key":"company"}`,
			events: []event.Event{shop(func(e *event.Event) { e.Data, e.Context = []byte(`{}`), []byte(`{"groupId":"g1"}`) })},
		},
		{
			name: "mapping",
			settings: `{"token":"` + token + `","mapping":{"events":{"Order Completed":"Purchase"},"properties":{"total":null,"revenue":"= event.data.total * 2.0","source":"/source"},` +
				`"privacy":{"hash":["/user_id"],"salt":"pepper","ip":"truncate","drop":["/context/page"]}}}`,
			events: []event.Event{shop(nil)},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			conn := toHandler(t, c.settings, func(w http.ResponseWriter, req *http.Request) {
				got = append(got, connectortest.RequestText(t, req))
				fmt.Fprint(w, `{"code":200,"num_records_imported":1,"status":"OK"}`)
			})
			plan := conn.Plan(connectortest.Deliveries(c.events...))
			if len(plan.Done) > 0 {
				t.Fatalf("%+v", plan.Done)
			}
			for _, call := range plan.Calls {
				for i, r := range conn.Send(t.Context(), call) {
					if r.Class != connector.Delivered || r.Message != "" {
						t.Errorf("event %d: %+v", call.Events[i], r)
					}
				}
			}
			connectortest.Golden(t, c.name, strings.Join(got, "\n"))
		})
	}
}

// What an event becomes that is strange, or breaks a rule of Mixpanel.
func TestBadInput(t *testing.T) {
	t.Parallel()
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"k%d":1,`, i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	items := func(n int) string { return strings.TrimSuffix(strings.Repeat("1,", n), ",") }
	data := func(raw string) event.Event {
		return event.Event{ID: "e1", Type: event.TypeTrack, Name: "n", UserID: "u1", Timestamp: "2026-11-23T10:00:00Z", Data: []byte(raw)}
	}
	with := func(change func(e *event.Event)) event.Event {
		e := data(`{}`)
		change(&e)
		return e
	}
	for _, c := range []struct {
		name  string
		event event.Event
		// body is the element that is sent, from properties on; or there is no
		// call, and this is why.
		body, code, message string
	}{
		{name: "null is left out", event: data(`{"a":null,"b":[null],"c":{"d":null}}`), body: `"b":[null],"c":{"d":null}`},
		{name: "reserved names are left out", event: data(`{"time":1,"distinct_id":"x","$insert_id":"y","$user_id":"z","$device_id":"d","ip":"1.2.3.4","token":"t","a":1}`), body: `"a":1`},
		{name: "numbers stay as they are", event: data(`{"big":12345678901234567890.123456789,"e":2e3}`), body: `"big":12345678901234567890.123456789,"e":2e3`},
		{name: "non-ASCII and escapes", event: data(`{"größe":"日本\ud83d\ude00\/"}`), body: `"größe":"日本\ud83d\ude00\/"`},
		{name: "a text is cut to what Mixpanel keeps", event: data(`{"a":"` + strings.Repeat("ü", 1<<20) + `"}`), body: `"a":"` + strings.Repeat("ü", 255) + `"`},
		{name: "three levels of objects", event: data(`{"a":{"b":{"c":{"d":1}}}}`), body: `"a":{"b":{"c":{"d":1}}}`},
		{name: "four levels of objects", event: data(`{"a":{"b":{"c":{"d":{"e":1}}}}}`), code: "too_deep", message: "property a: objects are nested deeper than the 3 levels that Mixpanel takes"},
		{name: "254 properties", event: data(`{` + keys(249) + `}`), body: keys(249)}, // with time, distinct_id, $user_id, $insert_id, ip
		{name: "255 properties", event: data(`{` + keys(250) + `}`), code: "too_many_properties", message: "data: the event would have 255 properties at Mixpanel, which takes 254"},
		{name: "254 items", event: data(`{"a":[` + items(254) + `]}`), body: `"a":[` + items(254) + `]`},
		{name: "255 items", event: data(`{"a":[` + items(255) + `]}`), code: "too_many_items", message: "property a: an array has more than the 254 items that Mixpanel takes"},
		{name: "254 keys", event: data(`{"a":{` + keys(254) + `}}`), body: `"a":{` + keys(254) + `}`},
		{name: "255 keys in an object in an array", event: data(`{"a":[[{` + keys(255) + `}]]}`), code: "too_many_keys", message: "property a: an object has more than the 254 keys that Mixpanel takes"},
		{name: "1 MB", event: data(`{"a":{"b":"` + strings.Repeat("x", 1_000_000) + `"}}`), code: "too_large", message: "event: it has 1000"},
		{name: "a day before 1971", event: with(func(e *event.Event) { e.Timestamp = "1970-12-31T23:59:59Z" }), code: "too_old", message: "timestamp: is before 1971-01-01"},
		{name: "the first moment of 1971", event: with(func(e *event.Event) { e.Timestamp = "1971-01-01T00:00:00Z" }), body: `{"time":31536000000,`},
		{name: "no time at all", event: with(func(e *event.Event) { e.Timestamp = "" }), code: "no_time", message: "timestamp: is missing"},
		{name: "a time that is none", event: with(func(e *event.Event) { e.Timestamp, e.ReceivedAt = "yesterday", "2026-11-23T10:00:00Z" }), body: `{"time":1795428000000,`},
		{name: "a clock that is a day ahead", event: with(func(e *event.Event) { e.Timestamp, e.ReceivedAt = "2026-11-24T10:00:00Z", "2026-11-23T10:00:00Z" }), body: `{"time":1795428000000,`},
		{name: "a clock that is a day ahead, and nobody knows", event: with(func(e *event.Event) { e.Timestamp = "2026-11-24T10:00:00Z" }), body: `{"time":1795514400000,`},
		{name: "only name and data", event: event.Event{ID: "shard-0.49.1", Type: event.TypeTrack, Name: "n", Data: []byte(`{"a":1}`), ReceivedAt: "2026-11-23T10:00:00Z"},
			body: `{"time":1795428000000,"distinct_id":"","$insert_id":"` + hashed("shard-0.49.1") + `","ip":0,"a":1}`},
		{name: "an alias", event: with(func(e *event.Event) { e.Type = event.TypeAlias }), code: "alias"},
		{name: "a group without group_key", event: with(func(e *event.Event) { e.Type = event.TypeGroup }), code: "no_group_key"},
		{name: "a device with a quotation mark", event: with(func(e *event.Event) { e.UserID, e.AnonymousID = "", `a"1` }), body: `"distinct_id":"$device:a\"1","$device_id":"a\"1","$insert_id"`},
		{name: "identify of nobody", event: with(func(e *event.Event) { e.Type, e.UserID, e.Data = event.TypeIdentify, "", []byte(`{"plan":"pro"}`) }), code: "no_identity", message: "user_id: "},
		{name: "identify of undefined", event: with(func(e *event.Event) {
			e.Type, e.UserID, e.Data = event.TypeIdentify, "undefined", []byte(`{"plan":"pro"}`)
		}), code: "no_identity", message: "user_id: "},
		{name: "identify without traits", event: with(func(e *event.Event) { e.Type = event.TypeIdentify }), code: "no_traits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := open(t, `{"token":"`+token+`"}`)
			plan := conn.Plan(connectortest.Deliveries(c.event))
			if c.code != "" {
				if len(plan.Done) != 1 || len(plan.Calls) != 0 {
					t.Fatalf("%d calls, done %+v", len(plan.Calls), plan.Done)
				}
				r := plan.Done[0].Result
				want := connector.Permanent
				if c.message == "" {
					want = connector.Dropped
				}
				if r.Class != want || r.Code != c.code || !strings.HasPrefix(r.Message, c.message) || r.Message == "" {
					t.Errorf("%+v", r)
				}
				return
			}
			if len(plan.Calls) != 1 {
				t.Fatalf("%+v", plan)
			}
			body := plan.Calls[0].Payload.(*batch).body
			if !json.Valid(body) || !strings.Contains(string(body), c.body) {
				t.Errorf("sent %.2000s", body)
			}
			if c.name == "reserved names are left out" && strings.Count(string(body), `"time"`)+strings.Count(string(body), `"ip"`)+strings.Count(string(body), `"token"`) != 2 {
				t.Errorf("sent %s", body)
			}
		})
	}
}

func hashed(id string) string { return string(appendInsertID(nil, id)) }

// Values that stand for nobody are not sent as somebody, and the result says so.
func TestRefusedIdentities(t *testing.T) {
	t.Parallel()
	conn := toHandler(t, `{"token":"`+token+`"}`, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"code":200,"num_records_imported":1,"status":"OK"}`)
	})
	for _, c := range []struct{ user, device, want, message string }{
		{"undefined", "a1", `"distinct_id":"$device:a1","$device_id":"a1","$insert_id"`, `user_id: "undefined"`},
		{"u1", "null", `"distinct_id":"u1","$user_id":"u1","$insert_id"`, `anonymous_id: "null"`},
		{"0", "00000000-0000-0000-0000-000000000000", `"distinct_id":"","$insert_id"`, `user_id: "0"`},
		{"Anonymous", "-2", `"distinct_id":"Anonymous","$user_id":"Anonymous","$device_id":"-2"`, ""},
	} {
		call := conn.Plan(connectortest.Deliveries(shop(func(e *event.Event) { e.UserID, e.AnonymousID = c.user, c.device }))).Calls[0]
		if body := string(call.Payload.(*batch).body); !strings.Contains(body, c.want) {
			t.Errorf("sent %s, want %s", body, c.want)
		}
		r := conn.Send(t.Context(), call)[0]
		if r.Class != connector.Delivered || !strings.HasPrefix(r.Message, c.message) || (r.Message == "") != (c.message == "") {
			t.Errorf("%q, %q: %+v", c.user, c.device, r)
		}
	}
	for _, id := range refusedIDs {
		if !refused(id) {
			t.Errorf("%q is not refused", id)
		}
		if len(id) > longestRefused && id != refusedIDs[0] {
			t.Errorf("%q is longer than longestRefused", id)
		}
	}
}

func TestInsertIDsAreStableAndFit(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"0198f0c2-7e4c-7b1c-8a55-3f1f0e6f9b2a", "a", "A-9", strings.Repeat("x", 36)} {
		if got := hashed(id); got != id {
			t.Errorf("%q becomes %q", id, got)
		}
	}
	seen := make(map[string]string)
	for _, id := range []string{"", "evt_01J9", "a.b", "a@b", "a[b", "größe", "null", "0", "00000000-0000-0000-0000-000000000000", strings.Repeat("x", 37), strings.Repeat("x", 38), "a b", "a\x00"} {
		got := hashed(id)
		if len(got) != 36 || !plain(got) || got != hashed(id) {
			t.Errorf("%q becomes %q", id, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q become the same", id, other)
		}
		seen[got] = id
	}
	// printf order.created/1 | sha256sum | cut -c1-36
	if got := hashed("order.created/1"); got != "8bd49a519c661275d01e76893e04a9db980f" {
		t.Errorf("%s", got)
	}
}

// A user whose events and profile alternate makes many calls of few events: their
// memory is what they hold.
func TestManySmallCallsTakeLittleMemory(t *testing.T) {
	conn := open(t, `{"token":"`+token+`"}`)
	ds := make([]connector.Delivery, maxEvents)
	for i := range ds {
		ds[i] = connectortest.Deliveries(shop(func(e *event.Event) { e.Type = []string{event.TypeTrack, event.TypeIdentify}[i%2] }))[0]
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	plan := conn.Plan(ds)
	runtime.ReadMemStats(&after)
	if n := len(plan.Calls); n != maxEvents {
		t.Fatalf("%d calls", n)
	}
	if taken := (after.TotalAlloc - before.TotalAlloc) >> 20; taken > 20 {
		t.Errorf("a plan of %d events takes %d MiB", maxEvents, taken)
	}
}

func TestGroupsNeedAnID(t *testing.T) {
	t.Parallel()
	conn := open(t, `{"token":"`+token+`","group_key":"company"}`)
	for id, want := range map[string]string{`"g1"`: `"$group_id":"g1"`, `17`: `"$group_id":"17"`, `""`: "", `null`: "", `{"a":1}`: "", `["g1"]`: ""} {
		plan := conn.Plan(connectortest.Deliveries(shop(func(e *event.Event) {
			e.Type, e.Data, e.Context = event.TypeGroup, []byte(`{"group_id":`+id+`,"plan":"pro"}`), nil
		})))
		if want == "" {
			if len(plan.Done) != 1 || plan.Done[0].Result.Code != "no_group_id" || plan.Done[0].Result.Class != connector.Permanent {
				t.Errorf("%s: %+v", id, plan)
			}
		} else if len(plan.Calls) != 1 || !strings.Contains(string(plan.Calls[0].Payload.(*batch).body), want) {
			t.Errorf("%s: %+v", id, plan)
		}
	}
}

// Calls alternate only where one user needs it.
func TestCallsKeepTheOrderOfEachUser(t *testing.T) {
	t.Parallel()
	conn := open(t, `{"token":"`+token+`","group_key":"company"}`)
	of := func(user, kind string) event.Event {
		return event.Event{ID: "e", Type: kind, Name: kind, UserID: user, Timestamp: "2026-11-23T10:00:00Z", Data: []byte(`{"group_id":"g1","plan":"pro"}`)}
	}
	for _, c := range []struct {
		name  string
		types func(i int) (user, kind string)
		n     int
		want  string // resources of the calls
	}{
		{"everybody logs in and buys", func(i int) (string, string) {
			return fmt.Sprintf("u%d", i/2), []string{event.TypeIdentify, event.TypeTrack}[i%2]
		}, 1000, "/engage /import"},
		{"buyers who log in, and others", func(i int) (string, string) {
			return fmt.Sprintf("u%d", i%100), map[bool]string{true: event.TypeIdentify, false: event.TypeTrack}[i >= 100 && i < 150]
		}, 250, "/import /engage /import"},
		{"one user in turns", func(i int) (string, string) { return "u1", []string{event.TypeTrack, event.TypeIdentify}[i%2] }, 6, "/import /engage /import /engage /import /engage"},
		{"one user in turns among many", func(i int) (string, string) {
			if i%10 == 0 {
				return "u1", []string{event.TypeTrack, event.TypeIdentify}[i/10%2]
			}
			return fmt.Sprintf("v%d", i), event.TypeTrack
		}, 40, "/import /engage /import /engage"},
		{"groups too", func(i int) (string, string) {
			return "u1", []string{event.TypeTrack, event.TypeTrack, event.TypeGroup, event.TypeIdentify}[i]
		}, 4, "/import /groups /engage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var events []event.Event
			for i := range c.n {
				events = append(events, of(c.types(i)))
			}
			ds := connectortest.Deliveries(events...)
			var to []string
			for _, call := range checkOrder(t, ds, conn.Plan(ds)) {
				to = append(to, paths[call.Payload.(*batch).to])
			}
			if got := strings.Join(to, " "); got != c.want {
				t.Errorf("calls %s, want %s", got, c.want)
			}
		})
	}
}

// checkOrder checks that each event is in one call, and after those before it of
// its user.
func checkOrder(t *testing.T, ds []connector.Delivery, plan connector.Plan) []connector.Call {
	t.Helper()
	last, n := make(map[string]int), len(plan.Done)
	for _, call := range plan.Calls {
		b := call.Payload.(*batch)
		var elements []json.RawMessage
		if err := json.Unmarshal(b.body, &elements); err != nil || len(elements) != len(call.Events) || len(elements) > maxEvents || len(b.body) > maxBody {
			t.Fatalf("%d elements for %d events in %d bytes: %v", len(elements), len(call.Events), len(b.body), err)
		}
		for _, i := range call.Events {
			key := ds[i].Event.PartitionKey()
			if before, ok := last[key]; ok && before > i {
				t.Fatalf("event %d goes after %d of the same user", i, before)
			}
			last[key] = i
			n++
		}
	}
	if n != len(ds) {
		t.Fatalf("%d of %d events planned", n, len(ds))
	}
	return plan.Calls
}

func TestCallsAreWithinTheLimits(t *testing.T) {
	t.Parallel()
	conn := open(t, `{"token":"`+token+`"}`)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var events []event.Event
	for i := range 800 {
		e := shop(func(e *event.Event) {
			e.ID, e.UserID = fmt.Sprint(i), fmt.Sprintf("u%d", random.IntN(50))
			if random.IntN(5) == 0 {
				e.Type = event.TypeIdentify
			}
			e.Data = fmt.Appendf(nil, `{"a":["%s"]}`, strings.Repeat("x", random.IntN(20_000)))
		})
		events = append(events, e)
	}
	ds := connectortest.Deliveries(events...)
	if calls := checkOrder(t, ds, conn.Plan(ds)); len(calls) < 4 {
		t.Errorf("%d calls", len(calls))
	}
	// Small ones fill a call to the last.
	events = make([]event.Event, maxEvents+1)
	for i := range events {
		events[i] = event.Event{ID: fmt.Sprint(i), Type: event.TypeTrack, Name: "n", UserID: "u", Timestamp: "2026-11-23T10:00:00Z"}
	}
	ds = connectortest.Deliveries(events...)
	calls := checkOrder(t, ds, conn.Plan(ds))
	if len(calls) != 2 || len(calls[0].Events) != maxEvents {
		t.Errorf("%d calls, the first of %d events", len(calls), len(calls[0].Events))
	}
}

// Whatever is planned, the simulated vendor takes: it checks each body by the
// JSON Schema of the API.
func TestPlannedBodiesFitTheSchema(t *testing.T) {
	t.Parallel()
	vendor, err := simulator.New(Kind)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(vendor)
	t.Cleanup(server.Close)
	conn := open(t, string(vendor.Settings(server.URL)))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var events []event.Event
	for range 500 {
		events = append(events, randomEvent(random))
	}
	sent, classes := 0, map[connector.Class]int{}
	for chunk := range slices.Chunk(connectortest.Deliveries(events...), 200) {
		plan := conn.Plan(chunk)
		for _, done := range plan.Done {
			classes[done.Result.Class]++
		}
		for _, call := range checkOrder(t, chunk, plan) {
			for i, r := range conn.Send(t.Context(), call) {
				if sent++; r.Class != connector.Delivered {
					t.Errorf("%s: %+v", chunk[call.Events[i]].Raw, r)
				}
			}
		}
	}
	if sent < 200 || classes[connector.Permanent] == 0 || classes[connector.Dropped] == 0 {
		t.Errorf("%d sent, without a call %v: the events are not random enough", sent, classes)
	}
}

func randomEvent(r *rand.Rand) event.Event {
	pick := func(values ...string) string { return values[r.IntN(len(values))] }
	return event.Event{
		ID:          pick("0198f0c2-7e4c-7b1c-8a55-3f1f0e6f9b2a", "evt_1", "ü", strings.Repeat("i", 99), "null", fmt.Sprint(r.IntN(1000))),
		Type:        pick(event.TypeTrack, event.TypeTrack, event.TypePage, event.TypeScreen, event.TypeIdentify, event.TypeGroup, event.TypeAlias),
		Name:        pick("n", "Order Completed", "日本語 🛒", "tab\t\"quoted\"", "page"),
		UserID:      pick("", "u1", "u2", "null", "anonymous", "größe"),
		AnonymousID: pick("", "a1", "undefined"),
		Timestamp:   pick("2026-11-23T10:00:00Z", "2026-11-23T11:00:00.123456789+01:00", "1969-01-01T00:00:00Z", "", "9999-12-31T23:59:59Z"),
		ReceivedAt:  "2026-11-23T10:00:00Z",
		IP:          pick("", "203.0.113.9"),
		Data:        randomObject(r, 0), Context: randomObject(r, 0),
	}
}

func randomObject(r *rand.Rand, depth int) []byte {
	n := r.IntN(6)
	if depth == 0 && r.IntN(20) == 0 {
		n = 240 + r.IntN(30)
	}
	dst := []byte(`{`)
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		names := []string{"plan", "time", "token", "ip", "page", "campaign", "traits", "email", "$email", "first_name", "firstName", "größe", "", "$set"}
		name := names[r.IntN(len(names))]
		dst = fmt.Appendf(dst, `"%s%d":`, name, i)
		if i == 0 {
			dst = fmt.Appendf(dst[:len(dst)-4-len(name)], `"%s":`, name)
		}
		dst = append(dst, randomValue(r, depth)...)
	}
	return append(dst, '}')
}

func randomValue(r *rand.Rand, depth int) []byte {
	switch k := r.IntN(9); {
	case k == 0:
		return []byte("null")
	case k == 1:
		return []byte("-1.50e3")
	case k == 2:
		return []byte("true")
	case k == 3 && depth < 6:
		dst := []byte("[")
		n := r.IntN(4)
		if depth == 0 && r.IntN(10) == 0 {
			n = 250 + r.IntN(10)
		}
		for i := range n {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, randomValue(r, depth+2)...)
		}
		return append(dst, ']')
	case k >= 4 && k <= 5 && depth < 6:
		return randomObject(r, depth+1)
	case k == 6:
		return []byte(`"` + strings.Repeat(`\u00e9ü`, r.IntN(600)) + `"`)
	}
	return []byte(`"ab,]}\"{["`)
}

func BenchmarkPlan(b *testing.B) {
	conn := open(b, `{"token":"`+token+`"}`)
	var events []event.Event
	for i := range 500 {
		events = append(events, shop(func(e *event.Event) { e.ID = fmt.Sprintf("0198f0c2-7e4c-7b1c-8a55-%012d", i) }))
	}
	connectortest.BenchmarkPlan(b, connectortest.Deliveries(events...), conn.Plan)
}
