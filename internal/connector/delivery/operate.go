package delivery

import (
	"context"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
)

// Dead returns a page of the destination's dead letters.
func (r *Runner) Dead(ctx context.Context, f deadletter.Filter, after uint64, limit int) (deadletter.Page, error) {
	return deadletter.List(ctx, present{r.store.Dead(), r}, f, after, limit)
}

// Letter returns one dead letter, or a fault.NotFound.
func (r *Runner) Letter(ctx context.Context, id string) (deadletter.Letter, error) {
	return present{r.store.Dead(), r}.Get(ctx, id)
}

// present is the dead queue without the letters that only wait to be deleted.
type present struct {
	deadletter.Queue
	r *Runner
}

func (q present) Scan(ctx context.Context, after uint64, yield func(cursor uint64, l deadletter.Letter) bool) error {
	return q.Queue.Scan(ctx, after, func(cursor uint64, l deadletter.Letter) bool {
		return q.r.books.isGone(l.ID) || yield(cursor, l)
	})
}

func (q present) Get(ctx context.Context, id string) (deadletter.Letter, error) {
	if q.r.books.isGone(id) {
		return deadletter.Letter{}, fault.New(fault.NotFound, "there is no dead letter %q", id)
	}
	return q.Queue.Get(ctx, id)
}

// Resend puts the events of dead letters on the stream. After an error any of
// them may be there.
type Resend func(ctx context.Context, letters []deadletter.Letter) error

// Replay carries out an order (see deadletter.Desk): letters go to the
// destination again, as parked events that have not been tried, or through
// resend to the stream. resend may be nil if orders to the stream are not
// taken.
func (r *Runner) Replay(ctx context.Context, o deadletter.Order, resend Resend, report func(deadletter.Progress)) (deadletter.Progress, error) {
	if o.To == deadletter.ToStream {
		if resend == nil {
			return deadletter.Progress{}, fault.New(fault.Invalid, "letters of %s cannot be replayed to the stream", r.cfg.Destination)
		}
		return r.operate(ctx, o, report, func(ctx context.Context, letters []deadletter.Letter) error {
			if err := resend(ctx, letters); err != nil {
				return err
			}
			return r.strike(ctx, letters, func(t *tally, live *Counts) { t.replayed++; live.Replayed++ })
		})
	}
	return r.operate(ctx, o, report, r.repark)
}

// Purge carries out an order: letters are deleted and count as purged.
func (r *Runner) Purge(ctx context.Context, o deadletter.Order, report func(deadletter.Progress)) (deadletter.Progress, error) {
	return r.operate(ctx, o, report, func(ctx context.Context, letters []deadletter.Letter) error {
		return r.strike(ctx, letters, func(t *tally, live *Counts) { t.purged++; live.Purged++ })
	})
}

// operate walks over the dead letters, one operation at a time, so that no two
// of them deal with the same letter. What is done has been saved when it
// returns.
func (r *Runner) operate(ctx context.Context, o deadletter.Order, report func(deadletter.Progress), act func(context.Context, []deadletter.Letter) error) (p deadletter.Progress, err error) {
	err = r.alone(ctx, r.operator, func(ctx context.Context) error {
		p, err = deadletter.Walk(ctx, present{r.store.Dead(), r}, o, report, func(ctx context.Context, letters []deadletter.Letter) (int, error) {
			if err := act(ctx, letters); err != nil {
				return 0, err
			}
			return len(letters), nil
		})
		if p.Done > 0 {
			if flushErr := r.keeper.do(ctx, &request{flush: true}); err == nil {
				err = flushErr
			}
		}
		return err
	})
	return p, err
}

// alone does something that needs the runner to run, once it has recovered and
// nobody else holds the place. It ends with the runner at the latest, and then
// with a fault.Unavailable.
func (r *Runner) alone(ctx context.Context, held chan struct{}, do func(context.Context) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := fault.New(fault.Unavailable, "destination %s is not running", r.cfg.Destination)
	go func() { // ends with the operation
		select {
		case <-r.done:
			cancel(stopped)
		case <-ctx.Done():
		}
	}()
	defer func() {
		if err != nil && context.Cause(ctx) == stopped {
			err = stopped
		}
	}()
	select {
	case <-r.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.done:
		return stopped
	default:
	}
	select {
	case held <- struct{}{}:
		defer func() { <-held }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return do(ctx)
}

// Pause makes no calls from now on, no probes either, until Resume; those in
// flight end. Reading goes on within its bounds. The reason is kept, and may be
// empty.
//
// When it returns nil the pause is durable: a new process begins with it. After an
// error the calls are paused all the same, if the runner runs, and the pause may
// or may not be durable.
func (r *Runner) Pause(ctx context.Context, reason string) error {
	return r.alone(ctx, r.switching, func(ctx context.Context) error {
		p := &OperatorPause{Reason: deadletter.Clip(reason, maxReason), Since: time.Now()}
		r.gate.stop(p)
		return r.keeper.do(ctx, &request{account: func(b *books) { b.paused = p }, flush: true})
	})
}

// maxReason bounds the reason of a pause, in bytes.
const maxReason = 1 << 10

// Resume ends a Pause, and wakes the destination (see Wake) whether there was one
// or not. When it returns nil that is durable; after an error the pause stands,
// and may or may not be over for a new process.
func (r *Runner) Resume(ctx context.Context) error {
	return r.alone(ctx, r.switching, func(ctx context.Context) error {
		if r.books.isPaused() {
			if err := r.keeper.do(ctx, &request{account: func(b *books) { b.paused = nil }, flush: true}); err != nil {
				return err
			}
		}
		r.gate.stop(nil)
		r.Wake()
		return nil
	})
}

// strike takes letters out of the account of the dead.
func (r *Runner) strike(ctx context.Context, letters []deadletter.Letter, count func(*tally, *Counts)) error {
	return r.keeper.do(ctx, &request{
		flush: r.books.gone() > maxGone,
		account: func(b *books) {
			for i := range letters {
				b.live.Dead--
				b.goneDead[letters[i].ID] = struct{}{}
				count(b.at(letters[i].Position), &b.live)
			}
		},
	})
}

// parkedPoll is how often a replay looks whether there is room again.
const parkedPoll = 50 * time.Millisecond

// repark makes dead letters parked ones, with their attempts ahead of them.
func (r *Runner) repark(ctx context.Context, letters []deadletter.Letter) error {
	for r.books.counts().Retrying >= uint64(r.cfg.MaxParked) {
		if err := retry.Sleep(ctx, parkedPoll); err != nil {
			return err
		}
	}
	places := make([]place, len(letters))
	for i := range letters {
		l := &letters[i]
		id, err := parsePlace(l.ID)
		if err != nil {
			return &fault.Error{Kind: fault.Invalid, Detail: err.Error()}
		}
		places[i] = id
		l.Attempts, l.NotBefore = 0, time.Time{}
		if l.PartitionKey == "" {
			l.PartitionKey = l.ID
		}
	}
	return r.keeper.do(ctx, &request{
		parked: letters,
		flush:  r.books.gone() > maxGone,
		account: func(b *books) {
			for i := range letters {
				b.live.Dead--
				b.park(places[i], letters[i].FirstSeen)
				b.goneDead[letters[i].ID] = struct{}{}
				// The lane has it from here, also if nobody waits for the
				// outcome of the replay any more.
				k := keyed{key: letters[i].PartitionKey, waiting: waiting{id: places[i]}}
				r.laneOf(k.key).add(func(in *inbox) { in.parked = append(in.parked, k) })
			}
		},
	})
}
