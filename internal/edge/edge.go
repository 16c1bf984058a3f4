// Package edge is the HTTP gateway: it takes requests apart into events, says
// what is wrong with them, and answers 2xx when the events are durable.
//
// # What it promises
//
// An answer is true. 202, 207 and the 200 of the SDK routes are sent after
// Stream.Put has returned, and count as accepted only what Put has stored. An
// answer that cannot be true is an error with a Retry-After. A sender that
// hangs up does not stop the storing of what it sent: pages unload.
//
// One bad event does not touch its neighbours, whatever is wrong with it.
// Rejected events of a known key go to the quarantine, with the reason.
//
// Memory is bounded: by Config.MaxInFlight for what is being worked on, by
// limits for everything that grows with what is sent.
//
// # What it assumes
//
// Keys come from a function that returns the table in force. TLS, the listener
// and the order of start and stop belong to the program.
package edge

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/go-chi/chi/v5"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/time/rate"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/edge/limit"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/stream"
)

// Stream is where accepted events go.
type Stream interface {
	// Put stores the events of a batch and returns nil when all are durable.
	// Otherwise Batch.Err says of each event whether it is. When it returns,
	// by the end of ctx at the latest, the batch is the caller's again.
	Put(ctx context.Context, b *stream.Batch) error
}

// Quarantine keeps rejected events of known keys.
type Quarantine interface {
	// Put returns nil when all letters are durable.
	Put(ctx context.Context, letters []deadletter.Letter) error
}

// Edge is the gateway. It starts no goroutines; its handler is safe for
// concurrent use.
type Edge struct {
	cfg        Config
	stream     Stream
	quarantine Quarantine
	keys       func() *source.Keys
	intake     *ledger.Intake
	log        *slog.Logger

	mux       *chi.Mux
	exchanges sync.Pool
	unzip     sync.Pool // of *gzip.Reader
	unzstd    chan *zstd.Decoder
	limits    *limit.Limiter
	// addressRule limits the requests of each address; nil if there is no limit.
	addressRule *limit.Rule
	logged      *rate.Limiter // of lines about requests that were not served
	inFlight    atomic.Int64
	patience    atomic.Pointer[patience]
	stats       counters
}

// New returns a gateway. keys returns the table in force, nil while there is
// none; it is called once per request. intake counts what the gateway receives
// and rejects; what is handed to the stream is counted there.
func New(s Stream, q Quarantine, keys func() *source.Keys, intake *ledger.Intake, cfg Config) (*Edge, error) {
	if s == nil || q == nil || keys == nil || intake == nil {
		return nil, errors.New("edge: stream, quarantine, keys and intake are needed")
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	e := &Edge{
		cfg: cfg, stream: s, quarantine: q, keys: keys, intake: intake, log: cfg.Log,
		unzstd: newZstds(),
		logged: rate.NewLimiter(10, 100),
		limits: limit.New(limit.Config{MaxBuckets: cfg.MaxBuckets, Shared: cfg.SharedLimits}),
	}
	if cfg.AddressRate.PerSecond > 0 {
		e.addressRule = limit.NewRule(limit.Address, "", cfg.AddressRate, false)
	}
	e.stats.init()
	e.exchanges.New = func() any { return newExchange(e) }
	e.mux = e.routes()
	return e, nil
}

// Handler returns the gateway's routes. A server of it that is not made by
// Server must set the same limits.
func (e *Edge) Handler() http.Handler { return e }

// Server returns a server of the gateway with the limits of its configuration
// set. The caller adds the address, TLS and what else it needs.
func (e *Edge) Server() *http.Server {
	return &http.Server{
		Handler:           e,
		ReadHeaderTimeout: e.cfg.HeaderTimeout,
		// The handler moves it for bodies that take long for their size.
		ReadTimeout:    e.cfg.BodyTimeout,
		IdleTimeout:    e.cfg.IdleTimeout,
		MaxHeaderBytes: e.cfg.MaxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}
}

// InFlight returns the bytes that requests now hold of Config.MaxInFlight.
func (e *Edge) InFlight() int64 { return e.inFlight.Load() }
