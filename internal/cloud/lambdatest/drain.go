package lambdatest

import (
	"context"
	"slices"
)

// note says that so many events are under way more, or less, or (0) that
// something else has changed that Drain looks at.
func (s *Server) note(events int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteLocked(events)
}

func (s *Server) noteLocked(events int) {
	s.pending += events
	s.work++
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// Drain waits until there is nothing to do: no invocation runs, no asynchronous
// event is queued or waits for its next attempt, the mappings have read all of
// their streams, and their queues hold no message, not even a delayed one or one
// in flight. It fails when ctx is done, or the server is closed.
func (s *Server) Drain(ctx context.Context) error {
	for {
		s.mu.Lock()
		work, pending, mappings := s.work, s.pending, slices.Clone(s.mappings)
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		// A look at the mappings is not one moment. What moved from one that was
		// looked at to one that was not has counted as work.
		if pending == 0 && !slices.ContainsFunc(mappings, func(m *Mapping) bool { return !m.idle() }) {
			s.mu.Lock()
			quiet := work == s.work
			s.mu.Unlock()
			if quiet {
				return nil
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return closing
		}
	}
}
