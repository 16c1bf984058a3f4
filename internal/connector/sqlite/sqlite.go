// Package sqlite is the embedded warehouse: a SQLite file with one row per
// event, which people may read while it is written. Settings, schema, limits
// and outcomes are described in README.md.
package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/settings"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
)

// Kind is the connector's name in the destinations file.
const Kind = "sqlite"

// version changes when the mapping of an event to a row changes.
const version = "1"

// maxRows is the most rows of one call. A call costs as much as some hundred
// rows, so fewer rows waste it; more add latency and memory, and little speed.
const maxRows = 1000

// FileName is the name of the warehouse in the data folder.
const FileName = "warehouse.db"

// Config are the settings of a warehouse, as they stand in the destinations
// file. All may be left out.
type Config struct {
	// Path is the database file. Default warehouse.db in the data folder.
	Path string `json:"path" doc:"the database file; default warehouse.db in the data folder"`
	// Privacy is applied before all else.
	Privacy mapping.Privacy `json:"privacy" doc:"what is removed from events or hashed first: drop, hash, salt, ip; see mapping"`
}

// Spec describes the connector.
func Spec() connector.Spec {
	return connector.Spec{
		Kind: Kind, Summary: "a SQLite file on this machine, one row per event", Settings: Config{}, New: New,
		Dedup: "id, the primary key", Order: "kept", Limits: "1,000 rows or 8 MiB in a transaction; one writer",
	}
}

// Connector writes events to one file.
type Connector struct {
	path    string
	privacy *mapping.Filter
	busy    time.Duration // busyTimeout, less in tests
	log     *slog.Logger
	// turn is held by the one call that writes. SQLite has one writer at a
	// time; waiting here is fair and ends with the context.
	turn chan struct{}
	file *file // open file or nil, owned by the holder of turn
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Factory   = New
)

// New makes a connector from its settings. It does not open the file.
func New(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	var cfg Config
	unread := settings.Decode(raw, &cfg)
	privacy, err := mapping.NewFilter(cfg.Privacy)
	if err := errors.Join(unread, err); err != nil {
		return nil, err
	}
	if cfg.Path == "" {
		if env.DataDir == "" {
			return nil, errors.New("path: is required, there is no data folder")
		}
		cfg.Path = filepath.Join(env.DataDir, FileName)
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, err
	}
	return &Connector{path: path, privacy: privacy, busy: busyTimeout, log: env.Logger(), turn: make(chan struct{}, 1)}, nil
}

// Kind implements connector.Connector.
func (c *Connector) Kind() string { return Kind }

// Version implements connector.Connector.
func (c *Connector) Version() string { return version }

// Limits implements connector.Connector.
func (c *Connector) Limits() connector.Limits {
	return connector.Limits{MaxEvents: maxRows, MaxConcurrency: 1, Dedups: true}
}

// Plan implements connector.Connector. The payload of a call is its rows.
func (c *Connector) Plan(events []connector.Delivery) connector.Plan {
	return warehouse.Plan(c.privacy, events, maxRows, makeRow)
}

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	rows := call.Payload.([]row)
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return connector.All(len(rows), failure(ctx.Err()))
	}
	results, committing := c.write(ctx, rows)
	if committing == nil {
		<-c.turn
		return results
	}
	// The disk decides how long a commit takes, and it cannot be called back.
	go func() {
		c.settle(<-committing)
		<-c.turn
	}()
	return results
}

// write stores rows in one transaction and returns their results. If ctx ends
// during the commit, committing receives its outcome later.
func (c *Connector) write(ctx context.Context, rows []row) (results []connector.Result, committing <-chan error) {
	f, err := c.open(ctx)
	if err == nil {
		results, err = f.insert(ctx, rows)
	}
	if err != nil {
		c.settle(err)
		return connector.All(len(rows), failure(err)), nil
	}
	commit := make(chan error, 1)
	go func() { commit <- f.commit() }()
	select {
	case err = <-commit:
	case <-ctx.Done():
		return connector.All(len(rows), ambiguous(ctx.Err())), commit
	}
	c.settle(err)
	if err != nil {
		return connector.All(len(rows), commitFailure(err)), nil
	}
	return results, nil
}

// open returns the file, opening it if need be. A file that was moved or
// deleted since is given its rows and left alone, and the path opened anew:
// rows written to it from now on would not be found.
func (c *Connector) open(ctx context.Context) (*file, error) {
	if c.file != nil && !c.file.stillAt(c.path) {
		if err := c.file.flush(ctx); err != nil {
			return nil, err
		}
		c.log.Warn("warehouse file was moved or deleted, a new one is opened", "path", c.path)
		c.drop()
	}
	if c.file == nil {
		f, err := openFile(ctx, c.path, c.busy)
		if err != nil {
			return nil, err
		}
		c.file = f
	}
	return c.file, nil
}

// settle closes the file after an error that may have left the connection in
// an unknown state; the next call opens it again.
func (c *Connector) settle(err error) {
	if err != nil && c.file != nil && !isBusy(err) {
		c.drop()
	}
}

func (c *Connector) drop() {
	if err := c.file.close(); err != nil {
		c.log.Warn("warehouse file not closed cleanly", "path", c.path, "error", err)
	}
	c.file = nil
}

// Close implements connector.Connector. It waits for a commit under way.
func (c *Connector) Close() error {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if c.file == nil {
		return nil
	}
	err := c.file.close()
	c.file = nil
	return err
}
