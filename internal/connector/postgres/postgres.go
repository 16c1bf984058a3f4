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
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
)

// Kind is the connector's name in the destinations file.
const Kind = "postgres"

// version changes when the mapping of an event to a row changes.
const version = "1"

const (
	// maxRows is the most rows of one call. From about here on more gain nothing.
	maxRows = 5000
	// copyRows is the number of rows from which COPY is no slower than arrays. It
	// costs a second round trip, and the server writes each row twice; but it
	// reads them as they come, and nobody holds arrays of all of them: with
	// maxRows it takes half of our CPU and a sixth of the memory. See BenchmarkSend.
	copyRows = 500
)

// Connector writes events to one table.
type Connector struct {
	cfg  Config
	pool *pgxpool.Config
	sql  statements
	explain
	log *slog.Logger
	// copyRows is the constant, another number in tests.
	copyRows int
	// cannotCopy says that the role may not make temporary tables.
	cannotCopy atomic.Bool

	mu     sync.Mutex
	opened *pgxpool.Pool // nil until the first call
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Checker   = (*Connector)(nil)
	_ connector.Factory   = New
)

// Spec says what the connector is.
func Spec() connector.Spec {
	return connector.Spec{
		Kind: Kind, Summary: "a table of PostgreSQL, one row per event",
		Settings: DefaultConfig(),
		Dedup:    "the id, or the columns of the setting key, by the table's unique key",
		Order:    "events of a user are inserted in order; a table has none of its own",
		Limits:   fmt.Sprintf("%d events or %d MiB per call, %d connections", maxRows, warehouse.MaxBytes>>20, maxConns),
		New:      New,
	}
}

// New makes a connector from its settings. It does not connect.
func New(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	cfg, pool, table, err := parseConfig(raw)
	if err != nil {
		return nil, err
	}
	return &Connector{
		cfg: cfg, pool: pool, sql: newStatements(table, cfg.Key), explain: newExplain(pool.ConnConfig, table, cfg.Key), log: env.Logger(), copyRows: copyRows,
	}, nil
}

// Kind implements connector.Connector.
func (c *Connector) Kind() string { return Kind }

// Version implements connector.Connector.
func (c *Connector) Version() string { return version }

// Limits implements connector.Connector.
func (c *Connector) Limits() connector.Limits {
	return connector.Limits{MaxEvents: maxRows, MaxConcurrency: int(c.pool.MaxConns), Dedups: true, Timeout: callTimeout}
}

// Plan implements connector.Connector. The payload of a call is its rows.
func (c *Connector) Plan(events []connector.Delivery) connector.Plan {
	return warehouse.Plan(c.cfg.filter, events, maxRows, makeRow)
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
			if fresh[i] {
				results[i].Class = connector.Delivered
			}
		}
		return nil
	}
	if !isRowFault(err) {
		return err
	}
	if len(rows) == 1 {
		results[0] = c.refused(err, c.faultyColumn(ctx, pool, rows[0]))
		return nil
	}
	half := len(rows) / 2
	if err := c.insert(ctx, pool, rows[:half], results[:half]); err != nil {
		return err
	}
	return c.insert(ctx, pool, rows[half:], results[half:])
}

// insertOnce stores rows, all or none, and returns which are new. A missing
// table is created, if the settings say so.
func (c *Connector) insertOnce(ctx context.Context, pool *pgxpool.Pool, rows []row) (fresh []bool, err error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, notCommitted(err)
	}
	defer conn.Release()
	pg := conn.Conn().PgConn()
	fresh, err = c.store(ctx, pg, rows)
	if codeOf(err) == readOnlyTransaction {
		// This server stays read-only, and so may all connections to it: the next
		// one asks again where the primary is.
		pool.Reset()
	}
	if !isMissingTable(err) || !c.cfg.CreateTable {
		return fresh, err
	}
	c.log.Info("table is missing and is created", "table", c.cfg.Table)
	// Two that create it at the same time may fail on each other's catalog
	// rows; what matters is the second try.
	if _, err := pg.Exec(ctx, c.sql.create).ReadAll(); err != nil && !isCreatedMeanwhile(err) {
		return nil, notCommitted(err)
	}
	return c.store(ctx, pg, rows)
}

func (c *Connector) store(ctx context.Context, pg *pgconn.PgConn, rows []row) ([]bool, error) {
	if len(rows) < c.copyRows || c.cannotCopy.Load() {
		return c.storeArrays(ctx, pg, rows)
	}
	fresh, err := c.storeCopy(ctx, pg, rows)
	if errors.Is(err, errNoCopy) {
		c.cannotCopy.Store(true)
		c.log.Warn("the role may not make temporary tables: large calls are slower", "error", c.masker.Text(err.Error(), httpcall.MaxMessage))
		return c.storeArrays(ctx, pg, rows)
	}
	return fresh, err
}

// storeArrays stores rows with one statement.
func (c *Connector) storeArrays(ctx context.Context, pg *pgconn.PgConn, rows []row) ([]bool, error) {
	columns := spare.Get().(*arrays)
	defer spare.Put(columns) // the statement copies them
	fresh := newlyStored{rows: rows, fresh: make([]bool, len(rows))}
	binary := []int16{pgx.BinaryFormatCode}
	reader := pg.ExecParams(ctx, c.sql.insert, columns.fill(rows), nil, binary, binary)
	fresh.read(reader)
	_, err := reader.Close()
	return fresh.fresh, err
}

// errNoCopy is the error of a connection that cannot have a temporary table.
var errNoCopy = errors.New("no temporary table")

// storeCopy stores rows with COPY, in a transaction of its own: two round trips.
func (c *Connector) storeCopy(ctx context.Context, pg *pgconn.PgConn, rows []row) (_ []bool, err error) {
	defer func() {
		if err != nil && !pg.IsClosed() && pg.TxStatus() != 'I' {
			// A connection on which this fails too is not used again.
			_, _ = pg.Exec(ctx, "ROLLBACK").ReadAll()
		}
	}()
	if _, err := pg.CopyFrom(ctx, newCopyReader(rows), c.sql.copy); err != nil {
		if code := codeOf(err); code == insufficientPrivilege || code == undefinedTable || code == featureNotSupported {
			err = fmt.Errorf("%w: %w", errNoCopy, err)
		}
		return nil, notCommitted(err)
	}
	fresh := newlyStored{rows: rows, fresh: make([]bool, len(rows))}
	statements := pg.Exec(ctx, c.sql.merge)
	for statements.NextResult() {
		fresh.read(statements.ResultReader())
	}
	if err := statements.Close(); err != nil {
		return nil, maybeCommitted(err)
	}
	return fresh.fresh, nil
}

// newlyStored finds the rows that a statement returned the ids of.
type newlyStored struct {
	rows  []row
	fresh []bool
	next  int // after the last row that was found
}

// read reads the ids. They come in the order of the rows, unless somebody's
// trigger has changed it. Of rows with the same id the first is the new one.
func (s *newlyStored) read(ids *pgconn.ResultReader) {
	for ids.NextRow() {
		id := ids.Values()[0]
		if !s.find(id, s.next) {
			s.find(id, 0)
		}
	}
}

func (s *newlyStored) find(id []byte, from int) bool {
	for i := from; i < len(s.rows); i++ {
		if s.rows[i].id == string(id) && !s.fresh[i] {
			s.fresh[i], s.next = true, i+1
			return true
		}
	}
	return false
}

// faultyColumn returns the name of the JSON column that the server cannot read,
// "" if it is not that.
func (c *Connector) faultyColumn(ctx context.Context, pool *pgxpool.Pool, r row) string {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return ""
	}
	defer conn.Release()
	rest := r.tuple[2:]
	for i, column := range warehouse.Columns {
		var value []byte
		if value, rest = cutField(rest); columnTypes[i] != pgtype.JSONBOID {
			continue
		}
		reader := conn.Conn().PgConn().ExecParams(ctx, "SELECT $1::jsonb IS NULL", [][]byte{value[4:]}, nil, []int16{pgx.BinaryFormatCode}, nil)
		if _, err := reader.Close(); isRowFault(err) {
			return column
		}
	}
	return ""
}
