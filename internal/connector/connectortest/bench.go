package connectortest

import (
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
)

// BenchmarkPlan measures a connector's Plan of events that all go into calls, and
// reports what an event takes of the processors: on a machine that is busy with
// other things it says more than the clock.
func BenchmarkPlan(b *testing.B, events []connector.Delivery, plan func([]connector.Delivery) connector.Plan) {
	b.Helper()
	b.ReportAllocs()
	before := CPUTime(b)
	for b.Loop() {
		if p := plan(events); len(p.Done) > 0 {
			b.Fatal(p.Done)
		}
	}
	b.ReportMetric(float64((CPUTime(b)-before).Nanoseconds())/float64(b.N*len(events)), "cpu-ns/event")
}
