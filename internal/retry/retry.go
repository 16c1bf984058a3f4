// Package retry is about waiting: how long before the next attempt, and how to
// wait without outliving a context.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Policy is how often and how patiently something is attempted.
type Policy struct {
	// MaxAttempts counts the first attempt too. Zero means no bound.
	MaxAttempts int
	// BaseDelay bounds the wait before the second attempt.
	BaseDelay time.Duration
	// MaxDelay bounds every wait; the bound doubles from BaseDelay up to it.
	MaxDelay time.Duration
}

// Exhausted reports whether no attempt is left after so many were made.
func (p Policy) Exhausted(attempts int) bool {
	return p.MaxAttempts > 0 && attempts >= p.MaxAttempts
}

// Delay returns the wait after so many failed attempts (1 is the first): a
// uniformly random part of the doubled base delay ("full jitter", AWS
// Architecture Blog, "Exponential Backoff And Jitter", 2015), so that senders
// that failed together do not come back together. atLeast is a floor that the
// other side asked for (Retry-After); up to a tenth is added to it, for the
// same reason.
func (p Policy) Delay(attempts int, atLeast time.Duration) time.Duration {
	d := jitter(p.bound(attempts))
	if atLeast > 0 {
		d = max(d, atLeast+jitter(atLeast/10))
	}
	return d
}

// bound is min(MaxDelay, BaseDelay·2^(attempts-1)) without overflow.
func (p Policy) bound(attempts int) time.Duration {
	bound := p.BaseDelay
	for i := 1; i < attempts && bound < p.MaxDelay; i++ {
		bound *= 2
	}
	if p.MaxDelay > 0 {
		bound = min(bound, p.MaxDelay)
	}
	return bound
}

func jitter(bound time.Duration) time.Duration {
	if bound <= 0 {
		return 0
	}
	return rand.N(bound + 1)
}

// Sleep waits for d or until ctx is done, and says which by its error.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
