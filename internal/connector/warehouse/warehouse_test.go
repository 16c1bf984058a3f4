package warehouse

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
)

func ids(e *event.Event) (string, *connector.Result) {
	if strings.HasPrefix(e.ID, "bad") {
		return "", &connector.Result{Class: connector.Permanent}
	}
	return e.ID, nil
}

func TestCallsAreBoundedInEventsAndBytes(t *testing.T) {
	t.Parallel()
	const maxRows = 100
	many := make([]connector.Delivery, 2*maxRows+1)
	for i := range many {
		many[i].Event.ID = fmt.Sprint(i)
	}
	many[7].Event.ID = "bad"
	plan := Plan(nil, many, maxRows, ids)
	if len(plan.Calls) != 2 || len(plan.Calls[0].Events) != maxRows || len(plan.Calls[1].Events) != maxRows {
		t.Errorf("%d calls", len(plan.Calls))
	}
	if len(plan.Done) != 1 || plan.Done[0].Event != 7 {
		t.Errorf("done %+v", plan.Done)
	}
	next := 0
	for _, call := range plan.Calls {
		for i, at := range call.Events {
			if at == 7 || at < next || call.Payload.([]string)[i] != fmt.Sprint(at) {
				t.Fatalf("event %d after %d is %q", at, next, call.Payload.([]string)[i])
			}
			next = at + 1
		}
	}

	const size = 3 << 20
	large := make([]connector.Delivery, 7)
	for i := range large {
		large[i].Event.Data = make([]byte, size)
	}
	large[3].Event.Data = make([]byte, 3*MaxBytes) // alone, and sent all the same
	plan = Plan(nil, large, maxRows, ids)
	var got []int
	for _, call := range plan.Calls {
		got = append(got, len(call.Events))
	}
	if want := []int{2, 1, 1, 2, 1}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("calls of %v events, want %v", got, want)
	}
}

func TestTimesAreRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-11-23T11:00:00.1234567+01:00": "2026-11-23T10:00:00.1234567Z",
		"0000-01-01T00:00:00+01:00":         "-0001-12-31T23:00:00Z",
		"9999-12-31T23:59:59-12:00":         "10000-01-01T11:59:59Z",
	} {
		at, refused := Time("timestamp", text)
		if got := at.UTC().Format(time.RFC3339Nano); refused != nil || got != want {
			t.Errorf("%s is %s (%+v), want %s", text, got, refused, want)
		}
	}
	for _, text := range []string{"", "yesterday", "2026-11-23", "2026-11-31T10:00:00Z", "1790000000"} {
		if _, refused := Time("received_at", text); refused == nil || refused.Class != connector.Permanent ||
			refused.Code != "received_at" || !strings.Contains(refused.Message, "received_at") {
			t.Errorf("%q: %+v", text, refused)
		}
	}
}

func TestContextTakesInWhatIsUnknown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		event event.Event
		want  string
	}{
		{event.Event{}, `{}`},
		{event.Event{Context: []byte(`{ "a":1}`)}, `{ "a":1}`},
		{event.Event{Extra: []byte(`"n":1`)}, `{"extra":{"n":1}}`},
		{event.Event{ID: "e", Name: "x", Data: []byte(`{"d":1}`), Context: []byte(`{"a":1}`), Extra: []byte(`"n":1`)}, `{"a":1,"extra":{"n":1}}`},
	} {
		if got := string(Context(&c.event)); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
	if got := string(Data(&event.Event{})); got != "{}" {
		t.Errorf("no data is %s", got)
	}
}
