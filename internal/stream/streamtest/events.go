package streamtest

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/stream"
)

// Fate is what becomes of an event.
type Fate struct {
	// Take is how long it takes. A sender who waits for less is told that it is
	// not known.
	Take time.Duration
	// Err is why the event is not stored, nil if it is. Of fault.Ambiguous
	// nobody ever learns more.
	Err error
	// Spooled says where it is stored.
	Spooled bool
}

// Events is a double of the producer, for what stands before it: each event has
// the fate that OnPut gives it. It counts in an intake as the producer does,
// and fails the test when it is given an event that it was to pass over.
type Events struct {
	t      testing.TB
	intake *ledger.Intake
	// OnPut decides what becomes of an event, named as Name does it, in a call;
	// calls are numbered from 1. Nil stores all at once.
	OnPut func(call int, name string) Fate

	late sync.WaitGroup

	mu     sync.Mutex
	calls  int
	stored []string
}

// NewEvents returns a stream without events.
func NewEvents(t testing.TB, intake *ledger.Intake) *Events {
	return &Events{t: t, intake: intake}
}

// PutAndTell is that of producer.Producer.
func (s *Events) PutAndTell(ctx context.Context, b *stream.Batch, later func(event int, spooled bool, err error)) error {
	if events, _ := b.Load(); events == 0 {
		s.t.Error("events: a call without events")
	}
	s.mu.Lock()
	s.calls++
	call := s.calls
	s.mu.Unlock()
	fates := map[int]Fate{}
	spooled := false
	var first error
	var longest time.Duration
	for i := range b.Len() {
		if b.Skipped(i) {
			continue
		}
		var f Fate
		if s.OnPut != nil {
			f = s.OnPut(call, Name(s.t, b.Event(i)))
		}
		fates[i] = f
		longest = max(longest, f.Take)
	}
	began := time.Now()
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	waited := time.Since(began)
	for i := range b.Len() {
		f, ok := fates[i]
		if !ok {
			continue
		}
		raw := bytes.Clone(b.Event(i))
		err := f.Err
		if f.Take > waited {
			err = fault.New(fault.Ambiguous, "not known in time")
			s.late.Go(func() {
				time.Sleep(f.Take - waited)
				s.settle(raw, f)
				if later != nil {
					later(i, f.Spooled, f.Err)
				}
			})
		} else {
			s.settle(raw, f)
			spooled = spooled || f.Spooled && f.Err == nil
			if fault.KindOf(err) == fault.Ambiguous && later != nil {
				later(i, false, err)
			}
		}
		if b.Fail(i, err); first == nil {
			first = err
		}
	}
	b.SetSpooled(spooled)
	return first
}

// Put is that of producer.Producer.
func (s *Events) Put(ctx context.Context, b *stream.Batch) error { return s.PutAndTell(ctx, b, nil) }

// settle stores an event, or not, and counts it.
func (s *Events) settle(raw []byte, f Fate) {
	switch {
	case f.Err == nil:
		s.mu.Lock()
		s.stored = append(s.stored, Name(s.t, raw))
		s.mu.Unlock()
		s.intake.Accepted(1)
	case fault.KindOf(f.Err) == fault.TooLarge:
		s.intake.Rejected(ledger.TooLarge, 1)
	case fault.KindOf(f.Err) != fault.Ambiguous:
		s.intake.Rejected(ledger.Unavailable, 1)
	}
}

// Stored returns the names of the events that were stored, in order.
func (s *Events) Stored() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.stored...)
}

// Calls returns how many there were.
func (s *Events) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Settle waits until the fate of every event has come.
func (s *Events) Settle() { s.late.Wait() }
