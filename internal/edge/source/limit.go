package source

import (
	"time"

	"golang.org/x/time/rate"
)

// Rate is a token bucket in events.
type Rate struct {
	// PerSecond is how many events a second are allowed in the long run.
	PerSecond float64 `json:"per_second" validate:"gt=0,lte=1e9"`
	// Burst is how many events may come at once after a pause. Default:
	// PerSecond, rounded up.
	Burst int `json:"burst,omitempty" validate:"gte=0,lte=1000000000"`
}

// burst returns Burst with its default.
func (r Rate) burst() int {
	if r.Burst > 0 {
		return r.Burst
	}
	return max(1, int(r.PerSecond+0.999999))
}

// Limit is the state of one bucket. It is safe for concurrent use. Nil admits
// everything.
type Limit struct {
	rate   Rate
	bucket *rate.Limiter
}

func newLimit(r Rate) *Limit {
	return &Limit{rate: r, bucket: rate.NewLimiter(rate.Limit(r.PerSecond), r.burst())}
}

// Take admits n events and returns zero, or admits none and returns how long
// to wait. More events than the burst are admitted when the bucket is full,
// and leave a debt that the following events wait for: a batch cannot be split
// by the gateway, and must not be refused for ever.
func (l *Limit) Take(now time.Time, n int) (wait time.Duration) {
	if l == nil || n <= 0 {
		return 0
	}
	burst := l.bucket.Burst()
	atOnce := min(n, burst)
	if !l.bucket.AllowN(now, atOnce) {
		return l.until(now, atOnce)
	}
	// A reservation may make the bucket negative, which is the debt. None can
	// be for more than the burst.
	for debt := n - atOnce; debt > 0; debt -= burst {
		l.bucket.ReserveN(now, min(debt, burst))
	}
	return 0
}

// Wait returns how long a request of one event would have to wait now, zero if
// it would be admitted. It takes nothing: with it a request can be refused
// before its body is read.
func (l *Limit) Wait(now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	return l.until(now, 1)
}

func (l *Limit) until(now time.Time, n int) time.Duration {
	missing := float64(n) - l.bucket.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	// Long waits overflow a Duration; nobody waits longer than a day.
	seconds := min(missing/float64(l.bucket.Limit()), 86400)
	return max(time.Duration(seconds*float64(time.Second)), 1)
}
