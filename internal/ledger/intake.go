package ledger

import "sync/atomic"

// Reason is why an event was not accepted. Every rejected event has exactly
// one; it is the label of sluice_events_rejected_total.
type Reason uint8

// The reasons. A new one is added here and nowhere else.
const (
	// Invalid: the event itself is wrong; kept in the quarantine.
	Invalid Reason = iota
	// TooLarge: the event is over the limit; kept in the quarantine, cut.
	TooLarge
	// Forbidden: the key may not send events of this name.
	Forbidden
	// RateLimited: over the limit of its key or address.
	RateLimited
	// Overloaded: the gateway had no room for it.
	Overloaded
	// Unavailable: the stream did not take it; the sender was told so.
	Unavailable
	// Schema: the event is not what its schema says; kept in the quarantine. If
	// the schema's mode is quarantine, its sender was told that it is safe.
	Schema
	reasons
)

var reasonNames = [reasons]string{
	Invalid: "invalid", TooLarge: "too_large", Forbidden: "forbidden",
	RateLimited: "rate_limited", Overloaded: "overloaded", Unavailable: "unavailable",
	Schema: "schema",
}

func (r Reason) String() string { return reasonNames[r] }

// Intake counts what comes in, in three places that know nothing of each
// other, so that a lost event shows as a residual: the edge counts what it
// received, whoever turns an event away counts it as rejected, and the
// producer counts as accepted what became durable. Whoever finds that an event
// was stored before counts it as a duplicate. The zero value is ready; all
// methods are safe for concurrent use and allocate nothing.
type Intake struct {
	received, accepted, duplicates atomic.Uint64
	rejected                       [reasons]atomic.Uint64
}

// Received counts events whose request had a valid key and could be taken
// apart into events, good or bad.
func (in *Intake) Received(n int) { in.received.Add(uint64(n)) }

// Accepted counts events that became durable, whether or not their sender was
// still there to be told.
func (in *Intake) Accepted(n int) { in.accepted.Add(uint64(n)) }

// Duplicate counts events that are durable since they were stored before. They
// are accepted, and not stored again.
func (in *Intake) Duplicate(n int) {
	// In this order: Balance sees no duplicate that is not accepted.
	in.accepted.Add(uint64(n))
	in.duplicates.Add(uint64(n))
}

// Duplicates returns the events that Duplicate has counted, those of the
// opening balance included.
func (in *Intake) Duplicates() uint64 { return in.duplicates.Load() }

// Rejected counts events that were turned away.
func (in *Intake) Rejected(r Reason, n int) { in.rejected[r].Add(uint64(n)) }

// Opening is what an Intake starts from after a restart.
type Opening struct {
	// Accepted events, without the duplicates.
	Accepted   uint64            `json:"accepted"`
	Duplicates uint64            `json:"duplicates,omitempty"`
	Rejected   map[string]uint64 `json:"rejected"`
}

// Open sets the balance that an Intake starts from: what the stream holds has
// been accepted, and what had been rejected, or found to be duplicates, until
// the last Balance was kept has been that. Events that had been received and were neither are
// gone with the process that knew them; nobody was told that they are safe.
func (in *Intake) Open(o Opening) {
	total := o.Accepted + o.Duplicates
	in.duplicates.Store(o.Duplicates)
	in.accepted.Store(total)
	for r, name := range reasonNames {
		n := o.Rejected[name]
		in.rejected[r].Store(n)
		total += n
	}
	in.received.Store(total)
}

// Balance returns what Open needs to go on from here.
func (in *Intake) Balance() Opening {
	duplicates := in.duplicates.Load()
	o := Opening{Accepted: in.accepted.Load() - duplicates, Duplicates: duplicates, Rejected: map[string]uint64{}}
	for r, name := range reasonNames {
		if n := in.rejected[r].Load(); n > 0 {
			o.Rejected[name] = n
		}
	}
	return o
}

// RejectedBy calls yield with the events rejected for each reason.
func (in *Intake) RejectedBy(yield func(Reason, uint64) bool) {
	for r := range reasons {
		if !yield(r, in.rejected[r].Load()) {
			return
		}
	}
}
