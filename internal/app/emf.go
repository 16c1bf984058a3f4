package app

import (
	"context"
	"io"
	"time"

	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/telemetry/emf"
)

// emfInterval is how often a line of embedded metrics is written: CloudWatch
// keeps standard metrics by the minute.
const emfInterval = time.Minute

// writeMetrics writes the ledger to a log that CloudWatch reads, until ctx is
// done; what has changed since the last line, once more at the end.
func (p *program) writeMetrics(ctx context.Context, out io.Writer) error {
	ticker := time.NewTicker(emfInterval)
	defer ticker.Stop()
	last := p.books.Statement()
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case <-ticker.C:
		}
		now := p.books.Statement()
		if _, err := out.Write(metricsLine(p.settings.EMF, last, now)); err != nil {
			p.log.Warn("embedded metrics not written", "error", err)
		}
		last = now
	}
	return nil
}

// metricsLine says what happened between two statements, and how things stand.
func metricsLine(program string, last, now ledger.Statement) []byte {
	return emf.Line(emf.Namespace, []emf.Dimension{{Name: "Program", Value: program}}, []emf.Value{
		{Name: "Accepted", Value: float64(now.Accepted - last.Accepted)},
		{Name: "Rejected", Value: float64(now.Rejected - last.Rejected)},
		{Name: "Stored", Value: float64(now.Stored - last.Stored)},
		{Name: "Spooled", Value: float64(now.Spooled)},
		{Name: "Residual", Value: float64(now.Residual)},
	})
}
