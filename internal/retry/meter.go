package retry

import (
	"math"
	"time"
)

// Meter estimates how fast something goes on, and so how long the rest of it
// will take: the rate is a mean over the past in which what is older counts
// less and less. The zero value is ready. It is not safe for concurrent use.
type Meter struct {
	amount float64 // weighted
	at     time.Time
}

// meterWindow is about how much of the past counts.
const meterWindow = 5 * time.Second

// Add notes that an amount was done.
func (m *Meter) Add(now time.Time, n int) {
	if elapsed := now.Sub(m.at); elapsed > 0 {
		m.amount *= math.Exp(-elapsed.Seconds() / meterWindow.Seconds())
		m.at = now
	}
	m.amount += float64(n)
}

// TimeFor returns how long an amount takes at the rate of late, between a
// second and half a minute: the bounds of what a sender that is told to wait so
// long can make use of.
func (m *Meter) TimeFor(now time.Time, n int) time.Duration {
	const shortest, longest = time.Second, 30 * time.Second
	m.Add(now, 0)
	seconds := float64(n) / (m.amount / meterWindow.Seconds()) // +Inf if nothing was done
	if !(seconds < longest.Seconds()) {
		return longest
	}
	return max(shortest, time.Duration(seconds*float64(time.Second)).Round(time.Second))
}
