package simulator

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Item is one thing that a vendor has taken: an event, or an update of a person.
type Item struct {
	// ID is the sender's id of the event where the vendor has a field for it
	// ($insert_id, uuid, objectWriteTraceId, insert_id, webhook-id, the parameter
	// event_id), "" otherwise.
	ID string `json:"id,omitempty"`
	// Kind says what it is in the vendor's words, such as "event", "profile",
	// "contact" or "tags".
	Kind string `json:"kind"`
	// Name is the event's name at the vendor, User whom it is about. "" if there is
	// none.
	Name string `json:"name,omitempty"`
	User string `json:"user,omitempty"`
	// Body is the item as JSON; its members may be in another order than they were
	// sent in. It is not to be changed.
	Body json.RawMessage `json:"body"`
}

// Drop is something that a vendor said yes to and threw away: an item, or a whole
// request, and then Body is what was sent, which need not be JSON.
type Drop struct {
	Reason string
	Body   json.RawMessage
}

// Counts is how much a vendor has seen.
type Counts struct {
	// Calls is all calls, Throttled those that were too many, and Lost those that
	// were carried out without an answer.
	Calls     int64 `json:"calls"`
	Throttled int64 `json:"throttled"`
	Lost      int64 `json:"lost"`
	// Taken is items that were taken, Duplicates those that the vendor had
	// already and ignored, Refused those that it said no to, and Dropped those
	// that it said yes to and threw away.
	Taken      int64 `json:"taken"`
	Duplicates int64 `json:"duplicates"`
	Refused    int64 `json:"refused"`
	Dropped    int64 `json:"dropped"`
}

// Bounds of what a vendor keeps.
const (
	keepItems = 100_000
	keepBytes = 256 << 20
	keepKeys  = 500_000
)

// shelf is where a vendor puts what it takes. A vendor runs for days beside
// people who try the product, so that what it keeps is bounded: the oldest goes.
type shelf struct {
	mu    sync.Mutex
	items shelved[Item]
	drops shelved[Drop]
	total Counts

	unlimited atomic.Bool // see Vendor.Unlimited
}

func newShelf() *shelf {
	s := &shelf{}
	s.keep(keepItems)
	return s
}

func (s *shelf) keep(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items.most, s.drops.most = n, n
	s.items.trim()
	s.drops.trim()
}

// take puts an item on the shelf.
func (s *shelf) take(item Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total.Taken++
	s.items.put(item, len(item.Body))
}

// drop notes what is thrown away without a word.
func (s *shelf) drop(reason string, body json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total.Dropped++
	s.drops.put(Drop{Reason: reason, Body: body}, len(body))
}

func (s *shelf) count(change func(*Counts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.total)
}

func (s *shelf) duplicate()   { s.count(func(n *Counts) { n.Duplicates++ }) }
func (s *shelf) refuse(n int) { s.count(func(c *Counts) { c.Refused += int64(n) }) }
func (s *shelf) counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

func (s *shelf) received() []Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.items.all()
}

func (s *shelf) dropped() []Drop {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drops.all()
}

// latest returns the last n items, the newest first, and latestDrops the drops.
func (s *shelf) latest(n int) []Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.items.latest(n)
}

func (s *shelf) latestDrops(n int) []Drop {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drops.latest(n)
}

// shelved is a queue that loses its oldest values beyond a number and a size.
type shelved[T any] struct {
	values []T
	sizes  []int
	most   int
	bytes  int
}

func (q *shelved[T]) put(value T, size int) {
	q.values, q.sizes = append(q.values, value), append(q.sizes, size)
	q.bytes += size
	q.trim()
}

func (q *shelved[T]) trim() {
	for len(q.values) > q.most || q.bytes > keepBytes {
		var none T
		q.bytes -= q.sizes[0]
		q.values[0] = none // the array behind it stays until append moves it
		q.values, q.sizes = q.values[1:], q.sizes[1:]
	}
}

func (q *shelved[T]) all() []T { return slices.Clone(q.values) }

func (q *shelved[T]) latest(n int) []T {
	last := slices.Clone(q.values[max(0, len(q.values)-n):])
	slices.Reverse(last)
	return last
}

// seen remembers the keys of a vendor's deduplication: the last keepKeys, for as
// long as the vendor does.
type seen struct {
	mu     sync.Mutex
	window time.Duration // 0: for ever
	when   map[[16]byte]time.Time
	order  shelved[[16]byte]
}

func newSeen(window time.Duration) *seen {
	return &seen{window: window, when: make(map[[16]byte]time.Time), order: shelved[[16]byte]{most: keepKeys}}
}

// has reports whether a key, made of parts, is remembered.
func (s *seen) has(now time.Time, parts ...string) bool {
	key := keyOf(parts)
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.when[key]
	return ok && s.remembers(at, now)
}

// remembers reports whether a key that was seen at a time still counts. s.mu is
// held.
func (s *seen) remembers(at, now time.Time) bool { return s.window == 0 || now.Sub(at) < s.window }

func keyOf(parts []string) [16]byte {
	h := sha256.New()
	for _, part := range parts {
		var length [8]byte
		for i := range length {
			length[i] = byte(len(part) >> (8 * i))
		}
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return [16]byte(h.Sum(nil)[:16])
}

// add reports whether a key, made of parts, is new, and remembers it.
func (s *seen) add(now time.Time, parts ...string) bool {
	key := keyOf(parts)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.when[key]; ok {
		if s.remembers(at, now) {
			return false
		}
		s.when[key] = now // it keeps its place in the order
		return true
	}
	if len(s.order.values) >= s.order.most {
		delete(s.when, s.order.values[0])
	}
	s.when[key] = now
	s.order.put(key, 0)
	return true
}

// quota allows so much in each window of time.
type quota struct {
	limit  int64
	window time.Duration

	mu    sync.Mutex
	start time.Time
	used  int64
}

// take uses n of the quota, or nothing if that is too much. It returns what is
// left and how long until the next window. If there are no limits, nothing is
// too much.
func (q *quota) take(c *call, n int64) (left int64, reset time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if passed := c.now.Sub(q.start); passed < 0 || passed >= q.window {
		q.start, q.used = c.now, 0
	}
	if ok = c.shelf.unlimited.Load() || q.used+n <= q.limit; ok {
		q.used += n
	}
	return max(0, q.limit-q.used), q.window - c.now.Sub(q.start), ok
}
