package edge

import (
	"time"

	"github.com/eventsluice/sluice/internal/edge/limit"
	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/ledger"
)

// withinAddressRate refuses a request of an address that sends too many. It
// comes before the key is known, so that it asks this gateway alone: nobody
// makes gateways ask Redis who has no key.
func (x *exchange) withinAddressRate() bool {
	if wait := x.edge.limits.Take(x.addressBucket(x.edge.addressRule), 1, x.start); wait > 0 {
		return x.rateLimited(x.edge.addressRule, wait)
	}
	return true
}

// addressBucket returns the bucket of the request's address.
func (x *exchange) addressBucket(rule *limit.Rule) limit.Bucket {
	if rule == nil {
		return limit.Bucket{}
	}
	a := x.address()
	if a.Is6() {
		// A customer has a /64 at least: by address there would be no limit.
		p, _ := a.Prefix(64)
		a = p.Addr()
	}
	bytes := a.As16()
	return rule.Of(protocol.View(bytes[:]))
}

// withinRate refuses a request of a key that is over its rate already, before
// its body is read. The events are taken off the rate when they have been
// counted.
func (x *exchange) withinRate() bool {
	rules := x.key.Limits()
	if rules == nil {
		return true
	}
	if wait := x.edge.limits.Wait(rules.Key.Own(), x.start); wait > 0 {
		return x.rateLimited(rules.Key, wait)
	}
	if wait := x.edge.limits.Wait(x.addressBucket(rules.Address), x.start); wait > 0 {
		return x.rateLimited(rules.Address, wait)
	}
	return true
}

// rateLimited refuses a request as a whole.
func (x *exchange) rateLimited(rule *limit.Rule, wait time.Duration) bool {
	switch rule.Kind() {
	case limit.Address:
		return x.failAfter(codeAddressRate, "too many requests come from this address", wait)
	case limit.KeyAddress:
		return x.failAfter(codeAddressRate, "too many events of the key "+x.key.ID+" come from this address; nothing of this request is stored", wait)
	}
	return x.failAfter(codeKeyRate, "the key "+x.key.ID+" is over its rate; nothing of this request is stored", wait)
}

// ask adds an event of the batch to what the limits are asked about.
func (x *exchange) ask(rules *limit.Rules, ev *event.Event) {
	var user limit.Bucket
	switch {
	case ev.UserID != "":
		user = rules.User.Of("user", ev.UserID)
	case ev.AnonymousID != "":
		user = rules.User.Of("anonymous", ev.AnonymousID)
	}
	x.asked.Event(user, rules.Name.Of(ev.Name))
}

// withinLimits takes the events of the request, which have been received, off
// the limits. It answers if none of them may go on, and then they are counted.
func (x *exchange) withinLimits() bool {
	e, rules := x.edge, x.key.Limits()
	if rules == nil && (e.addressRule == nil || !e.limits.Shares()) {
		return true
	}
	q, n := &x.asked, len(x.slots)
	if e.limits.Shares() {
		q.Share(x.addressBucket(e.addressRule))
	}
	if rules != nil {
		q.Gate(rules.Key.Own(), n)
		q.Gate(x.addressBucket(rules.Address), n)
	}
	e.limits.Judge(q, time.Now())
	if rule := q.Refused(); rule != nil {
		e.intake.Rejected(ledger.RateLimited, n)
		return x.rateLimited(rule, q.Wait())
	}
	x.countObserved()
	return q.Overs() == 0 || x.turnAwayOver()
}

// countObserved counts what limits in mode observe would have refused.
func (x *exchange) countObserved() {
	for _, o := range []struct {
		kind        limit.Kind
		restriction source.Restriction
		detail      string
	}{
		{limit.Key, source.RestrictRate, "the key is over its rate"},
		{limit.User, source.RestrictUserRate, "a user is over the rate of users"},
		{limit.Name, source.RestrictEventRate, "the events of a name are over their rate"},
	} {
		n := x.asked.Observed(o.kind)
		if o.kind == limit.Key {
			n = min(n, 1) // it is the request
		}
		for range n {
			x.enforces(o.restriction, o.detail)
		}
	}
}

// turnAwayOver puts the events that are over the rate of their user or name
// among the rejects. If there is no other event, the request is refused.
//
// Who reads what the answer says of single events sends those again. An SDK
// does not, and must neither lose them nor send their neighbours twice: they go
// to the quarantine, as they would have been stored.
func (x *exchange) turnAwayOver() bool {
	q, overs := &x.asked, x.asked.Overs()
	if !x.reserve(int64(overs/eventStep) * perRejects) {
		x.edge.intake.Rejected(ledger.Overloaded, len(x.slots))
		return x.overloaded()
	}
	none := overs == x.batch.Len() && len(x.aside) == 0
	again := none || x.route == routeEvents
	for i := range x.slots {
		s := &x.slots[i]
		if s.item < 0 {
			continue
		}
		rule := q.Over(s.item)
		if rule == nil {
			continue
		}
		r := reject{
			index: i, reason: ledger.RateLimited, code: overCode(rule).String(), detail: x.overDetail(rule),
			raw: x.batch.Event(s.item), stored: true, again: again,
		}
		if again {
			r.detail += "; send it again after the time in Retry-After"
			x.overRule, x.overWait = rule, q.Wait()
		}
		x.rejects = append(x.rejects, r)
		s.item = notStored
	}
	x.sortRejects()
	if none {
		x.countRejects()
		return x.overLimit()
	}
	x.batch.Keep(func(item int) bool { return q.Over(item) == nil })
	item := 0
	for i := range x.slots {
		if s := &x.slots[i]; s.item >= 0 {
			s.item = item
			item++
		}
	}
	return true
}

// overLimit refuses a request of which nothing remains but events that are
// over a limit.
func (x *exchange) overLimit() bool {
	x.problem(overCode(x.overRule), x.overDetail(x.overRule)+"; nothing of this request is stored", x.overWait, x.route == routeEvents)
	return false
}

// overCode is what the sender is told of an event that is over a rule.
func overCode(rule *limit.Rule) code {
	if rule.Kind() == limit.User {
		return codeUserRate
	}
	return codeEventRate
}

func (x *exchange) overDetail(rule *limit.Rule) string {
	each := "event name "
	if rule.Kind() == limit.User {
		each = "user "
	}
	return "the key " + x.key.ID + " allows each " + each + rule.Rate().String()
}
