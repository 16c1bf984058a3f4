package gtm

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

func open(t testing.TB, settings map[string]any) *Connector {
	t.Helper()
	raw, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := New(raw, connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*Connector)
}

func toHandler(t testing.TB, client string, handler http.HandlerFunc) *Connector {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	settings := map[string]any{"url": server.URL}
	maps.Copy(settings, clients[client])
	return open(t, settings)
}

func send(t testing.TB, c *Connector, d connector.Delivery) connector.Result {
	t.Helper()
	plan := c.Plan([]connector.Delivery{d})
	if len(plan.Calls) != 1 {
		t.Fatalf("%+v", plan.Done)
	}
	return c.Send(t.Context(), plan.Calls[0])[0]
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	for client := range clients {
		for _, tt := range []struct {
			status  int
			want    connector.Class
			setting string // named in the message
		}{
			{200, connector.Delivered, ""},
			{204, connector.Delivered, ""},
			{301, connector.Auth, "url"},
			{400, connector.Auth, "path"}, // no client claims the request
			{401, connector.Auth, "url"},
			{403, connector.Auth, "url"},
			{404, connector.Auth, "path"},
			{405, connector.Auth, "path"},
			{408, connector.Retryable, ""},
			{413, connector.TooLarge, ""},
			{422, connector.Permanent, ""},
			{429, connector.Throttled, ""},
			{500, connector.Retryable, ""},
			{502, connector.Retryable, ""},
			{503, connector.Retryable, ""},
			{504, connector.Ambiguous, ""},
		} {
			t.Run(fmt.Sprintf("%s %d", client, tt.status), func(t *testing.T) {
				t.Parallel()
				c := toHandler(t, client, func(w http.ResponseWriter, req *http.Request) {
					w.Header().Set("Location", "/elsewhere")
					w.WriteHeader(tt.status)
					if tt.status >= 400 {
						fmt.Fprint(w, "cannot serve ", req.URL, req.Header)
					}
				})
				got := send(t, c, connectortest.Today(1)[0])
				if got.Class != tt.want || got.Status != tt.status || !strings.Contains(got.Message, tt.setting) {
					t.Errorf("%+v, want %s that names %q", got, tt.want, tt.setting)
				}
				if text := fmt.Sprintf("%+v", got); strings.Contains(text, "s3cret") || strings.Contains(text, "ZW52") {
					t.Errorf("shows a secret: %s", text)
				}
			})
		}
		t.Run(client+" without an answer", func(t *testing.T) {
			t.Parallel()
			c := toHandler(t, client, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
			if got := send(t, c, connectortest.Today(1)[0]); got.Class != connector.Ambiguous || c.Limits().Dedups {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestCheckAsksWhetherItIsATaggingServer(t *testing.T) {
	t.Parallel()
	v, err := simulator.New(Kind)
	if err != nil {
		t.Fatal(err)
	}
	c := toHandler(t, clientData, v.ServeHTTP)
	if got := c.Check(t.Context()); got.Class != connector.Delivered || !strings.Contains(got.Message, "/data") {
		t.Errorf("%+v", got)
	}
	if n := len(v.Received()); n > 0 {
		t.Errorf("checking has sent %d events", n)
	}
	v.Trouble(simulator.Trouble{Away: true})
	if got := c.Check(t.Context()); got.Class != connector.Retryable {
		t.Errorf("away: %+v", got)
	}
	for name, handler := range map[string]http.HandlerFunc{
		"another site":  func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>welcome") },
		"another still": http.NotFound,
	} {
		if got := toHandler(t, clientData, handler).Check(t.Context()); got.Class != connector.Auth || !strings.Contains(got.Message, "url") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestSettingsNameEveryFaultAndNoSecret(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, settings string
		want           []string
	}{
		{"nothing", `{}`, []string{"url: is required"}},
		{"many", `{"url":"http://hunter2.example","client":"hunter2","path":"data?x=hunter2","preview_header":"hunter2\n","currency":"hunter2"}`,
			[]string{"url: must be https", "client: must be one of measurement_protocol, data", "path: must begin with a slash", "preview_header: has characters", "currency: must be three"}},
		{"ours", `{"url":"https://tags.example","client":"data","mapping":{"properties":{"event_id":"/data/id","user_data":null,"plan":"/data/plan"}}}`,
			[]string{"mapping.properties.event_id: is set by the connector", "mapping.properties.user_data: is set"}},
		{"no use", `{"url":"https://tags.example","client":"data","api_secret":"hunter2hunter2"}`, []string{"are of no use to the data client"}},
	} {
		_, err := New(json.RawMessage(tt.settings), connector.Env{})
		if err == nil {
			t.Errorf("%s: no error", tt.name)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q:\n%v", tt.name, want, err)
			}
		}
		if n := strings.Count(err.Error(), "\n") + 1; n != len(tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %d faults, want %d:\n%v", tt.name, n, len(tt.want), err)
		}
	}
}

// What data holds arrives, whatever it is, and never in the place of what the
// client knows.
func TestDataClientGetsEveryMemberOnce(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := open(t, map[string]any{"url": "https://tags.example", "client": clientData, "user_data": true})
	for range 2000 {
		data := map[string]any{"deep": map[string]any{"list": []any{1, nil, "x"}}}
		for _, name := range []string{"event_name", "event_id", "client_id", "user_id", "timestamp", "user_data", "v", "page_title", "größe", "", "a", "b", "email", "user_properties"} {
			if random.IntN(2) == 0 {
				data[name] = []any{1.5, true, "é\n", []int{1}, nil}[random.IntN(5)]
			}
		}
		raw, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		d := connectortest.Today(1)[0]
		d.Event.Data = raw
		d.Event.Context = json.RawMessage(`{"traits":{"email":"user@example.com","phone":"+431","plan":"pro"},"page":{"url":"https://x.example","title":"T"}}`)
		body := c.Plan([]connector.Delivery{d}).Calls[0].Payload.([]byte)
		if err := event.Check(body, event.Limits{}); err != nil { // no name twice
			t.Fatalf("%v: %s", err, body)
		}
		var got map[string]json.RawMessage
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		if string(got["event_id"]) != `"`+d.Event.ID+`"` || string(got["event_name"]) != `"button_clicked"` || string(got["client_id"]) != `"anonymous-1"` ||
			string(got["user_data"]) != `{"email_address":"user@example.com","phone_number":"+431"}` {
			t.Fatalf("%s", body)
		}
		for name, value := range data {
			if value == nil || notSpread(name) {
				continue
			}
			want, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if string(got[name]) != string(want) {
				t.Fatalf("%s is %s, want %s", name, got[name], want)
			}
		}
	}
}

// A title that says nothing is none, and nothing happened after it was received.
func TestDataClientGetsTitlesAndThePast(t *testing.T) {
	t.Parallel()
	c := open(t, map[string]any{"url": "https://tags.example", "client": clientData})
	for _, tt := range []struct{ kind, name, timestamp, want string }{
		{event.TypePage, "Pricing", "2026-11-23T10:00:00Z", `"timestamp":1795428000,"language":"de-AT","page_title":"Pricing"}`},
		{event.TypePage, "page", "2026-11-24T10:00:00Z", `"timestamp":1795428001,"language":"de-AT"}`},
		{event.TypeScreen, "Cart", "", `"timestamp":1795428001,"language":"de-AT","screen_name":"Cart"}`},
		{event.TypeScreen, "screen", "0001-01-01T00:00:00Z", `"timestamp":1795428001,"language":"de-AT"}`},
	} {
		d := connectortest.Plain(1)
		e := &d[0].Event
		e.Type, e.Name, e.Timestamp, e.ReceivedAt, e.Data = tt.kind, tt.name, tt.timestamp, "2026-11-23T10:00:01Z", nil
		if body := string(c.Plan(d).Calls[0].Payload.([]byte)); !strings.HasSuffix(body, tt.want) {
			t.Errorf("%+v: %s", tt, body)
		}
	}
}

func TestEventsOfNobody(t *testing.T) {
	t.Parallel()
	for client := range clients {
		for _, without := range []string{"dead", "event"} {
			d := connectortest.Today(1)[0]
			d.Event.UserID, d.Event.AnonymousID = "", ""
			plan := open(t, map[string]any{"url": "https://tags.example", "client": client, "without_identity": without}).Plan([]connector.Delivery{d})
			if dead := len(plan.Done) == 1 && plan.Done[0].Result.Code == "no_identity" && plan.Done[0].Result.Class == connector.Permanent; dead != (without == "dead") {
				t.Errorf("%s, %s: %+v", client, without, plan)
			}
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	for client := range clients {
		b.Run(client, func(b *testing.B) {
			connectortest.BenchmarkPlan(b, connectortest.Plain(250), open(b, map[string]any{"url": "https://tags.example", "client": client}).Plan)
		})
	}
}
