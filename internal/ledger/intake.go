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
	reasons
)

var reasonNames = [reasons]string{
	Invalid: "invalid", TooLarge: "too_large", Forbidden: "forbidden",
	RateLimited: "rate_limited", Overloaded: "overloaded", Unavailable: "unavailable",
}

func (r Reason) String() string { return reasonNames[r] }

// Intake counts what comes in, in three places that know nothing of each
// other, so that a lost event shows as a residual: the edge counts what it
// received, whoever turns an event away counts it as rejected, and the
// producer counts as accepted what became durable. The zero value is ready;
// all methods are safe for concurrent use and allocate nothing.
type Intake struct {
	received, accepted atomic.Uint64
	rejected           [reasons]atomic.Uint64
}

// Received counts events whose request had a valid key and could be taken
// apart into events, good or bad.
func (in *Intake) Received(n int) { in.received.Add(uint64(n)) }

// Accepted counts events that became durable, whether or not their sender was
// still there to be told.
func (in *Intake) Accepted(n int) { in.accepted.Add(uint64(n)) }

// Rejected counts events that were turned away.
func (in *Intake) Rejected(r Reason, n int) { in.rejected[r].Add(uint64(n)) }
