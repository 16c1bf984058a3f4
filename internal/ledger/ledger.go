// Package ledger accounts for every event: what came in, what became of it at
// each destination, and the residual, which is what the sums miss.
//
// The figures that are compared come from places that know nothing of each
// other: the edge counts what it received, the producer what it made durable,
// the stream what it holds, each destination what it read, delivered and still
// keeps. A lost event therefore shows as a residual that does not go away, and
// an alarm on it is an alarm on loss.
package ledger

import "time"

// Books is where the figures of a Statement come from. Any of the fields may
// be nil where a program has no such stage.
type Books struct {
	Intake *Intake
	// InFlight returns the events that have been received and are neither
	// rejected nor durable yet.
	InFlight func() int64
	// Stored returns the events that the stream holds or held, Spooled those
	// that are durable and on their way to it, Refused those that turned out to
	// be too large for it on that way.
	Stored, Spooled, Refused func() uint64
	// Destinations returns the accounts of the destinations by name.
	Destinations func() map[string]Account
}

// Account is what one destination made of the events it has seen.
type Account struct {
	// Seen events were read from the stream.
	Seen uint64
	// Skipped events were not on the stream any more, or not asked for, when
	// the destination began.
	Skipped uint64
	// Filtered events were wanted by no rule, Delivered ones arrived.
	Filtered, Delivered uint64
	// Retrying events wait for another attempt, Waiting ones for their first.
	Retrying, Waiting uint64
	// Dead events are dead letters. Purged and Replayed ones were: an operator
	// deleted them, or sent them to the stream again.
	Dead, Purged, Replayed uint64
}

// Destination is the line of one destination in a Statement:
//
//	stored = filtered + delivered + retrying + waiting + dead + unrouted
//	         + skipped + purged + replayed
type Destination struct {
	// Routed events were wanted by a rule.
	Routed    uint64 `json:"routed"`
	Filtered  uint64 `json:"filtered"`
	Delivered uint64 `json:"delivered"`
	Retrying  uint64 `json:"retrying"`
	Waiting   uint64 `json:"waiting"`
	Dead      uint64 `json:"dead"`
	// Unrouted events are stored and not read yet.
	Unrouted uint64 `json:"unrouted"`
	Skipped  uint64 `json:"skipped,omitempty"`
	Purged   uint64 `json:"purged,omitempty"`
	Replayed uint64 `json:"replayed,omitempty"`
}

// Statement is the ledger at one moment.
type Statement struct {
	Received uint64 `json:"received"`
	Rejected uint64 `json:"rejected"`
	Accepted uint64 `json:"accepted"`
	Stored   uint64 `json:"stored"`
	Spooled  uint64 `json:"spooled"`
	// Refused events were accepted, and the stream, which takes less than it
	// did, will never take them: they are in the quarantine.
	Refused uint64 `json:"refused,omitempty"`
	// Duplicates were accepted, and stored only once before.
	Duplicates uint64 `json:"duplicates,omitempty"`
	// InFlight events have been received and their fate is not known yet.
	InFlight     uint64                 `json:"in_flight,omitempty"`
	Destinations map[string]Destination `json:"destinations"`
	// Residual is the sum of the amounts, whatever their sign, by which the
	// figures above miss each other. It is 0, or events are lost or counted
	// twice.
	Residual uint64 `json:"residual"`
}

// readings is how often Statement looks again before it believes a residual,
// and pause how long after, longer each time: what moves has moved by then.
const (
	readings = 8
	pause    = 500 * time.Microsecond
)

// Statement draws up the ledger. The figures are counters that move while they
// are read, one after another, so an event on its way from one to the next can
// be missed or seen twice in one reading. A residual that is real is there in
// every reading: Statement reads again until one adds up, and reports what it
// finds if none does.
func (b Books) Statement() Statement {
	s := b.read()
	for i := range readings {
		if s.Residual == 0 {
			break
		}
		time.Sleep(time.Duration(i) * pause)
		s = b.read()
	}
	return s
}

// read takes one reading, against the direction of the flow: what an event
// becomes is read before what it was.
func (b Books) read() Statement {
	s := Statement{Destinations: map[string]Destination{}}
	var accounts map[string]Account
	if b.Destinations != nil {
		accounts = b.Destinations()
	}
	if b.Intake != nil {
		s.Accepted, s.Duplicates = b.Intake.accepted.Load(), b.Intake.duplicates.Load()
	}
	if b.Stored != nil {
		s.Stored = b.Stored()
	}
	if b.Spooled != nil {
		s.Spooled = b.Spooled()
	}
	if b.Refused != nil {
		s.Refused = b.Refused()
	}
	if b.Intake != nil {
		for i := range b.Intake.rejected {
			s.Rejected += b.Intake.rejected[i].Load()
		}
		s.Received = b.Intake.received.Load()
		if b.InFlight != nil {
			s.InFlight = uint64(max(0, b.InFlight()))
		}
		s.Residual += distance(s.Received, s.Rejected+s.Accepted+s.InFlight)
		if b.Stored != nil {
			s.Residual += distance(s.Accepted, s.Stored+s.Spooled+s.Refused+s.Duplicates)
		}
	}
	for name, a := range accounts {
		accounted := a.Skipped + a.Filtered + a.Delivered + a.Retrying + a.Waiting + a.Dead + a.Purged + a.Replayed
		s.Residual += distance(a.Seen, accounted)
		if a.Seen > s.Stored { // read from the stream and not known to it
			s.Residual += a.Seen - s.Stored
		}
		s.Destinations[name] = Destination{
			Routed:    a.Seen - a.Skipped - a.Filtered,
			Filtered:  a.Filtered,
			Delivered: a.Delivered,
			Retrying:  a.Retrying,
			Waiting:   a.Waiting,
			Dead:      a.Dead,
			Unrouted:  s.Stored - min(s.Stored, a.Seen),
			Skipped:   a.Skipped,
			Purged:    a.Purged,
			Replayed:  a.Replayed,
		}
	}
	return s
}

func distance(a, b uint64) uint64 {
	if a < b {
		return b - a
	}
	return a - b
}
