package streamtest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
)

// Sent makes an event from user/id, with a filling after another slash.
func Sent(name string) *event.Event {
	parts := strings.SplitN(name, "/", 3)
	e := &event.Event{ID: parts[1], Type: event.TypeTrack, Name: "order_placed", UserID: parts[0]}
	if len(parts) == 3 {
		e.Data = json.RawMessage(`{"note":"` + parts[2] + `"}`)
	}
	return e
}

// Name is the reverse of Sent, without the filling. The fields of the stored
// form stand in a fixed order.
func Name(t testing.TB, data []byte) string {
	_, rest, ok1 := strings.Cut(string(data), `{"id":"`)
	id, rest, ok2 := strings.Cut(rest, `"`)
	_, rest, ok3 := strings.Cut(rest, `"user_id":"`)
	user, _, ok4 := strings.Cut(rest, `"`)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		t.Fatalf("stored event %q is not as it was sent", data)
	}
	return user + "/" + id
}

// Sender puts batches of random events, one after another, with partition keys
// of its own, and remembers what it was told.
type Sender struct {
	t       testing.TB
	id      int
	put     func(context.Context, *stream.Batch) error
	rng     *rand.Rand
	batch   stream.Batch // used again and again, as the edge does
	sent    []string     // in order
	answers map[string]error
}

// NewSender returns a sender that puts through a function.
func NewSender(t testing.TB, id int, rng *rand.Rand, put func(context.Context, *stream.Batch) error) *Sender {
	return &Sender{t: t, id: id, put: put, rng: rng, answers: map[string]error{}}
}

// Put sends a batch, waits for the answer at most two seconds, and rests a
// little.
func (s *Sender) Put() {
	s.batch.Reset()
	first := len(s.sent)
	for range 1 + s.rng.IntN(1+s.rng.IntN(40)) {
		n := fmt.Sprintf("u%d-%d/%d", s.id, s.rng.IntN(4), len(s.sent))
		s.batch.Add(Sent(n + "/" + strings.Repeat("x", s.rng.IntN(300)*s.rng.IntN(3))))
		s.sent = append(s.sent, n)
	}
	patience := time.Duration(1+s.rng.IntN(2000)) * time.Millisecond
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	began := time.Now()
	err := s.put(ctx, &s.batch)
	if took := time.Since(began); took > patience {
		s.t.Errorf("Put took %v, its context %v", took, patience)
	}
	for i, n := range s.sent[first:] {
		s.answers[n] = s.batch.Err(i)
		if err == nil && s.batch.Err(i) != nil {
			s.t.Errorf("Put returned nil, %s failed: %v", n, s.batch.Err(i))
		}
	}
	if s.rng.IntN(3) == 0 {
		time.Sleep(time.Duration(s.rng.IntN(200)) * time.Millisecond)
	}
}

// Sent returns how many events were put.
func (s *Sender) Sent() int { return len(s.sent) }

// Positions returns by name where the first copy of each event is.
func Positions(t testing.TB, events [][]byte) map[string]int {
	positions := make(map[string]int, len(events))
	for i, data := range events {
		n := Name(t, data)
		if _, ok := positions[n]; !ok {
			positions[n] = i
		}
	}
	return positions
}

// Check fails the test unless the answers are true of a stream that has events
// at these positions, and those of each key are in the order in which they were
// put. Events that are durable elsewhere, by name, may be missing.
func (s *Sender) Check(position map[string]int, elsewhere map[string]bool) {
	before := map[string]string{} // by key: the last event of it on the stream
	for _, n := range s.sent {
		err := s.answers[n]
		at, stored := position[n]
		switch {
		case err == nil && !stored && !elsewhere[n]:
			s.t.Errorf("%s was answered with nil and is not on the stream", n)
		case err != nil && fault.KindOf(err) != fault.Ambiguous && stored:
			s.t.Errorf("%s was answered with %v and is on the stream", n, err)
		}
		if !stored {
			continue
		}
		key, _, _ := strings.Cut(n, "/")
		if last, ok := before[key]; ok && position[last] > at {
			s.t.Errorf("%s was put before %s and is behind it on the stream", last, n)
		}
		before[key] = n
	}
}

// Copies returns how often each event is there.
func Copies(events [][]byte) map[string]int {
	copies := map[string]int{}
	for _, data := range events {
		copies[string(data)]++
	}
	return copies
}
