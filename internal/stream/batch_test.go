package stream

import (
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
