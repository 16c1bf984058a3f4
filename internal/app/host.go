package app

import (
	"context"

	"go.opentelemetry.io/otel/metric"

	"github.com/eventsluice/sluice/internal/engine"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

// host is where the events of a program go: the embedded stream, or Kinesis
// with a spool in front.
type host interface {
	// stream is what the producer writes to, configured by producerConfig.
	stream() producer.Stream
	producerConfig(producer.Config) producer.Config
	// events is the stream where this process can read it, nil elsewhere.
	events() *engine.Events
	// open takes the events that earlier processes have stored, as far as they
	// were kept, and returns how many have been accepted.
	open(kept uint64) (accepted uint64)
	// stored and spooled are figures of the ledger; keep is what open gets at
	// the next start.
	stored() uint64
	spooled() uint64
	keep() uint64
	// refused are events that the stream will never take after all; they are in
	// the quarantine.
	refused() uint64
	// spoolFolder is what operators see of the spool.
	spoolFolder() (spoolFolder, error)
	// start starts the stages that the host needs behind the producer.
	start(*stages)
	// notReady returns why the gateway should get no traffic.
	notReady(context.Context) []string
	metrics(*gauges) func(metric.Observer)
	// close frees what it holds, when all stages have ended.
	close(context.Context) error
}

// embedded is the host on one machine: the event stream of the engine.
type embedded struct{ *program }

var _ host = embedded{}

func (h embedded) events() *engine.Events  { return h.engine.Events() }
func (h embedded) stream() producer.Stream { return h.events() }

func (h embedded) producerConfig(c producer.Config) producer.Config {
	// JetStream verifies what it stores, and only this module reads it.
	c.Format = stream.Framed
	c.MaxCallBytes = maxWriteBytes
	return c
}

// The stream itself knows what it holds.
func (h embedded) open(uint64) uint64 { return h.stored() }
func (h embedded) stored() uint64     { return h.events().Stored() }
func (embedded) spooled() uint64      { return 0 }
func (embedded) refused() uint64      { return 0 }
func (embedded) keep() uint64         { return 0 }

func (embedded) spoolFolder() (spoolFolder, error) { return spoolFolder{}, errNoSpool }

func (embedded) start(*stages) {}

func (h embedded) notReady(ctx context.Context) []string {
	stats, err := h.events().Stats(ctx)
	switch {
	case err != nil:
		h.log.Warn("stream does not answer", "error", err)
		return []string{"the stream does not answer"}
	case stats.Full:
		return []string{"the disk budget of the stream is used up: a destination is behind, or SLUICE_DISK_LIMIT is too small"}
	}
	return nil
}

func (h embedded) metrics(g *gauges) func(metric.Observer) {
	bytes := g.gauge("sluice.stream.bytes", "Bytes of the event stream on disk.")
	budget := g.gauge("sluice.stream.budget_bytes", "Bytes that the event stream may take; at the budget the gateway answers 503.")
	entries := g.gauge("sluice.stream.entries", "Writes that the event stream retains.")
	trimmed := g.counter("sluice.stream.events_trimmed", "Events discarded after every destination had settled them.")
	return func(o metric.Observer) {
		ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
		defer cancel()
		s, err := h.events().Stats(ctx)
		if err != nil {
			h.log.Warn("stream does not answer", "error", err)
			return
		}
		o.ObserveInt64(bytes, int64(s.Bytes))
		o.ObserveInt64(budget, int64(s.Budget))
		o.ObserveInt64(entries, int64(s.Entries))
		o.ObserveInt64(trimmed, int64(s.Trimmed))
	}
}

// The engine is the program's own.
func (embedded) close(context.Context) error { return nil }
