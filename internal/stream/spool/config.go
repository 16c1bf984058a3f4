package spool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
)

// Config of a Spool. The zero value of a field stands for its default.
type Config struct {
	// Patience is how long a bucket, or all calls, must have been failing
	// before records go to the log: until then the failure is the caller's, who
	// tries again. It counts from the begin of the first attempt of those that
	// failed in a row. Default 500 ms.
	Patience time.Duration
	// CallTimeout bounds one call to the stream. A caller's context bounds it
	// too, but for a quarter of its time that is left for the log. Default 5
	// seconds.
	CallTimeout time.Duration

	// MaxCallRecords and MaxCallBytes limit what one call of the drain carries;
	// bytes are data and partition keys. Defaults 500 and 5 MiB.
	MaxCallRecords int
	MaxCallBytes   int
	// MergedBytes is up to which size, data and partition key, the records of a
	// bucket that wait one behind another become one on their way to the stream,
	// in the format stream.KPL. It is for streams whose readers know aggregates,
	// and at most what the stream takes of a record. Default 0: each stays
	// as it is.
	MergedBytes int
	// MaxWindowBytes bounds the memory of records between the log and the
	// stream. It may be exceeded by one entry of the log, and by what is merged for
	// a call. Default 8 MiB.
	MaxWindowBytes int

	// Retry says how long a bucket rests after its record failed in the drain,
	// and all of them after a call that failed as a whole; attempts have no
	// bound. Default: from 50 ms, to 2 s.
	Retry retry.Policy
	// RetriesPerSecond bounds the calls of the drain that follow one which
	// stored nothing; up to RetryBurst may be saved up. So in any T seconds in
	// which the stream takes nothing there are at most
	//
	//	1 + RetryBurst + RetriesPerSecond·T
	//
	// calls, whatever the number of buckets. Defaults 5 and 10.
	RetriesPerSecond float64
	RetryBurst       int

	// Refused is given records of the log that the stream will never take: they
	// are too large for it, which a caller would have been told. When it returns
	// nil the record is durable elsewhere, and leaves the spool. Otherwise, and
	// if Refused is nil, it stays, is tried again and holds up its bucket.
	Refused func(ctx context.Context, r stream.Record, cause error) error
}

func (c Config) withDefaults() Config {
	set(&c.Patience, 500*time.Millisecond)
	set(&c.CallTimeout, 5*time.Second)
	set(&c.MaxCallRecords, 500)
	set(&c.MaxCallBytes, 5<<20)
	set(&c.MaxWindowBytes, 8<<20)
	set(&c.Retry.BaseDelay, 50*time.Millisecond)
	set(&c.Retry.MaxDelay, max(2*time.Second, c.Retry.BaseDelay))
	set(&c.RetriesPerSecond, 5)
	set(&c.RetryBurst, 10)
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
	check(c.Patience > 0, "Patience is %v: want more than 0", c.Patience)
	check(c.CallTimeout > 0, "CallTimeout is %v: want more than 0", c.CallTimeout)
	check(c.MaxCallRecords >= 1, "MaxCallRecords is %d: want 1 or more", c.MaxCallRecords)
	check(c.MaxCallBytes >= 1, "MaxCallBytes is %d: want 1 or more", c.MaxCallBytes)
	check(c.MergedBytes >= 0, "MergedBytes is %d: want 0 (not merged) or more", c.MergedBytes)
	check(c.MaxWindowBytes >= 1, "MaxWindowBytes is %d: want 1 or more", c.MaxWindowBytes)
	check(c.Retry.MaxAttempts == 0, "Retry.MaxAttempts is %d: want 0, what is spooled is not given up", c.Retry.MaxAttempts)
	check(c.Retry.BaseDelay > 0, "Retry.BaseDelay is %v: want more than 0", c.Retry.BaseDelay)
	check(c.Retry.MaxDelay >= c.Retry.BaseDelay, "Retry.MaxDelay is %v: want at least BaseDelay (%v)", c.Retry.MaxDelay, c.Retry.BaseDelay)
	check(c.RetriesPerSecond > 0, "RetriesPerSecond is %v: want more than 0", c.RetriesPerSecond)
	check(c.RetryBurst >= 1, "RetryBurst is %d: want 1 or more", c.RetryBurst)
	return errors.Join(faults...)
}
