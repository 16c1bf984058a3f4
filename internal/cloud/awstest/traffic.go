package awstest

import (
	"maps"
	"sync"
	"time"
)

// Traffic is the calls that a host has had, those that a fault ended included.
type Traffic struct {
	// Calls counts by operation.
	Calls map[string]int
	// By counts by the access key that calls were signed with, and operation.
	By map[string]map[string]int
	// PerSecond is the most calls that began within one second, by operation.
	PerSecond map[string]int
	// InFlight is how many calls are being served now, MostInFlight the most
	// there were.
	InFlight, MostInFlight int
}

// Traffic returns the counters.
func (h *Host) Traffic() Traffic {
	h.traffic.mu.Lock()
	defer h.traffic.mu.Unlock()
	now := h.traffic.now
	now.Calls, now.PerSecond = maps.Clone(now.Calls), maps.Clone(now.PerSecond)
	now.By = make(map[string]map[string]int, len(h.traffic.now.By))
	for key, calls := range h.traffic.now.By {
		now.By[key] = maps.Clone(calls)
	}
	return now
}

// counters keep a Traffic.
type counters struct {
	mu      sync.Mutex
	now     Traffic
	windows map[string]*window
}

// window remembers when the calls of the last second began.
type window struct {
	began []time.Time
	first int
}

// add takes a call and returns how many began within the second that it ends.
func (w *window) add(now time.Time) int {
	w.began = append(w.began, now)
	for now.Sub(w.began[w.first]) >= time.Second {
		w.first++
	}
	if w.first > len(w.began)/2 {
		w.began = append(w.began[:0], w.began[w.first:]...)
		w.first = 0
	}
	return len(w.began) - w.first
}

func (c *counters) begin(operation, key string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.windows == nil {
		c.windows = map[string]*window{}
		c.now.Calls, c.now.PerSecond, c.now.By = map[string]int{}, map[string]int{}, map[string]map[string]int{}
	}
	w := c.windows[operation]
	if w == nil {
		w = &window{}
		c.windows[operation] = w
	}
	if c.now.By[key] == nil {
		c.now.By[key] = map[string]int{}
	}
	c.now.By[key][operation]++
	c.now.Calls[operation]++
	c.now.PerSecond[operation] = max(c.now.PerSecond[operation], w.add(now))
	c.now.InFlight++
	c.now.MostInFlight = max(c.now.MostInFlight, c.now.InFlight)
}

func (c *counters) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.InFlight--
}
