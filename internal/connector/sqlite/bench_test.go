package sqlite

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
)

// eventSize is the size of an event in stored form in the benchmarks.
const eventSize = 500

// events returns n new events of eventSize.
func events(n int) []connector.Delivery {
	deliveries := connectortest.Plain(n)
	for i := range deliveries {
		e := &deliveries[i].Event
		e.Data = nil
		rest := eventSize - len(e.Append(nil)) - len(`"page":"/pricing","text":""`)
		e.Data = fmt.Appendf(nil, `{"page":"/pricing","text":%q}`, strings.Repeat("x", rest))
		deliveries[i].Raw = e.Append(nil)
	}
	return deliveries
}

func TestBenchmarkEventsHaveTheSizeThatTheREADMESays(t *testing.T) {
	t.Parallel()
	for _, d := range events(20) {
		if n := len(d.Raw); n != eventSize {
			t.Fatalf("%d bytes", n)
		}
	}
}

// BenchmarkSend is all that the connector does for a call: the plan, the
// transaction, the commit with its fsync, and the checkpoints that move the
// rows from the WAL into the file. The file grows with each call, as it does in
// real life, up to as many rows as there is time for. It needs a real disk: set
// TMPDIR to a folder of one.
func BenchmarkSend(b *testing.B) {
	for _, n := range []int{1, 10, 100, maxRows} {
		b.Run(fmt.Sprintf("%d-rows", n), func(b *testing.B) {
			c := open(b, filepath.Join(b.TempDir(), FileName))
			rows := 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				deliveries := events(n)
				b.StartTimer()
				wantAll(b, deliver(b, c, deliveries), connector.Delivered, "")
				rows += n
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
		})
	}
}
