package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// scanPatience is how long a scan waits for the next message before it
	// asks whether there still is one: messages can be deleted ahead of it.
	scanPatience = time.Second
	// pullMessages is the most messages that one request of a reader asks for.
	pullMessages = 256
)

// pull are the options of a reader that holds at most one request's worth of
// messages, each request bounded in bytes. The bound must hold the largest
// message: a request that cannot be served would be repeated for ever.
func pull(maxBytes int) []jetstream.PullMessagesOpt {
	return []jetstream.PullMessagesOpt{
		jetstream.PullMaxMessagesWithBytesLimit(pullMessages, maxBytes),
		// Ask again only when everything has been taken.
		jetstream.PullThresholdMessages(1),
		jetstream.PullExpiry(30 * time.Second),
		jetstream.PullHeartbeat(5 * time.Second),
	}
}

// readAhead is the most that one reader holds, in bytes.
func (e *Engine) readAhead() int { return e.cfg.MaxMessageBytes + messageOverhead }

// scan calls yield for the messages of a stream, from a sequence number to the
// newest at the time of the call, until yield returns false. With headersOnly
// payloads are left out.
func (e *Engine) scan(ctx context.Context, s jetstream.Stream, from uint64, headersOnly bool,
	yield func(m jetstream.Msg, sequence uint64, at time.Time) bool) error {
	info, err := s.Info(ctx)
	if err != nil {
		return fmt.Errorf("ask for the newest message: %w", err)
	}
	last := info.State.LastSeq
	if info.State.Msgs == 0 || from > last {
		return nil
	}
	c, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       max(from, 1),
		AckPolicy:         jetstream.AckNonePolicy,
		HeadersOnly:       headersOnly,
		MemoryStorage:     true,
		InactiveThreshold: time.Minute,
	})
	if err != nil {
		return fmt.Errorf("create consumer: %w", err)
	}
	defer func() {
		// A consumer that stays behind goes after InactiveThreshold.
		gone, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.DeleteConsumer(gone, c.CachedInfo().Name)
	}()
	if c.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := c.Messages(pull(e.readAhead())...)
	if err != nil {
		return err
	}
	defer messages.Stop()
	for read := uint64(0); ; {
		wait, cancel := context.WithTimeout(ctx, scanPatience)
		m, err := messages.Next(jetstream.NextContext(wait))
		cancel()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			info, err := c.Info(ctx)
			if err != nil {
				return err
			}
			if info.NumPending == 0 && info.Delivered.Consumer == read {
				return nil
			}
			continue
		default:
			return err
		}
		md, err := m.Metadata()
		if err != nil {
			return err
		}
		if read++; md.Sequence.Consumer != read {
			return errors.New("messages were lost between server and reader")
		}
		if md.Sequence.Stream > last || !yield(m, md.Sequence.Stream, md.Timestamp) ||
			md.Sequence.Stream == last || md.NumPending == 0 {
			return nil
		}
	}
}
