package delivery

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/budget"
)

// The states of a runner.
const (
	// Starting: it has not recovered yet.
	Starting = "starting"
	Running  = "running"
	// Paused: calls are held back, but for a probe at a time, because the
	// destination as a whole is in trouble; or there are none at all, because an
	// operator has paused it.
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
	// PausedByOperator: it stays paused until an operator resumes it.
	PausedByOperator bool `json:"paused_by_operator,omitempty"`
	// LastError is the newest failure, of a call, of the store or of the
	// stream; it may be long over.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	// Calls were made, Attempts are the events in them, and Results what
	// became of each, by class. They count since the process started.
	Calls    uint64            `json:"calls"`
	Attempts uint64            `json:"attempts"`
	Results  map[string]uint64 `json:"results,omitempty"`
	// Rate is how many events per second were delivered over the last minute.
	Rate float64 `json:"rate"`
	// SuccessShare is the part, from 0 to 1, of the newest thousand results or two
	// that settled their event; nil without any.
	SuccessShare *float64 `json:"success_share,omitempty"`
	// Latency is how long the newest 512 calls took; nil without any.
	Latency *Latency `json:"call_latency,omitempty"`
	// Budget is what the destination gets at most, as its throttling has taught.
	Budget budget.Status `json:"budget"`
	// Position is that of the saved State.
	Position uint64 `json:"position"`
	// OldestWaiting is when the oldest event that waits in memory for its
	// first attempt was stored; zero if none waits.
	OldestWaiting time.Time `json:"oldest_waiting,omitzero"`
	// OldestUnsettled is the same of all events that wait, parked ones included;
	// those count since the runner has read them.
	OldestUnsettled time.Time `json:"oldest_unsettled,omitzero"`
	// Stuck is the number of calls that did not return when their time was
	// over.
	Stuck int `json:"stuck,omitempty"`
	// Residual is what the account missed when the runner started: 0, or
	// letters were lost or counted twice.
	Residual int64 `json:"residual,omitempty"`
}

// Latency is of calls, in seconds.
type Latency struct {
	P50 float64 `json:"p50_seconds"`
	P99 float64 `json:"p99_seconds"`
}

// Status returns how the destination is at this moment.
func (r *Runner) Status() Status {
	s := r.stats.status()
	s.State = Running
	s.Position = r.position.Load()
	s.Budget = r.budget.Status()
	fresh, parked := r.books.oldest()
	s.OldestWaiting, s.OldestUnsettled = fresh, fresh
	if fresh.IsZero() || !parked.IsZero() && parked.Before(fresh) {
		s.OldestUnsettled = parked
	}
	select {
	case <-r.ready:
	default:
		s.State = Starting
	}
	if p, closed := r.gate.paused(); closed {
		s.State, s.Reason, s.Since, s.Until, s.PausedByOperator = Paused, p.reason, p.since, p.until, p.byOperator
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

	since time.Time // the beginning
	// delivered are the events of the last minute, in slots; good of all are those
	// that were settled, of the newest results.
	delivered [rateSlots]slot
	good, all int
	// took is how long the newest calls took, each at its number modulo the length.
	took [512]time.Duration
}

// slot counts what happened in one stretch of time, by its number since 1970.
type slot struct {
	number int64
	events int
}

const (
	slotTime  = 5 * time.Second
	rateSlots = int64(time.Minute / slotTime)
	// recent results are so many, or twice that.
	recent = 1000
)

func (s *stats) count(results []connector.Result, began, ended time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took[s.calls%uint64(len(s.took))] = ended.Sub(began)
	s.calls++
	s.attempts += uint64(len(results))
	delivered := 0
	for i := range results {
		class := results[i].Class
		if int(class) < classes {
			s.results[class]++
		}
		if class.Settled() {
			s.good++
			if class != connector.Dropped {
				delivered++
			}
		}
	}
	if s.all += len(results); s.all >= 2*recent {
		s.good, s.all = int(int64(s.good)*recent/int64(s.all)), recent
	}
	number := ended.UnixNano() / int64(slotTime)
	now := &s.delivered[number%rateSlots]
	if now.number != number {
		*now = slot{number: number}
	}
	now.events += delivered
}

// rate returns how many events were delivered per second, over the slots that the
// minute has begun and ended in. s.mu is held.
func (s *stats) rate(now time.Time) float64 {
	number := now.UnixNano() / int64(slotTime)
	n := 0
	for _, slot := range s.delivered {
		if slot.number > number-rateSlots {
			n += slot.events
		}
	}
	covered := now.Sub(time.Unix(0, (number-rateSlots+1)*int64(slotTime)))
	if age := now.Sub(s.since); age < covered {
		covered = max(age, time.Second)
	}
	return float64(n) / covered.Seconds()
}

// latency returns nil without a call. s.mu is held.
func (s *stats) latency() *Latency {
	n := min(s.calls, uint64(len(s.took)))
	if n == 0 {
		return nil
	}
	took := slices.Sorted(slices.Values(s.took[:n]))
	at := func(share float64) float64 { return took[int(share*float64(n-1)+0.5)].Seconds() }
	return &Latency{P50: at(0.5), P99: at(0.99)}
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
		Stuck: s.stuck, Residual: s.residual, Rate: s.rate(time.Now()), Latency: s.latency(),
	}
	if s.all > 0 {
		share := float64(s.good) / float64(s.all)
		st.SuccessShare = &share
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
