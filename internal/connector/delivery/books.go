package delivery

import (
	"sort"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/ledger"
)

// Counts is what the runner made of the events it has read. At every moment
//
//	Seen = Skipped + Filtered + Delivered + Retrying + Waiting + Dead + Purged + Replayed
type Counts = ledger.Account

// tally is the part of the account that a State carries.
type tally struct {
	seen, skipped, filtered, delivered, purged, replayed uint64
}

func (t *tally) add(o tally) {
	t.seen += o.seen
	t.skipped += o.skipped
	t.filtered += o.filtered
	t.delivered += o.delivered
	t.purged += o.purged
	t.replayed += o.replayed
}

// span is a stretch of the stream that has been read and that the position
// has not passed: one entry, and the entries after it that were settled while
// it was the newest (see books.compact).
type span struct {
	last     uint64 // position of its newest entry
	storedAt time.Time
	tally    tally
	// pending events are neither settled nor durable in a queue; bytes is what
	// they were charged with, until the last of them is.
	pending, events, bytes int
}

// books are the accounts of a runner. The State is base at position; what
// happens to events behind the position is kept in their span and joins base
// when the position passes it, so that a State never counts an event whose
// entry will be read again.
type books struct {
	mu        sync.Mutex
	position  uint64
	base      tally
	spans     []*span // in the order of the stream
	compactAt int
	live      Counts
	paused    *OperatorPause
	// parkedSince is when each parked event was first seen. oldestParked is the
	// one seen first, if that is known.
	parkedSince  map[place]time.Time
	oldestParked *place
	// goneParked and goneDead are letters that the counts do not include any
	// more and that are still in their queue. The next State names them.
	goneParked, goneDead map[string]struct{}

	maxEvents, maxBytes, maxParked int
	events, bytes                  int // charged
	// room has an element when there may be room again; dirty when there may
	// be something to commit.
	room, dirty chan struct{}
}

const minCompact = 1024

func newBooks(cfg *Config) *books {
	return &books{
		maxEvents: cfg.MaxPendingEvents, maxBytes: cfg.MaxPendingBytes, maxParked: cfg.MaxParked,
		goneParked: map[string]struct{}{}, goneDead: map[string]struct{}{}, parkedSince: map[place]time.Time{},
		compactAt: minCompact,
		room:      make(chan struct{}, 1), dirty: make(chan struct{}, 1),
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// open takes over what was recovered: parked events, by when they were first seen,
// and a number of dead ones.
func (b *books) open(s State, parked map[place]time.Time, dead uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.position, b.paused, b.parkedSince = s.Position, s.Paused, parked
	b.base = tally{seen: s.Seen, skipped: s.Skipped, filtered: s.Filtered, delivered: s.Delivered, purged: s.Purged, replayed: s.Replayed}
	b.live = Counts{
		Seen: s.Seen, Skipped: s.Skipped, Filtered: s.Filtered, Delivered: s.Delivered,
		Purged: s.Purged, Replayed: s.Replayed, Retrying: uint64(len(parked)), Dead: dead,
	}
}

// read adds what is known of an entry when it has been read. b.mu is held.
func (b *books) read(t tally) {
	b.live.Seen += t.seen
	b.live.Skipped += t.skipped
	b.live.Filtered += t.filtered
}

// pass accounts for an entry that no rule wanted anything of.
func (b *books) pass(position uint64, t tally) {
	b.mu.Lock()
	b.read(t)
	if n := len(b.spans); n > 0 {
		b.spans[n-1].tally.add(t)
		b.spans[n-1].last = position
	} else {
		b.base.add(t)
		b.position = position
	}
	b.mu.Unlock()
	notify(b.dirty)
}

// admit adds a span if there is room for it, and reports whether there was.
func (b *books) admit(s *span) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := b.events+s.events > b.maxEvents || b.bytes+s.bytes > b.maxBytes
	if full && b.events > 0 || b.live.Retrying >= uint64(b.maxParked) {
		return false
	}
	b.events += s.events
	b.bytes += s.bytes
	b.read(s.tally)
	b.live.Waiting += uint64(s.pending)
	if len(b.spans) >= b.compactAt {
		b.compact()
	}
	b.spans = append(b.spans, s)
	return true
}

// compact merges settled spans into the one before, so that there are never
// many more spans than pending events, however long the oldest one takes.
func (b *books) compact() {
	kept := b.spans[:0]
	for _, s := range b.spans {
		if n := len(kept); n > 0 && s.pending == 0 {
			kept[n-1].tally.add(s.tally)
			kept[n-1].last = s.last
			continue
		}
		kept = append(kept, s)
	}
	clear(b.spans[len(kept):])
	b.spans = kept
	b.compactAt = max(minCompact, 2*len(kept))
}

// at returns the tally that an event of a position counts in. b.mu is held.
func (b *books) at(position uint64) *tally {
	if position <= b.position {
		return &b.base
	}
	i := sort.Search(len(b.spans), func(i int) bool { return b.spans[i].last >= position })
	if i == len(b.spans) {
		return &b.base
	}
	return &b.spans[i].tally
}

// release ends the wait of one fresh event. b.mu is held.
func (b *books) release(s *span) {
	b.live.Waiting--
	if s.pending--; s.pending == 0 {
		b.events -= s.events
		b.bytes -= s.bytes
		notify(b.room)
	}
}

// settle accounts for events that need nothing more: those in dropped count as
// filtered, the others as delivered.
func (b *books) settle(settled []*item, dropped map[*item]bool) {
	b.mu.Lock()
	for _, it := range settled {
		t := b.tallyOf(it)
		if dropped[it] {
			t.filtered++
			b.live.Filtered++
		} else {
			t.delivered++
			b.live.Delivered++
		}
		b.leave(it)
	}
	b.mu.Unlock()
	notify(b.dirty)
}

func (b *books) tallyOf(it *item) *tally {
	if it.span != nil {
		return &it.span.tally
	}
	return b.at(it.id.position)
}

// leave takes an event out of where it waited: memory, or the parked queue.
// b.mu is held.
func (b *books) leave(it *item) {
	if it.span != nil {
		b.release(it.span)
		it.span = nil
		return
	}
	b.unpark(it.id)
	notify(b.room)
}

// park begins the wait of a parked event. b.mu is held.
func (b *books) park(id place, seen time.Time) {
	b.live.Retrying++
	b.parkedSince[id] = seen
	if b.oldestParked != nil && seen.Before(b.parkedSince[*b.oldestParked]) {
		b.oldestParked = &id
	}
}

// unpark ends it. b.mu is held.
func (b *books) unpark(id place) {
	b.live.Retrying--
	b.goneParked[id.String()] = struct{}{}
	delete(b.parkedSince, id)
	if b.oldestParked != nil && *b.oldestParked == id {
		b.oldestParked = nil
	}
}

// parked accounts for events that are durable in the parked queue now.
func (b *books) parked(items []*item) {
	for _, it := range items {
		if it.span != nil {
			b.park(it.id, it.firstSeen)
			b.release(it.span)
			it.span = nil
		}
	}
}

// buried accounts for events that are durable dead letters now.
func (b *books) buried(items []*item) {
	for _, it := range items {
		b.live.Dead++
		b.leave(it)
	}
}

// vanished accounts for a parked letter that somebody has deleted.
func (b *books) vanished(id place) {
	b.mu.Lock()
	b.unpark(id)
	b.live.Purged++
	b.at(id.position).purged++
	b.mu.Unlock()
	notify(b.dirty)
	notify(b.room)
}

// gone returns how many letters wait to be deleted.
func (b *books) gone() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.goneParked) + len(b.goneDead)
}

// isGone reports whether a dead letter only waits to be deleted.
func (b *books) isGone(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, gone := b.goneDead[id]
	return gone
}

// state moves the position as far as it goes and returns the State there.
func (b *books) state() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for n < len(b.spans) && b.spans[n].pending == 0 {
		b.base.add(b.spans[n].tally)
		b.position = b.spans[n].last
		n++
	}
	if n > 0 {
		rest := copy(b.spans, b.spans[n:])
		clear(b.spans[rest:])
		b.spans = b.spans[:rest]
	}
	s := State{
		Position: b.position, Seen: b.base.seen, Skipped: b.base.skipped, Filtered: b.base.filtered,
		Delivered: b.base.delivered, Purged: b.base.purged, Replayed: b.base.replayed,
		Paused: b.paused,
	}
	for id := range b.goneParked {
		s.Settled.Parked = append(s.Settled.Parked, id)
	}
	for id := range b.goneDead {
		s.Settled.Dead = append(s.Settled.Dead, id)
	}
	return s
}

// deleted forgets letters that have left their queue.
func (b *books) deleted(s *State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range s.Settled.Parked {
		delete(b.goneParked, id)
	}
	for _, id := range s.Settled.Dead {
		delete(b.goneDead, id)
	}
}

// overlaps reports whether a letter is about to be put into a queue that it
// still has to be deleted from.
func (b *books) overlaps(parked, dead []string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range parked {
		if _, ok := b.goneParked[id]; ok {
			return true
		}
	}
	for _, id := range dead {
		if _, ok := b.goneDead[id]; ok {
			return true
		}
	}
	return false
}

func (b *books) counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.live
}

// oldest returns when the oldest event in memory was stored, and when the oldest
// parked one was first seen. Looking for the latter takes a while, but only after
// the last one found has left.
func (b *books) oldest() (fresh, parked time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.spans {
		if s.pending > 0 {
			fresh = s.storedAt
			break
		}
	}
	if b.oldestParked == nil {
		for id, seen := range b.parkedSince {
			if parked.IsZero() || seen.Before(parked) {
				parked, b.oldestParked = seen, &id
			}
		}
		return fresh, parked
	}
	return fresh, b.parkedSince[*b.oldestParked]
}

func (b *books) isPaused() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.paused != nil
}
