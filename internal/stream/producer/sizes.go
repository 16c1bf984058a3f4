package producer

import "github.com/eventsluice/sluice/internal/telemetry/histogram"

// Sizes are what calls and records held since the Producer was made: of every
// call, whatever its outcome, and of every record that was stored.
type Sizes struct {
	RecordsPerCall, BytesPerCall, EventsPerRecord *histogram.Histogram
}

func newSizes() Sizes {
	return Sizes{
		RecordsPerCall:  histogram.New(histogram.Numbers),
		BytesPerCall:    histogram.New(histogram.Sizes),
		EventsPerRecord: histogram.New(histogram.Numbers),
	}
}

// call counts a call.
func (s *Sizes) call(records []*record) {
	bytes := 0
	for _, r := range records {
		bytes += r.size()
	}
	s.RecordsPerCall.Observe(uint64(len(records)))
	s.BytesPerCall.Observe(uint64(bytes))
}

// Sizes returns the histograms, which go on counting.
func (p *Producer) Sizes() Sizes { return p.sizes }
