package mapping

import (
	"errors"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/router"
)

// Filter is Privacy by itself, for connectors that hand events over as they are.
// It is safe for concurrent use. The nil Filter changes nothing.
type Filter struct {
	transform *router.Transform
	address   address
}

// NewFilter returns a Filter, nil if there is nothing to do. The error joins every
// fault of the settings, each with the name of the setting: "privacy.ip: …".
func NewFilter(p Privacy) (*Filter, error) {
	c := &compiler{}
	f := c.filter("privacy", p)
	if err := errors.Join(c.faults...); err != nil {
		return nil, err
	}
	if f.transform == nil && f.address == keepAddress {
		return nil, nil
	}
	return &f, nil
}

// filter compiles what is removed before all else.
func (c *compiler) filter(at string, p Privacy) (f Filter) {
	var faults router.Faults
	f.transform, faults = router.NewTransform(p.Drop, p.Hash, p.Salt)
	c.routerFaults(at, faults)
	if p.Salt != "" && len(p.Hash) == 0 {
		c.fault(at+".salt", "there is no hash that it is for")
	}
	switch p.IP {
	case "", "keep":
	case "drop":
		f.address = dropAddress
	case "truncate":
		f.address = truncateAddress
	default:
		c.fault(at+".ip", "must be one of keep, drop, truncate")
	}
	return f
}

// apply changes an event, but not the memory that it shares.
func (f *Filter) apply(e *event.Event) *connector.Result {
	if len(e.Extra) > 0 {
		// Members that the vocabulary does not know are found below context.extra,
		// by privacy too, as in rules.
		folded, err := event.ParseStored(e.Append(nil))
		if err != nil {
			return Refuse("invalid_event", "event", err.Error())
		}
		*e = folded
	}
	if err := f.address.apply(e); err != nil {
		return Refuse("invalid_event", "context.ip", err.Error())
	}
	if err := f.transform.Apply(e); err != nil {
		return Refuse("invalid_event", "event", err.Error())
	}
	return nil
}

// Plan returns the plan that plan makes of deliveries without what is not to be
// handed over. Those whose event cannot be changed are done. The nil Filter leaves
// it all to plan.
func (f *Filter) Plan(deliveries []connector.Delivery, plan func([]connector.Delivery) connector.Plan) connector.Plan {
	if f == nil {
		return plan(deliveries)
	}
	left := make([]connector.Delivery, 0, len(deliveries))
	places := make([]int, 0, len(deliveries)) // of those that are left
	var done []connector.Done
	for i := range deliveries {
		d := deliveries[i]
		if refused := f.apply(&d.Event); refused != nil {
			done = append(done, connector.Done{Event: i, Result: *refused})
			continue
		}
		d.Raw = d.Event.Append(nil)
		left, places = append(left, d), append(places, i)
	}
	p := plan(left)
	if len(done) == 0 {
		return p
	}
	for _, call := range p.Calls {
		for i, place := range call.Events {
			call.Events[i] = places[place]
		}
	}
	for i := range p.Done {
		p.Done[i].Event = places[p.Done[i].Event]
	}
	p.Done = append(p.Done, done...)
	return p
}
