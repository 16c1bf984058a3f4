package engine

import (
	"cmp"
	"slices"
	"sync"

	"github.com/eventsluice/sluice/internal/stream"
)

// tail keeps the newest entries in memory, for the readers that are caught up.
// Those take what was just written from here: asking the server for it would
// cost more than the write, and make the server keep the whole file that it
// writes to in memory, and then each file for another ten seconds
// (mb.ecache and defaultCacheBufferExpiration in its filestore.go).
//
// The tail is filled by the writes of this process and never the authority: a
// position that it does not hold is read from the stream. It holds a contiguous
// range of positions, so that no reader of it leaves one out.
type tail struct {
	limit int // bytes of frames

	mu      sync.Mutex
	closed  bool
	readers int // with none, nothing is kept
	// entries stand at the positions from first to end-1.
	entries    []tailEntry
	first, end uint64
	// size is what entries take, early included; total all that were ever
	// appended.
	size  int
	total uint64
	// changed is closed when end or first changes; nil if nobody waits.
	changed chan struct{}

	// Acknowledgements of concurrent writes come in any order. early are
	// entries behind a gap, in the order of the stream. Only a write that was in
	// flight when an entry was acknowledged can stand before it: when all those
	// have ended and the gap is still there, it holds what somebody else wrote,
	// or a write of unknown fate.
	early  []tailEntry
	flying []uint64 // tickets of the writes in flight, ascending
	ticket uint64   // the last one given out
}

type tailEntry struct {
	stream.Entry
	size int
	// before is the total of the bytes appended before this entry.
	before uint64
	// ticket, of an early entry, is the last given out when it was acknowledged.
	ticket uint64
}

// newTail returns the tail of a stream that ends at position last.
func newTail(limit int, last uint64) *tail {
	return &tail{limit: limit, first: last + 1, end: last + 1}
}

// begin is called before a write, and returns what its end must be called with.
func (t *tail) begin() (ticket uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ticket++
	t.flying = append(t.flying, t.ticket)
	return t.ticket
}

// finish ends a write. Entry is what the stream has acknowledged, with size
// bytes; one at position 0 says that it may hold nothing of the write.
func (t *tail) finish(ticket uint64, e stream.Entry, size int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, ok := slices.BinarySearch(t.flying, ticket); ok {
		t.flying = slices.Delete(t.flying, i, i+1)
	}
	switch p := e.Position; {
	case p == 0 || p < t.first:
		// Nothing, or what readers at first have read from the stream.
	case t.readers == 0 || t.closed:
		t.reset(max(p+1, t.end))
	case p < t.end:
		// The stream has lost entries and gives their positions again.
		t.reset(p)
		t.append(tailEntry{Entry: e, size: size})
	case p == t.end:
		t.append(tailEntry{Entry: e, size: size})
	default:
		i, _ := slices.BinarySearchFunc(t.early, p, func(e tailEntry, p uint64) int {
			return cmp.Compare(e.Position, p)
		})
		t.early = slices.Insert(t.early, i, tailEntry{Entry: e, size: size, ticket: t.ticket})
		t.size += size
	}
	t.join()
}

// join appends the early entries whose gap is filled, or never will be.
func (t *tail) join() {
	for len(t.early) > 0 {
		next := t.early[0]
		awaited := len(t.flying) > 0 && t.flying[0] <= next.ticket && t.size <= 2*t.limit
		switch {
		case next.Position > t.end && awaited:
			return
		case next.Position > t.end:
			t.restart(next.Position)
		}
		t.early = slices.Delete(t.early, 0, 1)
		t.size -= next.size
		if next.Position == t.end {
			t.append(next)
		}
	}
}

// append puts an entry at the end, and lets go of the oldest beyond the limit.
func (t *tail) append(e tailEntry) {
	e.before = t.total
	t.entries = append(t.entries, e)
	t.end++
	t.size += e.size
	t.total += uint64(e.size)
	n, kept := 0, int(t.total-t.entries[0].before)
	for ; kept > t.limit && n < len(t.entries); n++ {
		kept -= t.entries[n].size
	}
	t.drop(n)
	t.wake()
}

// drop lets go of the oldest n entries.
func (t *tail) drop(n int) {
	for i := range t.entries[:n] {
		t.size -= t.entries[i].size
	}
	clear(t.entries[:n]) // the array stays until it is full
	t.entries = t.entries[n:]
	t.first += uint64(n)
}

// restart makes the tail empty and begin at a position.
func (t *tail) restart(position uint64) {
	t.drop(len(t.entries))
	t.entries = nil
	t.first, t.end = position, position
	t.wake()
}

// reset is restart without early entries.
func (t *tail) reset(position uint64) {
	for i := range t.early {
		t.size -= t.early[i].size
	}
	t.early = nil
	t.restart(position)
}

func (t *tail) wake() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// get returns the entry at a position. If ok is false it is not here: it may
// come, and changed is closed then at the latest; or changed is nil, and it is
// to be read from the stream.
func (t *tail) get(position uint64) (e stream.Entry, ok bool, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed || position < t.first || position > t.end:
		return e, false, nil
	case position < t.end:
		return t.entries[position-t.first].Entry, true, nil
	}
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return e, false, t.changed
}

// reaches tells whether a reader that has the entry before position may go on
// here. It may not while it is so far behind that the entry could be gone when
// it comes for the next: each change between stream and tail has its price.
func (t *tail) reaches(position uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || position < t.first || position > t.end {
		return false
	}
	return position == t.end || t.total-t.entries[position-t.first].before <= uint64(t.limit)*3/4
}

// trim lets go of the entries up to a position: the stream has discarded them.
func (t *tail) trim(upTo uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if upTo >= t.first && upTo < t.end {
		t.drop(int(upTo - t.first + 1))
	}
}

// enter and leave count the readers.
func (t *tail) enter() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.readers++
}

func (t *tail) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readers--; t.readers == 0 {
		t.restart(t.end)
	}
}

// close sends all readers to the stream.
func (t *tail) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.reset(t.end)
}
