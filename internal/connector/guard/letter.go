package guard

import (
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/retry"
)

// Held is the class of letters that wait behind an earlier event of their key,
// or behind the destination as a whole, and were not tried.
const Held = "held"

// What the contract of connector.Result allows. It is kept here too, so that
// no connector can fill the queue.
const (
	maxText    = 1 << 10
	maxTryText = 200 // what is worth knowing of an older attempt
	maxExcerpt = 4 << 10
)

// inDoubt is what a dead letter of class ambiguous says.
const inDoubt = "the destination may have this event, and replaying it may make a duplicate"

// Record writes a result into the letter of its event, and when the event may
// be tried again: never if notBefore is zero. tried says that it is one of the
// attempts that the letter counts. An ambiguous outcome that ends the attempts
// says what that means for who replays it.
func Record(l *deadletter.Letter, res connector.Result, tried bool, notBefore time.Time) {
	l.Class, l.Code, l.Message, l.Status = res.Class.String(), deadletter.Clip(res.Code, maxText), deadletter.Clip(res.Message, maxText), res.Status
	l.Request, l.Response = deadletter.Clip(res.Request, maxExcerpt), deadletter.Clip(res.Response, maxExcerpt)
	l.LastTry, l.NotBefore = time.Now(), notBefore
	if res.Class == connector.Ambiguous && notBefore.IsZero() {
		l.Message = deadletter.Clip(strings.TrimSuffix(inDoubt+": "+res.Message, ": "), maxText)
	}
	if tried {
		l.Tries = deadletter.AppendTry(l.Tries, deadletter.Try{At: l.LastTry, Class: l.Class, Code: l.Code, Status: l.Status, Message: deadletter.Clip(res.Message, maxTryText)})
	}
}

// Ambiguous is what happens to an event whose delivery was written and not
// answered, at a destination that does not know duplicates. The zero value is
// AmbiguousDead. A destination that knows duplicates gets it again in any case.
type Ambiguous string

// The ways to treat an ambiguous outcome.
const (
	// AmbiguousDead makes a dead letter of it, so that a person decides.
	AmbiguousDead Ambiguous = "dead"
	// AmbiguousRetry tries again, and may make duplicates.
	AmbiguousRetry Ambiguous = "retry"
)

// Known reports whether it is one of the ways, or the zero value.
func (a Ambiguous) Known() bool { return a == "" || a == AmbiguousDead || a == AmbiguousRetry }

// Patience returns a policy whose zero fields have their defaults: 350 attempts,
// base 1 s, at most 10 min. With full jitter a wait is half its bound on
// average, so that an event is given up after 28 hours, give or take one (the
// standard deviation is 53 minutes; with 300 attempts it would be 24 hours, and
// less for four events of ten): what is wrong with it can last a day, a weekend
// needs more.
func Patience(p retry.Policy) retry.Policy {
	if p.MaxAttempts == 0 {
		p.MaxAttempts = 350
	}
	if p.BaseDelay == 0 {
		p.BaseDelay = time.Second
	}
	if p.MaxDelay == 0 {
		p.MaxDelay = max(10*time.Minute, p.BaseDelay)
	}
	return p
}

// GivesUp reports whether an event becomes a dead letter after a result that
// did not settle it. dedups says that the destination knows duplicates, a what
// happens to an event whose fate is unknown if it does not.
func GivesUp(c connector.Class, attempts int, p retry.Policy, dedups bool, a Ambiguous) bool {
	switch c {
	case connector.Permanent, connector.TooLarge:
		return true
	case connector.Ambiguous:
		if !dedups && a != AmbiguousRetry {
			return true
		}
	}
	return p.Exhausted(attempts)
}
