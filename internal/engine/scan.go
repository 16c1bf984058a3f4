package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/eventsluice/sluice/internal/retry"
)

const (
	// scanPatience is how long a scan waits for the next message before it
	// asks whether there still is one: messages can be deleted ahead of it.
	scanPatience = time.Second
	// pullMessages is the most messages that a reader holds.
	pullMessages = 128
	// heartbeat is how often the server says that a reader without messages is
	// not forgotten; after two that are missed a reader begins anew.
	heartbeat = time.Second
	// inactive is when the server forgets a reader that takes nothing: a
	// destination may be paused for long, a letter takes its time. Those of a
	// process that has crashed go with it.
	inactive = time.Hour
)

// pull are the options of a reader: at most pullMessages messages in memory,
// asked for in requests of at most so many bytes. Half of the messages must be
// taken before the next request, so that at most two requests' bytes are held.
//
// The bound must hold the largest message: a request that cannot be served
// would be repeated for ever. And the next request must not wait until all is
// taken: the client may overlook that it is due while the one before is still
// being sent (checkPending in nats.go), and with nothing more to come it would
// do so until the heartbeats are missed.
func pull(maxBytes int) []jetstream.PullMessagesOpt {
	return []jetstream.PullMessagesOpt{
		jetstream.PullMaxMessagesWithBytesLimit(pullMessages, maxBytes),
		jetstream.PullThresholdMessages(pullMessages / 2),
		jetstream.PullExpiry(30 * time.Second),
		jetstream.PullHeartbeat(heartbeat),
	}
}

// requestBytes is the most that one request of a reader brings.
func (e *Engine) requestBytes() int { return e.cfg.MaxMessageBytes + messageOverhead }

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
	if info.State.Msgs == 0 {
		return nil
	}
	stalled := 0 // attempts in a row that brought nothing
	for next := max(from, 1); next <= last; {
		begun := next
		done, err := e.scanSome(ctx, s, next, headersOnly, func(m jetstream.Msg, sequence uint64, at time.Time) bool {
			next = sequence + 1
			return sequence <= last && yield(m, sequence, at) && sequence < last
		})
		if done || ctx.Err() != nil {
			return ctx.Err()
		}
		if next > begun {
			stalled = 0
			continue
		}
		if stalled++; scanRetry.Exhausted(stalled) {
			return err
		}
		if err := retry.Sleep(ctx, scanRetry.Delay(stalled, 0)); err != nil {
			return err
		}
	}
	return nil
}

// scanRetry is how often a scan that gets nowhere begins anew: a server that
// has just recovered can forget a consumer, and clients drop messages. A start
// must not fail for that.
var scanRetry = retry.Policy{MaxAttempts: 12, BaseDelay: 20 * time.Millisecond, MaxDelay: 2 * time.Second}

var errLost = errors.New("messages were lost between server and reader")

// scanSome is scan until something goes wrong, which may be just that the
// client has dropped messages. done says that there is no more to see.
func (e *Engine) scanSome(ctx context.Context, s jetstream.Stream, from uint64, headersOnly bool,
	yield func(m jetstream.Msg, sequence uint64, at time.Time) bool) (done bool, err error) {
	c, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       from,
		AckPolicy:         jetstream.AckNonePolicy,
		HeadersOnly:       headersOnly,
		MemoryStorage:     true,
		InactiveThreshold: inactive,
	})
	if err != nil {
		return false, fmt.Errorf("create consumer: %w", err)
	}
	defer func() {
		// One that stays behind goes after InactiveThreshold.
		gone, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.DeleteConsumer(gone, c.CachedInfo().Name)
	}()
	if c.CachedInfo().NumPending == 0 {
		return true, nil
	}
	messages, err := c.Messages(pull(e.requestBytes())...)
	if err != nil {
		return false, err
	}
	defer messages.Stop()
	for read := uint64(0); ; {
		wait, cancel := context.WithTimeout(ctx, scanPatience)
		m, err := messages.Next(jetstream.NextContext(wait))
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			info, err := c.Info(ctx)
			if err != nil {
				return false, err
			}
			if info.NumPending == 0 && info.Delivered.Consumer == read {
				return true, nil
			}
			continue
		}
		if err != nil {
			return false, err
		}
		md, err := m.Metadata()
		if err != nil {
			return false, err
		}
		if read++; md.Sequence.Consumer != read {
			return false, errLost
		}
		if !yield(m, md.Sequence.Stream, md.Timestamp) || md.NumPending == 0 {
			return true, nil
		}
	}
}
