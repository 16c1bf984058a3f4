package mapping_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// whole plans a call for each event, of its stored form.
func whole(deliveries []connector.Delivery) (plan connector.Plan) {
	for i, d := range deliveries {
		if strings.Contains(d.Event.Name, "leave out") {
			plan.Done = append(plan.Done, connector.Done{Event: i, Result: connector.Result{Class: connector.Dropped, Code: "left_out"}})
			continue
		}
		plan.Calls = append(plan.Calls, connector.Call{Events: []int{i}, Payload: string(d.Raw)})
	}
	return plan
}

func TestAFilterHandsOnWhatPrivacyLeaves(t *testing.T) {
	t.Parallel()
	f, err := mapping.NewFilter(mapping.Privacy{Drop: []string{"/data/password"}, Hash: []string{"/user_id"}, Salt: "s", IP: "truncate"})
	if err != nil {
		t.Fatal(err)
	}
	e := event.Event{
		ID: "e1", Type: event.TypeTrack, Name: "n", UserID: "u1", IP: "203.0.113.77",
		Data: []byte(`{"password":"hunter2","plan":"pro"}`), Context: []byte(`{"ip":"2001:db8:1:2:3::4"}`),
	}
	deliveries := []connector.Delivery{{Event: e, Raw: e.Append(nil), Rule: "r", Attempt: 2}}
	before := string(deliveries[0].Raw)
	plan := f.Plan(deliveries, whole)
	got := plan.Calls[0].Payload.(string)
	for _, gone := range []string{"hunter2", `"u1"`, "203.0.113.77", "2001:db8:1:2:3"} {
		if strings.Contains(got, gone) {
			t.Errorf("%s is handed on: %s", gone, got)
		}
	}
	for _, left := range []string{`"plan":"pro"`, "203.0.113.0", "2001:db8:1::", `"id":"e1"`} {
		if !strings.Contains(got, left) {
			t.Errorf("%s is missing: %s", left, got)
		}
	}
	if string(deliveries[0].Raw) != before || deliveries[0].Event.UserID != "u1" {
		t.Error("the delivery itself was changed")
	}
}

func TestAnEventThatCannotBeFilteredIsDoneAndTheOthersKeepTheirPlaces(t *testing.T) {
	t.Parallel()
	f, err := mapping.NewFilter(mapping.Privacy{IP: "drop"})
	if err != nil {
		t.Fatal(err)
	}
	var deliveries []connector.Delivery
	for _, e := range []event.Event{
		{ID: "e0", Name: "a"}, {ID: "e1", Name: "b", Extra: []byte(`"x":`)}, {ID: "e2", Name: "leave out"}, {ID: "e3", Name: "c"},
	} {
		deliveries = append(deliveries, connector.Delivery{Event: e, Raw: e.Append(nil)})
	}
	plan := f.Plan(deliveries, whole)
	var calls, done []int
	for _, c := range plan.Calls {
		calls = append(calls, c.Events...)
	}
	for _, d := range plan.Done {
		done = append(done, d.Event)
		if d.Event == 1 && d.Result.Class != connector.Permanent {
			t.Errorf("%+v", d)
		}
	}
	if !reflect.DeepEqual(calls, []int{0, 3}) || !reflect.DeepEqual(done, []int{2, 1}) {
		t.Errorf("calls %v, done %v", calls, done)
	}
}

func TestWithoutPrivacyThereIsNoFilter(t *testing.T) {
	t.Parallel()
	f, err := mapping.NewFilter(mapping.Privacy{IP: "keep"})
	if f != nil || err != nil {
		t.Errorf("%v, %v", f, err)
	}
	deliveries := []connector.Delivery{{Event: event.Event{ID: "e"}, Raw: []byte("as it was stored")}}
	if plan := f.Plan(deliveries, whole); plan.Calls[0].Payload != "as it was stored" {
		t.Errorf("%+v", plan)
	}
	for want, p := range map[string]mapping.Privacy{
		"privacy.ip: ":   {IP: "mask"},
		"privacy.salt: ": {Salt: "s"},
		"privacy":        {Drop: []string{"/id"}},
	} {
		if _, err := mapping.NewFilter(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}
