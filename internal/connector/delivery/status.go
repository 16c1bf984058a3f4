package delivery

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
)

// The states of a runner.
const (
	// Starting: it has not recovered yet.
	Starting = "starting"
	Running  = "running"
	// Paused: calls are held back, but for a probe at a time, because the
	// destination as a whole is in trouble.
	Paused  = "paused"
	Stopped = "stopped"
)

// Status is how a destination is.
type Status struct {
	State string `json:"state"`
	// Reason says why it is paused or stopped, in our words and those of the
	// destination. Since is when that began, Until when it is tried next.
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"`
	// LastError is the newest failure, of a call, of the store or of the
	// stream; it may be long over.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	// Calls were made, Attempts are the events in them, and Results what
	// became of each, by class. They count since the process started.
	Calls    uint64            `json:"calls"`
	Attempts uint64            `json:"attempts"`
	Results  map[string]uint64 `json:"results,omitempty"`
	// Position is that of the saved State.
	Position uint64 `json:"position"`
	// OldestWaiting is when the oldest event that waits in memory for its
	// first attempt was stored; zero if none waits.
	OldestWaiting time.Time `json:"oldest_waiting,omitzero"`
	// Stuck is the number of calls that did not return when their time was
	// over.
	Stuck int `json:"stuck,omitempty"`
	// Residual is what the account missed when the runner started: 0, or
	// letters were lost or counted twice.
	Residual int64 `json:"residual,omitempty"`
}

// Status returns how the destination is at this moment.
func (r *Runner) Status() Status {
	s := r.stats.status()
	s.State = Running
	s.Position = r.position.Load()
	s.OldestWaiting = r.books.oldest()
	select {
	case <-r.ready:
	default:
		s.State = Starting
	}
	if p, closed := r.gate.paused(); closed {
		s.State, s.Reason, s.Since, s.Until = Paused, p.reason, p.since, p.until
		if p.why != "" {
			s.Reason += ": " + p.why
		}
	}
	select {
	case <-r.done:
		s.State, s.Reason = Stopped, ""
		if r.ended != nil {
			s.Reason = r.ended.Error()
		}
	default:
	}
	return s
}

const classes = int(connector.Ambiguous) + 1

// stats are counters for the operator; the account does not depend on them.
type stats struct {
	mu              sync.Mutex
	calls, attempts uint64
	results         [classes]uint64
	stuck           int
	residual        int64
	lastError       string
	lastErrorAt     time.Time
}

func (s *stats) count(results []connector.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.attempts += uint64(len(results))
	for i := range results {
		if c := int(results[i].Class); c < classes {
			s.results[c]++
		}
	}
}

func (s *stats) fault(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastError, s.lastErrorAt = message, time.Now()
}

func (s *stats) addStuck(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuck += n
}

func (s *stats) setResidual(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.residual = n
}

func (s *stats) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{
		LastError: s.lastError, LastErrorAt: s.lastErrorAt, Calls: s.calls, Attempts: s.attempts,
		Stuck: s.stuck, Residual: s.residual,
	}
	for c, n := range s.results {
		if n > 0 {
			if st.Results == nil {
				st.Results = map[string]uint64{}
			}
			st.Results[connector.Class(c).String()] = n
		}
	}
	return st
}

// trouble reports a failure of the store or the stream that is tried again.
func (r *Runner) trouble(what string, err error, attempt int) {
	r.stats.fault(what + ": " + err.Error())
	level := slog.LevelDebug
	if attempt == 1 || attempt%20 == 0 { // not every one of a long outage
		level = slog.LevelWarn
	}
	r.log.Log(context.Background(), level, "delivery cannot go on and tries again", "step", what, "attempt", attempt, "error", err)
}
