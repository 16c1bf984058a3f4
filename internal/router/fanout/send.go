package fanout

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
)

// refusals is how often an attempt is made that is refused as if it never could
// work, before that is believed: a new alias or policy takes moments until it
// is known everywhere.
const refusals = 3

// dispatch sends what destinations want, and returns when all of it is settled
// or ctx is done.
func (b *batch) dispatch(ctx context.Context) {
	b.recall()
	front := newFrontier(b.f.cfg.Window)
	var runs []func()
	for t := range b.items {
		d := &door{batch: b, name: b.targets[t].name, front: front}
		for _, queue := range b.split(b.items[t]) {
			if len(queue) > 0 {
				place := front.join(queue[0].event)
				runs = append(runs, func() { d.run(ctx, place, queue) })
			}
		}
	}
	var lanes sync.WaitGroup
	for _, run := range runs {
		lanes.Go(run)
	}
	lanes.Wait()
}

// split returns the items of a destination that are to be sent, lane by lane.
// There are no more lanes than full messages.
func (b *batch) split(items []item) [][]*item {
	left, most, grouped := 0, 1, false
	for i := range items {
		if it := &items[i]; it.pending() {
			left++
			most = max(most, it.rule.MaxBatch)
			grouped = grouped || it.grouped()
		}
	}
	if left == 0 {
		return nil
	}
	lanes := make([][]*item, min(b.f.cfg.MaxLanes, (left+most-1)/most))
	if grouped {
		lanes = make([][]*item, groups)
	}
	for i := range items {
		it := &items[i]
		if !it.pending() {
			continue
		}
		n := 0
		if len(lanes) > 1 {
			n = laneOf(b.events[it.event].key, len(lanes))
		}
		lanes[n] = append(lanes[n], it)
	}
	return lanes
}

// laneOf returns the lane of a partition key.
func laneOf(key string, lanes int) int { return int(event.Hash(key) % uint64(lanes)) }

// groups is how many message groups there are in a FIFO queue whose messages
// hold several events. It never changes: a message holds the events of some keys,
// and the next one of those keys has to come after it.
const groups = 16

// grouped reports whether the item goes into such a queue.
func (it *item) grouped() bool {
	return it.rule.MaxBatch > 1 && strings.HasSuffix(it.rule.ARN, ".fifo")
}

// pending reports whether the item is to be sent.
func (it *item) pending() bool { return it.state == unsettled && it.letter == nil }

// door is what the lanes of a destination share.
type door struct {
	*batch
	name  string
	front *frontier
	// shut is the ARN that refuses everybody: it is not asked again in this
	// batch. Rules may name several for a destination; one is remembered.
	shut atomic.Pointer[refusal]
}

type refusal struct {
	arn string
	err error
}

// run sends the items of a lane one message after another. A message that
// cannot be settled in time ends it.
func (d *door) run(ctx context.Context, place int, queue []*item) {
	defer d.front.leave(place)
	for len(queue) > 0 {
		d.front.move(place, queue[0].event)
		n := d.take(queue)
		if ctx.Err() != nil || !d.settle(ctx, queue[:n]) {
			for _, it := range queue {
				if it.why == nil {
					it.why = fmt.Errorf("destination %s: the time was over before it could be sent", d.name)
				}
			}
			return
		}
		queue = queue[n:]
	}
}

// take returns how many items of a queue make up the next message.
func (d *door) take(queue []*item) int {
	rule := queue[0].rule
	size := len("[]") + len(queue[0].payload)
	n := 1
	for n < len(queue) && n < rule.MaxBatch && queue[n].rule.Index == rule.Index {
		size += len(",") + len(queue[n].payload)
		if size > d.f.cfg.MaxPayload {
			break
		}
		n++
	}
	return n
}

// settle sends items as one message until they are accepted or known to be
// unacceptable; false means that the time was over before.
func (d *door) settle(ctx context.Context, items []*item) bool {
	rule := items[0].rule
	payload := d.payload(items)
	if len(payload) > d.f.cfg.MaxPayload {
		return d.tooLarge(ctx, items, payload, fmt.Errorf("%d bytes, and a message takes %d", len(payload), d.f.cfg.MaxPayload))
	}
	if shut := d.shut.Load(); shut != nil && shut.arn == rule.ARN {
		d.condemn(items, shut.err)
		return true
	}
	err := d.deliver(ctx, rule.ARN, items, payload)
	switch fault.KindOf(err) {
	case fault.TooLarge:
		return d.tooLarge(ctx, items, payload, err)
	case fault.NotFound, fault.Forbidden:
		if d.shut.Swap(&refusal{rule.ARN, err}) == nil {
			d.f.cfg.Log.Error("a destination cannot be reached: its events become dead letters",
				slog.String("destination", d.name), slog.String("arn", rule.ARN), slog.String("reason", err.Error()))
		}
		d.condemn(items, err)
		return true
	case fault.Invalid:
		if len(items) > 1 { // one of them may be to blame
			return d.halve(ctx, items)
		}
		d.condemn(items, err)
		return true
	}
	if err != nil {
		for _, it := range items {
			it.why = fmt.Errorf("destination %s: %w", d.name, err)
		}
		return false
	}
	for _, it := range items {
		it.state = routed
	}
	return true
}

// halve settles items as two messages, the second after the first.
func (d *door) halve(ctx context.Context, items []*item) bool {
	return d.settle(ctx, items[:len(items)/2]) && d.settle(ctx, items[len(items)/2:])
}

// payload returns what is sent for items.
func (d *door) payload(items []*item) []byte {
	switch first := items[0]; {
	case first.claim != nil:
		return first.claim
	case first.rule.MaxBatch <= 1:
		return first.payload
	}
	size := len("[]")
	for _, it := range items {
		size += len(it.payload) + 1
	}
	b := append(make([]byte, 0, size), '[')
	for i, it := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, it.payload...)
	}
	return append(b, ']')
}

// deliver sends a message until it is accepted, refused for good, or ctx is
// done: the last error then.
func (d *door) deliver(ctx context.Context, arn string, items []*item, payload []byte) error {
	m := Message{Payload: payload, Key: d.events[items[0].event].key, ID: d.identify(items)}
	if items[0].grouped() {
		m.Key = fmt.Sprintf("group %d", laneOf(m.Key, groups))
	}
	for attempt, refused := 1, 0; ; attempt++ {
		select {
		case d.f.slots <- struct{}{}:
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "the time was over before it could be sent")
		}
		d.attempts.Add(1)
		err := d.f.send.Send(ctx, arn, m)
		<-d.f.slots
		switch fault.KindOf(err) {
		case fault.TooLarge, fault.Invalid:
			return err
		case fault.NotFound, fault.Forbidden:
			if refused++; refused == refusals {
				return err
			}
		}
		if err == nil {
			d.sends.Add(1)
			return nil
		}
		if retry.Sleep(ctx, d.f.cfg.Retry.Delay(attempt, fault.RetryAfter(err))) != nil {
			if refused > 0 { // that it never can work has not been confirmed
				return fault.New(fault.Unavailable, "%v", err)
			}
			return err
		}
	}
}

// identify returns what is the same for the same events at the destination.
func (d *door) identify(items []*item) string {
	first, last := &d.events[items[0].event], &d.events[items[len(items)-1].event]
	if len(items) == 1 {
		return first.id + " " + d.name
	}
	return fmt.Sprintf("%s %s %d %s", first.id, last.id, len(items), d.name)
}

// tooLarge settles items that are too large together: in halves, and one alone
// by a claim.
func (d *door) tooLarge(ctx context.Context, items []*item, payload []byte, why error) bool {
	if len(items) > 1 {
		return d.halve(ctx, items)
	}
	it := items[0]
	e := &d.events[it.event]
	if d.f.claims == nil {
		d.condemnAs(it, classTooLarge, "too_large", fmt.Sprintf("%v; with a bucket for claims (CLAIM_BUCKET) it would have been sent", why))
		return true
	}
	if it.claim != nil {
		d.condemn(items, why)
		return true
	}
	rec := &d.records[e.record]
	key := fmt.Sprintf("claims/%s/%s/%s-%d.json", d.name, rec.Shard, rec.Sequence, e.sub)
	for attempt := 1; ; attempt++ {
		claim, err := d.f.claims.Claim(ctx, key, payload)
		if err == nil {
			it.claim = claim.Payload()
			return d.settle(ctx, items)
		}
		switch fault.KindOf(err) {
		case fault.NotFound, fault.Forbidden, fault.Invalid:
			d.condemnAs(it, classTooLarge, "claim", fmt.Sprintf("%v; it could not be put into the bucket for claims: %v", why, err))
			return true
		}
		if retry.Sleep(ctx, d.f.cfg.Retry.Delay(attempt, 0)) != nil {
			it.why = fmt.Errorf("claim of an event of %d bytes: %w", len(payload), err)
			return false
		}
	}
}

// condemn makes dead letters of items that their destination will never take.
func (d *door) condemn(items []*item, why error) {
	class := classPermanent
	if fault.KindOf(why) == fault.Forbidden {
		class = classAuth
	}
	for _, it := range items {
		d.condemnAs(it, class, fault.KindOf(why).String(), why.Error())
	}
}

func (d *door) condemnAs(it *item, class, code, message string) {
	l := d.letter(&d.events[it.event], d.name, it.rule.ARN, class, code, message)
	l.Rule, l.Event, l.Attempts = it.rule.Name, it.payload, 1
	it.letter = &l
}
