package spool

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
)

// sender makes the calls of the drain, one at a time.
type sender struct {
	// turn is the place in window.present where the next call begins.
	turn int
	// whole counts the calls in a row that failed as a whole; until is when the
	// next call may be made.
	whole int
	until time.Time
}

// sweepEvery is the least time between two discards: what a crash in between
// makes the next process write again.
const sweepEvery = 100 * time.Millisecond

// lastSweep bounds the discard with which Run ends.
const lastSweep = 5 * time.Second

// Run drains the log onto the stream until ctx is done. Then it waits for the
// call in flight and returns; what is in the log stays there for the next
// process. It is called once.
func (s *Spool) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return errors.New("spool: Run called twice")
	}
	s.running = true
	s.mu.Unlock()

	var group sync.WaitGroup
	group.Go(func() { s.read(ctx) })
	group.Go(func() { s.send(ctx) })
	group.Go(func() { s.sweep(ctx) })
	group.Wait()

	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSweep)
	defer cancel()
	if err := s.discard(last); err != nil {
		s.logger.Warn("what is on the stream stays in the spool, and is written again at the next start", slog.Any("error", err))
	}
	return nil
}

// send makes calls until ctx is done.
func (s *Spool) send(ctx context.Context) {
	var call drainCall
	for ctx.Err() == nil {
		s.mu.Lock()
		wait := s.gather(&call, time.Now())
		s.mu.Unlock()
		if len(call.buckets) == 0 {
			sleep(ctx, s.wakeSender, wait)
			continue
		}
		began := time.Now()
		// The call in flight outlives ctx: its outcome would be unknown.
		callCtx, cancel := s.callContext(context.WithoutCancel(ctx))
		results, err := callStream(callCtx, s.stream, call.records)
		cancel()
		s.mu.Lock()
		refused := s.land(&call, results, err, began)
		s.mu.Unlock()
		s.hand(ctx, refused)
		wake(s.wakeReader)
		wake(s.wakeSweeper)
	}
}

// drainCall is a call of the drain: for each of some buckets the first records
// of its queue, merged into one.
type drainCall struct {
	buckets []*bucket
	records []stream.Record
}

// gather moves the first records of the buckets that may go into a call, as far
// as the limits allow. If there is none, it returns how long until there may
// be one, negative if not by waiting.
func (s *Spool) gather(call *drainCall, now time.Time) (wait time.Duration) {
	clear(call.records)
	call.buckets, call.records = call.buckets[:0], call.records[:0]
	present := s.window.present
	if d := s.sender.until.Sub(now); d > 0 && len(present) > 0 {
		return d
	}
	most := s.cfg.MaxCallRecords
	if s.sender.whole > 0 {
		most = 1 // to see whether the stream is back
	}
	wait = -1
	size := 0
	for i := range present {
		turn := (s.sender.turn + i) % len(present)
		b := present[turn]
		if b.resting(now) {
			if d := b.until.Sub(now); wait < 0 || d < wait {
				wait = d
			}
			continue
		}
		if n := len(call.buckets); n == most || n > 0 && size+sizeOf(&b.queue[0].record) > s.cfg.MaxCallBytes {
			s.sender.turn = turn // it is the first of the next call
			break
		}
		var r stream.Record
		r, b.flying = s.merge(b, s.cfg.MaxCallBytes-size)
		size += sizeOf(&r)
		call.buckets = append(call.buckets, b)
		call.records = append(call.records, r)
	}
	return wait
}

// merge makes one record of the first in a bucket's queue, as far as that
// takes no more than some bytes, and says of how many. Records come to the log
// faster and smaller than to the stream: one by one they would never all leave
// it while others come.
func (s *Spool) merge(b *bucket, most int) (stream.Record, int) {
	const around, each = 40, 14 // more than the format takes for a record and an event
	most = min(most, s.cfg.MergedBytes)
	n, size := 0, 2*len(b.key)+around
	for n < len(b.queue) && size+len(b.queue[n].record.Data)+each <= most {
		size += len(b.queue[n].record.Data) + each
		n++
	}
	if n < 2 || b.alone {
		return b.queue[0].record, 1
	}
	var a stream.Aggregate
	a.Reset(b.key, stream.KPL)
	a.Grow(size)
	for i := range b.queue[:n] {
		for _, event := range stream.Deaggregate(b.queue[i].record) {
			a.Add(event)
		}
	}
	return stream.Record{PartitionKey: b.key, Data: a.Seal(), Events: a.Len()}, n
}

// refusal is a record that the stream will never take.
type refusal struct {
	bucket *bucket
	record stream.Record
	cause  error
}

// land settles the records of a call that ended, or sends their buckets to
// rest. It returns those that were refused, which stay in flight. mu is held.
func (s *Spool) land(call *drainCall, results []stream.Result, whole error, began time.Time) (refused []refusal) {
	now := time.Now()
	s.stats.Calls++
	s.observe(absence(whole, results), nil, nil, began, now)
	if whole != nil {
		s.stats.FailedCalls++
		s.sender.whole++
		s.sender.until = now.Add(s.cfg.Retry.Delay(s.sender.whole, fault.RetryAfter(whole)))
	} else {
		s.sender.whole = 0
	}
	took := 0 // bytes
	for i, b := range call.buckets {
		r := &call.records[i]
		cause := whole
		if whole == nil {
			cause = results[i].Err
		}
		switch {
		case cause == nil:
			took += sizeOf(r)
			s.stats.Drained += uint64(b.flying)
			s.stats.DrainedEvents += uint64(eventsOf(r))
			s.arrived(b)
			continue
		case whole != nil:
			s.stats.Repeated += uint64(eventsOf(r))
			b.flying = 0
			continue // all rest
		case fault.KindOf(cause) == fault.TooLarge:
			s.stats.TooLarge++
			if b.flying > 1 {
				b.alone, b.flying = true, 0
				continue
			}
			refused = append(refused, refusal{b, *r, cause})
			continue
		case fault.KindOf(cause) == fault.Throttled:
			s.stats.Throttled++
		case fault.KindOf(cause) == fault.Unavailable:
			s.stats.Unavailable++
		default:
			s.stats.Ambiguous++
			s.stats.Repeated += uint64(eventsOf(r))
		}
		s.rest(b, cause, began, now)
	}
	if took > 0 {
		s.back(now)
		s.drained.Add(now, took)
		s.lift()
	} else {
		// The budget: see Config.RetriesPerSecond.
		s.sender.until = later(s.sender.until, now.Add(s.budget.ReserveN(now, 1).DelayFrom(now)))
	}
	return refused
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// arrived takes the records of a bucket that were in a call out of the spool.
func (s *Spool) arrived(b *bucket) {
	for ; b.flying > 0; b.flying-- {
		s.settle(b)
	}
	if len(b.queue) == 0 {
		s.leave(b)
	}
	s.tidy(b)
}

// rest notes that the first record of a bucket failed, and when it is tried
// again.
func (s *Spool) rest(b *bucket, cause error, began, now time.Time) {
	b.flying = 0
	if b.failing.IsZero() {
		b.failing = began
	}
	b.attempts++
	b.until = now.Add(s.cfg.Retry.Delay(b.attempts, fault.RetryAfter(cause)))
}

// hand gives refused records to Config.Refused. Those that it does not take
// are tried again.
func (s *Spool) hand(ctx context.Context, refused []refusal) {
	for _, r := range refused {
		err := r.cause
		if s.cfg.Refused != nil {
			err = s.cfg.Refused(ctx, r.record, r.cause)
		}
		now := time.Now()
		s.mu.Lock()
		if err == nil {
			s.stats.Refused += uint64(eventsOf(&r.record))
			s.arrived(r.bucket)
			s.lift()
		} else {
			if !r.bucket.stuck {
				s.logger.Error("the stream will never take a record of the spool: it holds up its bucket",
					slog.String("bucket", r.bucket.key), slog.Int("bytes", sizeOf(&r.record)), slog.Any("error", err))
			}
			s.rest(r.bucket, r.cause, now, now)
			r.bucket.stuck = true
		}
		s.mu.Unlock()
	}
}

// sweep discards from the log what is on the stream, until ctx is done.
func (s *Spool) sweep(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		sleep(ctx, s.wakeSweeper, -1)
		pause := sweepEvery
		if err := s.discard(ctx); err == nil {
			failures = 0
		} else if ctx.Err() == nil {
			if failures++; failures == 1 {
				s.logger.Warn("what is on the stream was not discarded from the spool, trying again", slog.Any("error", err))
			}
			pause += s.cfg.Retry.Delay(failures, 0)
			wake(s.wakeSweeper)
		}
		_ = retry.Sleep(ctx, pause) // the loop looks at ctx
	}
}

// discard removes the entries of which everything is on the stream.
func (s *Spool) discard(ctx context.Context) error {
	s.mu.Lock()
	upTo, done := s.clear(), s.discarded
	s.mu.Unlock()
	if upTo <= done {
		return nil
	}
	if err := s.log.Discard(ctx, upTo); err != nil {
		return err
	}
	s.mu.Lock()
	s.discarded = upTo
	s.mu.Unlock()
	return nil
}
