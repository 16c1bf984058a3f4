package delivery_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/fault"
)

func (s *scene) pause(reason string) {
	s.t.Helper()
	if err := s.runner.Pause(s.t.Context(), reason); err != nil {
		s.t.Fatalf("pause: %v", err)
	}
}

func (s *scene) resume() {
	s.t.Helper()
	if err := s.runner.Resume(s.t.Context()); err != nil {
		s.t.Fatalf("resume: %v", err)
	}
}

// wantPaused fails the test unless the status says that an operator has paused it.
func (s *scene) wantPaused(reason string) {
	s.t.Helper()
	st := s.runner.Status()
	if st.State != delivery.Paused || !st.PausedByOperator || !strings.HasPrefix(st.Reason, "paused by an operator") ||
		!strings.HasSuffix(st.Reason, reason) || st.Since.IsZero() || !st.Until.IsZero() {
		s.t.Errorf("status %+v", st)
	}
}

func TestAPauseMakesNoCallsAndReadsWithinItsBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.MaxPendingEvents = 100
		s.start()
		s.send("u1/a")
		synctest.Wait()
		s.pause("we move to a new account")
		s.sendMany(1000, 50)
		time.Sleep(24 * time.Hour)
		if n := s.conn.Calls(); n != 1 {
			t.Errorf("%d calls were made in a pause", n-1)
		}
		s.wantCounts(delivery.Counts{Seen: 101, Delivered: 1, Waiting: 100})
		s.wantPaused(": we move to a new account")
		s.resume()
		synctest.Wait()
		s.wantCounts(delivery.Counts{Seen: 1001, Delivered: 1001})
		if st := s.runner.Status(); st.State != delivery.Running || st.PausedByOperator || st.Reason != "" {
			t.Errorf("status %+v", st)
		}
		s.stop()
		s.checkDisk()
	})
}

// Whatever closes and opens the gate, the pause stays: a call in flight that comes
// back well, refused credentials, a wait that is over, somebody who wakes it.
func TestAPauseOutlivesWhateverElseHappens(t *testing.T) {
	t.Parallel()
	for name, res := range map[string]connector.Result{
		"delivered": {Class: connector.Delivered},
		"throttled": {Class: connector.Throttled, RetryAfter: time.Minute},
		"refused":   {Class: connector.Auth},
		"failed":    {Class: connector.Retryable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				s.conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
					time.Sleep(10 * time.Second)
					return connector.All(len(events), res)
				})
				s.sendMany(50, 50)
				s.start()
				time.Sleep(5 * time.Second)
				s.pause("")
				s.wantPaused("paused by an operator")
				time.Sleep(10 * time.Second)
				began := s.conn.Calls() // those in flight have come back
				if began != 8 {
					t.Errorf("%d calls, want the 8 that were in flight", began)
				}
				for range 10 {
					s.runner.Wake()
					time.Sleep(time.Hour)
				}
				if n := s.conn.Calls(); n != began {
					t.Errorf("%d calls in the pause", n-began)
				}
				s.wantPaused("paused by an operator")
				s.conn.Answer(nil)
				s.resume()
				time.Sleep(2 * time.Hour)
				s.wantCounts(delivery.Counts{Seen: 50, Delivered: 50})
				s.stop()
				s.checkDisk()
			})
		})
	}
}

// A destination that is in trouble has a probe on its way now and then; a pause
// ends that too, and resume tries at once.
func TestAPauseEndsProbesAndResumeWakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.conn.Answer(always(connector.Result{Class: connector.Retryable}))
		s.sendMany(20, 20)
		s.start()
		time.Sleep(time.Hour)
		s.pause("broken")
		calls := s.conn.Calls()
		time.Sleep(time.Hour)
		if n := s.conn.Calls(); n != calls {
			t.Errorf("%d probes in the pause", n-calls)
		}
		s.conn.Answer(nil)
		s.resume()
		synctest.Wait()
		if c := s.runner.Counts(); c.Delivered == 0 {
			t.Errorf("nothing was tried at once: %+v", c)
		}
		s.stop()
	})
}

func TestAPauseIsDurable(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*scene){"stop": (*scene).stop, "crash": (*scene).crash} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				s.send("u1/a")
				s.start()
				synctest.Wait()
				s.pause("contract ends")
				end(s)
				s.send("u1/b")
				s.start()
				time.Sleep(time.Hour)
				s.wantPaused("contract ends")
				s.wantOrder("e1")
				if since := s.runner.Status().Since; time.Since(since) < time.Hour {
					t.Errorf("paused since %v, which is when the process began", since)
				}
				s.resume()
				end(s)
				s.start()
				synctest.Wait()
				if st := s.runner.Status(); st.State != delivery.Running {
					t.Errorf("status %+v", st)
				}
				if n := s.conn.Copies("e2"); n == 0 {
					t.Error("the event of the pause has not arrived")
				}
				s.stop()
				s.checkDisk()
			})
		})
	}
}

// A store that fails: Pause returns nil only once the pause is there to stay.
func TestAPauseThatIsNotDurableSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		p := s.disk.Open()
		var fail atomic.Bool
		p.Fail = func(op deliverytest.Op) deliverytest.Outcome {
			if op == deliverytest.SaveState && fail.Load() {
				return deliverytest.NotStored
			}
			return deliverytest.OK
		}
		s.startAs(p)
		synctest.Wait()
		fail.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.runner.Pause(ctx, "now"); err == nil {
			t.Error("a pause that could not be kept is said to be durable")
		}
		s.send("u1/a")
		time.Sleep(time.Minute)
		s.wantPaused("now") // it holds all the same
		if n := s.conn.Calls(); n != 0 {
			t.Errorf("%d calls", n)
		}
		fail.Store(false)
		s.resume()
		synctest.Wait()
		s.wantOrder("e1")
		s.stop()
		if st, _ := s.disk.State(); st.Paused != nil {
			t.Errorf("state %+v", st)
		}
		if err := s.runner.Pause(t.Context(), ""); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("pause of a stopped destination: %v", err)
		}
	})
}

func TestAPauseInAStateIsReadByOthersAndOldStatesHaveNone(t *testing.T) {
	t.Parallel()
	var old delivery.State
	if err := json.Unmarshal([]byte(`{"position":7,"seen":9,"filtered":1,"delivered":8}`), &old); err != nil || old.Paused != nil {
		t.Errorf("%+v, %v", old, err)
	}
	text, err := json.Marshal(old)
	if err != nil || strings.Contains(string(text), "paused") {
		t.Errorf("%s, %v", text, err)
	}
	old.Paused = &delivery.OperatorPause{Since: time.Date(2026, 11, 26, 4, 0, 0, 0, time.UTC), Reason: "so"}
	text, err = json.Marshal(old)
	if want := `"paused":{"reason":"so","since":"2026-11-26T04:00:00Z"}`; err != nil || !strings.Contains(string(text), want) {
		t.Errorf("%s, %v", text, err)
	}
}

// A process that dies at any step of a pause or of its end: what has returned nil
// is so in the next process, and what has not may be either.
func TestACrashAtAnyStepOfAPauseKeepsItsWord(t *testing.T) {
	t.Parallel()
	for _, outcome := range []deliverytest.Outcome{deliverytest.NotStored, deliverytest.LostReply} {
		reached := true
		for k := 1; reached; k++ {
			reached = false
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				p := s.disk.Open()
				var mu sync.Mutex
				ops := 0
				p.Fail = func(deliverytest.Op) deliverytest.Outcome {
					mu.Lock()
					defer mu.Unlock()
					if ops++; ops != k {
						return deliverytest.OK
					}
					reached = true
					p.Kill()
					s.cancel()
					return outcome
				}
				s.startAs(p)
				synctest.Wait()
				s.send("u1/a")
				time.Sleep(time.Second)
				pauseErr := s.runner.Pause(t.Context(), "so")
				s.send("u1/b")
				time.Sleep(time.Second)
				resumeErr := errors.New("not tried")
				if k%2 == 0 && pauseErr == nil { // else the next process has the pause to show
					resumeErr = s.runner.Resume(t.Context())
				}
				s.cancel()
				if err := <-s.ended; err != nil && !p.Killed() {
					t.Errorf("Run: %v", err)
				}
				s.start()
				time.Sleep(time.Second)
				switch st := s.runner.Status(); {
				case resumeErr == nil && st.PausedByOperator:
					t.Errorf("operation %d: paused after it was resumed", k)
				case pauseErr == nil && k%2 == 1 && !st.PausedByOperator:
					t.Errorf("operation %d: not paused any more", k)
				}
				s.resume()
				time.Sleep(time.Second)
				for _, id := range []string{"e1", "e2"} {
					if s.conn.Copies(id) == 0 {
						t.Errorf("operation %d: %s has not arrived", k, id)
					}
				}
				s.stop()
				s.checkDisk()
			})
			if t.Failed() || k > 100 {
				t.Fatalf("operation %d of kind %d", k, outcome)
			}
		}
	}
}
