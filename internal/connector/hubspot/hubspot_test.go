package hubspot

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

const token = "pat-na1-0123-4567"

// open makes a connector; more are further settings, such as `"contacts":false`.
func open(t testing.TB, more ...string) *Connector {
	t.Helper()
	settings := "{" + strings.Join(append([]string{fmt.Sprintf(`"access_token":%q`, token)}, more...), ",") + "}"
	conn, err := New([]byte(settings), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*Connector)
}

// eventsMapped gives all events a name at HubSpot.
const eventsMapped = `"mapping":{"events":{"*":"pe123456_clicked","order_completed":"pe123456_order_completed"}}`

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
		ID: "0199f0c2-7a31-7c3e-9a53-0123456789ab", Type: kind, Name: "order_completed", UserID: "u1", AnonymousID: "a1",
		Timestamp: "2026-11-23T10:00:00.25+01:00", ReceivedAt: "2026-11-23T09:00:01Z",
		Data: []byte(`{"total":12.50}`), Context: []byte(`{"traits":{"email":"Ada@Example.com"}}`),
	}
	if change != nil {
		change(&e)
	}
	return delivery(e)
}

// body returns the request of a call.
func body(call connector.Call) []byte {
	b := call.Payload.(*batch)
	if b.contacts == nil {
		return b.body
	}
	text, _ := appendContacts(nil, b, nil)
	return text
}

// simulated is the connector and HubSpot. The id of each event is a property, as
// HubSpot is told of ids that are no UUIDs in another form.
var simulated = connectortest.Simulated{
	Vendor: Kind, New: New, Credentials: []string{"access_token"}, Secrets: []string{"access_token"}, ID: uuidOf,
	Settings: func(settings map[string]any) {
		settings["mapping"] = map[string]any{
			"events":     map[string]string{"*": "pe123456_clicked"},
			"properties": map[string]string{"event_id": "/id"}, "traits": map[string]string{"event_id": "/id"},
		}
		settings["properties"] = []string{"event_id"}
	},
	// An event that came twice would be there twice. A contact may be written
	// twice, with the same values: that is one.
	IDs: func(items []simulator.Item) (ids []string) {
		written := map[string]bool{}
		for _, item := range items {
			var body struct {
				Properties struct {
					EventID string `json:"event_id"`
				}
			}
			if err := json.Unmarshal(item.Body, &body); err != nil {
				body.Properties.EventID = err.Error() // which nobody has sent
			}
			if id := body.Properties.EventID; item.Kind == "event" || !written[id] {
				written[id] = true
				ids = append(ids, id)
			}
		}
		return ids
	},
}

func TestConforms(t *testing.T) {
	t.Parallel()
	s := simulated
	s.Adapt = func(e *event.Event) { e.Context = []byte(`{"traits":{"email":"someone@example.com"}}`) }
	connectortest.Run(t, s.Harness(nil))
}

func TestEndures(t *testing.T) {
	t.Parallel()
	connectortest.Endure(t, connectortest.Ordeal{Simulated: simulated, Event: func(n int, e *event.Event) {
		if n%10 == 0 { // one address each: those of the same would share an input
			e.Type, e.Name, e.Data = event.TypeIdentify, "identify", fmt.Appendf(nil, `{"email":"contact-%d@example.com"}`, n)
		}
	}})
}

func TestRequestsAreThoseOfTheGoldenFiles(t *testing.T) {
	t.Parallel()
	var requests []string
	c := toHandler(t, func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, connectortest.RequestText(t, r))
		w.WriteHeader(http.StatusServiceUnavailable)
	}, `"mapping":{"events":{"order_completed":"pe123456_order_completed","Pricing":"pe123456_viewed_pricing"},
		"properties":{"hs_page_url":"/context/page/url","utm_source":null}}`)
	plan := c.Plan([]connector.Delivery{
		a(event.TypeTrack, func(e *event.Event) {
			e.Data = []byte(`{"orderId":"o-1","total":12.50,"gift":true,"coupon":null,"Items Count":3,"tags":["new","größe",7,null],
				"lines":[{"sku":"a"}],"shipping":{"city":"Wien"},"utm_source":"x","日本語":1,"email":"ada@example.com","note":"\u0041\n"}`)
			e.Context = []byte(`{"traits":{"email":" Ada@Example.com"},"page":{"url":"https://shop.example/checkout?a=1"},"hubspot":{"utk":"f06bb154f0d8e0d2a2fa2ac59b42a4f1"}}`)
		}),
		a(event.TypePage, func(e *event.Event) { e.ID, e.Name, e.Data = "order.created/1", "Pricing", nil }),
		a(event.TypeTrack, func(e *event.Event) {
			e.ID, e.Data, e.Timestamp, e.ReceivedAt = "0199F0C2-7A31-7C3E-9A53-000000000003", nil, "", ""
			e.Context = []byte(`{"hubspot":{"object_id":608051}}`)
		}),
		a(event.TypeIdentify, func(e *event.Event) {
			e.ID, e.UserID = "0199f0c2-7a31-7c3e-9a53-000000000004", "u2"
			e.Data = []byte(`{"email":"Grace@example.com","firstName":"Grace","last_name":"Hopper","lifecyclestage":"lead","seats":5,"vip":false,"interests":["sql","cobol"],
				"address":{"street":"1 Main St","city":"Arlington","postalCode":"22201"},"nothing":null}`)
		}),
		a(event.TypeIdentify, func(e *event.Event) {
			e.ID, e.UserID = "0199f0c2-7a31-7c3e-9a53-000000000005", "u3"
			e.Data = []byte(`{"email":"grace@EXAMPLE.com","lifecyclestage":"customer","jobTitle":"Rear admiral"}`)
		}),
	})
	if len(plan.Calls) != 2 || len(plan.Done) != 0 {
		t.Fatalf("%d calls, done %+v", len(plan.Calls), plan.Done)
	}
	for i, name := range []string{"contacts", "events"} {
		c.Send(t.Context(), plan.Calls[i])
		connectortest.Golden(t, name, requests[i])
	}
}

// Six identify events and six others of six users make two calls; who is
// identified after an event gets a third, and the event after that a fourth.
func TestOrderOfAUserIsKeptWithFewCalls(t *testing.T) {
	t.Parallel()
	c := open(t, eventsMapped)
	n := 0
	of := func(kind, user string) connector.Delivery {
		n++
		return a(kind, func(e *event.Event) { e.ID, e.UserID = fmt.Sprint("id-", n), user })
	}
	var deliveries []connector.Delivery
	for i := range 6 {
		user := fmt.Sprint("u", i)
		deliveries = append(deliveries, of(event.TypeIdentify, user), of(event.TypeTrack, user))
	}
	if plan := c.Plan(deliveries); len(plan.Calls) != 2 {
		t.Errorf("%d calls, want 2", len(plan.Calls))
	}
	deliveries = append(deliveries, of(event.TypeIdentify, "u0"), of(event.TypeTrack, "u0"), of(event.TypeTrack, "u9"))
	plan := c.Plan(deliveries)
	var sizes []int
	for _, call := range plan.Calls {
		sizes = append(sizes, len(call.Events))
	}
	if !slices.Equal(sizes, []int{6, 7, 1, 1}) {
		t.Errorf("calls of %v events, want 6, 7, 1 and 1", sizes)
	}
}

func TestCallsHoldAsManyInputsAsHubSpotTakes(t *testing.T) {
	t.Parallel()
	c := open(t, eventsMapped)
	var deliveries []connector.Delivery
	for i := range 501 {
		deliveries = append(deliveries, a(event.TypeTrack, func(e *event.Event) { e.ID = fmt.Sprint("event-", i) }))
	}
	for i := range 101 {
		deliveries = append(deliveries, a(event.TypeIdentify, func(e *event.Event) {
			e.ID, e.UserID, e.Data = fmt.Sprint("contact-", i), fmt.Sprint("u-", i), fmt.Appendf(nil, `{"email":"u%d@example.com"}`, i)
		}))
	}
	var sizes []int
	for _, call := range c.Plan(deliveries).Calls {
		sizes = append(sizes, len(call.Payload.(*batch).ids))
	}
	if !slices.Equal(sizes, []int{100, 1, 500, 1}) {
		t.Errorf("calls of %v inputs, want 100, 1, 500 and 1", sizes)
	}
}

// The events of one id, and the identify events of one address, share an input.
func TestRepetitionsInACallAreSentOnce(t *testing.T) {
	t.Parallel()
	c := toHandler(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pathEvents {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		fmt.Fprint(w, `{"status":"COMPLETE","results":[{"id":"1","properties":{}}]}`)
	}, eventsMapped)
	for kind, want := range map[string]connector.Class{event.TypeTrack: connector.Duplicate, event.TypeIdentify: connector.Delivered} {
		plan := c.Plan([]connector.Delivery{a(kind, nil), a(kind, nil)})
		if len(plan.Calls) != 1 || len(plan.Calls[0].Payload.(*batch).ids) != 1 {
			t.Fatalf("%s: %d calls", kind, len(plan.Calls))
		}
		results := c.Send(t.Context(), plan.Calls[0])
		if results[0].Class != connector.Delivered || results[1].Class != want {
			t.Errorf("%s: %s and %s", kind, results[0].Class, results[1].Class)
		}
	}
}

func TestSettingsNameEveryFaultAndNoSecret(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings string
		want     []string
	}{
		"nothing": {`{}`, []string{"access_token: is required"}},
		"several": {`{"access_token":"hunter2hunter2","long_values":"x","without_identity":"event","unknown_properties":"y","endpoint":"http://example.com","properties":["Total"],
			"mapping":{"events":{"signed_up":"signed_up","a":null,"b":"pe_x","c":"pe12_OK"},"properties":{"Bad Name":"/data/x"},"traits":{"Über":"/data/x"},"unmapped":"perhaps"}}`, []string{
			"long_values: must be one of cut, refuse", "without_identity: must be one of dead, drop", "unknown_properties: must be one of refuse, drop", "endpoint: must be https", `properties: "Total"`,
			"mapping.events.signed_up: ", "mapping.events.b: ", "mapping.events.c: ", "mapping.properties.Bad Name: ", "mapping.traits.Über: ", "unmapped",
		}},
		"an unknown setting": {`{"access_token":"hunter2hunter2","hapikey":"hunter2"}`, []string{"hapikey: unknown setting"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			connectortest.Refuses(t, New, c.settings, c.want...)
		})
	}
}

func TestSpecDescribesTheConnector(t *testing.T) {
	t.Parallel()
	spec := Spec()
	if spec.Kind != Kind || spec.New == nil || spec.Settings == nil || spec.Summary == "" || spec.Dedup == "" || spec.Order == "" || spec.Limits == "" {
		t.Errorf("%+v", spec)
	}
}

// Of the mapping of ten properties to a finished call of many.
func BenchmarkPlan(b *testing.B) {
	c := open(b, `"mapping":{"events":{"order_completed":"pe123456_order_completed"}}`)
	deliveries := make([]connector.Delivery, maxEvents)
	for i := range deliveries {
		kind := event.TypeTrack
		if i%10 == 0 {
			kind = event.TypeIdentify
		}
		deliveries[i] = a(kind, func(e *event.Event) {
			e.ID, e.UserID = fmt.Sprintf("0199f0c2-7a31-7c3e-9a53-%012d", i), fmt.Sprint("user-", i%50)
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
