package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

func letters(prefix string, n int) []deadletter.Letter {
	ls := make([]deadletter.Letter, n)
	for i := range ls {
		ls[i] = deadletter.Letter{ID: fmt.Sprintf("%s.%d.0", prefix, i), Destination: "crm", Event: []byte(`{"name":"order_paid"}`), Attempts: 1, Class: "retryable"}
	}
	return ls
}

// ids returns the IDs of all letters of a queue in its order.
func ids(t testing.TB, q deadletter.Queue) []string {
	t.Helper()
	var ids []string
	if err := q.Scan(t.Context(), 0, func(_ uint64, l deadletter.Letter) bool {
		ids = append(ids, l.ID)
		return true
	}); err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return ids
}

func count(t testing.TB, q deadletter.Queue) uint64 {
	t.Helper()
	n, err := q.Count(t.Context())
	if err != nil {
		t.Fatalf("Count: %v", err)
	}
	return n
}

func TestAQueueKeepsLettersInTheOrderOfPut(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	q := e.Destination("crm").Parked()
	if got := ids(t, q); got != nil || count(t, q) != 0 {
		t.Fatalf("a queue that nothing was put into holds %v", got)
	}
	if err := q.Delete(t.Context(), []string{"1.0.0"}); err != nil {
		t.Fatalf("Delete from a queue that does not exist: %v", err)
	}
	if _, err := q.Get(t.Context(), "1.0.0"); fault.KindOf(err) != fault.NotFound {
		t.Fatalf("Get from a queue that does not exist: %v, want not found", err)
	}

	all := letters("7", 1200) // more than two batches
	if err := q.Put(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if got := count(t, q); got != 1200 {
		t.Errorf("Count = %d, want 1200", got)
	}
	want := make([]string, len(all))
	for i, l := range all {
		want[i] = l.ID
	}
	if got := ids(t, q); !slices.Equal(got, want) {
		t.Errorf("Scan gave %d letters, not the 1200 in the order of Put", len(got))
	}
	if got := ids(t, e.Destination("crm").Dead()); got != nil {
		t.Errorf("the dead queue holds %v that were parked", got)
	}
}

func TestALetterHasItsEventByteForByte(t *testing.T) {
	t.Parallel()
	q := open(t, small(t.TempDir())).Destination("crm").Dead()
	for i, event := range []string{
		`{"data":{"html":"<b>&</b>", "n":1.0e2}}`,
		"{ \"name\" : \"order\\u005fpaid\",\n\t\"line separator\":\"\u2028\", \"big\":12345678901234567890.50 }",
		`null`,
	} {
		l := letters("1", i+1)[i]
		l.Event, l.Message = []byte(event), `<html>"no"`
		if err := q.Put(t.Context(), []deadletter.Letter{l}); err != nil {
			t.Fatal(err)
		}
		got, err := q.Get(t.Context(), l.ID)
		if err != nil || string(got.Event) != event || got.Message != l.Message || got.Destination != "crm" {
			t.Errorf("%+v, %v; want the event %s", got, err, event)
		}
	}
	broken := letters("2", 1)
	broken[0].Event = []byte(`{"name":`)
	if err := q.Put(t.Context(), broken); fault.KindOf(err) != fault.Invalid {
		t.Errorf("Put of an event that is not JSON: %v, want invalid", err)
	}
}

func TestALetterPutAgainReplacesItself(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	q := e.Destination("crm").Parked()
	if err := q.Put(t.Context(), letters("7", 3)); err != nil {
		t.Fatal(err)
	}
	again := letters("7", 2)
	again[0].Attempts, again[1].Attempts = 2, 2
	if err := q.Put(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	// The same twice in one Put: the last counts.
	twice := []deadletter.Letter{again[0], again[0]}
	twice[1].Attempts = 5
	if err := q.Put(t.Context(), twice); err != nil {
		t.Fatal(err)
	}
	if got := count(t, q); got != 3 {
		t.Errorf("Count = %d, want 3", got)
	}
	for id, want := range map[string]int{"7.0.0": 5, "7.1.0": 2, "7.2.0": 1} {
		l, err := q.Get(t.Context(), id)
		if err != nil || l.Attempts != want {
			t.Errorf("letter %s: attempts %d, err %v; want %d", id, l.Attempts, err, want)
		}
	}
}

func TestDeleteRemovesWhatIsThereAndIgnoresWhatIsNot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := open(t, small(dir))
	q := e.Destination("crm").Parked()
	if err := q.Put(t.Context(), letters("7", 100)); err != nil {
		t.Fatal(err)
	}
	var gone []string
	for i := range 99 {
		gone = append(gone, fmt.Sprintf("7.%d.0", i))
	}
	if err := q.Delete(t.Context(), append(gone, "never put", "7")); err != nil {
		t.Fatal(err)
	}
	shut(t, e)
	e = open(t, small(dir))
	q = e.Destination("crm").Parked()
	if got := ids(t, q); !slices.Equal(got, []string{"7.99.0"}) {
		t.Errorf("left are %v, want 7.99.0 alone", got)
	}
}

func TestScanGoesOnAfterACursor(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	q := e.Destination("crm").Dead()
	if err := q.Put(t.Context(), letters("7", 10)); err != nil {
		t.Fatal(err)
	}
	var cursor uint64
	var got []string
	for range 10 {
		var page []string
		err := q.Scan(t.Context(), cursor, func(c uint64, l deadletter.Letter) bool {
			cursor = c
			page = append(page, l.ID)
			return len(page) < 3
		})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page...)
		// What was seen may go without disturbing the cursor.
		if err := q.Delete(t.Context(), page); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != 10 || !slices.IsSorted(got) {
		t.Errorf("pages of 3 gave %v, want the 10 letters once each", got)
	}
}

func TestLettersPutDuringAScanAreNotPartOfIt(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	q := e.Destination("crm").Parked()
	if err := q.Put(t.Context(), letters("7", 5)); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := q.Scan(t.Context(), 0, func(_ uint64, l deadletter.Letter) bool {
		seen++
		l.Attempts++
		if err := q.Put(t.Context(), []deadletter.Letter{l}); err != nil {
			t.Error(err)
		}
		return seen < 100
	})
	if err != nil || seen != 5 {
		t.Errorf("Scan gave %d letters, err %v; want 5", seen, err)
	}
}

func TestEveryNameHasAQueueOfItsOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := open(t, small(dir))
	names := []string{"crm", "CRM", "a.b", "a_2eb", "a*", ">", "höhe/..", "", " ", strings.Repeat("x", 300), strings.Repeat("x", 301)}
	for i, name := range names {
		if err := e.Destination(name).Dead().Put(t.Context(), letters(fmt.Sprint(i), 1)); err != nil {
			t.Fatalf("Put for destination %q: %v", name, err)
		}
		if err := e.Destination(name).SaveState(t.Context(), delivery.State{Position: uint64(i)}); err != nil {
			t.Fatalf("SaveState for destination %q: %v", name, err)
		}
	}
	shut(t, e)
	e = open(t, small(dir))
	for i, name := range names {
		if got := ids(t, e.Destination(name).Dead()); !slices.Equal(got, []string{fmt.Sprintf("%d.0.0", i)}) {
			t.Errorf("destination %q holds %v", name, got)
		}
		s, ok, err := e.Destination(name).LoadState(t.Context())
		if err != nil || !ok || s.Position != uint64(i) {
			t.Errorf("state of %q: position %d, %t, %v; want %d", name, s.Position, ok, err, i)
		}
	}
	got, err := e.Destinations(t.Context())
	want := slices.Sorted(slices.Values(names))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Destinations() = %q, %v; want %q", got, err, want)
	}
}

func TestTheQuarantineDiscardsItsOldestLettersAndCountsThem(t *testing.T) {
	t.Parallel()
	cfg := small(t.TempDir())
	cfg.MaxQuarantineBytes = 64 << 10
	e := open(t, cfg)
	q := e.Quarantine()
	const n = 40
	for i := range n {
		l := letters(fmt.Sprint(i), 1)
		l[0].Raw = make([]byte, 4<<10)
		if err := q.Put(t.Context(), l); err != nil {
			t.Fatalf("letter %d: %v", i, err)
		}
	}
	left := ids(t, q)
	if uint64(len(left))+q.Discarded() != n || q.Discarded() == 0 {
		t.Errorf("%d letters left and %d discarded, want %d together", len(left), q.Discarded(), n)
	}
	if left[len(left)-1] != fmt.Sprintf("%d.0.0", n-1) {
		t.Errorf("the newest letter is %s, want the one put last", left[len(left)-1])
	}
}

func TestLettersThatAreKeptAreNeverPushedOutOfTheQuarantine(t *testing.T) {
	t.Parallel()
	cfg := small(t.TempDir())
	cfg.MaxQuarantineBytes = 64 << 10
	e := open(t, cfg)
	q := e.Quarantine()
	put := func(id string, kept bool) error {
		return q.Put(t.Context(), []deadletter.Letter{{ID: id, Class: "schema", Raw: make([]byte, 2<<10), Kept: kept}})
	}
	var kept []string
	for i := range 60 { // kept ones stand between others from the start
		id := fmt.Sprintf("l%d", i)
		if err := put(id, i%10 == 0); err != nil {
			t.Fatalf("letter %d: %v", i, err)
		}
		if i%10 == 0 {
			kept = append(kept, id)
		}
	}
	left := ids(t, q)
	for _, id := range kept {
		if l, err := q.Get(t.Context(), id); err != nil || !l.Kept || !slices.Contains(left, id) {
			t.Errorf("%s was to be kept: %v", id, err)
		}
	}
	if uint64(len(left))+q.Discarded() != 60 || q.Discarded() == 0 {
		t.Errorf("%d letters left and %d discarded, want 60 together", len(left), q.Discarded())
	}
	// With nothing left that could make room, neither kind is taken.
	var err error
	for i := 0; i < 60 && err == nil; i++ {
		id := fmt.Sprintf("k%d", i)
		if err = put(id, true); err == nil {
			kept = append(kept, id)
		}
	}
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Put of a letter to keep into a full quarantine: %v, want unavailable", err)
	}
	if err := put("other", false); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("Put of another into a full quarantine: %v, want unavailable", err)
	}
	if left := ids(t, q); !slices.Equal(left, kept) {
		t.Errorf("left are %v, want %v", left, kept)
	}
	shut(t, e)
	e = open(t, cfg)
	q = e.Quarantine()
	if err := q.Delete(t.Context(), kept[:3]); err != nil {
		t.Fatal(err)
	}
	if err := put("again", true); err != nil {
		t.Errorf("Put after room was made: %v", err)
	}
	if _, err := q.Get(t.Context(), kept[0]); fault.KindOf(err) != fault.NotFound {
		t.Errorf("Get of a letter that was deleted: %v", err)
	}
}

func TestAQuarantineOfAnOlderProgramTakesLettersToKeep(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	q := e.Quarantine()
	older := q.config()
	older.Subjects = older.Subjects[:1]
	if _, err := e.readJS.CreateStream(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	if err := q.Put(t.Context(), []deadletter.Letter{{ID: "a", Class: "schema", Kept: true}, {ID: "b", Class: "invalid"}}); err != nil {
		t.Fatal(err)
	}
	if got := ids(t, q); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("it holds %v", got)
	}
}

func TestAFullQueueRefusesLetters(t *testing.T) {
	t.Parallel()
	cfg := small(t.TempDir())
	cfg.MaxQueueBytes = 64 << 10
	e := open(t, cfg)
	q := e.Destination("crm").Parked()
	var err error
	put := 0
	for ; put < 40 && err == nil; put++ {
		l := letters(fmt.Sprint(put), 2)
		l[0].Raw = make([]byte, 2<<10)
		err = q.Put(t.Context(), l)
	}
	if fault.KindOf(err) != fault.Unavailable {
		t.Fatalf("Put %d into a full queue: %v, want unavailable", put, err)
	}
	if got := count(t, q); got != uint64(2*(put-1)) {
		t.Errorf("Count = %d, want the %d letters of the Puts that succeeded", got, 2*(put-1))
	}
	if err := q.Delete(t.Context(), ids(t, q)[:10]); err != nil {
		t.Fatal(err)
	}
	if err := q.Put(t.Context(), letters("again", 2)); err != nil {
		t.Errorf("Put after room was made: %v", err)
	}
}

func TestASaveThatAnotherProcessOvertookIsAConflict(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	ours := e.Destination("crm")
	// The same destination in another process, as far as the store can tell.
	theirs := &Destination{engine: e, name: "crm", subject: ours.subject}

	if _, ok, err := ours.LoadState(t.Context()); ok || err != nil {
		t.Fatalf("LoadState before any save: %t, %v", ok, err)
	}
	for i := range 3 {
		if err := ours.SaveState(t.Context(), delivery.State{Position: uint64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	s, ok, err := theirs.LoadState(t.Context())
	if !ok || err != nil || s.Position != 2 {
		t.Fatalf("LoadState: %+v, %t, %v; want position 2", s, ok, err)
	}
	if err := theirs.SaveState(t.Context(), delivery.State{Position: 10}); err != nil {
		t.Fatal(err)
	}
	if err := ours.SaveState(t.Context(), delivery.State{Position: 3}); fault.KindOf(err) != fault.Conflict {
		t.Fatalf("SaveState after another process saved: %v, want conflict", err)
	}
	if s, _, _ := theirs.LoadState(t.Context()); s.Position != 10 {
		t.Errorf("position %d stands, want that of the other process, 10", s.Position)
	}
}

func TestAStateWhoseAcknowledgementIsLostIsSaved(t *testing.T) {
	t.Parallel()
	cfg, lose := lossy(t.TempDir(), stateName, false)
	e := open(t, cfg)
	d := e.Destination("crm")
	lose.Store(1)
	for i := range 3 {
		if err := d.SaveState(t.Context(), delivery.State{Position: uint64(i)}); err != nil {
			t.Fatalf("save %d: %v", i, err)
		}
	}
	if left := lose.Load(); left > 0 {
		t.Fatal("no acknowledgement was lost: the test proves nothing")
	}
	if s, ok, err := d.LoadState(t.Context()); !ok || err != nil || s.Position != 2 {
		t.Errorf("LoadState: %+v, %t, %v; want position 2", s, ok, err)
	}
}

func TestLettersWhoseAcknowledgementIsLostAreKeptOnce(t *testing.T) {
	t.Parallel()
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("connection cut %t", cut), func(t *testing.T) {
			t.Parallel()
			cfg, lose := lossy(t.TempDir(), queueStreamPrefix, cut)
			e := open(t, cfg)
			q := e.Destination("crm").Dead()
			lose.Store(2)
			all := letters("7", 10)
			if err := q.Put(t.Context(), all); err != nil {
				t.Fatal(err)
			}
			if left := lose.Load(); left > 0 {
				t.Fatal("no acknowledgement was lost: the test proves nothing")
			}
			if got := ids(t, q); len(got) != 10 || count(t, q) != 10 {
				t.Errorf("the queue holds %v, want the 10 letters once", got)
			}
		})
	}
}

// The client may drop messages of a reader that is slower than the server for
// a moment; a scan begins anew where that happened.
func TestAScanOfManyLettersGivesEachOnce(t *testing.T) {
	t.Parallel()
	e := open(t, small(t.TempDir()))
	q := e.Destination("crm").Parked()
	const n = 5000
	if err := q.Put(t.Context(), letters("7", n)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		got := ids(t, q)
		for i, id := range got {
			if want := fmt.Sprintf("7.%d.0", i); id != want {
				t.Fatalf("letter %d of the scan is %s, want %s", i, id, want)
			}
		}
		if len(got) != n {
			t.Errorf("Scan gave %d letters, want %d", len(got), n)
		}
	}
}
