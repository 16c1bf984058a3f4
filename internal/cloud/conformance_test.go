package cloud_test

import (
	"fmt"
	"testing"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

func TestKinesisKeepsTheContractOfAStream(t *testing.T) {
	t.Parallel()
	for _, shards := range []int{1, 4} {
		t.Run(fmt.Sprintf("shards=%d", shards), func(t *testing.T) {
			t.Parallel()
			streamtest.Run(t, func(t *testing.T) streamtest.Host {
				server := kinesistest.New(t, kinesistest.Config{Streams: []kinesistest.Stream{{Name: "events", Shards: shards}}})
				limits := streamtest.Limits{MaxCallRecords: cloud.MaxCallRecords, MaxCallBytes: cloud.MaxCallBytes, MaxRecordBytes: cloud.DefaultRecordBytes}
				return host(t, server.URL(), "events", limits, &positions{of: map[string]uint64{}})
			})
		})
	}
}
