package delivery

import (
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/retry"
)

// gate keeps calls from a destination that is in trouble as a whole. While it
// is closed one call at a time is let through as a probe, after a wait.
//
// It closes when five calls in a row, each with an event that was tried for
// the first time, failed whole (retryable, throttled or ambiguous for every
// event), and at once when the destination throttles and says for how long, or
// refuses the credentials. Repeated attempts do not count towards closing:
// events that keep failing say nothing about the others. Any answer that is
// not such a failure opens it.
//
// What a closed gate means for attempts: a probe carries one event, and a
// probe that fails counts as an attempt of that event and of no other. So an
// outage of a day uses up the attempts of hardly any event, and max_attempts
// still ends in dead letters: probes take turns between events that have been
// tried and events that have not, and with the last attempt of one the next
// goes on. The wait before a probe is the retry policy's, for the number of
// failed probes so far but at most for its last attempt, and never more than
// maxProbeWait: who gives up after three attempts 10, 20 and 40 ms apart does
// not wait longer than 40 ms for a probe either.
//
// After a refusal of credentials nothing counts as an attempt at all.
//
// An operator can close it too (stop). Then there are no probes, whatever else
// closes or opens it meanwhile, until the operator opens it (resume).
type gate struct {
	policy retry.Policy

	mu sync.Mutex
	// stopped is why and since when an operator has closed it; nil if not.
	stopped *OperatorPause
	cause   cause
	why     string // the destination's words
	since   time.Time
	until   time.Time // no probe before
	failed  int       // probes in a row that failed
	streak  int
	// probing is true while a probe is out; fresh is whether the last one
	// carried an event that had not been tried before.
	probing, fresh bool
	// freshWaiting is how many lanes wait with events not tried before.
	freshWaiting int
	changed      chan struct{} // closed at each change
}

type cause uint8

const (
	open cause = iota
	trouble
	throttled
	refused
)

var causes = [...]string{open: "", trouble: "calls fail", throttled: "throttled", refused: "credentials, address or schema refused"}

const (
	// streakLimit is the number of failed calls in a row that closes the gate.
	streakLimit = 5
	// maxProbeWait bounds how long a destination that is back stays unnoticed.
	maxProbeWait = time.Minute
)

// authPolicy is how often refused credentials are tried again.
var authPolicy = retry.Policy{BaseDelay: time.Second, MaxDelay: 5 * time.Minute}

func newGate(p retry.Policy) *gate {
	p.MaxDelay = min(p.MaxDelay, maxProbeWait)
	return &gate{policy: p, changed: make(chan struct{})}
}

// turn is what the gate lets a lane do.
type turn struct {
	kind turnKind
	// fresh prefers an event that has not been tried for the probe.
	fresh bool
	// until and changed say when to ask again; until is zero while another
	// probe is out.
	until   time.Time
	changed <-chan struct{}
}

type turnKind uint8

const (
	pass turnKind = iota
	probe
	wait
)

// yield is how long a lane without fresh events lets one that has some go
// first.
const yield = 10 * time.Millisecond

// ask returns what may be done now by a lane that has fresh events or not.
// After probe, report must be called.
func (g *gate) ask(now time.Time, hasFresh bool) turn {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.stopped != nil:
		return turn{kind: wait, changed: g.changed}
	case g.cause == open:
		return turn{kind: pass}
	case g.probing:
		return turn{kind: wait, changed: g.changed}
	case now.Before(g.until):
		return turn{kind: wait, until: g.until, changed: g.changed}
	case !g.fresh && !hasFresh && g.freshWaiting > 0 && now.Before(g.until.Add(yield)):
		return turn{kind: wait, until: g.until.Add(yield), changed: g.changed}
	}
	g.probing = true
	return turn{kind: probe, fresh: !g.fresh}
}

// waits says that a lane with fresh events begins (1) or ends (-1) to wait.
func (g *gate) waits(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.freshWaiting += n
}

// lets reports whether a call may be made now, by one who was let through before.
func (g *gate) lets(isProbe bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stopped == nil && (isProbe || g.cause == open)
}

// stop closes the gate for an operator, or opens it if p is nil.
func (g *gate) stop(p *OperatorPause) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = p
	g.news()
}

// news wakes those who wait. g.mu is held.
func (g *gate) news() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// verdict is what a call says about the destination as a whole.
type verdict struct {
	outcome    outcome
	retryAfter time.Duration
	why        string
	// fresh: it carried an event that had not been tried before.
	fresh bool
}

type outcome uint8

const (
	unknown    outcome = iota // it was not made, or given up by us
	answered                  // the destination works
	failed                    // every event failed
	slowDown                  // throttled, with a wait
	noEntrance                // auth
)

// report takes the verdict of a call. wasProbe is whether ask had allowed it
// as a probe.
func (g *gate) report(v verdict, wasProbe bool, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wasProbe {
		g.probing = false
		g.fresh = v.fresh
	}
	switch v.outcome {
	case unknown:
		if !wasProbe {
			return
		}
	case answered:
		g.streak = 0
		// A call that began before the gate closed may come back well; it
		// opens the gate unless the destination asked for a wait.
		if g.cause == open || !wasProbe && g.cause != trouble {
			return
		}
		g.cause, g.why, g.failed = open, "", 0
		g.since = now
	case failed, slowDown, noEntrance:
		if !g.fail(v, wasProbe, now) {
			return
		}
	}
	g.news()
}

// fail returns whether anything changed for those who wait.
func (g *gate) fail(v verdict, wasProbe bool, now time.Time) bool {
	because := trouble
	switch v.outcome {
	case slowDown:
		because = throttled
	case noEntrance:
		because = refused
	}
	if v.fresh {
		g.streak++
	}
	switch {
	case g.cause == open:
		if because == trouble && g.streak < streakLimit {
			return false
		}
		g.since, g.failed = now, 0
	case because == refused && g.cause != refused:
		g.failed = 0 // another trouble, another count
	case !wasProbe:
		// It was on its way when the gate closed: no news, unless it asks for
		// a longer wait.
		if v.retryAfter > 0 && now.Add(v.retryAfter).After(g.until) {
			g.until = now.Add(v.retryAfter)
			return true
		}
		return false
	case g.cause == refused && because != refused:
		g.failed = 0
	}
	g.cause, g.why = because, v.why
	g.failed++
	policy := g.policy
	if because == refused {
		policy = authPolicy
	}
	n := g.failed
	if policy.MaxAttempts > 0 {
		n = min(n, policy.MaxAttempts)
	}
	g.until = now.Add(policy.Delay(n, v.retryAfter))
	return true
}

// wake allows the next probe at once.
func (g *gate) wake(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cause == open {
		return
	}
	g.until = now
	g.news()
}

// pause describes a closed gate.
type pause struct {
	reason, why  string
	since, until time.Time
	byOperator   bool
}

func (g *gate) paused() (p pause, closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.stopped; p != nil {
		return pause{reason: "paused by an operator", why: p.Reason, since: p.Since, byOperator: true}, true
	}
	return pause{reason: causes[g.cause], why: g.why, since: g.since, until: g.until}, g.cause != open
}

// judge says what the results of a call mean for the destination as a whole.
func judge(items []*item, results []connector.Result) verdict {
	v := verdict{outcome: failed}
	for i := range results {
		res := &results[i]
		v.fresh = v.fresh || items[i].attempts == 0
		if res.RetryAfter > v.retryAfter && res.Class != connector.Auth {
			v.retryAfter = res.RetryAfter
		}
		switch res.Class {
		case connector.Auth:
			v.outcome, v.why = noEntrance, res.Message
		case connector.Throttled:
			if res.RetryAfter > 0 && v.outcome != noEntrance {
				v.outcome, v.why = slowDown, res.Message
			} else if v.why == "" {
				v.why = res.Message
			}
		case connector.Retryable, connector.Ambiguous:
			if v.why == "" {
				v.why = res.Message
			}
		default:
			if v.outcome == failed {
				v.outcome = answered
			}
		}
	}
	return v
}
