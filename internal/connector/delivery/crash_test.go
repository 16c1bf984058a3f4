package delivery_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/retry"
)

// moody is a destination that treats an event by its name: "good" arrives,
// "flaky" fails twice before it does, "bad" is refused until it is mended,
// "doomed" always fails.
type moody struct {
	mu     sync.Mutex
	failed map[string]int
	mended bool
}

func (m *moody) answer(_ context.Context, events []connector.Delivery) []connector.Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	rs := results(len(events), connector.Delivered)
	failed := map[string]bool{} // keys: a key stops at its first failure
	for i, e := range events {
		key := e.Event.PartitionKey()
		switch {
		case failed[key]:
			rs[i].Class = connector.Retryable
		case e.Event.Name == "flaky" && m.failed[e.Event.ID] < 2:
			m.failed[e.Event.ID]++
			rs[i].Class, failed[key] = connector.Retryable, true
		case e.Event.Name == "bad" && !m.mended:
			rs[i].Class = connector.Permanent
		case e.Event.Name == "doomed":
			rs[i].Class, failed[key] = connector.Ambiguous, true
		}
	}
	return rs
}

func (m *moody) mend() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mended = true
}

var crashEvents = []string{
	"u1/good", "u2/flaky", "u1/doomed", "u3/bad", "u2/good", "u1/good", "u4/flaky", "u4/flaky", "u4/good", "u3/good", "u5/noise", "u2/bad", "u2/good",
}

// story is everything that can happen to events, up to the last of them. Each
// step may find itself in a process that is new.
func story(s *scene, m *moody) {
	ctx := s.t.Context()
	s.send(crashEvents[:7]...)
	time.Sleep(10 * time.Second)
	s.send(crashEvents[7:]...)
	time.Sleep(time.Minute)
	m.mend()
	if s.process.Killed() {
		s.restart()
		time.Sleep(time.Minute)
	}
	again := func(step func() error) {
		for step() != nil {
			s.restart()
			time.Sleep(time.Minute)
		}
	}
	again(func() error {
		_, err := s.runner.Replay(ctx, deadletter.Order{Filter: deadletter.Filter{EventName: "ba*"}}, nil, nil)
		return err
	})
	time.Sleep(time.Minute)
	if s.process.Killed() {
		s.restart()
		time.Sleep(time.Minute)
	}
	again(func() error {
		_, err := s.runner.Purge(ctx, deadletter.Order{Filter: deadletter.Filter{EventName: "doomed"}}, nil)
		return err
	})
	time.Sleep(time.Second)
	s.cancel()
	if err := <-s.ended; err != nil && !s.process.Killed() {
		s.t.Errorf("Run: %v", err)
	}
}

// restart begins a new process after a crash.
func (s *scene) restart() {
	s.cancel()
	<-s.ended
	s.checkRecoverable()
	s.start()
	synctest.Wait()
	s.checkRecoverable()
	if st := s.runner.Status(); st.Residual != 0 {
		s.t.Errorf("the account has a residual of %d after recovery", st.Residual)
	}
}

// checkRecoverable fails the test if an event up to the position is in no
// queue, not settled, and not accounted for.
func (s *scene) checkRecoverable() {
	s.t.Helper()
	st, ok := s.disk.State()
	if !ok {
		return
	}
	parked, dead := s.disk.Letters()
	ids := map[string]bool{}
	for _, l := range parked {
		if l.Position <= st.Position && !slices.Contains(st.Settled.Parked, l.ID) {
			ids[l.ID] = true
		}
	}
	for _, l := range dead {
		if l.Position <= st.Position && !slices.Contains(st.Settled.Dead, l.ID) {
			ids[l.ID] = true // in both queues is one event
		}
	}
	if st.Seen != st.Skipped+st.Filtered+st.Delivered+st.Purged+st.Replayed+uint64(len(ids)) {
		s.t.Errorf("after the crash the State does not add up with the letters %v: %+v", ids, st)
	}
}

func TestACrashAtAnyStepLosesNothingAndCountsNothingTwice(t *testing.T) {
	t.Parallel()
	kinds := []struct {
		name    string
		outcome deliverytest.Outcome
		kill    bool
	}{
		{"the write failed", deliverytest.NotStored, false},
		{"the reply was lost", deliverytest.LostReply, false},
		{"killed before the write", deliverytest.NotStored, true},
		{"killed after the write", deliverytest.LostReply, true},
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			for k, reached := 1, true; reached; k++ {
				reached = false
				synctest.Test(t, func(t *testing.T) {
					s := newScene(t)
					s.cfg.Concurrency = 2
					s.cfg.Retry = retry.Policy{MaxAttempts: 4, BaseDelay: 100 * time.Millisecond, MaxDelay: time.Second}
					s.conn.Bounds.MaxEvents = 3
					s.route = deliverytest.Route{Wants: func(name string) bool { return name != "noise" }}
					m := &moody{failed: map[string]int{}}
					s.conn.Answer(func(ctx context.Context, events []connector.Delivery) []connector.Result {
						return m.answer(ctx, events)
					})
					p := s.disk.Open()
					var mu sync.Mutex
					var ops []deliverytest.Op
					p.Fail = func(op deliverytest.Op) deliverytest.Outcome {
						mu.Lock()
						defer mu.Unlock()
						ops = append(ops, op)
						if len(ops) != k {
							return deliverytest.OK
						}
						reached = true
						if kind.kill {
							p.Kill()
							s.cancel()
						}
						return kind.outcome
					}
					s.startAs(p)
					story(s, m)
					s.checkStory()
					if t.Failed() {
						mu.Lock()
						t.Logf("operation %d of %v", k, ops[:min(k, len(ops))])
						mu.Unlock()
					}
				})
				if t.Failed() {
					return
				}
				if k > 1000 {
					t.Fatal("the story does not end")
				}
			}
		})
	}
}

// checkStory looks at how the story has ended.
func (s *scene) checkStory() {
	s.t.Helper()
	s.checkDisk()
	st, _ := s.disk.State()
	n := uint64(len(crashEvents))
	want := delivery.State{Position: n, Seen: n, Filtered: 1, Purged: 1, Delivered: n - 2}
	st.Settled.Parked, st.Settled.Dead = nil, nil
	if fmt.Sprint(st) != fmt.Sprint(want) {
		s.t.Errorf("state\n got %+v\nwant %+v", st, want)
	}
	order := s.conn.Order()
	last := map[string]int{}
	for i, e := range crashEvents {
		user, name, _ := strings.Cut(e, "/")
		first := slices.Index(order, fmt.Sprintf("e%d", i+1))
		switch name {
		case "noise", "doomed":
			if first >= 0 {
				s.t.Errorf("e%d (%s) was delivered", i+1, e)
			}
			continue
		}
		if first < 0 {
			s.t.Errorf("e%d (%s) was not delivered", i+1, e)
		}
		if name == "bad" { // it was dead in between
			continue
		}
		if first < last[user] {
			s.t.Errorf("e%d (%s) overtook another of its key: %v", i+1, e, order)
		}
		last[user] = first
	}
}
