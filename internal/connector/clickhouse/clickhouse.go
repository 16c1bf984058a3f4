// Package clickhouse delivers events to a ClickHouse table, one row per event,
// over its HTTP interface. Settings, schema, limits, outcomes, and what is stored
// exactly once, are described in README.md.
package clickhouse

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
)

// Kind is the connector's name in the destinations file.
const Kind = "clickhouse"

// version changes when the mapping of an event to a row changes.
const version = "1"

const (
	// maxRows is the most rows of one call. ClickHouse advises inserts of 10,000
	// to 100,000 rows, and about one in a second. Source: ClickHouse, "Bulk inserts"
	// (read 2026-11).
	maxRows = 10_000
	// maxCalls is the most calls at once.
	maxCalls = 2
)

// Connector writes events to one table.
type Connector struct {
	httpcall.Vendor
	cfg   Config
	table table
	query url.Values // of each INSERT
	log   *slog.Logger
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Checker   = (*Connector)(nil)
	_ connector.Factory   = New
)

// Spec says what the connector is.
func Spec() connector.Spec {
	return connector.Spec{
		Kind: Kind, Summary: "a table of ClickHouse, one row per event",
		Settings: DefaultConfig(),
		Dedup:    "a call that is made again, by its token; an event, by its name and id, when parts are merged or a query says FINAL",
		Order:    "events of a user are inserted in order; a table has none of its own",
		Limits:   fmt.Sprintf("%d events or %d MiB per call, %d calls at once", maxRows, warehouse.MaxBytes>>20, maxCalls),
		New:      New,
	}
}

// New makes a connector from its settings. It does not connect.
func New(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	cfg, table, err := parseConfig(raw)
	faults := []error{err}
	var api *httpcall.API
	if cfg.URL != "" {
		way := cfg.api()
		way.Dial = env.Dial
		api, err = httpcall.NewAPI(way)
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	limits := connector.Limits{
		MaxEvents: maxRows, MaxConcurrency: maxCalls, Dedups: cfg.Dedup, Timeout: callTimeout, Linger: time.Duration(cfg.Linger),
	}
	c := &Connector{Vendor: httpcall.Vendor{Name: Kind, Mapping: version, Allows: limits, API: api}, cfg: cfg, table: table, log: env.Logger()}
	c.query = url.Values{
		"query": {table.insert()},
		// The answer waits until the rows are stored, so that its status says it.
		"wait_end_of_query": {"1"},
	}
	for _, settings := range []map[string]string{defaultQuery, cfg.Query} {
		for name, value := range settings {
			c.query.Set(name, value)
		}
	}
	return c, nil
}

// Plan implements connector.Connector. The payload of a call is its rows.
func (c *Connector) Plan(events []connector.Delivery) connector.Plan {
	return warehouse.Plan(c.cfg.filter, events, maxRows, makeRow)
}

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	rows := call.Payload.([]row)
	results := make([]connector.Result, len(rows))
	calls := make([]pending, len(rows))
	for i := range rows {
		calls[i] = pending{&rows[i], &results[i]}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c.insert(ctx, calls)
	return results
}

// pending is a row and where its result goes.
type pending struct {
	*row
	result *connector.Result
}

// maxNamed is how many rows of a call are set aside because ClickHouse has named
// them. Each costs the call once more.
const maxNamed = 10

// insert stores rows, in order, and writes the result of each. If a row is at
// fault, ClickHouse takes none of them, and says which one it is: that one is
// tried alone, and then the others. If there are many such rows, or ClickHouse
// does not say, the call is made again in halves; few inserts come first, for each
// makes a part of the table that has to be merged. It reports whether the
// destination takes rows at all: if not, no more calls are made.
func (c *Connector) insert(ctx context.Context, rows []pending) (works bool) {
	for range maxNamed {
		result, bad := c.insertOnce(ctx, rows)
		if result.Class != connector.Permanent || len(rows) == 1 {
			for _, r := range rows {
				*r.result = result
			}
			return result.Class.Settled() || result.Class == connector.Permanent
		}
		if bad < 0 || bad >= len(rows) {
			break
		}
		others := slices.Delete(slices.Clone(rows), bad, bad+1)
		if !c.insert(ctx, rows[bad:bad+1]) {
			return notSent(others, rows[bad].result)
		}
		rows = others
	}
	half := len(rows) / 2
	if half > 0 && !c.insert(ctx, rows[:half]) {
		return notSent(rows[half:], rows[half-1].result)
	}
	return c.insert(ctx, rows[half:])
}

// notSent writes the results of rows that were not sent, because a call before
// them has failed.
func notSent(rows []pending, failed *connector.Result) (works bool) {
	for _, r := range rows {
		*r.result = *failed
		if failed.Class == connector.Ambiguous || failed.Class == connector.TooLarge {
			r.result.Class = connector.Retryable
		}
	}
	return false
}

// insertOnce stores rows, all or none. If one is at fault it returns which, -1 if
// that is not known. A missing table is created, if the settings say so.
func (c *Connector) insertOnce(ctx context.Context, rows []pending) (result connector.Result, bad int) {
	query := maps.Clone(c.query)
	query.Set("insert_deduplication_token", token(rows))
	request := httpcall.Request{Path: "/", Query: query, Body: body(rows), Gzip: c.cfg.Compress}
	x := c.twice(ctx, request)
	code, text := exception(x)
	if code == noSuchTable && c.cfg.CreateTable {
		c.log.Info("table is missing and is created", "table", c.cfg.Table)
		if created := outcome(c.run(ctx, c.table.create())); created.Class != connector.Delivered {
			if created.Class == connector.Permanent || created.Class == connector.Ambiguous {
				created.Class = connector.Retryable // of no row; nothing was inserted
			}
			return created, -1
		}
		x = c.twice(ctx, request)
		_, text = exception(x)
	}
	return outcome(x), faultyRow(text)
}

// twice makes a call, and once more if its answer was lost and the table knows its
// token: later its events may come back in other company, and be there twice until
// parts are merged.
func (c *Connector) twice(ctx context.Context, request httpcall.Request) *httpcall.Exchange {
	x := c.API.Do(ctx, request)
	if x.Err == nil || x.Class() != connector.Ambiguous || !c.cfg.Dedup || ctx.Err() != nil {
		return x
	}
	again := c.API.Do(ctx, request)
	if outcome(again).Class == connector.Retryable {
		return x // what is not known of the first is not known yet
	}
	return again
}

// run carries out a statement without rows.
func (c *Connector) run(ctx context.Context, statement string) *httpcall.Exchange {
	return c.API.Do(ctx, httpcall.Request{Path: "/", Query: url.Values{"wait_end_of_query": {"1"}}, Body: []byte(statement)})
}

// token names the rows of a call: ClickHouse does not insert again what it has
// inserted under a token that it still knows. The same events in the same order
// have the same one, whatever is in them, as a key on the id would have it.
func token(rows []pending) string {
	hash := sha256.New()
	var length [8]byte
	for i := range rows {
		binary.BigEndian.PutUint64(length[:], uint64(len(rows[i].id)))
		hash.Write(length[:])
		hash.Write([]byte(rows[i].id))
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

func body(rows []pending) []byte {
	size := 0
	for i := range rows {
		size += len(rows[i].line)
	}
	b := make([]byte, 0, size)
	for i := range rows {
		b = append(b, rows[i].line...)
	}
	return b
}
