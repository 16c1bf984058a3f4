package dedup

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// numbered returns the key of a number. Its first words are small, as of one
// who looks for ids that meet.
func numbered(n int) key { return key{uint32(n % 7), 0, uint32(n), 0xfffffffc} }

func (m *memory) state(k key) state {
	s := m.shard(m.hash(k))
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _, _ := s.find(k, m.hash(k))
	if e == nil {
		return released
	}
	return e.state()
}

// TestEveryIDInTheRingIsFound fills a memory several times over, and looks for
// every id that has not left it.
func TestEveryIDInTheRingIsFound(t *testing.T) {
	t.Parallel()
	m := newMemory(int64(time.Hour), MinMemory)
	for n := range 3 * m.capacity() {
		m.remember(numbered(n), int64(n), int64(n))
		if (n+1)%(m.capacity()/2) != 0 {
			continue
		}
		in := map[key]bool{}
		early := 0
		for i := range m.shards {
			s := &m.shards[i]
			for back := 1; back <= s.n; back++ {
				in[s.at(s.next-uint32(back)).plain()] = true
			}
			early += int(s.early)
		}
		if len(in)+early != n+1 {
			t.Fatalf("after %d: %d in the ring and %d have left early", n+1, len(in), early)
		}
		found := 0
		for old := range n + 1 {
			if k := numbered(old); m.state(k).isStored() {
				found++
				if !in[k] {
					t.Fatalf("after %d: %d is found and has left", n+1, old)
				}
			}
		}
		if found != len(in) {
			t.Fatalf("after %d: %d of %d are found", n+1, found, len(in))
		}
	}
}

// Whoever knows everything but the seed cannot make ids meet in a bucket.
func TestIDsThatLookAlikeAreSpread(t *testing.T) {
	t.Parallel()
	m := newMemory(int64(time.Hour), 4*MinMemory)
	for name, of := range map[string]func(int) key{
		"the last word counts up":    func(n int) key { return key{1, 2, 3, uint32(n) << 2} },
		"the first word counts up":   func(n int) key { return key{uint32(n), 2, 3, 4} },
		"words that cancel out":      func(n int) key { return key{uint32(n), 0, uint32(n), 0} },
		"one bit each":               func(n int) key { return key{1 << (n % 32), 1 << (n / 32 % 32), 1 << (n / 1024), 0} },
		"multiples of the bucket":    func(n int) key { return key{0, 0, uint32(n * 4096), 0} },
		"the higher half, reflected": func(n int) key { return key{uint32(n), ^uint32(n), 0, 0} },
	} {
		const n = 20_000
		perBucket := map[[2]int]int{}
		most := 0
		for i := range n {
			h := m.hash(of(i))
			at := [2]int{int(h >> 16 & uint64(len(m.shards)-1)), m.shard(h).home(h)}
			perBucket[at]++
			most = max(most, perBucket[at])
		}
		// 20,000 in 18,000 buckets: more than a dozen in one does not happen.
		if most > 12 {
			t.Errorf("%s: %d ids in one bucket", name, most)
		}
	}
}

// An event is on its way for so long that its id is the oldest: another with
// the id must not pass all the same.
func TestAClaimOutlivesAFloodOfOtherIDs(t *testing.T) {
	t.Parallel()
	for _, flood := range []state{stored, released} {
		m := newMemory(int64(time.Hour), MinMemory)
		// As many as one insertion carries: all may be of one shard.
		claims := make([]claim, carryMost)
		for i := range claims {
			k := key{uint32(i), 9, 9, 0}
			number, _, w := m.claim(k, m.hash(k), 0)
			if w != nil {
				t.Fatal("claimed twice")
			}
			claims[i] = claim{key: k, hash: m.hash(k), number: number}
		}
		for n := range 3 * m.capacity() {
			k := numbered(n)
			c := claim{key: k, hash: m.hash(k)}
			c.number, _, _ = m.claim(k, c.hash, int64(n))
			m.settle(&c, flood, int64(n))
		}
		for i := range claims {
			c := &claims[i]
			if _, _, w := m.claim(c.key, c.hash, 0); w == nil {
				t.Fatalf("claim %d is forgotten", i)
			}
			m.settle(c, stored, 0)
			if m.state(c.key) != stored {
				t.Fatalf("event %d was stored, and that is forgotten", i)
			}
		}
	}
}

// With nothing but claims in the memory the oldest has to go. What becomes of
// its event is remembered all the same.
func TestTooManyClaimsForTheMemory(t *testing.T) {
	t.Parallel()
	m := newMemory(int64(time.Hour), MinMemory)
	claims := make([]claim, 2*m.capacity())
	for i := range claims {
		k := numbered(i)
		claims[i] = claim{key: k, hash: m.hash(k)}
		claims[i].number, _, _ = m.claim(k, claims[i].hash, 0)
	}
	known := m.known(0)
	if lost := int(known.early); lost < m.capacity() || known.entries != 0 {
		t.Errorf("%d claims lost of %d; %d entries", lost, len(claims), known.entries)
	}
	for i := range claims {
		m.settle(&claims[i], stored, 0)
		if m.state(claims[i].key) != stored {
			t.Fatalf("event %d was stored, and that is forgotten", i)
		}
	}
}

// An id is released, read into the journal's cursor, and claimed and stored
// again: it must get into the journal.
func TestAnIDThatIsClaimedAgainGetsIntoTheJournal(t *testing.T) {
	t.Parallel()
	m := newMemory(int64(time.Hour), MinMemory)
	k := numbered(1)
	c := claim{key: k, hash: m.hash(k)}
	s := m.shard(c.hash)
	var got []key
	drain := func() uint32 {
		got = nil
		return s.drain(func(k key) { got = append(got, k) })
	}
	settle := func(st state) {
		c.number, _, _ = m.claim(k, c.hash, 1)
		m.settle(&c, st, 1)
	}
	settle(released)
	fresh := drain()
	if len(got) > 0 {
		t.Fatal("a released id is in the journal")
	}
	settle(released) // between the two
	number := c.number
	s.drained(fresh)
	settle(stored)
	if c.number != number {
		t.Fatal("the entry is another: the test proves nothing")
	}
	s.drained(drain())
	if !slices.Equal(got, []key{k}) {
		t.Fatalf("%v goes to the journal", got)
	}
	s.drained(drain())
	if len(got) > 0 {
		t.Fatal("it goes there twice")
	}
	// A write that fails is repeated.
	k = numbered(2)
	c = claim{key: k, hash: m.hash(k)}
	if s = m.shard(c.hash); s == nil {
		t.Fatal("no shard")
	}
	settle(stored)
	drain()
	if drain(); !slices.Contains(got, k) {
		t.Fatal("it is lost when the journal cannot be written")
	}
	// Claimed while it is drained, between drain and drained.
	k = numbered(3)
	c = claim{key: k, hash: m.hash(k)}
	s = m.shard(c.hash)
	settle(released)
	fresh = drain()
	settle(stored)
	s.drained(fresh)
	if drain(); !slices.Contains(got, k) {
		t.Fatal("it is lost when it is stored while the journal is written")
	}
}

// TestTheMemoryAgainstAMap does at random what a Filter does, beside a map.
func TestTheMemoryAgainstAMap(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		const window, segment = 64_000, 1000
		m := newMemory(window, MinMemory)
		type fact struct {
			st    state
			at    int64 // claimed
			end   int64 // settled; a claim that is older than the window begins anew
			claim claim
		}
		facts := map[key]fact{}
		for i := range m.shards { // numbers go round soon
			s := &m.shards[i]
			s.next = -uint32(rng.IntN(400))
			s.fresh, s.again = s.next, s.next
		}
		now := int64(0)
		for range 30_000 {
			now += rng.Int64N(10)
			k := numbered(rng.IntN(3000))
			f, known := facts[k]
			if known && f.st == claimed {
				f.st = state(rng.IntN(4))
				if f.st == claimed {
					if _, _, w := m.claim(k, m.hash(k), now); w == nil {
						t.Fatalf("seed %d: a claim does not hold", seed)
					}
					continue
				}
				m.settle(&f.claim, f.st, now)
				f.end = now
				facts[k] = f
				continue
			}
			must, may := known && f.st.isStored() && now < f.at+window, known && f.st.isStored() && now < f.end+window+segment
			number, st, w := m.claim(k, m.hash(k), now)
			switch {
			case w != nil:
				t.Fatalf("seed %d: a claim nobody made", seed)
			case st.isStored() && (!may || st != f.st), !st.isStored() && must:
				t.Fatalf("seed %d: at %d, found %v; it is %v since %d", seed, now, st, f.st, f.at)
			case !st.isStored():
				facts[k] = fact{claimed, now, 0, claim{key: k, hash: m.hash(k), number: number}}
			}
		}
	}
}
