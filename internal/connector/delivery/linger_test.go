package delivery_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
)

// batch are events "user/name" in stored form, with the ids "b1", "b2", ….
func batch(events ...string) (all [][]byte) {
	for i, e := range events {
		user, name, _ := strings.Cut(e, "/")
		all = append(all, deliverytest.Event(fmt.Sprintf("b%d", i+1), name, user))
	}
	return all
}

// sizes makes the destination tell how many events each call carries.
func sizes(s *scene) chan int {
	sizes := make(chan int, 10_000)
	s.conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
		sizes <- len(events)
		return results(len(events), connector.Delivered)
	})
	return sizes
}

func wantSizes(t *testing.T, sizes chan int, want ...int) {
	t.Helper()
	var got []int
	for len(sizes) > 0 {
		got = append(got, <-sizes)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("calls with %v events, want %v", got, want)
	}
}

func lingering(t *testing.T) (*scene, chan int) {
	s := newScene(t)
	s.cfg.Concurrency = 1
	s.conn.Bounds = connector.Limits{MaxEvents: 5, Linger: time.Minute}
	return s, sizes(s)
}

func TestEventsLingerUntilTheOldestHasWaitedOrTheyAreMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, calls := lingering(t)
		s.start()
		s.sendMany(2, 2)
		time.Sleep(time.Second)
		s.sendMany(1, 1)
		time.Sleep(59*time.Second - 1)
		wantSizes(t, calls)
		s.wantCounts(delivery.Counts{Seen: 3, Waiting: 3})
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		wantSizes(t, calls, 3)

		s.sendMany(4, 4)
		time.Sleep(time.Second)
		wantSizes(t, calls)
		s.sendMany(4, 4)
		synctest.Wait()
		wantSizes(t, calls, 5) // the three that are left wait for others again
		time.Sleep(time.Minute)
		synctest.Wait()
		wantSizes(t, calls, 3)
		s.stop()
		s.checkDisk()
	})
}

func TestWakeEndsTheLingeringOfWhatIsThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, calls := lingering(t)
		s.start()
		s.sendMany(3, 3)
		synctest.Wait()
		s.runner.Wake()
		synctest.Wait()
		wantSizes(t, calls, 3)
		s.sendMany(2, 2)
		time.Sleep(59 * time.Second)
		wantSizes(t, calls)
		s.stop()
	})
}

func TestRetriedLettersDoNotLinger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := lingering(t)
		s.conn.Answer(failing(connector.Retryable, "bad"))
		s.send("u1/bad", "u1/later", "u2/good", "u3/good", "u4/good")
		s.start()
		synctest.Wait()
		s.wantCounts(delivery.Counts{Seen: 5, Delivered: 4, Retrying: 1})
		s.conn.Answer(nil)
		s.send("u5/good")
		time.Sleep(2 * time.Second)
		s.wantCounts(delivery.Counts{Seen: 6, Delivered: 5, Waiting: 1})
		s.stop()
		s.checkDisk()
	})
}

// A stop delivers nothing early: what lingers is on the stream, and is read again.
func TestAStopLeavesWhatLingersOnTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, calls := lingering(t)
		s.sendMany(7, 7)
		s.start()
		time.Sleep(time.Second)
		began := time.Now()
		s.stop()
		if took := time.Since(began); took != 0 {
			t.Errorf("stopping took %v", took)
		}
		wantSizes(t, calls, 5)
		if st, _ := s.disk.State(); st.Position != 5 {
			t.Errorf("the position is %d, and 2 events of 7 linger", st.Position)
		}
		s.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		wantSizes(t, calls, 2)
		s.wantCounts(delivery.Counts{Seen: 7, Delivered: 7})
		s.stop()
		s.checkDisk()
	})
}

// Where the memory of the destination has no room for a full group of each lane,
// the lanes go once reading has stopped.
func TestLanesThatCannotFillDoNotLinger(t *testing.T) {
	t.Parallel()
	for _, lanes := range []int{1, 4} {
		t.Run(fmt.Sprint(lanes, " lanes"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, calls := lingering(t)
				s.conn.Bounds.MaxEvents, s.conn.Bounds.Linger = 1000, time.Hour
				s.cfg.Concurrency, s.cfg.MaxPendingEvents = lanes, 100
				// A call takes a moment: the reader fills the room meanwhile, however
				// the goroutines take turns.
				s.conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
					time.Sleep(time.Millisecond)
					return connector.All(len(events), connector.Result{Class: connector.Delivered})
				})
				s.sendMany(1000, 300)
				s.start()
				time.Sleep(time.Second)
				if c := s.runner.Counts(); c.Delivered < 800 || c.Waiting > 100 {
					t.Errorf("%+v", c)
				}
				if n := len(calls); n > 1000/100*2*lanes {
					t.Errorf("%d calls for 900 events, with room for 100", n)
				}
				time.Sleep(time.Hour)
				s.wantCounts(delivery.Counts{Seen: 1000, Delivered: 1000})
				s.stop()
				s.checkDisk()
			})
		})
	}
}

// With a rate a group is never larger than a burst; nobody waits for more.
func TestAGroupIsFullAtTheBurstOfARate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, calls := lingering(t)
		s.conn.Bounds.MaxEvents = 1000
		s.cfg.Rate, s.cfg.Burst = 10, 4
		s.start()
		s.sendMany(4, 4)
		synctest.Wait()
		wantSizes(t, calls, 4)
		s.stop()
	})
}

// An outage with lingering events: probes are made, and with one event.
func TestWhatLingersIsDeliveredAfterAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := lingering(t)
		s.cfg.Concurrency = 3
		s.conn.Answer(always(connector.Result{Class: connector.Retryable}))
		s.sendMany(60, 60)
		s.start()
		time.Sleep(2 * time.Hour)
		if st := s.runner.Status(); st.State != delivery.Paused || s.conn.Calls() < 60 {
			t.Errorf("%d calls in two hours, %+v", s.conn.Calls(), st)
		}
		s.conn.Answer(nil)
		time.Sleep(20 * time.Minute)
		s.wantCounts(delivery.Counts{Seen: 60, Delivered: 60})
		s.stop()
		s.checkDisk()
	})
}
