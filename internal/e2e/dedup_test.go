package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const dedupOn = "SLUICE_DEDUP=1h"

// orders are some events whose sender names them.
func orders(from, to int) string {
	var all []string
	for n := from; n < to; n++ {
		all = append(all, fmt.Sprintf(`{"id":"order-%d","name":"order_placed","user_id":"u%d","data":{"n":%d}}`, n, n%3, n))
	}
	return "[" + strings.Join(all, ",") + "]"
}

// order sends them and wants so many of them to be duplicates.
func (p *process) order(from, to, duplicates int) {
	p.t.Helper()
	a := p.post(orders(from, to))
	want := ""
	if duplicates > 0 {
		want = fmt.Sprintf(`"duplicates":%d,`, duplicates)
	}
	if a.status != http.StatusAccepted || a.Accepted != to-from || !strings.Contains(a.body, want) || strings.Contains(a.body, "duplicates") != (want != "") {
		p.t.Errorf("%d %s, want %d duplicates", a.status, a.body, duplicates)
	}
}

// TestAnEventThatIsSentAgainIsStoredOnce goes through all that happens to a
// process: it is killed, stopped, its journal is lost or broken, and
// deduplication is turned off and on.
func TestAnEventThatIsSentAgainIsStoredOnce(t *testing.T) {
	t.Parallel()
	dir := dataFolder(t, everythingToWarehouse)
	p := start(t, dir, dedupOn)
	p.order(0, 50, 0)
	p.order(0, 50, 50)
	p.order(40, 60, 10)
	if l := p.settle(); l.Stored != 60 || l.Duplicates != 60 || l.Accepted != 120 || l.Received != 120 {
		t.Errorf("%+v", l)
	}
	if out := p.must("ledger"); !strings.Contains(out, "accepted 120; stored 60; spooled 0; duplicates 60; residual 0") {
		t.Errorf("sluice ledger says:\n%s", out)
	}
	for _, want := range []string{"sluice_dedup_entries 60\n", "sluice_dedup_window_seconds 3600\n", "sluice_dedup_duplicates_total 60\n", "sluice_dedup_evicted_early_total 0\n"} {
		if text := p.text("/metrics"); !strings.Contains(text, want) {
			t.Errorf("the metrics have no %q", want)
		}
	}

	p.kill() // right after the answer
	p = start(t, dir, dedupOn)
	p.order(0, 70, 60)
	p.stop()
	p = start(t, dir, dedupOn)
	p.order(0, 80, 70)
	if l := p.settle(); l.Stored != 80 || l.Duplicates < 130 {
		t.Errorf("after two restarts: %+v", l)
	}
	p.stop()

	journal := filepath.Join(dir, "dedup")
	files, err := filepath.Glob(filepath.Join(journal, "*.ids"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the journal has the files %v, %v", files, err)
	}
	for _, name := range files {
		if err := os.WriteFile(name, []byte("this is no journal"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p = start(t, dir, dedupOn)
	p.order(0, 90, 80)
	if !strings.Contains(p.out.String(), "journal of ids is damaged") {
		t.Errorf("it says nothing of the journal:\n%s", &p.out)
	}
	p.stop()
	if err := os.RemoveAll(journal); err != nil {
		t.Fatal(err)
	}
	p = start(t, dir, dedupOn)
	p.order(0, 100, 90)
	p.stop()

	// Off, as it is unless somebody asks for it: an event is stored as often as
	// it is sent. On again, all that was stored meanwhile is known.
	p = start(t, dir)
	p.order(95, 110, 0)
	p.kill()
	p = start(t, dir, dedupOn)
	p.order(0, 120, 110)
	if l := p.settle(); l.Stored != 125 {
		t.Errorf("in the end: %+v", l)
	}
	p.stop()
	if rows := warehouse(t, dir); len(rows) != 120 {
		t.Errorf("%d rows are in the warehouse, want 120", len(rows))
	}
}

// TestNothingIsStoredTwiceThroughCrashes is the crash test with senders that
// also send again what was answered: each id is on the stream at most once.
func TestNothingIsStoredTwiceThroughCrashes(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	chance := rand.New(rand.NewPCG(seed, 0))
	dir := dataFolder(t, everythingToWarehouse)
	load := newCrashLoad(seed)
	load.again = true
	load.start(6)
	const crashes = 20
	for round := range crashes {
		p := launch(t, dir, dedupOn)
		if chance.IntN(4) > 0 {
			if !p.waitReady() {
				t.Fatalf("round %d: sluice did not start again: %v\n%s", round, p.err, &p.out)
			}
			p.ledger()
			load.open(p.gateway)
			wait(time.Duration(chance.IntN(400)) * time.Millisecond)
			if chance.IntN(10) == 0 {
				wait(6 * time.Second) // the journal is written every five
			}
		} else {
			wait(time.Duration(chance.IntN(80)) * time.Millisecond)
		}
		if chance.IntN(4) == 0 {
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			wait(time.Duration(chance.IntN(50)) * time.Millisecond)
		}
		p.kill()
		load.shut()
	}
	p := start(t, dir, dedupOn)
	load.open(p.gateway)
	events := load.finish()
	l := p.settle()
	p.stop()
	answered := answeredOf(events)
	t.Logf("%d events answered of %d sent; %+v", answered, len(events), l)
	if answered < crashes*10 {
		t.Errorf("only %d events were answered: this proves little", answered)
	}
	rows := warehouse(t, dir)
	for _, fault := range faultsOf(events, rows) {
		t.Error(fault)
	}
	// The warehouse has a row for each id that is on the stream.
	if l.Stored != uint64(len(rows)) {
		t.Errorf("%d events are stored under %d ids", l.Stored, len(rows))
	}
	if l.Duplicates == 0 {
		t.Error("nothing was sent again: this proves little")
	}
}

// A dead letter that is replayed to the stream is meant to be routed again, to
// every destination; one of the quarantine was never stored.
func TestReplaysAreNoDuplicates(t *testing.T) {
	t.Parallel()
	var repaired atomic.Bool
	h := newHook(t, func(name string, _ int) int {
		if name == "bad" && !repaired.Load() {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	docs := withHook(h.server.URL, `{"base_delay":"10ms","max_delay":"50ms"}`)
	docs.keys = strings.Replace(docs.keys, `"kind":"write"`, `"kind":"write","events":["bad","good"]`, 1)
	p := start(t, dataFolder(t, docs), dedupOn)
	if a := p.post(`[{"id":"1","name":"bad"},{"id":"2","name":"good"},{"id":"3","name":"other"}]`); a.status != http.StatusMultiStatus || a.Accepted != 2 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if l := p.settle(); l.Destinations["hook"].Dead != 1 {
		t.Fatalf("%+v", l)
	}
	repaired.Store(true)
	if out := p.must("dlq", "replay", "hook", "--to", "stream"); !strings.Contains(out, "1 replayed") {
		t.Errorf("it said %s", out)
	}
	l := p.await("the replayed event to arrive", func(l ledger) bool { return l.Destinations["hook"].Delivered == 2 })
	if l.Stored != 3 || l.Duplicates != 0 || len(h.of("1")) != 2 {
		t.Errorf("%+v; the hook got it %d times", l, len(h.of("1")))
	}

	// The key may send it now.
	if err := os.WriteFile(filepath.Join(p.dir, "keys.json"), []byte(everythingToWarehouse.keys), 0o600); err != nil {
		t.Fatal(err)
	}
	p.until("the new keys to be in force", func() bool {
		return p.post(`{"id":"probe","name":"other"}`).status == http.StatusAccepted
	})
	out, _, _ := p.run("quarantine", "replay", "--event", "other")
	if !strings.Contains(out, "replayed") {
		t.Errorf("it said %s", out)
	}
	p.await("the readmitted event to arrive", func(ledger) bool { return len(h.of("3")) == 1 })
	// Its sender tries once more.
	if a := p.post(`{"id":"3","name":"other"}`); a.status != http.StatusAccepted || !strings.Contains(a.body, `"duplicates":1`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	p.settle()
	p.stop()
}

// Many requests with the same events at one time, as of a sender that has lost
// its patience.
func TestTheSameEventsAtTheSameTimeAreStoredOnce(t *testing.T) {
	t.Parallel()
	p := start(t, dataFolder(t, everythingToWarehouse), dedupOn)
	const senders, rounds = 8, 20
	var group sync.WaitGroup
	for range senders {
		group.Go(func() {
			for n := range rounds {
				if a := p.post(orders(n*10, n*10+20)); a.status != http.StatusAccepted || a.Accepted != 20 {
					t.Errorf("%d %s", a.status, a.body)
				}
			}
		})
	}
	group.Wait()
	l := p.settle()
	if want := uint64(rounds*10 + 10); l.Stored != want || l.Accepted != senders*rounds*20 {
		t.Errorf("%+v, want %d stored", l, want)
	}
	p.stop()
}

// Before Kinesis a clean restart forgets nothing, and a crash what came in the
// last seconds.
func TestDeduplicationBeforeKinesis(t *testing.T) {
	t.Parallel()
	server := newKinesis(t)
	dir := dataFolder(t, everythingToWarehouse)
	p := gateway(t, dir, server, dedupOn)
	p.order(0, 50, 0)
	p.order(0, 60, 50)
	if l := p.ledger(); l.Stored != 60 || l.Duplicates != 50 {
		t.Errorf("%+v", l)
	}
	p.stop()
	p = gateway(t, dir, server, dedupOn)
	journal := func() (size int64) {
		files, _ := filepath.Glob(filepath.Join(dir, "dedup", "*.ids"))
		for _, name := range files {
			if info, err := os.Stat(name); err == nil {
				size += info.Size()
			}
		}
		return size
	}
	before := journal()
	p.order(0, 70, 60)
	p.until("the journal to be written", func() bool { return journal() >= before+10*16 })
	p.kill()
	p = gateway(t, dir, server, dedupOn)
	p.order(0, 70, 70)
	if text := p.text("/metrics"); !strings.Contains(text, "sluice_dedup_window_seconds 0\n") && !strings.Contains(text, "sluice_dedup_window_seconds 1\n") {
		t.Error("after a crash it claims to know the past")
	}

	// In the spool they are durable too, and the answer says where they are.
	server.Stop()
	if a := p.post(orders(100, 101)); a.status != http.StatusAccepted || !strings.Contains(a.body, `"ack":"spool"`) {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := p.post(orders(100, 101)); a.status != http.StatusAccepted || !strings.Contains(a.body, `"duplicates":1`) || !strings.Contains(a.body, `"ack":"spool"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	p.await("the spool to be empty", func(l ledger) bool { return l.Spooled == 0 })
	p.stop()
	if rows := streamed(t, server, true); len(rows) != 71 {
		t.Errorf("%d events are on the stream, want 71", len(rows))
	}
}
