// Package postgres delivers events to a PostgreSQL table, one row per event.
// Settings, schema, limits and outcomes are described in README.md.
package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
)

// Kind is the connector's name in the destinations file.
const Kind = "postgres"

// version changes when the mapping of an event to a row changes.
const version = "1"

// Connector writes events to one table.
type Connector struct {
	cfg   Config
	pool  *pgxpool.Config
	table table
	redact
	log *slog.Logger

	mu     sync.Mutex
	opened *pgxpool.Pool // nil until the first call
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Factory   = New
)

// New makes a connector from its settings. It does not connect.
func New(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	cfg, pool, table, err := parseConfig(raw)
	if err != nil {
		return nil, err
	}
	log := env.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Connector{cfg: cfg, pool: pool, table: table, redact: newRedact(pool.ConnConfig), log: log}, nil
}

// Kind implements connector.Connector.
func (c *Connector) Kind() string { return Kind }

// Version implements connector.Connector.
func (c *Connector) Version() string { return version }

// Limits implements connector.Connector.
func (c *Connector) Limits() connector.Limits {
	return connector.Limits{MaxEvents: warehouse.MaxEvents, MaxConcurrency: int(c.pool.MaxConns), Dedups: true, Timeout: callTimeout}
}

// Plan implements connector.Connector. The payload of a call is its rows.
func (c *Connector) Plan(events []connector.Delivery) connector.Plan {
	return warehouse.Plan(events, makeRow)
}

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	rows := call.Payload.([]row)
	results := make([]connector.Result, len(rows))
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pool, err := c.connect(ctx)
	if err == nil {
		err = c.insert(ctx, pool, rows, results)
	}
	if err != nil {
		// Of these rows no statement was tried, or the last one failed.
		outcome := c.failure(err)
		for i := range results {
			if results[i].Class == connector.Retryable {
				results[i] = outcome
			}
		}
	}
	return results
}

// connect returns the pool. Its connections are made when they are needed.
func (c *Connector) connect(ctx context.Context) (*pgxpool.Pool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opened == nil {
		// The pool outlives the call: ctx must not end it.
		pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), c.pool.Copy())
		if err != nil {
			return nil, err
		}
		c.opened = pool
	}
	return c.opened, nil
}

// Close implements connector.Connector.
func (c *Connector) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opened != nil {
		c.opened.Close()
		c.opened = nil
	}
	return nil
}

// insert stores rows, in order, and writes the result of each. If a statement
// fails because of a row, it is tried again in halves, so that after log2(n)
// statements the row is alone. After an error the rows that have no result were
// not stored, or, where the error is ambiguous, those of the failed statement
// may have been.
func (c *Connector) insert(ctx context.Context, pool *pgxpool.Pool, rows []row, results []connector.Result) error {
	fresh, err := c.insertOnce(ctx, pool, rows)
	if err == nil {
		for i := range rows {
			results[i].Class = connector.Duplicate
			if fresh[rows[i].id] {
				results[i].Class = connector.Delivered
				delete(fresh, rows[i].id) // the same id again in this call is a duplicate
			}
		}
		return nil
	}
	if !isRowFault(err) {
		return err
	}
	if len(rows) == 1 {
		results[0] = c.refused(err)
		return nil
	}
	half := len(rows) / 2
	if err := c.insert(ctx, pool, rows[:half], results[:half]); err != nil {
		return err
	}
	return c.insert(ctx, pool, rows[half:], results[half:])
}

// insertOnce stores rows with one statement and returns the ids that are new.
// A missing table is created, if the settings say so.
func (c *Connector) insertOnce(ctx context.Context, pool *pgxpool.Pool, rows []row) (map[string]bool, error) {
	arguments := columnArrays(rows)
	fresh, err := c.query(ctx, pool, arguments)
	if !isMissingTable(err) || !c.cfg.CreateTable {
		return fresh, err
	}
	c.log.Info("table is missing and is created", "table", c.table.String())
	// Two that create it at the same time may fail on each other's catalog
	// rows; what matters is the second query.
	if _, err := pool.Exec(ctx, c.table.create()); err != nil && !isCreatedMeanwhile(err) {
		return nil, err
	}
	return c.query(ctx, pool, arguments)
}

// errNotBegun is the error of a statement that was not sent.
var errNotBegun = errors.New("no connection")

func (c *Connector) query(ctx context.Context, pool *pgxpool.Pool, arguments []any) (map[string]bool, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotBegun, err)
	}
	defer conn.Release()
	rows, err := conn.Query(ctx, c.table.insert(), arguments...)
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	fresh := make(map[string]bool, len(ids))
	for _, id := range ids {
		fresh[id] = true
	}
	return fresh, nil
}
