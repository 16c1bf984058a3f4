package producer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

// rig is a running producer over a stream in memory, inside a synctest bubble.
type rig struct {
	t      *testing.T
	p      *producer.Producer
	memory *streamtest.Memory
	intake *ledger.Intake
	stop   func()
	ended  chan error
}

// start runs a producer; around puts faults between it and the memory.
func start(t *testing.T, cfg producer.Config, around func(streamtest.Stream) streamtest.Stream) *rig {
	t.Helper()
	r := &rig{t: t, intake: new(ledger.Intake), ended: make(chan error, 1)}
	r.memory = streamtest.NewMemory(t, streamtest.Limits{
		MaxCallRecords: cfg.MaxCallRecords, MaxCallBytes: cfg.MaxCallBytes, MaxRecordBytes: cfg.MaxRecordBytes,
	})
	var s streamtest.Stream = r.memory
	if around != nil {
		s = around(s)
	}
	p, err := producer.New(streamtest.Watch(t, s, r.memory.Limits()), r.intake, cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.p = p
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ended <- p.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

// drain stops the producer and returns what Run said.
func (r *rig) drain() error {
	r.stop()
	return <-r.ended
}

// put sends events named user/id and returns their errors.
func (r *rig) put(ctx context.Context, names ...string) []error {
	var b stream.Batch
	for _, name := range names {
		b.Add(sent(name))
	}
	err := r.p.Put(ctx, &b)
	errs := make([]error, b.Len())
	var first error
	for i := range errs {
		errs[i] = b.Err(i)
		if first == nil {
			first = errs[i]
		}
	}
	if err != first {
		r.t.Errorf("Put returned %v, the first event's error is %v", err, first)
	}
	return errs
}

func (r *rig) mustPut(names ...string) {
	r.t.Helper()
	for i, err := range r.put(r.t.Context(), names...) {
		if err != nil {
			r.t.Errorf("%s: %v", names[i], err)
		}
	}
}

// sent makes an event from user/id, with a filling after another slash.
func sent(name string) *event.Event {
	parts := strings.SplitN(name, "/", 3)
	e := &event.Event{ID: parts[1], Type: event.TypeTrack, Name: "order_placed", UserID: parts[0]}
	if len(parts) == 3 {
		e.Data = json.RawMessage(`{"note":"` + parts[2] + `"}`)
	}
	return e
}

// name is the reverse of sent, without the filling. The fields of the stored
// form stand in a fixed order.
func name(t testing.TB, data []byte) string {
	_, rest, ok1 := strings.Cut(string(data), `{"id":"`)
	id, rest, ok2 := strings.Cut(rest, `"`)
	_, rest, ok3 := strings.Cut(rest, `"user_id":"`)
	user, _, ok4 := strings.Cut(rest, `"`)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		t.Fatalf("stored event %q is not as it was sent", data)
	}
	return user + "/" + id
}

// stored returns the names of the events on the stream, in its order.
func (r *rig) stored() []string {
	var names []string
	for _, data := range r.memory.Events() {
		names = append(names, name(r.t, data))
	}
	return names
}

func kinds(errs []error) []string {
	names := make([]string, len(errs))
	for i, err := range errs {
		names[i] = "ok"
		if err != nil {
			names[i] = fault.KindOf(err).String()
		}
	}
	return names
}

// wantIntake checks what was counted.
func (r *rig) wantIntake(accepted, rejected uint64) {
	r.t.Helper()
	s := r.p.Stats()
	if s.Accepted != accepted || s.Rejected != rejected {
		r.t.Errorf("accepted %d, rejected %d, want %d and %d", s.Accepted, s.Rejected, accepted, rejected)
	}
	checkIntake(r.t, s, r.intake)
	if s.Events != s.Accepted+s.Rejected+s.Undecided+uint64(s.WaitingEvents+s.FlyingEvents) {
		r.t.Errorf("the account does not add up: %+v", s)
	}
}

// checkIntake compares what the ledger was told with the producer's figures.
func checkIntake(t *testing.T, s producer.Stats, intake *ledger.Intake) {
	t.Helper()
	balance := intake.Balance()
	var rejected uint64
	for _, n := range balance.Rejected {
		rejected += n
	}
	if balance.Accepted != s.Accepted || rejected != s.Rejected {
		t.Errorf("the ledger was told %+v, the producer has accepted %d and rejected %d", balance, s.Accepted, s.Rejected)
	}
}

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

func TestAnEventOverTheLimitFailsAloneAndAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{MaxRecordBytes: 300, MaxCallBytes: 1000}, nil)
		big := "ann/2/" + strings.Repeat("x", 300)
		if got := kinds(r.put(t.Context(), "ann/1", big, "ann/3")); !slices.Equal(got, []string{"ok", "too_large", "ok"}) {
			t.Errorf("answers %v", got)
		}
		if got := kinds(r.put(t.Context(), big)); !slices.Equal(got, []string{"too_large"}) {
			t.Errorf("answers %v", got)
		}
		r.wantIntake(2, 2)
		if n := r.intake.Balance().Rejected["too_large"]; n != 2 {
			t.Errorf("%d events were rejected as too large, want 2", n)
		}
	})
}

func TestTheStreamKnowsASmallerLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.FailRecords(s, func(_, _ int, rec stream.Record) error {
				if len(rec.Data) > 400 {
					return fault.New(fault.TooLarge, "limit 400")
				}
				return nil
			})
		})
		names := []string{"ann/1", "ann/2", "ann/3/" + strings.Repeat("x", 500), "ann/4", "ann/5", "ann/6"}
		if got := kinds(r.put(t.Context(), names...)); !slices.Equal(got, []string{"ok", "ok", "too_large", "ok", "ok", "ok"}) {
			t.Errorf("answers %v: only the event that is too large alone may fail", got)
		}
		if got := r.stored(); !slices.Equal(got, []string{"ann/1", "ann/2", "ann/4", "ann/5", "ann/6"}) {
			t.Errorf("stored %v", got)
		}
		r.wantIntake(5, 1)
		if n := r.intake.Balance().Rejected["too_large"]; n != 1 {
			t.Errorf("%d events were rejected as too large, want 1", n)
		}
	})
}

func TestMemoryIsBoundedWhileTheStreamHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 256 << 10
		cfg := producer.Config{MaxBufferedBytes: limit, MaxRecordBytes: 32 << 10, MaxCallBytes: 64 << 10}
		r := start(t, cfg, func(s streamtest.Stream) streamtest.Stream { return streamtest.Slow(s, time.Minute) })
		counts := map[string]int{}
		var mu sync.Mutex
		var senders sync.WaitGroup
		for i := range 2000 {
			senders.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				began := time.Now()
				errs := r.put(ctx, fmt.Sprintf("u%d/%d/%s", i, i, strings.Repeat("x", 500)))
				mu.Lock()
				defer mu.Unlock()
				counts[fault.KindOf(errs[0]).String()]++
				if fault.KindOf(errs[0]) == fault.Unavailable {
					if time.Since(began) != 0 {
						t.Error("a Put over the bound waited")
					}
					if fault.RetryAfter(errs[0]) < time.Second {
						t.Error("a Put over the bound was not told when to try again")
					}
				}
			})
		}
		synctest.Wait()
		if s := r.p.Stats(); s.BufferedBytes > limit*5/4 || s.BufferedBytes < limit/2 {
			t.Errorf("%d bytes are held, the bound is %d", s.BufferedBytes, limit)
		}
		senders.Wait()
		if counts["unavailable"] == 0 || counts["ambiguous"] == 0 || counts["unavailable"]+counts["ambiguous"] != 2000 {
			t.Errorf("answers %v", counts)
		}
		// The senders have left: what was never sent makes room for others.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if errs := r.put(ctx, "late/1"); fault.KindOf(errs[0]) != fault.Ambiguous {
			t.Errorf("a late sender was turned away: %v", errs[0])
		}
		r.stop()
		<-r.ended
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

func TestAttemptsAreBoundedIfThePolicySaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := producer.Config{Retry: retry.Policy{MaxAttempts: 3}}
		r := start(t, cfg, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Throttle(s, 1000, 2*time.Second)
		})
		errs := r.put(t.Context(), "ann/1")
		if fault.KindOf(errs[0]) != fault.Unavailable || fault.RetryAfter(errs[0]) != 2*time.Second {
			t.Errorf("answer %v with RetryAfter %v", errs[0], fault.RetryAfter(errs[0]))
		}
		if s := r.p.Stats(); s.Throttled != 3 {
			t.Errorf("%d attempts, want 3", s.Throttled)
		}
		r.wantIntake(0, 1)
	})
}

func TestTheRetryBudgetIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		cfg := producer.Config{
			Retry:            retry.Policy{BaseDelay: time.Millisecond, MaxDelay: time.Millisecond},
			RetriesPerSecond: 2, RetryBurst: 4,
		}
		r := start(t, cfg, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.FailRecords(s, func(int, int, stream.Record) error {
				calls++
				return fault.New(fault.Throttled, "slow down")
			})
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var names []string
		for i := range 100 {
			names = append(names, fmt.Sprintf("u%d/%d", i, i))
		}
		r.put(ctx, names...)
		// One first attempt for each of 16 buckets, the burst, then 2 a second.
		if want := 16 + 4 + 20; calls > want+1 || calls < want/2 {
			t.Errorf("%d attempts in 10s, want about %d", calls, want)
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

func TestCallsKeepTheLimitsAndSeveralRunAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := producer.Config{Buckets: 64, MaxInFlightCalls: 4, MaxCallRecords: 5, MaxRecordBytes: 1000, MaxCallBytes: 3000}
		most, now := 0, 0
		var mu sync.Mutex
		r := start(t, cfg, func(s streamtest.Stream) streamtest.Stream {
			s = streamtest.Slow(s, time.Second)
			return streamtest.Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				defer func() { mu.Lock(); now--; mu.Unlock() }()
				return s.PutRecords(ctx, records)
			})
		})
		var names []string
		for i := range 500 {
			names = append(names, fmt.Sprintf("u%d/%d/%s", i, i, strings.Repeat("x", i%200)))
		}
		synctest.Wait() // all workers are idle: Put wakes one, and each the next
		r.mustPut(names...)
		if most != 4 {
			t.Errorf("at most %d calls ran at once, want 4", most)
		}
		r.wantIntake(500, 0)
		if err := r.drain(); err != nil {
			t.Error(err)
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

func TestMemoryKeptForReuseCountsToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 400_000
		cfg := producer.Config{MaxBufferedBytes: limit, MaxRecordBytes: 350_000, MaxCallBytes: 1 << 20}
		r := start(t, cfg, func(s streamtest.Stream) streamtest.Stream { return streamtest.Slow(s, time.Second) })
		// Sixteen records of 10 kB, whose memory is kept.
		var names []string
		for i := range 16 * 20 {
			names = append(names, fmt.Sprintf("u%d/%d/%s", i, i, strings.Repeat("x", 400)))
		}
		r.mustPut(names...)
		if s := r.p.Stats(); s.FreeBytes < limit/4 || s.BufferedBytes != 0 {
			t.Errorf("kept for reuse: %d, held: %d", s.FreeBytes, s.BufferedBytes)
		}
		// One record that grows to most of the limit.
		var senders sync.WaitGroup
		for i := range 30 {
			senders.Go(func() { r.mustPut(fmt.Sprintf("ann/%d/%s", i, strings.Repeat("x", 9000))) })
		}
		synctest.Wait()
		if s := r.p.Stats(); s.FreeBytes+s.BufferedBytes > limit {
			t.Errorf("kept for reuse: %d, held: %d, the bound of both is %d", s.FreeBytes, s.BufferedBytes, limit)
		}
		senders.Wait()
	})
}

func TestConfigNamesEveryFault(t *testing.T) {
	t.Parallel()
	err := producer.Config{Buckets: -1, MaxCallRecords: -1, MaxCallBytes: 100, DrainTimeout: -1, Retry: retry.Policy{MaxAttempts: -1}}.Validate()
	for _, field := range []string{"Buckets", "MaxCallRecords", "MaxCallBytes", "DrainTimeout", "Retry.MaxAttempts"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in: %v", field, err)
		}
	}
	if err := (producer.Config{}).Validate(); err != nil {
		t.Errorf("the zero value is not valid: %v", err)
	}
}
