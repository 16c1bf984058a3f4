package app

import (
	"context"
	"fmt"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/engine"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
)

// deadDesk is the Desk of the dead letters, in the process that delivers.
type deadDesk struct{ *program }

var _ deadletter.Desk = deadDesk{}

// queue returns the dead letters of a destination whether or not it is
// configured any more.
func queueOf(ctx context.Context, e *engine.Engine, destination string) (deadletter.Queue, error) {
	names, err := e.Destinations(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if name == destination {
			return e.Destination(name).Dead(), nil
		}
	}
	return nil, fault.New(fault.NotFound, "there is no destination %q", destination)
}

func (d deadDesk) List(ctx context.Context, destination string, f deadletter.Filter, after uint64, limit int) (deadletter.Page, error) {
	if runner, err := d.runner(destination); err == nil {
		return runner.Dead(ctx, f, after, limit)
	}
	return idleDesk{d.engine}.List(ctx, destination, f, after, limit)
}

func (d deadDesk) Get(ctx context.Context, destination, id string) (deadletter.Letter, error) {
	if runner, err := d.runner(destination); err == nil {
		return runner.Letter(ctx, id)
	}
	return idleDesk{d.engine}.Get(ctx, destination, id)
}

func (d deadDesk) Replay(ctx context.Context, destination string, o deadletter.Order, report func(deadletter.Progress)) (deadletter.Progress, error) {
	if o.To.IsARN() {
		return deadletter.Progress{}, errNoARN
	}
	runner, err := d.runner(destination)
	if err != nil {
		return deadletter.Progress{}, err
	}
	return runner.Replay(ctx, o, d.resend, report)
}

var errNoARN = fault.New(fault.Invalid, "letters on this machine are not replayed to AWS: to the destination, or to the stream")

func (d deadDesk) Purge(ctx context.Context, destination string, o deadletter.Order, report func(deadletter.Progress)) (deadletter.Progress, error) {
	runner, err := d.runner(destination)
	if err != nil {
		return deadletter.Progress{}, err
	}
	return runner.Purge(ctx, o, report)
}

// resend puts the events of letters on the stream, where every destination
// gets them by the rules of now. They are received a second time, and stored a
// second time: deduplication is not asked, since that is what a replay is for.
func (p *program) resend(ctx context.Context, letters []deadletter.Letter) error {
	var batch stream.Batch
	for i := range letters {
		ev, err := event.ParseStored(letters[i].Event)
		if err != nil {
			return fault.New(fault.Invalid, "letter %s holds no event that the stream could take: %v", letters[i].ID, err)
		}
		batch.Add(&ev)
	}
	p.intake.Received(batch.Len())
	return p.producer.Put(ctx, &batch)
}

// idleDesk is the Desk of a data folder that nobody delivers from: it shows
// letters and changes nothing.
type idleDesk struct{ engine *engine.Engine }

var _ deadletter.Desk = idleDesk{}

func (d idleDesk) List(ctx context.Context, destination string, f deadletter.Filter, after uint64, limit int) (deadletter.Page, error) {
	queue, err := queueOf(ctx, d.engine, destination)
	if err != nil {
		return deadletter.Page{}, err
	}
	return deadletter.List(ctx, queue, f, after, limit)
}

func (d idleDesk) Get(ctx context.Context, destination, id string) (deadletter.Letter, error) {
	queue, err := queueOf(ctx, d.engine, destination)
	if err != nil {
		return deadletter.Letter{}, err
	}
	return queue.Get(ctx, id)
}

func (idleDesk) Replay(context.Context, string, deadletter.Order, func(deadletter.Progress)) (deadletter.Progress, error) {
	return deadletter.Progress{}, errIdle
}

func (idleDesk) Purge(context.Context, string, deadletter.Order, func(deadletter.Progress)) (deadletter.Progress, error) {
	return deadletter.Progress{}, errIdle
}

var errIdle = fault.New(fault.Unavailable, "nothing is delivered from this data folder now: start `sluice up` and give the command again")

// quarantineDesk is the Desk of the rejected events. It has one queue, so the
// destination says nothing. readmit is nil where nothing can be replayed.
type quarantineDesk struct {
	queue   deadletter.Queue
	readmit func(context.Context, []deadletter.Letter) []error
}

var _ deadletter.Desk = quarantineDesk{}

func (d quarantineDesk) List(ctx context.Context, _ string, f deadletter.Filter, after uint64, limit int) (deadletter.Page, error) {
	return deadletter.List(ctx, d.queue, f, after, limit)
}

func (d quarantineDesk) Get(ctx context.Context, _, id string) (deadletter.Letter, error) {
	return d.queue.Get(ctx, id)
}

// Replay validates the events again and puts the good ones on the stream; the
// others are refused, and stay.
func (d quarantineDesk) Replay(ctx context.Context, _ string, o deadletter.Order, report func(deadletter.Progress)) (deadletter.Progress, error) {
	if d.readmit == nil {
		return deadletter.Progress{}, errIdle
	}
	if o.To == deadletter.ToDestination || o.To.IsARN() {
		return deadletter.Progress{}, fault.New(fault.Invalid, "a rejected event has no destination: it is replayed to the stream")
	}
	var refused int
	var reason string
	told := func(p deadletter.Progress) deadletter.Progress {
		p.Refused, p.Reason = refused, reason
		return p
	}
	p, err := deadletter.Walk(ctx, d.queue, o, func(p deadletter.Progress) {
		if report != nil {
			report(told(p))
		}
	}, func(ctx context.Context, letters []deadletter.Letter) (int, error) {
		var admitted []string
		var failed error
		for i, err := range d.readmit(ctx, letters) {
			switch fault.KindOf(err) {
			case fault.Invalid, fault.TooLarge, fault.Forbidden:
				if refused++; reason == "" {
					reason = fmt.Sprintf("letter %s: %v", letters[i].ID, err)
				}
			default:
				if err != nil {
					failed = fmt.Errorf("letter %s: %w", letters[i].ID, err)
					continue
				}
				admitted = append(admitted, letters[i].ID)
			}
		}
		// From here the events are on the stream. A crash before the letters
		// are deleted leaves them to be replayed under the same event id.
		if err := d.queue.Delete(ctx, admitted); err != nil {
			return 0, err
		}
		return len(admitted), failed
	})
	return told(p), err
}

func (d quarantineDesk) Purge(ctx context.Context, _ string, o deadletter.Order, report func(deadletter.Progress)) (deadletter.Progress, error) {
	if d.readmit == nil {
		return deadletter.Progress{}, errIdle
	}
	return deadletter.Walk(ctx, d.queue, o, report, func(ctx context.Context, letters []deadletter.Letter) (int, error) {
		ids := make([]string, len(letters))
		for i := range letters {
			ids[i] = letters[i].ID
		}
		return len(ids), d.queue.Delete(ctx, ids)
	})
}
