package redshift

import (
	"bytes"
	"compress/gzip"
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

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
)

// rough is a Redshift that does what a load says, with a share of trouble.
type rough struct {
	random *rand.Rand

	mu       sync.Mutex
	away     bool
	objects  map[string][]byte
	batches  map[string]*Outcome // by id
	ends     map[string]time.Time
	ids      map[string]string // of batches, by token
	rows     map[string]int    // copies of each event in the table
	finished int
}

func (r *rough) fails(share float64) bool { return r.random.Float64() < share }

func (r *rough) Put(_ context.Context, key string, body []byte, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return kind(fault.Unavailable)
	}
	r.objects[key] = body
	if r.fails(0.02) {
		return kind(fault.Ambiguous)
	}
	return nil
}

func (r *rough) Delete(_ context.Context, key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.objects, key)
	return nil
}

func (r *rough) Check(context.Context, string) error { return nil }

func (r *rough) Begin(_ context.Context, token string, statements []string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.away:
		return "", kind(fault.Unavailable)
	case r.fails(0.05):
		return "", kind(fault.Throttled)
	}
	id, ok := r.ids[token]
	if !ok {
		id = fmt.Sprint(len(r.ids))
		r.ids[token] = id
		outcome := r.load(statements)
		r.batches[id], r.ends[id] = &outcome, time.Now().Add(time.Duration(r.random.IntN(4000))*time.Millisecond)
	}
	if r.fails(0.3) {
		return "", kind(fault.Ambiguous)
	}
	return id, nil
}

// load does what the statements of a load say.
func (r *rough) load(statements []string) Outcome {
	_, rest, _ := strings.Cut(statements[2], "'s3://lake/")
	key, _, _ := strings.Cut(rest, "'")
	if _, ok := r.objects[key]; !ok {
		return says("ERROR: The specified S3 prefix '" + key + "' does not exist")
	}
	switch luck := r.random.Float64(); {
	case luck < 0.02:
		return says("ERROR: 1023 DETAIL: Serializable isolation violation on table - 1")
	case luck < 0.04:
		return Outcome{Status: aborted}
	}
	var ids []string
	unzipped, err := gzip.NewReader(bytes.NewReader(r.objects[key]))
	if err != nil {
		return says(err.Error())
	}
	for d := json.NewDecoder(unzipped); d.More(); {
		var row struct{ ID string }
		if err := d.Decode(&row); err != nil {
			return says(err.Error())
		}
		if refused(row.ID) {
			return says("ERROR: Load into table 'x' failed.  Check 'sys_load_error_detail' system table for details.")
		}
		ids = append(ids, row.ID)
	}
	inserted := int64(0)
	for _, id := range ids {
		if r.rows[id] == 0 { // the INSERT asks for it
			r.rows[id], inserted = 1, inserted+1
		}
	}
	r.finished++
	return Outcome{Status: finished, Rows: []int64{-1, -1, int64(len(ids)), inserted, -1}}
}

// refused says which rows cannot be loaded: one in a hundred.
func refused(id string) bool { return strings.HasSuffix(id, "77") }

func (r *rough) Outcome(_ context.Context, id string) (Outcome, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.away || r.fails(0.1):
		return Outcome{}, kind(fault.Ambiguous)
	case time.Now().Before(r.ends[id]):
		return started, nil
	}
	return *r.batches[id], nil
}

func (r *rough) Cancel(context.Context, string) error { return nil }

// A day of a cluster: 10,000 events in two hours, one of which it is away; calls
// are throttled, answers lost, loads rolled back, and one row in a hundred cannot
// be loaded. Each event is in the table once, or is such a row.
func TestADayWithAnOutageLoadsEachEventOnce(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) { ordeal(t, seed) })
}

func ordeal(t *testing.T, seed uint64) {
	const n = 10_000
	r := &rough{
		random: rand.New(rand.NewPCG(seed, 0)), objects: map[string][]byte{}, batches: map[string]*Outcome{},
		ends: map[string]time.Time{}, ids: map[string]string{}, rows: map[string]int{},
	}
	conn, err := Spec(func(context.Context, Target) (Bucket, Database, error) { return r, r, nil }).New([]byte(good+"}"), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	stream, disk := &deliverytest.Stream{}, &deliverytest.Store{}
	runner, err := delivery.New(stream, disk.Open(), conn, func() delivery.Route { return deliverytest.Route{} },
		delivery.Config{Destination: "dwh"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	set := func(away bool) func() {
		return func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.away = away
		}
	}
	time.AfterFunc(30*time.Minute, set(true))
	time.AfterFunc(90*time.Minute, set(false))
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
			t.Fatalf("a day later: %+v, %+v", runner.Counts(), runner.Status())
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	letters := map[string]string{}
	_, dead := disk.Letters()
	for _, l := range dead {
		letters[l.EventID] = l.Class
	}
	for i := range n {
		id := fmt.Sprint(i)
		want := map[bool]string{true: "permanent"}[refused(id)]
		if (r.rows[id] == 1) == refused(id) || letters[id] != want {
			t.Errorf("event %s: %d rows, dead letter %q", id, r.rows[id], letters[id])
		}
	}
	t.Logf("%d loads of %d are committed; %d files are left; %d dead letters", r.finished, len(r.batches), len(r.objects), len(dead))
}
