package edge

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/fault"
)

func TestAnEventThatIsTooLargeIsKeptInPart(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	large := `{"name":"a","data":{"x":"` + strings.Repeat("x", 2_000_000) + `"}}`
	r.post("/v1/events", "wk_web", "["+good+","+large+"]").want(207, "")
	l := r.letters()[0]
	if l.Class != "too_large" || l.Event != nil || len(l.Raw) != keptOfLarge || !strings.HasPrefix(large, string(l.Raw)) {
		t.Errorf("class %s, event %d bytes, raw %d bytes", l.Class, len(l.Event), len(l.Raw))
	}
}

func TestOneRequestIsOneWriteOfTheQuarantine(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.post("/v1/events", "wk_web", `[{},{},{"name":"a"},{}]`).want(207, "")
	if r.quarantine.puts != 1 || len(r.letters()) != 3 || r.stream.puts != 1 {
		t.Errorf("%d writes of %d letters, %d of the stream", r.quarantine.puts, len(r.letters()), r.stream.puts)
	}
	r.post("/v1/events", "wk_web", `[{},{}]`).want(422, "invalid")
	if r.quarantine.puts != 2 || r.stream.puts != 1 {
		t.Errorf("%d writes of letters, %d of the stream", r.quarantine.puts, r.stream.puts)
	}
}

func TestLettersOwnTheirMemory(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	r.post("/v1/events", "wk_orders", `[{"name":"signup","id":"first"}]`).want(403, "forbidden")
	before, _ := json.Marshal(r.letters())
	for range 20 { // the buffers are used again
		r.post("/v1/events", "wk_orders", strings.Repeat("#", 100)).want(400, "invalid_json")
	}
	if after, _ := json.Marshal(r.letters()); string(after) != string(before) {
		t.Errorf("a letter has changed:\n%s\n%s", before, after)
	}
}

// quarantined returns the letters that requests leave behind.
func quarantined(t *testing.T, key string, requests ...[2]string) (*rig, []deadletter.Letter) {
	t.Helper()
	r := newRig(t, Config{})
	for _, req := range requests {
		r.post(req[0], key, req[1])
	}
	return r, r.letters()
}

func TestReadmitPutsOnTheStreamWhatIsValidNow(t *testing.T) {
	t.Parallel()
	r, letters := quarantined(t, "wk_web",
		[2]string{"/v1/events", `[{"id":"n-1","name":"a","data":{"x":"` + strings.Repeat("x", 1_100_000) + `"}},{"name":""}]`},
		[2]string{"/v1/events", `{"name":"deep","data":` + strings.Repeat(`{"a":`, 70) + `1` + strings.Repeat(`}`, 70) + `}`},
		[2]string{"/v1/track/", `{"event":"deep","messageId":"s-1","properties":` + strings.Repeat(`{"a":`, 70) + `1` + strings.Repeat(`}`, 70) + `,"writeKey":"wk_web"}`},
	)
	if len(letters) != 4 {
		t.Fatalf("%d letters", len(letters))
	}
	before := received(r.intake)
	r.edge.cfg.Limits.MaxDepth = 100 // the fix
	results := r.edge.Readmit(t.Context(), letters)
	kinds := []string{"invalid", "invalid", "", ""}
	for i, err := range results {
		got := ""
		if err != nil {
			got = fault.KindOf(err).String()
		}
		if got != kinds[i] {
			t.Errorf("letter %d: %v", i, err)
		}
	}
	events := r.events()
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	ours, theirs := events[0], events[1]
	if ours.Name != "deep" || ours.ID != letters[2].ID || ours.Source != "web" || ours.ReceivedAt != ours.Timestamp || ours.ReceivedAt == "" {
		t.Errorf("readmitted %+v", ours)
	}
	if theirs.Name != "deep" || theirs.ID != "s-1" || theirs.Type != "track" || theirs.Source != "web" {
		t.Errorf("readmitted %+v", theirs)
	}
	if strings.Contains(string(r.stream.stored[1]), "wk_web") {
		t.Error("the key is in the event")
	}
	if n := received(r.intake); n != before+2 {
		t.Errorf("%d received, want %d", n, before+2)
	}
	r.edge.Readmit(t.Context(), letters[2:3])
	if again := r.events()[2]; again.ID != ours.ID {
		t.Error("a letter that is readmitted twice makes two events")
	}
}

func TestReadmitAsksTheKeysOfTheSource(t *testing.T) {
	t.Parallel()
	r, letters := quarantined(t, "wk_orders", [2]string{"/v1/events", `{"name":"signup"}`})
	if err := r.edge.Readmit(t.Context(), letters)[0]; fault.KindOf(err) != fault.Forbidden {
		t.Errorf("readmitted against the scope of the key: %v", err)
	}
	keys, err := source.Parse([]byte(`{"keys":[{"id":"orders","kind":"write","sha256":"`+source.Hash("x")+`","events":["signup"]}]}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.keys = keys
	if err := r.edge.Readmit(t.Context(), letters)[0]; err != nil || len(r.events()) != 1 {
		t.Errorf("after the fix: %v", err)
	}
}

func TestReadmitSaysWhatTheStreamDidNotTake(t *testing.T) {
	t.Parallel()
	r, letters := quarantined(t, "wk_orders", [2]string{"/v1/events", `[{"name":"a"},{"name":"b"}]`})
	letters[0].Class, letters[1].Class = "invalid", "invalid"
	away := &fault.Error{Kind: fault.Unavailable}
	r.stream.refuse = only("b", away)
	if got := r.edge.Readmit(t.Context(), letters); got[0] != nil || !errors.Is(got[1], away) {
		t.Errorf("%v", got)
	}
	r.stream.blameless = errors.New("lost")
	if got := r.edge.Readmit(t.Context(), letters); got[0] == nil || got[1] == nil {
		t.Errorf("%v", got)
	}
	if got := r.edge.Readmit(t.Context(), nil); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
