package guard

import (
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

// Record writes a result into the letter of its event, and when the event may
// be tried again: never if notBefore is zero. tried says that it is one of the
// attempts that the letter counts.
func Record(l *deadletter.Letter, res connector.Result, tried bool, notBefore time.Time) {
	l.Class, l.Code, l.Message, l.Status = res.Class.String(), deadletter.Clip(res.Code, maxText), deadletter.Clip(res.Message, maxText), res.Status
	l.Request, l.Response = deadletter.Clip(res.Request, maxExcerpt), deadletter.Clip(res.Response, maxExcerpt)
	l.LastTry, l.NotBefore = time.Now(), notBefore
	if tried {
		l.Tries = deadletter.AppendTry(l.Tries, deadletter.Try{At: l.LastTry, Class: l.Class, Code: l.Code, Status: l.Status, Message: deadletter.Clip(l.Message, maxTryText)})
	}
}

// Patience returns a policy whose zero fields have their defaults: 300 attempts,
// base 1 s, at most 10 min. With full jitter a wait is half its bound on
// average, so that an event gives up after about 25 hours: a destination can be
// away for a day, a weekend needs more.
func Patience(p retry.Policy) retry.Policy {
	if p.MaxAttempts == 0 {
		p.MaxAttempts = 300
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
// did not settle it. mayRepeat says that an event may be delivered again whose
// fate is unknown.
func GivesUp(c connector.Class, attempts int, p retry.Policy, mayRepeat bool) bool {
	switch c {
	case connector.Permanent, connector.TooLarge:
		return true
	case connector.Ambiguous:
		if !mayRepeat {
			return true
		}
	}
	return p.Exhausted(attempts)
}
