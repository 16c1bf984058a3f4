package delivery

import (
	"context"
	"errors"
	"time"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
)

// itemCost is what an event in memory costs beside its bytes.
const itemCost = 512

// read follows the stream from after a position until ctx is done.
func (r *Runner) read(ctx context.Context, after uint64) {
	for attempt := 1; ctx.Err() == nil; attempt++ {
		reader, err := r.stream.Open(ctx, after)
		if err == nil {
			before := after
			after, err = r.follow(ctx, reader, after)
			err = errors.Join(err, reader.Close())
			if after > before {
				attempt = 1
			}
		}
		if ctx.Err() != nil {
			return
		}
		r.trouble("read the stream", err, attempt)
		if retry.Sleep(ctx, storePolicy.Delay(attempt, fault.RetryAfter(err))) != nil {
			return
		}
	}
}

// follow returns the position of the last entry that it has taken in.
func (r *Runner) follow(ctx context.Context, reader stream.Reader, after uint64) (uint64, error) {
	var in intake
	for {
		entry, err := reader.Next(ctx)
		if err != nil {
			return after, err
		}
		in.take(r.route(), &entry)
		if in.missing > 0 {
			r.log.Error("the stream counts events that it cannot give back", "position", entry.Position, "events", in.missing)
		}
		if len(in.wanted) == 0 {
			r.books.pass(entry.Position, in.tally())
		} else if err := r.enqueue(ctx, &entry, &in); err != nil {
			return after, err
		}
		after = entry.Position
	}
}

// intake is what the rules make of one entry. Its memory is used again for the
// next.
type intake struct {
	wanted   []found
	filtered int
	// missing events were counted when the entry was written, and are not in
	// it. A damaged record is one event that cannot be read: the others of it
	// are missing.
	missing int
	bytes   int // of what is wanted, transformed or not
}

// tally returns what is settled by reading the entry. Seen is what the stream
// counted. Only where a record holds more than its writer counted is it what
// was found: those events are delivered, and the residual shows the writer's
// mistake.
func (in *intake) tally() tally {
	return tally{
		seen:    uint64(len(in.wanted) + in.filtered + in.missing),
		skipped: uint64(in.missing), filtered: uint64(in.filtered),
	}
}

type found struct {
	at   place
	raw  []byte
	rule string
	err  error
}

// take applies the rules to each event of the entry. It is the hot path of
// destinations that want little: no lock, no allocation for what is filtered.
func (in *intake) take(route Route, entry *stream.Entry) {
	clear(in.wanted)
	in.wanted, in.filtered, in.missing, in.bytes = in.wanted[:0], 0, 0, 0
	for i := range entry.Records {
		before := len(in.wanted) + in.filtered
		for sub, raw := range stream.Deaggregate(entry.Records[i]) {
			out, rule, wanted, err := route.Apply(raw)
			if err == nil && !wanted {
				in.filtered++
				continue
			}
			if err != nil {
				out = raw
			}
			at := place{position: entry.Position, record: uint32(i), sub: uint32(sub)}
			in.wanted = append(in.wanted, found{at: at, raw: out, rule: rule, err: err})
			in.bytes += len(out)
		}
		// A record whose writer did not count is one event to the stream.
		held := len(in.wanted) + in.filtered - before
		in.missing += max(0, max(entry.Records[i].Events, 1)-held)
	}
}

// enqueue waits for room and hands the wanted events to their lanes.
func (r *Runner) enqueue(ctx context.Context, entry *stream.Entry, in *intake) error {
	now := time.Now()
	size := 0
	for i := range entry.Records {
		size += len(entry.Records[i].Data)
	}
	// Few wanted events must not keep the memory of a large entry.
	if in.bytes < size/2 {
		own := make([]byte, 0, in.bytes)
		for i := range in.wanted {
			start := len(own)
			own = append(own, in.wanted[i].raw...)
			in.wanted[i].raw = own[start:len(own):len(own)]
		}
	}
	n := len(in.wanted)
	s := &span{
		last: entry.Position, storedAt: entry.StoredAt, pending: n, events: n, bytes: in.bytes + n*itemCost,
		tally: in.tally(),
	}
	items := make([]item, n)
	for i := range in.wanted {
		f := &in.wanted[i]
		it := &items[i]
		*it = item{id: f.at, raw: f.raw, rule: f.rule, span: s, firstSeen: now}
		if f.err != nil {
			it.unreadable, it.key = f.err, f.at.String()
			continue
		}
		it.read()
	}
	for !r.books.admit(s) {
		r.crowd()
		select {
		case <-r.books.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.crowded.Store(false)
	for i := range items {
		l := r.laneOf(items[i].key)
		l.scratch = append(l.scratch, &items[i])
	}
	for _, l := range r.lanes {
		l.give()
	}
	return nil
}

// crowd says that there is no room to read on: no lane waits for more events.
func (r *Runner) crowd() {
	if r.limits.Linger <= 0 || r.crowded.Swap(true) {
		return
	}
	for _, l := range r.lanes {
		notify(l.news)
	}
}

func (r *Runner) laneOf(key string) *lane {
	return r.lanes[event.Hash(key)%uint64(len(r.lanes))]
}
