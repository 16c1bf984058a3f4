package deadletter

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"

	"github.com/eventsluice/sluice/internal/fault"
)

const (
	// walkBatch is how many letters Walk hands over at once.
	walkBatch = 100
	// sampleSize is how many letters a dry run shows.
	sampleSize = 10
	// pageBytes is when a page or a batch takes no further letter, though one
	// letter may be larger: it bounds the memory that they take together.
	pageBytes = 16 << 20
)

// ErrBlocked says that a queue gives no more letters before some of those that it
// gave are deleted.
var ErrBlocked = errors.New("no more letters are to be had before these are dealt with")

// OnePass is a Queue that is read once, from its first letter to its last:
// messages that are received, and not known before. Scan does not come back to
// letters that were passed, which are those up to the largest cursor that it was
// given, nor does Get; Count counts messages, approximately.
type OnePass interface {
	Queue
	// Ends reports whether the letter with a cursor is the last one of its
	// message. Messages are deleted whole, so no walk ends in the middle of one.
	Ends(cursor uint64) bool
}

// List returns a page of a queue: fewer letters than the limit if they are
// large.
func List(ctx context.Context, q Queue, f Filter, after uint64, limit int) (Page, error) {
	p := Page{Letters: []Letter{}}
	if limit <= 0 {
		return p, fault.New(fault.Invalid, "limit is %d; at least 1 is right", limit)
	}
	var last uint64
	size := 0
	err := q.Scan(ctx, after, func(cursor uint64, l Letter) bool {
		if !f.Match(&l) {
			return true
		}
		size += l.size()
		if len(p.Letters) == limit || len(p.Letters) > 0 && size > pageBytes {
			p.Next = last
			return false
		}
		p.Letters = append(p.Letters, l)
		last = cursor
		return true
	})
	if errors.Is(err, ErrBlocked) && len(p.Letters) > 0 {
		p.Next, err = last, nil
	}
	return p, err
}

// Walk carries out an order: it hands the letters of a queue that the filter
// selects to act, in batches and at the rate of the order, and reports after
// each. act returns how many of them it dealt with. It may delete them, and it
// may cause letters to be put into the queue: those are not walked over.
func Walk(ctx context.Context, q Queue, o Order, report func(Progress), act func(context.Context, []Letter) (int, error)) (Progress, error) {
	var p Progress
	if err := o.Validate(); err != nil {
		return p, &fault.Error{Kind: fault.Invalid, Detail: err.Error()}
	}
	if report == nil {
		report = func(Progress) {}
	}
	total, err := q.Count(ctx)
	if err != nil {
		return p, err
	}
	p.Total = int(total)
	w := walk{order: o, began: time.Now(), queue: q, progress: &p, batch: walkBatch}
	w.onePass, _ = q.(OnePass)
	if ids := unique(o.Filter.IDs); len(ids) > 0 && w.onePass != nil {
		// They are met in passing, each once.
		w.named, w.order.Filter.IDs = true, ids
		if o.Limit == 0 || o.Limit > len(ids) {
			w.order.Limit = len(ids)
		}
	} else if len(ids) > 0 {
		w.byID, w.ids = true, ids
		w.order.Filter.IDs = nil
	}
	var limiter *rate.Limiter
	if o.Rate > 0 {
		w.batch = max(1, min(walkBatch, int(o.Rate)))
		limiter = rate.NewLimiter(rate.Limit(o.Rate), w.batch)
	}
	for {
		letters, more, err := w.next(ctx)
		if err != nil {
			return p, err
		}
		p.Matched += len(letters)
		switch {
		case len(letters) == 0:
		case o.DryRun:
			p.Sample = append(p.Sample, letters[:min(len(letters), sampleSize-len(p.Sample))]...)
		default:
			if limiter != nil {
				if err := limiter.WaitN(ctx, len(letters)); err != nil {
					if ctx.Err() == nil { // it does not wait for what comes after the deadline
						err = context.DeadlineExceeded
					}
					return p, err
				}
			}
			n, err := act(ctx, letters)
			p.Done += n
			if err != nil {
				return p, err
			}
		}
		report(p)
		if !more {
			return p, nil
		}
	}
}

type walk struct {
	order    Order
	began    time.Time
	queue    Queue
	onePass  OnePass // the same, or nil
	batch    int
	after    uint64
	named    bool     // the filter names letters, which are met in passing
	byID     bool     // the filter names letters:
	ids      []string // those still to be looked up
	progress *Progress
}

// next returns the next batch, and whether there may be another.
func (w *walk) next(ctx context.Context) (letters []Letter, more bool, err error) {
	room := w.batch
	if w.byID {
		if w.order.Limit > 0 {
			room = min(room, w.order.Limit-w.progress.Matched)
		}
		letters, err = w.lookUp(ctx, room)
		return letters, len(w.ids) > 0 && !w.enough(len(letters)), err
	}
	size := 0
	err = w.queue.Scan(ctx, w.after, func(cursor uint64, l Letter) bool {
		if w.onePass == nil && w.progress.Examined >= w.progress.Total {
			return false
		}
		w.after = cursor
		if w.named || !l.LastTry.After(w.began) { // or it died again since we began
			w.progress.Examined++
			if w.order.Filter.Match(&l) {
				letters = append(letters, l)
				size += l.size()
			}
		}
		more = len(letters) >= room || size >= pageBytes
		if w.enough(len(letters)) && (w.onePass == nil || w.onePass.Ends(cursor)) {
			more = false
			return false
		}
		return !more
	})
	if errors.Is(err, ErrBlocked) && len(letters) > 0 {
		return letters, !w.enough(len(letters)), nil
	}
	if w.onePass != nil {
		w.progress.Total = max(w.progress.Total, w.progress.Examined)
		if err == nil && !more && !w.enough(len(letters)) {
			w.progress.Total = w.progress.Examined // that was all
		}
	}
	return letters, more, err
}

// enough reports whether the limit is reached with n more letters.
func (w *walk) enough(n int) bool {
	return w.order.Limit > 0 && w.progress.Matched+n >= w.order.Limit
}

func (w *walk) lookUp(ctx context.Context, room int) (letters []Letter, err error) {
	for len(w.ids) > 0 && len(letters) < room {
		l, err := w.queue.Get(ctx, w.ids[0])
		if err != nil && fault.KindOf(err) != fault.NotFound {
			return nil, err
		}
		w.ids = w.ids[1:]
		w.progress.Examined++
		if err == nil && w.order.Filter.Match(&l) {
			letters = append(letters, l)
		}
	}
	return letters, nil
}

// unique returns ids without those that are named again: act must not be given
// a letter twice.
func unique(ids []string) []string {
	known := make(map[string]struct{}, len(ids))
	once := make([]string, 0, len(ids))
	for _, id := range ids {
		if _, again := known[id]; !again {
			known[id] = struct{}{}
			once = append(once, id)
		}
	}
	return once
}
