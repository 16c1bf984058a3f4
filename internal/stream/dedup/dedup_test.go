package dedup_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/dedup"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

// rig is a Filter before a double of the producer.
type rig struct {
	t      *testing.T
	events *streamtest.Events
	intake *ledger.Intake
	f      *dedup.Filter
}

func newRig(t *testing.T, cfg dedup.Config) *rig {
	t.Helper()
	if cfg.Window == 0 {
		cfg.Window = time.Hour
	}
	cfg.MemoryBytes = max(cfg.MemoryBytes, dedup.MinMemory)
	r := &rig{t: t, intake: new(ledger.Intake)}
	r.events = streamtest.NewEvents(t, r.intake)
	var err error
	if r.f, err = dedup.New(r.events, r.intake, cfg); err != nil {
		t.Fatal(err)
	}
	if err := r.f.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// answer is what became of a batch: the kinds of the errors of its events, "ok"
// for none and "again" for a duplicate.
func (r *rig) answer(ctx context.Context, names ...string) string {
	b := batchOf(names...)
	return r.told(ctx, b)
}

// batchOf makes a batch of events named user/id. A name that begins with "-" is
// of an event whose id the gateway has made.
func batchOf(names ...string) *stream.Batch {
	b := new(stream.Batch)
	for _, n := range names {
		if n[0] == '-' {
			b.Add(streamtest.Sent(n[1:]))
		} else {
			b.MarkOwnID(b.Add(streamtest.Sent(n)))
		}
	}
	return b
}

func (r *rig) told(ctx context.Context, b *stream.Batch) string {
	err := r.f.Put(ctx, b)
	words := make([]string, b.Len())
	var first error
	accepted := 0
	for i := range words {
		words[i] = "ok"
		if e := b.Err(i); e != nil {
			words[i] = fault.KindOf(e).String()
			if first == nil {
				first = e
			}
		} else {
			accepted++
		}
	}
	if err != first { //nolint:errorlint // the very same error, not one that wraps it
		r.t.Errorf("Put returned %v, the first event's error is %v", err, first)
	}
	text := fmt.Sprint(words)
	if n := b.Duplicates(); n > 0 {
		text += fmt.Sprintf(" %d again", n)
		if n > accepted {
			r.t.Errorf("%d duplicates of %d accepted", n, accepted)
		}
	}
	if b.Spooled() {
		text += " spooled"
	}
	return text
}

func (r *rig) want(what, got, want string) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func (r *rig) wantStored(names ...string) {
	r.t.Helper()
	if got := r.events.Stored(); !slices.Equal(got, names) {
		r.t.Errorf("stored %v, want %v", got, names)
	}
}

// wantAccount checks that each of so many events was counted once.
func (r *rig) wantAccount(events, duplicates int) {
	r.t.Helper()
	o := r.intake.Balance()
	total := o.Accepted + o.Duplicates
	for _, n := range o.Rejected {
		total += n
	}
	if total != uint64(events) || o.Duplicates != uint64(duplicates) || r.f.Waiting() != 0 {
		r.t.Errorf("the ledger was told %+v and %d wait, of %d events with %d duplicates", o, r.f.Waiting(), events, duplicates)
	}
}

var (
	away     = fault.New(fault.Unavailable, "the stream is away")
	tooLarge = fault.New(fault.TooLarge, "larger than a record")
	unknown  = fault.New(fault.Ambiguous, "nobody knows")
)

// The three outcomes of a write, and what the sender is told who sends the
// event again.
func TestWhatBecomesOfAnEventDecidesWhatItsSenderIsToldTheNextTime(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name          string
		fate          streamtest.Fate
		patience      time.Duration // of the first sender
		first, second string
		stored        int
	}{
		{"stored", streamtest.Fate{}, time.Second, "[ok]", "[ok] 1 again", 1},
		{"stored in a spool", streamtest.Fate{Spooled: true}, time.Second, "[ok] spooled", "[ok] 1 again spooled", 1},
		{"the stream is away", streamtest.Fate{Err: away}, time.Second, "[unavailable]", "[ok]", 1},
		{"the stream throttles", streamtest.Fate{Err: fault.New(fault.Throttled, "slow down")}, time.Second, "[throttled]", "[ok]", 1},
		{"too large for the stream", streamtest.Fate{Err: tooLarge}, time.Second, "[too_large]", "[ok]", 1},
		{"stored after the sender has left", streamtest.Fate{Take: 3 * time.Second}, time.Second, "[ambiguous]", "[ok] 1 again", 1},
		{"stored in a spool after the sender has left", streamtest.Fate{Take: 3 * time.Second, Spooled: true}, time.Second, "[ambiguous]", "[ok] 1 again spooled", 1},
		{"not stored, after the sender has left", streamtest.Fate{Take: 3 * time.Second, Err: away}, time.Second, "[ambiguous]", "[ok]", 1},
		{"nobody will ever know", streamtest.Fate{Err: unknown}, time.Second, "[ambiguous]", "[ambiguous]", 0},
		{"of an error without a kind nobody will know either", streamtest.Fate{Err: context.Canceled, Take: 3 * time.Second}, time.Second, "[ambiguous]", "[ambiguous]", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, dedup.Config{})
				r.events.OnPut = func(call int, _ string) streamtest.Fate {
					if call == 1 {
						return tc.fate
					}
					return streamtest.Fate{}
				}
				for i, want := range []string{tc.first, tc.second} {
					ctx, cancel := context.WithTimeout(t.Context(), tc.patience+time.Duration(i)*10*time.Second)
					r.want(fmt.Sprint("answer ", i+1), r.answer(ctx, "ann/1"), want)
					cancel()
				}
				r.events.Settle()
				if got := r.events.Stored(); len(got) != tc.stored {
					t.Errorf("stored %v, want %d", got, tc.stored)
				}
			})
		})
	}
}

func TestTheEventsOfABatchHaveFatesOfTheirOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dedup.Config{})
		fates := map[string]streamtest.Fate{"ann/2": {Err: away}, "bob/3": {Take: time.Minute}, "bob/5": {Err: tooLarge}}
		r.events.OnPut = func(call int, name string) streamtest.Fate {
			if call == 1 {
				return fates[name]
			}
			return streamtest.Fate{}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r.want("first", r.answer(ctx, "ann/1", "ann/2", "bob/3", "-bob/4", "bob/5"), "[ok unavailable ambiguous ok too_large]")
		// All of it once more, as SDKs do: what is stored is not written again,
		// what is not is, and of one nobody knows yet.
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r.want("second", r.answer(ctx, "ann/1", "ann/2", "bob/3", "-bob/4", "bob/5"), "[ok ok ambiguous ok ok] 1 again")
		r.events.Settle()
		r.want("third", r.answer(t.Context(), "ann/1", "ann/2", "bob/3", "bob/5"), "[ok ok ok ok] 4 again")
		r.wantStored("ann/1", "bob/4", "ann/2", "bob/4", "bob/5", "bob/3")
		r.wantAccount(14, 5)
	})
}

func TestOneIDTwiceInABatchIsStoredOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dedup.Config{})
		r.want("twice", r.answer(t.Context(), "ann/1", "ann/2", "ann/1", "ann/1"), "[ok ok ok ok] 2 again")
		r.wantStored("ann/1", "ann/2")
		// The first of the two has bad luck, the second is an event like any other.
		r.events.OnPut = func(call int, name string) streamtest.Fate {
			if call == 2 {
				return streamtest.Fate{Err: tooLarge}
			}
			return streamtest.Fate{}
		}
		r.want("first fails", r.answer(t.Context(), "ann/3", "ann/3/small", "ann/3"), "[too_large ok ok] 1 again")
		r.wantStored("ann/1", "ann/2", "ann/3")
		r.wantAccount(7, 3)
	})
}

func TestIDsAreThoseOfASource(t *testing.T) {
	t.Parallel()
	r := newRig(t, dedup.Config{})
	for _, source := range []string{"web", "erp", ""} {
		for _, again := range []bool{false, true} {
			var b stream.Batch
			e := streamtest.Sent("ann/1")
			e.Source = source
			b.MarkOwnID(b.Add(e))
			want := "[ok]"
			if again {
				want = "[ok] 1 again"
			}
			r.want(source, r.told(t.Context(), &b), want)
		}
	}
	r.wantStored("ann/1", "ann/1", "ann/1")
}

func TestAnIDThatTheGatewayHasMadeIsNotLookedAt(t *testing.T) {
	t.Parallel()
	r := newRig(t, dedup.Config{})
	r.want("first", r.answer(t.Context(), "-ann/1"), "[ok]")
	r.want("with another", r.answer(t.Context(), "-ann/1", "ann/2"), "[ok ok]")
	r.want("third", r.answer(t.Context(), "-ann/1"), "[ok]")
	if n := r.f.Stats().Entries; n != 1 {
		t.Errorf("%d ids in memory, want 1", n)
	}
	r.wantStored("ann/1", "ann/1", "ann/2", "ann/1")
}

func TestWhoComesWhileTheEventIsOnItsWayWaitsForItsFate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		fate     streamtest.Fate // of the first call
		patience time.Duration   // of the second sender
		second   string
		after    time.Duration // that it was told
		stored   int
	}{
		{"stored", streamtest.Fate{Take: 2 * time.Second}, 5 * time.Second, "[ok] 1 again", 2 * time.Second, 1},
		{"not stored: tries itself", streamtest.Fate{Take: 2 * time.Second, Err: away}, 5 * time.Second, "[ok]", 2 * time.Second, 1},
		{"no time left", streamtest.Fate{Take: 2 * time.Second}, time.Second, "[ambiguous]", time.Second, 1},
		{"no time left, and not stored", streamtest.Fate{Take: 2 * time.Second, Err: away}, time.Second, "[ambiguous]", time.Second, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, dedup.Config{})
				r.events.OnPut = func(call int, _ string) streamtest.Fate {
					if call == 1 {
						return tc.fate
					}
					return streamtest.Fate{}
				}
				var senders sync.WaitGroup
				senders.Go(func() { r.answer(t.Context(), "ann/1") })
				synctest.Wait()
				began := time.Now()
				senders.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), tc.patience)
					defer cancel()
					r.want("second sender", r.answer(ctx, "ann/1"), tc.second)
					if d := time.Since(began); d != tc.after {
						t.Errorf("told after %v, want %v", d, tc.after)
					}
				})
				synctest.Wait()
				if r.f.Waiting() != 1 {
					t.Errorf("%d events wait, want the second", r.f.Waiting())
				}
				senders.Wait()
				if got := len(r.events.Stored()); got != tc.stored {
					t.Errorf("stored %d times, want %d", got, tc.stored)
				}
				dup := 0
				if tc.second == "[ok] 1 again" {
					dup = 1
				}
				r.wantAccount(2, dup)
			})
		})
	}
}

func TestNeighboursOfAnEventThatWaitsDoNotWaitToBeStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dedup.Config{})
		r.events.OnPut = func(call int, _ string) streamtest.Fate {
			return streamtest.Fate{Take: time.Duration(call%2) * time.Minute}
		}
		go r.answer(t.Context(), "ann/1")
		synctest.Wait()
		go r.answer(t.Context(), "ann/1", "ann/2")
		synctest.Wait()
		r.wantStored("ann/2")
		time.Sleep(time.Hour)
		r.wantStored("ann/2", "ann/1")
	})
}

// Two requests with the same ids in another order wait for each other's events
// and for nothing else.
func TestRequestsThatShareIDsDoNotBlockEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dedup.Config{})
		r.events.OnPut = func(int, string) streamtest.Fate { return streamtest.Fate{Take: time.Second} }
		var senders sync.WaitGroup
		for i := range 20 {
			senders.Go(func() {
				names := []string{"ann/1", "ann/2", "ann/3", "ann/4"}
				if i%2 == 1 {
					slices.Reverse(names)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if got := r.answer(ctx, names[:2+i%3]...); got[:3] != "[ok" {
					t.Errorf("%s", got)
				}
			})
		}
		senders.Wait()
		if got := r.events.Stored(); len(got) != 4 {
			t.Errorf("stored %v", got)
		}
	})
}

func TestAnIDIsRememberedForTheWindow(t *testing.T) {
	t.Parallel()
	const window = time.Hour
	for _, tc := range []struct {
		after time.Duration
		again bool
	}{
		{time.Nanosecond, true},
		{window / 2, true},
		{window - 1, true},
		// Ids leave by segments: this one up to a 64th of the window after it.
		{window + window/64, false},
		{100 * window, false},
	} {
		t.Run(tc.after.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, dedup.Config{Window: window})
				time.Sleep(window / 100) // the segment has begun before the event
				r.answer(t.Context(), "bob/0")
				time.Sleep(window / 100)
				r.answer(t.Context(), "ann/1")
				time.Sleep(tc.after)
				want := "[ok]"
				if tc.again {
					want = "[ok] 1 again"
				}
				r.want("the second time", r.answer(t.Context(), "ann/1"), want)
			})
		})
	}
}

// An event that is sent again is not younger for it: nobody can keep an id in
// memory, and out of the stream, for ever.
func TestSendingAgainDoesNotProlongTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dedup.Config{Window: time.Hour})
		for range 24 * 6 {
			r.answer(t.Context(), "ann/1")
			time.Sleep(10 * time.Minute)
		}
		// Every 7th of them is too late for the one before: 60 minutes and a 64th.
		if n := len(r.events.Stored()); n != 21 {
			t.Errorf("stored %d times in a day, want 21", n)
		}
	})
}

// An event is not stored for a whole outage, and its sender tries for as long.
func TestAnOutageDoesNotFillTheMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dedup.Config{Window: time.Hour})
		down := true
		r.answer(t.Context(), "ann/0")
		r.events.OnPut = func(int, string) streamtest.Fate {
			if down {
				return streamtest.Fate{Err: away}
			}
			return streamtest.Fate{}
		}
		for n := range 1000 {
			for e := range 60 {
				r.want("during the outage", r.answer(t.Context(), fmt.Sprintf("ann/x%d", e)), "[unavailable]")
			}
			if n%30 == 0 {
				time.Sleep(time.Second)
			}
		}
		down = false
		r.want("what was stored before", r.answer(t.Context(), "ann/0"), "[ok] 1 again")
		r.want("what was not", r.answer(t.Context(), "ann/x1"), "[ok]")
		if s := r.f.Stats(); s.EvictedEarly != 0 || s.Entries != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestTheMemoryIsBoundedAndSaysHowFarBackItReaches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, dedup.Config{Window: 24 * time.Hour})
		capacity := r.f.Capacity()
		if capacity < dedup.MinMemory/24 || capacity > dedup.MinMemory/16 {
			t.Fatalf("%d ids in %d bytes", capacity, dedup.MinMemory)
		}
		var b stream.Batch
		n := 0
		send := func(events int) {
			for range events / 100 {
				b.Reset()
				for range 100 {
					b.MarkOwnID(b.Add(&event.Event{ID: fmt.Sprint(n), Type: event.TypeTrack, Name: "viewed", UserID: "ann"}))
					n++
				}
				if err := r.f.Put(t.Context(), &b); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(48 * time.Hour) // a process that runs for long
		send(capacity / 2)
		if s := r.f.Stats(); s.EvictedEarly != 0 || s.Window != 24*time.Hour || s.Entries != n {
			t.Errorf("half full: %+v", s)
		}
		for range 20 {
			time.Sleep(time.Hour)
			send(capacity / 4)
		}
		// A quarter an hour: it reaches four hours back, or a little less, since
		// the shards are not equally full.
		s := r.f.Stats()
		if s.Entries > capacity || s.EvictedEarly == 0 || s.Entries+int(s.EvictedEarly) != n {
			t.Errorf("full: %+v of %d", s, n)
		}
		if s.Window > 4*time.Hour+time.Minute || s.Window < 2*time.Hour {
			t.Errorf("the window is said to be %v", s.Window)
		}
		last := n - 1
		r.want("the newest", r.answer(t.Context(), fmt.Sprint("ann/", last)), "[ok] 1 again")
		r.want("the oldest", r.answer(t.Context(), "ann/0"), "[ok]")
	})
}

func TestPutAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop what they hold under the race detector")
	}
	intake := new(ledger.Intake)
	f, err := dedup.New(at{}, intake, dedup.Config{Window: time.Hour, MemoryBytes: dedup.MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	var b stream.Batch
	e := streamtest.Sent("ann/00000000")
	id := []byte("0000000000")
	if n := testing.AllocsPerRun(1000, func() {
		b.Reset()
		for i := range 10 {
			id[i]++
			e.ID = string(id) //nolint:staticcheck // what the edge does without a copy
			b.MarkOwnID(b.Add(e))
			b.MarkOwnID(b.Add(e))
		}
		_ = f.Put(context.Background(), &b)
	}); n > 10+4*10 { // the ids of this test, and for each id twice in a batch what its waiting takes
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(1000, func() {
		b.Reset()
		for range 10 {
			b.MarkOwnID(b.Add(e))
		}
		_ = f.Put(context.Background(), &b)
	}); n != 0 {
		t.Errorf("%v allocations for duplicates", n)
	}
}

// at is a stream that stores at once.
type at struct{}

func (at) PutAndTell(context.Context, *stream.Batch, func(int, bool, error)) error { return nil }

// TestManySendersOfTheSameIDs is for the race detector: goroutines put the same
// ids through a producer on a stream that fails now and then.
func TestManySendersOfTheSameIDs(t *testing.T) {
	t.Parallel()
	const senders, rounds, ids = 16, 60, 40
	memory := streamtest.NewMemory(t, streamtest.Limits{})
	calls := 0
	var mu sync.Mutex
	s := streamtest.FailRecords(memory, func(int, int, stream.Record) error {
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls%3 == 0 {
			return fault.New(fault.Unavailable, "now and then")
		}
		return nil
	})
	intake := new(ledger.Intake)
	cfg := producer.Config{}
	cfg.Retry.BaseDelay, cfg.Retry.MaxAttempts = time.Microsecond, 1
	p, err := producer.New(s, intake, cfg)
	if err != nil {
		t.Fatal(err)
	}
	f, err := dedup.New(p, intake, dedup.Config{Window: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()

	var group sync.WaitGroup
	var told sync.Map
	for n := range senders {
		group.Go(func() {
			var b stream.Batch
			for round := range rounds {
				b.Reset()
				for i := range ids {
					id := fmt.Sprintf("u%d/%d-%d", i%7, round, (i+n)%ids)
					b.MarkOwnID(b.Add(streamtest.Sent(id)))
				}
				_ = f.Put(t.Context(), &b)
				for i := range b.Len() {
					name := streamtest.Name(t, b.Event(i))
					switch err := b.Err(i); {
					case err == nil:
						told.Store(name[len("u0/"):], true)
					case fault.KindOf(err) != fault.Unavailable:
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		})
	}
	group.Wait()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	copies := map[string]int{}
	for _, data := range memory.Events() {
		copies[streamtest.Name(t, data)[len("u0/"):]]++
	}
	for id, n := range copies {
		if n != 1 {
			t.Errorf("%s is on the stream %d times", id, n)
		}
		if _, ok := told.Load(id); !ok {
			t.Errorf("%s is on the stream and nobody was told", id)
		}
	}
	stored := 0
	told.Range(func(id, _ any) bool {
		if stored++; copies[id.(string)] == 0 {
			t.Errorf("%s was answered and is not on the stream", id)
		}
		return true
	})
	if stored < rounds {
		t.Errorf("only %d events stored", stored)
	}
	o := intake.Balance()
	total := o.Accepted + o.Duplicates
	for _, n := range o.Rejected {
		total += n
	}
	if total != senders*rounds*ids || int(o.Accepted) != len(memory.Events()) {
		t.Errorf("%d events put, %d stored; the ledger was told %+v", senders*rounds*ids, len(memory.Events()), o)
	}
}

func TestValidateReportsAllFaults(t *testing.T) {
	t.Parallel()
	err := dedup.Config{Window: time.Millisecond, MemoryBytes: 1, Log: streamtest.NewLog(t, 0)}.Validate()
	for _, want := range []string{"Window is 1ms: want 1s or more", "MemoryBytes is 1: want 1048576 or more", "a Log is of use only with a Dir"} {
		if err == nil || !slices.Contains(lines(err), want) {
			t.Errorf("%v: %q is missing", err, want)
		}
	}
	if err := (dedup.Config{Window: time.Hour}).Validate(); err != nil {
		t.Error(err)
	}
	if _, err := dedup.New(nil, nil, dedup.Config{Window: time.Hour}); err == nil {
		t.Error("New takes no stream")
	}
}

func lines(err error) []string { return strings.Split(err.Error(), "\n") }
