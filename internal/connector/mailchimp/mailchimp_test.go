package mailchimp

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

const key = "0123456789abcdef0123456789abcdef-us19"

// open makes a connector; more are further settings, such as `"tags":["x"]`.
func open(t testing.TB, more ...string) *Connector {
	t.Helper()
	settings := "{" + strings.Join(append([]string{fmt.Sprintf(`"api_key":%q,"list_id":"a1b2c3"`, key)}, more...), ",") + "}"
	conn, err := New([]byte(settings), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*Connector)
}

// toHandler is a connector to a handler.
func toHandler(t testing.TB, handler http.HandlerFunc, more ...string) *Connector {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return open(t, append(more, fmt.Sprintf(`"endpoint":%q`, server.URL))...)
}

func delivery(e event.Event) connector.Delivery {
	return connector.Delivery{Event: e, Raw: e.Append(nil), Rule: "all", Attempt: 1}
}

// a returns an event of a user with an address, changed.
func a(kind string, change func(*event.Event)) connector.Delivery {
	e := event.Event{
		ID: "0199f0c2-7a31-7c3e-9a53-0123456789ab", Type: kind, Name: "Order Completed", UserID: "u1", AnonymousID: "a1",
		Timestamp: "2026-11-23T10:00:00.25+01:00", ReceivedAt: "2026-11-23T09:00:01Z",
		Data: []byte(`{"total":12.50}`), Context: []byte(`{"traits":{"email":"Ada@Example.com"}}`),
	}
	if change != nil {
		change(&e)
	}
	return delivery(e)
}

// person returns an identify event of the nth person.
func person(n int) connector.Delivery {
	return a(event.TypeIdentify, func(e *event.Event) {
		e.ID, e.UserID, e.Data, e.Context = fmt.Sprint("id-", n), fmt.Sprint("u", n), fmt.Appendf(nil, `{"email":"p%d@example.com","firstName":"P%d"}`, n, n), nil
	})
}

// withIDs makes the id of the event a property and a merge field, as Mailchimp
// has no place for it.
func withIDs(settings map[string]any) {
	settings["mapping"] = map[string]any{
		"properties": map[string]string{"event_id": "/id"}, "traits": map[string]string{"EVENTID": "/id", "TYPE": "/type"},
	}
}

// arrived returns the ids of events and of the people who were identified, and
// not only put in for an event. A person who was written twice is one.
func arrived(items []simulator.Item) (ids []string) {
	written := map[string]bool{}
	for _, item := range items {
		if item.Kind == "event" {
			ids = append(ids, item.ID)
			continue
		}
		var body struct {
			Fields struct{ EVENTID, TYPE string } `json:"merge_fields"`
		}
		if json.Unmarshal(item.Body, &body) == nil && body.Fields.TYPE == event.TypeIdentify && !written[body.Fields.EVENTID] {
			written[body.Fields.EVENTID] = true
			ids = append(ids, body.Fields.EVENTID)
		}
	}
	return ids
}

func TestConforms(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, connectortest.Simulated{
		Vendor: Kind, New: New, Credentials: []string{"api_key"}, Secrets: []string{"api_key"}, Settings: withIDs, IDs: arrived,
		Adapt: func(e *event.Event) { e.Context = []byte(`{"traits":{"email":"someone@example.com"}}`) },
	}.Harness(nil))
}

func TestEndures(t *testing.T) {
	t.Parallel()
	const people = "@people.example.com"
	connectortest.Endure(t, connectortest.Ordeal{
		Simulated: connectortest.Simulated{Vendor: Kind, New: New, Secrets: []string{"api_key"}, Settings: withIDs, IDs: arrived},
		Event: func(n int, e *event.Event) {
			if n%10 == 0 {
				e.Type, e.Name, e.Data = event.TypeIdentify, "identify", fmt.Appendf(nil, `{"email":%q}`, e.ID+people)
			}
		},
		// People are refused by their address: those who are identified by the id in
		// it, and no others, so that their events are refused by their own.
		Trouble: func(trouble *simulator.Trouble) {
			refuse := trouble.Refuse
			trouble.Refuse = func(id string) bool {
				id, identified := strings.CutSuffix(id, people)
				return (identified || !strings.Contains(id, "@")) && refuse(id)
			}
		},
	})
}

// calls makes all calls of a plan and returns the requests.
func calls(t *testing.T, deliveries []connector.Delivery, answer http.HandlerFunc, more ...string) (requests []string, results []connector.Result) {
	t.Helper()
	var mu sync.Mutex // an answer that is lost orders nothing
	c := toHandler(t, func(w http.ResponseWriter, r *http.Request) {
		text := connectortest.RequestText(t, r)
		mu.Lock()
		requests = append(requests, text)
		mu.Unlock()
		answer(w, r)
	}, more...)
	results = make([]connector.Result, len(deliveries))
	plan := c.Plan(deliveries)
	for _, done := range plan.Done {
		t.Errorf("%+v", done.Result)
	}
	for _, call := range plan.Calls {
		for i, r := range c.Send(t.Context(), call) {
			results[call.Events[i]] = r
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(requests), results
}

// says answers all calls alike.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if strings.HasPrefix(body, `{"type"`) {
			w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
		}
		w.WriteHeader(status)
		if status != http.StatusNoContent {
			fmt.Fprint(w, body)
		}
	}
}

func TestRequestsAreThoseOfTheGoldenFiles(t *testing.T) {
	t.Parallel()
	requests, _ := calls(t, []connector.Delivery{
		a(event.TypeIdentify, func(e *event.Event) {
			e.Data = []byte(`{"email":" Ada@Example.com","firstName":"Ada","last_name":"Lovelace \"Countess\"","plan":"pro","seats":5,"vip":true,"tags":["new","größe",7,null],
				"address":{"street":"1 Main St","city":"Arlington","state":"VA","postalCode":"22201","country":"US"}}`)
		}),
		a(event.TypeTrack, func(e *event.Event) {
			e.Data = []byte(`{"orderId":"o-1","total":12.50,"gift":true,"coupon":null,"tags":["a","b"],"ship to":{"city":"Wien"},"email":"ada@example.com"}`)
		}),
	}, says(204, ""), `"tags":["customer"],"is_syncing":true,"status_if_new":"pending",
		"mapping":{"traits":{"PLAN":"/data/plan","SEATS":"/data/seats","VIP":"/data/vip","ADDRESS":"/data/address","tags":"/data/tags"}}`)
	if len(requests) != 3 {
		t.Fatalf("%d requests", len(requests))
	}
	for i, name := range []string{"member", "tags", "event"} {
		connectortest.Golden(t, name, requests[i])
	}
	requests, results := calls(t, []connector.Delivery{person(1), person(2), person(3)},
		says(200, `{"new_members":[{"email_address":"P1@example.com"},{"email_address":"p2@example.com"},{"email_address":"p3@example.com"}],"updated_members":[],"errors":[]}`), `"tags":["customer"]`)
	if len(requests) != 1 || results[2].Class != connector.Delivered {
		t.Fatalf("%d requests, %+v", len(requests), results)
	}
	connectortest.Golden(t, "people", requests[0])
}

// Nothing is sent that changes the status of a person who is in the audience.
func TestTheStatusOfPeopleWhoAreThereIsNeverChanged(t *testing.T) {
	t.Parallel()
	requests, results := calls(t, []connector.Delivery{person(1), person(2), person(3), person(4)}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			fmt.Fprint(w, `{"status":"unsubscribed"}`)
			return
		}
		fmt.Fprint(w, `{"new_members":[{"email_address":"p1@example.com"}],"updated_members":[],"errors":[
			{"email_address":"P2@Example.com","error":"x","error_code":"ERROR_CONTACT_EXISTS"},
			{"email_address":"p3@example.com","error":"p3@example.com is already a list member","error_code":"ERROR_GENERIC"},
			{"email_address":"p4@example.com","error":"p4@example.com is in a compliance state due to unsubscribe","error_code":"ERROR_GENERIC"}]}`)
	})
	for i, r := range results {
		if r.Class != connector.Delivered {
			t.Errorf("person %d: %+v", i, r)
		}
	}
	if len(requests) != 4 {
		t.Fatalf("%d requests, want one for all and three for those who are there", len(requests))
	}
	if !strings.Contains(requests[0], `"update_existing": false`) {
		t.Errorf("the status of those who are there would change:\n%s", requests[0])
	}
	for _, put := range requests[1:] {
		if !strings.HasPrefix(put, "PUT ") || strings.Contains(put, `"status":`) || !strings.Contains(put, `"status_if_new": "transactional"`) {
			t.Errorf("%s", put)
		}
	}
}

// What is sent of many people at once has a status, which Mailchimp may give to
// people who were archived. So it is sent of those only whom it does not
// subscribe; and it cannot keep tags from starting automations.
func TestNobodyIsSubscribedByARequestForManyPeople(t *testing.T) {
	t.Parallel()
	five := []connector.Delivery{person(1), person(2), person(3), person(4), person(5)}
	for name, c := range map[string]struct {
		more    string
		methods string
	}{
		"the default":       {`"tags":["x"]`, "POST"},
		"unsubscribed":      {`"status_if_new":"unsubscribed"`, "POST"},
		"subscribed":        {`"status_if_new":"subscribed"`, "PUT PUT PUT PUT PUT"},
		"pending":           {`"status_if_new":"pending"`, "PUT PUT PUT PUT PUT"},
		"one is subscribed": {`"mapping":{"traits":{"status_if_new":"= event.data.email == 'p2@example.com' ? 'subscribed' : 'transactional'"}}`, "POST PUT"},
		"a replay":          {`"is_syncing":true`, "POST"},
		"a replay of tags":  {`"is_syncing":true,"tags":["x"]`, "PUT POST PUT POST PUT POST PUT POST PUT POST"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			added := `{"new_members":[{"email_address":"p1@example.com"},{"email_address":"p2@example.com"},{"email_address":"p3@example.com"},{"email_address":"p4@example.com"},{"email_address":"p5@example.com"}]}`
			requests, results := calls(t, five, says(200, added), c.more)
			var methods []string
			for _, request := range requests {
				method, _, _ := strings.Cut(request, " ")
				methods = append(methods, method)
				if method == "POST" && (strings.Contains(request, `"subscribed"`) || strings.Contains(request, `"pending"`)) {
					t.Errorf("%s", request)
				}
			}
			if got := strings.Join(methods, " "); got != c.methods {
				t.Errorf("%s, want %s", got, c.methods)
			}
			for i, r := range results {
				if r.Class != connector.Delivered {
					t.Errorf("person %d: %+v", i, r)
				}
			}
		})
	}
}

// The order of a user is kept; identify events of others share a call.
func TestOrderOfAUserIsKept(t *testing.T) {
	t.Parallel()
	c := open(t)
	of := func(kind string, n int) connector.Delivery {
		d := person(n)
		if kind != event.TypeIdentify {
			d.Event.Type, d.Event.Name = kind, "clicked"
		}
		return d
	}
	plan := c.Plan([]connector.Delivery{
		of(event.TypeIdentify, 1), of(event.TypeTrack, 1), of(event.TypeIdentify, 2), of(event.TypeIdentify, 1), of(event.TypeIdentify, 3), of(event.TypeTrack, 2), of(event.TypeIdentify, 2),
	})
	var got []string
	for _, call := range plan.Calls {
		got = append(got, fmt.Sprint(call.Events))
	}
	if want := []string{"[0 2]", "[1]", "[3 4]", "[5]", "[6]"}; !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
}

// What comes later wins, but for the status: had the events been sent one after
// the other, the first would have made the person known.
func TestEventsOfOneAddressBecomeOneMember(t *testing.T) {
	t.Parallel()
	c := open(t, `"tags":["all"],"mapping":{"traits":{"PLAN":"/data/plan","CITY":"/data/city","tags":"/data/tags","status_if_new":"/data/status"}}`)
	of := func(user, data string) connector.Delivery {
		return a(event.TypeIdentify, func(e *event.Event) { e.UserID, e.Data = user, []byte(data) })
	}
	plan := c.Plan([]connector.Delivery{
		of("u1", `{"email":"ada@example.com","plan":"free","city":"Wien","tags":"one","status":"pending"}`),
		of("u2", `{"email":"ADA@example.com","plan":"pro","tags":["two","one"],"status":"subscribed"}`),
	})
	if len(plan.Calls) != 1 {
		t.Fatalf("%+v", plan)
	}
	p := plan.Calls[0].Payload.(*people)
	if len(p.members) != 1 || !slices.Equal(p.inputs, []int{0, 0}) {
		t.Fatalf("%+v", p)
	}
	m := p.members[0]
	if got, want := string(m.put()), `{"email_address":"ada@example.com","status_if_new":"pending","merge_fields":{"CITY":"Wien","PLAN":"pro"}}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if want := []string{"all", "one", "two"}; !slices.Equal(m.tags, want) {
		t.Errorf("tags %v, want %v", m.tags, want)
	}
	if !slices.Equal(c.cfg.Tags, []string{"all"}) {
		t.Errorf("the settings have changed: %v", c.cfg.Tags)
	}
}

func TestCallsHoldAHundredPeople(t *testing.T) {
	t.Parallel()
	c := open(t)
	var deliveries []connector.Delivery
	for i := range 101 {
		deliveries = append(deliveries, person(i))
	}
	deliveries = append(deliveries, person(100), person(0))
	var sizes []int
	for _, call := range c.Plan(deliveries).Calls {
		sizes = append(sizes, len(call.Payload.(*people).members))
	}
	if !slices.Equal(sizes, []int{100, 2}) {
		t.Errorf("calls of %v people", sizes)
	}
}

func TestSettingsNameEveryFaultAndNoSecret(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings string
		want     []string
	}{
		"nothing": {`{}`, []string{"api_key: is required", "list_id: is required"}},
		"several": {`{"api_key":"hunter2hunter2","list_id":"x","status_if_new":"archived","without_identity":"event","tags":["a"," "],"mapping":{"traits":{"first":"/data/x","ELEVENCHARS":"/data/x","tags":"/data/t"}}}`, []string{
			"api_key: has no data centre", "status_if_new: must be one of", "without_identity: must be one of dead, drop", "tags: number 2", "mapping.traits.first: ", "mapping.traits.ELEVENCHARS: ",
		}},
		"a data centre that is an address": {`{"api_key":"hunter2-evil.example/x?","list_id":"x"}`, []string{"api_key: has no data centre"}},
		"an unknown setting":               {`{"api_key":"hunter2hunter2-us1","list_id":"x","server":"hunter2"}`, []string{"server: unknown setting"}},
		"an endpoint":                      {`{"api_key":"hunter2hunter2-us1","list_id":"x","endpoint":"http://example.com"}`, []string{"endpoint: must be https"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			connectortest.Refuses(t, New, c.settings, c.want...)
		})
	}
}

func TestTheKeySaysWhereTheAccountIs(t *testing.T) {
	t.Parallel()
	_, base, err := parse([]byte(`{"api_key":"a-b-us19","list_id":"x"}`))
	if err != nil || base != "https://us19.api.mailchimp.com" {
		t.Errorf("%s, %v", base, err)
	}
}

func TestSpecDescribesTheConnector(t *testing.T) {
	t.Parallel()
	spec := Spec()
	if spec.Kind != Kind || spec.New == nil || spec.Settings == nil || spec.Summary == "" || spec.Dedup == "" || spec.Order == "" || spec.Limits == "" {
		t.Errorf("%+v", spec)
	}
}

// Of the mapping of ten properties to a finished call each.
func BenchmarkPlan(b *testing.B) {
	c := open(b, `"mapping":{"traits":{"PLAN":"/data/plan"}}`)
	deliveries := make([]connector.Delivery, maxEvents)
	for i := range deliveries {
		kind := event.TypeTrack
		if i%10 == 0 {
			kind = event.TypeIdentify
		}
		deliveries[i] = a(kind, func(e *event.Event) {
			e.UserID = fmt.Sprint("user-", i%50)
			e.Data = fmt.Appendf(nil, `{"orderId":"o-%d","total":12.5,"currency":"EUR","gift":true,"items":3,"coupon":"SUMMER","city":"Wien","tags":["new","sale"],"first_name":"Ada","plan":"pro"}`, i)
			e.Context = fmt.Appendf(nil, `{"traits":{"email":"user-%d@example.com"},"page":{"url":"https://shop.example/checkout"},"locale":"de-AT"}`, i%50)
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		if plan := c.Plan(deliveries); len(plan.Done) != 0 {
			b.Fatal(plan.Done[0])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(deliveries)), "ns/event")
}
