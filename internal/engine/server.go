package engine

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// readyTimeout bounds the wait for the server's own recovery. It reads the
// index of every stream, and the last seconds of the event stream.
const readyTimeout = 2 * time.Minute

// embedded is a JetStream server inside this process. It listens nowhere: the
// only way in is InProcessConn, which gives the next connection to the server
// that runs at that moment.
type embedded struct {
	opts server.Options
	log  *slog.Logger
	// wrap, if not nil, stands between the server and each connection. Tests
	// lose replies with it.
	wrap func(net.Conn) net.Conn

	mu  sync.Mutex
	srv *server.Server

	// restart is held while the server is restarted.
	restart sync.Mutex
	closed  bool
	// broken says that the server was found unable to write.
	broken atomic.Bool
	// nextTry is when it may be started again, pause what that was put off by.
	nextTry time.Time
	pause   time.Duration

	// room is when the disk was last looked at, and what it had. spare is what
	// must stay free.
	room struct {
		sync.Mutex
		looked time.Time
		free   int64
	}
	spare int64
}

func newEmbedded(cfg Config, log *slog.Logger) *embedded {
	return &embedded{
		log:   log,
		wrap:  cfg.wrapConn,
		spare: cfg.spareBytes,
		opts: server.Options{
			ServerName: "sluice",
			DontListen: true,
			NoSigs:     true,
			JetStream:  true,
			// The server adds "jetstream" itself.
			StoreDir: cfg.Dir,
			// A write is on the disk before it is acknowledged. Everything that
			// this package promises rests on this line.
			SyncAlways: true,
			// What bounds the disk is the budget of each stream; the sum is not
			// known here. The server refuses a negative or zero value.
			JetStreamMaxStore:      1 << 60,
			JetStreamMaxMemory:     64 << 20,
			DisableJetStreamBanner: true,
			MaxPayload:             int32(cfg.MaxMessageBytes + messageOverhead),
			// A reader may be behind by what it asked for (see pull); a
			// connection that carries many readers must not be cut for it.
			MaxPending: 1 << 30,
			MaxConn:    16,
		},
	}
}

// start runs a server on the store and waits until its streams are recovered.
func (h *embedded) start() error {
	opts := h.opts
	srv, err := server.NewServer(&opts)
	if err != nil {
		return fmt.Errorf("configure the embedded server: %w", err)
	}
	srv.SetLoggerV2(&serverLog{log: h.log}, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(readyTimeout) || !srv.JetStreamEnabled() {
		srv.Shutdown()
		srv.WaitForShutdown()
		return fmt.Errorf("the embedded server did not start on %s: see the log",
			filepath.Join(opts.StoreDir, server.JetStreamStoreDir))
	}
	h.mu.Lock()
	h.srv = srv
	h.mu.Unlock()
	return nil
}

// stop ends the server and waits until its files are closed.
func (h *embedded) stop() {
	h.mu.Lock()
	srv := h.srv
	h.srv = nil
	h.mu.Unlock()
	if srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
}

// close is stop for good.
func (h *embedded) close() {
	h.restart.Lock()
	defer h.restart.Unlock()
	h.closed = true
	h.stop()
}

// healthy reports whether the server runs and can write. After one write that
// failed (a full disk, a failing one) a stream of the server takes no more and
// answers nothing, until the server opens its files again.
func (h *embedded) healthy() bool {
	h.mu.Lock()
	srv := h.srv
	h.mu.Unlock()
	ok := srv != nil && srv.JetStreamEnabled() && srv.Healthz(nil).Status == "ok"
	if !ok {
		h.broken.Store(true)
	}
	return ok
}

const (
	// minPause and maxPause bound the wait before a server that cannot write is
	// started again; it doubles each time.
	minPause = time.Second
	maxPause = 30 * time.Second
	// lookEvery is how often the disk is asked for its free space while there
	// are writes.
	lookEvery = time.Second
	// spareBytes is what events leave free on the disk. A write that meets a
	// full disk costs a restart of the server, and without room for the state
	// of the destinations nothing could ever be settled and trimmed.
	spareBytes = 64 << 20
)

// ready returns nil if the server can be written to. One that was found broken
// it starts again, now and then.
func (h *embedded) ready() error {
	if h.broken.Load() {
		if err := h.heal(); err != nil {
			return err
		}
	}
	return nil
}

// roomFor says whether the disk has room beside what must stay free, times so
// much.
func (h *embedded) roomFor(times int64) error {
	h.room.Lock()
	defer h.room.Unlock()
	if now := time.Now(); now.Sub(h.room.looked) >= lookEvery {
		// What cannot be looked at is tried.
		h.room.looked, h.room.free = now, math.MaxInt64
		if free, err := diskFree(h.opts.StoreDir); err == nil {
			h.room.free = free
		}
	}
	if h.room.free < times*h.spare {
		return fmt.Errorf("the disk has %d bytes left, less than the %d that must stay free", h.room.free, h.spare)
	}
	return nil
}

// heal starts a broken server again. What it had not acknowledged is on the
// disk or not; its writers send it again and learn which.
func (h *embedded) heal() error {
	h.restart.Lock()
	defer h.restart.Unlock()
	if h.closed || h.healthy() {
		h.broken.Store(false)
		return nil
	}
	now := time.Now()
	if now.Before(h.nextTry) {
		return errBroken
	}
	if now.Sub(h.nextTry) > maxPause {
		h.pause = 0
	}
	h.pause = min(max(2*h.pause, minPause), maxPause)
	h.nextTry = now.Add(h.pause)
	h.log.Error("a write to the stream's files failed: opening them again", slog.String("folder", h.opts.StoreDir))
	h.stop()
	if err := h.start(); err != nil {
		return err
	}
	h.broken.Store(false)
	return nil
}

// InProcessConn implements nats.InProcessConnProvider.
func (h *embedded) InProcessConn() (net.Conn, error) {
	h.mu.Lock()
	srv := h.srv
	h.mu.Unlock()
	if srv == nil {
		return nil, os.ErrClosed
	}
	conn, err := srv.InProcessConn()
	if err == nil && h.wrap != nil {
		conn = h.wrap(conn)
	}
	return conn, err
}

// serverLog writes the server's own lines to our log. They are for whoever
// knows NATS, so nothing of it is more than a warning: what an operator must
// act on is said by the operation that fails.
type serverLog struct{ log *slog.Logger }

func (l *serverLog) Noticef(format string, v ...any) { l.debug(format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.debug(format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.debug(format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.warn(format, v) }
func (l *serverLog) Errorf(format string, v ...any)  { l.warn(format, v) }

// Fatalf does not end the process, as the server's own logger would: start
// sees that JetStream is not enabled and says so.
func (l *serverLog) Fatalf(format string, v ...any) { l.warn(format, v) }

func (l *serverLog) debug(format string, v []any) {
	l.log.Debug("nats server", slog.String("line", fmt.Sprintf(format, v...)))
}

func (l *serverLog) warn(format string, v []any) {
	l.log.Warn("nats server", slog.String("line", fmt.Sprintf(format, v...)))
}
