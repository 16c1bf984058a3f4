package streamtest

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
)

// Weather is a stream that fails at random, for simulations. It knows what it
// did to each event, which must differ in their bytes.
type Weather struct {
	inner Stream
	cfg   WeatherConfig

	mu      sync.Mutex
	late    int       // stores that are still to come
	calm    sync.Cond // on mu: late is 0
	rng     *rand.Rand
	faulty  float64
	dead    bool
	unknown map[string]int // event: attempts whose fate was not told
	stored  int            // events of records that were answered as stored
}

// WeatherConfig says how bad it is. What is nil or zero does not happen.
type WeatherConfig struct {
	// Limit is the most bytes of data that a record may have.
	Limit int
	// Faulty is the share of calls that have some trouble.
	Faulty float64
	// Down refuses all records, Throttled those of a bucket. Away loses calls
	// before anything is stored.
	Down, Away func(time.Time) bool
	Throttled  func(time.Time, stream.Record) bool
}

// NewWeather returns a stream that stores what it takes in another.
func NewWeather(inner Stream, rng *rand.Rand, cfg WeatherConfig) *Weather {
	w := &Weather{inner: inner, cfg: cfg, rng: rng, faulty: cfg.Faulty, unknown: map[string]int{}}
	w.calm.L = &w.mu
	return w
}

// Unknown returns how many attempts with an event had an outcome that was not
// told.
func (w *Weather) Unknown(event []byte) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unknown[string(event)]
}

// Stored returns the events of the records that were answered as stored.
func (w *Weather) Stored() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stored
}

// Clear ends the random trouble, and returns when nothing is on its way.
func (w *Weather) Clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faulty = 0
	for w.late > 0 {
		w.calm.Wait()
	}
}

// Crash is the end of the process that calls: nothing more is stored.
func (w *Weather) Crash() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
}

var errCrashed = errors.New("the process has crashed")

// hide notes that the fate of records is not told. mu is held.
func (w *Weather) hide(records ...stream.Record) {
	for _, r := range records {
		for _, data := range stream.Deaggregate(r) {
			w.unknown[string(data)]++
		}
	}
}

// lose is an answer that tells nothing.
func (w *Weather) lose(records []stream.Record, err error) ([]stream.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hide(records...)
	return nil, err
}

// PutRecords stores records, or not.
func (w *Weather) PutRecords(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
	w.mu.Lock()
	took := time.Duration(w.rng.IntN(20)) * time.Millisecond
	trouble := w.rng.Float64() < w.faulty
	whole, hangs := w.rng.IntN(8), w.rng.IntN(3) == 0
	delay := time.Duration(w.rng.IntN(300)) * time.Millisecond
	w.mu.Unlock()
	if err := retry.Sleep(ctx, took); err != nil {
		return w.lose(records, err)
	}
	now := time.Now()
	switch {
	case w.cfg.Away != nil && w.cfg.Away(now):
		if hangs {
			<-ctx.Done()
		}
		return w.lose(records, errors.New("connection refused"))
	case w.cfg.Down != nil && w.cfg.Down(now):
		return each(records, fault.New(fault.Unavailable, "down")), nil
	case !trouble:
	case whole == 0: // the reply is lost
		w.store(ctx, records)
		return w.lose(records, errors.New("connection reset"))
	case whole == 1: // the request is lost
		return w.lose(records, fault.New(fault.Throttled, "whatever it says"))
	case whole == 2: // it hangs, and is stored after the caller has given up
		copies := slices.Clone(records)
		for i := range copies {
			copies[i].Data = slices.Clone(copies[i].Data)
		}
		<-ctx.Done()
		w.mu.Lock()
		w.late++
		w.mu.Unlock()
		go func() {
			time.Sleep(delay)
			w.store(context.WithoutCancel(ctx), copies)
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.late--; w.late == 0 {
				w.calm.Broadcast()
			}
		}()
		return w.lose(records, ctx.Err())
	case whole == 3: // everything is throttled
		return each(records, &fault.Error{Kind: fault.Throttled, RetryAfter: 200 * time.Millisecond}), nil
	}
	return w.partly(ctx, records, trouble)
}

// store stores what the stream can take and tells nobody.
func (w *Weather) store(ctx context.Context, records []stream.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	records = slices.DeleteFunc(slices.Clone(records), func(r stream.Record) bool { return len(r.Data) > w.cfg.Limit })
	if len(records) > 0 && !w.dead {
		_, _ = w.inner.PutRecords(ctx, records)
	}
}

// partly stores some records and refuses others.
func (w *Weather) partly(ctx context.Context, records []stream.Record, trouble bool) ([]stream.Result, error) {
	results := make([]stream.Result, len(records))
	var keep []stream.Record
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return nil, errCrashed
	}
	events := 0
	for i, r := range records {
		if len(r.Data) > w.cfg.Limit {
			results[i].Err = fault.New(fault.TooLarge, "limit %d", w.cfg.Limit)
			continue
		}
		if w.cfg.Throttled != nil && w.cfg.Throttled(time.Now(), r) {
			results[i].Err = fault.New(fault.Throttled, "shard at capacity")
			continue
		}
		if !trouble || w.rng.IntN(2) == 0 {
			keep = append(keep, r)
			events += r.Events
			continue
		}
		switch w.rng.IntN(4) {
		case 0:
			results[i].Err = fault.New(fault.Throttled, "shard at capacity")
		case 1:
			results[i].Err = fault.New(fault.Unavailable, "no leader")
		case 2:
			results[i].Err = errors.New("internal failure") // not stored, nobody knows
			w.hide(r)
		case 3:
			results[i].Err = fault.New(fault.Ambiguous, "no quorum in time") // stored, nobody knows
			w.hide(r)
			keep = append(keep, r)
		}
	}
	if len(keep) > 0 {
		if _, err := w.inner.PutRecords(ctx, keep); err != nil {
			w.hide(records...)
			return nil, err
		}
	}
	w.stored += events
	return results, nil
}

func each(records []stream.Record, err error) []stream.Result {
	results := make([]stream.Result, len(records))
	for i := range results {
		results[i].Err = err
	}
	return results
}
