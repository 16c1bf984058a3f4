package lambdatest

import (
	"slices"
	"time"
)

// Stats is what has happened to a function. Most are named as the metrics of
// CloudWatch are; see the developer guide, "Types of metrics for Lambda
// functions".
type Stats struct {
	// Invocations ran, with or without an error. Errors are those of them that
	// ended in a function error, Timeouts those of the errors that ran too long.
	Invocations, Errors, Timeouts int
	// Throttles were refused for want of a free environment; Refused are the
	// runs that a fault refused with another error.
	Throttles, Refused int
	// MostConcurrent is the most invocations that ran at once.
	MostConcurrent int
	// ColdStarts are environments that were started; InitDurations are how long
	// each process took from its start until it asked for an event.
	ColdStarts    int
	InitDurations []time.Duration

	// AsyncEventsReceived were accepted for later. AsyncEventsDropped of them
	// were given up, also if a dead letter queue or a destination took them.
	AsyncEventsReceived, AsyncEventsDropped int
	// AsyncEventAge is the most time that an event waited before it ran.
	AsyncEventAge time.Duration
	// DeadLetterErrors and DestinationDeliveryFailures count what could not be
	// written there: it is lost.
	DeadLetterErrors, DestinationDeliveryFailures int

	// IteratorAge is the most that the last record of a batch from Kinesis was
	// old when its function was invoked.
	IteratorAge time.Duration
}

func (s *Stats) refused(err *Error) {
	if err.Code == Throttled.Code {
		s.Throttles++
	} else {
		s.Refused++
	}
}

// Stats returns the counters of a function; none if there is no such function.
func (s *Server) Stats(name string) Stats {
	f := s.function(name)
	if f == nil {
		return Stats{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	stats := f.stats
	stats.InitDurations = slices.Clone(stats.InitDurations)
	return stats
}
