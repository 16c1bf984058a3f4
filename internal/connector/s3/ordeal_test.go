package s3

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/guard"
	"github.com/eventsluice/sluice/internal/connector/warehouse/warehousetest"
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

// A day of a bucket that throttles, loses answers and is away for an hour. No event
// is lost, and where the operator wants no copies there are none. Files take every
// event that there can be: none is refused.
func TestEnduresADayWithAnOutage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ambiguous guard.Ambiguous
		format    string
		read      func(*testing.T, []byte) []userEvent
	}{
		{guard.AmbiguousDead, formatParquet, readParquet},
		{guard.AmbiguousRetry, formatNDJSON, readNDJSON},
	} {
		t.Run(string(c.ambiguous), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &rough{random: rand.New(rand.NewPCG(rand.Uint64(), 0))}
				warehousetest.Endure(t, warehousetest.Ordeal{
					Open: func(*slog.Logger) connector.Connector {
						return open(t, r, `{"bucket":"lake","max_events":500,"format":"`+c.format+`","access_key_id":"a","secret_access_key":"secret-of-the-ordeal"}`)
					},
					Ambiguous: c.ambiguous, Unordered: true, Secrets: []string{"secret-of-the-ordeal"},
					Away: func() func() {
						r.setAway(true)
						return func() { r.setAway(false) }
					},
					Arrived: func() (ids []string) {
						for key, body := range r.objects {
							last := map[string]string{} // by user
							for _, e := range c.read(t, body) {
								// Within a file events of a user are in order: so are their times.
								if e.at < last[e.user] {
									t.Errorf("%s: events of %s are not in order", key, e.user)
								}
								ids, last[e.user] = append(ids, e.id), e.at
							}
						}
						return ids
					},
				})
				t.Logf("%d files", len(r.objects))
			})
		})
	}
}

// userEvent is what the ordeal asks of an event in a file; at orders those of a
// user.
type userEvent struct{ id, user, at string }

func readNDJSON(t *testing.T, body []byte) (events []userEvent) {
	for line := range strings.SplitSeq(strings.TrimSuffix(lines(t, body), "\n"), "\n") {
		e, err := event.ParseStored([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339Nano, e.ReceivedAt)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, userEvent{e.ID, e.UserID, fmt.Sprintf("%020d", at.UnixMicro())})
	}
	return events
}

func readParquet(t *testing.T, body []byte) (events []userEvent) {
	rows, err := parquet.Read[row](bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		events = append(events, userEvent{r.ID, r.UserID, fmt.Sprintf("%020d", *r.ReceivedAt)})
	}
	return events
}
