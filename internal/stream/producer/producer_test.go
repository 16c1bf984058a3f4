package producer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

func TestPutAnswersWhenEverythingIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Slow(s, time.Millisecond)
		})
		began := time.Now()
		r.mustPut("ann/1", "bob/2", "ann/3")
		// A quiet gateway sends at once: the answer takes one call, no more.
		if d := time.Since(began); d != time.Millisecond {
			t.Errorf("Put took %v, want the 1ms of the call", d)
		}
		if got := slices.Sorted(slices.Values(r.stored())); !slices.Equal(got, []string{"ann/1", "ann/3", "bob/2"}) {
			t.Errorf("stored %v", got)
		}
		r.wantIntake(3, 0)
		if err := r.drain(); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatComesDuringACallGoesIntoTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Slow(s, time.Second)
		})
		var senders sync.WaitGroup
		for i := range 50 {
			senders.Go(func() { r.mustPut(fmt.Sprintf("u%d/%d", i, i)) })
			if i == 0 {
				synctest.Wait() // the first is in flight, the others find it so
			}
		}
		senders.Wait()
		if n := len(r.memory.Entries()); n != 2 {
			t.Errorf("%d calls, want one for the first event and one for the rest", n)
		}
		// Everything of a bucket is in one record.
		if n := len(r.memory.Entries()[1].Records); n > 16 {
			t.Errorf("%d records in the second call, want one per bucket at most", n)
		}
		r.wantIntake(50, 0)
	})
}

func TestAPartialFailureIsRetriedWithoutItsNeighboursAndNotOvertaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ann := producer.BucketKey(int(event.Hash("ann") % 16))
		r := start(t, producer.Config{}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.FailRecords(s, func(call, _ int, rec stream.Record) error {
				if rec.PartitionKey == ann && call <= 3 {
					return &fault.Error{Kind: fault.Throttled, RetryAfter: time.Second}
				}
				return nil
			})
		})
		var senders sync.WaitGroup
		senders.Go(func() { r.mustPut("ann/1", "bob/1") })
		synctest.Wait()
		senders.Go(func() { r.mustPut("ann/2") }) // must wait behind ann/1
		synctest.Wait()
		r.mustPut("bob/2") // does not wait for ann
		if got := r.stored(); !slices.Equal(got, []string{"bob/1", "bob/2"}) {
			t.Errorf("while ann's bucket rests: stored %v, want bob's two", got)
		}
		senders.Wait()
		if got := r.stored(); !slices.Equal(got, []string{"bob/1", "bob/2", "ann/1", "ann/2"}) {
			t.Errorf("stored %v", got)
		}
		r.wantIntake(4, 0)
		if s := r.p.Stats(); s.Throttled != 2 {
			t.Errorf("throttled %d times, want 2", s.Throttled)
		}
	})
}

func TestAnUnknownOutcomeIsWrittenAgainWithTheSameBytes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		around func(streamtest.Stream) streamtest.Stream
		copies int
	}{
		{"the reply was lost", func(s streamtest.Stream) streamtest.Stream {
			return streamtest.LostReply(s, 1, context.DeadlineExceeded)
		}, 2},
		{"the request was lost", func(s streamtest.Stream) streamtest.Stream {
			return streamtest.LostRequest(s, 1, errors.New("connection reset"))
		}, 1},
		{"the error of the call claims that nothing was stored", func(s streamtest.Stream) streamtest.Stream {
			return streamtest.LostReply(s, 1, fault.New(fault.Unavailable, "away"))
		}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := start(t, producer.Config{}, tc.around)
				r.mustPut("ann/1", "ann/2")
				entries := r.memory.Entries()
				if len(entries) != tc.copies {
					t.Fatalf("written %d times, want %d", len(entries), tc.copies)
				}
				first := entries[0].Records[0]
				for _, e := range entries {
					if string(e.Records[0].Data) != string(first.Data) {
						t.Errorf("the second attempt has other bytes")
					}
				}
				r.wantIntake(2, 0) // once, however often it was written
				if s := r.p.Stats(); s.Ambiguous != 1 {
					t.Errorf("counted %d ambiguous attempts, want 1", s.Ambiguous)
				}
			})
		})
	}
}

func TestASenderWhoLeavesGetsAnAnswerAtOnceAndItsEventsArrive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Slow(s, time.Second)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		if got := kinds(r.put(ctx, "ann/1", "ann/2")); !slices.Equal(got, []string{"ambiguous", "ambiguous"}) {
			t.Errorf("answers %v, want ambiguous: the events are on their way", got)
		}
		if d := time.Since(began); d != 300*time.Millisecond {
			t.Errorf("the sender waited %v, want 300ms", d)
		}
		r.wantIntake(0, 0)
		time.Sleep(time.Second)
		r.wantIntake(2, 0)
		if got := r.stored(); !slices.Equal(got, []string{"ann/1", "ann/2"}) {
			t.Errorf("stored %v", got)
		}
	})
}

func TestTheBatchBelongsToTheSenderAfterPut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Slow(s, time.Second)
		})
		go r.mustPut("eve/0") // occupies the only call
		synctest.Wait()
		var b stream.Batch
		b.Add(sent("ann/1"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := r.p.Put(ctx, &b); err == nil {
			t.Error("Put returned nil before the event was stored")
		}
		b.Reset()
		b.Add(sent("zoe/9"))
		if err := r.drain(); err != nil {
			t.Error(err)
		}
		if got := r.stored(); !slices.Equal(got, []string{"eve/0", "ann/1"}) {
			t.Errorf("stored %v", got)
		}
		if err := b.Err(0); err != nil {
			t.Errorf("an answer was written into a batch that had been handed back: %v", err)
		}
	})
}

func TestARecordThatNobodyWaitsForIsGivenUpOnlyIfItIsKnownNotToBeStored(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		around             func(streamtest.Stream) streamtest.Stream
		accepted, rejected uint64
	}{
		"known not to be stored": {func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Down(s, time.Now().Add(time.Minute))
		}, 0, 1},
		"perhaps stored": {func(s streamtest.Stream) streamtest.Stream {
			return streamtest.LostRequest(streamtest.Down(s, time.Now().Add(time.Minute)), 1, context.DeadlineExceeded)
		}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := start(t, producer.Config{}, tc.around)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if got := kinds(r.put(ctx, "ann/1")); !slices.Equal(got, []string{"ambiguous"}) {
					t.Errorf("answer %v", got)
				}
				time.Sleep(2 * time.Minute)
				r.wantIntake(tc.accepted, tc.rejected)
			})
		})
	}
}

func TestARecordWhoseSendersLeftWhileItRestedIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Throttle(s, 1, time.Minute)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r.put(ctx, "ann/1")
		time.Sleep(2 * time.Minute)
		if got := r.stored(); len(got) != 0 {
			t.Errorf("stored %v a minute after its sender was told otherwise", got)
		}
		r.wantIntake(0, 1)
	})
}

func TestPartsOfARecordThatWasTooLargeAreGivenUpLikeTheWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Slow(streamtest.FailRecords(s, func(call, _ int, _ stream.Record) error {
				if call == 1 {
					return fault.New(fault.TooLarge, "limit")
				}
				return fault.New(fault.Unavailable, "away")
			}), time.Second)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		r.put(ctx, "ann/1", "ann/2", "ann/3") // its sender leaves during the first call
		time.Sleep(time.Minute)
		r.wantIntake(0, 3)
		if s := r.p.Stats(); s.Calls != 1 {
			t.Errorf("%d calls, want one: nobody waits for the parts", s.Calls)
		}
	})
}

func TestStoppingWritesWhatWasTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Slow(streamtest.Down(s, time.Now().Add(3*time.Second)), time.Second)
		})
		answers := make(chan []error, 2)
		go func() { answers <- r.put(t.Context(), "ann/1") }()
		synctest.Wait()
		go func() { answers <- r.put(t.Context(), "bob/1") }()
		synctest.Wait()
		r.stop()
		synctest.Wait()
		if got := kinds(r.put(t.Context(), "eve/1")); !slices.Equal(got, []string{"unavailable"}) {
			t.Errorf("Put after the stop answers %v", got)
		}
		for range 2 {
			if got := kinds(<-answers); !slices.Equal(got, []string{"ok"}) {
				t.Errorf("a Put before the stop answers %v", got)
			}
		}
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
		r.wantIntake(2, 1)
	})
}

func TestStoppingWithTheStreamAwayAnswersEverybody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{DrainTimeout: 5 * time.Second}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Slow(s, time.Hour)
		})
		var mu sync.Mutex
		answers := map[string]string{}
		var senders sync.WaitGroup
		for _, n := range []string{"ann/1", "bob/1"} {
			senders.Go(func() {
				k := kinds(r.put(t.Context(), n))
				mu.Lock()
				answers[n] = k[0]
				mu.Unlock()
			})
			synctest.Wait()
		}
		began := time.Now()
		if err := r.drain(); err == nil {
			t.Error("Run returned nil, though events were not stored")
		}
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("Run took %v to stop, want the drain timeout", d)
		}
		senders.Wait()
		// ann was in the call, bob waited for it to end.
		if want := map[string]string{"ann/1": "ambiguous", "bob/1": "unavailable"}; !maps.Equal(answers, want) {
			t.Errorf("answers %v, want %v", answers, want)
		}
		if s := r.p.Stats(); s.Undecided != 1 || s.WaitingEvents+s.FlyingEvents != 0 {
			t.Errorf("stats %+v, want one undecided", s)
		}
		r.wantIntake(0, 1)
	})
}

func TestAContextThatIsDoneTakesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got := kinds(r.put(ctx, "ann/1")); !slices.Equal(got, []string{"unavailable"}) {
			t.Errorf("answer %v", got)
		}
		synctest.Wait()
		if got := r.stored(); len(got) != 0 {
			t.Errorf("stored %v", got)
		}
		r.wantIntake(0, 1)
	})
}

func TestABrokenStreamThatForgetsResultsLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		r := start(t, producer.Config{}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
				if calls++; calls == 1 {
					return nil, nil
				}
				return s.PutRecords(ctx, records)
			})
		})
		r.mustPut("ann/1")
		if got := r.stored(); !slices.Equal(got, []string{"ann/1"}) {
			t.Errorf("stored %v", got)
		}
	})
}

func TestARetryIsMadeInTimeThoughAnotherCallTakesLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := producer.Config{MaxInFlightCalls: 2, Retry: retry.Policy{BaseDelay: 8 * time.Millisecond, MaxDelay: 8 * time.Millisecond}}
		bob := producer.BucketKey(int(event.Hash("bob") % 16))
		r := start(t, cfg, func(s streamtest.Stream) streamtest.Stream {
			s = streamtest.FailRecords(s, func(call, _ int, _ stream.Record) error {
				if call == 1 {
					return fault.New(fault.Throttled, "slow down")
				}
				return nil
			})
			return streamtest.Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
				d := 100 * time.Microsecond
				if records[0].PartitionKey == bob {
					d = 5 * time.Second
				}
				return streamtest.Slow(s, d).PutRecords(ctx, records)
			})
		})
		synctest.Wait()
		began := time.Now()
		go r.mustPut("ann/1") // fails once
		time.Sleep(101 * time.Microsecond)
		go r.mustPut("bob/1") // keeps the worker that woke last
		time.Sleep(10 * time.Millisecond)
		if got := r.stored(); !slices.Equal(got, []string{"ann/1"}) {
			t.Errorf("%v after the start: stored %v, want ann's event", time.Since(began), got)
		}
		time.Sleep(5 * time.Second)
	})
}

func TestACallThatTakesLongIsNotWaitedForByOthers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		first time.Duration // what the first call takes
		want  time.Duration // when the second starts
	}{
		{time.Second, 50 * time.Millisecond},
		{51 * time.Millisecond, 50 * time.Millisecond},
		{49 * time.Millisecond, 49 * time.Millisecond}, // the call in flight is the linger
		{10 * time.Millisecond, 10 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var starts []time.Duration
			began := time.Now()
			cfg := producer.Config{Buckets: 32, MaxInFlightCalls: 3, Stagger: 50 * time.Millisecond}
			r := start(t, cfg, func(s streamtest.Stream) streamtest.Stream {
				return streamtest.Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
					mu.Lock()
					starts = append(starts, time.Since(began))
					takes := c.first
					if len(starts) > 1 {
						takes = 10 * time.Millisecond
					}
					mu.Unlock()
					if err := retry.Sleep(ctx, takes); err != nil {
						return nil, err
					}
					return s.PutRecords(ctx, records)
				})
			})
			var senders sync.WaitGroup
			for i := range 20 {
				senders.Go(func() {
					time.Sleep(time.Duration(i) * 100 * time.Microsecond)
					r.mustPut(fmt.Sprintf("user-%d/1", i))
				})
			}
			senders.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(starts) > 3 || starts[1] != c.want {
				t.Errorf("the first call took %v: calls started at %v, want the second at %v", c.first, starts, c.want)
			}
		})
	}
}
