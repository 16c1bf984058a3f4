// Package app makes programs of the parts: it reads the settings, wires the
// stages to a host, starts them, and stops them in the order of the data. It
// is the only package that knows all the others.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/document"
	"github.com/eventsluice/sluice/internal/edge"
	"github.com/eventsluice/sluice/internal/edge/limit"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/engine"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/router"
	"github.com/eventsluice/sluice/internal/schema"
	"github.com/eventsluice/sluice/internal/stream/dedup"
	"github.com/eventsluice/sluice/internal/stream/producer"
	"github.com/eventsluice/sluice/internal/telemetry"
)

// ErrSaid is returned by a command that has already said on its output why it
// failed.
var ErrSaid = errors.New("already reported")

const (
	// maxWriteBytes is the most that one write to the stream carries: some
	// thousands of events, more than arrive during an fsync. A message has room
	// for it and its frame, and for the letter of the largest event; a reader
	// holds two of them in memory.
	maxWriteBytes   = 2 << 20
	maxMessageBytes = 3 << 20
	// programBytes is what the code and constants of the program take in memory
	// when most of it has run (RssFile of /proc/PID/status).
	programBytes = 35 << 20
	// trimInterval is how often settled events are considered for discarding,
	// and the opening balance of the ledger is kept.
	trimInterval = 5 * time.Second
	// certificateInterval is how soon a renewed certificate is in use.
	certificateInterval = time.Minute
)

// Up runs everything on this machine until ctx is done.
func Up(ctx context.Context, s Settings, out, errs io.Writer) error {
	return serve(ctx, s, true, out, errs)
}

// Gateway collects and stores until ctx is done, and delivers nothing.
func Gateway(ctx context.Context, s Settings, out, errs io.Writer) error {
	return serve(ctx, s, false, out, errs)
}

// program is one running process: the stages and what they share.
type program struct {
	settings Settings
	// deliver is false in a gateway alone: runners then has no destination.
	deliver  bool
	log      *slog.Logger
	tele     *telemetry.Telemetry
	engine   *engine.Engine
	host     host
	intake   *ledger.Intake
	producer *producer.Producer
	dedup    *dedup.Filter // nil if it is off
	edge     *edge.Edge
	limits   *limit.Redis // nil without SLUICE_REDIS
	runners  *runners
	// simulated are the vendors that this process simulates.
	simulated simulated
	books     ledger.Books
	// keptBalance is what keepHouse has written last.
	keptBalance ledger.Opening

	keys         *document.Live[*source.Keys]
	rules        *document.Live[*router.Table]
	destinations *document.Live[[]Destination]
	schemas      *document.Live[*schema.Set]
	contracts    *schema.Contracts
	tally        *schema.Tally
}

func serve(ctx context.Context, s Settings, deliver bool, out, errs io.Writer) (err error) {
	tuneRuntime(s)
	log := newLogger(s, errs)
	tele, err := telemetry.New(ctx, telemetry.Config{Lookup: LookupEnv, Version: Version(), Log: log})
	if err != nil {
		return err
	}
	defer tele.Shutdown(context.WithoutCancel(ctx))
	made, err := prepare(s)
	if err != nil {
		return err
	}
	p := &program{settings: s, deliver: deliver, log: log, tele: tele, intake: &ledger.Intake{}}
	p.engine, err = engine.Open(ctx, engineConfig(s), log)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), s.StopTimeout)
		defer cancel()
		err = errors.Join(err, p.engine.Close(closing))
	}()
	if p.host, err = p.openHost(ctx); err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), s.StopTimeout)
		defer cancel()
		err = errors.Join(err, p.host.close(closing))
	}()
	if deliver {
		p.simulated, err = simulate(s.Simulate)
		defer p.simulated.close()
		if err != nil {
			return err
		}
	}
	defer func() {
		if p.limits != nil {
			err = errors.Join(err, p.limits.Close())
		}
	}()
	if err := p.open(ctx); err != nil {
		return err
	}
	return p.run(ctx, made, out)
}

func engineConfig(s Settings) engine.Config {
	return engine.Config{
		Dir:             s.DataDir,
		MaxBytes:        int64(s.DiskLimit),
		Retention:       s.Retention,
		MaxMessageBytes: maxMessageBytes,
		TailBytes:       int(s.MemoryLimit / 12),
	}
}

// open reads the documents and makes the stages. It starts nothing.
func (p *program) open(ctx context.Context) (err error) {
	s := p.settings
	var previous *source.Keys
	if p.keys, err = openDocument(ctx, p, s.Keys, func(doc []byte) (*source.Keys, error) {
		keys, err := source.Load(doc, previous, LookupEnv)
		if err == nil {
			previous = keys
		}
		return keys, err
	}); err != nil {
		return err
	}
	if p.rules, err = openDocument(ctx, p, s.Rules, func(doc []byte) (*router.Table, error) {
		return router.Parse(p.simulated.rules(doc))
	}); err != nil {
		return err
	}
	if p.destinations, err = openDocument(ctx, p, s.Destinations, func(doc []byte) ([]Destination, error) {
		return ParseDestinations(p.simulated.destinations(doc), s.DataDir)
	}); err != nil {
		return err
	}
	if p.schemas, err = openDocument(ctx, p, s.Schemas, schema.Parse); err != nil {
		return err
	}
	p.loadViolations()
	p.contracts = schema.NewContracts(p.schemas.Get, p.tally)

	balance, err := p.loadBalance()
	if err != nil {
		return err
	}
	p.intake.Open(balance)
	p.producer, err = producer.New(p.host.stream(), p.intake, p.host.producerConfig(producer.Config{
		MaxBufferedBytes: int(s.MemoryLimit / 8),
		Tracer:           p.tele.Tracer,
	}))
	if err != nil {
		return err
	}
	if s.Redis != "" {
		shared := s.SharedLimits
		shared.Log = p.log
		p.limits = limit.NewRedis(shared)
	}
	entrance, err := p.openDedup(ctx)
	if err != nil {
		return err
	}
	p.edge, err = edge.New(entrance, p.engine.Quarantine(), p.keys.Get, p.intake, p.edgeConfig())
	if err != nil {
		return err
	}
	p.runners = &runners{
		engine: p.engine, rules: p.rules.Get, dir: s.DataDir,
		memory: int(s.MemoryLimit / 8), tracer: p.tele.Tracer, log: p.log,
		running: map[string]*running{},
	}
	p.books = ledger.Books{
		Intake:       p.intake,
		InFlight:     p.inFlight,
		Stored:       p.host.stored,
		Spooled:      p.host.spooled,
		Refused:      p.host.refused,
		Destinations: p.runners.Accounts,
	}
	return nil
}

// run starts the stages, says where they are, and stops them in the order of
// the data when ctx is done or one of them fails.
func (p *program) run(ctx context.Context, made firstRun, out io.Writer) error {
	s := p.settings
	if err := p.register(p.tele.Meter); err != nil {
		return err
	}
	p.histograms()
	gateway, err := listen(s.Addr, p.edge.Server(), s.StopTimeout)
	if err != nil {
		return fmt.Errorf("SLUICE_ADDR=%q: %w", s.Addr, err)
	}
	if s.TLSCert != "" {
		if gateway.cert, err = loadCertificate(s.TLSCert, s.TLSKey); err != nil {
			return errors.Join(err, gateway.listener.Close())
		}
	}
	// Requests to the admin address that go on for ever, such as the tail of
	// the stream, end when the server is told to stop.
	adminCtx, endAdmin := context.WithCancel(context.WithoutCancel(ctx))
	defer endAdmin()
	adminServer := &http.Server{
		Handler:           p.adminHandler(p.tele.Handler),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return adminCtx },
	}
	adminServer.RegisterOnShutdown(endAdmin)
	admin, err := listen(s.AdminAddr, adminServer, 5*time.Second)
	if err != nil {
		return errors.Join(fmt.Errorf("SLUICE_ADMIN_ADDR=%q: %w", s.AdminAddr, err), gateway.listener.Close())
	}
	for _, server := range []*server{gateway, admin} {
		server.http.ErrorLog = slog.NewLogLogger(p.log.Handler(), slog.LevelDebug)
	}

	stages := newStages(p.log)
	stages.start("listener", gateway.Run)
	stages.start("producer", p.producer.Run)
	if p.limits != nil {
		stages.start("shared limits", p.limits.Run)
	}
	p.host.start(stages)
	stages.start("documents", p.watchDocuments)
	stages.start("token issuers", func(ctx context.Context) error { return p.keys.Get().Run(ctx, p.log) })
	if p.deliver {
		if err := p.runners.Apply(p.destinations.Get()); err != nil {
			p.log.Error("not every destination could be started", "error", err)
		}
		stages.start("connectors", p.runners.Run)
		p.simulated.start(stages)
	}
	stages.start("housekeeping", p.keepHouse)
	if s.EMF != "" {
		stages.start("embedded metrics", func(ctx context.Context) error { return p.writeMetrics(ctx, out) })
	}
	if gateway.cert != nil {
		stages.start("certificate", func(ctx context.Context) error {
			return gateway.cert.Run(ctx, certificateInterval, func(err error) {
				p.log.Error("renewed certificate cannot be used, the old one stays", "error", err)
			})
		})
	}
	stages.start("admin", admin.Run)

	place := runFile{Gateway: gateway.url(), Admin: admin.url(), PID: os.Getpid()}
	err = place.write(s.DataDir)
	if err == nil {
		greet(out, place, made, s)
		p.simulated.greet(out)
		select {
		case <-ctx.Done():
			p.log.Info("stopping")
		case err = <-stages.failed:
		}
	}
	err = errors.Join(err, stages.stop(s.StopTimeout))
	return errors.Join(err, place.remove(s.DataDir))
}

func (p *program) watchDocuments(ctx context.Context) error {
	watchers := []func() error{
		func() error { return p.keys.Run(ctx, interval(p.settings.Keys), nil) },
		func() error { return p.schemas.Run(ctx, interval(p.settings.Schemas), nil) },
		func() error { return p.rules.Run(ctx, interval(p.settings.Rules), nil) },
		func() error {
			return p.destinations.Run(ctx, interval(p.settings.Destinations), func(destinations []Destination) {
				if !p.deliver {
					return
				}
				if err := p.runners.Apply(destinations); err != nil {
					p.log.Error("not every destination could be started", "error", err)
				}
			})
		},
	}
	done := make(chan error, len(watchers))
	for _, watch := range watchers {
		go func() { done <- watch() }()
	}
	var faults []error
	for range watchers {
		faults = append(faults, <-done)
	}
	return errors.Join(faults...)
}

// keepHouse discards what is settled and keeps the opening balance, the
// violations of schemas and the ids of events, until ctx is done; these once
// more at the end.
func (p *program) keepHouse(ctx context.Context) error {
	ticker := time.NewTicker(trimInterval)
	defer ticker.Stop()
	kept := time.Now()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(p.closeDedup(), p.saveBalance(), p.saveViolations())
		case <-ticker.C:
		}
		covered := p.saveDedup(ctx)
		if err := p.saveBalance(); err != nil {
			p.log.Warn("opening balance of the ledger not kept", "error", err)
		}
		if time.Since(kept) >= violationsInterval {
			kept = time.Now()
			if err := p.saveViolations(); err != nil {
				p.log.Warn("violations of schemas not kept", "error", err)
			}
		}
		if !p.deliver { // others read what is stored
			continue
		}
		events := p.engine.Events()
		newest, err := events.Last(ctx)
		if err == nil {
			err = events.Trim(ctx, min(p.runners.Settled(newest), covered))
		}
		if err != nil && ctx.Err() == nil {
			p.log.Warn("settled events not discarded", "error", err)
		}
	}
}

// inFlight is what the ledger counts as received and not decided.
func (p *program) inFlight() int64 {
	waiting := 0
	if p.dedup != nil {
		waiting = p.dedup.Waiting()
	}
	s := p.producer.Stats()
	return int64(waiting+s.WaitingEvents+s.FlyingEvents) + int64(s.Undecided)
}

// runner returns the runner of a destination, or a fault.NotFound.
func (p *program) runner(destination string) (*delivery.Runner, error) {
	if !p.deliver {
		return nil, fault.New(fault.NotFound, "this process delivers nothing")
	}
	return p.runners.Runner(destination)
}

// tuneRuntime fits the Go runtime to the settings and the machine.
func tuneRuntime(s Settings) {
	// A blocking fsync holds a scheduler slot: with only one, nobody else runs
	// meanwhile and throughput halves, also on one CPU.
	if runtime.GOMAXPROCS(0) < 2 {
		runtime.GOMAXPROCS(2)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		// The rest is for what the garbage collector does not count: the pages
		// of the program itself, the memory of SQLite, and what is allocated
		// while it is still at work.
		limit := int64(s.MemoryLimit)
		debug.SetMemoryLimit(max((limit-programBytes)*5/6, limit/2))
	}
	if os.Getenv("GOGC") == "" {
		// The heap is small beside its ceiling, and most of what is allocated
		// is short-lived: collecting it at four times its live size instead of
		// twice halves the work, and near the limit the collector works harder
		// by itself.
		debug.SetGCPercent(300)
	}
}

func newLogger(s Settings, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func quietLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// runFile tells the operator's commands where a running process is. It lies in
// the data folder while the process runs.
type runFile struct {
	Gateway string `json:"gateway"`
	Admin   string `json:"admin"`
	PID     int    `json:"pid"`
}

const runFileName = "run.json"

func (f runFile) write(dataDir string) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return document.WriteFile(filepath.Join(dataDir, runFileName), append(text, '\n'))
}

// readRunFile reads the file of the process that runs, or was killed, on a data
// folder; fs.ErrNotExist if there is none.
func readRunFile(dataDir string) (place runFile, err error) {
	text, err := os.ReadFile(filepath.Join(dataDir, runFileName))
	if err != nil {
		return place, err
	}
	if err := json.Unmarshal(text, &place); err != nil {
		return place, fmt.Errorf("%s: %w", runFileName, err)
	}
	return place, nil
}

func (f runFile) remove(dataDir string) error {
	return os.Remove(filepath.Join(dataDir, runFileName))
}

// greet says what a person needs to send the first event.
func greet(out io.Writer, place runFile, made firstRun, s Settings) {
	dir := s.DataDir
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	fmt.Fprintf(out, "gateway    %s\nconsole    %s\ndata       %s\n", place.Gateway, place.Admin, dir)
	key := made.writeKey
	if key != "" {
		fmt.Fprintf(out, "write key  %s\n", key)
	} else {
		key = "YOUR_WRITE_KEY"
	}
	if made.secretKey != "" {
		fmt.Fprintf(out, "secret key %s  (shown this once; for back ends only)\n", made.secretKey)
	}
	fmt.Fprintf(out, "\nSend an event:\n\n  curl -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' -d '{\"name\":\"hello\",\"data\":{\"from\":\"curl\"}}' %s/v1/events\n\n", key, place.Gateway)
}
