package producer

import (
	"errors"
	"fmt"
	"time"

	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/telemetry/tracing"
)

// Config of a Producer. The zero value of a field stands for its default.
type Config struct {
	// Buckets is the number of buckets that partition keys are spread over. A
	// record holds events of one bucket, and one record of a bucket is in
	// flight at a time: more buckets mean more records in a call and fewer
	// events in each. To change it moves keys to other buckets; order across
	// the change is kept if the old producer has stopped before the new one
	// starts. Default 16.
	Buckets int
	// Keys are the partition keys of the buckets on the stream, one for each.
	// Default: those of BucketKey. A stream that places records by a hash of
	// their key is served evenly by those of SpreadKeys.
	Keys []string
	// Format is how events share a record. Default stream.KPL.
	Format stream.Format
	// OneEventPerRecord writes each event as a record of its own, for readers
	// that know no aggregates. It needs many buckets to be fast.
	OneEventPerRecord bool

	// MaxCallRecords and MaxCallBytes limit what one PutRecords call carries;
	// bytes are data and partition keys. Defaults 500 and 5 MiB, the limits of
	// Kinesis (the latter was raised to 10 MiB in 2025).
	MaxCallRecords int
	MaxCallBytes   int
	// MaxRecordBytes limits one record, data and partition key. An event that
	// does not fit fails as too large. Default 1 MiB, the default of Kinesis.
	MaxRecordBytes int
	// FullRecordBytes is when a record takes no further event, though one event
	// may be larger. What readers get again after a failure is as large as a
	// record. Default MaxRecordBytes.
	FullRecordBytes int
	// MaxInFlightCalls is how many calls run at once. More than one pays where
	// a call takes long and costs little. Default 1.
	MaxInFlightCalls int
	// Stagger is the least time between the starts of two calls while one is in
	// flight. About what a call takes, it makes the call in flight the linger of
	// the next also where several may run: only one that takes long is not
	// waited for by the buckets that are not in it. Default 0.
	Stagger time.Duration
	// MaxBufferedBytes bounds the memory that holds events, from Put until
	// their fate is known. Over it, Put turns events away at once. Buffers
	// grow by a quarter at a time, so what is held may exceed it by as much.
	// Default 64 MiB.
	MaxBufferedBytes int

	// CallTimeout bounds one PutRecords call; after it the fate of its records
	// is unknown. Default 10 seconds.
	CallTimeout time.Duration
	// DrainTimeout is how long Run keeps writing what it has taken after its
	// context is done. Default 10 seconds.
	DrainTimeout time.Duration

	// RetryAfter, if not nil, is asked how long senders should wait whose events
	// the stream does not take; zero if it does not know. Default: an estimate
	// from how fast events became durable of late.
	RetryAfter func() time.Duration
	// Retry says how patiently a record is written again. Default: from 50 ms,
	// to 2 s, without a bound on attempts: as long as a sender waits. With a
	// bound, records known not to be stored are given up at it.
	Retry retry.Policy
	// RetriesPerSecond is the retry budget, shared by all buckets: over it
	// retries wait longer than Retry says. Up to RetryBurst may be saved up.
	// Defaults: 10 for each bucket, and twice that.
	RetriesPerSecond float64
	RetryBurst       int

	// Tracer makes a span per call, with links to the spans of the requests in
	// it. Nil: none.
	Tracer *tracing.Tracer
}

func (c Config) withDefaults() Config {
	if c.Keys != nil {
		set(&c.Buckets, len(c.Keys))
	}
	set(&c.Buckets, 16)
	set(&c.MaxCallRecords, 500)
	set(&c.MaxCallBytes, 5<<20)
	set(&c.MaxRecordBytes, 1<<20)
	set(&c.FullRecordBytes, c.MaxRecordBytes)
	set(&c.MaxInFlightCalls, 1)
	set(&c.MaxBufferedBytes, 64<<20)
	set(&c.CallTimeout, 10*time.Second)
	set(&c.DrainTimeout, 10*time.Second)
	set(&c.Retry.BaseDelay, 50*time.Millisecond)
	set(&c.Retry.MaxDelay, max(2*time.Second, c.Retry.BaseDelay))
	set(&c.RetriesPerSecond, 10*float64(c.Buckets))
	set(&c.RetryBurst, max(1, int(2*c.RetriesPerSecond)))
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports every setting that cannot be used.
func (c Config) Validate() error {
	c = c.withDefaults()
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(c.Buckets >= 1 && c.Buckets <= MaxBuckets, "Buckets is %d: want 1 to %d", c.Buckets, MaxBuckets)
	check(c.Keys == nil || len(c.Keys) == c.Buckets, "Keys has %d keys: want one for each of the %d buckets", len(c.Keys), c.Buckets)
	check(c.Format <= stream.Framed, "Format is %d: unknown", c.Format)
	check(c.MaxCallRecords >= 1, "MaxCallRecords is %d: want 1 or more", c.MaxCallRecords)
	check(c.MaxRecordBytes >= 64, "MaxRecordBytes is %d: want 64 or more", c.MaxRecordBytes)
	check(c.FullRecordBytes >= 64 && c.FullRecordBytes <= c.MaxRecordBytes, "FullRecordBytes is %d: want 64 to MaxRecordBytes (%d)", c.FullRecordBytes, c.MaxRecordBytes)
	check(c.MaxCallBytes >= c.MaxRecordBytes, "MaxCallBytes is %d: want at least MaxRecordBytes (%d)", c.MaxCallBytes, c.MaxRecordBytes)
	check(c.MaxInFlightCalls >= 1, "MaxInFlightCalls is %d: want 1 or more", c.MaxInFlightCalls)
	check(c.Stagger >= 0, "Stagger is %v: want 0 or more", c.Stagger)
	check(c.MaxBufferedBytes >= c.MaxRecordBytes, "MaxBufferedBytes is %d: want at least MaxRecordBytes (%d)", c.MaxBufferedBytes, c.MaxRecordBytes)
	check(c.CallTimeout > 0, "CallTimeout is %v: want more than 0", c.CallTimeout)
	check(c.DrainTimeout > 0, "DrainTimeout is %v: want more than 0", c.DrainTimeout)
	check(c.Retry.MaxAttempts >= 0, "Retry.MaxAttempts is %d: want 0 (no bound) or more", c.Retry.MaxAttempts)
	check(c.Retry.BaseDelay > 0, "Retry.BaseDelay is %v: want more than 0", c.Retry.BaseDelay)
	check(c.Retry.MaxDelay >= c.Retry.BaseDelay, "Retry.MaxDelay is %v: want at least BaseDelay (%v)", c.Retry.MaxDelay, c.Retry.BaseDelay)
	check(c.RetriesPerSecond > 0, "RetriesPerSecond is %v: want more than 0", c.RetriesPerSecond)
	check(c.RetryBurst >= 1, "RetryBurst is %d: want 1 or more", c.RetryBurst)
	return errors.Join(faults...)
}
