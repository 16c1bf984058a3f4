package sqstest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The methods of this file are for programs that stand beside SQS, such as the
// pollers of Lambda: they need no connection, know no faults, and work on a
// server that is stopped. Where they take a queue, its name will do, and its URL
// or ARN as well.

// CreateQueue adds a queue.
func (s *Server) CreateQueue(c Queue) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.createQueue(c); err != nil {
		return err // a nil *Error in an error would not be nil
	}
	return nil
}

// Send stores a message and returns its id: that of the first if it is a
// duplicate in a FIFO queue.
func (s *Server) Send(queue string, m Message) (id string, err error) {
	prepared := prepare(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	q, no := s.find(queue)
	if no != nil {
		return "", no
	}
	var delay *time.Duration
	if m.Delay != 0 {
		delay = &m.Delay
	}
	stored, no := s.send(q, prepared, delay)
	if no != nil {
		return "", no
	}
	return stored.id, nil
}

// Receive returns up to max messages, and none if there are none: it does not
// wait. Visibility hides them from others; zero takes the queue's timeout.
// Unlike ReceiveMessage it may be asked for more than ten.
func (s *Server) Receive(queue string, max int, visibility time.Duration) []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(queue)
	if err != nil {
		return nil
	}
	if visibility == 0 {
		visibility = q.visibility
	}
	var out []Received
	for _, m := range s.take(q, max, visibility, time.Now()) {
		out = append(out, m.received())
	}
	return out
}

// Delete deletes a message that was received. To delete it again is no error.
func (s *Server) Delete(queue, receipt string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(queue)
	if err == nil {
		err = q.delete(receipt)
	}
	if err != nil {
		return err
	}
	return nil
}

// SetVisibility changes how long a message in flight stays hidden, from now:
// zero makes it visible at once.
func (s *Server) SetVisibility(queue, receipt string, d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(queue)
	if err == nil {
		err = q.setVisibility(receipt, d, time.Now())
	}
	if err != nil {
		return err
	}
	return nil
}

// Wait returns nil when a message of the queue can be received; with several
// who wait, another may have it first. It fails when ctx is done or there is no
// such queue (any more).
func (s *Server) Wait(ctx context.Context, queue string) error {
	for {
		s.mu.Lock()
		q, no := s.find(queue)
		if no != nil {
			s.mu.Unlock()
			return no
		}
		ready, changed, next := q.receivable(), q.watch(), q.next()
		s.mu.Unlock()
		if ready {
			return nil
		}
		if err := until(ctx, changed, next, nil); err != nil {
			return err
		}
	}
}

// until waits until something has changed, or next if that is a time. It fails
// when ctx is done or ended is closed.
func until(ctx context.Context, changed <-chan struct{}, next time.Time, ended <-chan struct{}) error {
	var timer <-chan time.Time
	if !next.IsZero() {
		t := time.NewTimer(time.Until(next))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-changed:
		return nil
	case <-timer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-ended:
		return http.ErrServerClosed
	}
}

// Messages returns all messages of a queue, in the order in which they came to
// it; none if there is no such queue.
func (s *Server) Messages(queue string) []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(queue)
	if err != nil {
		return nil
	}
	all := slices.Clone(q.ages.items)
	slices.SortFunc(all, func(a, b *message) int { return int(a.number) - int(b.number) })
	out := make([]Received, len(all))
	for i, m := range all {
		out[i] = m.received()
	}
	return out
}

// ARN returns that of a queue, which need not exist.
func (s *Server) ARN(queue string) string {
	return "arn:aws:sqs:" + s.Region() + ":" + account + ":" + nameOf(queue)
}

// QueueURL returns that of a queue, which need not exist.
func (s *Server) QueueURL(queue string) string {
	return s.URL() + "/" + account + "/" + nameOf(queue)
}

// nameOf returns the name of a queue from itself, its URL or its ARN.
func nameOf(queue string) string { return queue[strings.LastIndexAny(queue, "/:")+1:] }

// find returns a queue, as it is now. The caller holds s.mu.
func (s *Server) find(queue string) (*queue, *Error) {
	q := s.queues[nameOf(queue)]
	if q == nil {
		return nil, NoQueue
	}
	q.advance(time.Now())
	return q, nil
}
