package engine

import (
	"context"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Stats describes the event stream at one moment.
type Stats struct {
	// Bytes are used on the disk, of Budget at most. Full says that the last
	// write found no room.
	Bytes, Budget uint64
	Full          bool
	// First and Last are the positions of the oldest entry retained and of the
	// newest. With no entry retained, First is Last+1.
	First, Last uint64
	// Entries are retained.
	Entries uint64
	// Stored events since the stream began; Trimmed of them were discarded
	// after every destination had settled them.
	Stored, Trimmed uint64
}

// Budget returns the bytes that the stream may take on the disk.
func (ev *Events) Budget() int64 { return ev.engine.cfg.MaxBytes }

// Stats asks the stream how it is.
func (ev *Events) Stats(ctx context.Context) (Stats, error) {
	info, err := ev.stream.Info(ctx)
	if err != nil {
		return Stats{}, unavailable(err, "ask for the size of the stream")
	}
	ev.census.mu.Lock()
	trimmed := ev.census.marks[0].Events
	ev.census.mu.Unlock()
	return Stats{
		Bytes:   info.State.Bytes,
		Budget:  uint64(ev.Budget()),
		Full:    ev.full.Load(),
		First:   firstPosition(info),
		Last:    info.State.LastSeq,
		Entries: info.State.Msgs,
		Stored:  ev.Stored(),
		Trimmed: trimmed,
	}, nil
}

// Trim is told that every destination has settled the entries up to and
// including upTo. It discards of them what is older than the retention, and
// the oldest while the stream takes more than half of its budget; all of it
// when the disk gets full before the budget is used up. It works in
// units of a thousandth of the budget, and is cheap when there is nothing to
// do.
func (ev *Events) Trim(ctx context.Context, upTo uint64) error {
	keep := uint64(ev.engine.cfg.MaxBytes / 2)
	if ev.engine.host.roomFor(2) != nil {
		keep = 0 // others need the disk, or soon we do
	}
	to, ok := ev.census.trimTo(upTo, time.Now().Add(-ev.engine.cfg.Retention), keep)
	if !ok {
		return nil
	}
	return ev.cut(ctx, to)
}

// Discard removes the entries up to and including upTo, which must have been
// read, whatever their age: they are not needed here any more. An older
// position than that of the last call is no error.
func (ev *Events) Discard(ctx context.Context, upTo uint64) error {
	ev.census.mu.Lock()
	gone := upTo <= ev.census.marks[0].Position
	ev.census.mu.Unlock()
	if gone {
		return nil
	}
	to, err := ev.census.mark(ctx, upTo)
	if err != nil {
		return err
	}
	return ev.cut(ctx, to)
}

// Backlog returns how many events the stream holds, and about how many bytes
// they take on the disk.
func (ev *Events) Backlog(context.Context) (events, bytes uint64, err error) {
	events, bytes = ev.census.retained()
	return events, bytes, nil
}

// cut discards what stands at or before a mark of the census.
func (ev *Events) cut(ctx context.Context, to mark) error {
	// The count of what goes must be kept before it goes. What a crash leaves of
	// it is discarded at the next start.
	ev.census.cutting(to.Position)
	if err := ev.census.save(ctx); err != nil {
		return unavailable(err, "save the census before a trim")
	}
	if err := ev.stream.Purge(ctx, jetstream.WithPurgeSequence(to.Position+1)); err != nil {
		return unavailable(err, "trim the stream up to %d", to.Position)
	}
	ev.census.trimmed(to)
	ev.tail.trim(to.Position)
	ev.full.Store(false)
	ev.log.Debug("event stream trimmed", slog.Uint64("position", to.Position), slog.Uint64("events", to.Events))
	return nil
}
