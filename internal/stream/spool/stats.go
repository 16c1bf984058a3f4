package spool

import (
	"time"
)

// Stats are the figures of a Spool, taken at one moment. Counters begin with
// the process.
type Stats struct {
	// Events are in the log and not on the stream, in Buckets buckets; Bytes
	// are their records, data and keys. The oldest of them has been there for
	// Age.
	Events, Bytes uint64
	Age           time.Duration
	Buckets       int
	// Earlier says that the log holds records of an earlier process, behind
	// which everything new has to queue.
	Earlier bool
	// Away says that the stream takes no call, since AwaySince.
	Away      bool
	AwaySince time.Time
	// Stuck buckets are held up by a record that the stream will never take
	// and Config.Refused has not taken.
	Stuck int

	// Writes to the log, which made Written events durable there. Of the
	// records in them, Refusals were not stored and the fate of Doubts is
	// unknown.
	Writes, Written, Refusals, Doubts uint64
	// Full says that the log did not take what was written last, and holds
	// something still that will make room.
	Full bool

	// Calls of the drain, of which FailedCalls failed as a whole. They put
	// Drained records with DrainedEvents events on the stream.
	Calls, FailedCalls, Drained, DrainedEvents uint64
	// Records that failed in other calls, by what is known of them.
	Throttled, Unavailable, Ambiguous, TooLarge uint64
	// Refused events were given to Config.Refused: they have left the spool,
	// and are not on the stream.
	Refused uint64
	// Repeated is how many more copies of events may be on the stream, for
	// attempts there whose outcome was unknown.
	Repeated uint64

	// WindowBytes is the memory of records between the log and the stream.
	// Passes counts how often the reader went to another place in the log.
	WindowBytes int
	Passes      uint64
}

// Spooled returns the events that the log holds and that the stream does not
// have from it yet. At every moment at which nothing moves
//
//	accepted = stored on the stream + Spooled + Stats.Refused
//
// for what this process took and found. What was on the stream before a crash
// and still in the log after it is counted once more on both sides.
func (s *Spool) Spooled() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(max(0, s.events))
}

// Wait estimates how long it takes until the spool has room again: as long as
// to drain all of it at the rate of late, between a second and half a minute. It
// is 0 if there is nothing in the spool.
func (s *Spool) Wait() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes <= 0 {
		return 0
	}
	return s.drained.TimeFor(time.Now(), int(s.bytes))
}

// Stats returns the figures of this moment.
func (s *Spool) Stats() Stats {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Events, st.Bytes = uint64(max(0, s.events)), uint64(max(0, s.bytes))
	st.Earlier, st.Full = s.barrier > 0, s.refusing && s.events > 0
	if st.Away = s.away; s.away {
		st.AwaySince = s.failing
	}
	st.WindowBytes, st.Passes = s.window.size, s.window.pass
	var oldest time.Time
	if s.events > 0 {
		// What is not read yet is younger than what was read last.
		oldest = s.window.readAt
	}
	for _, b := range s.buckets {
		if b.spooled() || len(b.queue) > 0 || b.behind {
			st.Buckets++
		}
		if b.stuck {
			st.Stuck++
		}
		if position, at := b.oldest(); position > 0 && at.Before(oldest) {
			oldest = at
		}
	}
	if !oldest.IsZero() {
		st.Age = max(0, now.Sub(oldest))
	}
	return st
}
