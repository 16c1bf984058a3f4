package invoke

import (
	"context"
	"slices"
	"sync"

	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/fault"
)

// outbox gathers the messages that wait for a queue into calls of ten. The first
// sender that finds no call under way makes one for all that wait, and the next
// that waits makes the next.
type outbox struct {
	client *queue.Client
	ref    queue.Ref

	mu      sync.Mutex
	waiting []*parcel
	busy    bool
}

// parcel is a message and its sender, who waits for done.
type parcel struct {
	message queue.Message
	err     error
	// done is closed when err is known; lead gets a value when the sender shall
	// make the next call.
	done chan struct{}
	lead chan struct{}
	sent bool // in a call
}

func (c *Client) enqueue(ctx context.Context, destination string, m queue.Message) error {
	c.mu.Lock()
	box := c.boxes[destination]
	if box == nil {
		ref, err := queue.ParseRef(destination, c.region)
		if err != nil {
			c.mu.Unlock()
			return fault.New(fault.NotFound, "%v", err)
		}
		box = &outbox{client: c.queue, ref: ref}
		c.boxes[destination] = box
	}
	c.mu.Unlock()
	return box.send(ctx, m)
}

func (o *outbox) send(ctx context.Context, m queue.Message) error {
	p := &parcel{message: m, done: make(chan struct{}), lead: make(chan struct{}, 1)}
	o.mu.Lock()
	o.waiting = append(o.waiting, p)
	if !o.busy {
		o.busy = true
		p.lead <- struct{}{}
	}
	o.mu.Unlock()
	for {
		select {
		case <-p.done:
			return p.err
		case <-p.lead:
			o.call(ctx)
		case <-ctx.Done():
			return o.leave(p)
		}
	}
}

// leave ends the wait of a sender whose time is over.
func (o *outbox) leave(p *parcel) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	default:
	}
	if p.sent {
		return fault.New(fault.Ambiguous, "the time was over before SQS answered")
	}
	o.waiting = slices.DeleteFunc(o.waiting, func(other *parcel) bool { return other == p })
	select {
	case <-p.lead: // it was to make the next call
		o.pass()
	default:
	}
	return fault.New(fault.Unavailable, "the time was over before the message was sent")
}

// pass lets the first of those that wait make the next call. mu is held.
func (o *outbox) pass() {
	o.busy = len(o.waiting) > 0
	if o.busy {
		o.waiting[0].lead <- struct{}{}
	}
}

// call sends what waits, as much as one call takes. Of a FIFO queue's group it
// takes one message: SQS may refuse the first of two and store the second.
func (o *outbox) call(ctx context.Context) {
	o.mu.Lock()
	var parcels []*parcel
	var messages []queue.Message
	groups := map[string]bool{}
	size := 0
	rest := o.waiting[:0:0]
	for _, p := range o.waiting {
		fits := len(parcels) < queue.MaxBatch && (len(parcels) == 0 || size+len(p.message.Body) <= queue.MaxBytes)
		if !fits || o.ref.FIFO() && groups[p.message.Group] {
			rest = append(rest, p)
			continue
		}
		p.sent = true
		groups[p.message.Group] = true
		size += len(p.message.Body)
		parcels, messages = append(parcels, p), append(messages, p.message)
	}
	o.waiting = rest
	o.mu.Unlock()
	errs := o.client.Send(ctx, o.ref, messages)
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, p := range parcels {
		p.err = errs[i]
		close(p.done)
	}
	o.pass()
}
