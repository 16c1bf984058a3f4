package delivery

import (
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/eventsluice/sluice/internal/connector/guard"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/telemetry/tracing"
)

// Start is where a destination without a State begins.
type Start string

// The starts.
const (
	StartOldest Start = "oldest"
	StartNow    Start = "now"
)

// Ambiguous is what happens to an event whose delivery was written and not
// answered, at a destination that does not know duplicates.
type Ambiguous = guard.Ambiguous

// Config says how a destination is delivered to. The zero value of every field
// but Destination takes its default.
type Config struct {
	// Destination is the name of the destination. Required.
	Destination string
	// Retry bounds the attempts of an event. Default: those of guard.Patience,
	// more than a day. Attempts are only those made for the event: while the
	// whole destination is in trouble (see gate) events wait without using up
	// any.
	Retry retry.Policy
	// Concurrency is the most calls in flight. Default 8, and never more than
	// the connector's Limits.MaxConcurrency. While the destination throttles there
	// are fewer, see package budget.
	Concurrency int
	// Rate is the most events per second, Burst the most at once. Zero is no
	// bound; the default Burst is one second's worth, at least 1. While the
	// destination throttles it is less, see package budget.
	Rate  rate.Limit
	Burst int
	// Start is where a new destination begins. Default StartOldest.
	Start Start
	// Ambiguous is what to do after an ambiguous outcome if the connector's
	// Limits say that the destination does not deduplicate. Default
	// guard.AmbiguousDead.
	Ambiguous Ambiguous
	// MaxPendingEvents and MaxPendingBytes bound the events in memory that
	// wait for their first attempt. When one is reached, reading stops. A
	// single entry of the stream may exceed them. Defaults 16,384 and 16 MiB.
	//
	// A destination whose connector has Limits.Linger holds its share of this
	// memory most of the time. Its events wait no longer once the share is full,
	// so that calls may carry less than Limits.MaxEvents where that times the
	// Concurrency is more than the share.
	MaxPendingEvents int
	MaxPendingBytes  int
	// MaxParked bounds the index of parked events in memory, about 250 bytes
	// each. When it is reached, reading stops and events wait on the stream;
	// those in memory at that time may still be parked. Default 10,000.
	MaxParked int
	// CommitInterval is how often the State is saved at most. A crash repeats
	// the deliveries of at most that long. Default 200 ms.
	CommitInterval time.Duration
	// Tracer makes a span per call, with links to the spans that the events in
	// it carry. Nil: none.
	Tracer *tracing.Tracer
	// Drain is how long calls in flight may take when Run is told to stop.
	// Default 5 s.
	Drain time.Duration
}

func (c Config) withDefaults() Config {
	orDefault := func(n *int, d int) {
		if *n == 0 {
			*n = d
		}
	}
	c.Retry = guard.Patience(c.Retry)
	orDefault(&c.Concurrency, 8)
	orDefault(&c.MaxPendingEvents, 16<<10)
	orDefault(&c.MaxPendingBytes, 16<<20)
	orDefault(&c.MaxParked, 10_000)
	if c.Rate == 0 {
		c.Rate = rate.Inf
	}
	if c.Burst == 0 && c.Rate != rate.Inf {
		c.Burst = int(max(1, min(math.Ceil(float64(c.Rate)), math.MaxInt32)))
	}
	if c.Start == "" {
		c.Start = StartOldest
	}
	if c.CommitInterval == 0 {
		c.CommitInterval = 200 * time.Millisecond
	}
	if c.Drain == 0 {
		c.Drain = 5 * time.Second
	}
	return c
}

// Validate reports every field that cannot be used.
func (c Config) Validate() error {
	var faults []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	bad(c.Destination == "", "destination has no name")
	bad(c.Retry.MaxAttempts < 0, "retry.max_attempts is %d; at least 1 is right", c.Retry.MaxAttempts)
	bad(c.Retry.BaseDelay < 0, "retry.base_delay is %v; it cannot be negative", c.Retry.BaseDelay)
	bad(c.Retry.MaxDelay < 0, "retry.max_delay is %v; it cannot be negative", c.Retry.MaxDelay)
	bad(c.Retry.MaxDelay > 0 && c.Retry.MaxDelay < c.Retry.BaseDelay,
		"retry.max_delay is %v; it must be at least base_delay, %v", c.Retry.MaxDelay, c.Retry.BaseDelay)
	bad(c.Concurrency < 0, "concurrency is %d; at least 1 is right", c.Concurrency)
	bad(c.Rate < 0, "rate.per_second is %v; it cannot be negative", float64(c.Rate))
	bad(c.Burst < 0, "rate.burst is %d; at least 1 is right", c.Burst)
	bad(c.Start != "" && c.Start != StartOldest && c.Start != StartNow, "start is %q; oldest or now is right", c.Start)
	bad(!c.Ambiguous.Known(), "ambiguous is %q; retry or dead is right", c.Ambiguous)
	bad(c.MaxPendingEvents < 0, "the bound of pending events is %d; at least 1 is right", c.MaxPendingEvents)
	bad(c.MaxPendingBytes < 0, "the bound of pending bytes is %d; at least 1 is right", c.MaxPendingBytes)
	bad(c.MaxParked < 0, "the bound of parked events is %d; at least 1 is right", c.MaxParked)
	bad(c.CommitInterval < 0, "the commit interval is %v; it cannot be negative", c.CommitInterval)
	bad(c.Drain < 0, "the drain time is %v; it cannot be negative", c.Drain)
	return errors.Join(faults...)
}
