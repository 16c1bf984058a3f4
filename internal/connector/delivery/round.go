package delivery

import (
	"context"
	"slices"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/budget"
	"github.com/eventsluice/sluice/internal/connector/guard"
)

// round delivers one group of events of a lane, either all fresh or all
// parked.
type round struct {
	*lane
	calls   context.Context // for calls, and for what their results need
	stop    context.Context // done when no more calls may begin
	isProbe bool            // and the gate does not know yet how it went
	holds   []*hold         // that are out
	// unsent events go back to where they came from. halted is true once there
	// are any: what stands behind them must not overtake them, also if the
	// gate opens again in the meantime.
	unsent []*item
	halted bool
}

// maxGone bounds the letters that a State names.
const maxGone = 4096

// deliver plans and sends a group of events. What cannot be sent now goes back
// to where it came from.
func (l *lane) deliver(ctx, calls context.Context, group []*item, isProbe bool) error {
	d := &round{lane: l, calls: calls, stop: ctx, isProbe: isProbe}
	for _, it := range group {
		if it.hold != nil && (len(d.holds) == 0 || d.holds[len(d.holds)-1] != it.hold) {
			d.holds = append(d.holds, it.hold)
		}
	}
	defer d.end()
	// Groups still to be planned; the one at the end is next.
	stack := [][]*item{group}
	for len(stack) > 0 {
		items := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		items, err := d.free(items)
		if err != nil {
			return err
		}
		if len(items) == 0 {
			continue
		}
		next, err := d.send(items)
		if err != nil {
			return err
		}
		slices.Reverse(next)
		stack = append(stack, next...)
	}
	if l.r.books.gone() > maxGone {
		return l.r.keeper.do(calls, &request{flush: true})
	}
	return nil
}

// end puts back what was not sent and lets go of the holds.
func (d *round) end() {
	if d.isProbe {
		d.r.gate.report(verdict{}, true, time.Now())
	}
	for _, h := range d.holds {
		d.lane.holds.back(h)
	}
	if len(d.unsent) > 0 {
		slices.SortFunc(d.unsent, func(a, b *item) int { return a.id.compare(b.id) })
		d.fresh = slices.Insert(d.fresh, 0, d.unsent...)
	}
}

// mayCall reports whether another call may be made in this round.
func (d *round) mayCall() bool {
	return !d.halted && d.stop.Err() == nil && d.r.gate.lets(d.isProbe)
}

// putBack keeps events for later. Parked ones are still in their hold.
func (d *round) putBack(items []*item) {
	d.halted = true
	for _, it := range items {
		if it.hold == nil {
			d.unsent = append(d.unsent, it)
		}
	}
}

// free returns the items whose key has not been held by a failure in this
// round; fresh ones that have are parked behind it.
func (d *round) free(items []*item) ([]*item, error) {
	if !slices.ContainsFunc(items, d.isHeld) {
		return items, nil
	}
	var kept, behind []*item
	for _, it := range items {
		switch {
		case !d.isHeld(it):
			kept = append(kept, it)
		case it.hold == nil:
			behind = append(behind, it)
		}
	}
	return kept, d.parkBehind(d.calls, behind)
}

func (d *round) isHeld(it *item) bool {
	if it.hold != nil {
		return it.hold.blocked
	}
	return len(d.lane.holds.byKey) > 0 && d.lane.holds.byKey[it.key] != nil
}

// send plans the items and makes the calls until one of them changes what may
// be sent next. It returns the groups that are to be planned again.
func (d *round) send(items []*item) (next [][]*item, err error) {
	if i := slices.IndexFunc(items, func(it *item) bool { return it.unreadable != nil }); i >= 0 {
		return d.bury(items, i)
	}
	deliveries := d.deliveries[:0]
	for _, it := range items {
		deliveries = append(deliveries, it.delivery())
	}
	d.deliveries = deliveries
	plan, err := d.r.guard.Plan(deliveries)
	if err != nil {
		d.deliveries = nil // the connector may have kept it
		if n := len(items); n > 1 {
			return [][]*item{items[:n/2], items[n/2:]}, nil
		}
		res := connector.Result{Class: connector.Retryable, Code: "plan", Message: err.Error()}
		_, _, err := d.settle(items, []connector.Result{res}, false)
		return nil, err
	}
	changed, err := d.done(items, plan.Done)
	if err != nil {
		return nil, err
	}
	for i := range plan.Calls {
		called := pick(items, plan.Calls[i].Events)
		if changed {
			return d.rest(items, plan.Calls[i:]), nil
		}
		if !d.mayCall() {
			for _, c := range plan.Calls[i:] {
				d.putBack(pick(items, c.Events))
			}
			return nil, nil
		}
		var split []*item
		split, changed, err = d.callOne(called, plan.Calls[i])
		if err != nil {
			return nil, err
		}
		if n := len(split); n > 0 {
			half := (n + 1) / 2
			next = append(next, split[:half])
			if half < n {
				next = append(next, split[half:])
			}
			return append(next, d.rest(items, plan.Calls[i+1:])...), nil
		}
	}
	return nil, nil
}

// bury makes a dead letter of an event that cannot be read, and returns the
// rest.
func (d *round) bury(items []*item, i int) ([][]*item, error) {
	it := items[i]
	res := connector.Result{Class: connector.Permanent, Code: "unreadable", Message: it.unreadable.Error()}
	_, _, err := d.settle([]*item{it}, []connector.Result{res}, false)
	rest := slices.Concat(items[:i], items[i+1:])
	if len(rest) == 0 {
		return nil, err
	}
	return [][]*item{rest}, err
}

// done takes the results of events that need no call.
func (d *round) done(items []*item, done []connector.Done) (changed bool, err error) {
	if len(done) == 0 {
		return false, nil
	}
	some := make([]*item, len(done))
	results := make([]connector.Result, len(done))
	for i := range done {
		some[i], results[i] = items[done[i].Event], done[i].Result
	}
	if v := judge(some, results); v.outcome == noEntrance {
		d.r.gate.report(v, d.isProbe, time.Now())
		d.isProbe = false
	}
	_, changed, err = d.settle(some, results, false)
	return changed, err
}

// rest returns the events of calls that were not made, as one group.
func (d *round) rest(items []*item, calls []connector.Call) [][]*item {
	var rest []*item
	for _, c := range calls {
		rest = append(rest, pick(items, c.Events)...)
	}
	if len(rest) == 0 {
		return nil
	}
	slices.SortFunc(rest, func(a, b *item) int { return a.id.compare(b.id) })
	return [][]*item{rest}
}

func pick(items []*item, indexes []int) []*item {
	if len(indexes) == len(items) && slices.IsSorted(indexes) {
		return items
	}
	picked := make([]*item, len(indexes))
	for i, e := range indexes {
		picked[i] = items[e]
	}
	return picked
}

// callOne makes one call. It returns the events that were too large together,
// and whether keys became held or events went back.
func (d *round) callOne(items []*item, c connector.Call) (split []*item, changed bool, err error) {
	r := d.r
	began, err := r.budget.Take(d.stop, len(items))
	if err != nil {
		d.putBack(items)
		return nil, true, nil //nolint:nilerr // it says that the runner stops, which is no failure
	}
	if !d.mayCall() { // the gate may have closed meanwhile
		r.budget.Return(len(items))
		d.putBack(items)
		return nil, true, nil
	}
	ctx, span := r.beginSpan(d.calls, items)
	results, returned := r.guard.Send(ctx, c)
	endSpan(span, results)
	ended := time.Now()
	r.budget.End(began, ended, len(items), budget.Judge(results, d.isProbe))
	if !returned {
		d.deliveries = nil // the connector still has it
	}
	if d.calls.Err() != nil {
		// It ended because we did, and its failures mean nothing.
		return nil, true, d.calls.Err()
	}
	r.stats.count(results, began, ended)
	v := judge(items, results)
	if v.outcome != answered {
		r.stats.fault(v.why)
	}
	d.r.gate.report(v, d.isProbe, ended)
	d.isProbe = false
	return d.settle(items, results, true)
}

// settle carries out what the results mean, the durable part of it included.
// called is false for results that no call was made for.
func (d *round) settle(items []*item, results []connector.Result, called bool) (split []*item, changed bool, err error) {
	var settled, parked, dead []*item
	var req request
	var dropped map[*item]bool
	now := time.Now()
	delay, delayFor, delayFloor := time.Duration(0), -1, time.Duration(0)
	// A call that was refused says nothing about its events: those it failed
	// for go back together, so that none of a key stays in front of another.
	refused := slices.ContainsFunc(results, func(r connector.Result) bool { return r.Class == connector.Auth })
	for i, it := range items {
		res := &results[i]
		switch {
		case res.Class.Settled():
			if res.Class == connector.Dropped {
				if dropped == nil {
					dropped = map[*item]bool{}
				}
				dropped[it] = true
			}
			settled = append(settled, it)
		case res.Class == connector.Auth, refused && res.Class != connector.Permanent && res.Class != connector.TooLarge:
			d.putBack([]*item{it})
			d.postpone(it, now)
			changed = true
		case res.Class == connector.TooLarge && called && len(items) > 1:
			split = append(split, it)
		default:
			if called || res.Class != connector.Permanent && res.Class != connector.TooLarge {
				it.attempts++
			}
			if d.r.givesUp(it.attempts, res.Class) {
				req.dead = append(req.dead, d.r.letter(it, *res, time.Time{}))
				dead = append(dead, it)
				continue
			}
			if it.attempts != delayFor || res.RetryAfter != delayFloor {
				// Events that failed together come back together.
				delayFor, delayFloor = it.attempts, res.RetryAfter
				delay = d.r.cfg.Retry.Delay(delayFor, delayFloor)
			}
			req.parked = append(req.parked, d.r.letter(it, *res, now.Add(delay)))
			parked = append(parked, it)
			changed = true
		}
	}
	holds := &d.lane.holds
	if len(settled) > 0 {
		d.r.books.settle(settled, dropped)
		for _, it := range settled {
			if it.hold != nil {
				holds.remove(it.hold, it.id)
			}
		}
	}
	if len(parked)+len(dead) == 0 {
		return split, changed, nil
	}
	req.account = func(b *books) { b.parked(parked); b.buried(dead) }
	if err := d.r.keeper.do(d.calls, &req); err != nil {
		return nil, true, err
	}
	for i, it := range parked {
		holds.put(it.key, waiting{id: it.id, attempts: it.attempts, due: req.parked[i].NotBefore})
		if it.hold != nil {
			it.hold.blocked = true
		}
	}
	for _, it := range dead {
		if it.hold != nil {
			holds.remove(it.hold, it.id)
		}
	}
	return split, changed, nil
}

// postpone makes a parked event wait for the gate rather than for its time.
func (d *round) postpone(it *item, now time.Time) {
	if it.hold == nil {
		return
	}
	it.hold.blocked = true
	d.lane.holds.put(it.key, waiting{id: it.id, attempts: it.attempts, due: now})
}

// givesUp reports whether an event becomes a dead letter after a result that
// did not settle it.
func (r *Runner) givesUp(attempts int, c connector.Class) bool {
	return guard.GivesUp(c, attempts, r.cfg.Retry, r.limits.Dedups, r.cfg.Ambiguous)
}
