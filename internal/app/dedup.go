package app

import (
	"context"
	"log/slog"
	"math"
	"path/filepath"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/eventsluice/sluice/internal/edge"
	"github.com/eventsluice/sluice/internal/stream/dedup"
)

// dedupFolder holds the ids of events that were stored, in the data folder.
const dedupFolder = "dedup"

// closeTimeout bounds the last writing of the ids.
const closeTimeout = 5 * time.Second

// openDedup returns where the edge puts events: the producer, or what keeps
// duplicates from it.
func (p *program) openDedup(ctx context.Context) (edge.Stream, error) {
	s := p.settings
	if s.Dedup == 0 {
		return p.producer, nil
	}
	cfg := dedup.Config{
		Window:      s.Dedup,
		MemoryBytes: int(s.DedupMemory),
		Dir:         filepath.Join(s.DataDir, dedupFolder),
		Stream:      s.Stream,
		Logger:      p.log,
	}
	if events := p.host.events(); events != nil {
		cfg.Stream, cfg.Log = events.Identity(), events
	}
	var err error
	if p.dedup, err = dedup.New(p.producer, p.intake, cfg); err != nil {
		return nil, err
	}
	return p.dedup, p.dedup.Open(ctx)
}

// saveDedup keeps the ids that have come, and returns up to which position of
// the stream they are kept.
func (p *program) saveDedup(ctx context.Context) (covered uint64) {
	if p.dedup == nil {
		return math.MaxUint64
	}
	if err := p.dedup.Save(ctx); err != nil && ctx.Err() == nil {
		p.log.Warn("ids of stored events not kept: a restart reads them from the stream", slog.Any("error", err))
	}
	return p.dedup.Covered()
}

func (p *program) closeDedup() error {
	if p.dedup == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return p.dedup.Close(ctx)
}

func (p *program) dedupMetrics(g *gauges) func(metric.Observer) {
	if p.dedup == nil {
		return func(metric.Observer) {}
	}
	window := g.gauge("sluice.dedup.window_seconds", "How far back events are recognised that are sent again. Less than SLUICE_DEDUP: a short while after a start, or the memory is too small.")
	entries := g.gauge("sluice.dedup.entries", "Ids of stored events in memory.")
	capacity := g.gauge("sluice.dedup.capacity", "Ids that the memory has room for.")
	duplicates := g.counter("sluice.dedup.duplicates", "Events that were sent again and not stored again.")
	early := g.counter("sluice.dedup.evicted_early", "Ids that had to leave the memory before their window was over.")
	waiting := g.gauge("sluice.dedup.waiting_events", "Events that wait for the fate of another with the same id.")
	return func(o metric.Observer) {
		s := p.dedup.Stats()
		o.ObserveInt64(window, int64(s.Window/time.Second))
		o.ObserveInt64(entries, int64(s.Entries))
		o.ObserveInt64(capacity, int64(s.Capacity))
		o.ObserveInt64(duplicates, int64(p.intake.Duplicates()))
		o.ObserveInt64(early, int64(s.EvictedEarly))
		o.ObserveInt64(waiting, int64(s.Waiting))
	}
}
