package streamtest

import (
	"flag"
	"fmt"
	"testing"
	"testing/synctest"
)

var (
	simSeeds = flag.Uint64("sim.seeds", 0, "how many seeds a simulation runs; 0 is as many as it takes by itself")
	simSeed  = flag.Uint64("sim.seed", 0, "the only seed that a simulation runs")
)

// Simulate runs a simulation with each of some seeds, in a bubble of synctest,
// and says how to run one again that failed. A seed decides what happens and
// when; how goroutines interleave and how long retries wait differs from run to
// run, so that a failing seed may need -count to fail again.
func Simulate(t *testing.T, seeds uint64, run func(t *testing.T, seed uint64)) {
	t.Parallel()
	if *simSeeds > 0 {
		seeds = *simSeeds
	}
	if testing.Short() {
		seeds = min(seeds, 50)
	}
	first, last := uint64(1), seeds
	if *simSeed > 0 {
		first, last = *simSeed, *simSeed
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { run(t, seed) })
			if t.Failed() {
				t.Logf("to replay, in the folder of the package: go test -race -run TestSimulation -count 20 . -sim.seed=%d", seed)
			}
		})
	}
}
