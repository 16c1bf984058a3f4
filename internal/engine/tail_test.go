package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
)

// held lists what the tail gives from a position on, and how it goes on there.
func held(t *tail, from uint64) string {
	var b strings.Builder
	for {
		e, ok, changed := t.get(from)
		switch {
		case ok:
			fmt.Fprintf(&b, "%d ", e.Position)
			from++
			continue
		case changed != nil:
			b.WriteString("wait")
		default:
			b.WriteString("stream")
		}
		return b.String()
	}
}

func TestTheTailHoldsWhatFollowsWithoutAGap(t *testing.T) {
	t.Parallel()
	at := func(position uint64) stream.Entry { return stream.Entry{Position: position} }
	for _, tt := range []struct {
		name string
		do   func(*tail)
		from uint64
		want string
	}{
		{
			name: "nothing was written since",
			do:   func(*tail) {}, from: 11, want: "wait",
		}, {
			name: "what was written before this process began",
			do:   func(*tail) {}, from: 10, want: "stream",
		}, {
			name: "acknowledgements in the other order",
			do: func(t *tail) {
				a, b := t.begin(), t.begin()
				t.finish(b, at(12), 1)
				t.finish(a, at(11), 1)
			}, from: 11, want: "11 12 wait",
		}, {
			name: "a gap that a write in flight may fill",
			do: func(t *tail) {
				t.finish(t.begin(), at(11), 1)
				_, b := t.begin(), t.begin()
				t.finish(b, at(13), 1)
			}, from: 11, want: "11 wait",
		}, {
			name: "a gap whose writes have ended, one of them with unknown fate",
			do: func(t *tail) {
				t.finish(t.begin(), at(11), 1)
				a, b := t.begin(), t.begin()
				t.finish(b, at(13), 1)
				t.finish(a, at(0), 0)
			}, from: 11, want: "stream",
		}, {
			name: "after that gap",
			do: func(t *tail) {
				t.finish(t.begin(), at(11), 1)
				a, b := t.begin(), t.begin()
				t.finish(b, at(13), 1)
				t.finish(a, at(0), 0)
				t.finish(t.begin(), at(14), 1)
			}, from: 13, want: "13 14 wait",
		}, {
			name: "a gap that only a later write in flight stands behind: somebody else writes",
			do: func(t *tail) {
				a := t.begin()
				t.finish(a, at(12), 1)
				t.begin()
			}, from: 12, want: "12 wait",
		}, {
			name: "two gaps, the first of which is filled",
			do: func(t *tail) {
				a, b, c := t.begin(), t.begin(), t.begin()
				t.begin()
				t.finish(c, at(14), 1)
				t.finish(b, at(12), 1)
				t.finish(a, at(11), 1)
			}, from: 11, want: "11 12 wait",
		}, {
			name: "more than the limit: the oldest goes",
			do: func(t *tail) {
				for p := range uint64(5) {
					t.finish(t.begin(), at(11+p), 30)
				}
			}, from: 13, want: "13 14 15 wait",
		}, {
			name: "one that went for the limit",
			do: func(t *tail) {
				for p := range uint64(5) {
					t.finish(t.begin(), at(11+p), 30)
				}
			}, from: 12, want: "stream",
		}, {
			name: "an entry over the limit is not kept",
			do:   func(t *tail) { t.finish(t.begin(), at(11), 101) }, from: 11, want: "stream",
		}, {
			name: "after an entry over the limit",
			do:   func(t *tail) { t.finish(t.begin(), at(11), 101) }, from: 12, want: "wait",
		}, {
			name: "a gap with more behind it than may be kept is not waited for",
			do: func(t *tail) {
				t.begin()
				for p := range uint64(5) {
					t.finish(t.begin(), at(12+p), 50)
				}
			}, from: 15, want: "15 16 wait",
		}, {
			name: "trimmed",
			do: func(t *tail) {
				for p := range uint64(5) {
					t.finish(t.begin(), at(11+p), 1)
				}
				t.trim(13)
			}, from: 13, want: "stream",
		}, {
			name: "positions that are given again, by a stream that lost entries",
			do: func(t *tail) {
				for p := range uint64(5) {
					t.finish(t.begin(), at(11+p), 1)
				}
				t.finish(t.begin(), at(13), 1)
			}, from: 13, want: "13 wait",
		}, {
			name: "nobody read meanwhile",
			do: func(t *tail) {
				t.leave()
				t.finish(t.begin(), at(11), 1)
				t.enter()
				t.finish(t.begin(), at(12), 1)
			}, from: 12, want: "12 wait",
		}, {
			name: "closed",
			do: func(t *tail) {
				t.finish(t.begin(), at(11), 1)
				t.close()
				t.finish(t.begin(), at(12), 1)
			}, from: 11, want: "stream",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tail := newTail(100, 10)
			tail.enter()
			tt.do(tail)
			if got := held(tail, tt.from); got != tt.want {
				t.Errorf("from position %d: %s, want %s", tt.from, got, tt.want)
			}
			size := 0
			for _, e := range append(tail.entries, tail.early...) {
				size += e.size
			}
			if tail.size != size || uint64(len(tail.entries)) != tail.end-tail.first {
				t.Errorf("it counts %d bytes at [%d,%d) and holds %d in %d entries",
					tail.size, tail.first, tail.end, size, len(tail.entries))
			}
		})
	}
}

func TestAReaderThatWaitsForTheTailWakesUpWhenItChanges(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*tail, uint64){
		"the entry came": func(t *tail, ticket uint64) { t.finish(ticket, stream.Entry{Position: 1}, 1) },
		"a gap will not be filled": func(t *tail, ticket uint64) {
			t.finish(t.begin(), stream.Entry{Position: 2}, 1)
			t.finish(ticket, stream.Entry{}, 0)
		},
		"the engine closes": func(t *tail, _ uint64) { t.close() },
	} {
		tail := newTail(100, 0)
		tail.enter()
		ticket := tail.begin()
		_, _, changed := tail.get(1)
		select {
		case <-changed:
			t.Errorf("%s: changed before", name)
		default:
		}
		change(tail, ticket)
		select {
		case <-changed:
		default:
			t.Errorf("%s: a reader that waits is not woken", name)
		}
	}
}

// TestReadersOfAllSpeedsSeeEveryEntryOnce has writers whose connection breaks
// and whose acknowledgements get lost, a tail of some entries, and readers that
// fall behind and catch up.
func TestReadersOfAllSpeedsSeeEveryEntryOnce(t *testing.T) {
	t.Parallel()
	const writers, writes = 4, 150
	cfg, lose := lossy(t.TempDir(), eventStream, false)
	cfg.TailBytes = 4 << 10
	e := open(t, cfg)
	ev := e.Events()

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var followed atomic.Int64
	var readers, senders sync.WaitGroup
	total := make(chan uint64) // closed after the last write
	var last uint64
	for i := range 4 {
		r, err := ev.Open(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		readers.Go(func() {
			defer r.Close()
			next := uint64(1)
			read := func() bool {
				entry, err := r.Next(t.Context())
				if err != nil || entry.Position != next {
					t.Errorf("reader %d: position %d, %v; want %d", i, entry.Position, err, next)
					return false
				}
				if !r.(*reader).behind {
					followed.Add(1)
				}
				next++
				return true
			}
			for writing := true; writing; {
				for range random.IntN(20 * (i + 1)) {
					if !read() {
						return
					}
					if next > writers*writes/2 {
						break
					}
				}
				if next > writers*writes/2 {
					<-total // falls behind
					writing = false
				}
			}
			for next <= last {
				if !read() {
					return
				}
			}
		})
	}
	for w := range writers {
		senders.Go(func() {
			for i := range writes {
				if w == 0 && i%40 == 20 {
					lose.Store(1)
				}
				put(t, ev, records(fmt.Sprintf("%d-%d", w, i), 3))
			}
		})
	}
	senders.Wait()
	var err error
	if last, err = ev.Last(t.Context()); err != nil || last != writers*writes {
		t.Fatalf("the stream ends at %d, %v; want %d", last, err, writers*writes)
	}
	close(total)
	readers.Wait()
	if followed.Load() == 0 {
		t.Error("nobody read from the tail: the test proves nothing")
	}
}

func TestAReaderFindsWhatTheTailDoesNotKnowOf(t *testing.T) {
	t.Parallel()
	for _, later := range []bool{false, true} {
		t.Run(fmt.Sprintf("another write follows %t", later), func(t *testing.T) {
			t.Parallel()
			cfg, lose := lossy(t.TempDir(), eventStream, false)
			ev := open(t, cfg).Events()
			r, err := ev.Open(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			put(t, ev, records("known", 1))
			want := []string{"known/0", "unknown/0"}
			lose.Store(1 << 30)
			ctx, cancel := context.WithTimeout(t.Context(), cfg.ackTimeout*2)
			defer cancel()
			if _, err := ev.PutRecords(ctx, records("unknown", 1)); fault.KindOf(err) != fault.Ambiguous {
				t.Fatalf("PutRecords: %v, want ambiguous", err)
			}
			lose.Store(0)
			if later {
				put(t, ev, records("later", 1))
				want = append(want, "later/0")
			}
			for i, want := range want {
				entry, err := r.Next(t.Context())
				if err != nil || entry.Position != uint64(i+1) || string(entry.Records[0].Data) != want {
					t.Fatalf("entry %+v, %v; want %q at %d", entry, err, want, i+1)
				}
			}
			put(t, ev, records("after", 1))
			if entry, err := r.Next(t.Context()); err != nil || string(entry.Records[0].Data) != "after/0" {
				t.Fatalf("entry %+v, %v; want the one after", entry, err)
			}
			if r.(*reader).behind {
				t.Error("the reader did not return to the tail")
			}
		})
	}
}

// silent is a connection to the server that counts what it brings.
type silent struct {
	net.Conn
	brought *atomic.Int64
}

func (c silent) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.brought.Add(int64(n))
	return n, err
}

func TestReadersThatAreCaughtUpAskTheServerForNothing(t *testing.T) {
	t.Parallel()
	cfg, brought := small(t.TempDir()), new(atomic.Int64)
	cfg.wrapConn = func(c net.Conn) net.Conn { return silent{Conn: c, brought: brought} }
	ev := open(t, cfg).Events()
	const readers, writes, size = 3, 20, 100 << 10
	var open []*reader
	for range readers {
		r, err := ev.Open(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		open = append(open, r.(*reader))
	}
	before := brought.Load()
	for i := range uint64(writes) {
		put(t, ev, []stream.Record{{PartitionKey: "bucket-1", Data: make([]byte, size), Events: 1}})
		for _, r := range open {
			entry, err := r.Next(t.Context())
			if err != nil || entry.Position != i+1 || len(entry.Records[0].Data) != size {
				t.Fatalf("position %d, %v; want %d", entry.Position, err, i+1)
			}
		}
	}
	if got := brought.Load() - before; got > size {
		t.Errorf("the server sent %d bytes for %d writes of %d: more than acknowledgements", got, writes, size)
	}
}

func TestAReaderInTheTailEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ev := open(t, small(t.TempDir())).Events()
	r, err := ev.Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := r.Next(ctx)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Next: %v, want canceled", err)
	}
}
