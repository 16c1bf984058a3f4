package engine

import (
	"testing"

	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
)

var _ producer.Stream = (*Events)(nil)

func TestEventsKeepTheContractOfAStream(t *testing.T) {
	streamtest.Run(t, func(t *testing.T) streamtest.Host {
		return host(t, small(t.TempDir()))
	})
}

func host(t *testing.T, cfg Config) streamtest.Host {
	e := open(t, cfg)
	return streamtest.Host{
		Stream: e.Events(),
		Open:   e.Events().Open,
		Limits: streamtest.Limits{MaxCallRecords: 500, MaxCallBytes: 2 << 20, MaxRecordBytes: 1 << 20},
		Reopen: func(t *testing.T) streamtest.Host {
			shut(t, e)
			return host(t, cfg)
		},
	}
}
