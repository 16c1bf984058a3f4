package delivery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/retry"
)

func TestTheStatusTellsHowADestinationIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.Concurrency, s.cfg.Rate = 1, rate.Limit(1000)
		s.conn.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
			takes := 20 * time.Millisecond
			if events[0].Event.Name == "slow" {
				takes = 300 * time.Millisecond
			}
			time.Sleep(takes)
			if events[0].Event.Name == "bad" {
				return results(len(events), connector.Permanent)
			}
			return results(len(events), connector.Delivered)
		})
		s.start()
		synctest.Wait()
		if st := s.runner.Status(); st.Rate != 0 || st.SuccessShare != nil || st.Latency != nil {
			t.Errorf("before the first event: %+v", st)
		}
		for i := range 600 { // 5 a second, for two minutes
			name := "good"
			switch {
			case i%50 == 7:
				name = "slow"
			case i%4 == 0:
				name = "bad"
			}
			s.send(fmt.Sprintf("u%d/%s", i, name))
			time.Sleep(200 * time.Millisecond)
		}
		time.Sleep(time.Second)
		st := s.runner.Status()
		if st.Rate < 3.5 || st.Rate > 4 {
			t.Errorf("%g events/s delivered, want three quarters of 5", st.Rate)
		}
		if st.SuccessShare == nil || *st.SuccessShare != 0.75 {
			t.Errorf("share of success %v, want 3/4", st.SuccessShare)
		}
		if l := st.Latency; l == nil || l.P50 != 0.02 || l.P99 != 0.3 {
			t.Errorf("latency %+v", l)
		}
		if b := st.Budget; b.Calls != 1 || b.MaxCalls != 1 || b.InFlight != 0 || b.EventsPerSecond != 1000 || b.MaxEventsPerSecond != 1000 || b.ThrottledCalls != 0 {
			t.Errorf("budget %+v", b)
		}
		if st.Results["permanent"] != 150 || st.Results["delivered"] != 450 {
			t.Errorf("results %v", st.Results)
		}
		text, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{`"rate":3.`, `"success_share":0.75`, `"call_latency":{"p50_seconds":0.02,"p99_seconds":0.3}`, `"budget":{"calls":1,"max_calls":1,`} {
			if !strings.Contains(string(text), field) {
				t.Errorf("%s is not in %s", field, text)
			}
		}
		time.Sleep(time.Hour)
		if st := s.runner.Status(); st.Rate != 0 || *st.SuccessShare != 0.75 {
			t.Errorf("an hour later: %+v", st)
		}
		s.stop()
	})
}

// What counts is the newest thousand results, or two.
func TestTheShareOfSuccessForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.conn.Bounds.MaxEvents = 50
		s.conn.Answer(always(connector.Result{Class: connector.Permanent}))
		s.sendMany(5000, 5000)
		s.start()
		synctest.Wait()
		if share := *s.runner.Status().SuccessShare; share != 0 {
			t.Errorf("share %g, and all were refused", share)
		}
		s.conn.Answer(nil)
		s.sendMany(10_000, 10_000)
		synctest.Wait()
		if share := *s.runner.Status().SuccessShare; share < 0.98 {
			t.Errorf("share %g, ten thousand events after the last failure", share)
		}
		s.stop()
	})
}

func TestTheOldestEventThatWaitsIsToldWhereverItWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.cfg.Retry = retry.Policy{MaxAttempts: 100_000, BaseDelay: time.Minute}
		s.conn.Answer(failing(connector.Retryable, "first", "second"))
		want := func(what string, unsettled, waiting time.Time) {
			t.Helper()
			synctest.Wait()
			if st := s.runner.Status(); !st.OldestUnsettled.Equal(unsettled) || !st.OldestWaiting.Equal(waiting) {
				t.Errorf("%s: the oldest of all is of %v, in memory %v; want %v and %v", what, st.OldestUnsettled, st.OldestWaiting, unsettled, waiting)
			}
		}
		s.start()
		want("nothing", time.Time{}, time.Time{})
		first := time.Now()
		s.send("u1/first")
		want("one is parked", first, time.Time{})
		time.Sleep(time.Hour)
		second := time.Now()
		s.send("u2/second", "u3/good")
		want("two are parked", first, time.Time{})
		s.stop()
		s.start()
		want("after a restart", first, time.Time{})
		s.conn.Answer(failing(connector.Retryable, "second"))
		time.Sleep(time.Hour)
		want("the first has arrived", second, time.Time{})
		s.pause("")
		third := time.Now()
		s.send("u4/good")
		want("one waits in memory", second, third)
		s.conn.Answer(nil)
		s.resume()
		want("all have arrived", time.Time{}, time.Time{})
		s.stop()
		s.checkDisk()
	})
}

// With nothing configured an event that fails for itself alone is tried for more
// than a day before it is given up, while others are delivered.
func TestAnEventThatFailsAloneIsTriedForMoreThanADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.conn.Answer(failing(connector.Retryable, "bad"))
		for i := range 20 {
			s.send(fmt.Sprintf("p%d/bad", i))
		}
		s.start()
		began := time.Now()
		for hour := range 24 {
			s.send(fmt.Sprintf("u%d/good", hour))
			time.Sleep(time.Hour)
		}
		s.wantCounts(delivery.Counts{Seen: 44, Delivered: 24, Retrying: 20})
		for s.runner.Counts().Dead < 20 && time.Since(began) < 48*time.Hour {
			time.Sleep(10 * time.Minute)
		}
		_, dead := s.disk.Letters()
		if len(dead) != 20 {
			t.Fatalf("%d dead letters after two days, want 20", len(dead))
		}
		for _, l := range dead {
			if l.LastTry.Sub(l.FirstSeen) < 24*time.Hour || l.Class != "retryable" {
				t.Errorf("letter %s of class %s was given up after %v and %d attempts", l.ID, l.Class, l.LastTry.Sub(l.FirstSeen), l.Attempts)
			}
		}
		s.stop()
		s.checkDisk()
	})
}
