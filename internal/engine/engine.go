// Package engine hosts the pipeline on one machine: the event stream, the
// state of every destination and all queues of letters, in NATS JetStream.
//
// By default the JetStream server runs inside this process, listens nowhere
// and keeps its files below the data folder. Everything but Open goes through
// a NATS connection, so that the same code serves a remote cluster.
//
// # What it promises
//
// A write that returned nil is on the disk (fsync) before it returns, and
// outlives SIGKILL and power loss as far as the disk keeps what it confirmed.
// A write whose acknowledgement is lost is sent again under the same id, which
// the stream stores once. Entries leave the event stream through Events.Trim
// alone; when the disk budget is used up, writes are refused instead.
//
// # What it assumes
//
// One process uses a data folder at a time; a lock file sees to it. Nobody
// deletes messages from the streams with other tools.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config is what Open needs. The zero value of a field means its default.
type Config struct {
	// Dir is the data folder; the files stand in Dir/jetstream. Required.
	Dir string
	// MaxBytes is the disk budget of the event stream, in bytes. Default
	// 8 GiB, or half of what the disk has for us (free space and what the
	// stream uses already) if that is less.
	MaxBytes int64
	// Retention is how long entries that every destination has settled are
	// kept for people to look at, as long as they take no more than half the
	// budget. Default 7 days.
	Retention time.Duration
	// MaxMessageBytes is the most that the records of one entry, keys included,
	// or one letter may take. A reader holds up to twice as much in memory.
	// Default 8 MiB less 64 KiB; at most 31 MiB.
	MaxMessageBytes int
	// MaxQueueBytes is the disk budget of each queue of letters, in bytes. A
	// full queue refuses letters. Default: a quarter of MaxBytes.
	MaxQueueBytes int64
	// MaxQuarantineBytes is the disk budget of the quarantine, in bytes; the
	// oldest letters go first. Default: a sixteenth of MaxBytes.
	MaxQuarantineBytes int64
	// TailBytes is how much of the newest entries is kept in memory for the
	// readers that are caught up, which then need not ask the server. It pays
	// off when it is several times MaxMessageBytes. Default 16 MiB.
	TailBytes int

	// wrapConn is for tests: it stands between the server and a connection.
	wrapConn func(net.Conn) net.Conn
	// ackTimeout and spareBytes are for tests; they replace the constants of
	// those names.
	ackTimeout time.Duration
	spareBytes int64
}

const (
	defaultMaxBytes  = 8 << 30
	defaultRetention = 7 * 24 * time.Hour
	defaultTailBytes = 16 << 20
	// With its overhead the most that the server takes without a warning
	// (server.MAX_PAYLOAD_MAX_SIZE).
	defaultMaxMessageBytes = 8<<20 - messageOverhead
	// A record of the server's file store takes 32 MiB at most
	// (server.rlBadThresh).
	limitMaxMessageBytes = 31 << 20
	// messageOverhead is room for subject, headers and framing beside the
	// payload.
	messageOverhead = 64 << 10
)

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("Dir is required"))
	}
	if c.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("MaxBytes must not be negative: %d", c.MaxBytes))
	}
	if c.Retention < 0 {
		errs = append(errs, fmt.Errorf("Retention must not be negative: %s", c.Retention))
	}
	if c.MaxMessageBytes < 0 || c.MaxMessageBytes > limitMaxMessageBytes {
		errs = append(errs, fmt.Errorf("MaxMessageBytes must be 1 to %d: %d", limitMaxMessageBytes, c.MaxMessageBytes))
	}
	if c.MaxQueueBytes < 0 {
		errs = append(errs, fmt.Errorf("MaxQueueBytes must not be negative: %d", c.MaxQueueBytes))
	}
	if c.MaxQuarantineBytes < 0 {
		errs = append(errs, fmt.Errorf("MaxQuarantineBytes must not be negative: %d", c.MaxQuarantineBytes))
	}
	if c.TailBytes < 0 {
		errs = append(errs, fmt.Errorf("TailBytes must not be negative: %d", c.TailBytes))
	}
	return errors.Join(errs...)
}

// withDefaults fills in what is not set. The data folder must exist.
func (c Config) withDefaults() (Config, error) {
	if c.MaxBytes == 0 {
		free, err := diskFree(c.Dir)
		if err != nil {
			return c, fmt.Errorf("free space of %s: %w", c.Dir, err)
		}
		used, err := folderSize(filepath.Join(c.Dir, "jetstream"))
		if err != nil {
			return c, err
		}
		c.MaxBytes = min(defaultMaxBytes, (free+used)/2)
	}
	if c.Retention == 0 {
		c.Retention = defaultRetention
	}
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = defaultMaxMessageBytes
	}
	if c.MaxQueueBytes == 0 {
		c.MaxQueueBytes = max(c.MaxBytes/4, int64(c.MaxMessageBytes))
	}
	if c.MaxQuarantineBytes == 0 {
		c.MaxQuarantineBytes = max(c.MaxBytes/16, int64(c.MaxMessageBytes))
	}
	if c.TailBytes == 0 {
		c.TailBytes = defaultTailBytes
	}
	if c.ackTimeout == 0 {
		c.ackTimeout = ackTimeout
	}
	if c.spareBytes == 0 {
		c.spareBytes = spareBytes
	}
	return c, nil
}

// folderSize returns the bytes of the files below dir; 0 if it is not there.
func folderSize(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return size, err
}

// Engine is an open data folder. Its methods are safe for concurrent use.
type Engine struct {
	cfg  Config
	log  *slog.Logger
	lock *os.File
	host *embedded

	// Two connections: acknowledgements of writes must not queue behind the
	// megabytes that a reader asked for.
	writes, reads *nats.Conn
	js            jetstream.JetStream // on writes
	readJS        jetstream.JetStream // on reads

	// small writes one message at a time, at once; bulk many together.
	small, bulk publisher

	events     *Events
	state      jetstream.Stream
	quarantine *Queue

	mu           sync.Mutex
	destinations map[string]*Destination

	closeOnce sync.Once
	closeErr  error
}

// Open starts the server on the data folder, recovers what it holds and
// connects. It refuses a folder that another process uses with a
// fault.Conflict that names it.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (_ *Engine, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the data folder: %w", err)
	}
	e := &Engine{log: log, destinations: make(map[string]*Destination)}
	if e.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.release())
		}
	}()
	if e.cfg, err = cfg.withDefaults(); err != nil {
		return nil, err
	}
	host := newEmbedded(e.cfg, log)
	if err := host.start(); err != nil {
		return nil, err
	}
	e.host = host
	if err := e.connect(); err != nil {
		return nil, err
	}
	if e.state, err = ensureStream(ctx, e.js, stateStream(e.cfg)); err != nil {
		return nil, err
	}
	if e.events, err = openEvents(ctx, e); err != nil {
		return nil, err
	}
	e.quarantine = e.newQueue(quarantineQueue, "")
	return e, nil
}

// connect opens the connections to the embedded server.
func (e *Engine) connect() (err error) {
	e.writes, err = e.dial("sluice writes",
		// A message goes out when it is published: nothing is waited for that
		// could join it.
		nats.WriteBufferSize(1))
	if err != nil {
		return err
	}
	if e.reads, err = e.dial("sluice reads"); err != nil {
		return err
	}
	if e.js, err = jetstream.New(e.writes, jetstream.WithDefaultTimeout(apiTimeout)); err != nil {
		return err
	}
	e.readJS, err = jetstream.New(e.reads, jetstream.WithDefaultTimeout(apiTimeout))
	e.small = publisher{conn: e.writes, host: e.host}
	e.bulk = publisher{conn: e.reads, host: e.host}
	return err
}

// apiTimeout bounds one request to the server whose context has no deadline.
const apiTimeout = 10 * time.Second

func (e *Engine) dial(name string, options ...nats.Option) (*nats.Conn, error) {
	log := e.log.With(slog.String("connection", name))
	conn, err := nats.Connect("", append(options, nats.Name(name), nats.InProcessServer(e.host),
		nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(0, 0),
		// Without a buffer a write during a reconnect fails at once, and is
		// known not to be stored.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("stream connection lost", slog.Any("error", err))
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("stream connection restored") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			level := slog.LevelWarn
			if errors.Is(err, nats.ErrSlowConsumer) {
				// What was dropped is what a reader had asked for ahead: it
				// sees the gap and reads again, or has gone meanwhile.
				level = slog.LevelDebug
			}
			log.Log(context.Background(), level, "stream connection", slog.Any("error", err))
		}))...)
	if err != nil {
		return nil, fmt.Errorf("connect to the stream: %w", err)
	}
	return conn, nil
}

// Close saves what is counted, ends the server and frees the data folder.
// Writes in flight fail. ctx bounds the saving, not the end of the server.
func (e *Engine) Close(ctx context.Context) error {
	e.closeOnce.Do(func() {
		e.closeErr = e.events.close(ctx)
		e.closeErr = errors.Join(e.closeErr, e.release())
	})
	return e.closeErr
}

// release undoes what Open has done so far.
func (e *Engine) release() error {
	for _, conn := range []*nats.Conn{e.writes, e.reads} {
		if conn != nil {
			conn.Close()
		}
	}
	if e.host != nil {
		e.host.close()
	}
	return e.lock.Close()
}

// Events returns the event stream.
func (e *Engine) Events() *Events { return e.events }

// Quarantine returns the queue of rejected events. It is bounded in bytes: the
// oldest letters are discarded, and counted by its Discarded, but for those that
// are to be kept. With no room left beside these, Put fails.
func (e *Engine) Quarantine() *Queue { return e.quarantine }

// ensureStream makes a stream be there as configured.
func ensureStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			s, err = js.Stream(ctx, want.Name) // another process was faster
		}
	} else if err == nil {
		have := s.CachedInfo().Config
		next := have
		next.MaxBytes, next.MaxMsgSize = want.MaxBytes, want.MaxMsgSize
		next.Duplicates, next.Subjects = want.Duplicates, want.Subjects
		if !slices.Equal(next.Subjects, have.Subjects) || next.MaxBytes != have.MaxBytes || next.MaxMsgSize != have.MaxMsgSize || next.Duplicates != have.Duplicates {
			s, err = js.UpdateStream(ctx, next)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	}
	return s, nil
}
