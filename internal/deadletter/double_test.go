package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

var errBroken = errors.New("broken")

// queue is a deadletter.Queue in memory.
type queue struct {
	letters []deadletter.Letter
	cursors []uint64 // of the letters
	last    uint64
	fail    error // of Scan and Get, after nothing
}

var _ deadletter.Queue = (*queue)(nil)

func (q *queue) Put(_ context.Context, letters []deadletter.Letter) error {
	for _, l := range letters {
		q.remove(l.ID)
		q.last += 3 // cursors have gaps
		q.letters, q.cursors = append(q.letters, l), append(q.cursors, q.last)
	}
	return nil
}

func (q *queue) Scan(_ context.Context, after uint64, yield func(uint64, deadletter.Letter) bool) error {
	if q.fail != nil {
		return q.fail
	}
	letters, cursors := slices.Clone(q.letters), slices.Clone(q.cursors)
	for i, l := range letters {
		if cursors[i] > after && !yield(cursors[i], l) {
			break
		}
	}
	return nil
}

func (q *queue) Get(_ context.Context, id string) (deadletter.Letter, error) {
	if q.fail != nil {
		return deadletter.Letter{}, q.fail
	}
	if i := q.find(id); i >= 0 {
		return q.letters[i], nil
	}
	return deadletter.Letter{}, fault.New(fault.NotFound, "no letter %q", id)
}

func (q *queue) Delete(_ context.Context, ids []string) error {
	for _, id := range ids {
		q.remove(id)
	}
	return nil
}

func (q *queue) Count(context.Context) (uint64, error) { return uint64(len(q.letters)), nil }

func (q *queue) find(id string) int {
	return slices.IndexFunc(q.letters, func(l deadletter.Letter) bool { return l.ID == id })
}

func (q *queue) remove(id string) {
	if i := q.find(id); i >= 0 {
		q.letters, q.cursors = slices.Delete(q.letters, i, i+1), slices.Delete(q.cursors, i, i+1)
	}
}

func (q *queue) ids() []string { return ids(q.letters) }

func ids(letters []deadletter.Letter) []string {
	all := []string{}
	for i := range letters {
		all = append(all, letters[i].ID)
	}
	return all
}

// died is when the letters of these tests made their last attempt.
var died = time.Date(1999, 12, 31, 23, 0, 0, 5, time.UTC)

// letter is letter n of a queue.
func letter(n int) deadletter.Letter {
	return deadletter.Letter{
		ID: fmt.Sprintf("%d.0.0", n), Destination: "crm", Event: fmt.Appendf(nil, `{"id":"e%d", "data":{"total": 1.50}}`, n),
		EventID: fmt.Sprintf("e%d", n), EventName: "bought", Position: uint64(n), Attempts: 3,
		LastTry: died.Add(time.Duration(n) * time.Second), Class: "permanent", Message: "no such <product> & more",
	}
}

func letters(n int) (all []deadletter.Letter) {
	for i := range n {
		all = append(all, letter(i+1))
	}
	return all
}

func queueOf(t *testing.T, n int) *queue {
	q := &queue{}
	if err := q.Put(t.Context(), letters(n)); err != nil {
		t.Fatal(err)
	}
	return q
}

// disk is a File and a Desk that write down what is done to them, in order.
type disk struct {
	*queue
	content []byte
	at      int64
	synced  int // bytes of content that a loss of power leaves
	log     []string
	// fail makes the step with this number fail, the first is 1. torn is how
	// much of a write that fails gets into the file.
	fail, step, torn int
	// onPurge happens just before letters are purged.
	onPurge func()
}

func newDisk(t *testing.T, n int) *disk { return &disk{queue: queueOf(t, n)} }

// do logs a step and fails it if it is its turn.
func (d *disk) do(step string) error {
	d.step++
	d.log = append(d.log, step)
	if d.step == d.fail {
		return errBroken
	}
	return nil
}

func (d *disk) Read(b []byte) (int, error) {
	n := copy(b, d.content[d.at:])
	d.at += int64(n)
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (d *disk) Write(b []byte) (int, error) {
	err := d.do("write")
	if err != nil {
		b = b[:min(len(b), d.torn)]
	}
	d.content = append(d.content[:d.at], b...)
	d.at += int64(len(b))
	return len(b), err
}

func (d *disk) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, errors.New("not from here")
	}
	d.at = offset
	return offset, nil
}

func (d *disk) Truncate(size int64) error {
	d.content = d.content[:size]
	d.synced = min(d.synced, int(size))
	return nil
}

func (d *disk) Sync() error {
	if err := d.do("sync"); err != nil {
		return err
	}
	d.synced = len(d.content)
	return nil
}

func (d *disk) List(ctx context.Context, destination string, f deadletter.Filter, after uint64, limit int) (deadletter.Page, error) {
	if destination != "crm" {
		return deadletter.Page{}, fault.New(fault.NotFound, "no destination %q", destination)
	}
	return deadletter.List(ctx, d.queue, f, after, limit)
}

// Purge fails with half of the letters purged.
func (d *disk) Purge(ctx context.Context, _ string, o deadletter.Order, report func(deadletter.Progress)) (deadletter.Progress, error) {
	if d.onPurge != nil {
		d.onPurge()
	}
	broken := d.do("purge")
	if broken != nil {
		o.Limit = len(o.Filter.IDs) / 2
	}
	p, err := deadletter.Walk(ctx, d.queue, o, report, func(ctx context.Context, letters []deadletter.Letter) (int, error) {
		return len(letters), d.Delete(ctx, ids(letters))
	})
	return p, errors.Join(broken, err)
}
