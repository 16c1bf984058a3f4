// Package histogram counts values in buckets. A value costs a few nanoseconds,
// no lock and no memory, so that it may be one per request; the buckets are
// read when somebody asks for the metrics.
package histogram

import "sync/atomic"

// Bounds of what is measured, each in the unit that is observed.
var (
	// Durations are in nanoseconds: half a millisecond, which a quiet disk
	// takes, to the ten seconds after which a request is given up.
	Durations = []uint64{5e5, 1e6, 2.5e6, 5e6, 1e7, 2.5e7, 5e7, 1e8, 2.5e8, 5e8, 1e9, 2.5e9, 5e9, 1e10}
	// Numbers are of things in one record or call: Kinesis takes 500 records,
	// and a record has room for some thousand events.
	Numbers = []uint64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000}
	// Sizes are in bytes, up to the 10 MiB of a call.
	Sizes = []uint64{1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 2 << 20, 5 << 20, 10 << 20}
)

// Histogram counts values in buckets. Its methods are safe for concurrent use.
type Histogram struct {
	bounds []uint64 // the largest value of each bucket but the last
	counts []atomic.Uint64
	sum    atomic.Uint64
}

// New returns an empty Histogram. Bounds grow.
func New(bounds []uint64) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe counts a value.
func (h *Histogram) Observe(value uint64) {
	i := 0
	for i < len(h.bounds) && value > h.bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(value)
}

// Snapshot is what a Histogram has counted.
type Snapshot struct {
	// Bounds are the largest values of the buckets but the last, which has no
	// bound; Counts has one more.
	Bounds, Counts []uint64
	Count, Sum     uint64
}

// Snapshot returns the counts of now. While values are being counted, the sum
// may be ahead of the counts or behind.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{Bounds: h.bounds, Counts: make([]uint64, len(h.counts)), Sum: h.sum.Load()}
	for i := range h.counts {
		s.Counts[i] = h.counts[i].Load()
		s.Count += s.Counts[i]
	}
	return s
}
