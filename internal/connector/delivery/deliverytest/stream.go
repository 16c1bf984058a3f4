package deliverytest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/stream"
)

// Stream is a stream in memory.
type Stream struct {
	mu      sync.Mutex
	entries []stream.Entry
	events  int // in all of them
	first   int // index of the oldest entry retained
	more    chan struct{}
	// OnNext may fail the reading of an entry.
	OnNext func(position uint64) error
}

var _ delivery.Stream = (*Stream)(nil)

// Append stores events, in stored form, as one entry of one record.
func (s *Stream) Append(events ...[]byte) {
	var a stream.Aggregate
	a.Reset("bucket-0", 0)
	for _, e := range events {
		a.Add(e)
	}
	s.AppendRecord(stream.Record{PartitionKey: "bucket-0", Data: append([]byte(nil), a.Seal()...), Events: len(events)})
}

// AppendRecord stores records as one entry.
func (s *Stream) AppendRecord(records ...stream.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, stream.Entry{Position: uint64(len(s.entries) + 1), StoredAt: time.Now(), Records: records})
	s.events += count(s.entries[len(s.entries)-1])
	if s.more != nil {
		close(s.more)
		s.more = nil
	}
}

// Trim discards the entries before a position.
func (s *Stream) Trim(position uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = max(s.first, int(position)-1)
}

// Events returns how many events were stored.
func (s *Stream) Events() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events
}

func count(e stream.Entry) (n int) {
	for _, rec := range e.Records {
		n += max(rec.Events, 1) // as the engine counts
	}
	return n
}

// Last implements delivery.Stream.
func (s *Stream) Last(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.entries)), nil
}

// First implements delivery.Stream.
func (s *Stream) First(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(s.first + 1), nil
}

// CountBefore implements delivery.Stream.
func (s *Stream) CountBefore(_ context.Context, position uint64) (n uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if e.Position < position {
			n += uint64(count(e))
		}
	}
	return n, nil
}

// Open implements delivery.Stream.
func (s *Stream) Open(_ context.Context, after uint64) (stream.Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &reader{s: s, next: max(int(after), s.first)}, nil
}

type reader struct {
	s    *Stream
	next int // index
}

func (r *reader) Next(ctx context.Context) (stream.Entry, error) {
	for {
		r.s.mu.Lock()
		if r.next < len(r.s.entries) {
			e := r.s.entries[r.next]
			r.s.mu.Unlock()
			if r.s.OnNext != nil {
				if err := r.s.OnNext(e.Position); err != nil {
					return stream.Entry{}, err
				}
			}
			r.next++
			return e, ctx.Err()
		}
		if r.s.more == nil {
			r.s.more = make(chan struct{})
		}
		more := r.s.more
		r.s.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return stream.Entry{}, ctx.Err()
		}
	}
}

func (r *reader) Close() error { return nil }

// Event returns the stored form of an event of a user.
func Event(id, name, user string) []byte {
	e := event.Event{
		ID: id, Type: event.TypeTrack, Name: name, UserID: user,
		Timestamp: "2026-11-23T10:00:00Z", ReceivedAt: "2026-11-23T10:00:01Z", Source: "web",
		Data: fmt.Appendf(nil, `{"n":%q}`, id),
	}
	return e.Append(nil)
}
