package stream

import (
	"errors"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
)

func TestABatchKeepsWhatItIsToldTo(t *testing.T) {
	t.Parallel()
	var b Batch
	for _, name := range []string{"a", "b", "c", "d"} {
		b.Add(&event.Event{ID: name, Name: name, UserID: name})
	}
	dropped, hashes := b.Event(1), []uint64{b.Hash(0), b.Hash(3)}
	size := b.Size()
	b.Keep(func(i int) bool { return i == 0 || i == 3 })
	if b.Len() != 2 || b.Hash(0) != hashes[0] || b.Hash(1) != hashes[1] || b.Size() != size {
		t.Fatalf("%d events, %d bytes", b.Len(), b.Size())
	}
	for i, name := range []string{"a", "d"} {
		if !strings.Contains(string(b.Event(i)), `"name":"`+name+`"`) {
			t.Errorf("event %d is %s", i, b.Event(i))
		}
	}
	if !strings.Contains(string(dropped), `"name":"b"`) {
		t.Errorf("what was taken out is %s", dropped)
	}
	if i := b.Add(&event.Event{ID: "e", Name: "e"}); i != 2 || b.Err(2) != nil || !strings.Contains(string(b.Event(2)), `"name":"e"`) {
		t.Errorf("the next event is %d: %s", i, b.Event(i))
	}
	b.Keep(func(int) bool { return false })
	if b.Len() != 0 {
		t.Errorf("%d events are left of none", b.Len())
	}
	if b.Reset(); b.Size() != 0 {
		t.Errorf("%d bytes after a reset", b.Size())
	}
}

func TestABatchSaysWhatTheNextPutWrites(t *testing.T) {
	t.Parallel()
	var b Batch
	for _, id := range []string{"a", "b", "c", ""} {
		b.Add(&event.Event{ID: id, Type: event.TypeTrack, Name: "viewed", Source: "web"})
	}
	want := func(what string, events, bytes int) {
		t.Helper()
		if e, n := b.Load(); e != events || n != bytes {
			t.Errorf("%s: %d events of %d bytes, want %d of %d", what, e, n, events, bytes)
		}
	}
	each := len(b.Event(0))
	want("all", 4, 4*each-1)
	b.Skip(1, true)
	b.Skip(1, true)
	want("but one", 3, 3*each-1)
	b.Skip(2, false)
	b.Skip(3, true)
	want("but two", 2, 2*each)
	b.Skip(1, false)
	want("one of them after all", 3, 3*each)
	if b.Skipped(1) || !b.Skipped(3) {
		t.Error("the wrong events are skipped")
	}

	b.MarkOwnID(0)
	b.MarkOwnID(0)
	b.MarkOwnID(3)
	if b.OwnIDs() != 2 || !b.OwnID(0) || b.OwnID(1) {
		t.Errorf("%d events have an id of their own", b.OwnIDs())
	}
	if _, ok := b.Identity(3); ok {
		t.Error("an event without an id has an identity")
	}
	got, ok := b.Identity(0)
	if from, _ := event.IdentityOf(b.Event(0)); !ok || got != from {
		t.Error("the identity of an event is another on the stream")
	}
	b.Fail(0, errors.New("away"))
	if b.MarkDuplicate(2); b.Duplicates() != 1 {
		t.Errorf("%d duplicates", b.Duplicates())
	}

	// What is taken out takes its marks with it.
	b.Keep(func(i int) bool { return i == 1 || i == 2 })
	want("two are kept", 2, 2*each)
	if b.OwnIDs() != 0 || b.Duplicates() != 0 {
		t.Errorf("%d ids, %d duplicates", b.OwnIDs(), b.Duplicates())
	}
	b.Reset()
	b.Add(&event.Event{ID: "a", Type: event.TypeTrack, Name: "viewed", Source: "web"})
	want("another request", 1, each)
	if b.OwnIDs() != 0 || b.Skipped(0) || b.Err(0) != nil {
		t.Error("something is left of the request before")
	}
}
