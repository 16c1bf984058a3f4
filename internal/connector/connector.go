// Package connector is the contract between the delivery loop and a
// destination, and the classes of outcome that the loop acts on.
//
// A connector turns events into calls (Plan: pure, no I/O, no clock) and makes
// one call (Send). It keeps no queue, retries nothing and waits for nothing:
// the delivery loop does, the same way for every destination. Each connector
// has a folder of its own below this one and passes connectortest.Run.
package connector

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/eventsluice/sluice/internal/event"
)

// Class is the outcome of one event in one call.
type Class uint8

const (
	// Retryable is the zero value: what nobody has classified is tried again.
	Retryable Class = iota
	// Delivered: the destination has it.
	Delivered
	// Duplicate: the destination had it already. Counts as delivered.
	Duplicate
	// Dropped: the mapping chose not to send it. Counts as filtered.
	Dropped
	// Permanent: this event can never be accepted as it is. A dead letter.
	Permanent
	// TooLarge: the call was over a limit of the destination. It is split;
	// an event that is too large alone becomes a dead letter.
	TooLarge
	// Auth: credentials, address or schema of the destination are wrong. The
	// destination pauses and keeps its events; nothing is lost.
	Auth
	// Throttled: the whole destination has to wait.
	Throttled
	// Ambiguous: the call was written and its answer lost; the destination
	// may have the event.
	Ambiguous
)

var classNames = [...]string{
	Retryable: "retryable", Delivered: "delivered", Duplicate: "duplicate", Dropped: "dropped",
	Permanent: "permanent", TooLarge: "too_large", Auth: "auth", Throttled: "throttled", Ambiguous: "ambiguous",
}

// String returns the name used in logs, metrics and dead letters.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Settled reports whether nothing more needs to be done for the event.
func (c Class) Settled() bool { return c == Delivered || c == Duplicate || c == Dropped }

// Result is the outcome of one event.
type Result struct {
	Class Class
	// Code and Message say what the destination (or the mapping) objected to.
	// They hold no secret and at most 1 KiB.
	Code, Message string
	// Status is the HTTP status, zero where there is none.
	Status int
	// RetryAfter is the wait that the destination asked for, zero if none.
	RetryAfter time.Duration
	// Request and Response are excerpts of the last call for the dead letter,
	// secrets masked, at most 4 KiB each. They may be left empty on success.
	Request, Response string
}

// Delivery is one event on its way to one destination.
type Delivery struct {
	// Event is the event after the rule's transform; Raw is its stored form.
	Event event.Event
	Raw   []byte
	// Rule names the rule that wanted it. Attempt is 1 for the first.
	Rule    string
	Attempt int
}

// Call is one request to a destination, prepared by Plan.
type Call struct {
	// Events are indexes into the slice given to Plan, in its order.
	Events []int
	// Payload is the connector's own.
	Payload any
}

// Plan is what Plan made of some events: calls to be sent in order, and the
// results of those events that need no call. Every event is in exactly one of
// the two.
type Plan struct {
	Calls []Call
	Done  []Done
}

// Done is the result of an event that needed no call.
type Done struct {
	Event  int // index into the slice given to Plan
	Result Result
}

// Limits are what a destination allows; the delivery loop keeps them.
type Limits struct {
	// MaxEvents is the most events that Plan wants to see at once. At least 1.
	MaxEvents int
	// MaxConcurrency is the most calls in flight; zero means that the
	// configuration decides.
	MaxConcurrency int
	// Dedups says that the destination ignores an event id it has seen, so
	// that an ambiguous outcome may be tried again without harm.
	Dedups bool
	// Timeout bounds one Send. Zero means 30 seconds.
	Timeout time.Duration
	// Linger is how long an event may wait for others before its first
	// attempt, so that a call carries many: for destinations that want few large
	// calls, such as files. The wait ends when there are MaxEvents. Zero: nothing
	// waits. A host that keeps nothing between two batches has a batching window
	// instead, and does not look at it.
	Linger time.Duration
}

// Connector delivers to one destination. Its methods are safe for concurrent
// use.
type Connector interface {
	// Kind is the connector's name in the destinations file, such as
	// "webhook"; Version changes when the mapping changes.
	Kind() string
	Version() string
	Limits() Limits
	// Plan maps, validates, groups and chunks. It does no I/O, and the same
	// events give the same plan.
	Plan(events []Delivery) Plan
	// Send makes one call and returns one result per event of the call, in
	// order. It returns when ctx is done at the latest. It never panics on an
	// answer, however malformed.
	Send(ctx context.Context, call Call) []Result
	// Close releases what the connector holds, after the last Send returned.
	Close() error
}

// Checker is a Connector that can ask its destination whether address,
// credentials and schema are right, without sending an event.
type Checker interface {
	// Check makes a few calls that change nothing. Delivered means that all is
	// well as far as the destination says; Message says in words what was found,
	// also then.
	Check(ctx context.Context) Result
}

// Tester is a Connector whose destination has a way of its own to try an event
// out, such as an endpoint that validates and keeps nothing. Others are tested
// with a real delivery.
type Tester interface {
	// Test tries one event. Message explains the answer, also if it is good.
	Test(ctx context.Context, d Delivery) Result
}

// Dial makes a connection, as net.Dialer.DialContext.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Spec is what a connector says of itself: to the registry, which makes it, and
// to the operator, who looks for one.
type Spec struct {
	// Kind is the connector's name in the destinations file.
	Kind string
	// Summary says in one line, without a full stop, where events go.
	Summary string
	// Settings is a struct with the defaults of the settings. Each field has the
	// tags `json` (the name of the setting), `validate` and `doc` (what it means,
	// in one line).
	Settings any
	// Dedup says by what the destination recognizes an event that it has, "none"
	// if it does not. Order says whether it keeps events of a user in order, and
	// Limits what it takes at once and per second. Each in one line.
	Dedup, Order, Limits string
	New                  Factory
}

// Env is what a connector gets from the program around it.
type Env struct {
	// Destination is the name in the destinations file.
	Destination string
	// DataDir is the folder where the embedded warehouse lives.
	DataDir string
	Log     *slog.Logger
	// Dial, if it is set, makes the connections of HTTP connectors: tests have
	// a destination in memory. It does not ask whether an address is private.
	Dial Dial
}

// Logger returns Log, or one that discards everything.
func (e Env) Logger() *slog.Logger {
	if e.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return e.Log
}

// Factory makes a connector from the settings of a destination. The error
// names every setting that is wrong; it does not connect.
type Factory func(settings json.RawMessage, env Env) (Connector, error)

// Spread returns the result of each event from those of the inputs of a call that
// events became together; inputs has the index of each event's. Of events that
// share an input one may be to blame if it is refused: they are TooLarge, so that
// they are sent apart.
func Spread(inputs []int, byInput []Result) []Result {
	shared := make([]int, len(byInput))
	for _, input := range inputs {
		shared[input]++
	}
	results := make([]Result, len(inputs))
	for i, input := range inputs {
		results[i] = byInput[input]
		if shared[input] > 1 && results[i].Class == Permanent {
			results[i].Class = TooLarge
		}
	}
	return results
}

// All returns n results that are the same.
func All(n int, r Result) []Result {
	results := make([]Result, n)
	for i := range results {
		results[i] = r
	}
	return results
}
