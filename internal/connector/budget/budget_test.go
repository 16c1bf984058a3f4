package budget_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/budget"
)

// vendor is a destination with a quota: a bucket of tokens, or so many calls at
// once.
type vendor struct {
	takes time.Duration // of a call that is taken; a throttled one takes a tenth of it
	quota func(now time.Time, inFlight, events int) bool

	mu                       sync.Mutex
	inFlight                 int
	calls, throttled, events int
}

// perSecond is a quota of so much per second, with a bucket for the burst.
func perSecond(rate, burst float64, of func(events int) float64) func(time.Time, int, int) bool {
	tokens, last := burst, time.Now()
	return func(now time.Time, _, events int) bool {
		tokens = min(burst, tokens+rate*now.Sub(last).Seconds())
		last = now
		if n := of(events); tokens >= n {
			tokens -= n
			return true
		}
		return false
	}
}

// window is a quota of so many calls in each minute of the clock.
func perMinute(calls int) func(time.Time, int, int) bool {
	var minute time.Time
	n := 0
	return func(now time.Time, _, _ int) bool {
		if m := now.Truncate(time.Minute); m != minute {
			minute, n = m, 0
		}
		n++
		return n <= calls
	}
}

func one(int) float64        { return 1 }
func all(events int) float64 { return float64(events) }

func (v *vendor) call(events int) budget.Outcome {
	v.mu.Lock()
	v.inFlight++
	v.calls++
	ok := v.quota(time.Now(), v.inFlight, events)
	if ok {
		v.events += events
	} else {
		v.throttled++
	}
	v.mu.Unlock()
	if ok {
		time.Sleep(v.takes)
	} else {
		time.Sleep(v.takes / 10)
	}
	v.mu.Lock()
	v.inFlight--
	v.mu.Unlock()
	if ok {
		return budget.Taken
	}
	return budget.Throttled
}

// drive makes calls in as many goroutines as the budget allows calls, for a time.
func drive(t *testing.T, b *budget.Budget, v *vendor, lanes, events int, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var group sync.WaitGroup
	for range lanes {
		group.Go(func() {
			for {
				began, err := b.Take(ctx, events)
				if err != nil {
					return
				}
				o := v.call(events)
				b.End(began, time.Now(), events, o)
			}
		})
	}
	group.Wait()
	if n := b.Status().InFlight; n != 0 {
		t.Errorf("%d calls are still accounted for", n)
	}
}

func (v *vendor) reset() (calls, throttled, events int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	calls, throttled, events = v.calls, v.throttled, v.events
	v.calls, v.throttled, v.events = 0, 0, 0
	return calls, throttled, events
}

// A vendor that refuses a call of fifty, whatever it gets, is not taken for one
// whose quota is used up: that would leave some calls a second.
func TestCallsThatAreRefusedNowAndThenLeaveMostOfTheRate(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			b := budget.New(budget.Config{Calls: 16})
			v := &vendor{takes: 20 * time.Millisecond, quota: func(time.Time, int, int) bool { return random.IntN(50) > 0 }}
			const measured = 10 * time.Minute
			drive(t, b, v, 16, 1, measured)
			calls, throttled, _ := v.reset()
			rate := float64(calls) / measured.Seconds()
			t.Logf("seed %d: %d of %d calls throttled, %.0f calls/s of the 800 that there is time for", seed, throttled, calls, rate)
			if rate < 50 {
				t.Error("next to nothing is left")
			}
		})
	}
}

// The quota is found within a minute, and then held: little is throttled, and
// most of the quota is used.
func TestAQuotaIsFoundAndHeld(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		cfg    budget.Config
		takes  time.Duration
		events int // per call
		rate   float64
		burst  float64
		of     func(int) float64
	}{
		{"10 calls/s, answered in 5 ms", budget.Config{Calls: 8}, 5 * time.Millisecond, 1, 10, 10, one},
		{"10 calls/s, answered in 300 ms", budget.Config{Calls: 8}, 300 * time.Millisecond, 1, 10, 10, one},
		{"10 calls/s, no burst", budget.Config{Calls: 8}, 20 * time.Millisecond, 1, 10, 1.5, one},
		{"1 call/s", budget.Config{Calls: 4}, 50 * time.Millisecond, 1, 1, 2, one},
		{"100 calls/s", budget.Config{Calls: 16}, 50 * time.Millisecond, 1, 100, 100, one},
		{"200 events/s of the 1000 configured", budget.Config{Calls: 8, Rate: 1000, Burst: 1000}, 50 * time.Millisecond, 20, 200, 200, all},
		{"5 events/s of the 1000 configured", budget.Config{Calls: 8, Rate: 1000, Burst: 1000}, 10 * time.Millisecond, 1, 5, 5, all},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := budget.New(c.cfg)
				v := &vendor{takes: c.takes, quota: perSecond(c.rate, c.burst, c.of)}
				drive(t, b, v, c.cfg.Calls, c.events, time.Minute)
				calls, throttled, _ := v.reset()
				t.Logf("first minute: %d of %d calls throttled; %+v", throttled, calls, b.Status())
				const measured = 20 * time.Minute
				drive(t, b, v, c.cfg.Calls, c.events, measured)
				calls, throttled, events := v.reset()
				used := c.of(1) * float64(events) / measured.Seconds() / c.rate
				if c.of(2) == 1 {
					used = float64(calls-throttled) / measured.Seconds() / c.rate
				}
				share := float64(throttled) / float64(calls)
				t.Logf("then: %d of %d calls throttled (%.1f %%), %.0f %% of the quota used; %+v", throttled, calls, 100*share, 100*used, b.Status())
				if share > 0.05 || used < 0.6 || used > 1.01 {
					t.Error("the quota is not held")
				}
			})
		})
	}
}

// A destination that takes three calls at once, as Mailchimp takes ten.
func TestALimitOfCallsInFlightIsFoundAndHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(budget.Config{Calls: 16})
		v := &vendor{takes: 200 * time.Millisecond, quota: func(_ time.Time, inFlight, _ int) bool { return inFlight <= 3 }}
		drive(t, b, v, 16, 1, time.Minute)
		v.reset()
		drive(t, b, v, 16, 1, 20*time.Minute)
		calls, throttled, _ := v.reset()
		used := float64(calls-throttled) / (20 * 60 * 5 * 3)
		t.Logf("%d of %d calls throttled, %.0f %% of the limit used", throttled, calls, 100*used)
		if float64(throttled) > 0.05*float64(calls) || used < 0.5 {
			t.Error("the limit is not held")
		}
	})
}

// A quota of a minute of the clock is used up early and then throttles for the
// rest of the minute. The budget must not end where nothing is called any more.
func TestAQuotaPerMinuteOfTheClockIsUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(budget.Config{Calls: 8})
		v := &vendor{takes: 20 * time.Millisecond, quota: perMinute(120)}
		drive(t, b, v, 8, 1, 30*time.Minute)
		calls, throttled, _ := v.reset()
		t.Logf("%d of %d calls throttled", throttled, calls)
		if taken := calls - throttled; taken < 30*120/3 || throttled > calls/4 {
			t.Errorf("%d calls taken in half an hour, %d throttled", taken, throttled)
		}
	})
}

func TestABurstOfThrottledCallsIsOneCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(budget.Config{Calls: 8})
		take := func(n int) (began []time.Time) {
			for range n {
				began = append(began, b.Begin(1))
			}
			return began
		}
		end := func(began []time.Time, o budget.Outcome) {
			for _, at := range began {
				b.End(at, time.Now(), 1, o)
			}
		}
		want := func(calls int, pace float64, what string) {
			t.Helper()
			if st := b.Status(); st.Calls != calls || st.CallsPerSecond != pace {
				t.Errorf("after %s: %d calls at %g per second allowed, want %d at %g", what, st.Calls, st.CallsPerSecond, calls, pace)
			}
		}
		for range 5 { // forty calls per second are taken
			all := take(8)
			time.Sleep(200 * time.Millisecond)
			end(all, budget.Taken)
		}
		want(8, 0, "calls that were taken")
		first := take(8)
		time.Sleep(100 * time.Millisecond)
		end(first, budget.Throttled)
		want(4, 20, "eight throttled calls of one burst")
		second := take(4)
		time.Sleep(850 * time.Millisecond)
		end(second, budget.Throttled)
		want(4, 20, "more of them within a second")
		third := take(4)
		time.Sleep(time.Second)
		end(third, budget.Throttled)
		want(2, 5, "another burst, with nothing taken in between")
		fourth := take(2)
		time.Sleep(2 * time.Second)
		end(fourth, budget.Barred)
		end(take(1), budget.Unknown)
		want(2, 5, "a probe that was throttled, and a call that says nothing")
		if n := b.Status().ThrottledCalls; n != 18 {
			t.Errorf("%d throttled calls counted, want 18", n)
		}
	})
}

// What is cut comes back: half a minute to where it was cut, and some seconds more
// to all there is.
func TestWhatWasCutIsRaisedSlowly(t *testing.T) {
	t.Parallel()
	for _, cfg := range []budget.Config{{Calls: 8}, {Calls: 8, Rate: 80, Burst: 80}} {
		t.Run(fmt.Sprintf("%+v", cfg), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := budget.New(cfg)
				// The first round of calls is throttled, and nothing after it.
				quiet := time.Now().Add(50 * time.Millisecond)
				v := &vendor{takes: 100 * time.Millisecond, quota: func(now time.Time, _, _ int) bool { return now.After(quiet) }}
				allowed := func() float64 {
					st := b.Status()
					if cfg.Rate > 0 {
						return st.EventsPerSecond / cfg.Rate
					}
					return float64(st.Calls) / float64(cfg.Calls)
				}
				drive(t, b, v, 8, 1, time.Second)
				low := allowed()
				if low > 0.5 {
					t.Errorf("%.2f of all is allowed after a burst of throttled calls", low)
				}
				drive(t, b, v, 8, 1, 15*time.Second)
				if now := allowed(); now < low || now >= 1 {
					t.Errorf("%.2f is allowed after 15 s", now)
				}
				drive(t, b, v, 8, 1, 75*time.Second)
				if now := allowed(); now != 1 {
					t.Errorf("%.2f is allowed after 90 s", now)
				}
				if st := b.Status(); st.CallsPerSecond != 0 {
					t.Errorf("calls are still paced: %+v", st)
				}
			})
		})
	}
}

// A budget that throttling has brought to its least is all there again within
// minutes of the throttling's end.
func TestALongTimeOfThrottlingIsForgotten(t *testing.T) {
	t.Parallel()
	for _, cfg := range []budget.Config{{Calls: 8}, {Calls: 8, Rate: 1000, Burst: 1000}} {
		t.Run(fmt.Sprintf("%+v", cfg), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := budget.New(cfg)
				throttle := true
				v := &vendor{takes: 20 * time.Millisecond, quota: func(time.Time, int, int) bool { return !throttle }}
				drive(t, b, v, 8, 1, time.Hour)
				if calls, _, _ := v.reset(); calls > 400 || calls < 300 {
					t.Errorf("%d calls in an hour in which all were throttled, want one in 10 s", calls)
				}
				throttle = false
				drive(t, b, v, 8, 1, 3*time.Minute)
				if st := b.Status(); st.Calls != 8 || st.CallsPerSecond != 0 || st.EventsPerSecond != cfg.Rate {
					t.Errorf("three minutes later: %+v", st)
				}
			})
		})
	}
}

func TestTheConfiguredRateIsKept(t *testing.T) {
	t.Parallel()
	for _, events := range []int{1, 3, 5, 12} { // 12 is more than a burst: it begins, and is paid for
		t.Run(fmt.Sprint(events, " per call"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := budget.New(budget.Config{Calls: 4, Rate: 10, Burst: 5})
				v := &vendor{quota: func(time.Time, int, int) bool { return true }}
				drive(t, b, v, 4, events, 100*time.Second)
				if n := v.events; n < 1000-events || n > 1005+max(0, events-5) {
					t.Errorf("%d events in 100 s at 10 per second and a burst of 5", n)
				}
			})
		})
	}
}

func TestWhoCameFirstGoesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(budget.Config{Calls: 1})
		first, err := b.Take(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []int
		for i := range 20 {
			go func() {
				began, err := b.Take(t.Context(), 1)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				b.End(began, time.Now(), 1, budget.Taken)
			}()
			synctest.Wait()
		}
		b.End(first, time.Now(), 1, budget.Taken)
		synctest.Wait()
		if len(order) != 20 || !slices.IsSorted(order) {
			t.Errorf("order %v", order)
		}
	})
}

func TestAWaitEndsWithItsContextAndTakesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(budget.Config{Calls: 1})
		began, err := b.Take(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 3)
		for range cap(errs) { // one holds the turn, the others queue for it
			go func() { _, err := b.Take(ctx, 1); errs <- err }()
		}
		synctest.Wait()
		cancel()
		for range cap(errs) {
			if err := <-errs; err == nil {
				t.Error("took a call that is not free")
			}
		}
		b.End(began, time.Now(), 1, budget.Taken)
		if _, err := b.Take(t.Context(), 1); err != nil {
			t.Error(err)
		}
		if n := b.Status().InFlight; n != 1 {
			t.Errorf("%d in flight, want 1", n)
		}
	})
}

// A call that is not made after all costs the others nothing.
func TestWhatIsReturnedIsThereForTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(budget.Config{Calls: 1, Rate: 1, Burst: 1})
		start := time.Now()
		for range 100 {
			if _, err := b.Take(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			b.Return(1)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

func TestOutcomesOfCalls(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		classes []connector.Class
		want    budget.Outcome
		isProbe bool
	}{
		{nil, budget.Unknown, false},
		{[]connector.Class{connector.Retryable, connector.Permanent, connector.Ambiguous}, budget.Unknown, false},
		{[]connector.Class{connector.Permanent, connector.Delivered}, budget.Taken, false},
		{[]connector.Class{connector.Duplicate, connector.Retryable}, budget.Taken, false},
		{[]connector.Class{connector.Delivered, connector.Throttled, connector.Delivered}, budget.Throttled, false},
		{[]connector.Class{connector.Throttled}, budget.Barred, true},
		{[]connector.Class{connector.Delivered}, budget.Taken, true},
	} {
		var results []connector.Result
		for _, class := range c.classes {
			results = append(results, connector.Result{Class: class})
		}
		if got := budget.Judge(results, c.isProbe); got != c.want {
			t.Errorf("%v: %v, want %v", c.classes, got, c.want)
		}
	}
}

// For hosts that have one goroutine: Due says when, and Begin asks nothing.
func TestDueAndBegin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(budget.Config{Calls: 8})
		if due := b.Due(1); due.After(time.Now()) || b.Abreast() != 8 {
			t.Errorf("the first call is due at %v, with %d abreast", due, b.Abreast())
		}
		began := b.Begin(1)
		b.End(began, time.Now(), 1, budget.Throttled)
		if wait := time.Until(b.Due(1)); wait != 2*time.Second {
			t.Errorf("a wait of %v after one call in a second was throttled", wait)
		}
		time.Sleep(2 * time.Second)
		b.Begin(1)
		if wait := time.Until(b.Due(1)); wait != 2*time.Second || b.Abreast() != 1 {
			t.Errorf("a wait of %v after a paced call, and then %d at once", wait, b.Abreast())
		}
	})
}

func BenchmarkTake(b *testing.B) {
	for _, cfg := range []budget.Config{{Calls: 8}, {Calls: 8, Rate: math.MaxInt32, Burst: math.MaxInt32}} {
		b.Run(fmt.Sprintf("rate=%t", cfg.Rate > 0), func(b *testing.B) {
			bud := budget.New(cfg)
			b.ReportAllocs()
			for b.Loop() {
				began, err := bud.Take(b.Context(), 1)
				if err != nil {
					b.Fatal(err)
				}
				bud.End(began, began, 1, budget.Taken)
			}
		})
	}
}
