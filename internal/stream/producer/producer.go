// Package producer puts events on a stream and makes the promise that the
// gateway's 2xx stands on: Put returns nil only when every event is durable.
//
// # How events travel
//
// Put copies the events into the records of their buckets and waits. A bucket
// is chosen by a hash of the partition key; a record holds events of one
// bucket. A call carries one record of every bucket that has events waiting
// and none in flight. There is no timer: the call in flight is the linger.
// While it runs, the next records fill; when it ends, the goroutine that made
// it starts the next. So a quiet gateway sends at once, and a busy one sends
// full records.
//
// # What is promised
//
//   - Order: events of one partition key reach the stream in the order in
//     which Put took them. At most one record of a bucket is in flight, and one
//     that failed is tried again before anything newer of its bucket.
//   - At least once: a record whose fate is unknown is written again with the
//     same bytes, so that readers can tell by the ids of the events.
//   - Account: every event handed to Put is counted once in the ledger's
//     intake, as accepted when it becomes durable or as rejected when it is
//     known that it will not be. Nobody else counts it.
//   - Memory: what is held is bounded in bytes. Over the bound Put fails at
//     once.
//
// A crash loses what Put has not answered, and only that.
package producer

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
)

// Stream is where records are written.
type Stream interface {
	// PutRecords writes records in one request and returns one result per
	// record, in the same order: see stream.Result for what an Err means. A
	// record without one is durable. An error instead means that the fate of
	// every record is unknown: any of them may have been stored.
	//
	// Records of one call have different partition keys, and are not ordered
	// among each other. It returns soon after ctx is done, and by then it has
	// finished with the records and their data: the caller uses the memory
	// again. It is safe for concurrent use.
	PutRecords(ctx context.Context, records []stream.Record) ([]stream.Result, error)
}

// Producer batches events onto a stream. Its methods are safe for concurrent
// use.
type Producer struct {
	stream Stream
	intake *ledger.Intake
	cfg    Config
	budget *rate.Limiter // retries
	// firstBytes is the memory that a new record begins with: a few events.
	firstBytes int

	waiters sync.Pool // of *waiter
	sizes   Sizes

	mu      sync.Mutex
	running bool
	// stopping is set when Run's context is done: nothing more is taken.
	stopping bool
	buckets  []bucket
	ready    queue
	// lastCall is when the newest call started.
	lastCall time.Time
	idlers   []*worker // those that wait for something to do
	free     *record   // to be used again
	drained  retry.Meter
	// held is the memory of records that hold events; freeBytes that of free.
	held, freeBytes int
	// left counts the records that their last sender left since the last prune.
	left  int
	stats Stats
}

// New returns a Producer that writes to s and counts in intake. Events wait
// until Run is called.
func New(s Stream, intake *ledger.Intake, cfg Config) (*Producer, error) {
	if s == nil || intake == nil {
		return nil, errors.New("producer: a stream and an intake are needed")
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	p := &Producer{
		stream:     s,
		intake:     intake,
		cfg:        cfg,
		budget:     rate.NewLimiter(rate.Limit(cfg.RetriesPerSecond), cfg.RetryBurst),
		buckets:    make([]bucket, cfg.Buckets),
		firstBytes: min(4<<10, cfg.FullRecordBytes, cfg.MaxBufferedBytes/(4*cfg.Buckets)),
		sizes:      newSizes(),
		ready:      queue{ring: make([]*bucket, cfg.Buckets)},
	}
	if cfg.OneEventPerRecord {
		p.firstBytes = 0
	}
	for i := range p.buckets {
		if p.buckets[i].key = BucketKey(i); cfg.Keys != nil {
			p.buckets[i].key = cfg.Keys[i]
		}
	}
	p.waiters.New = func() any { return &waiter{done: make(chan struct{}, 1)} }
	return p, nil
}

// Put writes the events of a batch and returns nil only when all of them are
// durable. Otherwise it returns the first error, and b.Err tells of each
// event whether it is durable and why not:
//
//   - fault.TooLarge: the event can never be stored.
//   - fault.Unavailable: it was not stored and will not be; RetryAfter says
//     when to try again, if that is known.
//   - fault.Ambiguous: it may be stored, now or a moment later. To send it
//     again with the same id is safe.
//
// Put waits as long as ctx allows. When ctx is done it returns at once, and
// events that are on their way stay so and are counted when they arrive. The
// batch is the caller's again when Put returns. Events that Batch.Skip names
// are passed over.
func (p *Producer) Put(ctx context.Context, b *stream.Batch) error { return p.PutAndTell(ctx, b, nil) }

// PutAndTell is Put for those who want to know in the end what became of the
// events that it left with fault.Ambiguous: later, if not nil, is called once
// for each of these, by its index in the batch. A nil err says that the event
// is durable, in a spool if spooled; fault.Unavailable or TooLarge that it is
// not and will not be; and fault.Ambiguous that nobody will ever know, since
// Run has ended. The first call may come before PutAndTell has returned, the
// last long after it. later must be quick and must not call the Producer.
func (p *Producer) PutAndTell(ctx context.Context, b *stream.Batch, later func(event int, spooled bool, err error)) error {
	if events, _ := b.Load(); events == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return p.turnAway(b, ledger.Unavailable, &fault.Error{Kind: fault.Unavailable, Detail: "no time was left to store the event", Err: err})
	}
	w := p.waiters.Get().(*waiter)
	w.later = later
	if err := p.take(w, b); err != nil {
		w.later = nil
		p.waiters.Put(w)
		return err
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		if err, left := p.leave(w, b, ctx.Err()); left {
			return err
		}
	}
	var first error
	if w.failed {
		first = w.report(b)
		w.tellUndecided()
	}
	b.SetSpooled(w.spooled)
	w.reset()
	p.waiters.Put(w)
	return first
}

// take copies the events into the records of their buckets and wakes a
// worker. If it returns an error, it has taken none.
func (p *Producer) take(w *waiter, b *stream.Batch) error {
	n, _ := b.Load()
	w.started, w.span = time.Now(), b.Span
	p.mu.Lock()
	if p.stopping {
		p.mu.Unlock()
		return p.turnAway(b, ledger.Unavailable, fault.New(fault.Unavailable, "the gateway is stopping"))
	}
	if err := p.admit(b, w.started); err != nil {
		p.mu.Unlock()
		return p.turnAway(b, ledger.Overloaded, err)
	}
	p.stats.Events += uint64(n)
	taken := n
	for i := range b.Len() {
		if b.Skipped(i) {
			w.partOf = append(w.partOf, noPart)
			continue
		}
		b.Fail(i, nil)
		bucket := &p.buckets[bucketOf(b.Hash(i), len(p.buckets))]
		event := b.Event(i)
		if len(bucket.key)+len(event) > p.cfg.MaxRecordBytes {
			b.Fail(i, errTooLarge)
			w.partOf = append(w.partOf, noPart)
			w.failed = true
			taken--
			continue
		}
		r := bucket.last
		if r == nil || !r.room(len(event), &p.cfg) {
			r = p.newRecord(bucket, len(event))
			bucket.pushBack(r)
			if bucket.state == idle {
				bucket.state = ready
				p.ready.push(bucket)
			}
		}
		r.add(w, event)
		p.charge(r)
	}
	if w.failed {
		p.stats.Rejected += uint64(n - taken)
		p.intake.Rejected(ledger.TooLarge, n-taken)
	}
	p.stats.WaitingEvents += taken
	if w.pending == 0 { // all too large
		w.done <- struct{}{}
		p.answered(w, w.started)
	}
	var wake *worker
	if p.ready.n > 0 && p.stagger(w.started) == 0 {
		wake = p.popIdler()
	}
	p.mu.Unlock()
	if wake != nil {
		wake.wake <- struct{}{}
	}
	return nil
}

var (
	errTooLarge  = fault.New(fault.TooLarge, "the event is larger than a record of the stream")
	errBatchSize = fault.New(fault.TooLarge, "the batch is larger than the gateway's memory for events")
)

// eventBytes and recordBytes are more memory than an event and a record need
// besides the bytes of the events.
const eventBytes, recordBytes = 48, 256

// admit decides whether there is memory for a batch.
func (p *Producer) admit(b *stream.Batch, now time.Time) error {
	const most = 2 // records that a full one may have become, events being of any size
	events, size := b.Load()
	records := len(p.buckets) + most*size/p.cfg.FullRecordBytes
	if p.cfg.OneEventPerRecord {
		records = events
	}
	need := size + events*eventBytes + min(records, events)*(p.firstBytes+recordBytes)
	if size > p.cfg.MaxBufferedBytes {
		return errBatchSize
	}
	if p.held+need > p.cfg.MaxBufferedBytes && p.left > 0 {
		p.prune()
	}
	if p.held+need <= p.cfg.MaxBufferedBytes || p.held == 0 {
		return nil
	}
	return &fault.Error{
		Kind:       fault.Unavailable,
		Detail:     "the stream takes events more slowly than they come in",
		RetryAfter: p.retryAfter(now),
	}
}

// retryAfter is when a sender may find room, as far as can be told. mu is held.
func (p *Producer) retryAfter(now time.Time) time.Duration {
	if p.cfg.RetryAfter != nil {
		if d := p.cfg.RetryAfter(); d > 0 {
			return d
		}
	}
	return p.drained.TimeFor(now, p.held)
}

// turnAway counts and reports the events of a batch of which none was taken.
func (p *Producer) turnAway(b *stream.Batch, reason ledger.Reason, err error) error {
	if fault.KindOf(err) == fault.TooLarge {
		reason = ledger.TooLarge
	}
	for i := range b.Len() {
		if !b.Skipped(i) {
			b.Fail(i, err)
		}
	}
	events, _ := b.Load()
	p.intake.Rejected(reason, events)
	p.mu.Lock()
	p.stats.Events += uint64(events)
	p.stats.Rejected += uint64(events)
	p.mu.Unlock()
	return err
}

// leave ends the wait of a sender whose context is done. left is false if the
// last answer came first.
func (p *Producer) leave(w *waiter, b *stream.Batch, cause error) (err error, left bool) {
	p.mu.Lock()
	if w.pending == 0 {
		p.mu.Unlock()
		<-w.done // sent, or about to be
		return nil, false
	}
	defer p.mu.Unlock()
	w.gone = true
	b.SetSpooled(w.spooled)
	p.stats.Abandoned++
	late := &fault.Error{
		Kind:       fault.Ambiguous,
		Detail:     "the event was not durable in time; it may still be stored",
		RetryAfter: p.retryAfter(time.Now()),
		Err:        cause,
	}
	for i := range w.parts {
		part := &w.parts[i]
		if part.record == nil {
			continue
		}
		part.err, part.left = late, true
		if part.record.live--; part.record.live == 0 {
			p.left++
		}
	}
	return w.report(b), true
}

// report writes the failures of a Put into its batch and returns the first.
func (w *waiter) report(b *stream.Batch) (first error) {
	for i, n := range w.partOf {
		if n != noPart && w.parts[n].err != nil {
			b.Fail(i, w.parts[n].err)
		}
		if first == nil && !b.Skipped(i) {
			first = b.Err(i)
		}
	}
	return first
}

// tellUndecided tells of the events of a Put that was answered with what will
// never be known.
func (w *waiter) tellUndecided() {
	for i := range w.parts {
		if err := w.parts[i].err; fault.KindOf(err) == fault.Ambiguous {
			w.tell(int32(i), false, err)
		}
	}
}

// tell tells of the events of a part.
func (w *waiter) tell(part int32, spooled bool, err error) {
	if w.later == nil {
		return
	}
	for i, n := range w.partOf {
		if n == part {
			w.later(i, spooled, err)
		}
	}
}

// newRecord returns an empty record for a bucket, with room for an event.
func (p *Producer) newRecord(b *bucket, eventSize int) *record {
	r := p.free
	if r != nil && p.held+r.memory() <= p.cfg.MaxBufferedBytes {
		p.free = r.next
		p.freeBytes -= r.memory()
	} else {
		r = new(record)
		r.data.Grow(max(p.firstBytes, eventSize+eventBytes))
	}
	r.next, r.bucket = nil, b
	r.data.Reset(b.key, p.cfg.Format)
	return r
}

// charge brings the memory counted for r up to date.
func (p *Producer) charge(r *record) {
	size := r.memory()
	if size == r.charged {
		return
	}
	p.held += size - r.charged
	r.charged = size
	for p.free != nil && p.held+p.freeBytes > p.cfg.MaxBufferedBytes {
		p.freeBytes -= p.free.memory()
		p.free = p.free.next
	}
}

// release takes back a record that nobody needs any more. Its memory is kept
// for the next one, unless memory is short.
func (p *Producer) release(r *record) {
	p.held -= r.charged
	clear(r.shares)
	r.shares, r.live = r.shares[:0], 0
	r.bucket, r.sealed, r.attempts, r.unknown, r.spooled, r.charged = nil, false, 0, 0, false, 0
	if size := r.memory(); p.held+p.freeBytes+size <= p.cfg.MaxBufferedBytes/2 {
		p.freeBytes += size
		r.next, p.free = p.free, r
	}
}

// split makes two records of one that is too large for the stream, so that
// events that are small enough are not refused for their neighbours. That the
// stream takes less than MaxRecordBytes is a mistake in the configuration; it
// costs calls, but no events.
func (p *Producer) split(r *record) (first, second *record) {
	first, second = p.newRecord(r.bucket, r.data.Size()), p.newRecord(r.bucket, r.data.Size())
	half := r.data.Len() / 2
	shares, left := r.shares, int32(0) // left: events of shares[0] still to move
	if len(shares) > 0 {
		left = shares[0].events
	}
	for i, event := range stream.Deaggregate(stream.Record{Data: r.data.Seal()}) {
		for left == 0 {
			shares = shares[1:]
			left = shares[0].events
		}
		left--
		to := first
		if i >= half {
			to = second
		}
		if i == half && left+1 < shares[0].events {
			shares[0].part = shares[0].w.splitPart(shares[0].part, shares[0].events-left-1)
		}
		to.data.Add(event)
		to.join(shares[0].w, shares[0].part)
	}
	for _, to := range []*record{first, second} {
		to.sealed, to.attempts, to.unknown = true, r.attempts, r.unknown
		p.charge(to)
	}
	p.release(r)
	return first, second
}

// prune drops the records that nobody waits for and that are not stored.
func (p *Producer) prune() {
	p.left = 0
	for i := range p.buckets {
		b := &p.buckets[i]
		waiting := b.first
		b.first, b.last = nil, nil
		for waiting != nil {
			r := waiting
			waiting = r.next
			if r.abandoned() {
				p.drop(r)
			} else {
				b.pushBack(r)
			}
		}
		// A bucket without records that is ready or resting is found empty by
		// the next gather.
	}
}

// drop gives up a record that waits and that nobody waits for.
func (p *Producer) drop(r *record) {
	events := r.data.Len()
	p.stats.WaitingEvents -= events
	p.stats.Rejected += uint64(events)
	p.intake.Rejected(ledger.Unavailable, events)
	p.settle(r, errDropped, nil, time.Time{})
}

var errDropped = fault.New(fault.Unavailable, "the stream did not take the event in time")

// settle gives the answer for a record to its senders and releases it.
// Senders to be woken are appended to wake. The caller counts.
func (p *Producer) settle(r *record, err error, wake []*waiter, now time.Time) []*waiter {
	for i := range r.shares {
		w := r.shares[i].w
		n := r.shares[i].part
		left := w.parts[n].left
		w.parts[n] = part{err: err}
		if left {
			w.tell(n, r.spooled, err)
		}
		w.failed = w.failed || err != nil
		w.spooled = w.spooled || r.spooled
		if w.pending--; w.pending > 0 {
			continue
		}
		if w.gone {
			w.reset()
			p.waiters.Put(w)
			continue
		}
		p.answered(w, now)
		wake = append(wake, w)
	}
	p.release(r)
	return wake
}

func (p *Producer) answered(w *waiter, now time.Time) {
	p.stats.Puts++
	p.stats.PutTime += now.Sub(w.started)
}
