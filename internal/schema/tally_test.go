package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/event"
)

// contractsOf are contracts of a document.
func contractsOf(t testing.TB, doc string) (*Contracts, *Tally) {
	t.Helper()
	set, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	tally := NewTally()
	return NewContracts(func() *Set { return set }, tally), tally
}

const productsDoc = `{"schemas":[{"name":"a","version":2,"mode":"quarantine","schema":{"required":["x"],"properties":{"p":{"items":{"type":"string"}}}}},` +
	`{"name":"b","mode":"observe","schema":{"additionalProperties":false}}]}`

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestViolationsAreGroupedByFingerprint(t *testing.T) {
	t.Parallel()
	c, tally := contractsOf(t, productsDoc)
	var r Report
	for i, data := range []string{`{"p":[1,"a",2]}`, `{"x":1,"p":["a","b",null]}`, `{"x":1,"p":["a"]}`} {
		ev := event.Event{
			ID: fmt.Sprintf("e-%d", i), Name: "a", Source: fmt.Sprintf("web%d", i), Data: []byte(data),
			Context: []byte(fmt.Sprintf(`{"library":{"name":"@segment/analytics-node","version":"3.%d.0"}}`, i)),
		}
		c.Check(&ev, noon.Add(time.Duration(i)*time.Minute), &r)
	}
	got, total := tally.Groups("", 10)
	if total != 2 || len(got) != 2 {
		t.Fatalf("%d groups: %+v", total, got)
	}
	want := `{"fingerprint":"` + got[0].Fingerprint + `","name":"a","version":"2","mode":"quarantine","pointer":"/data/p/*","rule":"type","expected":"string","count":2,` +
		`"first_seen":"2026-11-23T12:00:00Z","last_seen":"2026-11-23T12:01:00Z","sources":["web0","web1"],` +
		`"sdks":[{"name":"@segment/analytics-node","version":"3.0.0"},{"name":"@segment/analytics-node","version":"3.1.0"}],` +
		`"example":{"event_id":"e-1","pointer":"/data/p/2","got":"null"}}`
	if text, _ := json.Marshal(got[0]); string(text) != want {
		t.Errorf("%s\nwant\n%s", text, want)
	}
	if got[1].Rule != "required" || got[1].Count != 1 || got[1].Example.Got != "nothing" {
		t.Errorf("%+v", got[1])
	}
	if one, total := tally.Groups("a", 1); len(one) != 1 || total != 2 {
		t.Errorf("%d of %d groups", len(one), total)
	}
	if none, total := tally.Groups("b", 1); len(none) != 0 || none == nil || total != 0 {
		t.Errorf("%v of %d groups", none, total)
	}
}

// observeOnly has n names in mode observe that allow no member.
func observeOnly(n int) string {
	entries := make([]string, n)
	for i := range entries {
		entries[i] = fmt.Sprintf(`{"name":"e%d","mode":"observe","schema":{"additionalProperties":false}}`, i)
	}
	return `{"schemas":[` + strings.Join(entries, ",") + `]}`
}

func TestASenderThatMakesUpNamesPushesOutNobodyElse(t *testing.T) {
	t.Parallel()
	c, tally := contractsOf(t, observeOnly(2))
	var r Report
	send := func(name, member string, at int) {
		ev := event.Event{ID: "x", Name: name, Source: "web", Data: []byte(`{"` + member + `":1}`)}
		c.Check(&ev, noon.Add(time.Duration(at)), &r)
	}
	send("e0", "quiet", 0)
	for i := range 5000 {
		send("e1", fmt.Sprint("m", i), i)
	}
	quiet, _ := tally.Groups("e0", 10)
	loud, total := tally.Groups("e1", 1000)
	if len(quiet) != 1 || total != mostGroupsOfSchema || loud[0].Pointer != "/data/m4999" || loud[total-1].Pointer != "/data/m4900" {
		t.Errorf("%d and %d groups, from %s to %s", len(quiet), total, loud[0].Pointer, loud[total-1].Pointer)
	}
}

func TestTheGroupsNotSeenForLongestLeave(t *testing.T) {
	t.Parallel()
	const names = 30
	c, tally := contractsOf(t, observeOnly(names))
	var r Report
	for round := range 90 {
		for i := range names {
			ev := event.Event{ID: "x", Name: fmt.Sprint("e", i), Data: []byte(fmt.Sprintf(`{"m%d":1}`, round))}
			c.Check(&ev, noon, &r)
		}
		// This one is seen again and again.
		ev := event.Event{ID: "x", Name: "e0", Data: []byte(`{"always":1}`)}
		c.Check(&ev, noon, &r)
	}
	groups, total := tally.Groups("", 10_000)
	if total != MostGroups || len(tally.groups) != MostGroups {
		t.Errorf("%d groups", total)
	}
	if groups[0].Pointer != "/data/always" || groups[0].Count != 90 {
		t.Errorf("%+v", groups[0])
	}
	in := 0
	for _, l := range tally.bySchema {
		in += l.Len()
	}
	if in != total {
		t.Errorf("%d groups by schema, %d in all", in, total)
	}
}

func TestATallyOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	c, tally := contractsOf(t, productsDoc)
	if err := tally.Keep(func([]byte) error { t.Error("nothing has happened, and it is kept"); return nil }); err != nil {
		t.Error(err)
	}
	var r Report
	for i := range 3 {
		ev := event.Event{ID: "x", Name: "b", Source: "web", Data: []byte(fmt.Sprintf(`{"m%d":1}`, i))}
		c.Check(&ev, noon, &r)
	}
	full := errors.New("the disk is full")
	if err := tally.Keep(func([]byte) error { return full }); !errors.Is(err, full) {
		t.Error(err)
	}
	var text []byte
	if err := tally.Keep(func(b []byte) error { text = b; return nil }); err != nil || text == nil {
		t.Fatalf("what was not kept is not kept later: %v", err)
	}
	next := NewTally()
	if err := next.Load(text); err != nil {
		t.Fatal(err)
	}
	before, _ := tally.Groups("", 10)
	after, _ := next.Groups("", 10)
	if a, b := fmt.Sprintf("%+v", after), fmt.Sprintf("%+v", before); a != b {
		t.Errorf("%s\nwant\n%s", a, b)
	}
	again := NewContracts(c.current, next)
	ev := event.Event{ID: "y", Name: "b", Source: "app", Data: []byte(`{"m0":1}`)}
	again.Check(&ev, noon.Add(time.Hour), &r)
	if after, total := next.Groups("", 10); total != 3 || after[0].Count != 2 || after[0].Pointer != "/data/m0" || len(after[0].Sources) != 2 || !after[0].FirstSeen.Equal(noon) {
		t.Errorf("%+v", after)
	}
	if err := next.Load([]byte(`{"violations":`)); err == nil {
		t.Error("half a file is a tally")
	}
	if err := next.Load([]byte("{}")); err != nil {
		t.Error(err)
	}
}

func TestWhatAGroupListsIsBounded(t *testing.T) {
	t.Parallel()
	c, tally := contractsOf(t, productsDoc)
	var r Report
	for i := range 100 {
		ev := event.Event{
			ID: "x", Name: "b", Source: fmt.Sprintf("s%d", i), Data: []byte(`{"m":1}`),
			Context: []byte(fmt.Sprintf(`{"library":{"name":"%s%d","version":"%d"},"x":[]}`, strings.Repeat("n", 60), i, i)),
		}
		c.Check(&ev, noon, &r)
	}
	got, _ := tally.Groups("b", 1)
	if g := got[0]; g.Count != 100 || len(g.Sources) != mostSources || len(g.SDKs) != mostSDKs || len(g.SDKs[0].Name) > mostLabel {
		t.Errorf("%+v", g)
	}
	for _, context := range []string{``, `{}`, `{"library":1}`, `{"library":{"name":1,"version":[]}}`, `{"library":{}}`} {
		if sdk := sdkOf([]byte(context)); sdk != (SDK{}) {
			t.Errorf("%s: %+v", context, sdk)
		}
	}
}

// However many violations are being noted, an event that is right waits for none.
func TestAnEventThatIsRightDoesNotWaitForTheTally(t *testing.T) {
	t.Parallel()
	c, tally := contractsOf(t, productsDoc)
	tally.mu.Lock()
	defer tally.mu.Unlock()
	var r Report
	if _, ok := c.Check(&event.Event{ID: "x", Name: "a", Data: []byte(`{"x":1}`)}, noon, &r); !ok {
		t.Errorf("%v", r.Violations)
	}
}

func TestContractsAreUsedByManyAtOnce(t *testing.T) {
	t.Parallel()
	c, tally := contractsOf(t, productsDoc)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var r Report
			for i := range 200 {
				ev := event.Event{ID: "x", Name: "b", Source: "s", Data: []byte(fmt.Sprintf(`{"m%d":1}`, i%7))}
				if mode, ok := c.Check(&ev, noon, &r); ok || mode != Observe || r.Entry.Label() != "b" {
					t.Error("right")
				}
				tally.Groups("", 10)
			}
		})
	}
	wg.Wait()
	if got := c.Stats(); got.Checked != 1600 || got.Violated[Observe] != 1600 {
		t.Errorf("%+v", got)
	}
	if _, total := tally.Groups("b", 1); total != 7 {
		t.Errorf("%d groups", total)
	}
}

// BenchmarkContracts is a check of an event that is wrong, with the note of it.
func BenchmarkContracts(b *testing.B) {
	c, _ := contractsOf(b, productsDoc)
	ev := event.Event{ID: "x", Name: "a", Source: "s", Data: []byte(`{"p":[1]}`), Context: []byte(`{"library":{"name":"x","version":"1"}}`)}
	b.RunParallel(func(pb *testing.PB) {
		var r Report
		for pb.Next() {
			c.Check(&ev, noon, &r)
		}
	})
	b.ReportAllocs()
}
