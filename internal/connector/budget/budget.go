// Package budget finds out how much a destination takes, and keeps to it: how
// many calls may be in flight, and how many events or calls may begin per
// second.
//
// When calls are throttled, what is allowed is cut to half of what was in use, and
// calls that are taken raise it slowly again ("additive increase, multiplicative
// decrease", as TCP does, RFC 5681). A budget says how fast to go; it does not
// say when to stop: that a destination asks to be left alone, or is away, is for
// those who make the calls.
package budget

import (
	"context"
	"math"
	"math/bits"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
)

// Config says what a destination may get at most.
type Config struct {
	// Calls is the most calls in flight, at least 1.
	Calls int
	// Rate is the most events per second, Burst the most at once, at least 1. A
	// Rate of zero is no bound.
	Rate  float64
	Burst int
}

// Budget is shared by all who call one destination. Its methods are safe for
// concurrent use.
//
// What is adapted: the calls in flight, and how fast events or calls begin. With a
// Rate that is the events per second. Without one it is nothing until a call is
// throttled; from then on it is the calls per second, from half of what was taken,
// until that would hold nobody up any more.
type Budget struct {
	cfg Config
	// turn is held by the one who waits for the next call to be allowed; the
	// others queue for it, in order.
	turn chan struct{}
	// freed has an element when a call may be allowed earlier than it was.
	freed chan struct{}

	mu       sync.Mutex
	window   amount // calls in flight
	pace     amount // calls per second; 0: not paced
	rate     amount // events per second; 0: no bound
	inFlight int
	queued   int
	next     time.Time // no call before, by the pace
	// tokens are the events that may begin at the time filled; negative while a
	// call that was larger is paid for.
	tokens float64
	filled time.Time
	// taken are the calls per second that were taken, or the events where there is
	// a rate. roundTrip is how long such a call needs, smoothed.
	taken     meter
	roundTrip time.Duration
	throttled uint64
	// recent has a bit for each of the last calls since the cut, the newest lowest:
	// 1 if it was throttled.
	recent   uint64
	cutAt    time.Time
	raisedAt time.Time
}

const (
	// cutEvery is how long a cut stands before the next: a burst of throttled
	// calls is one.
	cutEvery = time.Second
	// slowest is the longest wait between two calls that throttling leads to:
	// there has to be news from time to time.
	slowest = 10 * time.Second
	// quickest is the least that a call is thought to need.
	quickest = time.Millisecond
	// recovery is how long it takes from nothing back to where it was cut; half
	// of it after one cut.
	recovery = 60 * time.Second
	// probing is how long it takes to raise what was not refused by the half, or
	// so, once it is past where it was cut.
	probing = 10 * time.Second
)

// tolerance is how many of the last calls may be throttled before there is a cut.
// Vendors refuse a call now and then though the quota is not used up, and a cut for
// each of those would leave next to nothing: with one call of fifty refused so,
// some seven calls a second. Where few are made, each is a large part of them.
type tolerance struct {
	perSecond float64 // from so many that are taken
	last      uint64  // selects the calls that are looked at
	throttled int
}

var tolerances = [...]tolerance{
	{perSecond: 20, last: 1<<64 - 1, throttled: 7},
	{perSecond: 5, last: 1<<20 - 1, throttled: 2},
	{last: 1, throttled: 0},
}

// tolerates reports whether what was throttled of late is no reason for a cut.
func (b *Budget) tolerates(now time.Time) bool {
	rate := b.taken.perSecond(now)
	for _, t := range tolerances {
		if rate >= t.perSecond {
			return bits.OnesCount64(b.recent&t.last) <= t.throttled
		}
	}
	return false
}

// amount is something that is cut and raised.
type amount struct {
	now, most float64
	peak      float64 // what was in use when it was cut last
}

// cut leaves half of what was in use. Where that was little by chance it is the
// half of what was allowed that counts, unless it has never been cut: then nobody
// knows how much of it is any good.
func (a *amount) cut(used, least float64) {
	if a.now < a.most {
		used = max(used, a.now/2)
	}
	a.peak = min(a.now, used)
	a.now = min(a.now, max(least, a.peak/2))
}

func (a *amount) raise(d time.Duration) {
	step := a.peak / recovery.Seconds()
	if a.now >= a.peak {
		step = a.now / probing.Seconds()
	}
	a.now = min(a.most, a.now+step*d.Seconds())
}

// meter measures what happens per second, over the last second.
type meter struct {
	start      time.Time // of the second that goes on
	this, last float64
}

func (m *meter) add(now time.Time, n int) {
	switch age := now.Sub(m.start); {
	case age >= 2*time.Second:
		m.start, m.this, m.last = now, 0, 0
	case age >= time.Second:
		m.start, m.this, m.last = m.start.Add(time.Second), 0, m.this
	}
	m.this += float64(n)
}

func (m *meter) perSecond(now time.Time) float64 {
	m.add(now, 0)
	return m.this + m.last*(1-now.Sub(m.start).Seconds())
}

// New returns a Budget that allows all that the Config does.
func New(cfg Config) *Budget {
	cfg.Calls, cfg.Burst = max(1, cfg.Calls), max(1, cfg.Burst)
	most := float64(cfg.Calls)
	return &Budget{
		cfg: cfg, turn: make(chan struct{}, 1), freed: make(chan struct{}, 1),
		window: amount{now: most, most: most, peak: most},
		pace:   amount{most: math.Inf(1)},
		rate:   amount{now: cfg.Rate, most: cfg.Rate, peak: cfg.Rate},
		tokens: float64(cfg.Burst), filled: time.Now(),
	}
}

// Take waits until a call with so many events may begin, and begins it: End or
// Return must follow. Who came first goes first. It returns when the call began,
// or the error of ctx.
func (b *Budget) Take(ctx context.Context, events int) (began time.Time, err error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	b.mu.Lock()
	now := time.Now()
	if b.queued == 0 && b.isFree() && !b.due(now, events).After(now) {
		b.begin(now, events)
		b.mu.Unlock()
		return now, nil
	}
	b.queued++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.queued--
		b.mu.Unlock()
	}()
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return time.Time{}, err
		}
		b.mu.Lock()
		now, free := time.Now(), b.isFree()
		due := b.due(now, events)
		if free && !due.After(now) {
			b.begin(now, events)
			b.mu.Unlock()
			return now, nil
		}
		b.mu.Unlock()
		timer.Stop()
		if free {
			timer.Reset(due.Sub(now))
		}
		select {
		case <-timer.C:
		case <-b.freed:
		case <-ctx.Done():
		}
	}
}

// Begin begins a call without asking, for those who have asked Due and Abreast
// before: End must follow.
func (b *Budget) Begin(events int) (began time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.begin(now, events)
	return now
}

// Due returns when the next call with so many events may begin; that is past if
// it may begin now.
func (b *Budget) Due(events int) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.due(time.Now(), events)
}

// Abreast returns how many calls may begin at once, if none is in flight.
func (b *Budget) Abreast() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pace.now > 0 {
		return 1
	}
	return int(b.window.now)
}

// isFree reports whether one more call may be in flight. b.mu is held, here and
// below.
func (b *Budget) isFree() bool { return b.inFlight < int(b.window.now) }

func (b *Budget) due(now time.Time, events int) time.Time {
	due := b.next
	if b.rate.most > 0 {
		b.fill(now)
		if missing := min(float64(events), b.burst()) - b.tokens; missing > 1e-6 {
			if at := now.Add(time.Duration(math.Ceil(missing / b.rate.now * float64(time.Second)))); at.After(due) {
				due = at
			}
		}
	}
	return due
}

// burst is how many events may begin at once: less of them where the rate is
// less.
func (b *Budget) burst() float64 { return max(1, float64(b.cfg.Burst)*b.rate.now/b.rate.most) }

func (b *Budget) fill(now time.Time) {
	b.tokens = max(b.tokens, min(b.burst(), b.tokens+b.rate.now*now.Sub(b.filled).Seconds()))
	b.filled = now
}

func (b *Budget) begin(now time.Time, events int) {
	b.inFlight++
	if b.pace.now > 0 {
		b.next = now.Add(b.interval())
	}
	if b.rate.most > 0 {
		b.fill(now)
		b.tokens -= float64(events)
	}
}

func (b *Budget) interval() time.Duration { return time.Duration(float64(time.Second) / b.pace.now) }

func (b *Budget) free() {
	b.inFlight--
	select {
	case b.freed <- struct{}{}:
	default:
	}
}

// Return gives back what was taken for a call that is not made.
func (b *Budget) Return(events int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next = time.Time{}
	if b.rate.most > 0 {
		b.tokens += float64(events)
	}
	b.free()
}

// Outcome is what a call says of the budget.
type Outcome uint8

// The outcomes of a call.
const (
	Unknown   Outcome = iota // nothing
	Taken                    // the destination took something, and throttled nothing
	Throttled                // it throttled some of the events or all of them
	// Barred: it throttled a call that was made to find out whether it takes any
	// again. That says nothing of how fast to go once it does.
	Barred
)

// Judge returns the Outcome of a call with these results. isProbe says that it was
// made to find out whether the destination takes any.
func Judge(results []connector.Result, isProbe bool) Outcome {
	o := Unknown
	for i := range results {
		switch results[i].Class {
		case connector.Throttled:
			if isProbe {
				return Barred
			}
			return Throttled
		case connector.Delivered, connector.Duplicate:
			o = Taken
		}
	}
	return o
}

// End ends a call with so many events that began and ended then.
func (b *Budget) End(began, ended time.Time, events int, o Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch o {
	case Throttled:
		b.throttled++
		// What began before the last cut says nothing of what is allowed since.
		if began.Before(b.cutAt) {
			break
		}
		b.recent = b.recent<<1 | 1
		if ended.Sub(b.cutAt) >= cutEvery && !b.tolerates(ended) {
			b.cut(ended, events)
			b.recent = 0
		}
	case Barred:
		b.throttled++
	case Taken:
		b.recent <<= 1
		if took := ended.Sub(began); b.roundTrip == 0 {
			b.roundTrip = took
		} else {
			b.roundTrip += (took - b.roundTrip) / 8
		}
		if b.rate.most > 0 {
			b.taken.add(ended, events)
		} else {
			b.taken.add(ended, 1)
		}
		if !began.Before(b.cutAt) {
			b.raise(ended)
		}
	}
	b.free()
}

// cut takes half of what was in use.
func (b *Budget) cut(now time.Time, events int) {
	b.cutAt, b.raisedAt = now, now
	// Those that were throttled before this one, and tolerated, were in flight too.
	abreast := float64(min(b.inFlight+max(0, bits.OnesCount64(b.recent&0xff)-1), int(b.window.now)))
	used := b.taken.perSecond(now)
	if b.rate.most > 0 {
		b.fill(now)
		b.rate.cut(max(used, float64(events)), float64(events)/slowest.Seconds())
		b.tokens = min(b.tokens, 0) // nor a burst now
	} else {
		if b.roundTrip > 0 {
			used = min(used, abreast/b.roundTrip.Seconds())
		}
		if b.pace.now == 0 {
			// Before anything was taken, as many a second as at once are no more
			// than a guess.
			b.pace.now = max(used, abreast)
			used = b.pace.now
		}
		b.pace.cut(used, 1/slowest.Seconds())
		b.next = now.Add(b.interval())
	}
	b.window.cut(abreast, 1)
}

// raise adds what the time since the last raise is good for.
func (b *Budget) raise(now time.Time) {
	d := min(now.Sub(b.raisedAt), slowest)
	b.raisedAt = now
	if b.rate.most > 0 && b.rate.now < b.rate.most {
		b.fill(now)
		b.rate.raise(d)
	}
	b.window.raise(d)
	if b.pace.now == 0 {
		return
	}
	b.pace.raise(d)
	if b.pace.now*max(b.roundTrip, quickest).Seconds() >= b.window.now {
		b.pace.now, b.next = 0, time.Time{}
	}
}

// Status is what is allowed now, and out of how much.
type Status struct {
	// Calls may be in flight, of at most MaxCalls; InFlight are.
	Calls    int `json:"calls"`
	MaxCalls int `json:"max_calls"`
	InFlight int `json:"in_flight"`
	// CallsPerSecond may begin; 0 if calls are not paced, because they are few or
	// the destination does not mind.
	CallsPerSecond float64 `json:"calls_per_second,omitempty"`
	// EventsPerSecond may begin, of at most MaxEventsPerSecond; 0 without a
	// configured rate.
	EventsPerSecond    float64 `json:"events_per_second,omitempty"`
	MaxEventsPerSecond float64 `json:"max_events_per_second,omitempty"`
	// ThrottledCalls counts those of which an event was throttled, since the
	// process started; CutAt is when the budget was cut last.
	ThrottledCalls uint64    `json:"throttled_calls"`
	CutAt          time.Time `json:"cut_at,omitzero"`
}

// Status returns the budget of this moment.
func (b *Budget) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Status{
		Calls: int(b.window.now), MaxCalls: b.cfg.Calls, InFlight: b.inFlight, CallsPerSecond: b.pace.now,
		EventsPerSecond: b.rate.now, MaxEventsPerSecond: b.rate.most, ThrottledCalls: b.throttled, CutAt: b.cutAt,
	}
}
