package histogram

import (
	"slices"
	"sync"
	"testing"
)

func TestValuesAreCountedInTheirBucket(t *testing.T) {
	t.Parallel()
	h := New([]uint64{10, 100})
	for _, value := range []uint64{0, 10, 11, 100, 101, 1 << 40} {
		h.Observe(value)
	}
	got := h.Snapshot()
	if !slices.Equal(got.Counts, []uint64{2, 2, 2}) || got.Count != 6 || got.Sum != 222+1<<40 {
		t.Errorf("%+v", got)
	}
}

func TestNothingIsLostBetweenGoroutines(t *testing.T) {
	t.Parallel()
	const goroutines, n = 4, 1000
	h := New(Durations)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range n {
				h.Observe(uint64(i) * 1e6)
			}
		})
	}
	wg.Wait()
	if got := h.Snapshot(); got.Count != goroutines*n || got.Sum != goroutines*n*(n-1)/2*1e6 {
		t.Errorf("%+v", got)
	}
}

func TestAValueCostsNoMemory(t *testing.T) {
	h := New(Durations)
	if n := testing.AllocsPerRun(100, func() { h.Observe(3e6) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	h := New(Durations)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h.Observe(3e6)
		}
	})
}
