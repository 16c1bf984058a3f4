package spool_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/spool"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

var discard = slog.New(slog.DiscardHandler)

// fill puts n records of each bucket into the spool, in calls of one record of
// each, and returns their names.
func (r *rig) fill(n, size int, buckets ...string) []string {
	r.t.Helper()
	first := make([]string, len(buckets))
	for i, b := range buckets {
		first[i] = b + "/first"
	}
	r.spooled(first...)
	names := first
	for i := range n {
		call := make([]string, len(buckets))
		for j, b := range buckets {
			call[j] = fmt.Sprintf("%s/%d%s", b, i, strings.Repeat("x", size))
		}
		r.want("spooled", call...)
		names = append(names, call...)
	}
	return names
}

func TestWhatAnEarlierProcessLeftGoesFirstWhateverItsBucket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		r.spooled("b0/1", "b1/1")
		r.want("spooled", "b0/2")
		// Two processes later, each with other buckets.
		block := func(w *weather) { w.fails = map[string]error{"b0": throttled, "c0": throttled} }
		r.sky.set(block)
		r.restart(spool.Config{})
		if st := r.s.Stats(); !st.Earlier || st.Events != 3 || r.s.Spooled() != 3 {
			t.Errorf("%+v, want the 3 events of the earlier process", st)
		}
		time.Sleep(time.Second)
		r.want("spooled", "c0/1", "c1/1") // though the stream would take c1
		time.Sleep(time.Minute)
		if got := r.stored(); !slices.Equal(got, []string{"b1/1"}) {
			t.Errorf("stored %v, want what is not blocked of the first process", got)
		}
		r.restart(spool.Config{})
		r.want("spooled", "d0/1")
		r.sky.set(func(w *weather) { w.fails = map[string]error{"c0": throttled} })
		time.Sleep(time.Minute)
		r.wantStored("b1/1", "b1/1", "b0/1", "b0/2", "c1/1")
		r.want("spooled", "d1/1")
		r.sky.heal()
		r.drained(time.Minute)
		if st := r.s.Stats(); st.Earlier {
			t.Errorf("%+v", st)
		}
		r.want("stored", "d1/2")
		r.wantStored("b1/1", "b1/1", "b0/1", "b0/2", "c1/1", "c0/1", "d0/1", "d1/1", "d1/2")
		if got := r.stored(); slices.Index(got, "c0/1") > slices.Index(got, "d0/1") {
			t.Errorf("stored %v, want all of the second process before d0 of the third", got)
		}
	})
}

func TestAKeyInTheLogIsReadWithoutTheWall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		r.spooled("b0/1")
		r.log = r.log.Crash()
		r.open(spool.Config{})
		r.want("spooled", "b7/1")
		var keys []string
		for _, e := range r.log.Entries() {
			for _, rec := range e.Records {
				keys = append(keys, spool.Key(rec))
			}
		}
		if !slices.Equal(keys, []string{"b0", "b7"}) {
			t.Errorf("keys %q", keys)
		}
	})
}

func TestASmallWindowPassesABacklogOfAnySize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{MaxWindowBytes: 10_000}, streamtest.NewLog(t, 0))
		names := r.fill(300, 500, "b0", "b1", "b2")
		r.run()
		r.drained(time.Minute)
		r.wantStored(names...)
		if st := r.s.Stats(); st.Passes != 0 || st.Drained != 903 || st.DrainedEvents != 903 {
			t.Errorf("%+v, want everything read once", st)
		}
	})
}

func TestABlockedBucketStopsNoOther(t *testing.T) {
	t.Parallel()
	const window = 16_000
	for _, tc := range []struct {
		name    string
		blocked int // buckets of 20
		size    int // of their records
	}{
		{"one", 1, 500},
		{"most", 15, 100},
		{"more than the window holds first records of", 10, 4000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, spool.Config{MaxWindowBytes: window}, streamtest.NewLog(t, 0))
				fails := map[string]error{}
				var buckets []string
				for i := range 20 {
					buckets = append(buckets, fmt.Sprintf("b%d", i))
					if i < tc.blocked {
						fails[buckets[i]] = throttled
					}
				}
				names := r.fill(50, tc.size, buckets...)
				r.sky.set(func(w *weather) { w.fails = fails })
				r.run()
				most := 0
				for range 600 {
					time.Sleep(100 * time.Millisecond)
					most = max(most, r.s.Stats().WindowBytes)
				}
				if entry := 20 * (tc.size + 10); most > window+entry {
					t.Errorf("%d bytes in the window, the bound is %d and an entry", most, window)
				}
				st := r.s.Stats()
				if st.Buckets != tc.blocked || st.Events != uint64(51*tc.blocked) {
					t.Errorf("after a minute: %+v, want only the %d blocked buckets in the spool", st, tc.blocked)
				}
				if st.Age < time.Minute {
					t.Errorf("the oldest is %v old, want more than a minute", st.Age)
				}
				r.want("stored", "b19/direct")
				r.want("spooled", "b0/last")
				r.sky.heal()
				r.drained(time.Minute)
				r.wantStored(append(names, "b19/direct", "b0/last")...)
				t.Logf("%d passes", r.s.Stats().Passes)
			})
		})
	}
}

func TestABucketThatCatchesUpStopsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{MaxWindowBytes: 10_000, MaxCallRecords: 2}, streamtest.NewLog(t, 0))
		r.sky.set(func(w *weather) { w.take = 10 * time.Millisecond })
		names := r.fill(1000, 500, "b0")
		r.sky.set(func(w *weather) { w.take = 10 * time.Millisecond; w.fails = map[string]error{"b0": throttled} })
		r.run()
		time.Sleep(10 * time.Second)
		r.sky.set(func(w *weather) { w.fails = map[string]error{"b1": throttled} })
		time.Sleep(time.Second) // b0 has ten seconds of calls to go
		r.put("b1/1")
		time.Sleep(500 * time.Millisecond)
		r.want("spooled", "b1/1")
		r.sky.set(func(w *weather) { w.fails = nil })
		time.Sleep(4 * time.Second)
		if !slices.Contains(r.stored(), "b1/1") {
			t.Error("b1 waits for b0 to catch up")
		}
		if st := r.s.Stats(); st.Events < 200 {
			t.Fatalf("%+v: b0 has caught up already, nothing is shown", st)
		}
		r.drained(time.Minute)
		r.wantStored(append(names, "b1/1")...)
	})
}

func TestRecordsInACallStayInMemoryWhenOthersNeedRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{MaxWindowBytes: 10_000, MergedBytes: 9000}, streamtest.NewLog(t, 0))
		names := r.fill(50, 500, "b0")
		r.sky.set(func(w *weather) { w.take = time.Second })
		r.run()
		synctest.Wait() // nearly all of the window is in the first call
		r.sky.set(func(w *weather) { w.fails = map[string]error{"b1": throttled} })
		r.want("spooled", "b1/1") // and wants to be read, while a call is in flight
		r.sky.heal()
		r.drained(time.Minute)
		r.wantStored(append(names, "b1/1")...)
	})
}

func TestBucketsTakeTurnsWhereACallIsTooSmallForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{MaxCallRecords: 1}, streamtest.NewLog(t, 0))
		r.fill(20, 10, "b0", "b1", "b2")
		r.sky.set(func(w *weather) { w.take = time.Second })
		r.run()
		time.Sleep(12500 * time.Millisecond)
		for bucket, data := range byBucket(r.stored()) {
			if len(data) != 4 {
				t.Errorf("%d records of %s after 12 calls, want 4", len(data), bucket)
			}
		}
	})
}

func TestWhileTheStreamIsAwayTheLogIsNotReadForNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{MaxWindowBytes: 10_000}, streamtest.NewLog(t, 0))
		names := r.fill(100, 500, "b0")
		r.sky.set(func(w *weather) { w.whole = errLost })
		r.put("b1/1")
		time.Sleep(time.Second)
		r.want("spooled", "b1/1") // behind all of b0
		r.run()
		time.Sleep(10 * time.Minute)
		if st := r.s.Stats(); st.Passes != 0 || st.WindowBytes < 10_000 {
			t.Errorf("%d passes, %d bytes in the window: want it left as it is, nobody can go", st.Passes, st.WindowBytes)
		}
		r.sky.heal()
		r.drained(time.Minute)
		r.wantStored(append(names, "b1/1")...)
	})
}

func TestRecordsThatWaitBecomeOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{MergedBytes: 2000, MaxCallBytes: 5000}, streamtest.NewLog(t, 0))
		names := r.fill(200, 50, "b0", "b1")
		r.run()
		r.drained(time.Minute)
		r.wantStored(names...)
		for _, e := range r.memory.Entries() {
			for _, rec := range e.Records {
				if size := len(rec.PartitionKey) + len(rec.Data); size > 2000 {
					t.Errorf("a record of %d bytes, the limit is 2000", size)
				}
			}
		}
		if st := r.s.Stats(); st.Drained != 402 || st.Calls > 20 {
			t.Errorf("%+v, want 402 records in few calls", st)
		}
	})
}

func TestMergedRecordsThatAreTooLargeGoOneByOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{MergedBytes: 2000}, streamtest.NewLog(t, 0))
		names := r.fill(20, 50, "b0")
		r.sky.set(func(w *weather) { w.most = 100 })
		r.run()
		r.drained(time.Minute)
		r.wantStored(names...)
		if st := r.s.Stats(); st.Refused != 0 || st.TooLarge == 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestWhatTheStreamWillNeverTakeIsGivenAway(t *testing.T) {
	t.Parallel()
	big := "b0/" + strings.Repeat("x", 500)
	for _, tc := range []struct {
		name    string
		refused func(ctx context.Context, r stream.Record, cause error) error
		stuck   bool
	}{
		{"and taken", func(context.Context, stream.Record, error) error { return nil }, false},
		{"and not taken", func(context.Context, stream.Record, error) error { return errors.New("disk full") }, true},
		{"with nobody to take it", nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := spool.Config{}
				var mu sync.Mutex
				var given []string
				if tc.refused != nil {
					cfg.Refused = func(ctx context.Context, rec stream.Record, cause error) error {
						if fault.KindOf(cause) != fault.TooLarge {
							t.Errorf("refused for %v", cause)
						}
						mu.Lock()
						defer mu.Unlock()
						given = append(given, rec.PartitionKey+"/"+string(rec.Data))
						return tc.refused(ctx, rec, cause)
					}
				}
				r := newRig(t, cfg, streamtest.NewLog(t, 0))
				r.spooled("b0/1", "b1/1")
				r.want("spooled", big)
				r.want("spooled", "b0/2", "b1/2")
				r.sky.set(func(w *weather) { w.most = 100 })
				r.run()
				time.Sleep(time.Minute)
				mu.Lock()
				defer mu.Unlock()
				if st := r.s.Stats(); tc.stuck {
					if st.Stuck != 1 || st.Refused != 0 || st.Events != 2 || st.Buckets != 1 {
						t.Errorf("%+v, want only b0 stuck", st)
					}
					r.wantStored("b0/1", "b1/1", "b1/2")
					if tc.refused != nil && len(given) < 2 {
						t.Errorf("given %d times, want again and again", len(given))
					}
					// The limit is raised again, and nothing is refused any more.
					r.sky.heal()
					r.drained(time.Minute)
					r.wantStored("b0/1", "b1/1", "b1/2", big, "b0/2")
					return
				}
				if !slices.Equal(given, []string{big}) {
					t.Errorf("given %d records", len(given))
				}
				r.drained(time.Second)
				if st := r.s.Stats(); st.Stuck != 0 || st.Refused != 1 {
					t.Errorf("%+v", st)
				}
				r.wantStored("b0/1", "b1/1", "b1/2", "b0/2")
			})
		})
	}
}

// The bound of calls stands in Config.RetriesPerSecond: while the stream takes
// nothing, at most 1 + 10 + 5 a second at the defaults, of 500 buckets.
func TestAThrottleOfAMinuteGetsFewCalls(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(w *weather, keys []string){
		"every record is throttled": func(w *weather, keys []string) {
			w.fails = map[string]error{}
			for _, key := range keys {
				w.fails[key] = throttled
			}
		},
		"every call fails": func(w *weather, _ []string) { w.whole = errLost },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, spool.Config{Retry: retry.Policy{BaseDelay: time.Millisecond, MaxDelay: 10 * time.Millisecond}}, streamtest.NewLog(t, 0))
				var keys, names []string
				for i := range 500 {
					keys = append(keys, fmt.Sprintf("b%d", i))
					names = append(names, keys[i]+"/1")
				}
				r.spooled(names...)
				r.sky.set(func(w *weather) { fail(w, keys) })
				r.sky.set(func(w *weather) { w.calls = nil })
				r.run()
				for i := range 60 {
					time.Sleep(time.Second)
					r.want("spooled", fmt.Sprintf("b%d/more", i)) // costs no call
				}
				var got []time.Time
				r.sky.set(func(w *weather) { got = w.calls })
				if most := 1 + 10 + 5*60; len(got) > most || len(got) < most-20 {
					t.Errorf("%d calls in a minute, the bound is %d", len(got), most)
				}
				for i := range got {
					within := 0
					for j := i; j < len(got) && got[j].Sub(got[i]) < time.Second; j++ {
						within++
					}
					if within > 1+10+5 {
						t.Fatalf("%d calls in a second, the bound is 16", within)
					}
				}
				r.sky.heal()
				r.drained(time.Minute)
			})
		})
	}
}

func TestTenMinutesWithoutTheStreamUnderLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const window = 64 << 10
		r := newRig(t, spool.Config{MaxWindowBytes: window, MergedBytes: 8 << 10}, streamtest.NewLog(t, 0))
		r.run()
		r.sky.set(func(w *weather) { w.whole = errLost })
		keys := []string{"b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"}
		var names []string
		n := 0
		call := func() {
			call := make([]string, len(keys))
			for i, key := range keys {
				call[i] = fmt.Sprintf("%s/%d%s", key, n, strings.Repeat("x", 200))
			}
			n++
			for range 1000 { // as the producer does
				answers := r.put(call...)
				if answers[0] == "spooled" || answers[0] == "stored" {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			names = append(names, call...)
			if st := r.s.Stats(); st.WindowBytes > window+8*300 {
				t.Fatalf("%d bytes in the window, the bound is %d and an entry", st.WindowBytes, window)
			}
			time.Sleep(200 * time.Millisecond)
		}
		for began := time.Now(); time.Since(began) < 10*time.Minute; {
			call()
		}
		st := r.s.Stats()
		if !st.Away || st.Events < 20_000 || st.Age < 9*time.Minute {
			t.Errorf("%+v", st)
		}
		r.sky.set(func(w *weather) { w.whole, w.take = nil, 10*time.Millisecond })
		for range 100 { // and the load goes on
			call()
		}
		r.drained(10 * time.Second)
		r.wantStored(names...)
	})
}

func TestWhatIsOnTheStreamLeavesTheLogSoonAndInFewCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		r.fill(100, 10, "b0")
		counted := &countingLog{Log: r.log}
		s, err := spool.New(t.Context(), r.sky.around(r.memory), counted, spool.Config{}, discard)
		if err != nil {
			t.Fatal(err)
		}
		r.s = s
		r.sky.set(func(w *weather) { w.take = 10 * time.Millisecond })
		r.run()
		time.Sleep(500 * time.Millisecond)
		if n := len(r.log.Entries()); n > 101-35 {
			t.Errorf("%d entries are in the log, want at most those of the last 100 ms and the rest", n)
		}
		r.drained(time.Minute)
		if n := counted.discards.Load(); n > 12 {
			t.Errorf("%d discards in a second, want one in 100 ms", n)
		}
	})
}

// countingLog counts discards, and fails as many as it is told.
type countingLog struct {
	*streamtest.Log
	failing  int64
	discards atomic.Int64
}

func (l *countingLog) Discard(ctx context.Context, upTo uint64) error {
	if l.discards.Add(1) <= l.failing {
		return fault.New(fault.Unavailable, "away")
	}
	return l.Log.Discard(ctx, upTo)
}

func TestADiscardThatFailsIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		s, err := spool.New(t.Context(), r.sky.around(r.memory), &countingLog{Log: r.log, failing: 5}, spool.Config{}, discard)
		if err != nil {
			t.Fatal(err)
		}
		r.s = s
		r.spooled("b0/1")
		r.run()
		r.drained(time.Minute)
		r.wantStored("b0/1")
	})
}

func TestStoppingEndsTheCallInFlightAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		r.spooled("b0/1")
		r.want("spooled", "b0/2")
		r.sky.set(func(w *weather) { w.take = time.Second })
		r.run()
		synctest.Wait()
		began := time.Now()
		r.stop()
		if took := time.Since(began); took != time.Second {
			t.Errorf("Run took %v to stop, want what was left of the call", took)
		}
		if n := len(r.log.Entries()); n != 1 {
			t.Errorf("%d entries are in the log, want the one that is not on the stream", n)
		}
		r.restart(spool.Config{})
		r.drained(time.Minute)
		r.wantStored("b0/1", "b0/2")
	})
}

func TestEntriesThatTheLogLostStayInTheAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		r.spooled("b0/1", "b1/1")
		r.want("spooled", "b0/2")
		r.log.Lose(1)
		r.run()
		time.Sleep(time.Minute)
		r.wantStored("b0/2")
		if got := r.s.Spooled(); got != 2 {
			t.Errorf("%d events in the spool, want the 2 that nobody will see again", got)
		}
		r.want("spooled", "b0/3") // b0 and b1 wait for them
		time.Sleep(time.Second)
		r.wantStored("b0/2", "b0/3")
	})
}

// operations counts what a process does to its log and its stream, and ends it
// at one of them: before it has an effect, or after it.
type operations struct {
	mu      sync.Mutex
	left    int
	after   bool
	log     *streamtest.Log
	crashed bool
}

func (o *operations) do(effect func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left--
	end := func() { o.crashed, o.log = true, o.log.Crash() }
	if o.left == 0 && !o.after {
		end()
	}
	effect()
	if o.left == 0 && o.after {
		end()
	}
}

func (o *operations) alive() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.crashed
}

type fragileLog struct {
	*streamtest.Log
	o *operations
}

func (l fragileLog) PutRecords(ctx context.Context, records []stream.Record) (results []stream.Result, err error) {
	l.o.do(func() { results, err = l.Log.PutRecords(ctx, records) })
	return results, err
}

func (l fragileLog) Discard(ctx context.Context, upTo uint64) (err error) {
	l.o.do(func() { err = l.Log.Discard(ctx, upTo) })
	return err
}

func TestACrashAtAnyPointLosesNothing(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		crashed := true
		for point := 1; crashed; point++ {
			synctest.Test(t, func(t *testing.T) { crashed = crashAt(t, point, after) })
			if point > 1000 {
				t.Fatal("there is no end to it")
			}
		}
	}
}

// crashAt ends a process at an operation and starts another. It returns false
// if there are not so many.
func crashAt(t *testing.T, point int, after bool) (crashed bool) {
	r := &rig{t: t, log: streamtest.NewLog(t, 0), memory: streamtest.NewMemory(t, streamtest.Limits{}), sky: &weather{}}
	o := &operations{left: point, after: after, log: r.log}
	direct := r.sky.around(r.memory)
	s, err := spool.New(t.Context(), streamtest.Func(func(ctx context.Context, records []stream.Record) (results []stream.Result, err error) {
		o.do(func() {
			if results, err = nil, errLost; !o.crashed {
				results, err = direct.PutRecords(ctx, records)
			}
		})
		return results, err
	}), fragileLog{r.log, o}, spool.Config{Patience: time.Nanosecond}, discard)
	if err != nil {
		t.Fatal(err)
	}
	r.s = s
	// What is answered before the crash must be there after it.
	var answered []string
	put := func(names ...string) {
		for i, answer := range r.put(names...) {
			if (answer == "stored" || answer == "spooled") && o.alive() {
				answered = append(answered, names[i])
			}
		}
		time.Sleep(time.Millisecond)
	}
	r.run()
	put("b0/1", "b1/1")
	r.sky.set(func(w *weather) { w.fails = map[string]error{"b0": throttled} })
	put("b0/2", "b1/2")
	put("b0/2", "b1/3")
	put("b0/3")
	r.sky.set(func(w *weather) { w.whole = errLost })
	put("b1/4")
	put("b1/4")
	r.sky.heal()
	time.Sleep(5 * time.Second)
	put("b0/4", "b1/5")
	if o.alive() {
		r.drained(time.Minute)
		return false
	}
	r.stop()
	r.log = o.log
	r.open(spool.Config{})
	r.run()
	r.drained(time.Minute)
	stored := r.stored()
	for _, name := range answered {
		if !slices.Contains(stored, name) {
			t.Errorf("crash at %d (after: %v): %s was answered as durable and is not on the stream: %v", point, after, name, stored)
		}
	}
	for bucket, data := range byBucket(stored) {
		last := ""
		for i, d := range data {
			if slices.Index(data, d) == i {
				if d < last {
					t.Errorf("crash at %d (after: %v): %s has %v", point, after, bucket, data)
				}
				last = d
			}
		}
	}
	return true
}

func TestRunIsCalledOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		r.run()
		synctest.Wait()
		if err := r.s.Run(t.Context()); err == nil {
			t.Error("the second Run returned nil")
		}
	})
}

func TestConfigNamesEveryFault(t *testing.T) {
	t.Parallel()
	err := spool.Config{
		Patience: -1, CallTimeout: -1, MaxCallRecords: -1, MaxCallBytes: -1, MergedBytes: -1, MaxWindowBytes: -1,
		Retry: retry.Policy{MaxAttempts: 3, BaseDelay: -1, MaxDelay: -2}, RetriesPerSecond: -1, RetryBurst: -1,
	}.Validate()
	for _, field := range []string{
		"Patience", "CallTimeout", "MaxCallRecords", "MaxCallBytes", "MergedBytes", "MaxWindowBytes",
		"Retry.MaxAttempts", "Retry.BaseDelay", "Retry.MaxDelay", "RetriesPerSecond", "RetryBurst",
	} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in: %v", field, err)
		}
	}
	if err := (spool.Config{}).Validate(); err != nil {
		t.Errorf("the zero value is not valid: %v", err)
	}
}
