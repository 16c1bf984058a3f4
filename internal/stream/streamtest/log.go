package streamtest

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
)

// Log is a log for a spool, in memory, as one process sees it: after Crash
// the next process finds what this one has written. It fails the test when it
// is asked for what it has been told to discard.
type Log struct {
	t    testing.TB
	disk *disk
	dead bool // guarded by disk.mu
	// OnPut, if not nil, decides what becomes of a write; calls are numbered
	// from 1. Set it before the first.
	OnPut func(call int, records []stream.Record) LogOutcome
}

// disk outlives the process.
type disk struct {
	maxBytes int

	mu      sync.Mutex
	calls   int
	size    int
	first   uint64 // position of entries[0], or of the next
	entries []stream.Entry
	changed chan struct{}  // closed and replaced when something happens
	late    int            // stores that are still to come
	calm    sync.Cond      // on mu: late is 0
	unknown map[string]int // event: writes whose outcome was not told
}

// LogOutcome is what becomes of a write to a Log.
type LogOutcome struct {
	// Take is how long it takes.
	Take time.Duration
	// Refuse is the result of every record: nothing is stored.
	Refuse error
	// Lose is the error of the call. It tells nothing: the records are
	// stored all the same, if Stored, and Late after it.
	Lose   error
	Stored bool
	Late   time.Duration
}

// NewLog returns an empty log that takes so many bytes; 0 for no limit.
func NewLog(t testing.TB, maxBytes int) *Log {
	d := &disk{maxBytes: maxBytes, first: 1, changed: make(chan struct{}), unknown: map[string]int{}}
	d.calm.L = &d.mu
	return &Log{t: t, disk: d}
}

// Crash ends the process that uses l and returns the log of the next one.
func (l *Log) Crash() *Log {
	d := l.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	l.dead = true
	d.change()
	return &Log{t: l.t, disk: d, OnPut: l.OnPut}
}

// Settle waits for the writes that are late.
func (l *Log) Settle() {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	for l.disk.late > 0 {
		l.disk.calm.Wait()
	}
}

// Unknown returns how many writes of an event had an outcome that was not told.
func (l *Log) Unknown(event []byte) int {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	return l.disk.unknown[string(event)]
}

// Entries returns what it holds, oldest first.
func (l *Log) Entries() []stream.Entry {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	return slices.Clone(l.disk.entries)
}

// Lose drops the entries up to a position that nobody has discarded.
func (l *Log) Lose(upTo uint64) {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	l.disk.drop(upTo)
}

// change wakes those who wait. mu is held.
func (d *disk) change() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// PutRecords stores records as one entry, unless OnPut wants otherwise.
func (l *Log) PutRecords(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
	if len(records) == 0 {
		l.t.Error("log: a write without records")
	}
	d := l.disk
	var o LogOutcome
	if l.OnPut != nil {
		d.mu.Lock()
		d.calls++
		call := d.calls
		d.mu.Unlock()
		o = l.OnPut(call, records)
	}
	if o.Take > 0 {
		timer := time.NewTimer(o.Take)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil && o.Lose == nil {
		o = LogOutcome{Lose: err}
	}
	switch {
	case o.Refuse != nil:
		return each(records, o.Refuse), nil
	case o.Lose != nil:
		d.mu.Lock()
		for _, r := range records {
			for _, data := range stream.Deaggregate(r) {
				d.unknown[string(data)]++
			}
		}
		d.mu.Unlock()
		if o.Stored {
			l.storeLate(cloneRecords(records), o.Late)
		}
		return nil, o.Lose
	}
	if err := l.store(cloneRecords(records)); err != nil {
		if l.crashed() {
			return nil, err
		}
		return each(records, err), nil
	}
	return make([]stream.Result, len(records)), nil
}

func cloneRecords(records []stream.Record) []stream.Record {
	records = slices.Clone(records)
	for i := range records {
		records[i].Data = bytes.Clone(records[i].Data)
	}
	return records
}

// storeLate stores records after a while, if there is room then.
func (l *Log) storeLate(records []stream.Record, after time.Duration) {
	if after == 0 {
		_ = l.store(records)
		return
	}
	d := l.disk
	d.mu.Lock()
	d.late++
	d.mu.Unlock()
	go func() {
		time.Sleep(after)
		_ = l.store(records)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.late--; d.late == 0 {
			d.calm.Broadcast()
		}
	}()
}

func (l *Log) crashed() bool {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	return l.dead
}

func (l *Log) store(records []stream.Record) error {
	d := l.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.dead {
		return errCrashed
	}
	size := entryBytes(records)
	if d.maxBytes > 0 && d.size+size > d.maxBytes {
		return &fault.Error{Kind: fault.Unavailable, Detail: "the log is full", RetryAfter: time.Minute}
	}
	d.size += size
	d.entries = append(d.entries, stream.Entry{
		Position: d.first + uint64(len(d.entries)), StoredAt: time.Now(), Records: records,
	})
	d.change()
	return nil
}

func entryBytes(records []stream.Record) int {
	const overhead = 20
	size := overhead
	for _, r := range records {
		size += len(r.PartitionKey) + len(r.Data)
	}
	return size
}

// First returns the position of the oldest entry, or of the next one.
func (l *Log) First(context.Context) (uint64, error) {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	return l.disk.first, nil
}

// Last returns the position of the newest entry that there was.
func (l *Log) Last(context.Context) (uint64, error) {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	return l.disk.first + uint64(len(l.disk.entries)) - 1, nil
}

// Before returns the position before the oldest entry stored at or after a time.
func (l *Log) Before(_ context.Context, t time.Time) (uint64, error) {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	for i := range l.disk.entries {
		if !l.disk.entries[i].StoredAt.Before(t) {
			return l.disk.first + uint64(i) - 1, nil
		}
	}
	return l.disk.first + uint64(len(l.disk.entries)) - 1, nil
}

// Backlog returns the events and bytes that it holds.
func (l *Log) Backlog(context.Context) (events, size uint64, err error) {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	for _, e := range l.disk.entries {
		for _, r := range e.Records {
			events += uint64(r.Events)
		}
	}
	return events, uint64(l.disk.size), nil
}

// Discard removes the entries up to a position.
func (l *Log) Discard(ctx context.Context, upTo uint64) error {
	d := l.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case l.dead:
		return errCrashed
	case ctx.Err() != nil:
		return ctx.Err()
	case upTo >= d.first+uint64(len(d.entries)):
		l.t.Errorf("log: asked to discard up to %d, which is not written yet", upTo)
	}
	d.drop(upTo)
	return nil
}

// drop removes the entries up to a position. mu is held.
func (d *disk) drop(upTo uint64) {
	for len(d.entries) > 0 && d.first <= upTo {
		d.size -= entryBytes(d.entries[0].Records)
		d.entries[0] = stream.Entry{}
		d.entries = d.entries[1:]
		d.first++
	}
}

// Open returns a reader of the entries after a position.
func (l *Log) Open(_ context.Context, after uint64) (stream.Reader, error) {
	d := l.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	r := &logReader{l: l, next: after + 1}
	if err := r.missing(); err != nil {
		return nil, err
	}
	return r, nil
}

// logReader reads the entries of a Log in order.
type logReader struct {
	l    *Log
	next uint64
}

// missing is the error of a reader whose next entry was dropped. mu is held.
func (r *logReader) missing() error {
	if r.next < r.l.disk.first {
		return fault.New(fault.NotFound, "the log begins at %d, after %d", r.l.disk.first, r.next)
	}
	return nil
}

// Next waits for the next entry.
func (r *logReader) Next(ctx context.Context) (stream.Entry, error) {
	d := r.l.disk
	for {
		if err := ctx.Err(); err != nil {
			return stream.Entry{}, err
		}
		d.mu.Lock()
		changed, dead, err := d.changed, r.l.dead, r.missing()
		if i := int(r.next - d.first); !dead && err == nil && i < len(d.entries) {
			e := d.entries[i]
			d.mu.Unlock()
			r.next++
			e.Records = cloneRecords(e.Records)
			return e, nil
		}
		d.mu.Unlock()
		if dead {
			<-ctx.Done() // nobody is there to be told
			return stream.Entry{}, ctx.Err()
		}
		if err != nil {
			return stream.Entry{}, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// Close ends the reading.
func (r *logReader) Close() error { return nil }
