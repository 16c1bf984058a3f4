package kinesistest

import (
	"sync"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// payloadUnit is what a PUT payload unit holds: 25 KB of a record. A KB is 1,024
// bytes there, for AWS reckons 100 records of 35 KB as 3.4 MB; that the partition
// key counts is not said, and assumed. Source: Kinesis pricing page.
const payloadUnit = 25 << 10

// Stats is what the server has seen and stored.
type Stats struct {
	awstest.Traffic

	// Records were stored: Bytes are their data, Units their PUT payload units
	// (25 KiB each or part of it, partition key included).
	Records, Bytes, Units int64
}

// stats keeps what was stored.
type stats struct {
	mu                    sync.Mutex
	records, bytes, units int64
}

func (s *stats) stored(records, bytes, units int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records += records
	s.bytes += bytes
	s.units += units
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	return Stats{Traffic: s.Traffic(), Records: s.stats.records, Bytes: s.stats.bytes, Units: s.stats.units}
}
