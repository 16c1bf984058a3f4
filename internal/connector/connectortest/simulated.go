package connectortest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

// Simulated is a connector and the simulated vendor that it delivers to.
type Simulated struct {
	// Vendor names the vendor, New makes the connector to it.
	Vendor string
	New    connector.Factory
	// Settings, if it is set, changes the settings that lead to the vendor.
	Settings func(settings map[string]any)
	// Credentials are the settings of which an Auth result names one. Secrets are
	// those whose values must not be seen anywhere.
	Credentials, Secrets []string
	// Adapt, if it is set, gives an event what this kind of destination needs of
	// it. It must change events alike that are alike.
	Adapt func(e *event.Event)
	// ID, if it is set, returns what the vendor knows an event of this id by, where
	// it has a form for ids.
	ID func(id string) string
	// IDs returns the ids of the events in what the vendor has taken, in order.
	// Default: Item.ID of each.
	IDs func(items []simulator.Item) []string
	// Replaced, if it is set, returns what the connector sends in the place of an
	// event's id that the vendor has no room for, and other ids as they are.
	Replaced func(id string) string
}

// Harness returns destinations that are the vendor, on ports of this machine.
// cannot is Harness.Cannot.
func (s Simulated) Harness(cannot map[State]string) Harness {
	if s.Replaced != nil {
		s = s.remembering()
	}
	return Harness{Open: s.open, Cannot: cannot, Adapt: s.Adapt}
}

// remembering returns the same with IDs that finds the ids of events again that
// were replaced. Adapt has seen them all.
func (s Simulated) remembering() Simulated {
	var ids sync.Map
	adapt, find := s.Adapt, s.ids
	s.Adapt = func(e *event.Event) {
		if adapt != nil {
			adapt(e)
		}
		ids.Store(s.Replaced(e.ID), e.ID)
	}
	s.IDs = func(items []simulator.Item) []string {
		found := find(items)
		for i, id := range found {
			if known, ok := ids.Load(id); ok {
				found[i] = known.(string)
			}
		}
		return found
	}
	return s
}

func (s Simulated) open(t *testing.T) *Destination {
	t.Helper()
	vendor, err := simulator.New(s.Vendor)
	if err != nil {
		t.Fatal(err)
	}
	vendor.Unlimited() // the suite sends in a moment what a vendor allows in minutes
	server := httptest.NewServer(vendor)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections) // those that hang
	settings := s.settings(t, vendor, server.URL)
	d := &Destination{
		Factory: s.New, Settings: settings, Credentials: s.Credentials, Enter: map[State]func(*testing.T) func(){},
		Arrived: func(*testing.T) []string { return s.ids(vendor.Received()) },
	}
	bad := BadID
	if s.ID != nil {
		bad = s.ID(BadID)
	}
	for _, secret := range s.secrets(t, settings) {
		d.Secrets = append(d.Secrets, secret)
	}
	for state, trouble := range map[State]simulator.Trouble{
		Away:       {Away: true},
		Denied:     {Denied: true},
		Throttling: {Throttle: 1},
		Hanging:    {Hang: true},
		LostAnswer: {Lose: 1},
		Fussy:      {Refuse: func(id string) bool { return id == bad }},
	} {
		d.Enter[state] = func(*testing.T) func() {
			vendor.Trouble(trouble)
			return func() { vendor.Trouble(simulator.Trouble{}) }
		}
	}
	return d
}

// settings returns the settings that lead to the vendor.
func (s Simulated) settings(t testing.TB, vendor *simulator.Vendor, baseURL string) json.RawMessage {
	t.Helper()
	raw := vendor.Settings(baseURL)
	if s.Settings == nil {
		return raw
	}
	var settings map[string]any
	if err := json.Unmarshal(raw, &settings); err != nil {
		t.Fatal(err)
	}
	s.Settings(settings)
	raw, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// secrets returns the values of the settings that are secret, by their name.
func (s Simulated) secrets(t testing.TB, settings json.RawMessage) map[string]string {
	t.Helper()
	var values map[string]any
	if err := json.Unmarshal(settings, &values); err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{}
	for _, name := range s.Secrets {
		secret, ok := values[name].(string)
		if !ok || len(secret) < 8 {
			t.Fatalf("setting %s has no secret to look for", name)
		}
		secrets[name] = secret
	}
	return secrets
}

func (s Simulated) ids(items []simulator.Item) (ids []string) {
	if s.IDs != nil {
		return s.IDs(items)
	}
	for _, item := range items {
		ids = append(ids, item.ID)
	}
	return ids
}

// Answered returns a call of an API and its answer, without a server: for what a
// connector makes of answers. The results of class Auth name the setting "key".
func Answered(t testing.TB, status int, body []byte) *httpcall.Exchange {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	api, err := httpcall.NewAPI(httpcall.APIConfig{
		Base: "http://127.0.0.1:9", Credentials: "key", MaxAnswer: 1 << 20,
		Dial: simulator.Dial(ctx, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write(body) // a 204 has none
		})),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	return api.Do(ctx, httpcall.Request{Path: "/"})
}
