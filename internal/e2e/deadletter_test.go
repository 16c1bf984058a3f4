package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// withHook are documents with a webhook beside the warehouse.
func withHook(url, retry string) documents {
	docs := everythingToWarehouse
	docs.rules = `[{"destination_name":"warehouse","enabled_events":["*"]},{"destination_name":"hook","enabled_events":["*"]}]`
	docs.destinations = `[{"destination_name":"warehouse","connector":"sqlite"},
		{"destination_name":"hook","connector":"webhook","settings":{"url":"` + url + `","allow_private":true},"retry":` + retry + `}]`
	return docs
}

func TestAWebhookThatFailsTwiceGetsTheEventTheThirdTime(t *testing.T) {
	t.Parallel()
	h := newHook(t, func(_ string, before int) int {
		if before < 2 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	p := start(t, dataFolder(t, withHook(h.server.URL, `{"base_delay":"10ms","max_delay":"50ms"}`)))
	if a := p.post(`[{"id":"1","name":"a","user_id":"u"},{"id":"2","name":"b","user_id":"u"},{"id":"3","name":"c","user_id":"v"}]`); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	l := p.settle()
	if d := l.Destinations["hook"]; d.Delivered != 3 || d.Dead != 0 {
		t.Errorf("%+v", d)
	}
	for _, id := range []string{"1", "2", "3"} {
		if tries := h.of(id); len(tries) != 3 {
			t.Errorf("%s came %d times", id, len(tries))
		}
	}
	// Those of one user arrive in order, retries or not.
	if order := strings.Join(h.taken(), ""); strings.Index(order, "1") > strings.Index(order, "2") {
		t.Errorf("they arrived as %s", order)
	}
	p.stop()
}

// TestDeadLettersHaveAWayBack takes events that a webhook refuses for good
// through every command that an operator has for them.
func TestDeadLettersHaveAWayBack(t *testing.T) {
	t.Parallel()
	var repaired atomic.Bool
	h := newHook(t, func(name string, _ int) int {
		if strings.HasPrefix(name, "bad_") && !repaired.Load() {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	p := start(t, dataFolder(t, withHook(h.server.URL, `{"base_delay":"10ms","max_delay":"50ms"}`)))
	const sent = 12
	for n := range sent {
		name := "good"
		if n%2 == 0 {
			name = fmt.Sprintf("bad_%d", n)
		}
		if a := p.post(fmt.Sprintf(`{"id":"e%d","name":%q,"user_id":"u","data":{"n":%d}}`, n, name, n)); a.status != 202 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	l := p.settle()
	if d := l.Destinations["hook"]; d.Dead != sent/2 || d.Delivered != sent/2 {
		t.Fatalf("%+v", d)
	}
	for n := 0; n < sent; n += 2 {
		if tries := h.of(fmt.Sprintf("e%d", n)); len(tries) != 1 {
			t.Errorf("e%d is refused for good and came %d times", n, len(tries))
		}
	}

	// list shows all, in order, and its filters select.
	letters := p.letters("list", "hook", "--json")
	if len(letters) != sent/2 {
		t.Fatalf("%d letters: %+v", len(letters), letters)
	}
	for i, letter := range letters {
		if letter.EventID != fmt.Sprintf("e%d", 2*i) || letter.Class != "permanent" || letter.Status != 400 || letter.Attempts != 1 || letter.Destination != "hook" {
			t.Errorf("letter %d is %+v", i, letter)
		}
	}
	if got := p.letters("list", "hook", "--json", "--event", "bad_1*"); len(got) != 1 || got[0].EventID != "e10" {
		t.Errorf("filtered by name: %+v", got)
	}
	if got := p.letters("list", "hook", "--json", "--class", "auth"); len(got) != 0 {
		t.Errorf("filtered by class: %+v", got)
	}

	// show has the whole event and what was said.
	out := p.must("dlq", "show", "hook", letters[0].ID)
	for _, want := range []string{`"e0"`, "bad_0", "400", "permanent"} {
		if !strings.Contains(out, want) {
			t.Errorf("show does not say %s:\n%s", want, out)
		}
	}

	// backup writes JSON lines and deletes only when asked to.
	file := filepath.Join(t.TempDir(), "letters.jsonl")
	p.must("dlq", "backup", "hook", file)
	if n := backupLines(t, file); n != sent/2 {
		t.Errorf("the backup has %d lines", n)
	}
	if l := p.ledger(); l.Destinations["hook"].Dead != sent/2 {
		t.Errorf("a backup took letters away: %+v", l)
	}

	// A dry run changes nothing; a replay goes back to the destination.
	p.must("dlq", "replay", "hook", "--dry-run")
	if l := p.ledger(); l.Destinations["hook"].Dead != sent/2 {
		t.Errorf("a dry run took letters away: %+v", l)
	}
	repaired.Store(true)
	p.must("dlq", "replay", "hook", "--event", "bad_2")
	l = p.settle()
	if d := l.Destinations["hook"]; d.Dead != sent/2-1 || len(h.of("e2")) != 2 {
		t.Errorf("after the replay of one: %+v, e2 came %d times", d, len(h.of("e2")))
	}
	p.must("dlq", "replay", "hook", "--to", "stream", "--event", "bad_4")
	l = p.settle()
	if d := l.Destinations["hook"]; d.Dead != sent/2-2 || len(h.of("e4")) != 2 {
		t.Errorf("after the replay to the stream: %+v, e4 came %d times", d, len(h.of("e4")))
	}

	// purge wants to be sure.
	if _, stderr, status := p.run("dlq", "purge", "hook"); status != 2 || stderr == "" {
		t.Errorf("purge without --yes: %d %s", status, stderr)
	}
	p.must("dlq", "purge", "hook", "--event", "bad_6", "--yes")
	if l := p.ledger(); l.Destinations["hook"].Dead != sent/2-3 || l.Destinations["hook"].Purged != 1 {
		t.Errorf("after the purge of one: %+v", l)
	}
	p.must("dlq", "replay", "hook")
	l = p.settle()
	if d := l.Destinations["hook"]; d.Dead != 0 {
		t.Errorf("letters are left: %+v", d)
	}
	for _, r := range warehouse(t, p.dir) {
		if r.id == "e4" && r.name != "bad_4" {
			t.Errorf("e4 came back changed: %+v", r)
		}
	}

	// All of it holds after a restart.
	p.stop()
	p = start(t, p.dir)
	if again := p.settle(); again.Destinations["hook"] != l.Destinations["hook"] {
		t.Errorf("after a restart %+v, before %+v", again.Destinations["hook"], l.Destinations["hook"])
	}
	p.stop()
}

// letter is the part of a dead letter that is checked.
type letter struct {
	ID          string `json:"id"`
	Destination string `json:"destination"`
	EventID     string `json:"event_id"`
	Class       string `json:"class"`
	Status      int    `json:"status"`
	Attempts    int    `json:"attempts"`
}

// letters runs a dlq command that prints letters as lines of JSON.
func (p *process) letters(args ...string) []letter {
	p.t.Helper()
	var all []letter
	for line := range strings.Lines(p.must(append([]string{"dlq"}, args...)...)) {
		var one letter
		unmarshal(p.t, line, &one)
		all = append(all, one)
	}
	return all
}

// must runs a command that must do what it is asked.
func (p *process) must(args ...string) string {
	p.t.Helper()
	stdout, stderr, status := p.run(args...)
	if status != 0 {
		p.t.Fatalf("sluice %s: exit status %d\n%s%s", strings.Join(args, " "), status, stdout, stderr)
	}
	return stdout
}

func backupLines(t *testing.T, name string) int {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n := 0
	for lines := bufio.NewScanner(file); lines.Scan(); n++ {
		var l struct{ Attributes, Body json.RawMessage }
		unmarshal(t, lines.Text(), &l)
		if len(l.Attributes) == 0 || len(l.Body) == 0 {
			t.Errorf("a line without attributes or body: %s", lines.Text())
		}
	}
	return n
}

func TestADestinationThatHangsDelaysNoOther(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var calls atomic.Int64
	hanging := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hanging.Close)
	t.Cleanup(func() { close(release) })
	h := newHook(t, nil)
	docs := withHook(h.server.URL, `{}`)
	docs.rules = strings.TrimSuffix(docs.rules, "]") + `,{"destination_name":"hanging","enabled_events":["*"]}]`
	docs.destinations = strings.TrimSuffix(docs.destinations, "]") +
		`,{"destination_name":"hanging","connector":"webhook","settings":{"url":"` + hanging.URL + `","allow_private":true,"timeout":"1m"}}]`
	p := start(t, dataFolder(t, docs), "SLUICE_STOP_TIMEOUT=10s")

	const sent = 300
	var body strings.Builder
	for n := range sent {
		fmt.Fprintf(&body, "{\"name\":\"n\",\"user_id\":\"u%d\"}\n", n%20)
	}
	began := time.Now()
	if a := p.send("/v1/events", body.String(), http.Header{"Content-Type": {"application/x-ndjson"}}); a.status != 202 || a.Accepted != sent {
		t.Fatalf("%d %s", a.status, a.body)
	}
	l := p.await("the other destinations to be done", func(l ledger) bool {
		return l.Destinations["hook"].Delivered == sent && l.Destinations["warehouse"].Delivered == sent
	})
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the others took %v", took)
	}
	if d := l.Destinations["hanging"]; d.Delivered != 0 || calls.Load() == 0 {
		t.Errorf("%d calls hang, and the destination says %+v", calls.Load(), d)
	}
	// New events overtake it too.
	if a := p.post(`{"id":"late","name":"late"}`); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	p.await("the late event", func(ledger) bool { return len(h.of("late")) == 1 })
	p.stop()
}
