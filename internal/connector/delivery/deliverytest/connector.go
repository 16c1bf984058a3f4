package deliverytest

import (
	"context"
	"errors"
	"sync"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
)

// Answer gives the results of a call.
type Answer func(ctx context.Context, events []connector.Delivery) []connector.Result

// Connector is a destination that keeps what it takes in memory.
type Connector struct {
	// Bounds are its limits; MaxEvents 1 if zero.
	Bounds connector.Limits
	// PerCall is how many events Plan puts into a call; zero is all of them.
	PerCall int
	// Refuse gives the result of an event that needs no call.
	Refuse func(connector.Delivery) (connector.Result, bool)

	mu     sync.Mutex
	answer Answer
	calls  int
	order  []string // ids in the order in which they were taken
	copies map[string]int
}

var _ connector.Connector = (*Connector)(nil)

// Answer sets what calls are answered with from now on; nil is Delivered for
// every event.
func (c *Connector) Answer(a Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = a
}

// Kind implements connector.Connector.
func (c *Connector) Kind() string { return "double" }

// Version implements connector.Connector.
func (c *Connector) Version() string { return "1" }

// Limits implements connector.Connector.
func (c *Connector) Limits() connector.Limits {
	l := c.Bounds
	l.MaxEvents = max(1, l.MaxEvents)
	return l
}

// Plan implements connector.Connector.
func (c *Connector) Plan(events []connector.Delivery) (p connector.Plan) {
	size := c.PerCall
	if size <= 0 {
		size = len(events)
	}
	var open connector.Call
	var payload []connector.Delivery
	flush := func() {
		if len(payload) > 0 {
			open.Payload = payload
			p.Calls = append(p.Calls, open)
			open, payload = connector.Call{}, nil
		}
	}
	for i := range events {
		if c.Refuse != nil {
			if res, ok := c.Refuse(events[i]); ok {
				p.Done = append(p.Done, connector.Done{Event: i, Result: res})
				continue
			}
		}
		open.Events = append(open.Events, i)
		payload = append(payload, events[i])
		if len(payload) == size {
			flush()
		}
	}
	flush()
	return p
}

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	events := call.Payload.([]connector.Delivery)
	results := connector.All(len(events), connector.Result{Class: connector.Delivered})
	c.mu.Lock()
	answer := c.answer
	c.mu.Unlock()
	if answer != nil {
		results = answer(ctx, events)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	for i := range min(len(results), len(events)) {
		if class := results[i].Class; class == connector.Delivered || class == connector.Duplicate {
			c.take(events[i].Event.ID)
		}
	}
	return results
}

func (c *Connector) take(id string) {
	if c.copies == nil {
		c.copies = map[string]int{}
	}
	c.copies[id]++
	c.order = append(c.order, id)
}

// Took makes the destination have an event, whatever the result says.
func (c *Connector) Took(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take(id)
}

// Close implements connector.Connector.
func (c *Connector) Close() error { return nil }

// Calls returns how many calls were made.
func (c *Connector) Calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// Order returns the ids of the events in the order in which the destination
// took them, copies included.
func (c *Connector) Order() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.order...)
}

// Copies returns how often the destination took an event.
func (c *Connector) Copies(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copies[id]
}

// Route wants every event for which Wants is true, all if it is nil.
type Route struct {
	Wants func(name string) bool
}

var errNoEvent = errors.New("not an event")

// Apply implements delivery.Route.
func (r Route) Apply(raw []byte) (out []byte, rule string, wanted bool, err error) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil, "", false, errNoEvent
	}
	if r.Wants != nil {
		ev, err := event.ParseStored(raw)
		if err != nil {
			return nil, "", false, err
		}
		if !r.Wants(ev.Name) {
			return nil, "", false, nil
		}
	}
	return raw, "rule-1", true, nil
}
