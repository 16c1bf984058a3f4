// Package streamtest has streams for tests: one in memory that checks how it is
// used, wrappers named by how they misbehave, and the conformance suite that
// every host's stream passes.
package streamtest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

// Stream is where records are written.
type Stream = producer.Stream

// Limits are what a stream takes. Zero fields are not checked.
type Limits struct {
	MaxCallRecords int
	MaxCallBytes   int // data and partition keys
	MaxRecordBytes int // data and partition key
}

// Memory is a stream that keeps its entries in memory, one per call. A record
// over the limit fails as too large. A call that breaks the contract fails the
// test: empty or over a limit, with a partition key twice, or with a count of
// events that is not the record's.
type Memory struct {
	t      testing.TB
	limits Limits

	mu      sync.Mutex
	entries []stream.Entry
	grown   chan struct{} // closed and replaced at every entry
}

// NewMemory returns an empty stream.
func NewMemory(t testing.TB, limits Limits) *Memory {
	return &Memory{t: t, limits: limits, grown: make(chan struct{})}
}

// Limits returns what the stream takes.
func (m *Memory) Limits() Limits { return m.limits }

// PutRecords stores the records as one entry.
func (m *Memory) PutRecords(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
	m.check(records)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	position := uint64(len(m.entries) + 1)
	entry := stream.Entry{Position: position, StoredAt: time.Now()}
	results := make([]stream.Result, len(records))
	for i, r := range records {
		if most := m.limits.MaxRecordBytes; most > 0 && len(r.PartitionKey)+len(r.Data) > most {
			results[i].Err = fault.New(fault.TooLarge, "the limit is %d bytes", most)
			continue
		}
		results[i].Sequence = fmt.Sprintf("%d.%d", position, len(entry.Records))
		r.Data = bytes.Clone(r.Data)
		entry.Records = append(entry.Records, r)
	}
	if len(entry.Records) == 0 {
		return results, nil
	}
	m.entries = append(m.entries, entry)
	close(m.grown)
	m.grown = make(chan struct{})
	return results, nil
}

func (m *Memory) check(records []stream.Record) {
	m.t.Helper()
	if len(records) == 0 {
		m.t.Error("stream: a call without records")
	}
	if most := m.limits.MaxCallRecords; most > 0 && len(records) > most {
		m.t.Errorf("stream: %d records in a call, the limit is %d", len(records), most)
	}
	total := 0
	keys := make(map[string]bool, len(records))
	for _, r := range records {
		total += len(r.PartitionKey) + len(r.Data)
		if keys[r.PartitionKey] {
			m.t.Errorf("stream: partition key %q twice in a call", r.PartitionKey)
		}
		keys[r.PartitionKey] = true
		events := 0
		for range stream.Deaggregate(r) {
			events++
		}
		if r.Events != events {
			m.t.Errorf("stream: record of %q says %d events and holds %d", r.PartitionKey, r.Events, events)
		}
	}
	if most := m.limits.MaxCallBytes; most > 0 && total > most {
		m.t.Errorf("stream: call of %d bytes, the limit is %d", total, most)
	}
}

// Entries returns what was stored, oldest first.
func (m *Memory) Entries() []stream.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entries[:len(m.entries):len(m.entries)]
}

// Events returns the stored events of all entries in the order of the stream.
func (m *Memory) Events() [][]byte {
	var events [][]byte
	for _, e := range m.Entries() {
		for _, r := range e.Records {
			for _, data := range stream.Deaggregate(r) {
				events = append(events, data)
			}
		}
	}
	return events
}

// Last returns the position of the newest entry, 0 if there is none.
func (m *Memory) Last(context.Context) (uint64, error) { return uint64(len(m.Entries())), nil }

// First returns the position of the oldest entry, or of the next one.
func (m *Memory) First(context.Context) (uint64, error) { return 1, nil }

// CountBefore returns the number of events below a position.
func (m *Memory) CountBefore(_ context.Context, position uint64) (uint64, error) {
	var n uint64
	for _, e := range m.Entries() {
		if e.Position < position {
			for _, r := range e.Records {
				n += uint64(r.Events)
			}
		}
	}
	return n, nil
}

// Open returns a reader of the entries after a position.
func (m *Memory) Open(_ context.Context, after uint64) (stream.Reader, error) {
	return &memoryReader{m: m, next: int(after)}, nil
}

// memoryReader reads the entries of a Memory in order.
type memoryReader struct {
	m    *Memory
	next int
}

// Next waits for the next entry.
func (r *memoryReader) Next(ctx context.Context) (stream.Entry, error) {
	for {
		r.m.mu.Lock()
		grown := r.m.grown
		if r.next < len(r.m.entries) {
			e := r.m.entries[r.next]
			r.m.mu.Unlock()
			r.next++
			e.Records = append([]stream.Record(nil), e.Records...)
			for i := range e.Records {
				e.Records[i].Data = append([]byte(nil), e.Records[i].Data...)
			}
			return e, nil
		}
		r.m.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return stream.Entry{}, ctx.Err()
		}
	}
}

// Close ends the reading.
func (r *memoryReader) Close() error { return nil }
