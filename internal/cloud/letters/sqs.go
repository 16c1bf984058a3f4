package letters

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

// Queues is SQS, as a *queue.Client is.
type Queues interface {
	Parse(text string) (queue.Ref, error)
	Find(ctx context.Context, name string) (queue.Ref, error)
	Receive(ctx context.Context, from queue.Ref, most int, wait, visibility time.Duration) ([]queue.Received, error)
	Delete(ctx context.Context, from queue.Ref, receipts []string) []error
	Postpone(ctx context.Context, in queue.Ref, receipts []string, d time.Duration) []error
	Depth(ctx context.Context, of queue.Ref) (queue.Depth, error)
}

var _ Queues = (*queue.Client)(nil)

// A queue is empty when so many receives in a row have waited for nothing and
// SQS counts no message that could be had. Its count lags behind, by a minute
// at most: after many receives for nothing it is not believed.
const (
	emptyReceives = 3
	mostReceives  = 10
)

// sqsBox is an SQS queue.
type sqsBox struct {
	queues     Queues
	ref        queue.Ref
	wait, hide time.Duration
}

var _ box = (*sqsBox)(nil)

func (b *sqsBox) name() string              { return b.ref.Name }
func (b *sqsBox) visibility() time.Duration { return b.hide }

func (b *sqsBox) receive(ctx context.Context, holding bool) ([]received, error) {
	for empty := 1; ; empty++ {
		messages, err := b.queues.Receive(ctx, b.ref, queue.MaxBatch, b.wait, b.hide)
		if f := sdk.AsFailure(err); f != nil && f.Topic == "in flight" {
			return nil, &fault.Error{Kind: fault.Unavailable, Err: err, Detail: "SQS lets 120,000 messages of a queue be held at a time, and so many are: with --delete (or \"delete\":true) a backup makes room as it goes; a --limit takes fewer"}
		}
		if err != nil {
			return nil, err
		}
		if len(messages) > 0 {
			return b.read(messages), nil
		}
		ordered := b.ref.FIFO() && holding
		if empty < emptyReceives && !ordered {
			continue
		}
		depth, err := b.queues.Depth(ctx, b.ref)
		switch {
		case err != nil:
			return nil, err
		case depth.Waiting > 0 && ordered:
			return nil, &fault.Error{Kind: fault.Unavailable, Err: deadletter.ErrBlocked, Detail: fmt.Sprintf("%s keeps order: SQS gives no more messages of a group while earlier ones are held, and about %d are waiting; back up with --delete, or deal with the first ones first", b.ref.Name, depth.Waiting)}
		case depth.Waiting == 0 && empty >= emptyReceives, empty >= mostReceives:
			return nil, nil
		}
	}
}

func (b *sqsBox) read(messages []queue.Received) []received {
	all := make([]received, len(messages))
	for i := range messages {
		m := &messages[i]
		all[i] = received{receipt: m.Receipt, Message: Message{
			ID: m.ID, Body: []byte(m.Body), Attributes: m.Attributes, SentAt: m.SentAt, Receives: m.Receives,
			Queue: b.ref.Name, Source: m.Source,
		}}
	}
	return all
}

// workers is how many calls are made side by side where there are many.
const workers = 8

// spread calls do for parts of n things, side by side if there are many.
func spread(n int, do func(from, to int)) {
	size := (n + workers - 1) / workers
	size = (size + queue.MaxBatch - 1) / queue.MaxBatch * queue.MaxBatch // whole calls
	var all sync.WaitGroup
	for from := 0; from < n; from += size {
		all.Go(func() { do(from, min(n, from+size)) })
	}
	all.Wait()
}

func receipts(messages []*held) []string {
	all := make([]string, len(messages))
	for i, m := range messages {
		all[i] = m.receipt
	}
	return all
}

func (b *sqsBox) remove(ctx context.Context, messages []*held) []error {
	errs := make([]error, len(messages))
	all := receipts(messages)
	spread(len(all), func(from, to int) { copy(errs[from:to], b.queues.Delete(ctx, b.ref, all[from:to])) })
	return errs
}

// extend is tried again before it is too late, and what fails for good is the
// loss of a message to another receiver: it is in the queue.
func (b *sqsBox) extend(ctx context.Context, messages []*held) {
	all := receipts(messages)
	spread(len(all), func(from, to int) { b.queues.Postpone(ctx, b.ref, all[from:to], b.hide) })
}

// putBack is done as well as can be: what is not put back comes back later.
func (b *sqsBox) putBack(ctx context.Context, messages []*held) {
	all := receipts(messages)
	spread(len(all), func(from, to int) { b.queues.Postpone(ctx, b.ref, all[from:to], 0) })
}

func (b *sqsBox) count(ctx context.Context) (Depth, error) {
	d, err := b.queues.Depth(ctx, b.ref)
	return Depth(d), err
}

// Depth is how many messages a queue holds, approximately: queue.Depth. Objects
// in a bucket are all waiting.
type Depth queue.Depth

// Total is all of them.
func (d Depth) Total() uint64 { return queue.Depth(d).Total() }
