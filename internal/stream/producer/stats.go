package producer

import "time"

// Stats are the figures of a Producer since it was made. They are taken at one
// moment and agree with each other:
//
//	Events = Accepted + Rejected + Undecided + WaitingEvents + FlyingEvents
type Stats struct {
	// Puts waited until the fate of their last event was known, PutTime
	// together. Abandoned are those whose sender left before that.
	Puts, Abandoned uint64
	PutTime         time.Duration

	// Events were handed to Put; each ends in one of the three below.
	Events uint64
	// Accepted became durable, Spooled of them in a spool at first.
	Accepted, Spooled uint64
	// Rejected were not stored: turned away, too large or given up.
	Rejected uint64
	// Undecided may or may not be stored: Run ended before that was known.
	Undecided uint64

	// Repeated is how many more copies of accepted events may be on the
	// stream, from attempts whose fate was unknown.
	Repeated uint64

	// Calls to PutRecords ended, taking CallTime together. They stored Records
	// records of Bytes bytes, data and partition keys.
	Calls, Records, Bytes uint64
	CallTime              time.Duration
	// Attempts of records that failed, by what is known of the record after
	// it. All but those too large were tried again, unless given up.
	Throttled, Unavailable, Ambiguous, TooLarge uint64

	// FlyingCalls, FlyingRecords and FlyingEvents are in a call now;
	// WaitingEvents wait for one. Resting is the buckets that wait to retry.
	FlyingCalls, FlyingRecords, FlyingEvents, WaitingEvents, Resting int
	// BufferedBytes is the memory that holds events; FreeBytes is kept for
	// the next ones.
	BufferedBytes, FreeBytes int
}

// Stats returns the figures of this moment.
func (p *Producer) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.BufferedBytes, s.FreeBytes = p.held, p.freeBytes
	return s
}
