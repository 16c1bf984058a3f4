// Package attempt delivers a few events to one destination within a deadline,
// and says what became of each. It is for hosts that keep nothing between two
// batches: what has to wait goes back to the host, as a letter with all that is
// known, and the host gives it to a waiting room.
//
// Package delivery is for hosts that run on and own their queues. The two treat
// the outcomes of a connector alike.
package attempt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/budget"
	"github.com/eventsluice/sluice/internal/connector/guard"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/retry"
)

// Fate is what became of an event.
type Fate uint8

const (
	// Waits is the zero value: what nobody has decided is kept. The letter says
	// until when.
	Waits Fate = iota
	// Delivered: the destination has it.
	Delivered
	// Dropped: the mapping chose not to send it.
	Dropped
	// Dead: it is given up. The letter says why.
	Dead
)

var fateNames = [...]string{Waits: "waits", Delivered: "delivered", Dropped: "dropped", Dead: "dead"}

// String returns the name used in logs and tests.
func (f Fate) String() string { return fateNames[f] }

// Config says how events are delivered. The zero value of every field but
// Destination takes its default.
type Config struct {
	// Destination is the name of the destination. Required.
	Destination string
	// Retry bounds the attempts of an event. Default: guard.Patience.
	Retry retry.Policy
	// Ambiguous is what becomes of an event that was written and not answered, at
	// a destination that does not know duplicates. Default guard.AmbiguousDead.
	Ambiguous guard.Ambiguous
	// Concurrency is the most calls in flight, and never more than the
	// connector's Limits.MaxConcurrency. Default 8.
	Concurrency int
	// Nap is the longest wait that is slept here and not given back. Default
	// 3 s.
	Nap time.Duration
	// RefusedWait bounds the wait of events whose destination has refused the
	// credentials: each waits between half of it and all of it, and no attempt
	// is counted. Default 10 min.
	RefusedWait time.Duration
	// Renew, if it is set, is asked for a new connector when the destination has
	// refused the credentials. Nil from it says that there are no other ones.
	Renew func(ctx context.Context) connector.Connector
}

// stuck is how many Sends that did not return in time may go on beside those that
// are waited for.
const stuck = 3

// leastRoom is the least time left in which a call is begun that is not the
// first.
const leastRoom = 250 * time.Millisecond

// Stage delivers to one destination. It is not for concurrent use.
type Stage struct {
	cfg   Config
	log   *slog.Logger
	guard *guard.Guard
	// name is kind and version of the connector, "webhook@1".
	name        string
	limits      connector.Limits
	concurrency int
	// budget is how many calls may be made at once, and how fast, as throttling has
	// taught. It outlives a batch, as resume does.
	budget *budget.Budget
	// resume is when the destination may be called again: it has asked to be
	// left alone until then, or is in trouble. Failures counts the calls in a row
	// that failed whole, each with an event that was tried for the first time:
	// events that keep failing say nothing about the others.
	resume   time.Time
	failures int
}

// inTrouble is how many failures in a row say that it is the destination that is
// in trouble, and not its events. Then calls are made one at a time, with pauses
// that double, so that a destination that is away does not use up the attempts of
// all events.
const inTrouble = 5

// New returns a Stage, which owns the connector from here on.
func New(conn connector.Connector, cfg Config, log *slog.Logger) (*Stage, error) {
	if cfg.Destination == "" {
		return nil, errors.New("destination has no name")
	}
	cfg.Retry = guard.Patience(cfg.Retry)
	if p := cfg.Retry; p.MaxAttempts < 0 || p.BaseDelay < 0 || p.MaxDelay < p.BaseDelay {
		return nil, fmt.Errorf("retry of %d attempts, from %v to %v, makes no sense", p.MaxAttempts, p.BaseDelay, p.MaxDelay)
	}
	if !cfg.Ambiguous.Known() {
		return nil, fmt.Errorf("ambiguous is %q; retry or dead is right", cfg.Ambiguous)
	}
	if cfg.Concurrency < 0 {
		return nil, fmt.Errorf("concurrency of %d makes no sense", cfg.Concurrency)
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 8
	}
	if cfg.Nap == 0 {
		cfg.Nap = 3 * time.Second
	}
	if cfg.RefusedWait == 0 {
		cfg.RefusedWait = 10 * time.Minute
	}
	s := &Stage{cfg: cfg, log: log}
	s.use(conn)
	return s, nil
}

func (s *Stage) use(conn connector.Connector) {
	s.name, s.limits = conn.Kind()+"@"+conn.Version(), conn.Limits()
	s.concurrency = s.cfg.Concurrency
	if most := s.limits.MaxConcurrency; most > 0 {
		s.concurrency = min(s.concurrency, most)
	}
	s.guard = guard.New(conn, s.concurrency+stuck, nil, s.log)
	s.budget = budget.New(budget.Config{Calls: s.concurrency})
}

// Close closes the connector, after the last call has returned.
func (s *Stage) Close() error { return s.guard.Close() }

// item is one event of a batch.
type item struct {
	letter *deadletter.Letter
	group  string // what keeps it in order
	event  event.Event
	fate   Fate
	open   bool // its fate is not decided
	// most is the most events that may be in a plan with it.
	most int
}

// batch is what Deliver works on.
type batch struct {
	*Stage
	ctx   context.Context
	items []item
	// refused: the destination does not take our credentials, and gets no calls.
	refused bool
	// slowest is how long the slowest call took, calls how many there were.
	slowest time.Duration
	calls   int
}

// Deliver delivers the events of letters and returns what became of each, in
// their order. It completes the letters: they need only ID, Event and FirstSeen,
// and those that have waited bring more. A letter that waits says until when in
// NotBefore, which may be now, and counts the attempts that were made; one that
// waits for another was not tried. Letters whose NotBefore has not come are not
// tried either, unless that is soon.
//
// Order: events of one partition key are delivered in the order of the letters.
// While one of them waits the later ones wait too, at least as long. A dead
// letter lets the next go on. groups, if it is not nil, names for each letter
// what takes the place of the key; an empty name leaves it the key.
//
// It returns guard.Grace after ctx is done at the latest. Calls are begun as
// long as there seems to be time for them, the first always.
func (s *Stage) Deliver(ctx context.Context, letters []deadletter.Letter, groups []string) []Fate {
	b := &batch{Stage: s, ctx: ctx, items: make([]item, len(letters))}
	for i := range letters {
		b.items[i].letter = &letters[i]
		b.read(&b.items[i])
		if b.items[i].group = letters[i].PartitionKey; groups != nil && groups[i] != "" {
			b.items[i].group = groups[i]
		}
	}
	for b.turn() {
	}
	b.hold()
	fates := make([]Fate, len(letters))
	for i := range b.items {
		fates[i] = b.items[i].fate
	}
	return fates
}

// read completes the letter of an item. What is no event is dead.
func (b *batch) read(it *item) {
	l := it.letter
	l.Destination, l.Connector = b.cfg.Destination, b.name
	raw := []byte(l.Event)
	if len(raw) == 0 {
		raw = l.Raw
	}
	ev, err := event.ParseStored(raw)
	if err != nil {
		l.Event, l.Raw = nil, raw
		guard.Record(l, connector.Result{Class: connector.Permanent, Code: "unreadable", Message: err.Error()}, false, time.Time{})
		it.fate = Dead
		return
	}
	l.Event, l.Raw = raw, nil
	if ev.ID == "" {
		ev.ID = l.EventID
	}
	if ev.ID == "" {
		ev.ID = l.ID
	}
	l.EventID, l.EventName, l.PartitionKey = ev.ID, ev.Name, ev.PartitionKey()
	it.event, it.open = ev, true
	it.most = b.groupOf(l.Attempts)
}

// groupOf returns how large a group may be that has an event with so many
// attempts. Events that failed together are tried again in ever smaller groups,
// so that one that makes whole calls fail ends up alone.
func (s *Stage) groupOf(attempts int) int { return max(1, s.limits.MaxEvents>>min(attempts, 30)) }

// turn makes the next call, or waits until there is one to make. It returns
// false when nothing more can be done here.
func (b *batch) turn() bool {
	if b.refused && !b.renew() {
		return false
	}
	now := time.Now()
	group, due := b.next(now)
	if len(group) > 0 {
		return b.hasRoom(now) && b.send(group)
	}
	wait := due.Sub(now)
	if due.IsZero() || wait > b.cfg.Nap || !b.hasRoom(due) {
		return false
	}
	return retry.Sleep(b.ctx, wait) == nil
}

// next returns events that can be sent now: of each key the first that is open,
// and those behind it. Without any, due is when there will be some; it is zero
// if no event is open.
func (b *batch) next(now time.Time) (group []*item, due time.Time) {
	var waiting map[string]bool // groups
	limit, open := math.MaxInt, b.opens()
	for i := range b.items {
		it := &b.items[i]
		if !it.open || waiting[it.group] {
			continue
		}
		ready := it.letter.NotBefore
		if open.After(ready) {
			ready = open
		}
		if ready.After(now) {
			if waiting == nil {
				waiting = map[string]bool{}
			}
			waiting[it.group] = true
			if due.IsZero() || ready.Before(due) {
				due = ready
			}
			continue
		}
		if limit = min(limit, it.most); len(group) >= limit {
			break
		}
		group = append(group, it)
	}
	return group, due
}

// opens returns when the destination may be called again. It may be past.
func (s *Stage) opens() time.Time {
	if due := s.budget.Due(1); due.After(s.resume) {
		return due
	}
	return s.resume
}

// hasRoom reports whether there is time for a call that begins then.
func (b *batch) hasRoom(then time.Time) bool {
	deadline, ok := b.ctx.Deadline()
	if !ok {
		return b.ctx.Err() == nil
	}
	if b.calls == 0 {
		return deadline.After(then)
	}
	return deadline.Sub(then) >= max(leastRoom, 2*b.slowest)
}

// send plans the group and makes its calls until one of them changes what may
// be sent next.
func (b *batch) send(group []*item) bool {
	deliveries := make([]connector.Delivery, len(group))
	for i, it := range group {
		deliveries[i] = connector.Delivery{Event: it.event, Raw: it.letter.Event, Rule: it.letter.Rule, Attempt: it.letter.Attempts + 1}
	}
	plan, err := b.guard.Plan(deliveries)
	if err != nil {
		if len(group) > 1 {
			halve(group)
			return true
		}
		b.settle(group, []connector.Result{{Class: connector.Retryable, Code: "plan", Message: err.Error()}}, false)
		return true
	}
	changed := false
	for _, d := range plan.Done {
		changed = b.settle([]*item{group[d.Event]}, []connector.Result{d.Result}, false) || changed
	}
	for calls := plan.Calls; len(calls) > 0 && !changed; {
		if len(calls) < len(plan.Calls) && !b.hasRoom(time.Now()) {
			return false
		}
		if b.budget.Due(1).After(time.Now()) {
			return true // the next turn waits for it
		}
		n := b.abreast(group, calls)
		var over bool
		if changed, over = b.call(group, calls[:n]); over {
			return false
		}
		calls = calls[n:]
	}
	return true
}

// abreast returns how many of the calls may be made at once: no two of them have
// events of the same key, and a destination that fails gets one at a time.
func (b *batch) abreast(group []*item, calls []connector.Call) int {
	most := min(b.budget.Abreast(), len(calls))
	if b.failures > 0 || most == 1 {
		return 1
	}
	keys := map[string]bool{}
	for n := range most {
		for _, e := range calls[n].Events {
			if keys[group[e].group] {
				return n
			}
		}
		for _, e := range calls[n].Events {
			keys[group[e].group] = true
		}
	}
	return most
}

// call makes calls at once and settles their results in the order of the calls.
// over says that the calls before, of which none returns, have used up the time.
func (b *batch) call(group []*item, calls []connector.Call) (changed, over bool) {
	began := time.Now()
	results := make([][]connector.Result, len(calls))
	var under sync.WaitGroup
	isProbe := b.failures >= inTrouble
	for n := range calls {
		events := len(calls[n].Events)
		b.budget.Begin(events)
		under.Go(func() {
			results[n], _ = b.guard.Send(b.ctx, calls[n])
			b.budget.End(began, time.Now(), events, budget.Judge(results[n], isProbe))
		})
	}
	under.Wait()
	b.slowest = max(b.slowest, time.Since(began))
	for n, c := range calls {
		if len(results[n]) == 0 && len(c.Events) > 0 {
			over = true
			continue
		}
		b.calls++
		called := make([]*item, len(c.Events))
		for i, e := range c.Events {
			called[i] = group[e]
		}
		changed = b.settle(called, results[n], true) || changed
	}
	return changed, over
}

// halve makes the next groups of these events at most half as large.
func halve(group []*item) {
	for _, it := range group {
		it.most = min(it.most, (len(group)+1)/2)
	}
}

// settle carries out what results mean, and reports whether some events are
// still open. called is false for results that no call was made for.
func (b *batch) settle(items []*item, results []connector.Result, called bool) (changed bool) {
	now := time.Now()
	refused, failed, fresh := false, called, false
	for i := range results {
		class := results[i].Class
		refused = refused || class == connector.Auth
		failed = failed && (class == connector.Retryable || class == connector.Throttled || class == connector.Ambiguous)
		fresh = fresh || items[i].letter.Attempts == 0
	}
	b.refused = b.refused || refused
	switch {
	case called && !failed && !refused:
		b.failures = 0
	case failed && (fresh || b.failures >= inTrouble):
		if b.failures++; b.failures >= inTrouble {
			b.pause(now, b.cfg.Retry.Delay(b.failures-inTrouble+1, 0))
		}
	}
	delay, delayFor, delayFloor := time.Duration(0), -1, time.Duration(0)
	var split []*item
	for i, it := range items {
		res, l := &results[i], it.letter
		switch {
		case res.Class.Settled():
			it.open, it.fate = false, Delivered
			if res.Class == connector.Dropped {
				it.fate = Dropped
			}
			continue
		case res.Class == connector.Auth, refused && res.Class != connector.Permanent && res.Class != connector.TooLarge:
			// A call that was refused says nothing about its events.
			guard.Record(l, *res, false, now)
		case res.Class == connector.TooLarge && called && len(items) > 1:
			split = append(split, it)
		default:
			counted := called || res.Class != connector.Permanent && res.Class != connector.TooLarge
			if counted {
				l.Attempts++
			}
			if guard.GivesUp(res.Class, l.Attempts, b.cfg.Retry, b.limits.Dedups, b.cfg.Ambiguous) {
				guard.Record(l, *res, counted, time.Time{})
				it.open, it.fate = false, Dead
				continue
			}
			if l.Attempts != delayFor || res.RetryAfter != delayFloor {
				// Events that failed together come back together.
				delayFor, delayFloor = l.Attempts, res.RetryAfter
				delay = b.cfg.Retry.Delay(delayFor, delayFloor)
			}
			guard.Record(l, *res, counted, now.Add(delay))
			it.most = min(it.most, b.groupOf(l.Attempts))
			if res.Class == connector.Throttled && res.RetryAfter > 0 {
				b.pause(now, retry.Policy{}.Delay(1, res.RetryAfter))
			}
		}
		changed = true
	}
	halve(split)
	return changed
}

// pause keeps calls from the destination for a time.
func (s *Stage) pause(now time.Time, d time.Duration) {
	if until := now.Add(d); until.After(s.resume) {
		s.resume = until
	}
}

// renew takes a connector with new credentials, if there are any.
func (b *batch) renew() bool {
	if b.cfg.Renew == nil {
		return false
	}
	conn := b.cfg.Renew(b.ctx)
	if conn == nil {
		return false
	}
	old := b.guard
	go func() { // ends when the last call of the old connector does
		if err := old.Close(); err != nil {
			b.log.Warn("the connector with the old credentials did not close", slog.Any("error", err))
		}
	}()
	b.use(conn)
	for i := range b.items {
		b.items[i].letter.Connector = b.name
	}
	b.refused = false
	return true
}

// hold says of the events that are still open how long they wait.
func (b *batch) hold() {
	now := time.Now()
	floor := b.opens()
	if b.refused {
		floor = now.Add(b.cfg.RefusedWait/2 + rand.N(b.cfg.RefusedWait/2+1))
	}
	ahead := map[string]time.Time{} // when the event ahead in a group may be tried
	for i := range b.items {
		it := &b.items[i]
		if !it.open {
			continue
		}
		l := it.letter
		if l.Class == "" {
			l.Class = guard.Held // it was not tried
		}
		for _, t := range [...]time.Time{floor, ahead[it.group]} {
			if t.After(now) && t.After(l.NotBefore) {
				l.NotBefore = t
			}
		}
		ahead[it.group] = l.NotBefore
	}
}
