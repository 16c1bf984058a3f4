// Package delivery carries the events of the stream to one destination: it
// reads, applies the rules, makes calls, retries, gives up, and accounts for
// every event exactly once, also across a crash.
//
// # What is kept, and when
//
// A Runner keeps three things in its Store: a State, the queue of letters that
// wait for another attempt (parked), and the queue of dead letters. The State
// is the commit point: letters are written before the State that counts on
// them, and deleted after the State that no longer does. A crash in between
// leaves letters that the State does not know, and the next start removes them
// (see Runner.recover): their events are read from the stream again.
package delivery

import (
	"context"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/stream"
)

// State is how far a destination is. It is written whole.
//
// At every State that was saved, of the events up to and including Position:
//
//	Seen = Skipped + Filtered + Delivered + Purged + Replayed + parked + dead
//
// where parked and dead are the letters of the two queues whose own Position is
// not greater, less those named in Settled. Letters of events after Position
// are in the queues too; their events are not in any of the counts yet.
type State struct {
	// Position is the stream position up to which every event is settled,
	// parked or dead.
	Position uint64 `json:"position"`
	// Seen counts the events up to Position, since the stream began.
	Seen uint64 `json:"seen"`
	// Skipped were not retained any more, or not asked for, when the
	// destination began; or the stream counts them and cannot give them back:
	// of a record that is damaged one dead letter is left, with all its bytes.
	Skipped   uint64 `json:"skipped,omitempty"`
	Filtered  uint64 `json:"filtered"`
	Delivered uint64 `json:"delivered"`
	// Purged letters were deleted, Replayed ones sent to the stream again, by
	// an operator.
	Purged   uint64 `json:"purged,omitempty"`
	Replayed uint64 `json:"replayed,omitempty"`
	// Paused is set while an operator has paused the destination: it starts so.
	// It is not changed, only replaced.
	Paused *OperatorPause `json:"paused,omitempty"`
	// Settled names letters that are accounted for in the counts above but may
	// still be in their queue: the next step deletes them there.
	Settled struct {
		Parked []string `json:"parked,omitempty"`
		Dead   []string `json:"dead,omitempty"`
	} `json:"settled,omitzero"`
}

// OperatorPause is a pause by hand.
type OperatorPause struct {
	// Reason is the operator's, at most 1 KiB. It may be empty.
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

// Store keeps what a Runner must not forget.
type Store interface {
	// LoadState returns the State saved last; ok is false if there is none.
	LoadState(ctx context.Context) (s State, ok bool, err error)
	// SaveState replaces the State. When it returns nil the State is durable;
	// after an error it may or may not be. It returns a fault.Conflict if
	// another process has saved since this one loaded: the Runner must stop.
	SaveState(ctx context.Context, s State) error
	// Parked and Dead are the two queues of the destination.
	Parked() deadletter.Queue
	Dead() deadletter.Queue
}

// Stream is what a Runner reads.
type Stream interface {
	// Open returns a reader of the entries after a position (0: from the
	// oldest one retained).
	Open(ctx context.Context, after uint64) (stream.Reader, error)
	// Last returns the position of the newest entry, 0 if there was none.
	Last(ctx context.Context) (uint64, error)
	// CountBefore returns how many events were stored at positions below the
	// given one since the stream began, retained or not.
	CountBefore(ctx context.Context, position uint64) (uint64, error)
	// First returns the position of the oldest entry retained; if there is
	// none, the position after the newest.
	First(ctx context.Context) (uint64, error)
}
