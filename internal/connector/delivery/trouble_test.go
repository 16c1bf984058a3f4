package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/connector/guard"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
)

// always answers every event with a result.
func always(res connector.Result) deliverytest.Answer {
	return func(_ context.Context, events []connector.Delivery) []connector.Result {
		return connector.All(len(events), res)
	}
}

func TestRefusedCredentialsPauseTheDestinationAndCostNoEventAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.Retry.MaxAttempts = 2
		s.conn.Answer(always(connector.Result{Class: connector.Auth, Message: "key revoked"}))
		s.sendMany(20, 20)
		s.start()
		time.Sleep(24 * time.Hour)
		s.wantCounts(delivery.Counts{Seen: 20, Waiting: 20})
		if st := s.runner.Status(); st.State != delivery.Paused || !strings.Contains(st.Reason, "key revoked") {
			t.Errorf("status %+v", st)
		}
		if n := s.conn.Calls(); n < 24*12 || n > 24*60 {
			t.Errorf("%d calls in a day, want one in 2.5 minutes on average", n)
		}
		s.conn.Answer(nil)
		s.runner.Wake()
		synctest.Wait()
		s.wantCounts(delivery.Counts{Seen: 20, Delivered: 20})
		if st := s.runner.Status(); st.State != delivery.Running {
			t.Errorf("state %s after the pause", st.State)
		}
		s.stop()
	})
}

func TestRetryAfterHoldsBackTheWholeDestination(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.Concurrency = 1
		s.conn.Answer(always(connector.Result{Class: connector.Throttled, RetryAfter: time.Minute}))
		s.send("u1/a")
		s.start()
		synctest.Wait()
		s.conn.Answer(nil)
		s.send("u2/b", "u3/c")
		time.Sleep(59 * time.Second)
		if n := s.conn.Calls(); n != 1 {
			t.Errorf("%d calls within the wait that the destination asked for, want 1", n)
		}
		time.Sleep(11 * time.Second) // a tenth is added to the floor, and calls are 2 s apart then
		s.wantCounts(delivery.Counts{Seen: 3, Delivered: 3})
		s.stop()
	})
}

func TestADayOfOutageParksHardlyAnyEventAndKillsNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.MaxPendingEvents = 1000
		s.conn.Bounds.MaxEvents = 50
		s.conn.Answer(always(connector.Result{Class: connector.Retryable, Message: "connection refused"}))
		s.sendMany(5000, 5000)
		s.start()
		time.Sleep(24 * time.Hour)
		c := s.runner.Counts()
		if c.Dead != 0 || c.Retrying > 3000 || c.Waiting > 1000 || c.Seen != c.Retrying+c.Waiting {
			t.Errorf("after a day: %+v", c)
		}
		if n := s.conn.Calls(); n > 24*60*5 {
			t.Errorf("%d calls in a day", n)
		}
		s.conn.Answer(nil)
		time.Sleep(15 * time.Minute) // the longest wait of a parked event is 10 minutes
		s.wantCounts(delivery.Counts{Seen: 5000, Delivered: 5000})
		s.stop()
		s.checkDisk()
	})
}

func TestFewAttemptsEndInDeadLettersSoonAtADestinationThatIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.Retry = retry.Policy{MaxAttempts: 3, BaseDelay: 10 * time.Millisecond}
		s.conn.Answer(always(connector.Result{Class: connector.Retryable, Message: "connection refused"}))
		s.sendMany(300, 30)
		began := time.Now()
		s.start()
		for s.runner.Counts().Dead < 300 && time.Since(began) < time.Hour {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("300 events took %v to die", took)
		} else {
			t.Logf("300 events died within %v", took)
		}
		s.wantCounts(delivery.Counts{Seen: 300, Dead: 300})
		_, dead := s.disk.Letters()
		for _, l := range dead {
			if l.Attempts != 3 {
				t.Errorf("letter %s died after %d attempts", l.ID, l.Attempts)
			}
		}
		s.stop()
		s.checkDisk()
	})
}

func TestEventsThatKeepFailingDoNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.conn.Answer(failing(connector.Retryable, "poison"))
		for i := range 20 {
			s.send(fmt.Sprintf("p%d/poison", i))
		}
		s.start()
		time.Sleep(time.Hour)
		s.send("u1/good")
		time.Sleep(2 * time.Minute) // at most one wait for a probe
		if c := s.runner.Counts(); c.Delivered != 1 {
			t.Errorf("a good event waits behind bad ones: %+v", c)
		}
		time.Sleep(time.Hour)
		s.send("u2/good")
		synctest.Wait()
		if c := s.runner.Counts(); c.Delivered != 2 {
			t.Errorf("repeated attempts of bad events have closed the gate: %+v", c)
		}
		s.stop()
	})
}

func TestOnePoisonousEventEndsUpAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.Concurrency = 1
		s.conn.Bounds.MaxEvents = 64
		s.conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
			class := connector.Delivered
			if slices.ContainsFunc(events, func(d connector.Delivery) bool { return d.Event.Name == "poison" }) {
				class = connector.Retryable // a whole call fails, and names nobody
			}
			return results(len(events), class)
		})
		for i := range 64 {
			name := "good"
			if i == 40 {
				name = "poison"
			}
			s.send(fmt.Sprintf("u%d/%s", i, name))
		}
		s.start()
		time.Sleep(5 * time.Minute)
		s.wantCounts(delivery.Counts{Seen: 64, Delivered: 63, Retrying: 1})
		s.stop()
	})
}

func TestACallThatIsTooLargeIsSplit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.Concurrency = 1
		s.conn.Bounds.MaxEvents = 100
		s.conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
			huge := slices.ContainsFunc(events, func(d connector.Delivery) bool { return d.Event.Name == "huge" })
			if len(events) > 10 || huge {
				return results(len(events), connector.TooLarge)
			}
			return results(len(events), connector.Delivered)
		})
		var all [][]byte
		for i := range 100 {
			name := "small"
			if i == 55 {
				name = "huge"
			}
			all = append(all, deliverytest.Event(fmt.Sprintf("e%03d", i), name, "u1"))
		}
		s.stream.Append(all...)
		s.start()
		synctest.Wait()
		s.wantCounts(delivery.Counts{Seen: 100, Delivered: 99, Dead: 1})
		if order := s.conn.Order(); !slices.IsSorted(order) {
			t.Errorf("splitting has changed the order: %v", order)
		}
		_, dead := s.disk.Letters()
		if len(dead) != 1 || dead[0].EventID != "e055" || dead[0].Class != "too_large" {
			t.Errorf("dead letters %+v", dead)
		}
		s.stop()
	})
}

func TestAnAmbiguousOutcomeIsADeadLetterUnlessItMayBeRepeated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		dedups bool
		policy delivery.Ambiguous
		want   delivery.Counts
	}{
		{"dead by default", false, "", delivery.Counts{Seen: 1, Dead: 1}},
		{"dead if asked for", false, guard.AmbiguousDead, delivery.Counts{Seen: 1, Dead: 1}},
		{"again if asked for", false, guard.AmbiguousRetry, delivery.Counts{Seen: 1, Retrying: 1}},
		{"again where duplicates are known", true, "", delivery.Counts{Seen: 1, Retrying: 1}},
		{"again where duplicates are known, whatever is asked for", true, guard.AmbiguousDead, delivery.Counts{Seen: 1, Retrying: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				s.cfg.Ambiguous, s.conn.Bounds.Dedups = c.policy, c.dedups
				s.conn.Answer(always(connector.Result{Class: connector.Ambiguous, Message: "no answer within 30 s"}))
				s.send("u1/paid")
				s.start()
				synctest.Wait()
				s.wantCounts(c.want)
				parked, dead := s.disk.Letters()
				for _, l := range append(parked, dead...) {
					want := "no answer within 30 s"
					if len(dead) > 0 {
						want = "the destination may have this event, and replaying it may make a duplicate: " + want
					}
					if l.Class != "ambiguous" || l.Message != want {
						t.Errorf("letter of class %s: %s", l.Class, l.Message)
					}
				}
				s.stop()
			})
		})
	}
}

func TestACallThatIgnoresItsContextHoldsUpNobodyForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.conn.Bounds.Timeout = 10 * time.Second
		s.cfg.Concurrency, s.cfg.Ambiguous = 4, guard.AmbiguousRetry
		release := make(chan struct{})
		s.conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
			if events[0].Event.Name == "hang" {
				<-release
			}
			return results(len(events), connector.Delivered)
		})
		s.send("slow/hang")
		s.sendMany(50, 50)
		s.start()
		time.Sleep(15 * time.Second)
		c := s.runner.Counts()
		if c.Delivered != 50 || c.Retrying != 1 {
			t.Errorf("%+v", c)
		}
		if st := s.runner.Status(); st.Stuck == 0 {
			t.Error("the call that does not return is not reported")
		}
		began := time.Now()
		s.cancel()
		<-s.ended
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("stopping took %v", took)
		}
		close(release)
		synctest.Wait()
		s.checkDisk()
	})
}

func TestCallsThatNeverReturnAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.Concurrency = 3
		s.conn.Bounds.Timeout = time.Second
		release := make(chan struct{})
		started := make(chan struct{}, 1000)
		s.conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
			started <- struct{}{}
			<-release
			return results(len(events), connector.Delivered)
		})
		s.sendMany(100, 100)
		s.start()
		time.Sleep(time.Hour)
		if n := len(started); n > 6 {
			t.Errorf("%d calls hang at once with a concurrency of 3", n)
		}
		s.cancel()
		<-s.ended
		close(release)
		synctest.Wait()
	})
}

func TestAPanicOfTheConnectorIsAFailedAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.Retry = retry.Policy{MaxAttempts: 2, BaseDelay: time.Second}
		s.conn.Bounds.MaxEvents = 10
		s.conn.Refuse = func(d connector.Delivery) (connector.Result, bool) {
			if d.Event.Name == "plan" {
				panic("cannot map")
			}
			return connector.Result{}, false
		}
		s.conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
			if events[0].Event.Name == "send" {
				panic("cannot send")
			}
			return results(len(events), connector.Delivered)
		})
		s.stream.Append(deliverytest.Event("e1", "plan", "u1"), deliverytest.Event("e2", "good", "u2"), deliverytest.Event("e3", "send", "u3"))
		s.start()
		time.Sleep(2 * time.Minute)
		s.wantCounts(delivery.Counts{Seen: 3, Delivered: 1, Dead: 2})
		s.stop()
	})
}

func TestTheRateIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.Rate, s.cfg.Burst = rate.Limit(10), 5
		s.conn.Bounds.MaxEvents = 100
		s.sendMany(200, 50)
		s.start()
		time.Sleep(10*time.Second + time.Millisecond)
		if n := len(s.conn.Order()); n < 100 || n > 105 {
			t.Errorf("%d events within 10 s at 10 per second and a burst of 5", n)
		}
		s.stop()
	})
}

func TestAHangingDestinationStopsItsReadingWithinItsMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.MaxPendingEvents, s.cfg.Concurrency = 100, 2
		s.conn.Bounds.Timeout = time.Hour
		s.conn.Answer(func(ctx context.Context, events []connector.Delivery) []connector.Result {
			<-ctx.Done()
			return results(len(events), connector.Ambiguous)
		})
		s.sendMany(1000, 1000)
		s.start()
		time.Sleep(time.Minute)
		if c := s.runner.Counts(); c.Waiting != 100 || c.Seen != 100 {
			t.Errorf("%+v", c)
		}
		if oldest := s.runner.Status().OldestWaiting; time.Since(oldest) != time.Minute {
			t.Errorf("oldest event is of %v", oldest)
		}
		s.cancel()
		<-s.ended
		s.start()
		synctest.Wait()
		if c := s.runner.Counts(); c.Seen != 100 || c.Waiting != 100 {
			t.Errorf("after a restart: %+v", c)
		}
		s.cancel()
		<-s.ended
	})
}

func TestAFullParkedQueueStopsReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.MaxParked, s.cfg.MaxPendingEvents = 50, 10
		s.conn.Answer(failing(connector.Retryable, "bought"))
		s.send("u1/bought")
		for range 200 {
			s.send("u1/later")
		}
		s.start()
		time.Sleep(time.Hour)
		if c := s.runner.Counts(); c.Retrying < 50 || c.Retrying > 60 || c.Waiting > 10 {
			t.Errorf("%+v", c)
		}
		s.conn.Answer(nil)
		time.Sleep(20 * time.Minute)
		s.wantCounts(delivery.Counts{Seen: 201, Delivered: 201})
		if order := s.conn.Order(); order[0] != "e1" || order[1] != "e2" || order[200] != "e201" {
			t.Errorf("order %v", order)
		}
		s.stop()
		s.checkDisk()
	})
}

func TestASecondProcessEndsTheFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first := newScene(t)
		first.send("u1/a")
		first.start()
		time.Sleep(time.Second)
		second := *first
		second.start()
		synctest.Wait()
		first.send("u1/b")
		time.Sleep(time.Second)
		if err := <-first.ended; fault.KindOf(err) != fault.Conflict {
			t.Errorf("the first process ended with %v, want a conflict", err)
		}
		if st := first.runner.Status(); st.State != delivery.Stopped || st.Reason == "" {
			t.Errorf("status %+v", st)
		}
		second.wantCounts(delivery.Counts{Seen: 2, Delivered: 2})
		second.stop()
	})
}

func TestANewDestinationStartsWhereItIsAskedTo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.send("u1/a", "u1/b", "u1/c")
		s.cfg.Start = delivery.StartNow
		s.start()
		synctest.Wait()
		s.send("u1/d")
		synctest.Wait()
		s.wantOrder("e4")
		s.wantCounts(delivery.Counts{Seen: 4, Skipped: 3, Delivered: 1})
		s.stop()
		s.checkDisk()
	})
}

func TestWhatTheStreamDoesNotRetainIsSkippedAndCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.send("u1/a", "u1/b", "u1/c", "u1/d", "u1/e")
		s.stream.Trim(3)
		s.start()
		synctest.Wait()
		s.wantCounts(delivery.Counts{Seen: 5, Skipped: 2, Delivered: 3})
		s.stop()
		s.send("u1/f", "u1/g")
		s.stream.Trim(7)
		s.start()
		synctest.Wait()
		s.wantCounts(delivery.Counts{Seen: 7, Skipped: 3, Delivered: 4})
		s.stop()
		s.checkDisk()
	})
}

func TestAnAccountThatDoesNotAddUpIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.conn.Answer(always(connector.Result{Class: connector.Permanent}))
		s.send("u1/a", "u1/b")
		s.start()
		synctest.Wait()
		s.stop()
		// Somebody has deleted a letter behind our back.
		if err := s.disk.Open().Dead().Delete(t.Context(), []string{"1.0.0"}); err != nil {
			t.Fatal(err)
		}
		s.start()
		synctest.Wait()
		if got := s.runner.Status().Residual; got != 1 {
			t.Errorf("residual %d, want 1", got)
		}
		s.stop()
	})
}

func TestReadingGoesOnAfterTheStreamFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		failures := 5
		s.stream.OnNext = func(position uint64) error {
			if position == 2 && failures > 0 {
				failures--
				return errors.New("connection lost")
			}
			return nil
		}
		s.send("u1/a", "u1/b", "u1/c")
		s.start()
		time.Sleep(time.Minute)
		s.wantOrder("e1", "e2", "e3")
		s.stop()
	})
}

func TestReplayAndPurgeEmptyTheDeadLetters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		ctx := t.Context()
		s.conn.Answer(always(connector.Result{Class: connector.Permanent, Message: "no such field"}))
		s.send("u1/order_paid", "u2/order_left", "u3/page", "u4/page", "u5/other")
		s.start()
		synctest.Wait()
		s.wantCounts(delivery.Counts{Seen: 5, Dead: 5})

		order := deadletter.Order{Filter: deadletter.Filter{EventName: "order_*"}, DryRun: true}
		p, err := s.runner.Replay(ctx, order, nil, nil)
		if err != nil || p.Matched != 2 || p.Done != 0 || len(p.Sample) != 2 {
			t.Errorf("dry run: %+v, %v", p, err)
		}
		s.wantCounts(delivery.Counts{Seen: 5, Dead: 5})

		s.conn.Answer(nil)
		order.DryRun = false
		if p, err := s.runner.Replay(ctx, order, nil, nil); err != nil || p.Done != 2 {
			t.Errorf("replay: %+v, %v", p, err)
		}
		synctest.Wait()
		s.wantCounts(delivery.Counts{Seen: 5, Delivered: 2, Dead: 3})

		var resent []string
		resend := func(_ context.Context, letters []deadletter.Letter) error {
			for _, l := range letters {
				resent = append(resent, l.EventID)
			}
			return nil
		}
		toStream := deadletter.Order{Filter: deadletter.Filter{EventName: "page"}, To: deadletter.ToStream}
		_, err = s.runner.Replay(ctx, toStream, resend, nil)
		if slices.Sort(resent); err != nil || !slices.Equal(resent, []string{"e3", "e4"}) {
			t.Errorf("resent %v, %v", resent, err)
		}
		if p, err := s.runner.Purge(ctx, deadletter.Order{}, nil); err != nil || p.Done != 1 {
			t.Errorf("purge: %+v, %v", p, err)
		}
		s.wantCounts(delivery.Counts{Seen: 5, Delivered: 2, Replayed: 2, Purged: 1})
		if page, err := s.runner.Dead(ctx, deadletter.Filter{}, 0, 10); err != nil || len(page.Letters) != 0 {
			t.Errorf("letters left: %+v, %v", page, err)
		}
		s.stop()
		s.checkDisk()
		if _, err := s.runner.Purge(ctx, deadletter.Order{}, nil); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("purge of a stopped destination: %v", err)
		}
	})
}

func TestAReplayOfEventsThatDieAgainEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.conn.Answer(always(connector.Result{Class: connector.Permanent}))
		s.sendMany(250, 10)
		s.start()
		time.Sleep(time.Second)
		p, err := s.runner.Replay(t.Context(), deadletter.Order{}, nil, nil)
		if err != nil || p.Done != 250 {
			t.Errorf("%+v, %v", p, err)
		}
		time.Sleep(time.Second)
		s.wantCounts(delivery.Counts{Seen: 250, Dead: 250})
		if n := s.conn.Calls(); n != 500 {
			t.Errorf("%d calls, want 500", n)
		}
		s.stop()
		s.checkDisk()
	})
}

// What was parked is read back within the memory that a lane has, however many
// events may be in a plan.
func TestParkedEventsAreReadBackWithinTheirShareOfMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const events, size, bound = 100, 1 << 10, 20 << 10
		s := newScene(t)
		s.conn.Bounds.MaxEvents = 1000
		s.cfg.Concurrency, s.cfg.MaxPendingBytes = 1, bound
		s.cfg.Retry = retry.Policy{BaseDelay: time.Minute, MaxDelay: time.Minute, MaxAttempts: 10}
		failing, most := true, 0
		s.conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
			bytes := 0
			for _, d := range events {
				bytes += len(d.Raw)
			}
			if failing {
				// Each for itself: the destination is not in trouble.
				results := connector.All(len(events), connector.Result{Class: connector.Retryable, Code: "busy", Message: "busy"})
				results[0].Class = connector.Delivered
				return results
			}
			most = max(most, bytes)
			return connector.All(len(events), connector.Result{Class: connector.Delivered})
		})
		for i := range events {
			s.stream.Append(fmt.Appendf(nil, `{"id":"e%d","type":"track","name":"n","user_id":"u%d","data":{"pad":%q}}`, i, i, strings.Repeat("x", size)))
		}
		s.start()
		time.Sleep(time.Second)
		if c := s.runner.Counts(); c.Retrying < events/2 {
			t.Fatalf("%+v: too few are parked to prove anything", c)
		}
		failing = false
		s.runner.Wake() // all at once
		time.Sleep(time.Hour)
		s.wantCounts(delivery.Counts{Seen: events, Delivered: events})
		if most == 0 || most > bound+2*size {
			t.Errorf("a plan had %d bytes of parked events, at most %d are allowed", most, bound)
		}
		s.stop()
	})
}
