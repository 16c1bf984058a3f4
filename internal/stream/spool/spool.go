// Package spool stands between the producer and its stream: what the stream
// does not take goes to a log on disk, and from there to the stream by itself.
//
// # How records travel
//
// A record goes to the stream, unless its bucket (its partition key) has
// anything in the spool: then it goes to the log, behind it. A bucket enters
// the spool when it has been failing for Config.Patience, and all buckets do
// while the stream is away, which it is after calls have failed as a whole, or
// for all of their records, for as long. It leaves when its last record is on the stream and no write
// of it to the log is under way or in doubt; that check and the decision of
// PutRecords are made under one mutex, so that nothing overtakes.
//
// Run reads the log into a window of bounded memory and makes one call at a
// time with the first record of every bucket that is not resting, or several of
// them merged into one (Config.MergedBytes). A bucket
// that fails keeps only a part of the window: the reader passes over what does
// not fit and comes back for it, so that others go on (see window.go).
//
// # What is promised
//
//   - Order: the records of a bucket reach the stream in the order in which
//     PutRecords took them. What an earlier process left in the log is on the
//     stream before anything that is newer, whatever its bucket: the number of
//     buckets, and so the bucket of a key, may have changed in between.
//   - Durable: a record with Result.Spooled is in the log. At least once: a
//     record whose attempt on the stream has an unknown outcome is written
//     again, and a crash repeats what was not yet discarded from the log.
//   - Account: Spooled is the events that the log holds and the stream does
//     not have from it yet; those given to Config.Refused leave it uncounted by
//     the stream, and are counted by Stats. A record that a write of unknown outcome and its
//     repetition put into the log twice goes to the stream once.
//   - Memory: the window is bounded, whatever the log holds, and so is what is
//     known of a bucket.
//
// # What it assumes
//
// What producer.Producer does: one record of a bucket is on its way at a time,
// and one whose fate is unknown is written again, with the same bytes, before
// any other of its bucket. A caller who does otherwise may see a bucket's
// records out of order, but none lost.
package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

// Log is where records wait on disk: entries in the order of their writes.
// It is safe for concurrent use.
type Log interface {
	// PutRecords writes records as entries, durably; the contract is that of
	// producer.Stream. A log that is full fails with fault.Unavailable.
	PutRecords(ctx context.Context, records []stream.Record) ([]stream.Result, error)
	// Open returns a reader of the entries after a position, which is at least
	// that of the last Discard. A fault.NotFound, here or from the reader, says
	// that entries which should come next are not in the log any more.
	Open(ctx context.Context, after uint64) (stream.Reader, error)
	// First returns the position of the oldest entry; if there is none, the
	// position after the newest that there was.
	First(ctx context.Context) (uint64, error)
	// Last returns the position of the newest entry that there was, 0 if none.
	Last(ctx context.Context) (uint64, error)
	// Discard removes the entries up to a position, and no other.
	Discard(ctx context.Context, upTo uint64) error
	// Backlog returns the events and bytes of the entries that it holds.
	Backlog(ctx context.Context) (events, bytes uint64, err error)
}

// Spool is a stream with a spool around it. Its methods are safe for
// concurrent use.
type Spool struct {
	stream producer.Stream
	log    Log
	cfg    Config
	logger *slog.Logger
	budget *rate.Limiter // calls that follow one that stored nothing

	// wakeReader, wakeSender and wakeSweeper have room for one: there is
	// something to look at.
	wakeReader, wakeSender, wakeSweeper chan struct{}

	mu      sync.Mutex
	running bool
	buckets map[string]*bucket
	// barrier is the last position that an earlier process wrote, 0 once all
	// up to it is on the stream. Until then everything new goes to the log,
	// with a wall before it: see wall.go.
	barrier uint64
	// waiting counts the records of this process in the log that are not on
	// the stream.
	waiting int
	// failing is when the first call began of those that found the stream away
	// (see absence), with no other in between; zero if the last one did not. away
	// is set after Config.Patience of that.
	failing time.Time
	away    bool

	window window
	sender sender
	// discarded is the position up to which the log is empty.
	discarded uint64

	events  int64 // in the spool
	bytes   int64 // likewise, data and keys
	oldSize int64 // what of bytes an earlier process left
	drained retry.Meter
	stats   Stats
	// refusing says that the last write to the log failed.
	refusing bool
}

// New returns a Spool around s that keeps records in log. It asks the log what
// it holds; draining begins with Run.
func New(ctx context.Context, s producer.Stream, log Log, cfg Config, logger *slog.Logger) (*Spool, error) {
	if s == nil || log == nil || logger == nil {
		return nil, errors.New("spool: a stream, a log and a logger are needed")
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	first, err := log.First(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	last, err := log.Last(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	events, bytes, err := log.Backlog(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	sp := &Spool{
		stream: s, log: log, cfg: cfg, logger: logger,
		budget:      rate.NewLimiter(rate.Limit(cfg.RetriesPerSecond), cfg.RetryBurst),
		wakeReader:  make(chan struct{}, 1),
		wakeSender:  make(chan struct{}, 1),
		wakeSweeper: make(chan struct{}, 1),
		buckets:     map[string]*bucket{},
	}
	if first <= last {
		sp.barrier = last
		sp.events, sp.bytes, sp.oldSize = int64(events), int64(bytes), int64(bytes)
		logger.Info("the spool holds events of an earlier run", slog.Uint64("events", events), slog.Uint64("bytes", bytes))
	}
	first = max(first, 1)
	sp.discarded, sp.window.read, sp.window.cursor = first-1, first-1, first-1
	return sp, nil
}

// wake tells whoever waits on a channel to look again.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
