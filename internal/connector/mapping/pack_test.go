package mapping_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// Every event is in one call, in order, and no call is larger than is allowed or
// ends before it has to.
func TestPackFillsCallsInOrder(t *testing.T) {
	t.Parallel()
	mapper, err := mapping.New(mapping.Settings{}, mapping.Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	body := mapping.Body{Head: `{"events":[`, Tail: "]}", Max: 200}
	encode := func(dst []byte, r *mapping.Record) ([]byte, *connector.Result) {
		if r.Name == "dropped" {
			return dst, mapping.Drop("dropped", "by the test")
		}
		return event.AppendString(dst, r.Name), nil
	}
	for range 200 {
		events := make([]connector.Delivery, random.IntN(60))
		for i := range events {
			name := strings.Repeat("n", random.IntN(60))
			switch random.IntN(15) {
			case 0:
				name = "dropped"
			case 1:
				name = strings.Repeat("n", 180+random.IntN(12)) // 185 fit
			}
			events[i].Event = event.Event{ID: fmt.Sprint(i), Type: event.TypeTrack, Name: name}
		}
		plan := mapper.Pack(events, body, encode)
		next, planned := 0, len(plan.Done)
		for n, call := range plan.Calls {
			var sent struct{ Events []string }
			raw := call.Payload.([]byte)
			if err := json.Unmarshal(raw, &sent); err != nil || len(raw) > body.Max || len(sent.Events) != len(call.Events) || len(call.Events) == 0 {
				t.Fatalf("%d events in %s: %v", len(call.Events), raw, err)
			}
			if n > 0 && len(plan.Calls[n-1].Payload.([]byte))+len(`,""`)+len(sent.Events[0]) <= body.Max {
				t.Fatalf("%s had room for %s", plan.Calls[n-1].Payload, sent.Events[0])
			}
			for k, i := range call.Events {
				if i < next || sent.Events[k] != events[i].Event.Name {
					t.Fatalf("event %d after %d: %s", i, next-1, raw)
				}
				next = i + 1
			}
			planned += len(call.Events)
		}
		for _, done := range plan.Done {
			name := events[done.Event].Event.Name
			if r := done.Result; r.Class == connector.Dropped != (name == "dropped") || r.Class == connector.Permanent && (r.Code != "too_large" || len(name) <= 185) {
				t.Fatalf("%q: %+v", name, r)
			}
		}
		if planned != len(events) {
			t.Fatalf("%d of %d events are planned", planned, len(events))
		}
	}
}

func TestNothingHappenedAfterItWasReceived(t *testing.T) {
	t.Parallel()
	mapper, err := mapping.New(mapping.Settings{}, mapping.Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ timestamp, received, want string }{
		{"2026-11-23T10:00:00Z", "2026-11-23T10:00:01Z", "2026-11-23T10:00:00Z"},
		{"2026-11-23T12:00:00+01:00", "2026-11-23T10:00:01Z", "2026-11-23T10:00:01Z"},
		{"9999-12-31T23:59:59Z", "2026-11-23T10:00:01Z", "2026-11-23T10:00:01Z"},
		{"2026-11-23T12:00:00Z", "", "2026-11-23T12:00:00Z"},
		{"2026-11-23T12:00:00Z", "soon", "2026-11-23T12:00:00Z"},
		{"", "2026-11-23T10:00:01Z", "2026-11-23T10:00:01Z"},
		{"", "", "0001-01-01T00:00:00Z"},
	} {
		var r mapping.Record
		if refused := mapper.Map(&event.Event{ID: "e", Type: event.TypeTrack, Name: "n", Timestamp: c.timestamp, ReceivedAt: c.received}, &r); refused != nil {
			t.Fatal(refused)
		}
		if got := r.Past().Format("2006-01-02T15:04:05Z07:00"); got != c.want {
			t.Errorf("%q, received %q: %s, want %s", c.timestamp, c.received, got, c.want)
		}
	}
}

func TestObjectsAreAppendedAsMembers(t *testing.T) {
	t.Parallel()
	got := mapping.AppendObject([]byte("{"), "none", nil)
	got = mapping.AppendObject(got, "s\"o", []mapping.Property{{Name: "a", Value: []byte("1")}, {Name: "b", Value: []byte(`{"c":[]}`)}})
	if string(got) != `{"none":{},"s\"o":{"a":1,"b":{"c":[]}}` {
		t.Errorf("%s", got)
	}
}
