package limit

import (
	"time"
)

// Config is what an operator may set. The zero value is ready for use.
type Config struct {
	// MaxBuckets bounds the buckets of each kind that are remembered; the
	// longest unused are forgotten first, which makes them full. Default
	// 100,000, which take 10 MB of each kind at most.
	MaxBuckets int
	// Shared is where several gateways keep their buckets together. Nil: each
	// for itself.
	Shared *Redis
}

// Limiter holds the buckets of one gateway. It is safe for concurrent use.
//
// With Config.Shared its own buckets are a copy of what Redis has said last:
// what Redis has refused is refused again without asking, and when Redis goes
// away nobody begins with a full bucket.
type Limiter struct {
	epoch  time.Time
	tables [kinds]table
	shared *Redis
}

// New returns a limiter.
func New(cfg Config) *Limiter {
	most := cfg.MaxBuckets
	if most == 0 {
		most = 100_000
	}
	l := &Limiter{epoch: time.Now(), shared: cfg.Shared}
	for k := range l.tables {
		l.tables[k].most = max(1, most/2)
	}
	return l
}

// Take admits n events, or requests, and returns zero, or admits none and
// returns how long to wait. It asks this gateway's bucket alone.
func (l *Limiter) Take(b Bucket, n int, at time.Time) (wait time.Duration) {
	if b.rule == nil || n <= 0 {
		return 0
	}
	now := at.Sub(l.epoch)
	t := &l.tables[b.rule.kind]
	t.mu.Lock()
	defer t.mu.Unlock()
	ahead := t.ahead(b.id, now)
	if wait = b.rule.missing(ahead, n); wait == 0 {
		ahead += b.rule.cost(n)
	}
	t.set(b.id, now, ahead) // who is refused is in use too, and not forgotten
	return min(wait, maxWait)
}

// Wait returns how long a request of one event would have to wait now, as far
// as this gateway knows; zero if it would be admitted. It takes nothing: with
// it a request can be refused before its body is read.
func (l *Limiter) Wait(b Bucket, at time.Time) time.Duration {
	if b.rule == nil || b.rule.observe {
		return 0
	}
	now := at.Sub(l.epoch)
	t := &l.tables[b.rule.kind]
	t.mu.Lock()
	defer t.mu.Unlock()
	return min(b.rule.missing(t.ahead(b.id, now), 1), maxWait)
}

// Shares reports whether buckets are shared with other gateways, now or as
// soon as Redis answers.
func (l *Limiter) Shares() bool { return l.shared != nil }

// Judge decides about a request: see Request for what can be asked of it
// afterwards. It waits for Redis as long as its timeout, whatever that does;
// once more for each 500 events, if it answers.
func (l *Limiter) Judge(r *Request, at time.Time) {
	now := at.Sub(l.epoch)
	r.begin()
	if l.shared != nil && r.limited() {
		if l.refusedBefore(r, now) {
			return
		}
		if calls := l.shared.judge(r); calls != nil {
			l.copyShared(r, calls, now)
			return
		}
	}
	l.judgeHere(r, now)
}

// refusedBefore refuses a request by what is known here: what Redis has
// refused a moment ago it need not be asked again.
func (l *Limiter) refusedBefore(r *Request, now time.Duration) bool {
	for i := range r.gates {
		g := &r.gates[i]
		t := &l.tables[g.rule.kind]
		t.mu.Lock()
		wait := g.rule.missing(t.ahead(g.id, now), g.n)
		t.mu.Unlock()
		if wait > 0 && !g.rule.observe {
			g.lacks = true
			r.refuse(g.rule, wait)
		}
	}
	return r.refused != nil
}

// judgeHere decides by the buckets of this gateway.
func (l *Limiter) judgeHere(r *Request, now time.Duration) {
	defer l.unlock(l.lock(r))
	for i := range r.gates {
		g := &r.gates[i]
		wait := g.rule.missing(l.tables[g.rule.kind].ahead(g.id, now), g.n)
		if g.lacks = wait > 0; g.lacks && !g.rule.observe {
			r.refuse(g.rule, wait)
		}
	}
	for i := range r.gates {
		g := &r.gates[i]
		t := &l.tables[g.rule.kind]
		ahead := t.ahead(g.id, now)
		if !g.lacks && r.refused == nil {
			ahead += g.rule.cost(g.n)
		}
		t.set(g.id, now, ahead) // also if it is refused: it is in use
	}
	if r.refused != nil {
		return
	}
	for i := range r.events {
		e := &r.events[i]
		var ahead [2]time.Duration
		for side, rule := range r.rules {
			if rule != nil && e.has[side] {
				ahead[side] = l.tables[rule.kind].ahead(e.ids[side], now)
				e.lacks[side] = rule.missing(ahead[side], 1) > 0
			}
		}
		over := r.over(e)
		for side, rule := range r.rules {
			if rule == nil || !e.has[side] {
				continue
			}
			if !over && !e.lacks[side] {
				ahead[side] += rule.cost(1)
			}
			l.tables[rule.kind].set(e.ids[side], now, ahead[side])
		}
	}
	l.finish(r, now)
}

// copyShared takes over what Redis has decided, and how full its buckets are.
func (l *Limiter) copyShared(r *Request, calls []*call, now time.Duration) {
	defer l.unlock(l.lock(r))
	for _, c := range calls {
		for i, b := range c.buckets {
			t := &l.tables[b.rule.kind]
			// While Redis was away this gateway has admitted what Redis does
			// not know of; and of two answers at a time the later may be
			// copied first.
			t.set(b.id, now, max(c.ahead[i], t.ahead(b.id, now)))
		}
		for i, g := range c.gates {
			if g.lacks && !g.rule.observe {
				r.refuse(g.rule, max(g.rule.missing(c.ahead[i], g.n), 1))
			}
		}
	}
	if r.refused == nil {
		l.finish(r, now)
	}
}

// finish counts the events that are over, and finds out when they would not be.
// The tables are locked.
func (l *Limiter) finish(r *Request, now time.Duration) {
	var refused map[ID]int // events of a bucket
	for i := range r.events {
		e := &r.events[i]
		for side, rule := range r.rules {
			if rule == nil || !e.lacks[side] {
				continue
			}
			if rule.observe {
				r.observed[rule.kind]++
				continue
			}
			if refused == nil {
				refused = map[ID]int{}
			}
			refused[e.ids[side]]++
			// They come again together.
			wait := rule.missing(l.tables[rule.kind].ahead(e.ids[side], now), refused[e.ids[side]])
			r.wait = max(r.wait, min(wait, maxWait), 1)
		}
		if r.over(e) {
			r.overs++
		}
	}
	for i := range r.gates {
		if g := &r.gates[i]; g.lacks {
			r.observed[g.rule.kind] += g.n
		}
	}
}

// set of kinds, a bit each.
type set uint8

// lock locks the tables that a request needs, always in the order of the
// kinds, and returns which: for unlock.
func (l *Limiter) lock(r *Request) set {
	var needed set
	for i := range r.gates {
		needed |= 1 << r.gates[i].rule.kind
	}
	for _, rule := range [3]*Rule{r.rules[0], r.rules[1], r.address.rule} {
		if rule != nil {
			needed |= 1 << rule.kind
		}
	}
	for k := range l.tables {
		if needed>>k&1 != 0 {
			l.tables[k].mu.Lock()
		}
	}
	return needed
}

func (l *Limiter) unlock(needed set) {
	for k := range l.tables {
		if needed>>k&1 != 0 {
			l.tables[k].mu.Unlock()
		}
	}
}

// Stats is what a limiter holds, and how its sharing goes.
type Stats struct {
	// Buckets that are remembered, by kind.
	Buckets map[string]int
	// Shares is whether buckets are to be shared; Shared whether they are now.
	Shares, Shared bool
	// Fallbacks counts the requests that this gateway judged alone though
	// buckets are to be shared.
	Fallbacks uint64
}

// Stats returns the figures of now.
func (l *Limiter) Stats() Stats {
	s := Stats{Buckets: make(map[string]int, kinds), Shares: l.shared != nil}
	for k := range l.tables {
		s.Buckets[Kind(k).String()] = l.tables[k].len()
	}
	if l.shared != nil {
		s.Shared, s.Fallbacks = l.shared.sharing.Load(), l.shared.fallbacks.Load()
	}
	return s
}
