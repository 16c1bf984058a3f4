package delivery

import (
	"context"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
)

// keeper is the only one to write to the Store, one step after another: what
// all lanes have to put goes out in one write, and no letter is put into a
// queue while an older one of the same id still has to be deleted there.
type keeper struct {
	r        *Runner
	requests chan *request
	// stop is closed when no more requests come.
	stop  chan struct{}
	saved State // the State that was saved last
}

// request asks for letters to be made durable and then accounted for.
type request struct {
	parked, dead []deadletter.Letter
	// account runs under the lock of the books, once the letters are durable.
	account func(*books)
	// flush asks for a State to be saved and the letters it names deleted.
	flush bool
	done  chan struct{} // closed when all of it has happened
}

// do hands in a request and waits until it has been carried out. After an
// error it may or may not have been.
func (k *keeper) do(ctx context.Context, req *request) error {
	req.done = make(chan struct{})
	select {
	case k.requests <- req:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-req.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run carries out requests and saves the State until stop is closed, and then
// once more. ctx ends it earlier, with whatever is unsaved left to recovery.
func (k *keeper) run(ctx context.Context) error {
	interval := k.r.cfg.CommitInterval
	timer := time.NewTimer(interval)
	timer.Stop()
	armed := false
	for {
		select {
		case req := <-k.requests:
			if err := k.carryOut(ctx, k.more(req)); err != nil {
				return err
			}
		case <-k.r.books.dirty:
			if !armed {
				timer.Reset(interval)
				armed = true
			}
		case <-timer.C:
			armed = false
			if err := k.commit(ctx); err != nil {
				return err
			}
		case <-k.stop:
			timer.Stop()
			return k.commit(ctx)
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// more returns the request and all others that are waiting.
func (k *keeper) more(first *request) []*request {
	all := []*request{first}
	for {
		select {
		case req := <-k.requests:
			all = append(all, req)
		default:
			return all
		}
	}
}

func (k *keeper) carryOut(ctx context.Context, all []*request) error {
	var parked, dead []deadletter.Letter
	flush := false
	for _, req := range all {
		parked = append(parked, req.parked...)
		dead = append(dead, req.dead...)
		flush = flush || req.flush
	}
	b := k.r.books
	if b.overlaps(ids(parked), ids(dead)) {
		if err := k.commit(ctx); err != nil {
			return err
		}
	}
	if len(parked) > 0 {
		err := k.r.persist(ctx, "park events", func() error { return k.r.store.Parked().Put(ctx, parked) })
		if err != nil {
			return err
		}
	}
	if len(dead) > 0 {
		err := k.r.persist(ctx, "write dead letters", func() error { return k.r.store.Dead().Put(ctx, dead) })
		if err != nil {
			return err
		}
	}
	b.mu.Lock()
	for _, req := range all {
		if req.account != nil {
			req.account(b)
		}
	}
	b.mu.Unlock()
	notify(b.dirty)
	if flush {
		if err := k.commit(ctx); err != nil {
			return err
		}
	}
	for _, req := range all {
		close(req.done)
	}
	return nil
}

func ids(letters []deadletter.Letter) []string {
	all := make([]string, len(letters))
	for i := range letters {
		all[i] = letters[i].ID
	}
	return all
}

// commit saves the State and deletes the letters that it names.
func (k *keeper) commit(ctx context.Context) error {
	s := k.r.books.state()
	if s.Position == k.saved.Position && s.Paused == k.saved.Paused && len(s.Settled.Parked)+len(s.Settled.Dead) == 0 &&
		len(k.saved.Settled.Parked)+len(k.saved.Settled.Dead) == 0 {
		return nil
	}
	return k.save(ctx, s)
}

func (k *keeper) save(ctx context.Context, s State) error {
	if err := k.r.persist(ctx, "save the state", func() error { return k.r.store.SaveState(ctx, s) }); err != nil {
		return err
	}
	k.saved = s
	k.r.position.Store(s.Position)
	// From here the letters are out of the account. A crash before they are
	// deleted leaves that to recovery.
	for _, q := range [...]struct {
		queue deadletter.Queue
		ids   []string
	}{{k.r.store.Parked(), s.Settled.Parked}, {k.r.store.Dead(), s.Settled.Dead}} {
		if len(q.ids) == 0 {
			continue
		}
		if err := k.r.persist(ctx, "delete letters", func() error { return q.queue.Delete(ctx, q.ids) }); err != nil {
			return err
		}
	}
	k.r.books.deleted(&s)
	return nil
}

// storePolicy is how patiently a store that fails is tried again.
var storePolicy = retry.Policy{BaseDelay: 50 * time.Millisecond, MaxDelay: 5 * time.Second}

// persist does a step at the store until it succeeds. It gives up when ctx is
// done, or when another process owns the destination.
func (r *Runner) persist(ctx context.Context, what string, step func() error) error {
	for attempt := 1; ; attempt++ {
		err := step()
		if err == nil {
			return nil
		}
		if fault.KindOf(err) == fault.Conflict {
			return err
		}
		if ctx.Err() != nil {
			return err
		}
		r.trouble(what, err, attempt)
		if retry.Sleep(ctx, storePolicy.Delay(attempt, fault.RetryAfter(err))) != nil {
			return err
		}
	}
}
