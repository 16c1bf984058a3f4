//go:build unix

package postgres

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/testenv"
)

// benchmarkEvents returns n new events of about 400 bytes of data.
func benchmarkEvents(n int) []connector.Delivery {
	deliveries := connectortest.Plain(n)
	for i := range deliveries {
		deliveries[i].Event.Data = fmt.Appendf(nil, `{"page":"/pricing","nth":%d,"text":%q}`, i, strings.Repeat("x", 340))
	}
	return deliveries
}

// BenchmarkSend is all that the connector does for a call, plan and commit
// included, against a server on this machine. Beside the rate of one connection,
// for which the server matters most, it reports what a row costs on a core of
// ours: that bounds the rate against a server of any size.
func BenchmarkSend(b *testing.B) {
	for _, way := range []struct {
		name     string
		copyRows int
	}{{"arrays", math.MaxInt}, {"COPY", 1}} {
		for _, n := range []int{1, 10, 100, 500, 1000, maxRows} {
			b.Run(fmt.Sprintf("%s-%d-rows", way.name, n), func(b *testing.B) {
				c := open(b, &server{url: testenv.Postgres(b)}, "")
				c.copyRows = way.copyRows
				deliver(b, c, benchmarkEvents(1)) // the table is there
				rows, used := 0, time.Duration(0)
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					deliveries := benchmarkEvents(n)
					before := connectortest.CPUTime(b)
					b.StartTimer()
					results := deliver(b, c, deliveries)
					b.StopTimer()
					used += connectortest.CPUTime(b) - before
					for _, r := range results {
						if r.Class != connector.Delivered {
							b.Fatal(r)
						}
					}
					rows += n
					b.StartTimer()
				}
				b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
				b.ReportMetric(float64(used.Nanoseconds())/float64(rows), "cpu-ns/row")
				b.ReportMetric(float64(rows)/used.Seconds(), "rows/s/core")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	c := open(b, &server{}, "")
	deliveries := benchmarkEvents(1000)
	b.ReportAllocs()
	for b.Loop() {
		c.Plan(deliveries)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(deliveries)), "ns/event")
}
