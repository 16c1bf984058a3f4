package producer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/stream"
)

// worker makes calls, one after another.
type worker struct {
	wake chan struct{} // capacity 1
	// idle says that it is in Producer.idlers. Guarded by Producer.mu.
	idle bool
	// records are those in the call; the rest is memory used again.
	records []*record
	call    []stream.Record
	senders []*waiter
}

// Run writes what Put takes until ctx is done. Then it takes no more, writes
// what it has within the drain timeout, answers every sender and returns. It
// is called once.
func (p *Producer) Run(ctx context.Context) error {
	p.mu.Lock()
	if p.running {
		p.mu.Unlock()
		return errors.New("producer: Run called twice")
	}
	p.running = true
	p.mu.Unlock()

	// Calls outlive ctx by the drain timeout.
	callCtx, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	var workers sync.WaitGroup
	for range p.cfg.MaxInFlightCalls {
		w := &worker{wake: make(chan struct{}, 1)}
		workers.Go(func() { p.work(callCtx, w) })
	}
	<-ctx.Done()
	deadline := time.AfterFunc(p.cfg.DrainTimeout, abort)
	defer deadline.Stop()
	p.mu.Lock()
	p.stopping = true
	p.wakeAll()
	p.mu.Unlock()
	workers.Wait()
	return p.abandonRest()
}

// work makes calls until the producer has stopped and nothing is left, or
// until ctx is done.
func (p *Producer) work(ctx context.Context, w *worker) {
	for ctx.Err() == nil {
		p.mu.Lock()
		wait := p.gather(w, time.Now())
		switch {
		case len(w.records) > 0:
			p.mu.Unlock()
			p.send(ctx, w)
		case p.stopping && p.stats.WaitingEvents+p.stats.FlyingEvents == 0:
			p.wakeAll()
			p.mu.Unlock()
			return
		default:
			w.idle = true
			p.idlers = append(p.idlers, w)
			p.mu.Unlock()
			p.pause(ctx, w, wait)
		}
	}
}

// pause waits until somebody wakes w, which is in idlers, or for a time (for
// ever if it is negative).
func (p *Producer) pause(ctx context.Context, w *worker, wait time.Duration) {
	var timeout <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-w.wake:
		return
	case <-timeout:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.idle {
		w.idle = false
		p.idlers = slices.DeleteFunc(p.idlers, func(other *worker) bool { return other == w })
	} else {
		<-w.wake // woken at the same moment
	}
}

// popIdler returns an idle worker to be woken, nil if all are busy.
func (p *Producer) popIdler() *worker {
	n := len(p.idlers)
	if n == 0 {
		return nil
	}
	w := p.idlers[n-1]
	p.idlers = p.idlers[:n-1]
	w.idle = false
	return w
}

func (p *Producer) wakeOne() {
	if w := p.popIdler(); w != nil {
		w.wake <- struct{}{} // has room: only an idler is woken, and once
	}
}

func (p *Producer) wakeAll() {
	for len(p.idlers) > 0 {
		p.wakeOne()
	}
}

// gather moves the first record of every bucket that may send into w's call,
// as far as the limits allow. If there is none, it returns how long until one
// is to be tried again, negative if there is none to wait for.
func (p *Producer) gather(w *worker, now time.Time) (wait time.Duration) {
	wait = p.rouse(now)
	if d := p.stagger(now); d > 0 {
		if wait < 0 || d < wait {
			wait = d
		}
		return wait
	}
	size := 0
	for p.ready.n > 0 && len(w.records) < p.cfg.MaxCallRecords {
		b := p.ready.peek()
		for b.first != nil && b.first.attempts > 0 && b.first.abandoned() {
			p.drop(b.popFront())
		}
		if b.first == nil {
			b.state = idle
			p.ready.pop()
			continue
		}
		if size += b.first.size(); size > p.cfg.MaxCallBytes && len(w.records) > 0 {
			break
		}
		p.ready.pop()
		r := b.popFront()
		r.sealed = true
		b.state = flying
		w.records = append(w.records, r)
		p.stats.FlyingRecords++
		p.stats.FlyingEvents += r.data.Len()
		p.stats.WaitingEvents -= r.data.Len()
	}
	if len(w.records) > 0 {
		p.stats.FlyingCalls++
		p.lastCall = now
	}
	if p.ready.n > 0 || len(w.records) > 0 && p.cfg.Stagger > 0 {
		p.wakeOne() // the limits left something for another call, or a call may take long
	}
	return wait
}

// stagger returns how long it is until another call may start, 0 if one may.
func (p *Producer) stagger(now time.Time) time.Duration {
	if p.stats.FlyingCalls == 0 {
		return 0
	}
	return max(0, p.cfg.Stagger-now.Sub(p.lastCall))
}

// rouse makes the buckets ready whose rest is over, and returns how long until
// the next one is, negative if none rests.
func (p *Producer) rouse(now time.Time) (next time.Duration) {
	next = -1
	if p.stats.Resting == 0 {
		return next
	}
	for i := range p.buckets {
		b := &p.buckets[i]
		if b.state != resting {
			continue
		}
		if d := b.until.Sub(now); d > 0 {
			if next < 0 || d < next {
				next = d
			}
			continue
		}
		p.stats.Resting--
		b.state = ready
		p.ready.push(b)
	}
	return next
}

// send makes the call that was gathered and deals with its outcome.
func (p *Producer) send(ctx context.Context, w *worker) {
	w.call = w.call[:0]
	for _, r := range w.records {
		w.call = append(w.call, stream.Record{PartitionKey: r.bucket.key, Data: r.data.Seal(), Events: r.data.Len()})
	}
	started := time.Now()
	callCtx, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	callCtx, span := p.beginSpan(callCtx, w)
	results, err := p.stream.PutRecords(callCtx, w.call)
	cancel()
	if err == nil && len(results) != len(w.call) {
		err = fmt.Errorf("stream returned %d results for %d records", len(results), len(w.call))
	}
	endSpan(span, results, err)
	p.sizes.call(w.records)
	now := time.Now()

	p.mu.Lock()
	p.stats.Calls++
	p.stats.CallTime += now.Sub(started)
	p.stats.FlyingCalls--
	p.stats.FlyingRecords -= len(w.records)
	p.land(w, results, err, now)
	if p.stats.Resting > 0 {
		p.wakeOne() // to watch the time: this worker may be busy when it comes
	}
	p.mu.Unlock()

	clear(w.records)
	w.records = w.records[:0]
	clear(w.call) // the data belongs to other records now
	for _, s := range w.senders {
		s.done <- struct{}{}
	}
	clear(w.senders)
	w.senders = w.senders[:0]
	// Let those who have something to put do so before the next call starts.
	// Where the stream is the slow part, nobody is runnable and this costs
	// nothing; where the CPU is, calls become fewer and fuller.
	runtime.Gosched()
}

// land settles the records of a call that ended, or sends them to rest.
func (p *Producer) land(w *worker, results []stream.Result, err error, now time.Time) {
	accepted, bytes := 0, 0
	var together time.Duration // the rest of all records of a call that failed whole
	for i, r := range w.records {
		events := r.data.Len()
		p.stats.FlyingEvents -= events
		p.charge(r)
		cause := err
		if err == nil {
			cause = results[i].Err
		}
		b := r.bucket
		switch p.fate(r, cause, err != nil) {
		case stored:
			accepted += events
			bytes += r.size()
			p.stats.Records++
			p.sizes.EventsPerRecord.Observe(uint64(events))
			p.stats.Repeated += uint64(events * r.unknown)
			if r.spooled = results[i].Spooled; r.spooled {
				p.stats.Spooled += uint64(events)
			}
			w.senders = p.settle(r, nil, w.senders, now)
		case never:
			p.stats.Rejected += uint64(events)
			if fault.KindOf(cause) == fault.TooLarge {
				p.intake.Rejected(ledger.TooLarge, events)
			} else {
				p.intake.Rejected(ledger.Unavailable, events)
			}
			w.senders = p.settle(r, refusal(cause), w.senders, now)
		case inParts:
			first, second := p.split(r)
			b.pushFront(second)
			b.pushFront(first)
			p.stats.WaitingEvents += events
		case again:
			if err == nil || together == 0 {
				together = p.rest(r.attempts, cause, now)
			}
			b.pushFront(r)
			b.state, b.until = resting, now.Add(together)
			p.stats.WaitingEvents += events
			p.stats.Resting++
			continue
		}
		if b.first == nil {
			b.state = idle
		} else {
			b.state = ready
			p.ready.push(b)
		}
	}
	// Before the senders are told: whoever has an answer finds it counted.
	p.stats.Accepted += uint64(accepted)
	p.stats.Bytes += uint64(bytes)
	p.intake.Accepted(accepted)
	p.drained.Add(now, bytes)
}

// outcome is what becomes of a record after an attempt.
type outcome uint8

const (
	stored  outcome = iota
	never           // not stored, and not tried again
	inParts         // too large: to be split in two
	again
)

// fate classifies an attempt. whole says that the call failed as a whole:
// whatever kind of error it was, nothing is known about the record.
func (p *Producer) fate(r *record, cause error, whole bool) outcome {
	if cause == nil {
		return stored
	}
	r.attempts++
	kind := fault.KindOf(cause)
	if whole {
		kind = fault.Ambiguous
	}
	switch kind {
	case fault.TooLarge:
		p.stats.TooLarge++
		if r.data.Len() > 1 {
			return inParts
		}
		return never
	case fault.Throttled:
		p.stats.Throttled++
	case fault.Unavailable:
		p.stats.Unavailable++
	default:
		p.stats.Ambiguous++
		r.unknown++
	}
	if r.unknown == 0 && (p.cfg.Retry.Exhausted(r.attempts) || r.abandoned()) {
		return never
	}
	return again
}

// rest returns how long a record waits for its next attempt.
func (p *Producer) rest(attempts int, cause error, now time.Time) time.Duration {
	d := p.cfg.Retry.Delay(attempts, fault.RetryAfter(cause))
	return max(d, p.budget.ReserveN(now, 1).DelayFrom(now))
}

// refusal is what the sender is told about a record that was not stored.
func refusal(cause error) error {
	if fault.KindOf(cause) == fault.TooLarge {
		return &fault.Error{Kind: fault.TooLarge, Detail: "the stream takes no event of this size", Err: cause}
	}
	return &fault.Error{Kind: fault.Unavailable, Detail: "the stream did not take the event", RetryAfter: fault.RetryAfter(cause), Err: cause}
}

// abandonRest answers the senders whose events could not be written before
// the drain timeout. No call is in flight any more.
func (p *Producer) abandonRest() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	lost, unknown := 0, 0
	var wake []*waiter
	for i := range p.buckets {
		b := &p.buckets[i]
		for b.first != nil {
			r := b.popFront()
			events := r.data.Len()
			p.stats.WaitingEvents -= events
			if r.unknown > 0 {
				unknown += events
				wake = p.settle(r, errUndecided, wake, now)
				continue
			}
			lost += events
			wake = p.settle(r, errStopped, wake, now)
		}
		b.state = idle
	}
	p.stats.Resting = 0
	p.ready = queue{ring: p.ready.ring}
	p.stats.Rejected += uint64(lost)
	p.stats.Undecided += uint64(unknown)
	p.intake.Rejected(ledger.Unavailable, lost)
	for _, s := range wake {
		s.done <- struct{}{}
	}
	if lost+unknown > 0 {
		return fmt.Errorf("stopped with the stream away: %d events were not stored and their senders told so, %d may have been", lost, unknown)
	}
	return nil
}

var (
	errStopped   = fault.New(fault.Unavailable, "the gateway stopped before the stream took the event")
	errUndecided = fault.New(fault.Ambiguous, "the gateway stopped before it was known whether the event was stored")
)
