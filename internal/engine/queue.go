package engine

import (
	"context"
	"encoding/json"
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
	"golang.org/x/sync/errgroup"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
)

const (
	queuePrefix       = "sluice.letters."
	queueStreamPrefix = "SLUICE_LETTERS_"
	// destinationMetadata is where a queue's stream has the name of its
	// destination, which its own name may only hint at.
	destinationMetadata = "sluice_destination"

	// A Put is written in batches, each whole or not at all and with one fsync
	// at its end. The server takes 1000 messages in a batch
	// (server.streamDefaultMaxAtomicBatchSize).
	batchLetters = 500
	batchBytes   = 4 << 20
	// deletesAtOnce is how many deletions are in flight; the server works off
	// requests to its API in order.
	deletesAtOnce = 16
)

// queueKind is what a queue is for.
type queueKind string

const (
	parkedQueue     queueKind = "parked"
	deadQueue       queueKind = "dead"
	quarantineQueue queueKind = "quarantine"
)

// Queue is a queue of letters: a stream with one subject per letter, so that a
// letter put again replaces the one of its ID.
//
// The quarantine has letters of two kinds, told apart by their subjects:
//
//	sluice.letters.quarantine.ID       the oldest make room when it is full
//	sluice.letters.quarantine.kept.ID  Letter.Kept: stay until they are deleted
type Queue struct {
	engine *Engine
	kind   queueKind
	// destination is empty for the quarantine.
	destination string
	// name is the stream's, prefix what its subjects begin with.
	name, prefix string
	maxBytes     int64

	discarded atomic.Uint64
	// cleared is the sequence number before which no letter is left that could
	// make room, as far as this process knows.
	cleared atomic.Uint64

	mu     sync.Mutex
	stream jetstream.Stream // nil as long as it is not known to exist
}

var _ deadletter.Queue = (*Queue)(nil)

func (e *Engine) newQueue(kind queueKind, destination string) *Queue {
	q := &Queue{engine: e, kind: kind, destination: destination, maxBytes: e.cfg.MaxQueueBytes}
	if kind == quarantineQueue {
		q.maxBytes = e.cfg.MaxQuarantineBytes
		q.name = queueStreamPrefix + string(kind)
		q.prefix = queuePrefix + string(kind) + "."
		return q
	}
	q.name = queueStreamPrefix + string(kind) + "_" + fileToken(destination)
	q.prefix = queuePrefix + string(kind) + "." + fileToken(destination) + "."
	return q
}

func (q *Queue) config() jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name:        q.name,
		Description: "Sluice: letters, " + string(q.kind),
		Subjects:    []string{q.prefix + "*"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		// A letter that is waiting or dead is never pushed out by another.
		Discard:            jetstream.DiscardNew,
		MaxBytes:           q.maxBytes,
		MaxMsgsPerSubject:  1,
		MaxMsgSize:         int32(q.engine.cfg.MaxMessageBytes + messageOverhead),
		Duplicates:         time.Second, // no message here has an id
		AllowAtomicPublish: true,
	}
	if q.kind == quarantineQueue {
		cfg.Subjects = append(cfg.Subjects, q.prefix+keptToken+"*")
	}
	if q.destination != "" {
		cfg.Metadata = map[string]string{destinationMetadata: q.destination}
	}
	return cfg
}

// open returns the stream. Without create it is nil as long as nothing was
// put.
func (q *Queue) open(ctx context.Context, create bool) (jetstream.Stream, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stream != nil {
		return q.stream, nil
	}
	if !create {
		_, err := q.engine.readJS.Stream(ctx, q.name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	s, err := ensureStream(ctx, q.engine.readJS, q.config())
	q.stream = s
	return s, err
}

func (q *Queue) subject(id string) string { return q.prefix + token(id) }

// keptToken stands in the subject of a letter that is kept.
const keptToken = "kept."

// subjects returns those that a letter with an ID may have.
func (q *Queue) subjects(id string) []string {
	if q.kind == quarantineQueue {
		return []string{q.subject(id), q.prefix + keptToken + token(id)}
	}
	return []string{q.subject(id)}
}

// fails names the queue and what was being done.
func (q *Queue) fails(doing string, err error) error {
	if fault.KindOf(err) == fault.Internal {
		err = &fault.Error{Kind: fault.Unavailable, Err: err}
	}
	return fmt.Errorf("%s queue of %q: %s: %w", q.kind, q.destination, doing, err)
}

// message is a letter on its way into the stream.
type message struct {
	subject string
	data    []byte
}

// Put implements deadletter.Queue. Each batch of up to 500 letters is stored
// whole or not at all.
func (q *Queue) Put(ctx context.Context, letters []deadletter.Letter) error {
	if len(letters) == 0 {
		return nil
	}
	messages, err := q.encode(letters)
	if err != nil {
		return q.fails("put", err)
	}
	if _, err := q.open(ctx, true); err != nil {
		return q.fails("put", err)
	}
	for len(messages) > 0 {
		n, size := 0, 0
		for n < len(messages) && n < batchLetters && (n == 0 || size+len(messages[n].data) <= batchBytes) {
			size += len(messages[n].data)
			n++
		}
		if err := q.write(ctx, messages[:n], size); err != nil {
			return q.fails("put", err)
		}
		messages = messages[n:]
	}
	return nil
}

// encode makes the messages, one per ID: of two letters with one ID the last
// counts.
func (q *Queue) encode(letters []deadletter.Letter) ([]message, error) {
	messages := make([]message, 0, len(letters))
	index := make(map[string]int, len(letters))
	for i := range letters {
		if letters[i].ID == "" {
			return nil, fault.New(fault.Invalid, "a letter needs an ID")
		}
		data, err := encodeLetter(&letters[i])
		if err != nil {
			return nil, &fault.Error{Kind: fault.Invalid, Detail: "letter " + letters[i].ID, Err: err}
		}
		if len(data) > q.engine.cfg.MaxMessageBytes {
			return nil, fault.New(fault.TooLarge, "letter %s takes %d bytes, over the limit of %d",
				letters[i].ID, len(data), q.engine.cfg.MaxMessageBytes)
		}
		subjects := q.subjects(letters[i].ID)
		m := message{subject: subjects[0], data: data}
		if letters[i].Kept {
			m.subject = subjects[len(subjects)-1]
		}
		if at, twice := index[letters[i].ID]; twice {
			messages[at] = m
			continue
		}
		index[letters[i].ID] = len(messages)
		messages = append(messages, m)
	}
	return messages, nil
}

// encodeLetter returns a letter as JSON with the bytes of its event as they are:
// json.Marshal would rewrite them, without spaces and with < as \u003c.
func encodeLetter(l *deadletter.Letter) ([]byte, error) {
	if len(l.Event) == 0 {
		return json.Marshal(l)
	}
	if !json.Valid(l.Event) {
		return nil, errors.New("the event is not JSON")
	}
	rest := *l
	rest.Event = nil
	data, err := json.Marshal(&rest)
	if err != nil {
		return nil, err
	}
	const name = `{"event":`
	text := make([]byte, 0, len(name)+len(l.Event)+len(data))
	text = append(text, name...)
	text = append(text, l.Event...)
	text = append(text, ',') // the ID follows at least
	return append(text, data[1:]...), nil
}

// write stores one batch. An unknown outcome is tried again: putting letters
// twice changes nothing.
func (q *Queue) write(ctx context.Context, batch []message, size int) error {
	for {
		if err := q.engine.host.ready(); err != nil {
			return err
		}
		err := q.publish(ctx, batch)
		if err == nil {
			return nil
		}
		if refused, ok := errors.AsType[*jetstream.APIError](err); ok {
			if q.kind == quarantineQueue && full(refused) {
				if err := q.discard(ctx, size); err != nil {
					return err
				}
				continue
			}
			return refusal(refused)
		}
		if ctx.Err() != nil || q.engine.reads.IsClosed() {
			return &fault.Error{Kind: fault.Ambiguous, Err: err}
		}
		q.engine.log.Warn("no acknowledgement from the queue, putting again",
			slog.String("queue", q.name), slog.Any("error", err))
		_ = retry.Sleep(ctx, 20*time.Millisecond) // a context that is done ends the next try
	}
}

// The headers of an atomic batch (NATS ADR-50).
const (
	batchIDHeader       = "Nats-Batch-Id"
	batchSequenceHeader = "Nats-Batch-Sequence"
	batchCommitHeader   = "Nats-Batch-Commit"
)

// publish sends a batch and waits for the acknowledgement of the last message,
// which stands for all.
func (q *Queue) publish(ctx context.Context, batch []message) error {
	last := len(batch) - 1
	commit := &nats.Msg{Subject: batch[last].subject, Data: batch[last].data}
	if last > 0 {
		id := nuid.Next()
		for i, m := range batch[:last] {
			msg := &nats.Msg{Subject: m.subject, Data: m.data, Header: nats.Header{
				batchIDHeader: {id}, batchSequenceHeader: {strconv.Itoa(i + 1)}}}
			if err := q.engine.reads.PublishMsg(msg); err != nil {
				return err
			}
		}
		commit.Header = nats.Header{batchIDHeader: {id}, batchSequenceHeader: {strconv.Itoa(last + 1)}, batchCommitHeader: {"1"}}
	}
	_, err := q.engine.bulk.send(ctx, commit, q.engine.cfg.ackTimeout)
	return err
}

// discard makes room in the quarantine: the oldest letters that are not to be
// kept go, about an eighth of the budget at once or what is needed.
func (q *Queue) discard(ctx context.Context, size int) error {
	s, err := q.open(ctx, true)
	if err != nil {
		return err
	}
	info, err := s.Info(ctx)
	if err != nil {
		return err
	}
	before := info.State
	if before.Msgs == 0 {
		return fault.New(fault.TooLarge, "the letters take more than the whole budget of the quarantine")
	}
	perLetter := max(before.Bytes/before.Msgs, 1)
	room := max(uint64(q.maxBytes)/8, 2*uint64(size))
	from := max(q.cleared.Load(), before.FirstSeq)
	// Sequence numbers of letters that are gone already, or are kept, make no
	// room: go on until there is some.
	for from <= before.LastSeq {
		from = min(from+room/perLetter+1, before.LastSeq+1)
		if err := s.Purge(ctx, jetstream.WithPurgeSubject(q.prefix+"*"), jetstream.WithPurgeSequence(from)); err != nil {
			return err
		}
		q.cleared.Store(from)
		now, err := s.Info(ctx)
		if err != nil {
			return err
		}
		if now.State.Bytes+uint64(size) <= before.Bytes {
			letters := before.Msgs - min(before.Msgs, now.State.Msgs)
			q.discarded.Add(letters)
			q.engine.log.Warn("the quarantine is full: its oldest letters were discarded",
				slog.Uint64("letters", letters), slog.Int64("budget_bytes", q.maxBytes))
			return nil
		}
	}
	return fault.New(fault.Unavailable, "the quarantine is full of events that schemas have put aside: replay or purge them")
}

// Discarded returns how many letters were pushed out by newer ones since Open.
// Only the quarantine does so.
func (q *Queue) Discarded() uint64 { return q.discarded.Load() }

// Scan implements deadletter.Queue. The cursor is the letter's sequence number
// in the stream. Letters put during a scan are not part of it.
func (q *Queue) Scan(ctx context.Context, after uint64, yield func(cursor uint64, l deadletter.Letter) bool) error {
	s, err := q.open(ctx, false)
	if s == nil || err != nil {
		return q.failsIf("scan", err)
	}
	var bad error
	err = q.engine.scan(ctx, s, after+1, false, func(m jetstream.Msg, sequence uint64, _ time.Time) bool {
		var l deadletter.Letter
		if bad = json.Unmarshal(m.Data(), &l); bad != nil {
			return false
		}
		return yield(sequence, l)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return q.failsIf("scan", errors.Join(err, bad))
}

// Get implements deadletter.Queue.
func (q *Queue) Get(ctx context.Context, id string) (l deadletter.Letter, err error) {
	s, err := q.open(ctx, false)
	if err != nil {
		return l, q.fails("get", err)
	}
	if s == nil {
		return l, fault.New(fault.NotFound, "no letter %s", id)
	}
	for _, subject := range q.subjects(id) {
		m, err := s.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return l, q.fails("get", err)
		}
		return l, q.failsIf("get", json.Unmarshal(m.Data, &l))
	}
	return l, fault.New(fault.NotFound, "no letter %s", id)
}

// Delete implements deadletter.Queue.
func (q *Queue) Delete(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	s, err := q.open(ctx, false)
	if s == nil || err != nil {
		return q.failsIf("delete", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(deletesAtOnce)
	for _, id := range ids {
		group.Go(func() error {
			for _, subject := range q.subjects(id) {
				if err := s.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return q.failsIf("delete", group.Wait())
}

// Count implements deadletter.Queue.
func (q *Queue) Count(ctx context.Context) (uint64, error) {
	s, err := q.open(ctx, false)
	if s == nil || err != nil {
		return 0, q.failsIf("count", err)
	}
	info, err := s.Info(ctx)
	if err != nil {
		return 0, q.fails("count", err)
	}
	return info.State.Msgs, nil
}

// failsIf is fails for an error that may be nil.
func (q *Queue) failsIf(doing string, err error) error {
	if err == nil {
		return nil
	}
	return q.fails(doing, err)
}
