package producer_test

import (
	"context"
	"crypto/md5" //nolint:gosec // as Kinesis places records
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

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

func TestAFullRecordTakesNoMoreAndALargeEventGoesAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{Buckets: 1, FullRecordBytes: 600, MaxRecordBytes: 2000}, nil)
		large := "ann/3/" + strings.Repeat("x", 1500)
		r.mustPut("ann/1", "ann/2", large, "ann/4", "ann/5", "ann/6", "ann/7", "ann/8")
		var events []int
		for _, e := range r.memory.Entries() {
			for _, rec := range e.Records {
				events = append(events, rec.Events)
				if len(rec.Data) > 600 && rec.Events > 1 {
					t.Errorf("a record of %d bytes holds %d events", len(rec.Data), rec.Events)
				}
			}
		}
		if len(events) < 3 || events[1] != 1 {
			t.Errorf("records of %v events", events)
		}
		if got := r.stored(); !slices.IsSorted(got) || len(got) != 8 {
			t.Errorf("stored %v", got)
		}
	})
}

func TestSpreadKeysPutOneBucketIntoEachPartOfTheHashes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 16, 40, 1000} {
		keys := producer.SpreadKeys(n)
		taken := map[int]string{}
		for _, key := range keys {
			sum := md5.Sum([]byte(key)) //nolint:gosec // as Kinesis does
			hash := new(big.Int).SetBytes(sum[:])
			part := int(hash.Mul(hash, big.NewInt(int64(n))).Rsh(hash, 128).Int64())
			if other, twice := taken[part]; twice {
				t.Errorf("%d buckets: %s and %s are in part %d", n, other, key, part)
			}
			taken[part] = key
		}
		if len(taken) != n || !slices.Equal(keys, producer.SpreadKeys(n)) {
			t.Errorf("%d buckets: %d parts are taken, or the keys change", n, len(taken))
		}
	}
}

func TestRecordsCarryTheKeysOfTheirBuckets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := producer.SpreadKeys(3)
		r := start(t, producer.Config{Keys: keys}, nil)
		for i := range 20 {
			r.mustPut(fmt.Sprintf("user-%d/1", i))
		}
		seen := map[string]bool{}
		for _, e := range r.memory.Entries() {
			for _, rec := range e.Records {
				seen[rec.PartitionKey] = true
			}
		}
		if len(seen) != len(keys) || !seen[keys[0]] || !seen[keys[1]] || !seen[keys[2]] {
			t.Errorf("records under %v, want %v", seen, keys)
		}
	})
}

func TestTheBatchKnowsWhatIsInTheSpool(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spooling := true
		r := start(t, producer.Config{}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
				results, err := s.PutRecords(ctx, records)
				for i := range results {
					results[i].Spooled = spooling
				}
				return results, err
			})
		})
		var b stream.Batch
		for _, want := range []bool{true, false} {
			spooling = want
			b.Reset()
			b.Add(sent("ann/1"))
			if err := r.p.Put(t.Context(), &b); err != nil || b.Spooled() != want {
				t.Errorf("Put: %v, spooled %v, want %v", err, b.Spooled(), want)
			}
		}
		if s := r.p.Stats(); s.Accepted != 2 || s.Spooled != 1 {
			t.Errorf("accepted %d, spooled %d, want 2 and 1", s.Accepted, s.Spooled)
		}
	})
}

func TestSendersAreToldTheWaitThatTheStreamKnows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wait := 7 * time.Second
		r := start(t, producer.Config{RetryAfter: func() time.Duration { return wait }}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Down(s, time.Now().Add(time.Hour))
		})
		for _, want := range []time.Duration{7 * time.Second, 30 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := r.put(ctx, "ann/1")[0]; fault.RetryAfter(err) != want {
				t.Errorf("the sender is told to wait %v (%v), want %v", fault.RetryAfter(err), err, want)
			}
			cancel()
			wait = 0 // it does not know: nothing has drained
		}
	})
}
