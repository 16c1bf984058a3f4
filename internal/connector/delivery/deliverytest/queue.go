// Package deliverytest has doubles of what a delivery.Runner works with: a
// Store that fails in all three ways a write can fail, a Stream, a connector
// and a route. They keep everything in memory and check what they are given.
package deliverytest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

// Outcome is what becomes of an operation of the Store.
type Outcome uint8

// The outcomes. A write has three: stored, not stored, and unknown, which
// comes in the two forms that the caller cannot tell apart.
const (
	OK        Outcome = iota
	NotStored         // an error, and nothing happened
	LostReply         // an error, and it happened
)

// ErrInjected is the error of operations that were made to fail.
var ErrInjected = errors.New("injected failure")

// Op is an operation of the Store.
type Op string

// The operations. Those of the queues have the name of the queue before them,
// as in "parked.put".
const (
	LoadState Op = "load"
	SaveState Op = "save"
)

// Store is what is on the disk: it outlives the processes that use it.
type Store struct {
	mu     sync.Mutex
	state  *delivery.State
	owner  *Process
	parked queue
	dead   queue
	// saves are all States that were saved, in order.
	saves []delivery.State
}

// Process is the Store as one process sees it.
type Process struct {
	store *Store
	// Fail decides over each operation; nil lets all succeed. It is called
	// without locks held.
	Fail func(op Op) Outcome
	mu   sync.Mutex
	dead bool
}

var _ delivery.Store = (*Process)(nil)

// Open returns the view of a new process. With its first LoadState it becomes
// the owner, and writes of the earlier one are conflicts.
func (s *Store) Open() *Process { return &Process{store: s} }

// Kill makes every operation fail from now on, without effect.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
}

// Killed reports whether Kill was called.
func (p *Process) Killed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// do carries out an operation with the outcome that is wanted.
func (p *Process) do(ctx context.Context, op Op, act func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.Killed() {
		return ErrInjected
	}
	outcome := OK
	if p.Fail != nil {
		outcome = p.Fail(op)
	}
	// Fail may have killed the process: the outcome is still what became of
	// this operation, and nobody hears of it.
	if outcome == NotStored {
		return ErrInjected
	}
	p.store.mu.Lock()
	err := act()
	p.store.mu.Unlock()
	if outcome == LostReply || p.Killed() {
		return errors.Join(ErrInjected, err)
	}
	return err
}

// LoadState implements delivery.Store.
func (p *Process) LoadState(ctx context.Context) (s delivery.State, ok bool, err error) {
	err = p.do(ctx, LoadState, func() error {
		p.store.owner = p
		if p.store.state != nil {
			s, ok = clone(*p.store.state), true
		}
		return nil
	})
	return s, ok, err
}

// SaveState implements delivery.Store.
func (p *Process) SaveState(ctx context.Context, s delivery.State) error {
	s = clone(s)
	return p.do(ctx, SaveState, func() error {
		if p.store.owner != p {
			return fault.New(fault.Conflict, "the state belongs to another process")
		}
		p.store.state = &s
		p.store.saves = append(p.store.saves, s)
		return nil
	})
}

// Parked implements delivery.Store.
func (p *Process) Parked() deadletter.Queue { return &view{p, &p.store.parked, "parked."} }

// Dead implements delivery.Store.
func (p *Process) Dead() deadletter.Queue { return &view{p, &p.store.dead, "dead."} }

// State returns the State as it is on the disk.
func (s *Store) State() (delivery.State, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == nil {
		return delivery.State{}, false
	}
	return clone(*s.state), true
}

// Letters returns what is in the two queues, in the order in which it was put.
func (s *Store) Letters() (parked, dead []deadletter.Letter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parked.all(), s.dead.all()
}

// WasDead reports whether an event has ever been a dead letter.
func (s *Store) WasDead(eventID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead.ever[eventID]
}

func clone[T any](v T) T {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var c T
	if err := json.Unmarshal(b, &c); err != nil {
		panic(err)
	}
	return c
}

// queue is a deadletter.Queue without its interface.
type queue struct {
	cursor  uint64
	letters map[string]stored
	ever    map[string]bool // ids of the events of all letters there have been
}

type stored struct {
	cursor uint64
	text   []byte // a letter that has been put cannot be changed
}

func (s *stored) letter() (l deadletter.Letter) {
	if err := json.Unmarshal(s.text, &l); err != nil {
		panic(err)
	}
	return l
}

func (q *queue) put(letters []deadletter.Letter) {
	if q.letters == nil {
		q.letters, q.ever = map[string]stored{}, map[string]bool{}
	}
	for _, l := range letters {
		text, err := json.Marshal(l)
		if err != nil {
			panic(err)
		}
		q.cursor++
		q.ever[l.EventID] = true
		q.letters[l.ID] = stored{cursor: q.cursor, text: text}
	}
}

func (q *queue) sorted() []stored {
	all := make([]stored, 0, len(q.letters))
	for _, s := range q.letters {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b stored) int { return cmp.Compare(a.cursor, b.cursor) })
	return all
}

func (q *queue) all() (letters []deadletter.Letter) {
	for _, s := range q.sorted() {
		letters = append(letters, s.letter())
	}
	return letters
}

// view is a queue as a process sees it.
type view struct {
	p    *Process
	q    *queue
	name Op
}

// Put implements deadletter.Queue.
func (v *view) Put(ctx context.Context, letters []deadletter.Letter) error {
	return v.p.do(ctx, v.name+"put", func() error { v.q.put(letters); return nil })
}

// Scan implements deadletter.Queue.
func (v *view) Scan(ctx context.Context, after uint64, yield func(cursor uint64, l deadletter.Letter) bool) error {
	var all []stored
	if err := v.p.do(ctx, v.name+"scan", func() error { all = v.q.sorted(); return nil }); err != nil {
		return err
	}
	for _, s := range all {
		if s.cursor > after && !yield(s.cursor, s.letter()) {
			break
		}
	}
	return nil
}

// Get implements deadletter.Queue.
func (v *view) Get(ctx context.Context, id string) (l deadletter.Letter, err error) {
	err = v.p.do(ctx, v.name+"get", func() error {
		s, ok := v.q.letters[id]
		if !ok {
			return fault.New(fault.NotFound, "no letter %q", id)
		}
		l = s.letter()
		return nil
	})
	return l, err
}

// Delete implements deadletter.Queue.
func (v *view) Delete(ctx context.Context, ids []string) error {
	return v.p.do(ctx, v.name+"delete", func() error {
		for _, id := range ids {
			delete(v.q.letters, id)
		}
		return nil
	})
}

// Count implements deadletter.Queue.
func (v *view) Count(ctx context.Context) (n uint64, err error) {
	err = v.p.do(ctx, v.name+"count", func() error { n = uint64(len(v.q.letters)); return nil })
	return n, err
}
