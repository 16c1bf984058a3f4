package streamtest_test

import (
	"testing"

	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

func TestMemoryIsAStream(t *testing.T) {
	t.Parallel()
	streamtest.Run(t, func(t *testing.T) streamtest.Host {
		m := streamtest.NewMemory(t, streamtest.Limits{MaxCallRecords: 500, MaxCallBytes: 5 << 20, MaxRecordBytes: 1 << 20})
		return streamtest.Host{
			Stream: m, Open: m.Open,
			Limits: m.Limits(),
			Reopen: func(*testing.T) streamtest.Host { return streamtest.Host{Stream: m, Open: m.Open} },
		}
	})
}
