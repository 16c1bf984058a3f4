package delivery_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
)

// quota takes so many calls per second, with a bucket for one second, and answers
// in 20 ms.
type quota struct {
	perSecond float64

	mu               sync.Mutex
	tokens           float64
	last             time.Time
	calls, throttled int
}

func (q *quota) answer(_ context.Context, events []connector.Delivery) []connector.Result {
	time.Sleep(20 * time.Millisecond)
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.tokens = min(q.perSecond, q.tokens+q.perSecond*now.Sub(q.last).Seconds())
	q.last = now
	q.calls++
	if q.tokens >= 1 {
		q.tokens--
		return results(len(events), connector.Delivered)
	}
	q.throttled++
	return connector.All(len(events), connector.Result{Class: connector.Throttled, Status: 429})
}

func (q *quota) count() (calls, throttled int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.calls, q.throttled
}

// A destination with a quota that says nothing of how long to wait: the runner
// finds the quota, uses most of it, and is seldom throttled.
func TestASmallQuotaIsFoundAndHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		q := &quota{perSecond: 10, tokens: 10, last: time.Now()}
		s.conn.Answer(q.answer)
		s.sendMany(6_000, 6_000)
		s.start()
		time.Sleep(2 * time.Minute) // to find it
		found, foundThrottled := q.count()
		time.Sleep(5 * time.Minute)
		calls, throttled := q.count()
		calls, throttled = calls-found, throttled-foundThrottled
		t.Logf("to find it: %d of %d calls throttled; then %d of %d", foundThrottled, found, throttled, calls)
		if throttled*100 > calls*3 || calls < 300*6 {
			t.Errorf("%d of %d calls in five minutes were throttled, at a quota of 3000", throttled, calls)
		}
		b := s.runner.Status().Budget
		// The quota lets ten more through at once, so that the budget may be above it
		// for some seconds before it is cut.
		if b.CallsPerSecond < 4 || b.CallsPerSecond > 20 || b.ThrottledCalls != uint64(foundThrottled+throttled) || b.MaxCalls != 8 || b.CutAt.IsZero() {
			t.Errorf("budget %+v", b)
		}
		time.Sleep(15 * time.Minute)
		s.wantCounts(delivery.Counts{Seen: 6_000, Delivered: 6_000})
		s.stop()
		s.checkDisk()
	})
}

// One event of a call that is throttled slows the destination, and takes none of
// the others with it; only its own key waits.
func TestOneThrottledEventOfACallSlowsTheDestinationAndFailsNoOther(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{"without a wait": 0, "with a wait": 30 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				s.cfg.Concurrency, s.conn.Bounds.MaxEvents = 1, 10
				s.cfg.Rate = rate.Limit(100)
				s.conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
					rs := results(len(events), connector.Delivered)
					for i, e := range events {
						if e.Event.Name == "heavy" && e.Attempt == 1 {
							rs[i] = connector.Result{Class: connector.Throttled, RetryAfter: after}
						}
					}
					return rs
				})
				s.stream.Append(batch("u1/light", "u2/heavy", "u3/light")...)
				s.start()
				synctest.Wait()
				s.wantOrder("b1", "b3")
				s.wantCounts(delivery.Counts{Seen: 3, Delivered: 2, Retrying: 1})
				st := s.runner.Status()
				if b := st.Budget; b.EventsPerSecond > 50 || b.MaxEventsPerSecond != 100 || b.ThrottledCalls != 1 {
					t.Errorf("budget %+v", b)
				}
				if paused := st.State == delivery.Paused; paused != (after > 0) {
					t.Errorf("state %s", st.State)
				}
				time.Sleep(40 * time.Second)
				s.wantOrder("b1", "b3", "b2")
				s.stop()
				s.checkDisk()
			})
		})
	}
}

// After the wait that a destination asked for, it is not met with all at once.
func TestAfterAWaitTheDestinationIsTakenUpSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		var mu sync.Mutex
		var made []time.Time
		back := time.Now().Add(time.Minute)
		s.conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
			mu.Lock()
			defer mu.Unlock()
			made = append(made, time.Now())
			if wait := time.Until(back); wait > 0 {
				return connector.All(len(events), connector.Result{Class: connector.Throttled, RetryAfter: wait})
			}
			return results(len(events), connector.Delivered)
		})
		s.sendMany(500, 500)
		s.start()
		time.Sleep(time.Minute + 10*time.Second) // up to a tenth is added to the wait
		mu.Lock()
		after := slices.IndexFunc(made, func(at time.Time) bool { return !at.Before(back) })
		first := len(made) - after
		mu.Unlock()
		if after > 8 || first < 1 || first > 60 {
			t.Errorf("%d calls in the wait, %d in the seconds after it", after, first)
		}
		time.Sleep(5 * time.Minute)
		s.wantCounts(delivery.Counts{Seen: 500, Delivered: 500})
		s.stop()
	})
}
