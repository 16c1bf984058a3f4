package schema

import (
	"sync/atomic"
	"time"

	"github.com/eventsluice/sluice/internal/event"
)

// Contracts checks the events of a gateway against the set in force and keeps
// count of what breaks it. It is safe for concurrent use.
type Contracts struct {
	current func() *Set
	tally   *Tally

	checked  atomic.Uint64
	violated [Modes]atomic.Uint64
}

// NewContracts returns contracts that check against what current returns, and
// note violations in tally.
func NewContracts(current func() *Set, tally *Tally) *Contracts {
	return &Contracts{current: current, tally: tally}
}

// Check checks an event that came at a time. If it is not what its schema says,
// ok is false, r says what is wrong, and mode what is to happen to it. The event
// is complete but for its place on the stream: its id and its source are noted.
func (c *Contracts) Check(ev *event.Event, at time.Time, r *Report) (mode Mode, ok bool) {
	set := c.current()
	if len(set.entries) == 0 {
		return 0, true
	}
	e, found := set.check(ev, r)
	if found {
		c.checked.Add(1)
	}
	if e == nil {
		return 0, true
	}
	r.Entry = e
	c.violated[e.Mode].Add(1)
	c.tally.note(e, ev, at, r)
	return e.Mode, false
}

// Recheck is Check for an event that was checked before: nothing is noted.
func (c *Contracts) Recheck(ev *event.Event, r *Report) (mode Mode, ok bool) {
	e := c.current().Check(ev, r)
	if e == nil {
		return 0, true
	}
	r.Entry = e
	return e.Mode, false
}

// Stats are counters since the start.
type Stats struct {
	// Checked events had a schema.
	Checked uint64
	// Violated are those that were not what it says, by its mode.
	Violated [Modes]uint64
}

// Stats returns the counters.
func (c *Contracts) Stats() Stats {
	s := Stats{Checked: c.checked.Load()}
	for m := range c.violated {
		s.Violated[m] = c.violated[m].Load()
	}
	return s
}
