package streamtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
)

// Func is a stream made of a function.
type Func func(ctx context.Context, records []stream.Record) ([]stream.Result, error)

// PutRecords calls f.
func (f Func) PutRecords(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
	return f(ctx, records)
}

// counter numbers calls from 1.
type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) next() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

// LostReply stores the records of the first calls and then loses the answer:
// the caller gets err.
func LostReply(s Stream, calls int, err error) Stream {
	var c counter
	return Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
		results, storeErr := s.PutRecords(ctx, records)
		if storeErr == nil && c.next() <= calls {
			return nil, err
		}
		return results, storeErr
	})
}

// LostRequest loses the first calls before anything is stored: to the caller
// it looks like LostReply.
func LostRequest(s Stream, calls int, err error) Stream {
	var c counter
	return Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
		if c.next() <= calls {
			return nil, err
		}
		return s.PutRecords(ctx, records)
	})
}

// FailRecords stores only the records for which pick returns nil; the others
// get its error as their result. Calls are numbered from 1, records in a call
// from 0.
func FailRecords(s Stream, pick func(call, i int, r stream.Record) error) Stream {
	var c counter
	return Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
		call := c.next()
		results := make([]stream.Result, len(records))
		var stored []stream.Record
		var places []int
		for i, r := range records {
			if err := pick(call, i, r); err != nil {
				results[i].Err = err
				continue
			}
			stored = append(stored, r)
			places = append(places, i)
		}
		if len(stored) == 0 {
			return results, nil
		}
		got, err := s.PutRecords(ctx, stored)
		if err != nil {
			return nil, err
		}
		for i, place := range places {
			results[place] = got[i]
		}
		return results, nil
	})
}

// Throttle refuses every record of the first calls and asks for a wait.
func Throttle(s Stream, calls int, wait time.Duration) Stream {
	return FailRecords(s, func(call, _ int, _ stream.Record) error {
		if call > calls {
			return nil
		}
		return &fault.Error{Kind: fault.Throttled, Detail: "throttled", RetryAfter: wait}
	})
}

// Slow takes so long for every call. If ctx is done earlier, nothing is stored
// and the call fails.
func Slow(s Stream, d time.Duration) Stream {
	return Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
		if err := retry.Sleep(ctx, d); err != nil {
			return nil, err
		}
		return s.PutRecords(ctx, records)
	})
}

// Down refuses every record until a time.
func Down(s Stream, until time.Time) Stream {
	return FailRecords(s, func(int, int, stream.Record) error {
		if time.Now().Before(until) {
			return fault.New(fault.Unavailable, "down")
		}
		return nil
	})
}

// Watch fails the test when a partition key is in two calls at the same time,
// or a record is over the limit. Put it around everything else.
func Watch(t testing.TB, s Stream, limits Limits) Stream {
	var mu sync.Mutex
	inFlight := map[string]bool{}
	return Func(func(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
		mu.Lock()
		for _, r := range records {
			if inFlight[r.PartitionKey] {
				t.Errorf("stream: two records of %q in flight", r.PartitionKey)
			}
			inFlight[r.PartitionKey] = true
			if size, most := len(r.PartitionKey)+len(r.Data), limits.MaxRecordBytes; most > 0 && size > most {
				t.Errorf("stream: record of %d bytes, the limit is %d", size, most)
			}
		}
		mu.Unlock()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			for _, r := range records {
				delete(inFlight, r.PartitionKey)
			}
		}()
		return s.PutRecords(ctx, records)
	})
}
