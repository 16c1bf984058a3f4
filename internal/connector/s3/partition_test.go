package s3

import (
	"fmt"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
)

func TestPartitionsAreOfTheHourInUTC(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ receivedAt, want string }{
		{"2026-11-23T10:00:00.125Z", "dt=2026-11-23/hh=10/"},
		{"2026-11-23T10:59:59.999999999Z", "dt=2026-11-23/hh=10/"},
		{"2026-11-23T00:30:00+01:00", "dt=2026-11-22/hh=23/"},
		{"0000-01-01T00:30:00+01:00", "dt=__HIVE_DEFAULT_PARTITION__/hh=__HIVE_DEFAULT_PARTITION__/"},
		{"", "dt=__HIVE_DEFAULT_PARTITION__/hh=__HIVE_DEFAULT_PARTITION__/"},
		{"../../secrets/T10:00:00Z", "dt=__HIVE_DEFAULT_PARTITION__/hh=__HIVE_DEFAULT_PARTITION__/"},
	} {
		if got := (&partitioner{}).pathOf(&event.Event{ReceivedAt: c.receivedAt}); got != c.want {
			t.Errorf("%q: %s, want %s", c.receivedAt, got, c.want)
		}
	}
	e := &event.Event{ReceivedAt: "2026-11-23T10:00:00Z", Name: "Order Completed"}
	if got, want := (&partitioner{byDay: true}).pathOf(e), "dt=2026-11-23/"; got != want {
		t.Errorf("by day: %s, want %s", got, want)
	}
	if got, want := (&partitioner{byEvent: true}).pathOf(e), "event=Order%20Completed/dt=2026-11-23/hh=10/"; got != want {
		t.Errorf("by event: %s, want %s", got, want)
	}
}

func TestNamesOfEventsAreEscapedInKeys(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 300)
	for _, c := range []struct{ name, want string }{
		{"order_completed", "order_completed"},
		{"a/b=c%d", "a%2Fb%3Dc%25d"},
		{"größe", "gr%C3%B6%C3%9Fe"},
		{"..", ".."}, // in "event=..", which is no way up
		{"", "__HIVE_DEFAULT_PARTITION__"},
	} {
		if got := escape(c.name); got != c.want {
			t.Errorf("%q: %s, want %s", c.name, got, c.want)
		}
	}
	if a, b := escape(long+"1"), escape(long+"2"); len(a) > maxEscaped || a == b {
		t.Errorf("long names: %s and %s", a, b)
	}
}

// FuzzKeys holds keys to what S3 and Hive ask of them, whatever an event is
// called.
func FuzzKeys(f *testing.F) {
	f.Add("order", "2026-11-23T10:00:00Z", "e1")
	f.Add("../..", "2026-11-23T10:00:00+01:00", "")
	f.Add(strings.Repeat(" ", 67), "", "e1")
	f.Add(strings.Repeat("ü", 100), "9999-12-31T23:59:59-12:00", "\x00")
	f.Fuzz(func(t *testing.T, name, receivedAt, id string) {
		c := open(t, nil, fmt.Sprintf(`{"bucket":"lake","prefix":%q,"by_event":true}`, strings.Repeat("p", maxPrefix-1)))
		plan := c.Plan([]connector.Delivery{{Event: event.Event{ID: id, Name: name, ReceivedAt: receivedAt}, Raw: []byte("{}")}})
		key := plan.Calls[0].Payload.(*file).key
		parts := strings.Split(key, "/")
		switch {
		case len(key) > 1024:
			t.Errorf("%d bytes: %s", len(key), key)
		case len(parts) != 5 || path.Clean(key) != key:
			t.Errorf("another path: %s", key)
		case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
			t.Errorf("characters: %q", key)
		}
		// A name that was cut says so by a mark that stands nowhere else.
		if value := strings.TrimPrefix(parts[1], "event="); name != "" && !strings.Contains(value, "~") {
			if got, err := url.PathUnescape(value); err != nil || got != name {
				t.Errorf("%q is not read back: %q, %v", name, got, err)
			}
		}
	})
}

func TestTheSameEventsMakeTheSameKeyAndOthersAnother(t *testing.T) {
	t.Parallel()
	c := open(t, nil, `{"bucket":"lake","prefix":"events"}`)
	key := func(ids ...string) string {
		deliveries := make([]connector.Delivery, len(ids))
		for i, id := range ids {
			deliveries[i] = connector.Delivery{Event: event.Event{ID: id, ReceivedAt: "2026-11-23T10:00:00.125Z"}}
		}
		return c.Plan(deliveries).Calls[0].Payload.(*file).key
	}
	const want = "events/dt=2026-11-23/hh=10/20261123T100000Z-"
	if got := key("e1", "e2"); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "-2.ndjson.gz") || got != key("e1", "e2") {
		t.Errorf("%s, want %s…", got, want)
	}
	seen := map[string]bool{}
	for _, ids := range [][]string{{"e1", "e2"}, {"e2", "e1"}, {"e1"}, {"e1e2"}, {"e1e", "2"}, {"", "e1e2"}, {"e1", "e2", "e2"}} {
		if k := key(ids...); seen[k] {
			t.Errorf("%q has the key of others: %s", ids, k)
		} else {
			seen[k] = true
		}
	}
}

func TestFilesAreOfOnePartitionAndBoundedInEventsAndBytes(t *testing.T) {
	t.Parallel()
	c := open(t, nil, `{"bucket":"lake","max_events":3}`)
	at := func(hours ...string) []connector.Delivery {
		deliveries := connectortest.Plain(len(hours))
		for i, h := range hours {
			deliveries[i].Event.ReceivedAt = "2026-11-23T" + h + ":00:00Z"
		}
		return deliveries
	}
	files := func(deliveries []connector.Delivery) string {
		var all []string
		for _, call := range c.Plan(deliveries).Calls {
			all = append(all, fmt.Sprint(call.Events))
		}
		return strings.Join(all, " ")
	}
	if got, want := files(at("10", "10", "11", "10", "11", "10", "10")), "[0 1 3] [2 4] [5 6]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	large := at("10", "10", "10")
	for i := range large {
		large[i].Raw = make([]byte, maxBytes/2)
	}
	if got, want := files(large), "[0 1] [2]"; got != want {
		t.Errorf("by bytes: %s, want %s", got, want)
	}
	large[1].Raw = make([]byte, 2*maxBytes) // alone, and sent all the same
	if got, want := files(large), "[0] [1] [2]"; got != want {
		t.Errorf("one that is larger: %s, want %s", got, want)
	}
}
