package engine

import (
	"fmt"
	"testing"

	"github.com/eventsluice/sluice/internal/fault"
)

// wantRetained checks what a stream says that it holds, and where it begins.
func wantRetained(t *testing.T, ev *Events, events, first uint64) {
	t.Helper()
	got, bytes, err := ev.Backlog(t.Context())
	if err != nil || got != events || (bytes == 0) != (events == 0) {
		t.Errorf("Backlog() = %d events of %d bytes, want %d events", got, bytes, events)
	}
	if at, err := ev.First(t.Context()); err != nil || at != first {
		t.Errorf("First() = %d, %v, want %d", at, err, first)
	}
}

func TestDiscardRemovesExactlyWhatItIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := open(t, small(dir))
	ev := e.Events()
	wantRetained(t, ev, 0, 1)
	for i := range 10 {
		put(t, ev, records(fmt.Sprint("entry ", i), 3))
	}
	wantRetained(t, ev, 30, 1)
	for _, step := range []struct{ upTo, events, first uint64 }{
		{4, 18, 5},
		{4, 18, 5}, // again
		{2, 18, 5}, // behind it
		{7, 9, 8},
	} {
		if err := ev.Discard(t.Context(), step.upTo); err != nil {
			t.Fatalf("Discard(%d): %v", step.upTo, err)
		}
		wantRetained(t, ev, step.events, step.first)
	}
	if _, err := ev.Open(t.Context(), 3); fault.KindOf(err) != fault.NotFound {
		t.Errorf("Open(3): %v, want that it is gone", err)
	}
	shut(t, e)

	e = open(t, small(dir))
	ev = e.Events()
	wantRetained(t, ev, 9, 8)
	if got := read(t, ev, 7, 1)[0]; string(got.Records[0].Data) != "entry 7/0" {
		t.Errorf("after the restart the stream begins with %q", got.Records[0].Data)
	}
	if err := ev.Discard(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	wantRetained(t, ev, 0, 11)
	put(t, ev, records("next", 2))
	wantRetained(t, ev, 2, 11)
	if got := ev.Stored(); got != 32 {
		t.Errorf("Stored() = %d, want all that ever were: 32", got)
	}
}

func TestDiscardedEntriesMakeRoom(t *testing.T) {
	t.Parallel()
	cfg := small(t.TempDir())
	cfg.MaxBytes = 2 << 20
	ev := open(t, cfg).Events()
	large := records("large", 4)
	for i := range large {
		large[i].Data = make([]byte, 64<<10)
	}
	for round := range 3 {
		n := 0
		for ; ; n++ {
			results, err := ev.PutRecords(t.Context(), large)
			if err != nil {
				t.Fatal(err)
			}
			if fault.KindOf(results[0].Err) == fault.Unavailable {
				break
			}
			if results[0].Err != nil || n > 20 {
				t.Fatalf("round %d, entry %d: %v", round, n, results[0].Err)
			}
		}
		last, err := ev.Last(t.Context())
		if err != nil || n < 5 {
			t.Fatalf("round %d: %d entries fit, %v", round, n, err)
		}
		if err := ev.Discard(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		wantRetained(t, ev, 0, last+1)
	}
}

func TestWhatACrashLeavesOfADiscardGoesAtTheNextStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := open(t, small(dir))
	ev := e.Events()
	for i := range 10 {
		put(t, ev, records(fmt.Sprint("entry ", i), 3))
	}
	if _, err := ev.census.mark(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	ev.census.cutting(7)
	// The process dies with some of them gone.
	for _, position := range []uint64{2, 5, 6} {
		if err := ev.stream.DeleteMsg(t.Context(), position); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, e)

	ev = open(t, small(dir)).Events()
	wantRetained(t, ev, 9, 8)
	if got := read(t, ev, 0, 3); string(got[0].Records[0].Data) != "entry 7/0" {
		t.Errorf("the stream begins with %q", got[0].Records[0].Data)
	}
	if got := ev.Stored(); got != 30 {
		t.Errorf("Stored() = %d, want 30", got)
	}
}

func TestAStreamThatHasLostItsNewestEntriesIsNotCutBeyondThem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := open(t, small(dir))
	put(t, e.Events(), records("entry", 3))
	e.Events().census.cutting(40)
	shut(t, e)
	ev := open(t, small(dir)).Events()
	put(t, ev, records("next", 2))
	if last, err := ev.Last(t.Context()); err != nil || last != 2 {
		t.Errorf("Last() = %d, %v, want 2", last, err)
	}
}
