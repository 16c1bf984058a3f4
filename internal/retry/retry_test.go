package retry

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestDelayStaysBelowTheDoubledBound(t *testing.T) {
	t.Parallel()
	p := Policy{MaxAttempts: 8, BaseDelay: time.Second, MaxDelay: 10 * time.Second}
	bounds := []time.Duration{1, 1, 2, 4, 8, 10, 10}
	for attempts, bound := range bounds {
		var longest time.Duration
		for range 2000 {
			d := p.Delay(attempts, 0)
			if d < 0 || d > bound*time.Second {
				t.Fatalf("after %d attempts: %v, the bound is %v", attempts, d, bound*time.Second)
			}
			longest = max(longest, d)
		}
		if longest < bound*time.Second/2 {
			t.Errorf("after %d attempts the longest of 2000 waits was %v of %v: that is not full jitter", attempts, longest, bound*time.Second)
		}
	}
}

func TestDelayDoesNotOverflow(t *testing.T) {
	t.Parallel()
	p := Policy{BaseDelay: time.Second, MaxDelay: time.Hour}
	if d := p.Delay(1<<30, 0); d < 0 || d > time.Hour {
		t.Fatalf("Delay = %v", d)
	}
}

func TestRetryAfterIsAFloorWithALittleSpread(t *testing.T) {
	t.Parallel()
	p := Policy{BaseDelay: time.Millisecond, MaxDelay: time.Millisecond}
	for range 1000 {
		if d := p.Delay(1, 10*time.Second); d < 10*time.Second || d > 11*time.Second {
			t.Fatalf("Delay = %v", d)
		}
	}
}

func TestExhausted(t *testing.T) {
	t.Parallel()
	if p := (Policy{MaxAttempts: 3}); p.Exhausted(2) || !p.Exhausted(3) {
		t.Error("three attempts are three")
	}
	if p := (Policy{}); p.Exhausted(1 << 40) {
		t.Error("no bound is no bound")
	}
}

func TestSleepEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := Sleep(ctx, time.Minute); err == nil || time.Since(start) != time.Second {
			t.Fatalf("Sleep = %v after %v", err, time.Since(start))
		}
		if err := Sleep(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
	})
}
