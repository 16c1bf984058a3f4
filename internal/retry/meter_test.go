package retry

import (
	"testing"
	"time"
)

func TestAMeterTellsHowLongTheRestTakes(t *testing.T) {
	t.Parallel()
	var m Meter
	now := time.Now()
	if got := m.TimeFor(now, 1); got != 30*time.Second {
		t.Errorf("nothing was done yet: %v, want the longest", got)
	}
	for range 600 { // a minute at 1000 a second
		now = now.Add(100 * time.Millisecond)
		m.Add(now, 100)
	}
	for _, c := range []struct {
		amount int
		want   time.Duration
	}{{0, time.Second}, {100, time.Second}, {10_000, 10 * time.Second}, {1_000_000, 30 * time.Second}} {
		if got := m.TimeFor(now, c.amount); got != c.want {
			t.Errorf("%d at 1000 a second: %v, want %v", c.amount, got, c.want)
		}
	}
	// What is long past does not count.
	if got := m.TimeFor(now.Add(time.Minute), 1000); got != 30*time.Second {
		t.Errorf("after a minute of nothing: %v, want the longest", got)
	}
}
