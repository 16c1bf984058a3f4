package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
)

// reconnects is how a reader waits while the stream is away.
var reconnects = retry.Policy{BaseDelay: 20 * time.Millisecond, MaxDelay: 2 * time.Second}

// doubt is how long a reader waits for a new entry in the tail before it asks
// the stream whether there is one that the tail does not know of.
const doubt = time.Second

// reader reads the event stream from a position: from the stream while it is
// behind, where it holds at most what two requests bring (see pull), and from
// the tail once it has caught up.
type reader struct {
	events *Events
	// behind says that next is to be read from the stream.
	behind bool
	waited *time.Timer
	closed sync.Once
	// next is the position that must come next; 0 before the first entry of a
	// reader that takes what is retained.
	next     uint64
	consumer jetstream.Consumer
	messages jetstream.MessagesContext
	// lost, once set, is what every Next returns: an entry that should have
	// come next is not on the stream any more.
	lost error
}

// Open implements delivery.Stream. It returns a fault.NotFound if entries
// after the position are not retained any more, and so does Next: what a
// reader has not seen it never passes over in silence.
func (ev *Events) Open(ctx context.Context, after uint64) (stream.Reader, error) {
	info, err := ev.stream.Info(ctx)
	if err != nil {
		return nil, unavailable(err, "open the stream after %d", after)
	}
	r := &reader{events: ev, waited: time.NewTimer(doubt)}
	r.waited.Stop()
	if after > 0 || info.State.LastSeq == 0 {
		r.next = after + 1
		if first := firstPosition(info); r.next < first {
			return nil, gone(r.next, first-1)
		}
		if last := info.State.LastSeq; after > last {
			return nil, fault.New(fault.Internal, "the stream ends at position %d, before position %d: it is not the one that was read", last, after)
		}
	}
	ev.tail.enter()
	if r.behind = !ev.tail.reaches(r.next); r.behind {
		if err := r.connect(ctx); err != nil {
			ev.tail.leave()
			return nil, unavailable(err, "open the stream after %d", after)
		}
	}
	return r, nil
}

func gone(from, to uint64) error {
	return fault.New(fault.NotFound, "the stream does not hold the entries from position %d to %d any more", from, to)
}

// connect begins to read at next.
func (r *reader) connect(ctx context.Context) error {
	consumer, err := r.events.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       max(r.next, 1),
		InactiveThreshold: inactive,
		// Further attempts are Next's, which knows a context.
		MaxResetAttempts: 1,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(pull(r.events.engine.requestBytes())...)
	if err != nil {
		return err
	}
	r.consumer, r.messages = consumer, messages
	return nil
}

// Next implements stream.Reader.
func (r *reader) Next(ctx context.Context) (stream.Entry, error) {
	for attempt := 1; r.lost == nil; attempt++ {
		if err := ctx.Err(); err != nil {
			return stream.Entry{}, err
		}
		if !r.behind {
			e, ok, err := r.follow(ctx)
			if ok || err != nil {
				return e, err
			}
			r.behind = true
		}
		e, err := r.take(ctx)
		switch {
		case err == nil:
			if r.events.tail.reaches(r.next) {
				r.behind = false
				r.leave()
			}
			return e, nil
		case ctx.Err() != nil:
			return stream.Entry{}, ctx.Err()
		case r.lost != nil:
			return stream.Entry{}, r.lost
		case r.events.engine.reads.IsClosed():
			return stream.Entry{}, unavailable(err, "read the stream at %d", r.next)
		}
		r.events.log.Warn("reading the stream failed, trying again",
			slog.Uint64("position", r.next), slog.Any("error", err))
		r.disconnect()
		if err := retry.Sleep(ctx, reconnects.Delay(attempt, 0)); err != nil {
			return stream.Entry{}, err
		}
	}
	return stream.Entry{}, r.lost
}

// follow waits for the next entry in the tail. ok is false if it has to be read
// from the stream.
func (r *reader) follow(ctx context.Context) (e stream.Entry, ok bool, err error) {
	for {
		e, ok, changed := r.events.tail.get(r.next)
		if ok {
			r.next++
		}
		if ok || changed == nil {
			return e, ok, nil
		}
		r.waited.Reset(doubt)
		select {
		case <-changed:
		case <-r.waited.C:
			last, err := r.events.Last(ctx)
			if err == nil && last >= r.next {
				return e, false, nil
			}
			// If the stream cannot be asked it cannot be read either, nor written.
		case <-ctx.Done():
			return e, false, ctx.Err()
		}
	}
}

// take waits for one message and checks that it is the one that must come.
func (r *reader) take(ctx context.Context) (stream.Entry, error) {
	if r.messages == nil {
		if err := r.connect(ctx); err != nil {
			return stream.Entry{}, err
		}
	}
	m, err := r.messages.Next(jetstream.NextContext(ctx))
	if err != nil {
		return stream.Entry{}, err
	}
	md, err := m.Metadata()
	if err != nil {
		return stream.Entry{}, err
	}
	position := md.Sequence.Stream
	switch {
	case r.next != 0 && position < r.next:
		return stream.Entry{}, errors.New("the stream went back")
	case r.next != 0 && position > r.next:
		r.lost = gone(r.next, position-1)
		return stream.Entry{}, r.lost
	}
	r.next = position + 1
	return entry(position, md.Timestamp, m.Headers(), m.Data()), nil
}

func (r *reader) disconnect() {
	if r.messages != nil {
		r.messages.Stop()
	}
	r.messages, r.consumer = nil, nil
}

// leave ends the reading from the stream, also on the server.
func (r *reader) leave() {
	consumer := r.consumer
	r.disconnect()
	if consumer == nil || !r.events.engine.reads.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// One that stays behind goes after its InactiveThreshold.
	if info, err := consumer.Info(ctx); err == nil {
		_ = r.events.stream.DeleteConsumer(ctx, info.Name)
	}
}

// Close implements stream.Reader.
func (r *reader) Close() error {
	r.closed.Do(r.events.tail.leave)
	r.leave()
	return nil
}
