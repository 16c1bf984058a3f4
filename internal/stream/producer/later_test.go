package producer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

// told collects what later says, by the name of the event.
type told struct {
	t     *testing.T
	mu    sync.Mutex
	names []string
	said  map[string]string
}

func (w *told) later(event int, spooled bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := w.names[event]
	if w.said[name] != "" {
		w.t.Errorf("%s was told of twice", name)
	}
	word := "stored"
	switch {
	case err != nil:
		word = fault.KindOf(err).String()
	case spooled:
		word = "spooled"
	}
	w.said[name] = word
}

func (w *told) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var words []string
	for name, said := range w.said {
		words = append(words, name+" "+said)
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// putAndTell puts events and returns what their sender is told, and what later
// is. A name that begins with "-" is passed over.
func (r *rig) putAndTell(ctx context.Context, names ...string) (answers []string, w *told) {
	var b stream.Batch
	w = &told{t: r.t, said: map[string]string{}}
	for i, name := range names {
		skip := strings.HasPrefix(name, "-")
		name = strings.TrimPrefix(name, "-")
		b.Add(sent(name))
		b.Skip(i, skip)
		b.Fail(i, nil)
		if skip {
			b.Fail(i, errBefore)
		}
		w.names = append(w.names, name)
	}
	_ = r.p.PutAndTell(ctx, &b, w.later)
	for i := range names {
		answer := "ok"
		if err := b.Err(i); errors.Is(err, errBefore) {
			answer = "-"
		} else if err != nil {
			answer = fault.KindOf(err).String()
		}
		answers = append(answers, answer)
	}
	b.Reset() // it is the sender's again
	return answers, w
}

var errBefore = errors.New("what was said of the event before")

func TestLaterIsToldWhatBecameOfEventsThatTheSenderDidNotWaitFor(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		slow  func(streamtest.Stream) streamtest.Stream
		stop  bool // the producer is stopped meanwhile
		want  string
		never bool // the stream has nothing in the end
	}{
		{"stored", func(s streamtest.Stream) streamtest.Stream { return streamtest.Slow(s, 3*time.Second) }, false,
			"ann/1 stored, ann/2 stored, bob/3 stored", false},
		{"stored after a lost reply", func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Slow(streamtest.LostReply(s, 1, context.DeadlineExceeded), 3*time.Second)
		}, false, "ann/1 stored, ann/2 stored, bob/3 stored", false},
		{"in a spool", func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
				results, err := streamtest.Slow(s, 3*time.Second).PutRecords(ctx, records)
				for i := range results {
					results[i].Spooled = true
				}
				return results, err
			})
		}, false, "ann/1 spooled, ann/2 spooled, bob/3 spooled", false},
		{"given up", func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Slow(streamtest.Throttle(s, 100, time.Second), 3*time.Second)
		}, false, "ann/1 unavailable, ann/2 unavailable, bob/3 unavailable", true},
		{"too large, of an error that comes late", func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Slow(streamtest.FailRecords(s, func(int, int, stream.Record) error { return fault.New(fault.TooLarge, "so says the stream") }), 3*time.Second)
		}, false, "ann/1 unavailable, ann/2 unavailable, bob/3 too_large", true}, // nobody waits for the halves of a record
		{"not stored when the producer stops", func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Throttle(s, 1000, time.Hour)
		}, true, "ann/1 unavailable, ann/2 unavailable, bob/3 unavailable", true},
		{"not known when the producer stops", func(s streamtest.Stream) streamtest.Stream {
			return streamtest.LostRequest(s, 1000, errors.New("connection reset"))
		}, true, "ann/1 ambiguous, ann/2 ambiguous, bob/3 ambiguous", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := start(t, producer.Config{DrainTimeout: time.Second}, tc.slow)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				answers, w := r.putAndTell(ctx, "ann/1", "ann/2", "bob/3")
				if fmt.Sprint(answers) != "[ambiguous ambiguous ambiguous]" {
					t.Fatalf("the sender was told %v", answers)
				}
				if got := w.String(); got != "" {
					t.Errorf("at once: %s", got)
				}
				if tc.stop {
					_ = r.drain()
				} else {
					time.Sleep(time.Minute)
				}
				if got := w.String(); got != tc.want {
					t.Errorf("later: %s; want %s", got, tc.want)
				}
				if stored := len(r.stored()); tc.never != (stored == 0) {
					t.Errorf("%d events are on the stream", stored)
				}
				checkIntake(t, r.p.Stats(), r.intake)
			})
		})
	}
}

// Of events whose fate the sender was told, nobody is told again.
func TestLaterIsToldOnlyOfWhatWasLeftUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ann := producer.BucketKey(int(event.Hash("ann") % 16))
		r := start(t, producer.Config{}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.FailRecords(s, func(call, _ int, rec stream.Record) error {
				if rec.PartitionKey == ann && call < 5 {
					return &fault.Error{Kind: fault.Throttled, RetryAfter: 2 * time.Second}
				}
				return nil
			})
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		answers, w := r.putAndTell(ctx, "bob/1", "ann/2", "bob/3", "ann/4")
		if fmt.Sprint(answers) != "[ok ambiguous ok ambiguous]" {
			t.Fatalf("the sender was told %v", answers)
		}
		time.Sleep(time.Minute)
		if got := w.String(); got != "ann/2 unavailable, ann/4 unavailable" {
			t.Errorf("later: %s", got)
		}
		// Who waits for the end is told everything at once.
		answers, w = r.putAndTell(t.Context(), "bob/5", "ann/6")
		if fmt.Sprint(answers) != "[ok ok]" || w.String() != "" {
			t.Errorf("the sender was told %v, and later %s", answers, w)
		}
	})
}

// A record is too large for the stream, and one of its senders has gone: what
// becomes of the records that it is split into is told of the right events.
func TestLaterIsToldOfRecordsThatWereSplit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{Buckets: 1}, func(s streamtest.Stream) streamtest.Stream {
			return streamtest.Slow(streamtest.FailRecords(s, func(_, _ int, rec stream.Record) error {
				if len(rec.Data) > 400 {
					return fault.New(fault.TooLarge, "the limit is 400")
				}
				return nil
			}), 2*time.Second)
		})
		go r.mustPut("eve/0") // what comes now goes into one record
		synctest.Wait()
		long := "ann/2/" + strings.Repeat("x", 500)
		var senders sync.WaitGroup
		senders.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			answers, w := r.putAndTell(ctx, "ann/1", long, "ann/3")
			if fmt.Sprint(answers) != "[ambiguous ambiguous ambiguous]" {
				t.Errorf("the sender was told %v", answers)
			}
			time.Sleep(time.Minute)
			if got, want := w.String(), "ann/1 unavailable, "+long+" unavailable, ann/3 stored"; got != want {
				t.Errorf("later: %s; want %s", got, want)
			}
		})
		synctest.Wait()
		// Of the two halves somebody waits for the second.
		senders.Go(func() { r.mustPut("bob/4") })
		senders.Wait()
		if got := r.stored(); !slices.Equal(got, []string{"eve/0", "ann/3", "bob/4"}) {
			t.Errorf("stored %v", got)
		}
	})
}

func TestSkippedEventsAreNeitherWrittenNorCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{MaxRecordBytes: 600}, nil)
		huge := "ann/9/" + strings.Repeat("x", 1000)
		answers, _ := r.putAndTell(t.Context(), "ann/1", "-ann/2", "bob/3", "-"+huge)
		if fmt.Sprint(answers) != "[ok - ok -]" {
			t.Errorf("the sender was told %v", answers)
		}
		r.wantIntake(2, 0)
		answers, _ = r.putAndTell(t.Context(), "-ann/1", huge, "-bob/3")
		if fmt.Sprint(answers) != "[- too_large -]" {
			t.Errorf("the sender was told %v", answers)
		}
		r.wantIntake(2, 1)
		answers, _ = r.putAndTell(t.Context(), "-ann/1", "-bob/3")
		if fmt.Sprint(answers) != "[- -]" {
			t.Errorf("the sender was told %v", answers)
		}
		if got := r.stored(); len(got) != 2 || slices.Contains(got, "ann/2") {
			t.Errorf("stored %v", got)
		}
		done, cancel := context.WithCancel(t.Context())
		cancel()
		if answers, _ = r.putAndTell(done, "-ann/4", "ann/5"); fmt.Sprint(answers) != "[- unavailable]" {
			t.Errorf("the sender was told %v", answers)
		}
		r.wantIntake(2, 2)
		if err := r.drain(); err != nil {
			t.Error(err)
		}
		if answers, _ = r.putAndTell(t.Context(), "-ann/6", "ann/7"); fmt.Sprint(answers) != "[- unavailable]" {
			t.Errorf("the sender was told %v", answers)
		}
		r.wantIntake(2, 3)
	})
}

// Events that are passed over take no memory, and so do not let others be
// turned away.
func TestSkippedEventsTakeNoRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, producer.Config{MaxRecordBytes: 1000, MaxBufferedBytes: 4000}, nil)
		var b stream.Batch
		for i := range 20 {
			b.Add(sent(fmt.Sprintf("ann/%d/%s", i, strings.Repeat("x", 500))))
			b.Skip(i, i != 7)
		}
		if events, size := b.Load(); events != 1 || size < 500 || size > 1000 {
			t.Fatalf("%d events of %d bytes to write, want one", events, size)
		}
		if err := r.p.Put(t.Context(), &b); err != nil {
			t.Error(err)
		}
		if got := r.stored(); !slices.Equal(got, []string{"ann/7"}) {
			t.Errorf("stored %v", got)
		}
	})
}
