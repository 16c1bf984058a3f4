package kinesistest

import (
	"maps"
	"sync"
	"time"
)

// payloadUnit is what a PUT payload unit holds: 25 KB of a record. A KB is 1,024
// bytes there, for AWS reckons 100 records of 35 KB as 3.4 MB; that the partition
// key counts is not said, and assumed. Source: Kinesis pricing page.
const payloadUnit = 25 << 10

// Stats is what the server has seen and stored.
type Stats struct {
	// Calls counts by operation, those that a fault ended included.
	Calls map[string]int
	// PerSecond is the most calls that began within one second, by operation.
	PerSecond map[string]int
	// InFlight is how many calls are being served now, MostInFlight the most
	// there were.
	InFlight, MostInFlight int

	// Records were stored: Bytes are their data, Units their PUT payload units
	// (25 KiB each or part of it, partition key included).
	Records, Bytes, Units int64
}

// stats keeps a Stats.
type stats struct {
	mu      sync.Mutex
	now     Stats
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

func (s *stats) begin(operation string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.windows == nil {
		s.windows = map[string]*window{}
		s.now.Calls, s.now.PerSecond = map[string]int{}, map[string]int{}
	}
	w := s.windows[operation]
	if w == nil {
		w = &window{}
		s.windows[operation] = w
	}
	s.now.Calls[operation]++
	s.now.PerSecond[operation] = max(s.now.PerSecond[operation], w.add(now))
	s.now.InFlight++
	s.now.MostInFlight = max(s.now.MostInFlight, s.now.InFlight)
}

func (s *stats) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.InFlight--
}

func (s *stats) stored(records, bytes, units int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Records += records
	s.now.Bytes += bytes
	s.now.Units += units
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	now := s.stats.now
	now.Calls, now.PerSecond = maps.Clone(now.Calls), maps.Clone(now.PerSecond)
	return now
}
