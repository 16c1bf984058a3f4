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
	"github.com/eventsluice/sluice/internal/connector/warehouse/warehousetest"
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
	rows     map[string]bool   // ids in the table
	order    []string          // in which they came there
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
		if strings.HasPrefix(row.ID, refusedPrefix) {
			return says("ERROR: Load into table 'x' failed.  Check 'sys_load_error_detail' system table for details.")
		}
		ids = append(ids, row.ID)
	}
	inserted := int64(0)
	for _, id := range ids {
		if !r.rows[id] { // the INSERT asks for it
			r.rows[id], inserted = true, inserted+1
			r.order = append(r.order, id)
		}
	}
	r.finished++
	return Outcome{Status: finished, Rows: []int64{-1, -1, int64(len(ids)), inserted, -1}}
}

// refusedPrefix begins the ids of rows that cannot be loaded.
const refusedPrefix = "refused-"

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

// A day of a cluster that is away for an hour; calls are throttled, answers lost,
// loads rolled back, and one row in twenty cannot be loaded. Each event is in the
// table once, in the order of its user, or is such a row.
func TestEnduresADayWithAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &rough{
			random: rand.New(rand.NewPCG(rand.Uint64(), 0)), objects: map[string][]byte{}, batches: map[string]*Outcome{},
			ends: map[string]time.Time{}, ids: map[string]string{}, rows: map[string]bool{},
		}
		set := func(away bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.away = away
		}
		warehousetest.Endure(t, warehousetest.Ordeal{
			Open: func(log *slog.Logger) connector.Connector {
				conn, err := Spec(func(context.Context, Target) (Bucket, Database, error) { return r, r, nil }).New([]byte(good+"}"), connector.Env{Log: log})
				if err != nil {
					t.Fatal(err)
				}
				return conn
			},
			Refuse: func(e *event.Event) { e.ID = refusedPrefix + e.ID },
			Away: func() func() {
				set(true)
				return func() { set(false) }
			},
			Arrived: func() []string { return r.order },
		})
		t.Logf("%d loads of %d are committed; %d files are left", r.finished, len(r.batches), len(r.objects))
	})
}
