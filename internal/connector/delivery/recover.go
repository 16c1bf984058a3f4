package delivery

import (
	"context"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
)

// recover brings the queues to what the State says and returns the position
// to read on from. What it deletes is either out of the account already
// (named in Settled) or not yet in it (behind the position, and read again).
func (r *Runner) recover(ctx context.Context) (after uint64, err error) {
	s, err := r.openState(ctx)
	if err != nil {
		return 0, err
	}
	if err := r.remove(ctx, r.store.Parked(), s.Settled.Parked); err != nil {
		return 0, err
	}
	if err := r.remove(ctx, r.store.Dead(), s.Settled.Dead); err != nil {
		return 0, err
	}
	parked, since := map[string]keyed{}, map[place]time.Time{}
	err = r.sweep(ctx, r.store.Parked(), func(l *deadletter.Letter) (keep bool) {
		if l.Position > s.Position {
			return false
		}
		id, err := parsePlace(l.ID)
		if err != nil {
			// Not one of ours, and nothing that could be lost by leaving it.
			r.log.Error("parked letter is ignored", "error", err)
			return true
		}
		key := l.PartitionKey
		if key == "" {
			key = l.ID
		}
		parked[l.ID] = keyed{key: key, waiting: waiting{id: id, attempts: l.Attempts, due: l.NotBefore}}
		since[id] = l.FirstSeen
		return true
	})
	if err != nil {
		return 0, err
	}
	dead := uint64(0)
	err = r.sweep(ctx, r.store.Dead(), func(l *deadletter.Letter) (keep bool) {
		// A letter in both queues was on its way from one to the other. Parked
		// it is tried once more, which is right in either direction.
		_, both := parked[l.ID]
		if l.Position > s.Position || both {
			return false
		}
		dead++
		return true
	})
	if err != nil {
		return 0, err
	}
	for _, k := range parked {
		r.laneOf(k.key).holds.put(k.key, k.waiting)
	}
	r.gate.stop(s.Paused)
	r.keeper.saved = s
	r.position.Store(s.Position)
	r.books.open(s, since, dead)
	return s.Position, r.check(ctx, s)
}

// openState returns the State that was saved last, or a new one, with what the
// stream does not retain any more counted as skipped. It has been saved.
func (r *Runner) openState(ctx context.Context) (s State, err error) {
	var known bool
	var first, last, before, seen uint64
	if err := r.persist(ctx, "load the state", func() (err error) {
		s, known, err = r.store.LoadState(ctx)
		return err
	}); err != nil {
		return s, err
	}
	err = r.persist(ctx, "look at the stream", func() (err error) {
		if first, err = r.stream.First(ctx); err != nil {
			return err
		}
		first = max(first, 1)
		if !known && r.cfg.Start == StartNow {
			if last, err = r.stream.Last(ctx); err != nil {
				return err
			}
			first = max(first, last+1)
		}
		if before, err = r.stream.CountBefore(ctx, first); err != nil {
			return err
		}
		seen, err = r.stream.CountBefore(ctx, s.Position+1)
		return err
	})
	if err != nil || known && first <= s.Position+1 {
		return s, err
	}
	if known {
		r.log.Error("the stream has lost events that the destination has not seen",
			"after", s.Position, "before", first, "events", before-seen)
	}
	s.Skipped += before - seen
	s.Seen += before - seen
	s.Position = first - 1
	return s, r.persist(ctx, "save the state", func() error { return r.store.SaveState(ctx, s) })
}

// check compares the State with the queues and the stream.
func (r *Runner) check(ctx context.Context, s State) error {
	var stored uint64
	if err := r.persist(ctx, "look at the stream", func() (err error) {
		stored, err = r.stream.CountBefore(ctx, s.Position+1)
		return err
	}); err != nil {
		return err
	}
	c := r.books.counts()
	sum := c.Skipped + c.Filtered + c.Delivered + c.Purged + c.Replayed + c.Retrying + c.Dead
	residual := int64(c.Seen - sum)
	if residual == 0 {
		residual = int64(stored - c.Seen)
	}
	r.stats.setResidual(residual)
	if residual != 0 {
		r.log.Error("the account of the destination does not add up",
			"residual", residual, "position", s.Position, "stored", stored, "seen", c.Seen, "sum", sum)
	}
	return nil
}

// sweepBatch is how many letters are deleted at once.
const sweepBatch = 1000

// sweep shows every letter of a queue to keep and deletes those that are not
// to be kept.
func (r *Runner) sweep(ctx context.Context, q deadletter.Queue, keep func(*deadletter.Letter) bool) error {
	var after uint64
	for {
		var remove []string
		err := r.persist(ctx, "scan letters", func() error {
			return q.Scan(ctx, after, func(cursor uint64, l deadletter.Letter) bool {
				after = cursor
				if !keep(&l) {
					remove = append(remove, l.ID)
				}
				return len(remove) < sweepBatch
			})
		})
		if err != nil {
			return err
		}
		if err := r.remove(ctx, q, remove); err != nil {
			return err
		}
		if len(remove) < sweepBatch {
			return nil
		}
	}
}

func (r *Runner) remove(ctx context.Context, q deadletter.Queue, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return r.persist(ctx, "delete letters", func() error { return q.Delete(ctx, ids) })
}
