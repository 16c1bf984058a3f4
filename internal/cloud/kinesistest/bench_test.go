package kinesistest_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

// BenchmarkPutRecords puts records of five events of 500 bytes, as a busy
// gateway does, through a connection. Half of the figure is net/http on both
// sides.
func BenchmarkPutRecords(b *testing.B) {
	for _, n := range []int{1, 64, 500} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			server := kinesistest.New(b, kinesistest.Config{Discard: true, Streams: []kinesistest.Stream{{Name: "events", Shards: 4}}})
			c := &client{b, server.URL(), server.Client()}
			data := base64.StdEncoding.EncodeToString(make([]byte, 2500))
			records := make([]string, n)
			for i := range records {
				records[i] = fmt.Sprintf(`{"Data":%q,"PartitionKey":"bucket-%d"}`, data, i)
			}
			body := `{"Records":[` + strings.Join(records, ",") + `],"StreamName":"events"}`
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if a := c.do(c.request("PutRecords", body)); a.err != nil || a.status != http.StatusOK {
					b.Fatal(a.status, a.err)
				}
			}
		})
	}
}
