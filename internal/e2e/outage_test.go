package e2e

import (
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// outage is how long Kinesis is away in the test below. SLUICE_E2E_OUTAGE=10m
// makes it as long as it can be in life.
const outage = 8 * time.Second

// TestMemoryIsFlatWhileKinesisIsAway stops the endpoint under load: memory
// stays under its ceiling and, in a long outage, does not grow; every event that
// was answered 2xx arrives when it is back, and those of a key in the order of
// their answers.
func TestMemoryIsFlatWhileKinesisIsAway(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the memory of a process is read from /proc")
	}
	away := outage
	if text := os.Getenv("SLUICE_E2E_OUTAGE"); text != "" {
		var err error
		if away, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	const ceiling = 192 << 20
	server := newKinesis(t)
	p := gateway(t, dataFolder(t, everythingToWarehouse), server, "SLUICE_MEMORY_LIMIT="+strconv.Itoa(ceiling), "SLUICE_SPOOL_LIMIT=4GiB")
	load := newCrashLoad(seedOf(t))
	load.pause = 40 * time.Millisecond
	load.open(p.gateway)
	load.start(8)
	wait(2 * time.Second)
	server.Stop()
	// The first part of the outage fills what has a bound.
	wait(away / 4)
	before := memoryOf(t, p.cmd.Process.Pid, "VmRSS:")
	wait(away * 3 / 4)
	after := memoryOf(t, p.cmd.Process.Pid, "VmRSS:")
	l := p.ledger()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	wait(time.Second)
	events := load.finish()
	p.await("the spool to be empty", func(l ledger) bool { return l.Spooled == 0 && l.InFlight == 0 })
	peak := peakMemory(t, p.cmd.Process.Pid)
	t.Logf("away for %v: %d events in the spool at its end; memory %d MiB early and %d MiB late in it, peak %d MiB", away, l.Spooled, before>>20, after>>20, peak>>20)
	if l.Spooled == 0 {
		t.Error("nothing was spooled: this proves nothing")
	}
	if peak > ceiling {
		t.Errorf("memory peaked at %d MiB, over the ceiling of %d MiB", peak>>20, ceiling>>20)
	}
	// The heap takes its time to reach what it is allowed.
	if grown := after - before; away >= 5*time.Minute && grown > ceiling/8 {
		t.Errorf("memory grew by %d MiB while the stream was away", grown>>20)
	}
	for _, e := range events {
		if e.answered == 0 {
			t.Errorf("%s was not answered 2xx", e.id)
		}
	}
	for _, fault := range faultsOf(events, streamed(t, server, false)) {
		t.Error(fault)
	}
	p.stop()
}
