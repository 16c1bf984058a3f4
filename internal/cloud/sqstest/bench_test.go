package sqstest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// BenchmarkMessages sends, receives and deletes in batches of ten messages of
// 500 bytes, through HTTP; the client's part is in it.
func BenchmarkMessages(b *testing.B) {
	for _, queue := range []string{"events", "orders.fifo"} {
		b.Run(queue, func(b *testing.B) {
			s, c := start(b, sqstest.Config{})
			c.http.Transport.(*http.Transport).MaxIdleConnsPerHost = 16
			body := strings.Repeat(`{"id":"0198","name":"button"}`, 17)
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				for n := 0; pb.Next(); n++ {
					var entries []fields
					for i := range 10 {
						e := fields{"Id": fmt.Sprint(i), "MessageBody": body}
						if queue != "events" {
							e["MessageGroupId"], e["MessageDeduplicationId"] = fmt.Sprint(i), fmt.Sprintf("%p-%d-%d", pb, n, i)
						}
						entries = append(entries, e)
					}
					ok[batchOutput](c, "SendMessageBatch", fields{"QueueUrl": queue, "Entries": entries})
					got := ok[received](c, "ReceiveMessage", fields{"QueueUrl": queue, "MaxNumberOfMessages": 10, "MessageSystemAttributeNames": []string{"All"}})
					entries = nil
					for i, m := range got.Messages {
						entries = append(entries, fields{"Id": fmt.Sprint(i), "ReceiptHandle": m.ReceiptHandle})
					}
					if len(entries) > 0 {
						ok[batchOutput](c, "DeleteMessageBatch", fields{"QueueUrl": queue, "Entries": entries})
					}
				}
			})
			b.ReportMetric(10*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			b.ReportMetric(float64(len(s.Messages(queue))), "left")
		})
	}
}
