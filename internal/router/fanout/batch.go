package fanout

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/router"
	"github.com/eventsluice/sluice/internal/stream"
)

// batch is one call of Process.
type batch struct {
	f       *Fanout
	records []Record
	targets []target
	// events are those of all records, readable or not, in their order; items
	// are what destinations want of them, by target, in that order too.
	events []read
	items  [][]item
	// filtered counts by target and record, events by record.
	filtered  [][]uint32
	perRecord []counted

	sends, attempts atomic.Uint64
}

// counted is how many events of a record could be read, and how many not.
type counted struct{ readable, unreadable uint32 }

// read is one event of a record.
type read struct {
	record, sub uint32
	raw         []byte
	id, name    string
	key         string
	// letter is the dead letter of an event that cannot be read; its state says
	// whether it is durable.
	letter *deadletter.Letter
	state  state
	why    error
}

// item is one event that one destination wants.
type item struct {
	event   int32 // index in batch.events
	state   state
	payload []byte
	// claim, if not nil, is sent instead of the payload.
	claim  []byte
	rule   *router.Rule
	letter *deadletter.Letter
	why    error // of what is not settled
}

// state is what became of an item.
type state uint8

const (
	// unsettled: the record is to be read again.
	unsettled state = iota
	routed
	dead
)

// read takes the records apart and applies the rules.
func (b *batch) read() {
	b.perRecord = make([]counted, len(b.records))
	b.items = make([][]item, len(b.targets))
	b.filtered = make([][]uint32, len(b.targets))
	for t := range b.filtered {
		b.filtered[t] = make([]uint32, len(b.records))
	}
	for r := range b.records {
		rec := &b.records[r]
		for sub, data := range stream.Deaggregate(stream.Record{PartitionKey: rec.PartitionKey, Data: rec.Data}) {
			b.readEvent(r, sub, data)
		}
	}
}

func (b *batch) readEvent(r, sub int, data []byte) {
	rec := &b.records[r]
	e := read{record: uint32(r), sub: uint32(sub), raw: data}
	ev, err := event.ParseStored(data)
	if err != nil {
		l := b.letter(&e, "", "", classPermanent, "unreadable",
			fmt.Sprintf("record %s of %s, event %d, partition key %q: %v", rec.Sequence, rec.Shard, sub, rec.PartitionKey, err))
		l.Raw = data
		e.letter = &l
		b.perRecord[r].unreadable++
		b.events = append(b.events, e)
		return
	}
	b.perRecord[r].readable++
	if ev.ID == "" || len(ev.Extra) > 0 {
		// Another producer's. What a second reading makes of it is the same.
		if ev.ID == "" {
			ev.ID = event.DeriveID(rec.Shard, rec.Sequence, sub)
		}
		if ev.ReceivedAt == "" && !rec.ArrivedAt.IsZero() {
			ev.ReceivedAt = rec.ArrivedAt.UTC().Format(time.RFC3339Nano)
		}
		e.raw = ev.Append(make([]byte, 0, len(data)+192))
	}
	e.id, e.name, e.key = ev.ID, ev.Name, ev.PartitionKey()
	b.events = append(b.events, e)
	at := int32(len(b.events) - 1)
	for t := range b.targets {
		target := &b.targets[t]
		out, rule, wanted, err := target.route.Apply(e.raw)
		switch {
		case err != nil:
			it := item{event: at, rule: target.rules[rule]}
			l := b.letter(&e, target.name, "", classPermanent, "transform", err.Error())
			if l.Rule, l.Event = rule, e.raw; it.rule != nil {
				l.ARN = it.rule.ARN
			}
			it.letter = &l
			b.items[t] = append(b.items[t], it)
		case wanted:
			b.items[t] = append(b.items[t], item{event: at, payload: out, rule: target.rules[rule]})
		default:
			b.filtered[t][r]++
		}
	}
}

// letter returns the dead letter of an event. Its id is the same when the event
// is read again.
func (b *batch) letter(e *read, destination, arn, class, code, message string) deadletter.Letter {
	rec := &b.records[e.record]
	id := rec.Shard + ":" + rec.Sequence + ":" + strconv.FormatUint(uint64(e.sub), 10)
	if destination != "" {
		id += ":" + destination
	}
	return deadletter.Letter{
		ID: id, Destination: destination, ARN: arn, EventID: e.id, EventName: e.name, PartitionKey: e.key,
		FirstSeen: rec.ArrivedAt, LastTry: time.Now().UTC(),
		Class: class, Code: code, Message: deadletter.Clip(message, maxText),
	}
}

// The classes of dead letters, as package connector names them.
const (
	classPermanent = "permanent"
	classTooLarge  = "too_large"
	classAuth      = "auth"
)

// maxText is what a letter's Message may have.
const maxText = 1 << 10

// bury makes the dead letters durable.
func (b *batch) bury(ctx context.Context) {
	var letters []deadletter.Letter
	var settle []func(error)
	for i := range b.events {
		if e := &b.events[i]; e.letter != nil && e.state == unsettled {
			letters = append(letters, *e.letter)
			settle = append(settle, func(err error) { e.state, e.why = buried(err) })
		}
	}
	for t := range b.items {
		for i := range b.items[t] {
			if it := &b.items[t][i]; it.letter != nil && it.state == unsettled {
				letters = append(letters, *it.letter)
				settle = append(settle, func(err error) { it.state, it.why = buried(err) })
			}
		}
	}
	if len(letters) == 0 {
		return
	}
	if b.f.grave == nil {
		for i := range letters {
			settle[i](fmt.Errorf("there is no dead letter queue for it: %s", letters[i].Message))
		}
		return
	}
	for i, err := range b.f.grave.Bury(ctx, letters) {
		if err != nil {
			err = fmt.Errorf("dead letter %s: %w", letters[i].ID, err)
		}
		settle[i](err)
	}
}

func buried(err error) (state, error) {
	if err != nil {
		return unsettled, err
	}
	return dead, nil
}

// outcome finds the first record that is not settled and counts those before
// it.
func (b *batch) outcome() Outcome {
	first := len(b.records)
	o := Outcome{Destinations: map[string]Counts{}, Sends: b.sends.Load(), Attempts: b.attempts.Load()}
	note := func(record uint32, why error) {
		if int(record) < first {
			first, o.Why = int(record), why
		}
	}
	for i := range b.events {
		if e := &b.events[i]; e.letter != nil && e.state == unsettled {
			note(e.record, e.why)
		}
	}
	for t := range b.items {
		for i := range b.items[t] {
			if it := &b.items[t][i]; it.state == unsettled {
				note(b.events[it.event].record, it.why)
			}
		}
	}
	o.Records = first
	if first < len(b.records) {
		o.Failed = b.records[first].Sequence
	}
	var readable uint64
	for r := range first {
		readable += uint64(b.perRecord[r].readable)
		o.Unreadable += uint64(b.perRecord[r].unreadable)
	}
	o.Events = readable + o.Unreadable
	for t := range b.targets {
		var c Counts
		for r := range first {
			c.Filtered += uint64(b.filtered[t][r])
		}
		for i := range b.items[t] {
			it := &b.items[t][i]
			switch {
			case int(b.events[it.event].record) >= first:
			case it.state == routed:
				c.Routed++
			case it.state == dead:
				c.DeadLetters++
			}
		}
		o.Destinations[b.targets[t].name] = c
		o.Residual += distance(readable, c.Routed+c.Filtered+c.DeadLetters)
	}
	b.remember(first)
	return o
}

func distance(a, b uint64) uint64 { return max(a, b) - min(a, b) }
