package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// crashes is how often the process is killed.
const crashes = 36

// sentEvent is what its sender knows of an event.
type sentEvent struct {
	id, key string
	// sent is when it was first sent, answered when it was answered 2xx (zero:
	// never), both since the start of the test.
	sent, answered time.Duration
}

// TestNothingAnsweredIsLostByACrash posts from several connections, kills the
// process at random moments, starts it again on the same folder, and wants
// every event that was answered 2xx in the warehouse once, those of a
// partition key in the order of their answers, and the ledger without residual
// after each start.
func TestNothingAnsweredIsLostByACrash(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	chance := rand.New(rand.NewPCG(seed, 0))

	hook := newHook(t, nil)
	docs := everythingToWarehouse
	docs.rules = `[{"destination_name":"warehouse","enabled_events":["*"]},
		{"destination_name":"hook","enabled_events":["hooked"]}]`
	docs.destinations = `[{"destination_name":"warehouse","connector":"sqlite"},
		{"destination_name":"hook","connector":"webhook","settings":{"url":"` + hook.server.URL + `","allow_private":true},
		 "retry":{"base_delay":"10ms","max_delay":"100ms","max_attempts":1000}}]`
	dir := dataFolder(t, docs)

	load := newCrashLoad(seed)
	load.start(6)
	for round := range crashes {
		p := launch(t, dir)
		// One in four dies while it starts, the others at work.
		if chance.IntN(4) > 0 {
			if !p.waitReady() {
				t.Fatalf("round %d: sluice did not start again: %v\n%s", round, p.err, &p.out)
			}
			p.ledger()
			load.open(p.gateway)
			wait(time.Duration(chance.IntN(250)) * time.Millisecond)
		} else {
			wait(time.Duration(chance.IntN(80)) * time.Millisecond)
		}
		// And some while they stop.
		if chance.IntN(5) == 0 {
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			wait(time.Duration(chance.IntN(30)) * time.Millisecond)
		}
		p.kill()
		load.shut()
	}
	p := start(t, dir)
	load.open(p.gateway)
	events := load.finish()
	l := p.settle()
	p.stop()

	answered := answeredOf(events)
	t.Logf("%d events answered of %d sent; %+v", answered, len(events), l)
	if answered < crashes*10 {
		t.Errorf("only %d events were answered: this proves little", answered)
	}
	if l.Stored < uint64(answered) {
		t.Errorf("%d events were answered and %d are stored", answered, l.Stored)
	}
	faults := faultsOf(events, warehouse(t, dir))
	for _, e := range events {
		if e.answered > 0 && isHooked(e.id) && len(hook.of(e.id)) == 0 {
			faults = append(faults, e.id+" was answered and never reached the webhook")
		}
	}
	for _, fault := range faults[:min(20, len(faults))] {
		t.Error(fault)
	}
	if len(faults) > 20 {
		t.Errorf("and %d faults more", len(faults)-20)
	}
}

// answeredOf returns how many of the events were answered 2xx.
func answeredOf(events []sentEvent) (n int) {
	for _, e := range events {
		if e.answered > 0 {
			n++
		}
	}
	return n
}

// seedOf returns the seed of a test, and says how to use it again.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SLUICE_E2E_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SLUICE_E2E_SEED=%d", seed)
	return seed
}

// faultsOf returns what is wrong with rows: every answered event is wanted once,
// and those of a key in an order that their answers allow: if one was answered
// before another was sent, it stands before it.
func faultsOf(events []sentEvent, rows []row) []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	byID := make(map[string]sentEvent, len(events))
	for _, e := range events {
		byID[e.id] = e
	}
	seen := map[string]bool{}
	latest := map[string]sentEvent{} // by key: the one sent last of those passed
	for _, r := range rows {
		e, known := byID[r.id]
		switch {
		case !known:
			fault("%s is in the warehouse and nobody sent it", r.id)
			continue
		case seen[r.id]:
			fault("%s is in the warehouse twice", r.id)
		case r.userID != e.key:
			fault("%s is in the warehouse for user %q and was sent for %q", r.id, r.userID, e.key)
		}
		seen[r.id] = true
		before, any := latest[e.key]
		if any && e.answered > 0 && e.answered < before.sent {
			fault("%s stands after %s, which was sent %v after its answer", e.id, before.id, before.sent-e.answered)
		}
		if !any || e.sent > before.sent {
			latest[e.key] = e
		}
	}
	for _, e := range events {
		if e.answered > 0 && !seen[e.id] {
			fault("%s was answered 2xx at %v and is lost", e.id, e.answered)
		}
	}
	return faults
}

// crashLoad sends events while there is a gateway to send to.
type crashLoad struct {
	seed    uint64
	began   time.Time
	pause   time.Duration          // between the requests of a sender, at most
	again   bool                   // also sends again what was answered
	gateway atomic.Pointer[string] // nil: none is up
	over    atomic.Bool
	senders sync.WaitGroup

	mu     sync.Mutex
	events []sentEvent
}

func newCrashLoad(seed uint64) *crashLoad {
	return &crashLoad{seed: seed, began: time.Now(), pause: 3 * time.Millisecond}
}

func (l *crashLoad) open(gateway string) { l.gateway.Store(&gateway) }
func (l *crashLoad) shut()               { l.gateway.Store(nil) }

func (l *crashLoad) start(senders int) {
	for i := range senders {
		l.senders.Go(func() { l.send(i) })
	}
}

// finish lets every sender have one more request answered and returns all that
// was sent.
func (l *crashLoad) finish() []sentEvent {
	l.over.Store(true)
	l.senders.Wait()
	return l.events
}

// send is one connection. It sends singles and batches, for users of its own
// and for users that all share, and sends a request that got no answer again,
// or gives it up.
func (l *crashLoad) send(sender int) {
	chance := rand.New(rand.NewPCG(l.seed, uint64(sender)+1))
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	sequence := 0
	for {
		last := l.over.Load()
		request := make([]sentEvent, 1)
		if chance.IntN(3) == 0 {
			request = make([]sentEvent, 2+chance.IntN(30))
		}
		for i := range request {
			sequence++
			request[i].id = fmt.Sprintf("s%d-%06d", sender, sequence)
			request[i].key = fmt.Sprintf("user-%d-%d", sender, chance.IntN(3))
			if chance.IntN(4) == 0 {
				request[i].key = fmt.Sprintf("shared-%d", chance.IntN(2))
			}
		}
		body := encode(request)
		for tries := 0; ; tries++ {
			gateway := l.gateway.Load()
			for ; gateway == nil; gateway = l.gateway.Load() {
				wait(time.Millisecond)
			}
			now := time.Since(l.began)
			for i := range request {
				if request[i].sent == 0 {
					request[i].sent = now
				}
			}
			if post(client, *gateway, body) {
				now := time.Since(l.began)
				for i := range request {
					request[i].answered = now
				}
				if !l.again || last || chance.IntN(3) > 0 {
					break
				}
				wait(time.Duration(chance.IntN(100)) * time.Millisecond)
				continue
			}
			if !last && chance.IntN(3) == 0 {
				break
			}
		}
		l.mu.Lock()
		l.events = append(l.events, request...)
		l.mu.Unlock()
		if last {
			return
		}
		wait(time.Duration(chance.Int64N(int64(l.pause))))
	}
}

// isHooked says which events the webhook wants too: about one in eight.
func isHooked(id string) bool { return id[len(id)-1] == '7' }

func encode(request []sentEvent) []byte {
	type event struct {
		ID     string         `json:"id"`
		Name   string         `json:"name"`
		UserID string         `json:"user_id"`
		Data   map[string]any `json:"data"`
	}
	var all []event
	for i, e := range request {
		name := "crashed"
		if isHooked(e.id) {
			name = "hooked"
		}
		all = append(all, event{ID: e.id, Name: name, UserID: e.key, Data: map[string]any{"sequence": e.id, "index": i}})
	}
	var body []byte
	var err error
	if len(all) == 1 {
		body, err = json.Marshal(all[0])
	} else {
		body, err = json.Marshal(all)
	}
	if err != nil {
		panic(err)
	}
	return body
}

// post reports whether the gateway answered that everything is stored.
func post(client *http.Client, gateway string, body []byte) bool {
	req, err := http.NewRequest(http.MethodPost, gateway+"/v1/events", bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+writeKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	// The status line is the promise; an answer cut off after it still counts.
	_ = err
	return resp.StatusCode == http.StatusAccepted
}

func wait(d time.Duration) { <-time.After(d) }

func TestTheCheckOfTheWarehouseFindsWhatItIsFor(t *testing.T) {
	t.Parallel()
	events := []sentEvent{
		{id: "a", key: "k", sent: 1, answered: 2},
		{id: "b", key: "k", sent: 3, answered: 4},
		{id: "never answered", key: "k", sent: 5},
	}
	for name, rows := range map[string][]row{
		"order": {{id: "b", userID: "k"}, {id: "a", userID: "k"}},
		"loss":  {{id: "b", userID: "k"}},
		"twice": {{id: "a", userID: "k"}, {id: "b", userID: "k"}, {id: "b", userID: "k"}},
		"alien": {{id: "a", userID: "k"}, {id: "b", userID: "k"}, {id: "c", userID: "k"}},
		"mixed": {{id: "a", userID: "k"}, {id: "b", userID: "l"}},
	} {
		if len(faultsOf(events, rows)) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
	if faults := faultsOf(events, []row{{id: "a", userID: "k"}, {id: "b", userID: "k"}}); len(faults) > 0 {
		t.Error(faults)
	}
}
