package e2e

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// get reads JSON from the admin API.
func (p *process) get(path string, into any) int {
	p.t.Helper()
	resp, err := http.Get(p.admin + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		p.t.Fatalf("%s: %d: %v", path, resp.StatusCode, err)
	}
	return resp.StatusCode
}

// until repeats look until it reports true.
func (p *process) until(what string, look func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !look(); {
		if time.Now().After(deadline) {
			p.t.Fatalf("waited in vain for %s\n%s", what, p.out.String())
		}
		wait(20 * time.Millisecond)
	}
}

func TestTheAdminAPITellsTheStoryOfAnEvent(t *testing.T) {
	t.Parallel()
	h := newHook(t, func(name string, _ int) int {
		switch name {
		case "bad":
			return http.StatusBadRequest
		case "later":
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	docs := withHook(h.server.URL, `{"base_delay":"1h","max_delay":"1h"}`)
	docs.rules = `[{"destination_name":"warehouse","enabled_events":["*"]},
		{"destination_name":"hook","enabled_events":["good","bad","later"]}]`
	p := start(t, dataFolder(t, docs))

	tail, err := http.Get(p.admin + "/api/events/tail")
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Body.Close()
	lines := bufio.NewScanner(tail.Body)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), ":") {
		t.Fatalf("the tail begins with %q", lines.Text())
	}
	if a := p.post(`[{"id":"1","name":"good"},{"id":"2","name":"bad"},{"id":"3","name":"later"},{"id":"4","name":"other"}]`); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	var tailed []string
	for len(tailed) < 4 && lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var e struct{ Event struct{ ID string } }
			unmarshal(t, data, &e)
			tailed = append(tailed, e.Event.ID)
		}
	}
	if len(tailed) != 4 {
		t.Fatalf("the tail showed %v", tailed)
	}
	p.await("three outcomes at the hook", func(l ledger) bool {
		d := l.Destinations["hook"]
		return d.Delivered == 1 && d.Dead == 1 && d.Retrying == 1 && l.Destinations["warehouse"].settled()
	})

	var recent struct {
		Events []struct{ Event struct{ ID string } }
	}
	if status := p.get("/api/events?limit=2", &recent); status != 200 || len(recent.Events) != 2 {
		t.Errorf("%d %+v", status, recent)
	}
	for id, want := range map[string]string{"1": "delivered", "2": "dead", "3": "retrying", "4": "filtered"} {
		type step struct {
			Outcome, Rule string
			Attempts      int
			Letter        *struct{ Status int }
		}
		var story struct{ Destinations map[string]step }
		p.until("the story of "+id, func() bool { // the position is saved a moment later
			story.Destinations = nil
			return p.get("/api/events/"+id, &story) == 200 && story.Destinations["hook"].Outcome == want
		})
		hook := story.Destinations["hook"]
		if (hook.Rule != "") != (want != "filtered") || (hook.Letter != nil) != (want == "dead" || want == "retrying") {
			t.Errorf("%s: %+v", want, hook)
		}
		if hook.Letter != nil && (hook.Attempts != 1 || hook.Letter.Status < 400) {
			t.Errorf("%s: %+v %+v", want, hook, hook.Letter)
		}
		p.until("the warehouse to have "+id, func() bool {
			return p.get("/api/events/"+id, &story) == 200 && story.Destinations["warehouse"].Outcome == "delivered"
		})
	}
	var fault struct{ Code string }
	if status := p.get("/api/events/nobody", &fault); status != 404 || fault.Code != "not_found" {
		t.Errorf("an id that nobody sent: %d %+v", status, fault)
	}
	if status := p.get("/api/events?limit=many", &fault); status != 400 || fault.Code != "invalid" {
		t.Errorf("limit=many: %d %+v", status, fault)
	}
	if status := p.get("/api/deadletters?destination=nowhere", &fault); status != 404 {
		t.Errorf("a destination that does not exist: %d %+v", status, fault)
	}
	p.stop()
}

func TestDocumentsAreInForceAMomentAfterTheyAreSaved(t *testing.T) {
	t.Parallel()
	h := newHook(t, func(string, int) int { return http.StatusOK })
	p := start(t, dataFolder(t, everythingToWarehouse))
	type status struct {
		LoadedAt time.Time `json:"loaded_at"`
		Error    string    `json:"error"`
	}
	documents := func() map[string]status {
		all := map[string]status{}
		p.get("/api/documents", &all)
		return all
	}
	save := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	// A rules file with a mistake changes nothing and says why.
	save("rules.json", `[{"destination_name":"warehouse","enabled_event":["*"]}]`)
	p.until("the mistake to be named", func() bool { return strings.Contains(documents()["rules"].Error, "enabled_event") })
	if a := p.post(`{"id":"1","name":"a"}`); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if l := p.settle(); l.Destinations["warehouse"].Delivered != 1 {
		t.Errorf("the last good rules are not in force: %+v", l)
	}

	// A new destination begins with the oldest event.
	docs := withHook(h.server.URL, `{}`)
	save("rules.json", docs.rules)
	save("destinations.json", docs.destinations)
	l := p.await("the new destination to catch up", func(l ledger) bool { return l.Destinations["hook"].Delivered == 1 })
	if l.Destinations["warehouse"].Delivered != 1 {
		t.Errorf("the old destination was disturbed: %+v", l)
	}
	if documents()["rules"].Error != "" {
		t.Errorf("the mistake is still named: %+v", documents())
	}

	// A key that is taken out is refused.
	save("keys.json", `{"keys":[{"id":"other","kind":"write","sha256":"`+hash("wk_other")+`"}]}`)
	p.until("the key to be refused", func() bool { return p.post(`{"id":"2","name":"a"}`).status == 401 })

	// A destination that is taken out stops, and goes on where it was.
	save("destinations.json", everythingToWarehouse.destinations)
	p.until("the hook to be gone", func() bool { _, there := p.ledger().Destinations["hook"]; return !there })
	save("destinations.json", docs.destinations)
	p.until("the hook to be back", func() bool {
		return p.ledger().Destinations["hook"].settled() && p.ledger().Destinations["hook"].Delivered > 0
	})
	p.settle()
	if tries := h.of("1"); len(tries) != 1 {
		t.Errorf("the event came %d times", len(tries))
	}
	p.stop()
}

func TestQuarantinedEventsAreReplayedAfterAFix(t *testing.T) {
	t.Parallel()
	docs := everythingToWarehouse
	restricted := strings.Replace(docs.keys, `"kind":"write"`, `"kind":"write","events":["ok_*"]`, 1)
	docs.keys = restricted
	p := start(t, dataFolder(t, docs))
	a := p.post(`[{"id":"1","name":"ok_1"},{"id":"2","name":"other","data":{"n":1.50}},{"id":"3"}]`)
	if a.status != 207 || a.Accepted != 1 || a.Rejected != 2 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	list := p.must("quarantine", "list", "--json")
	if !strings.Contains(list, `"class":"forbidden"`) || !strings.Contains(list, `"class":"invalid"`) {
		t.Fatalf("the quarantine holds:\n%s", list)
	}
	loaded := func() (at time.Time) {
		var all map[string]struct {
			LoadedAt time.Time `json:"loaded_at"`
		}
		p.get("/api/documents", &all)
		return all["keys"].LoadedAt
	}
	before := loaded()
	if err := os.WriteFile(filepath.Join(p.dir, "keys.json"), []byte(everythingToWarehouse.keys), 0o600); err != nil {
		t.Fatal(err)
	}
	p.until("the new keys to be in force", func() bool { return loaded().After(before) })
	if said, why, status := p.run("quarantine", "replay"); status != 1 || !strings.Contains(said, "1 replayed") || !strings.Contains(why, "1 letters stay where they are") || !strings.Contains(why, "required at /name") {
		t.Errorf("status %d, it said %q and %q", status, said, why)
	}
	p.settle()
	var ids []string
	for _, r := range warehouse(t, p.dir) {
		ids = append(ids, r.id)
		if r.id == "2" && r.data != `{"n":1.50}` {
			t.Errorf("its data is %s", r.data)
		}
	}
	if got := strings.Join(ids, " "); got != "1 2" {
		t.Errorf("the warehouse holds %s", got)
	}
	if said := p.must("quarantine", "purge", "--yes"); !strings.Contains(said, "1 purged") {
		t.Errorf("it said %q", said)
	}
	p.stop()
}
