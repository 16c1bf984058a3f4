// Package grave is how letters get into SQS: the messages that they are, and what
// to do with those that are too large for one. It is small, for it is linked into
// functions; package letters reads what is written here, and much else.
package grave

import (
	"context"
	"fmt"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

// Grave is where a function puts its letters: a queue, and a bucket for the
// events that are too large for a message.
type Grave struct {
	Queue *queue.Client
	Ref   queue.Ref
	// Objects and Bucket may be empty: then a letter that is too large cannot be
	// kept.
	Objects *object.Client
	Bucket  string
}

// Bury makes letters durable, and tries again until ctx is done. It returns an
// error for each letter that is not known to be durable, in order.
func (g *Grave) Bury(ctx context.Context, all []deadletter.Letter) []error {
	return g.put(ctx, all, false)
}

// Keep is Bury for letters that wait: none can be received before its NotBefore,
// or before queue.MaxDelay has passed, if that is sooner. A FIFO queue knows no
// delays.
func (g *Grave) Keep(ctx context.Context, all []deadletter.Letter) []error {
	return g.put(ctx, all, true)
}

func (g *Grave) put(ctx context.Context, all []deadletter.Letter, delayed bool) []error {
	errs := make([]error, len(all))
	var messages []queue.Message
	var which []int
	for i, l := range all {
		m, err := g.Message(ctx, l)
		if err != nil {
			errs[i] = err
			continue
		}
		if delayed {
			m.Delay = min(max(time.Until(l.NotBefore), 0), queue.MaxDelay)
		}
		messages, which = append(messages, m), append(which, i)
	}
	put, _ := g.Queue.Put(ctx, g.Ref, messages) // each error is in put
	for n, err := range put {
		errs[which[n]] = err
	}
	return errs
}

// Message makes a letter a message: whole, without its history, or with its
// event in the bucket.
func (g *Grave) Message(ctx context.Context, l deadletter.Letter) (queue.Message, error) {
	m, err := Encode(l)
	if fault.KindOf(err) != fault.TooLarge {
		return m, err
	}
	l.Request, l.Response, l.Tries = "", "", nil
	if m, err = Encode(l); fault.KindOf(err) != fault.TooLarge {
		return m, err
	}
	if g.Bucket == "" {
		return m, fmt.Errorf("%w; with a bucket for claims (CLAIM_BUCKET) it would be kept there", err)
	}
	payload := []byte(l.Event)
	if len(payload) == 0 {
		payload = l.Raw
	}
	// Named by what it holds: to put it again changes nothing.
	claim, err := g.Objects.Claim(ctx, g.Bucket, "letters/"+g.Ref.Name+"/"+digest(string(payload))+".json", payload)
	if err != nil {
		return m, err
	}
	l.Claim, l.Event, l.Raw = &claim, nil, nil
	// Of an event of another producer these may be as long as the event.
	l.ID, l.EventID, l.EventName, l.PartitionKey = deadletter.Clip(l.ID, maxText), deadletter.Clip(l.EventID, maxText), deadletter.Clip(l.EventName, maxText), deadletter.Clip(l.PartitionKey, maxText)
	return Encode(l)
}
