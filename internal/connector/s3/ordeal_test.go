package s3

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/connector/guard"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
)

// rough is a memory that throttles, loses answers, and is away for a while.
type rough struct {
	memory
	mu     sync.Mutex
	random *rand.Rand
	away   bool
}

func (r *rough) fails(share float64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.random.Float64() < share
}

func (r *rough) isAway() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away
}

func (r *rough) setAway(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
}

func (r *rough) Put(ctx context.Context, key string, body []byte, contentType string) error {
	switch {
	case r.isAway() && r.fails(0.9):
		return kind(fault.Unavailable)
	case r.isAway():
		return kind(fault.Ambiguous)
	case r.fails(0.05):
		return kind(fault.Throttled)
	}
	err := r.memory.Put(ctx, key, body, contentType)
	if err == nil && r.fails(0.05) {
		return kind(fault.Ambiguous)
	}
	return err
}

func (r *rough) Has(ctx context.Context, key string, body []byte) (bool, error) {
	if r.isAway() || r.fails(0.5) {
		return false, kind(fault.Ambiguous)
	}
	return r.memory.Has(ctx, key, body)
}

// A day of a bucket: 10,000 events in two hours, one of which it is away. No
// event is lost, and where the operator wants no copies there are none.
func TestADayWithAnOutageLosesNothing(t *testing.T) {
	t.Parallel()
	for _, ambiguous := range []guard.Ambiguous{guard.AmbiguousDead, guard.AmbiguousRetry} {
		t.Run(string(ambiguous), func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			synctest.Test(t, func(t *testing.T) { ordeal(t, seed, ambiguous) })
		})
	}
}

func ordeal(t *testing.T, seed uint64, ambiguous guard.Ambiguous) {
	const n = 10_000
	r := &rough{random: rand.New(rand.NewPCG(seed, 0))}
	conn := open(t, r, `{"bucket":"lake","max_events":500}`)
	stream, disk := &deliverytest.Stream{}, &deliverytest.Store{}
	runner, err := delivery.New(stream, disk.Open(), conn, func() delivery.Route { return deliverytest.Route{} },
		delivery.Config{Destination: "lake", Ambiguous: ambiguous}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	time.AfterFunc(30*time.Minute, func() { r.setAway(true) })
	time.AfterFunc(90*time.Minute, func() { r.setAway(false) })
	for sent := 0; sent < n; sent += 50 {
		batch := make([][]byte, 50)
		for i := range batch {
			now := time.Now().UTC().Format(time.RFC3339Nano)
			e := event.Event{ID: fmt.Sprint(sent + i), Type: "track", Name: "order", UserID: fmt.Sprint(i % 7), Timestamp: now, ReceivedAt: now}
			batch[i] = e.Append(nil)
		}
		stream.Append(batch...)
		time.Sleep(2 * time.Hour * 50 / n)
	}
	for limit := time.Now().Add(24 * time.Hour); ; time.Sleep(time.Minute) {
		if c := runner.Counts(); c.Seen == n && c.Retrying+c.Waiting == 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("a day later: %+v", runner.Counts())
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	copies := map[string]int{}
	for key := range r.objects {
		for line := range strings.SplitSeq(strings.TrimSuffix(lines(t, r.objects[key]), "\n"), "\n") {
			var e struct{ ID string }
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			copies[e.ID]++
		}
	}
	doubts := map[string]bool{}
	_, dead := disk.Letters()
	for _, l := range dead {
		if l.Class != "ambiguous" {
			t.Errorf("a dead letter of class %s: %s", l.Class, l.Message)
		}
		doubts[l.EventID] = true
	}
	twice := 0
	for i := range n {
		id := fmt.Sprint(i)
		if copies[id] == 0 && !doubts[id] {
			t.Errorf("event %s is lost", id)
		}
		if copies[id] > 1 {
			twice++
		}
	}
	if ambiguous == guard.AmbiguousDead && twice > 0 || ambiguous == guard.AmbiguousRetry && len(doubts) > 0 {
		t.Errorf("%d events are there twice, %d are in doubt", twice, len(doubts))
	}
	t.Logf("%d files; %d events are there twice, %d are in doubt", len(r.objects), twice, len(doubts))
}
