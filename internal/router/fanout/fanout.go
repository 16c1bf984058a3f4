// Package fanout takes the records of a shard, in the order of the stream,
// decides by the rules which destinations want each event, and hands the events
// over to them.
//
// What it promises: an event counts as settled only when every destination that
// wants it has accepted it, or when it is durable as a dead letter. Events of
// one partition key are handed to a destination one after another, in the order
// of the stream: the next when the one before is settled. What cannot be settled
// in time is reported by the lowest record that has such an event: from there
// the stream is read again, and nothing before it.
//
// What it assumes: that the records of one partition key are in one batch after
// another, never in two at once. A destination may get an event twice, with the
// same id.
package fanout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/router"
)

// Record is a record of a stream.
type Record struct {
	Shard, Sequence string
	PartitionKey    string
	// Data is an event, or an aggregate of events; see package stream.
	Data      []byte
	ArrivedAt time.Time
	// Stream names the stream.
	Stream string
}

// Message is what a destination is sent at once: one event, or an array of
// events if its rule has a max_batch above 1.
type Message struct {
	Payload []byte
	// Key is the partition key of the events, or one that stands for those of
	// several keys that stay together.
	Key string
	// ID is the same for the same events, and no other's.
	ID string
}

// Sender hands messages to destinations.
type Sender interface {
	// Send makes one attempt. When it returns nil the message is durable at
	// the destination. Of the kinds of its error, Invalid, TooLarge, NotFound
	// and Forbidden say that it was not taken and will not be; after Ambiguous
	// it may have been; all others say that it was not and may be later.
	Send(ctx context.Context, arn string, m Message) error
}

// Claims keeps payloads that are too large to be sent.
type Claims interface {
	// Claim stores a payload and returns what is sent instead. When it returns
	// nil the payload is durable. A key may be claimed again with the same
	// payload.
	Claim(ctx context.Context, key string, payload []byte) (event.Claim, error)
}

// Grave keeps dead letters.
type Grave interface {
	// Bury stores letters and returns an error for each that is not known to be
	// durable, in order. It tries again until ctx is done.
	Bury(ctx context.Context, letters []deadletter.Letter) []error
}

// Config says how events are handed over. The zero value of a field stands for
// its default.
type Config struct {
	// MaxPayload is the most bytes of a message. Default 1 MiB: the limit of an
	// asynchronous invocation and of an SQS message. Source: Lambda API
	// reference, Invoke; SQS API reference, SendMessage (read 2026-11).
	MaxPayload int
	// MaxInFlight is the most messages on their way at a time. Default 64.
	MaxInFlight int
	// MaxLanes is how many messages of one destination are on their way at a
	// time at most; each partition key has one lane. Default 16.
	MaxLanes int
	// Window is how many events of a batch a message may be ahead of the first one
	// that is not settled: what is sent beyond that is sent again if the time is
	// over before. Default 1,000.
	Window int
	// Retry is how an attempt that failed is followed by another, until the
	// time is over. Default: from 50 ms up to 5 s.
	Retry retry.Policy
	// Reserve is how long before the deadline of a batch sending ends, so that
	// dead letters can be written and the outcome be reported. It is never more
	// than a quarter of the time there is. Default 3 s.
	Reserve time.Duration
	// Log gets what an operator has to act on. Default: none.
	Log *slog.Logger
}

// Validate reports every field that cannot be used.
func (c Config) Validate() error {
	var faults []error
	if c.MaxPayload < 0 {
		faults = append(faults, fmt.Errorf("MaxPayload is %d: want more than 0", c.MaxPayload))
	}
	if c.MaxInFlight < 0 {
		faults = append(faults, fmt.Errorf("MaxInFlight is %d: want more than 0", c.MaxInFlight))
	}
	if c.MaxLanes < 0 {
		faults = append(faults, fmt.Errorf("MaxLanes is %d: want more than 0", c.MaxLanes))
	}
	if c.Window < 0 {
		faults = append(faults, fmt.Errorf("Window is %d: want more than 0", c.Window))
	}
	if c.Reserve < 0 {
		faults = append(faults, fmt.Errorf("Reserve is %v: want more than 0", c.Reserve))
	}
	return errors.Join(faults...)
}

func (c Config) withDefaults() Config {
	c.MaxPayload = cmp.Or(c.MaxPayload, 1<<20)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 64)
	c.MaxLanes = cmp.Or(c.MaxLanes, 16)
	c.Window = cmp.Or(c.Window, 1000)
	c.Reserve = cmp.Or(c.Reserve, 3*time.Second)
	c.Retry.BaseDelay = cmp.Or(c.Retry.BaseDelay, 50*time.Millisecond)
	c.Retry.MaxDelay = cmp.Or(c.Retry.MaxDelay, 5*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Fanout hands events over. Its methods are safe for concurrent use.
type Fanout struct {
	cfg    Config
	send   Sender
	claims Claims // nil: none
	grave  Grave  // nil: none
	slots  chan struct{}

	mu sync.Mutex
	// planned is the table that plan was made of.
	planned *router.Table
	plan    []target
	memo    memo
}

// New returns a Fanout. claims may be nil: then what is too large is a dead
// letter. grave may be nil: then what would be a dead letter is not settled.
func New(send Sender, claims Claims, grave Grave, cfg Config) (*Fanout, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &Fanout{cfg: cfg, send: send, claims: claims, grave: grave, slots: make(chan struct{}, cfg.MaxInFlight)}, nil
}

// target is a destination of a table.
type target struct {
	name  string
	route *router.Route
	rules map[string]*router.Rule // by Rule.Name
}

// targets returns the destinations of a table.
func (f *Fanout) targets(table *router.Table) []target {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.planned == table {
		return f.plan
	}
	var plan []target
	for _, name := range table.Destinations() {
		plan = append(plan, target{name: name, route: table.Route(name), rules: map[string]*router.Rule{}})
	}
	for _, r := range table.Rules() {
		for i := range plan {
			if plan[i].name == r.Destination {
				plan[i].rules[r.Name] = &r
			}
		}
	}
	f.planned, f.plan = table, plan
	return plan
}

// Counts is what became of events, at one destination.
type Counts struct {
	Routed, Filtered, DeadLetters uint64
}

// Outcome is what became of a batch. Its counts are of the records before the
// one named by Failed, so that a record that is read again is counted once.
type Outcome struct {
	// Failed is the sequence number of the first record that is not settled;
	// empty if all are. Why says what kept it from being.
	Failed string
	Why    error
	// Records and Events were settled. Unreadable events are dead letters of no
	// destination.
	Records    int
	Events     uint64
	Unreadable uint64
	// Destinations are the counts by destination.
	Destinations map[string]Counts
	// Sends are the messages that were accepted, Attempts those that were tried.
	Sends, Attempts uint64
	// Residual is what the counts miss: at each destination every event that
	// could be read is routed, filtered or a dead letter.
	Residual uint64
}

// Process hands the events of a batch over. It returns before the deadline of
// ctx.
func (f *Fanout) Process(ctx context.Context, table *router.Table, records []Record) Outcome {
	b := &batch{f: f, records: records, targets: f.targets(table)}
	b.read()
	within(ctx, f.cfg.Reserve, b.dispatch)
	within(ctx, f.cfg.Reserve/4, b.bury)
	return b.outcome()
}

// within calls do with a context that ends before that of the batch, by a reserve
// that is at most a quarter of the time there is.
func within(ctx context.Context, reserve time.Duration, do func(context.Context)) {
	if deadline, ok := ctx.Deadline(); ok {
		bounded, stop := context.WithDeadline(ctx, deadline.Add(-min(reserve, time.Until(deadline)/4)))
		defer stop()
		ctx = bounded
	}
	do(ctx)
}
