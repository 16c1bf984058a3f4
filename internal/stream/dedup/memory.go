package dedup

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/eventsluice/sluice/internal/event"
)

// The memory holds ids in the order in which they came, in shards. A shard is a
// ring of ids, the oldest of which leaves when there is no room or when the
// window is over, and a table that finds them: buckets of 64 bytes, which a
// processor reads at once.
//
//	bucket  │ tag, number │ tag, number │ … 15 of these │ number of the last one that spilled │
//
// A place in a bucket names an id in the ring by the number that it came with,
// and has 11 bits of its hash. When the 15 places of its bucket are in use an id
// goes to the next bucket, and the last place says so for as long as it is in
// the ring.
//
// Nothing is ever deleted from the table: a place is free when its number has
// left the ring. Numbers go round, but each bucket is written to several times
// before that. A place that has come to name another id for all that costs a
// look at that id.
//
// An id is in the ring from the moment that an event claims it. Of two events
// with one id, the second finds the first and what is known of it.

const (
	// shardsMin is in how many parts the memory lies at least, each with a lock.
	shardsMin = 64
	// shardMost bounds the ids of a shard: numbers in buckets must tell those in
	// the ring from those that have left it of late.
	shardMost = 1 << 17
	// segments is into how many parts the window is divided: an id leaves up to
	// one of these after the window.
	segments = 64
	// places in a bucket, and idsPerBucket that it has on average when the ring
	// is full: with 10 of 15, one bucket in twenty spills.
	places, idsPerBucket = 15, 10
	// probes is how many buckets an id may be in: that so many in a row are full
	// does not happen.
	probes = 32
	// carryMost bounds the work of one insertion, see evict.
	carryMost = 8

	numberBits = 20
	numberMask = 1<<numberBits - 1
)

// key is an Identity without its last two bits, which an entry uses for the
// state: 126 bits are as good as 128.
type key [4]uint32

func keyOf(id event.Identity) key {
	return key{
		binary.LittleEndian.Uint32(id[0:]), binary.LittleEndian.Uint32(id[4:]),
		binary.LittleEndian.Uint32(id[8:]), binary.LittleEndian.Uint32(id[12:]) &^ stateMask,
	}
}

// append appends the 16 bytes that stand for the key on disk.
func (k key) append(dst []byte) []byte {
	for _, w := range k {
		dst = binary.LittleEndian.AppendUint32(dst, w)
	}
	return dst
}

// state is what is known of the event with an id.
type state uint32

const (
	released state = iota // it was not stored: as if the id were not here
	claimed               // it is on its way
	stored                // it is on the stream
	spooled               // it is in a spool, or was when it was stored
)

// stateMask are the bits of a key that hold the state.
const stateMask uint32 = 3

// An entry is a key with the state in the last two bits.
type entry key

func (e *entry) is(k key) bool {
	return e[0] == k[0] && e[1] == k[1] && e[2] == k[2] && e[3]&^stateMask == k[3]
}
func (e *entry) state() state   { return state(e[3] & stateMask) }
func (e *entry) set(s state)    { e[3] = e[3]&^stateMask | uint32(s) }
func (e *entry) plain() (k key) { k = key(*e); k[3] &^= stateMask; return k }

func (s state) isStored() bool { return s == stored || s == spooled }

func storedState(spool bool) state {
	if spool {
		return spooled
	}
	return stored
}

// bucket is places, each a tag (never 0) above a number, or 0; and the number
// of the newest id that found no place, with tag 1, or 0.
type bucket [places + 1]uint32

// memory is all shards.
type memory struct {
	window  int64 // nanoseconds, as all times here
	segment int64
	// seed is secret, and new with each process: senders choose ids, and must
	// not be able to choose those that meet in a list.
	seed   [2]uint64
	shards []shard // a power of two
}

// mark says when the entries from a number on came: at, or up to a segment
// later if no mark follows.
type mark struct {
	number uint32
	at     int64
}

type shard struct {
	mu      sync.Mutex
	entries []entry // the ring
	buckets []bucket
	next    uint32 // number of the next entry; numbers go round
	slot    int    // its place in the ring
	n       int    // entries in the ring: they have the numbers before next
	kept    int    // those of them that are stored
	marks   []mark // ascending; the first is that of the oldest entry
	// fresh is the number of the oldest entry that may not be in the journal.
	// again is that of the oldest one that was claimed once more since drain,
	// if that is before next.
	fresh, again uint32
	// waits are the ids that somebody waits for.
	waits map[key]*wait
	// lost is the time before which ids may have left though their window was
	// not over; early counts them.
	lost  int64
	early uint64
	_     [64]byte // the locks of two shards do not share a line
}

// wait is what those wait for who found an id claimed.
type wait struct {
	done    chan struct{} // closed when the claim is settled
	waiters int
}

// newMemory returns a memory of so many bytes, at most.
func newMemory(window int64, bytes int) *memory {
	m := &memory{window: window, segment: max(1, window/segments)}
	var random [16]byte
	_, _ = rand.Read(random[:]) // it never fails
	m.seed = [2]uint64{binary.LittleEndian.Uint64(random[:]), binary.LittleEndian.Uint64(random[8:])}
	const bucketBytes, entryBytes = int(unsafe.Sizeof(bucket{})), int(unsafe.Sizeof(entry{}))
	buckets := max(1, bytes/(bucketBytes+idsPerBucket*entryBytes))
	n := shardsMin
	for buckets*idsPerBucket/n > shardMost {
		n *= 2
	}
	buckets = max(1, buckets/n)
	m.shards = make([]shard, n)
	for i := range m.shards {
		s := &m.shards[i]
		s.entries, s.buckets = make([]entry, buckets*idsPerBucket), make([]bucket, buckets)
		s.next, s.fresh, s.again = 1, 1, 1
		s.marks = make([]mark, 0, segments+4)
		s.waits = make(map[key]*wait)
	}
	return m
}

// capacity returns how many ids there is room for.
func (m *memory) capacity() int { return len(m.shards) * len(m.shards[0].entries) }

// hash returns the secret hash of a key: a multiplication of 64 by 64 bits,
// folded, of which the seed hides both sides.
func (m *memory) hash(k key) uint64 {
	hi, lo := bits.Mul64(m.seed[0]^(uint64(k[0])<<32|uint64(k[1])), m.seed[1]^(uint64(k[2])<<32|uint64(k[3])))
	return hi ^ lo
}

// shard returns that of a hash. Tags are of its lowest bits, buckets of the
// highest, and shards of those between.
func (m *memory) shard(hash uint64) *shard { return &m.shards[hash>>16&uint64(len(m.shards)-1)] }

func (s *shard) home(hash uint64) int {
	at, _ := bits.Mul64(hash, uint64(len(s.buckets)))
	return int(at)
}

func tagOf(hash uint64) uint32 { return uint32(hash|1) << numberBits }

// find returns the entry of a key and its number, nil if it is not there, and
// its place. s.mu is held.
func (s *shard) find(k key, hash uint64) (e *entry, number uint32, place *uint32) {
	tag, home := tagOf(hash), s.home(hash)
	for range probes {
		b := &s.buckets[home]
		for i := range places {
			if b[i]&^numberMask != tag {
				continue
			}
			if e, number = s.named(b[i]); e != nil && e.is(k) {
				return e, number, &b[i]
			}
		}
		if !s.alive(b[places]) {
			break
		}
		if home++; home == len(s.buckets) {
			home = 0
		}
	}
	return nil, 0, nil
}

// alive reports whether a place names an entry of the ring. s.mu is held.
func (s *shard) alive(place uint32) bool {
	back := int((s.next - place) & numberMask)
	return place != 0 && back >= 1 && back <= s.n
}

// named returns the entry that a place names, and its number; nil if it has
// left the ring. s.mu is held.
func (s *shard) named(place uint32) (e *entry, number uint32) {
	if !s.alive(place) {
		return nil, 0
	}
	number = s.next - (s.next-place)&numberMask
	return s.at(number), number
}

// at returns the entry of a number, nil if that is not in the ring. s.mu is
// held.
func (s *shard) at(number uint32) *entry {
	back := int(s.next - number)
	if back < 1 || back > s.n {
		return nil
	}
	i := s.slot - back
	if i < 0 {
		i += len(s.entries)
	}
	return &s.entries[i]
}

// enter finds a place for the next entry. If there is none in any bucket that
// it may be in, it takes that of another id, which is lost then. s.mu is held.
func (s *shard) enter(hash uint64, now int64) {
	number, home := s.next&numberMask, s.home(hash)
	first := home
	for range probes {
		b := &s.buckets[home]
		free := -1
		for i := range places {
			if !s.alive(b[i]) {
				b[i], free = 0, i
			}
		}
		if free >= 0 {
			b[free] = tagOf(hash) | number
			return
		}
		atomic.StoreUint32(&b[places], 1<<numberBits|number) // touch reads it without the lock
		if home++; home == len(s.buckets) {
			home = 0
		}
	}
	s.buckets[first][0] = tagOf(hash) | number
	s.lost = max(s.lost, now)
}

// insert adds an entry, and lets the oldest leave if there is no room. It
// returns its number. s.mu is held.
func (m *memory) insert(s *shard, k key, hash uint64, st state, now int64) uint32 {
	for carried := 0; s.n == len(s.entries); carried++ {
		m.evict(s, now, carried < carryMost, true)
	}
	return m.push(s, k, hash, st, now)
}

// push adds an entry for which there is room. s.mu is held.
func (m *memory) push(s *shard, k key, hash uint64, st state, now int64) uint32 {
	if last := len(s.marks) - 1; last < 0 || now >= s.marks[last].at+m.segment {
		s.marks = append(s.marks, mark{number: s.next, at: now})
	}
	s.enter(hash, now)
	e := &s.entries[s.slot]
	*e = entry(k)
	e.set(st)
	if st.isStored() {
		s.kept++
	}
	s.n++
	s.next++
	if s.slot++; s.slot == len(s.entries) {
		s.slot = 0
	}
	return s.next - 1
}

// evict lets the oldest entry leave the ring; early says that its window is not
// over. One that is claimed comes back as the newest, if it may: its event is
// on its way, and another with this id must not pass meanwhile. s.mu is held.
func (m *memory) evict(s *shard, now int64, carry, early bool) {
	e := s.at(s.next - uint32(s.n))
	k, st := e.plain(), e.state()
	s.n--
	if early && (st.isStored() || st == claimed && !carry) {
		s.early++
		s.lost = max(s.lost, min(now, s.marks[0].at+m.segment))
	}
	if st.isStored() {
		s.kept--
	}
	first := s.next - uint32(s.n)
	past := 0
	for past+1 < len(s.marks) && int32(s.marks[past+1].number-first) <= 0 {
		past++
	}
	if s.n == 0 {
		past = len(s.marks)
	}
	s.marks = s.marks[:copy(s.marks, s.marks[past:])]
	if int32(s.fresh-first) < 0 {
		s.fresh = first
	}
	if st == claimed && carry {
		m.push(s, k, m.hash(k), claimed, now)
	}
}

// expire lets the entries leave whose window is over. s.mu is held.
func (m *memory) expire(s *shard, now int64) {
	for len(s.marks) > 0 && now >= s.marks[0].at+m.segment+m.window {
		end := s.next
		if len(s.marks) > 1 {
			end = s.marks[1].number
		}
		for left := int(end - (s.next - uint32(s.n))); left > 0; left-- {
			m.evict(s, now, true, false)
		}
	}
}

// claim is an id that an event has claimed, and where.
type claim struct {
	key    key
	hash   uint64
	number uint32
	event  int32
}

// touch makes the processor fetch where an id is looked for. When it does so for
// many ids, it need not wait for the memory at each.
func (m *memory) touch(hash uint64) {
	s := m.shard(hash)
	atomic.LoadUint32(&s.buckets[s.home(hash)][places])
}

// claim claims an id for an event. If it is claimed already, it returns what to
// wait for; if its event is stored, the state that says so; else the number of
// the entry.
func (m *memory) claim(k key, hash uint64, now int64) (number uint32, st state, w *wait) {
	s := m.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	m.expire(s, now)
	e, number, place := s.find(k, hash)
	switch {
	case e == nil:
	case e.state().isStored():
		return 0, e.state(), nil
	case e.state() == claimed:
		w = s.waits[k]
		if w == nil {
			w = &wait{done: make(chan struct{})}
			s.waits[k] = w
		}
		w.waiters++
		return 0, claimed, w
	case m.isNew(s, number, now):
		// Released a moment ago: senders who are told to try again do not fill
		// the memory.
		e.set(claimed)
		s.fresh, s.again = older(s.fresh, number), older(s.again, number)
		return number, released, nil
	default:
		*place = 0
	}
	return m.insert(s, k, hash, claimed, now), released, nil
}

// settle says what became of the event of a claim.
func (m *memory) settle(c *claim, st state, now int64) {
	s := m.shard(c.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.at(c.number)
	if e == nil || !e.is(c.key) || e.state() != claimed {
		// It was carried, or had to leave.
		if e, _, _ = s.find(c.key, c.hash); e != nil && e.state() != claimed {
			e = nil
		}
	}
	switch {
	case e != nil:
		e.set(st)
		if st.isStored() {
			s.kept++
		}
	case st.isStored():
		m.insert(s, c.key, c.hash, st, now)
	}
	if len(s.waits) > 0 {
		if w := s.waits[c.key]; w != nil {
			delete(s.waits, c.key)
			close(w.done)
		}
	}
}

// leave ends the waiting of one who has no more time.
func (m *memory) leave(k key, w *wait) {
	s := m.shard(m.hash(k))
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.waiters--; w.waiters == 0 && s.waits[k] == w {
		delete(s.waits, k)
	}
}

// remember adds the id of an event that was stored at a time, which is not
// before that of the last call. now decides whether its window is over. It is
// for a memory that nobody claims ids in yet.
func (m *memory) remember(k key, at, now int64) {
	if now >= at+m.segment+m.window {
		return
	}
	hash := m.hash(k)
	s := m.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	m.expire(s, now)
	if _, number, place := s.find(k, hash); place != nil {
		if m.isNew(s, number, at) {
			return
		}
		// It has come again since, after its window: this is the one that counts.
		*place = 0
	}
	m.insert(s, k, hash, stored, at)
}

// isNew reports whether an entry is of the segment that one of now would be of.
// s.mu is held.
func (m *memory) isNew(s *shard, number uint32, now int64) bool {
	last := s.marks[len(s.marks)-1]
	return int32(number-last.number) >= 0 && now < last.at+m.segment
}

// known is what there is in the memory.
type known struct {
	entries int
	// lost is the time before which ids have left early.
	lost  int64
	early uint64
}

func (m *memory) known(now int64) (k known) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		m.expire(s, now)
		k.entries += s.kept
		k.lost = max(k.lost, s.lost)
		k.early += s.early
		s.mu.Unlock()
	}
	return k
}

// drain calls yield with the stored ids of a shard that may not be in the
// journal. They count as kept there when drained was called with what drain
// returned.
func (s *shard) drain(yield func(key)) (fresh uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh, s.again = s.next, s.next
	for number := s.fresh; number != s.next; number++ {
		e := s.at(number)
		if e == nil {
			continue
		}
		switch st := e.state(); {
		case st.isStored():
			yield(e.plain())
		case st == claimed && fresh == s.next:
			fresh = number // from here on once more, when that is settled
		}
	}
	return fresh
}

// drained says that what drain yielded is in the journal.
func (s *shard) drained(fresh uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh = older(fresh, s.again)
	// What has left the ring meanwhile has moved s.fresh.
	if first := s.next - uint32(s.n); older(fresh, first) == fresh {
		fresh = first
	}
	s.fresh = fresh
}

// older returns the older of two numbers.
func older(a, b uint32) uint32 {
	if int32(a-b) < 0 {
		return a
	}
	return b
}
