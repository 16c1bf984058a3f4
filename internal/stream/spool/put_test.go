package spool_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/spool"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

func TestAStreamThatTakesEverythingNeedsNoLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		r.run()
		r.want("stored", "b0/1", "b1/1")
		r.want("stored", "b0/2")
		r.wantStored("b0/1", "b1/1", "b0/2")
		if st := r.s.Stats(); st.Writes != 0 || st.Calls != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestAShortTroubleIsTheCallersAndALongOneIsSpooled(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, answer string
		err          error
		repeated     uint64
	}{
		{"throttled", "throttled", throttled, 0},
		{"not stored", "unavailable", unavailable, 0},
		{"unknown", "internal", errLost, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
				fail := func(w *weather) { w.fails = map[string]error{"b0": tc.err} }
				r.sky.set(fail)
				r.want(tc.answer, "b0/1")
				time.Sleep(499 * time.Millisecond)
				r.want(tc.answer, "b0/1")
				// A success ends the row.
				r.sky.heal()
				r.want("stored", "b0/1")
				r.sky.set(fail)
				time.Sleep(time.Minute)
				r.want(tc.answer, "b0/2")
				time.Sleep(499 * time.Millisecond)
				r.want(tc.answer, "b0/2")
				time.Sleep(time.Millisecond)
				if got := r.put("b0/2", "b1/1"); !slices.Equal(got, []string{"spooled", "stored"}) {
					t.Errorf("after 500 ms: %v, want only b0 in the spool", got)
				}
				if st := r.s.Stats(); st.Repeated != tc.repeated || st.Events != 1 || st.Buckets != 1 || st.Writes != 1 {
					t.Errorf("%+v, want %d repeated", st, tc.repeated)
				}
				r.sky.heal()
				r.run()
				r.drained(time.Minute)
				r.wantStored("b0/1", "b0/2", "b1/1")
			})
		})
	}
}

func TestARecordThatIsTooLargeIsNotSpooled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		r.sky.set(func(w *weather) { w.most = 2 })
		for range 3 {
			r.want("too_large", "b0/large")
			time.Sleep(time.Second)
		}
		r.want("stored", "b0/1")
	})
}

func TestNothingOvertakesWhatIsInTheSpool(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		r.spooled("b0/1")
		if got := r.put("b0/2", "b1/1"); !slices.Equal(got, []string{"spooled", "stored"}) {
			t.Errorf("%v, want b0 behind what is in the spool", got)
		}
		if got := r.s.Spooled(); got != 2 {
			t.Errorf("%d events in the spool, want 2", got)
		}
		r.run()
		synctest.Wait()
		if got := r.stored(); !slices.Equal(got, []string{"b1/1", "b0/1", "b0/2"}) {
			t.Errorf("stored %v", got)
		}
		r.drained(time.Second)
		r.want("stored", "b0/3")
		r.wantStored("b1/1", "b0/1", "b0/2", "b0/3")
	})
}

func TestARecordWhoseWriteIsUnderWayIsNotOvertaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := streamtest.NewLog(t, 0)
		log.OnPut = func(call int, _ []stream.Record) (o streamtest.LogOutcome) {
			if call == 2 {
				o.Take = time.Second
			}
			return o
		}
		r := newRig(t, spool.Config{}, log)
		r.spooled("b0/1")
		var second sync.WaitGroup
		second.Go(func() { r.want("spooled", "b0/2") })
		synctest.Wait()
		r.run() // everything that is in the log goes to the stream
		time.Sleep(500 * time.Millisecond)
		r.wantStored("b0/1")
		r.want("spooled", "b0/3") // from a caller that does not wait for its answer
		second.Wait()
		r.drained(time.Second)
		if got := len(r.stored()); got != 3 {
			t.Errorf("%d records are on the stream, want 3", got)
		}
	})
}

func TestAStreamThatIsAwayIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	nothing := map[string]error{"b0": unavailable, "b1": unavailable, "b2": unavailable}
	for name, tc := range map[string]struct {
		hangs  bool
		change func(*weather)
		answer string
	}{
		"fails":   {false, func(w *weather) { w.whole = errLost }, "lost"},
		"refuses": {false, func(w *weather) { w.fails = nothing }, "unavailable"}, // no connection is made
		"hangs":   {true, func(w *weather) { w.take = time.Hour }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, spool.Config{CallTimeout: 2 * time.Second}, streamtest.NewLog(t, 0))
				began := time.Now()
				r.sky.set(tc.change)
				if tc.hangs {
					// The first call shows it: it takes longer than the patience.
					r.want("spooled", "b0/1")
					if took := time.Since(began); took != 2*time.Second {
						t.Errorf("the first took %v, want the timeout of a call", took)
					}
				} else {
					r.want(tc.answer, "b0/1")
					time.Sleep(499 * time.Millisecond)
					r.want(tc.answer, "b0/1", "b1/1")
					if r.s.Stats().Away {
						t.Error("away before 500 ms")
					}
					time.Sleep(time.Millisecond)
					r.want("spooled", "b0/1", "b1/1")
				}
				if st := r.s.Stats(); !st.Away || !st.AwaySince.Equal(began) {
					t.Errorf("%+v, want away since %v", st, began)
				}
				now := time.Now()
				r.sky.set(func(w *weather) { w.calls = nil })
				r.want("spooled", "b2/1")
				r.want("spooled", "b0/2")
				if len(r.sky.calls) != 0 || !time.Now().Equal(now) {
					t.Errorf("a record waited %v for a stream that is away", time.Since(now))
				}
			})
		})
	}
}

func TestAStreamThatAnswersIsNotAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		for range 10 {
			r.sky.set(func(w *weather) { w.whole = errLost })
			r.put("b0/1")
			time.Sleep(300 * time.Millisecond)
			r.sky.set(func(w *weather) { w.whole, w.fails = nil, map[string]error{"b1": throttled} })
			r.put("b1/1")
			time.Sleep(300 * time.Millisecond)
		}
		if r.s.Stats().Away {
			t.Error("away, though calls were answered in between")
		}
	})
}

func TestTheFirstDrainedRecordBringsTheStreamBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		r.sky.set(func(w *weather) { w.whole = errLost })
		r.put("b0/1")
		time.Sleep(500 * time.Millisecond)
		r.want("spooled", "b0/1", "b1/1", "b2/1", "b3/1")
		r.run()
		time.Sleep(time.Minute)
		r.want("spooled", "b4/1")
		r.sky.mu.Lock()
		if got := slices.Max(r.sky.sizes[1:]); got > 4 || slices.Max(r.sky.sizes[len(r.sky.sizes)-10:]) != 1 {
			t.Errorf("calls of %v records: want one, to see whether the stream is back", r.sky.sizes)
		}
		r.sky.mu.Unlock()
		r.sky.heal()
		r.drained(5 * time.Second)
		if st := r.s.Stats(); st.Away || st.FailedCalls == 0 || st.Repeated == 0 {
			t.Errorf("%+v, want the stream back", st)
		}
		r.want("stored", "b0/2", "b9/1")
		r.wantStored("b0/1", "b1/1", "b2/1", "b3/1", "b4/1", "b0/2", "b9/1")
	})
}

func TestAwayWithNothingInTheSpoolTheStreamIsTried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := streamtest.NewLog(t, 0)
		log.OnPut = func(int, []stream.Record) streamtest.LogOutcome { return streamtest.LogOutcome{Refuse: full} }
		r := newRig(t, spool.Config{}, log)
		r.run()
		r.sky.set(func(w *weather) { w.whole = errLost })
		r.want("lost", "b0/1")
		time.Sleep(500 * time.Millisecond)
		r.want("ambiguous", "b0/1")
		if !r.s.Stats().Away {
			t.Error("not away")
		}
		r.sky.heal()
		r.want("stored", "b0/1")
		if r.s.Stats().Away {
			t.Error("still away")
		}
	})
}

func TestALogThatRefusesLeavesTheRecordToTheCaller(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name         string
		stream       error
		log          error
		first, later string // while the stream fails, and behind what is spooled
	}{
		{"neither stored it", throttled, full, "unavailable", "unavailable"},
		{"the stream may have stored it", errLost, full, "internal", "unavailable"},
		{"too large for the log", throttled, tooLarge, "unavailable", "unavailable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := streamtest.NewLog(t, 0)
				var refuse error
				log.OnPut = func(int, []stream.Record) streamtest.LogOutcome { return streamtest.LogOutcome{Refuse: refuse} }
				r := newRig(t, spool.Config{}, log)
				r.sky.set(func(w *weather) { w.fails = map[string]error{"b0": tc.stream, "b1": tc.stream} })
				r.put("b0/1", "b1/1")
				time.Sleep(time.Second)
				r.want("spooled", "b1/1")
				refuse = tc.log
				r.want(tc.first, "b0/1")
				r.want(tc.later, "b1/2")
				results, err := r.s.PutRecords(t.Context(), []stream.Record{plain("b1/2")})
				if err != nil || fault.RetryAfter(results[0].Err) != 0 {
					t.Errorf("%v, %v: want no RetryAfter, the producer tries again", results, err)
				}
				if st := r.s.Stats(); st.Refusals != 3 || st.Doubts != 0 || st.Events != 1 || !st.Full {
					t.Errorf("%+v", st)
				}
				refuse = nil
				r.sky.heal()
				r.want("stored", "b0/1") // it never was in the spool
				r.want("spooled", "b1/2")
				r.run()
				r.drained(time.Minute)
				r.wantStored("b0/1", "b1/1", "b1/2")
				if r.s.Stats().Full {
					t.Error("full, with nothing in it")
				}
			})
		})
	}
}

func TestWaitTellsWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 50_000))
		if got := r.s.Wait(); got != 0 {
			t.Errorf("with nothing in the spool: %v, want 0: it does not know", got)
		}
		r.spooled("b0/1")
		n := 0
		for r.put(fmt.Sprintf("b0/%d%s", n, strings.Repeat("x", 1000)))[0] == "spooled" {
			n++
		}
		if n < 40 {
			t.Fatalf("the log took %d records", n)
		}
		if got := r.s.Wait(); got != 30*time.Second {
			t.Errorf("while nothing drains: %v, want 30s", got)
		}
		r.sky.set(func(w *weather) { w.take = 100 * time.Millisecond }) // 10 kB/s
		r.run()
		time.Sleep(2500 * time.Millisecond)
		if got := r.s.Wait(); got < 2*time.Second || got > 8*time.Second {
			t.Errorf("with 25 kB at 10 kB/s, seen for half of the mean's time: %v", got)
		}
		r.want("spooled", "b0/room")
		r.drained(time.Minute)
	})
}

func TestARecordThatMayBeInTheLogIsNeitherStoredNorNot(t *testing.T) {
	t.Parallel()
	for name, outcome := range map[string]streamtest.LogOutcome{
		"the request was lost":   {Lose: errLost},
		"the reply was lost":     {Lose: errLost, Stored: true},
		"it is stored late":      {Lose: fault.New(fault.Unavailable, "whatever it says"), Stored: true, Late: 300 * time.Millisecond},
		"it is stored very late": {Lose: errLost, Stored: true, Late: 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := streamtest.NewLog(t, 0)
				log.OnPut = func(call int, _ []stream.Record) streamtest.LogOutcome {
					if call == 1 {
						return outcome
					}
					return streamtest.LogOutcome{}
				}
				r := newRig(t, spool.Config{}, log)
				r.run()
				r.sky.set(func(w *weather) { w.fails = map[string]error{"b0": throttled} })
				r.put("b0/1")
				time.Sleep(time.Second)
				r.want("ambiguous", "b0/1")
				r.sky.heal()
				time.Sleep(10 * time.Second) // whatever is in the log is drained
				r.want("spooled", "b0/1")    // and yet it must not go past the log
				time.Sleep(time.Second)
				r.want("stored", "b0/2")
				r.log.Settle()
				time.Sleep(time.Second)
				r.drained(time.Second)
				r.wantStored("b0/1", "b0/2") // once
				if st := r.s.Stats(); st.Doubts != 1 || st.Written != 1 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

func TestACopyThatComesTooLateIsStoredTwiceAndCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := streamtest.NewLog(t, 0)
		log.OnPut = func(call int, _ []stream.Record) (o streamtest.LogOutcome) {
			if call == 1 {
				o = streamtest.LogOutcome{Lose: errLost, Stored: true, Late: 3 * time.Minute}
			}
			return o
		}
		r := newRig(t, spool.Config{}, log)
		r.run()
		r.sky.set(func(w *weather) { w.fails = map[string]error{"b0": throttled} })
		r.put("b0/1")
		time.Sleep(time.Second)
		r.want("ambiguous", "b0/1")
		r.want("spooled", "b0/1")
		time.Sleep(2 * time.Minute)
		r.want("spooled", "b0/2")
		r.sky.heal()
		time.Sleep(30 * time.Second)
		r.log.Settle()
		r.drained(time.Minute)
		r.wantStored("b0/1", "b0/2", "b0/1")
	})
}

func TestBothPartsOfACallRunSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := streamtest.NewLog(t, 0)
		log.OnPut = func(int, []stream.Record) streamtest.LogOutcome { return streamtest.LogOutcome{Take: time.Second} }
		r := newRig(t, spool.Config{}, log)
		r.spooled("b0/1")
		r.sky.set(func(w *weather) { w.take = time.Second })
		began := time.Now()
		if got := r.put("b1/1", "b0/2", "b2/1"); !slices.Equal(got, []string{"stored", "spooled", "stored"}) {
			t.Errorf("answers %v", got)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("the call took %v, want the second of each part", took)
		}
	})
}

func TestWhatFailsTogetherIsOneWriteToTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		r.spooled("b0/1", "b1/1", "b2/1")
		if entries := r.log.Entries(); len(entries) != 1 || len(entries[0].Records) != 3 {
			t.Errorf("%d entries, want one of three records", len(entries))
		}
	})
}

func TestACallersDeadlineLeavesTimeForTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, spool.Config{}, streamtest.NewLog(t, 0))
		r.sky.set(func(w *weather) { w.take = time.Hour })
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		began := time.Now()
		results, err := r.s.PutRecords(ctx, []stream.Record{plain("b0/1")})
		if err != nil || !results[0].Spooled || time.Since(began) != 3*time.Second {
			t.Errorf("%v, %v after %v: want it spooled after 3 of 4 seconds", results, err, time.Since(began))
		}
	})
}
