package fanout_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/router/fanout"
)

// taking takes everything at once.
type taking struct{}

func (taking) Send(context.Context, string, fanout.Message) error { return nil }

// BenchmarkRouter is what an event of 500 bytes costs with 20 rules for as many
// destinations: 5 want it, 15 do not, among them some that look into its data.
func BenchmarkRouter(b *testing.B) {
	var rules []string
	for i := range 20 {
		names, more := `"order_*"`, ""
		switch {
		case i < 3:
			names = `"*"`
		case i == 3:
			more = `,"when":"event.data.total > 10.0"`
		case i == 4:
			names, more = `"clicked","viewed"`, `,"sample":0.999`
		case i < 10:
			names, more = `"*"`, `,"when":"event.source == 'nobody'"`
		}
		rules = append(rules, fmt.Sprintf(`{"destination_name":"d%d","destination_arn":"arn:aws:lambda:eu-west-1:123456789012:function:d%d:prod","enabled_events":[%s],"max_batch":100%s}`, i, i, names, more))
	}
	table := parse(b, "["+strings.Join(rules, ",")+"]")
	const perRecord, recordsPerBatch = 100, 10
	var records []fanout.Record
	for r := range recordsPerBatch {
		var events []string
		for n := range perRecord {
			e := fmt.Sprintf(`{"id":"0198c0de-0000-7000-8000-%012d","type":"track","name":"clicked","user_id":"u%d","timestamp":"2026-11-23T10:00:00Z","received_at":"2026-11-23T10:00:00.123Z","source":"web","data":{"page":"/pricing","total":%d,"n":%d,"pad":%q},"context":{"locale":"en"}}`,
				r*perRecord+n, n%50, n, n, strings.Repeat("x", 240))
			events = append(events, e)
		}
		records = append(records, aggregated(r, events...))
	}
	f, err := fanout.New(taking{}, nil, nil, fanout.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if o := f.Process(b.Context(), table, records); o.Failed != "" || o.Events != perRecord*recordsPerBatch {
			b.Fatalf("%+v", o)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*perRecord*recordsPerBatch), "µs/event")
}
