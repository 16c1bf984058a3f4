package s3

import (
	"fmt"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector/connectortest"
)

// BenchmarkEvent measures what an event costs, in files of 10,000: planned, and
// encoded.
func BenchmarkEvent(b *testing.B) {
	for _, format := range []string{formatNDJSON, formatParquet} {
		c := open(b, nil, fmt.Sprintf(`{"bucket":"lake","format":%q}`, format))
		deliveries := connectortest.Plain(10_000)
		for i := range deliveries {
			e := &deliveries[i].Event
			e.Data = fmt.Appendf(nil, `{"page":"/pricing","nth":%d,"text":%q}`, i, strings.Repeat("lorem ipsum ", 20))
			deliveries[i].Raw = e.Append(nil)
		}
		perEvent := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(deliveries)), "ns/event")
		}
		b.Run("plan "+format, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Plan(deliveries)
			}
			perEvent(b)
		})
		plan := c.Plan(deliveries)
		b.Run("encode "+format, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				body, _, err := c.encode(plan.Calls[0].Payload.(*file))
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(body))/float64(len(deliveries)), "B/event")
			}
			perEvent(b)
		})
	}
}
