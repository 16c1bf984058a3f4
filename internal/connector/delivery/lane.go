package delivery

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

// lane delivers the events of its share of the partition keys, one call after
// another. Everything but the inbox belongs to its goroutine.
type lane struct {
	r     *Runner
	fresh []*item // not tried yet, in the order of the stream
	holds holds
	// hurried is how many of the fresh events an operator has woken.
	hurried int
	// deliveries is the memory of the last plan.
	deliveries []connector.Delivery

	scratch []*item // the reader's: what give hands over

	mu    sync.Mutex
	inbox inbox
	// news has an element when there may be something in the inbox.
	news chan struct{}
}

// inbox is what others have for a lane.
type inbox struct {
	fresh  []*item
	parked []keyed // replayed letters
	wake   bool    // try everything now
}

type keyed struct {
	key     string
	waiting waiting
}

func newLane(r *Runner) *lane {
	return &lane{r: r, holds: holds{byKey: map[string]*hold{}}, news: make(chan struct{}, 1)}
}

// give hands over what the reader has collected.
func (l *lane) give() {
	if len(l.scratch) == 0 {
		return
	}
	l.mu.Lock()
	l.inbox.fresh = append(l.inbox.fresh, l.scratch...)
	l.mu.Unlock()
	clear(l.scratch)
	l.scratch = l.scratch[:0]
	notify(l.news)
}

// add changes the inbox.
func (l *lane) add(change func(*inbox)) {
	l.mu.Lock()
	change(&l.inbox)
	l.mu.Unlock()
	notify(l.news)
}

// takeIn empties the inbox.
func (l *lane) takeIn() {
	l.mu.Lock()
	in := l.inbox
	l.inbox = inbox{}
	l.mu.Unlock()
	if len(l.fresh) == 0 {
		l.fresh = in.fresh
	} else {
		l.fresh = append(l.fresh, in.fresh...)
	}
	for _, k := range in.parked {
		l.holds.put(k.key, k.waiting)
	}
	if in.wake {
		l.holds.wake(time.Now())
		l.hurried = len(l.fresh)
	}
}

// ripe reports whether fresh events may go now, or else when: they wait for a
// group to be full, but not longer than the connector wants.
func (l *lane) ripe(now time.Time) (ripe bool, at time.Time) {
	switch {
	case len(l.fresh) == 0:
		return false, time.Time{}
	case l.r.limits.Linger <= 0, l.hurried > 0, len(l.fresh) >= l.r.groupLimit, l.r.crowded.Load():
		return true, time.Time{}
	}
	at = l.fresh[0].firstSeen.Add(l.r.limits.Linger)
	return !at.After(now), at
}

// run delivers until ctx is done. calls bounds the calls in flight then, and
// everything that their results need.
func (l *lane) run(ctx, calls context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if ctx.Err() != nil {
			return nil
		}
		l.takeIn()
		now := time.Now()
		var until time.Time // when to look again; zero: when there is news
		var changed <-chan struct{}
		next := l.holds.next()
		due := next != nil && !next.letters[0].due.After(now)
		ripe, ripeAt := l.ripe(now)
		if ripe || due {
			t := l.r.gate.ask(now, ripe)
			if t.kind != wait {
				if err := l.turn(ctx, calls, t, ripe, due); err != nil {
					return err
				}
				continue
			}
			until, changed = t.until, t.changed
		} else {
			until = ripeAt
			if next != nil && (until.IsZero() || next.letters[0].due.Before(until)) {
				until = next.letters[0].due
			}
		}
		if until.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(until.Sub(now))
		}
		if ripe {
			l.r.gate.waits(1)
		}
		select {
		case <-l.news:
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		if ripe {
			l.r.gate.waits(-1)
		}
	}
}

// turn delivers one group of events: fresh ones if they are ripe, parked ones if
// they are due.
func (l *lane) turn(ctx, calls context.Context, t turn, ripe, due bool) error {
	isProbe := t.kind == probe
	limit := l.r.groupLimit
	if isProbe {
		limit = 1
	}
	var group []*item
	var err error
	if due && !(isProbe && t.fresh && ripe) {
		group, err = l.takeDue(calls, limit)
	} else {
		group, err = l.takeFresh(calls, limit)
	}
	if err == nil && len(group) > 0 {
		return l.deliver(ctx, calls, group, isProbe)
	}
	if isProbe {
		l.r.gate.report(verdict{}, true, time.Now())
	}
	return err
}

// maxBehind bounds how many events are parked behind others in one write.
const maxBehind = 512

// takeFresh returns the next events whose key is free, at most limit. Events
// whose key is held are parked behind those that hold it.
func (l *lane) takeFresh(ctx context.Context, limit int) ([]*item, error) {
	var group, behind []*item
	n := 0
	for n < len(l.fresh) && len(group) < limit && len(behind) < maxBehind {
		it := l.fresh[n]
		n++
		if len(l.holds.byKey) > 0 && l.holds.byKey[it.key] != nil {
			behind = append(behind, it)
		} else {
			group = append(group, it)
		}
	}
	l.hurried = max(0, l.hurried-n)
	clear(l.fresh[:n])
	l.fresh = l.fresh[n:] // not moved: there may be thousands, and one at a time is taken
	return group, l.parkBehind(ctx, behind)
}

// parkBehind parks events of held keys without trying them.
func (l *lane) parkBehind(ctx context.Context, behind []*item) error {
	if len(behind) == 0 {
		return nil
	}
	letters := make([]deadletter.Letter, len(behind))
	for i, it := range behind {
		letters[i] = l.r.behind(it)
	}
	err := l.r.keeper.do(ctx, &request{parked: letters, account: func(b *books) { b.parked(behind) }})
	if err != nil {
		return err
	}
	for _, it := range behind {
		l.holds.put(it.key, waiting{id: it.id, attempts: it.attempts})
	}
	return nil
}

// takeDue reads back parked events whose time has come, at most limit: of each
// key the first, and those behind it too if none of them was tried yet.
//
// Events that failed together are tried again in ever smaller groups, half the
// size with each attempt, so that one event that makes whole calls fail ends
// up alone.
//
// They are read into memory, where a lane has its share of the bytes that wait for
// their first attempt; one event may be larger.
func (l *lane) takeDue(ctx context.Context, limit int) ([]*item, error) {
	now := time.Now()
	var group []*item
	room := l.r.cfg.MaxPendingBytes / len(l.r.lanes)
	for len(group) < limit && room > 0 {
		h := l.holds.next()
		if h == nil || h.letters[0].due.After(now) {
			break
		}
		run := h.letters[:1]
		if tried := h.letters[0].attempts; tried > 0 {
			allowed := max(1, l.r.groupLimit>>min(tried, 30))
			if len(group) >= allowed {
				break
			}
			limit = min(limit, allowed)
		} else {
			for len(run) < len(h.letters) && len(group)+len(run) < limit && h.letters[len(run)].attempts == 0 {
				run = h.letters[:len(run)+1]
			}
		}
		l.holds.take(h)
		for _, w := range slices.Clone(run) {
			it, err := l.readBack(ctx, h, w)
			if err != nil {
				return nil, err
			}
			if it == nil {
				continue
			}
			group = append(group, it)
			if room -= len(it.raw); room <= 0 {
				break
			}
		}
	}
	return group, nil
}

// readBack returns the item of a parked letter, or nil if the letter is not
// there any more.
func (l *lane) readBack(ctx context.Context, h *hold, w waiting) (*item, error) {
	var letter deadletter.Letter
	found := true
	err := l.r.persist(ctx, "read a parked event", func() (err error) {
		letter, err = l.r.store.Parked().Get(ctx, w.id.String())
		if fault.KindOf(err) == fault.NotFound {
			found, err = false, nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if !found {
		// Nobody but the runner may delete it. It is accounted for as what it
		// comes to: an event that somebody has removed.
		l.r.log.Error("parked event is gone from its queue", "letter", w.id.String())
		l.r.books.vanished(w.id)
		l.holds.remove(h, w.id)
		return nil, nil
	}
	it := &item{id: w.id, rule: letter.Rule, firstSeen: letter.FirstSeen, attempts: w.attempts, tries: letter.Tries, hold: h}
	it.raw = letter.Event
	if len(it.raw) == 0 {
		it.raw = letter.Raw
	}
	it.read()
	it.key = h.key
	return it, nil
}
