package deadletter

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Desk is where an operator handles the dead letters of all destinations. The
// process that delivers implements it, and so does a client of its admin API,
// so that a command works the same at either.
//
// A destination that does not exist is a fault.NotFound; one that is not being
// delivered to is a fault.Unavailable for Replay and Purge.
type Desk interface {
	// List returns letters in the order in which they died, at most limit,
	// from after the cursor of an earlier page (0: from the first).
	List(ctx context.Context, destination string, f Filter, after uint64, limit int) (Page, error)
	// Get returns one letter, or a fault.NotFound.
	Get(ctx context.Context, destination, id string) (Letter, error)
	// Replay sends letters again. It can be interrupted at any point and given
	// again: letters leave the queue as they are replayed, so that the second
	// order goes on where the first one ended. After a crash a few letters may
	// be replayed twice.
	Replay(ctx context.Context, destination string, o Order, report func(Progress)) (Progress, error)
	// Purge deletes letters for good, and counts them as purged. It can be
	// interrupted and given again too. Order.To means nothing to it.
	Purge(ctx context.Context, destination string, o Order, report func(Progress)) (Progress, error)
}

// Page is a part of a list.
type Page struct {
	Letters []Letter `json:"letters"`
	// Next is the cursor to go on from, zero if this was the last page.
	Next uint64 `json:"next,omitempty"`
}

// Target is where replayed letters go.
type Target string

const (
	// ToDestination sends the event to the destination that failed, as it is
	// in the letter. It is the default.
	ToDestination Target = "destination"
	// ToStream sends the event to the stream, where all destinations get it
	// according to the rules of now. The letter counts as replayed.
	ToStream Target = "stream"
)

// IsARN reports whether the target is a function or a queue of AWS, named by
// its ARN: letters go there, whatever destination they are of.
func (t Target) IsARN() bool { return strings.HasPrefix(string(t), "arn:") }

// Order says what to do with which letters.
type Order struct {
	Filter Filter `json:"filter,omitzero"`
	To     Target `json:"to,omitempty"`
	// Rate is the most letters per second, Limit the most letters in all. Zero
	// is no bound.
	Rate  float64 `json:"rate,omitempty"`
	Limit int     `json:"limit,omitempty"`
	// DryRun counts and shows a sample, and changes nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// Validate reports everything that is wrong with the order.
func (o *Order) Validate() error {
	var faults []error
	if o.To != "" && o.To != ToDestination && o.To != ToStream && !o.To.IsARN() {
		faults = append(faults, fmt.Errorf("to is %q; %s or %s is right, or on AWS the ARN of a function or a queue", o.To, ToDestination, ToStream))
	}
	if o.Rate < 0 {
		faults = append(faults, fmt.Errorf("rate is %v; it cannot be negative", o.Rate))
	}
	if o.Limit < 0 {
		faults = append(faults, fmt.Errorf("limit is %d; it cannot be negative", o.Limit))
	}
	return errors.Join(faults...)
}

// Progress is how far an order is.
type Progress struct {
	// Total is how many letters the queue held at the beginning, Examined how
	// many of them have been looked at. A queue of messages says how many
	// messages it holds, approximately, until all of it has been looked at.
	Total    int `json:"total"`
	Examined int `json:"examined"`
	// Matched were selected by the filter; Done have been dealt with.
	Matched int `json:"matched"`
	Done    int `json:"done"`
	// Refused could not be dealt with and stay where they are; Reason says why
	// the first of them was refused.
	Refused int    `json:"refused,omitempty"`
	Reason  string `json:"reason,omitempty"`
	// Kept were dealt with and are in the queue still, each in a message with
	// letters that were not: they come again with the next order.
	Kept int `json:"kept,omitempty"`
	// Sample is the first few that matched, if the order is a dry run.
	Sample []Letter `json:"sample,omitempty"`
}
