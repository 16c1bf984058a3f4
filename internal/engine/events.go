package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
)

const (
	eventStream  = "SLUICE_EVENTS"
	eventSubject = "sluice.events"
	// eventsHeader holds the number of events in a message, so that counting
	// them needs no payload.
	eventsHeader = "Sluice-Events"

	// dedupWindow is how long the stream remembers the id of a message. The
	// server reads as much of the stream again at every start, so it is short.
	dedupWindow = 30 * time.Second
	// retryWindow is how long a message is sent again under its id. What is
	// left of dedupWindow covers a message that was on its way for long.
	retryWindow = 20 * time.Second
	// unsentWindow is how long a message that could not be sent is tried again:
	// long enough for a reconnect, short enough for its sender to be told.
	unsentWindow = 2 * time.Second
	// ackTimeout is the wait for an acknowledgement before the message is sent
	// again; an fsync on a busy disk takes up to some seconds.
	ackTimeout = 5 * time.Second
	// fullRetryAfter is what senders are told while the budget is used up: how
	// often Trim may be expected to make room.
	fullRetryAfter = 10 * time.Second
)

// storeFailed is the server's code for a message that it did not store,
// because of a limit of the stream or a failing disk
// (server.JSStreamStoreFailedF).
const storeFailed jetstream.ErrorCode = 10077

// Events is the event stream: every entry is one write of the producer.
type Events struct {
	engine *Engine
	log    *slog.Logger
	stream jetstream.Stream // on the connection for reads
	census *census
	tail   *tail

	// ids of messages are prefix and a number; the prefix is new with each
	// Open.
	prefix string
	serial atomic.Uint64
	// full says that the last write was refused for the budget, and nothing was
	// discarded since.
	full atomic.Bool

	stop context.CancelFunc
	done sync.WaitGroup
}

var _ delivery.Stream = (*Events)(nil)

func eventsConfig(cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        eventStream,
		Description: "Sluice: accepted events, one message per write",
		Subjects:    []string{eventSubject},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    cfg.MaxBytes,
		MaxMsgSize:  int32(cfg.MaxMessageBytes + messageOverhead),
		Duplicates:  dedupWindow,
		AllowDirect: true,
	}
}

func openEvents(ctx context.Context, e *Engine) (*Events, error) {
	ev := &Events{
		engine: e,
		log:    e.log,
		prefix: nuid.Next() + ".",
	}
	var err error
	if ev.stream, err = ensureStream(ctx, e.readJS, eventsConfig(e.cfg)); err != nil {
		return nil, err
	}
	if ev.census, err = openCensus(ctx, e, ev.stream); err != nil {
		return nil, fmt.Errorf("count the event stream: %w", err)
	}
	last, err := ev.Last(ctx)
	if err != nil {
		return nil, err
	}
	ev.tail = newTail(e.cfg.TailBytes, last)
	run, stop := context.WithCancel(context.Background())
	ev.stop = stop
	ev.done.Go(func() { ev.census.run(run) })
	return ev, nil
}

func (ev *Events) close(ctx context.Context) error {
	ev.tail.close()
	ev.stop()
	ev.done.Wait()
	if err := ev.census.save(ctx); err != nil {
		return fmt.Errorf("save the census: %w", err)
	}
	return nil
}

// PutRecords stores records together, as one entry if they fit into one
// message. A record may take Config.MaxMessageBytes, its key included. An error
// means that the fate of all is unknown. It is safe for concurrent use.
func (ev *Events) PutRecords(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
	if len(records) == 0 {
		return nil, nil
	}
	results := make([]stream.Result, len(records))
	if err := ev.put(ctx, records, results); err != nil {
		return nil, err
	}
	return results, nil
}

func (ev *Events) put(ctx context.Context, records []stream.Record, results []stream.Result) error {
	if size := recordBytes(records); size > ev.engine.cfg.MaxMessageBytes || len(records) > maxRecords {
		if len(records) == 1 {
			results[0].Err = fault.New(fault.TooLarge, "a record of %d bytes is over the limit of %d",
				size, ev.engine.cfg.MaxMessageBytes)
			return nil
		}
		half := len(records) / 2
		if err := ev.put(ctx, records[:half], results[:half]); err != nil {
			return err
		}
		return ev.put(ctx, records[half:], results[half:])
	}

	if err := ev.engine.host.roomFor(1); err != nil {
		return ev.fail(results, &fault.Error{Kind: fault.Unavailable, Detail: "the disk is full", RetryAfter: fullRetryAfter, Err: err})
	}

	frame, kept := keepFrame(records)
	events := countEvents(records)
	msg := &nats.Msg{
		Subject: eventSubject,
		Data:    frame,
		Header: nats.Header{
			jetstream.MsgIDHeader: {ev.prefix + strconv.FormatUint(ev.serial.Add(1), 36)},
			eventsHeader:          {strconv.FormatUint(events, 10)},
		},
	}
	ticket := ev.tail.begin()
	position, err := ev.publish(ctx, msg)
	refused, ok := errors.AsType[*jetstream.APIError](err)
	ev.full.Store(ok && full(refused))
	if err != nil {
		ev.tail.finish(ticket, stream.Entry{}, 0)
	}
	if fault.KindOf(err) == fault.Ambiguous {
		ev.census.recount()
		return err
	}
	if err != nil {
		return ev.fail(results, err)
	}
	now := time.Now()
	ev.census.add(position, tally{events: events, bytes: entrySize(len(frame)), at: now})
	ev.tail.finish(ticket, stream.Entry{Position: position, StoredAt: now, Records: kept}, cap(frame))
	sequences(position, results)
	return nil
}

// sequences names the records of an entry: its position, a dot, and the index
// of the record in it.
func sequences(position uint64, results []stream.Result) {
	const each = 20 + 1 + 4 // digits of a position, the dot, digits of an index
	text := make([]byte, 0, each*len(results))
	for i := range results {
		start := len(text)
		text = append(strconv.AppendUint(text, position, 10), '.')
		text = strconv.AppendUint(text, uint64(i), 10)
		results[i].Sequence = string(text[start:])
	}
}

// fail is the result of a write that was not stored.
func (ev *Events) fail(results []stream.Result, err error) error {
	for i := range results {
		results[i].Err = err
	}
	return nil
}

// publish sends a message until the stream has acknowledged or refused it. An
// unknown outcome is made known by sending the message again: the stream
// stores one id once, and a duplicate is as good as an acknowledgement.
func (ev *Events) publish(ctx context.Context, msg *nats.Msg) (position uint64, err error) {
	first := time.Now()
	sent := false // whether the message may have reached the stream
	for attempt := 1; ; attempt++ {
		err := ctx.Err()
		if err == nil {
			err = ev.engine.host.ready()
		}
		if err == nil {
			if position, err = ev.engine.small.send(ctx, msg, ev.engine.cfg.ackTimeout); err == nil {
				return position, nil
			}
			if refused, ok := errors.AsType[*jetstream.APIError](err); ok {
				return 0, refusal(refused)
			}
			sent = sent || !neverSent(err)
		} else if !sent && ctx.Err() == nil {
			return 0, &fault.Error{Kind: fault.Unavailable, Detail: "the stream cannot be written",
				RetryAfter: fullRetryAfter, Err: err}
		}
		window := retryWindow
		if !sent {
			window = unsentWindow
		}
		if ctx.Err() != nil || time.Since(first) > window || ev.engine.writes.IsClosed() {
			if sent {
				return 0, &fault.Error{Kind: fault.Ambiguous, Detail: "the stream did not say whether it stored the events", Err: err}
			}
			return 0, &fault.Error{Kind: fault.Unavailable, Detail: "the stream is away", RetryAfter: time.Second, Err: err}
		}
		if attempt == 1 {
			ev.log.Warn("no acknowledgement from the stream, sending again", slog.Any("error", err))
		}
		_ = retry.Sleep(ctx, 20*time.Millisecond) // a context that is done ends the next try
	}
}

// neverSent tells the errors of a message that did not leave this process, or
// that nobody received.
func neverSent(err error) bool {
	return errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionClosed) ||
		errors.Is(err, nats.ErrConnectionDraining) || errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, nats.ErrNoResponders)
}

// refusal says why the stream did not store a message.
func refusal(err *jetstream.APIError) error {
	switch {
	case err.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return &fault.Error{Kind: fault.TooLarge, Detail: "over the stream's limit of a message", Err: err}
	case full(err):
		return &fault.Error{Kind: fault.Unavailable, Detail: "the disk budget is used up",
			RetryAfter: fullRetryAfter, Err: err}
	default:
		return &fault.Error{Kind: fault.Unavailable, Detail: "the stream did not store it", RetryAfter: fullRetryAfter, Err: err}
	}
}

// full tells that the disk budget of a stream (MaxBytes) is used up.
func full(err *jetstream.APIError) bool {
	return err.ErrorCode == storeFailed && err.Description == "maximum bytes exceeded"
}

// countEvents returns the number of events in records. A record whose writer
// did not count is one.
func countEvents(records []stream.Record) uint64 {
	var n uint64
	for i := range records {
		n += uint64(max(records[i].Events, 1))
	}
	return n
}

// Stored returns how many events the stream took since it began: those that it
// acknowledged and, after a crash or a lost reply, those that it contains.
func (ev *Events) Stored() uint64 { return ev.census.stored() }

// First implements delivery.Stream.
func (ev *Events) First(ctx context.Context) (uint64, error) {
	info, err := ev.stream.Info(ctx)
	if err != nil {
		return 0, unavailable(err, "ask for the first position")
	}
	return firstPosition(info), nil
}

// firstPosition is the oldest retained position, or the one after the newest.
func firstPosition(info *jetstream.StreamInfo) uint64 {
	if info.State.Msgs == 0 {
		return info.State.LastSeq + 1
	}
	return info.State.FirstSeq
}

// Last implements delivery.Stream.
func (ev *Events) Last(ctx context.Context) (uint64, error) {
	info, err := ev.stream.Info(ctx)
	if err != nil {
		return 0, unavailable(err, "ask for the last position")
	}
	return info.State.LastSeq, nil
}

// Before returns the position before the oldest retained entry that was stored
// at or after a time; that of the newest entry if there is none. It looks at
// some twenty entries.
func (ev *Events) Before(ctx context.Context, t time.Time) (uint64, error) {
	info, err := ev.stream.Info(ctx)
	if err != nil {
		return 0, unavailable(err, "look for the entries since %s", t)
	}
	low, high := firstPosition(info), info.State.LastSeq+1 // the entry is at low to high
	for low < high {
		middle := low + (high-low)/2
		m, err := ev.stream.GetMsg(ctx, middle)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			low = middle + 1 // trimmed meanwhile: it was older
		case err != nil:
			return 0, unavailable(err, "look at entry %d", middle)
		case m.Time.Before(t):
			low = middle + 1
		default:
			high = middle
		}
	}
	return low - 1, nil
}

// Identity names this stream among all that there ever are in a folder of this
// name: one that is made anew has another.
func (ev *Events) Identity() string {
	return eventStream + " of " + ev.stream.CachedInfo().Created.UTC().Format(time.RFC3339Nano)
}

// CountBefore implements delivery.Stream. Of trimmed history it knows the
// count at the position that First returns and at some before it; for others
// it returns a fault.NotFound.
func (ev *Events) CountBefore(ctx context.Context, position uint64) (uint64, error) {
	return ev.census.countBefore(ctx, position)
}

// Recent calls yield for the newest entries, newest first, until it returns
// false or limit is reached.
func (ev *Events) Recent(ctx context.Context, limit int, yield func(stream.Entry) bool) error {
	info, err := ev.stream.Info(ctx)
	if err != nil {
		return unavailable(err, "read the newest entries")
	}
	first := firstPosition(info)
	for position := info.State.LastSeq; limit > 0 && position >= first; position-- {
		if e, ok, _ := ev.tail.get(position); ok {
			limit--
			if !yield(e) {
				break
			}
			continue
		}
		m, err := ev.stream.GetMsg(ctx, position)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // trimmed meanwhile, or lost: Reader reports that
		}
		if err != nil {
			return unavailable(err, "read entry %d", position)
		}
		limit--
		if !yield(entry(position, m.Time, m.Header, m.Data)) {
			break
		}
	}
	return nil
}

// entry makes an Entry of a message. A payload that is no frame becomes one
// record as it is, so that whoever reads it can say what is wrong with it.
func entry(position uint64, at time.Time, header nats.Header, payload []byte) stream.Entry {
	records, err := parseFrame(payload)
	if err != nil {
		records = []stream.Record{{Data: payload, Events: int(headerEvents(header))}}
	}
	return stream.Entry{Position: position, StoredAt: at, Records: records}
}

// headerEvents returns the number of events in a message. One that somebody
// else wrote counts as one event.
func headerEvents(header nats.Header) uint64 {
	n, err := strconv.ParseUint(header.Get(eventsHeader), 10, 32)
	if err != nil || n == 0 {
		return 1
	}
	return n
}

// unavailable is an error of a request that can be tried again.
func unavailable(err error, doing string, args ...any) error {
	return fmt.Errorf(doing+": %w", append(args, &fault.Error{Kind: fault.Unavailable, Err: err})...)
}
