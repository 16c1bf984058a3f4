package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
)

// lossyConn loses acknowledgements: what a machine's crash or a broken cable
// does to those of a remote server.
type lossyConn struct {
	net.Conn
	stream string        // begins the names of the streams whose acknowledgements are lost
	lose   *atomic.Int64 // how many are still to be lost
	cut    bool          // break the connection instead of losing the reply alone
}

func (c lossyConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !bytes.Contains(p[:n], []byte(`{"stream":"`+c.stream)) || c.lose.Add(-1) < 0 {
			return n, err
		}
		if c.cut {
			c.Conn.Close()
			return 0, errors.New("connection cut")
		}
	}
}

// lossy is a configuration whose connections lose acknowledgements of a stream
// once *lose is positive.
func lossy(dir, stream string, cut bool) (Config, *atomic.Int64) {
	cfg, lose := small(dir), new(atomic.Int64)
	cfg.ackTimeout = 50 * time.Millisecond
	cfg.wrapConn = func(c net.Conn) net.Conn { return lossyConn{Conn: c, stream: stream, lose: lose, cut: cut} }
	return cfg, lose
}

func TestAWriteWhoseAcknowledgementIsLostIsStoredOnce(t *testing.T) {
	t.Parallel()
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("connection cut %t", cut), func(t *testing.T) {
			t.Parallel()
			cfg, lose := lossy(t.TempDir(), eventStream, cut)
			e := open(t, cfg)
			ev := e.Events()
			put(t, ev, records("before", 1))
			lose.Store(2)
			if at := put(t, ev, records("lost", 4)); at != "2.0" {
				t.Errorf("stored at position %s, want 2", at)
			}
			if left := lose.Load(); left > 0 {
				t.Fatalf("%d acknowledgements were not lost: the test proves nothing", left)
			}
			put(t, ev, records("after", 1))
			s, err := ev.Stats(t.Context())
			if err != nil || s.Entries != 3 || s.Stored != 6 {
				t.Errorf("the stream holds %d entries with %d events, %v; want 3 with 6", s.Entries, s.Stored, err)
			}
		})
	}
}

func TestAWriteWithoutAnAnswerInTimeIsAmbiguousAndCountedWhenFound(t *testing.T) {
	t.Parallel()
	cfg, lose := lossy(t.TempDir(), eventStream, false)
	e := open(t, cfg)
	ev := e.Events()
	put(t, ev, records("before", 1))
	lose.Store(1 << 30)
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
	defer cancel()
	_, err := ev.PutRecords(ctx, records("unknown", 5))
	if fault.KindOf(err) != fault.Ambiguous {
		t.Fatalf("PutRecords: %v, want ambiguous", err)
	}
	lose.Store(0)
	put(t, ev, records("after", 1))
	if err := ev.census.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ev.Stored(); got != 7 {
		t.Errorf("Stored() = %d, want 7: the unknown write is on the stream", got)
	}
	if n, err := ev.CountBefore(t.Context(), 3); n != 6 || err != nil {
		t.Errorf("CountBefore(3) = %d, %v; want 6", n, err)
	}
}

func TestWritesAreRefusedWhenTheBudgetIsUsedUpAndTakenAgainAfterATrim(t *testing.T) {
	t.Parallel()
	cfg := small(t.TempDir())
	cfg.MaxBytes = 256 << 10
	e := open(t, cfg)
	ev := e.Events()
	rs := []stream.Record{{PartitionKey: "bucket-1", Data: bytes.Repeat([]byte("x"), 10<<10), Events: 7}}
	var stored uint64
	for {
		results, err := ev.PutRecords(t.Context(), rs)
		if err != nil {
			t.Fatal(err)
		}
		if err := results[0].Err; err != nil {
			f, ok := errors.AsType[*fault.Error](err)
			if !ok || f.Kind != fault.Unavailable || f.RetryAfter == 0 || !strings.Contains(f.Detail, "disk budget") {
				t.Fatalf("a full stream answers %v, want unavailable with the reason and a time", err)
			}
			break
		}
		stored += 7
	}
	if ev.Stored() != stored || stored < 20*7 {
		t.Fatalf("Stored() = %d, acknowledged %d", ev.Stored(), stored)
	}
	wantFull := func(want bool) {
		t.Helper()
		if stats, err := ev.Stats(t.Context()); err != nil || stats.Full != want {
			t.Errorf("Stats() = %+v, %v, want full: %v", stats, err, want)
		}
	}
	wantFull(true)

	// Nothing is settled: nothing goes.
	if err := ev.Trim(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if first, _ := ev.First(t.Context()); first != 1 {
		t.Fatalf("First = %d after a trim with nothing settled", first)
	}
	wantFull(true)
	// Ten entries are settled. Half of the budget needs more than those.
	if err := ev.Trim(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	if first, _ := ev.First(t.Context()); first != 11 {
		t.Errorf("First = %d after a trim with 10 entries settled, want 11", first)
	}
	wantFull(false)
	put(t, ev, rs)

	// All is settled: what fits into half of the budget stays to be looked at.
	last, err := ev.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ev.Trim(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	s, err := ev.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Bytes > s.Budget/2 || s.Bytes < s.Budget/3 {
		t.Errorf("%d bytes of %d are kept after everything is settled, want about half", s.Bytes, s.Budget)
	}
	if s.Stored != stored+7 || s.Trimmed != 7*(s.First-1) {
		t.Errorf("Stored %d, trimmed %d of them; want %d and %d", s.Stored, s.Trimmed, stored+7, 7*(s.First-1))
	}
	if n, err := ev.CountBefore(t.Context(), s.First); n != s.Trimmed || err != nil {
		t.Errorf("CountBefore(%d) = %d, %v; want the %d trimmed", s.First, n, err, s.Trimmed)
	}
}

func TestSettledEntriesGoWhenTheyAreOlderThanTheRetention(t *testing.T) {
	t.Parallel()
	cfg := small(t.TempDir())
	cfg.Retention = time.Nanosecond // anything of an earlier second is too old
	e := open(t, cfg)
	ev := e.Events()
	for i := range 5 {
		put(t, ev, records(fmt.Sprint(i), 2))
	}
	// As if those were stored a minute ago.
	ev.census.mu.Lock()
	for i := range ev.census.marks {
		ev.census.marks[i].Unix -= 60
	}
	ev.census.mu.Unlock()
	if err := ev.Trim(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if first, err := ev.First(t.Context()); first != 4 || err != nil {
		t.Errorf("First = %d, %v after a trim with 3 entries settled and old, want 4", first, err)
	}
}

func TestReadersStartAnywhereAndSayWhatIsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := small(dir)
	cfg.MaxBytes = 64 << 10
	e := open(t, cfg)
	ev := e.Events()
	big := func(i int) []stream.Record {
		return []stream.Record{{PartitionKey: "k", Data: fmt.Appendf(nil, "%04d%s", i, bytes.Repeat([]byte("x"), 2<<10)), Events: i}}
	}
	for i := 1; i <= 20; i++ {
		put(t, ev, big(i))
	}
	for after := range uint64(20) {
		got := read(t, ev, after, 1)[0]
		if got.Position != after+1 || !bytes.HasPrefix(got.Records[0].Data, fmt.Appendf(nil, "%04d", after+1)) {
			t.Fatalf("after %d came position %d", after, got.Position)
		}
	}
	early, err := ev.Open(t.Context(), 1) // waits before position 2
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	if err := ev.Trim(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	first, err := ev.First(t.Context())
	if err != nil || first < 5 {
		t.Fatalf("First = %d, %v: nothing was trimmed", first, err)
	}
	if _, err := ev.Open(t.Context(), 2); fault.KindOf(err) != fault.NotFound {
		t.Errorf("Open after a position before what is retained: %v, want not found", err)
	}
	if got := read(t, ev, 0, 1)[0]; got.Position != first {
		t.Errorf("from the oldest came position %d, want %d", got.Position, first)
	}
	if got := read(t, ev, first-1, 1)[0]; got.Position != first {
		t.Errorf("after the last trimmed position came %d, want %d", got.Position, first)
	}
	if _, err := ev.Open(t.Context(), 1000); err == nil {
		t.Error("Open after a position beyond the end was not refused")
	}

	for position := first; position <= 21; position++ {
		want := (position - 1) * position / 2 // 1+2+…
		if n, err := ev.CountBefore(t.Context(), position); n != want || err != nil {
			t.Errorf("CountBefore(%d) = %d, %v; want %d", position, n, err, want)
		}
	}
	if n, err := ev.CountBefore(t.Context(), 1); n != 0 || err != nil {
		t.Errorf("CountBefore(1) = %d, %v; want 0", n, err)
	}

	shut(t, e)
	e = open(t, cfg)
	if got, want := e.Events().Stored(), uint64(210); got != want {
		t.Errorf("Stored() = %d after a trim and reopening, want %d", got, want)
	}
	want := (first - 1) * first / 2
	if n, err := e.Events().CountBefore(t.Context(), first); n != want || err != nil {
		t.Errorf("CountBefore(First) = %d, %v after reopening; want %d", n, err, want)
	}
}

func TestAReaderThatWaitsWhileItsNextEntryIsTrimmedSaysSo(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	ev := e.Events()
	for i := range 400 { // more than one request brings
		put(t, ev, records(fmt.Sprint(i), 1))
	}
	r, err := ev.Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	// What the reader has in memory it still gives; what comes then is gone.
	if err := ev.stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, ev, records("after", 1))
	want := uint64(2)
	for {
		entry, err := r.Next(t.Context())
		if err != nil {
			if fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), fmt.Sprintf("from position %d to 400", want)) {
				t.Errorf("at position %d: %v, want not found up to 400", want, err)
			}
			break
		}
		if entry.Position != want {
			t.Fatalf("position %d came, want %d or an error", entry.Position, want)
		}
		want++
	}
	if _, err := r.Next(t.Context()); fault.KindOf(err) != fault.NotFound {
		t.Errorf("Next after a gap: %v, want the same again", err)
	}
}

func TestAReaderWaitsForWhatIsWrittenLater(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	ev := e.Events()
	r, err := ev.Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Next(done); !errors.Is(err, context.Canceled) {
		t.Fatalf("Next with a context that is done: %v", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 50 {
			put(t, ev, records(fmt.Sprint(i), 1))
		}
	})
	for i := range uint64(50) {
		entry, err := r.Next(t.Context())
		if err != nil || entry.Position != i+1 {
			t.Fatalf("position %d, %v; want %d", entry.Position, err, i+1)
		}
	}
	wg.Wait()
}

func TestAReaderGoesOnAfterItsConnectionBreaks(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	ev := e.Events()
	for i := range 600 { // more than one request brings
		put(t, ev, records(fmt.Sprint(i), 1))
	}
	r, err := ev.Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range uint64(600) {
		if i%150 == 100 {
			if err := e.reads.ForceReconnect(); err != nil {
				t.Fatal(err)
			}
		}
		entry, err := r.Next(t.Context())
		if err != nil || entry.Position != i+1 {
			t.Fatalf("position %d, %v; want %d", entry.Position, err, i+1)
		}
	}
}

func TestConcurrentWritesAreAllCountedAndKept(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	ev := e.Events()
	const writers, writes = 8, 40
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range writes {
				put(t, ev, records(fmt.Sprintf("%d-%04d", w, i), 1+i%3))
			}
		})
	}
	wg.Wait()
	var events int
	last := make([]string, writers)
	for i, entry := range read(t, ev, 0, writers*writes) {
		if entry.Position != uint64(i+1) {
			t.Fatalf("position %d at place %d", entry.Position, i)
		}
		events += len(entry.Records)
		var w int
		text := string(entry.Records[0].Data)
		if _, err := fmt.Sscanf(text, "%d-", &w); err != nil || text <= last[w] {
			t.Fatalf("writer %d: %s came after %s", w, text, last[w])
		}
		last[w] = text
	}
	if got := ev.Stored(); got != uint64(events) {
		t.Errorf("Stored() = %d, the stream holds %d", got, events)
	}
}

func TestAWriteOverTheLimitIsSplitAndARecordOverItRefused(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	ev := e.Events()
	if results, err := ev.PutRecords(t.Context(), nil); len(results) != 0 || err != nil {
		t.Errorf("PutRecords of nothing: %v, %v", results, err)
	}
	rs := records("small", 5)
	rs[1].Data = make([]byte, 700<<10)
	rs[2].Data = make([]byte, 1<<20) // over the limit with its key
	rs[4].Data = make([]byte, 700<<10)
	results, err := ev.PutRecords(t.Context(), rs)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if i == 2 {
			if fault.KindOf(r.Err) != fault.TooLarge {
				t.Errorf("record over the limit: %v, want too large", r.Err)
			}
		} else if r.Err != nil || r.Sequence == "" {
			t.Errorf("record %d: %v", i, r.Err)
		}
	}
	if got := ev.Stored(); got != 4 {
		t.Errorf("Stored() = %d, want 4", got)
	}
}

func TestRecentGivesTheNewestFirst(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	ev := e.Events()
	for i := range 10 {
		put(t, ev, records(fmt.Sprint(i), 1))
	}
	for _, tt := range []struct {
		limit, stopAfter int
		want             []uint64
	}{
		{limit: 3, stopAfter: 99, want: []uint64{10, 9, 8}},
		{limit: 99, stopAfter: 2, want: []uint64{10, 9}},
		{limit: 99, stopAfter: 99, want: []uint64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
		{limit: 0, stopAfter: 99, want: nil},
	} {
		var got []uint64
		err := ev.Recent(t.Context(), tt.limit, func(e stream.Entry) bool {
			got = append(got, e.Position)
			return len(got) < tt.stopAfter
		})
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("Recent(%d), stopped after %d: %v, %v; want %v", tt.limit, tt.stopAfter, got, err, tt.want)
		}
	}
}

func TestAReaderThatWaitsEndsWithTheEngine(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	r, err := e.Events().Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := r.Next(context.Background())
		ended <- err
	}()
	shut(t, e)
	if err := <-ended; fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Next of an engine that was closed: %v, want unavailable", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	results, err := e.Events().PutRecords(t.Context(), records("late", 1))
	if err != nil || fault.KindOf(results[0].Err) != fault.Unavailable {
		t.Errorf("PutRecords on an engine that was closed: %v, %v, want unavailable", results, err)
	}
}

func TestBeforeFindsThePositionOfATime(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	ev := e.Events()
	want := func(what string, at time.Time, position uint64) {
		t.Helper()
		if got, err := ev.Before(t.Context(), at); err != nil || got != position {
			t.Errorf("%s: %d, %v; want %d", what, got, err, position)
		}
	}
	want("an empty stream", time.Now(), 0)
	var stored []time.Time
	for i := range 9 {
		put(t, ev, records(fmt.Sprint("entry ", i), 1))
	}
	for _, entry := range read(t, ev, 0, 9) {
		stored = append(stored, entry.StoredAt)
	}
	want("long ago", time.Unix(0, 0), 0)
	want("in the future", time.Now().Add(time.Hour), 9)
	for i, at := range stored {
		// Entries may have been stored at one time.
		first := slices.Index(stored, at)
		want(fmt.Sprintf("when entry %d was stored", i+1), at, uint64(first))
	}
	want("right after the last", stored[8].Add(1), 9)
	if err := ev.Discard(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	want("of what was discarded", time.Unix(0, 0), 4)
	want("of the last, after it", stored[8], uint64(max(4, slices.Index(stored, stored[8]))))
	if err := ev.Discard(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	want("all was discarded", time.Unix(0, 0), 9)
}

func TestAStreamKeepsItsIdentityAndANewOneHasAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := open(t, small(dir))
	identity := e.Events().Identity()
	put(t, e.Events(), records("entry", 1))
	shut(t, e)
	e = open(t, small(dir))
	if got := e.Events().Identity(); got != identity {
		t.Errorf("after a restart %q, before it %q", got, identity)
	}
	other := open(t, small(t.TempDir()))
	if got := other.Events().Identity(); got == identity {
		t.Errorf("another stream is %q too", got)
	}
}
