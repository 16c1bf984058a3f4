package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/settings"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
)

// Config are the settings of a PostgreSQL destination, as they stand in the
// destinations file. All may be left out.
type Config struct {
	// URL is the address, postgres://user:password@host:5432/database, with
	// the parameters of libpq and of pgxpool (pool_max_conns). What it leaves
	// out comes from the environment (PGHOST, PGUSER, PGPASSWORD, …).
	URL string `json:"url" doc:"postgres://user:password@host:5432/database with the parameters of libpq; what it leaves out comes from PGHOST, PGUSER, PGPASSWORD, …"`
	// Table is where events go, "table" or "schema.table". Default "events".
	Table string `json:"table" validate:"required" doc:"where events go: table, or schema.table"`
	// CreateTable creates the table if it is missing. Default true.
	CreateTable bool `json:"create_table" doc:"create the table if it is missing; the schema must exist"`
	// Key are the columns of the unique key by which the table tells an event
	// that it has. Default "id" alone. A partitioned table needs the column it is
	// partitioned by in it.
	Key []string `json:"key" validate:"min=1" doc:"columns of the table's unique key, id among them; more than id for a partitioned table"`
	// Privacy is applied before all else.
	Privacy mapping.Privacy `json:"privacy" doc:"what is removed from events or hashed first: drop, hash, salt, ip; see mapping"`
	filter  *mapping.Filter
}

// DefaultConfig returns the settings that hold where none are given.
func DefaultConfig() Config { return Config{Table: "events", CreateTable: true, Key: []string{"id"}} }

// Timeouts, the inner ones shorter, so that the result can say which part was
// slow.
const (
	callTimeout = 30 * time.Second
	// statementTimeout is kept by the server: it gives up by itself what
	// nobody waits for any more.
	statementTimeout = 20 * time.Second
	connectTimeout   = 10 * time.Second
)

// maxConns is the most connections, unless the URL says pool_max_conns. A
// database has few to give, and one call carries thousands of events.
const maxConns = 4

func parseConfig(raw json.RawMessage) (Config, *pgxpool.Config, table, error) {
	cfg := DefaultConfig()
	faults := []error{settings.Decode(raw, &cfg)}
	filter, err := mapping.NewFilter(cfg.Privacy)
	if cfg.filter = filter; err != nil {
		faults = append(faults, err)
	}
	table, err := parseTable(cfg.Table)
	if err != nil && cfg.Table != "" { // or it is said already that it is required
		faults = append(faults, fmt.Errorf("table: %w", err))
	}
	faults = append(faults, checkKey(cfg.Key))
	pool, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		// The parser's error quotes the address, which holds the password.
		faults = append(faults, errors.New("url: is not an address such as postgres://user:password@host:5432/database, "+
			"or a parameter or PG* variable with it is wrong"))
		return cfg, nil, table, errors.Join(faults...)
	}
	if !strings.Contains(cfg.URL, "pool_max_conns") {
		pool.MaxConns = maxConns
	}
	pool.MaxConnIdleTime = 5 * time.Minute
	if pool.ConnConfig.ConnectTimeout <= 0 || pool.ConnConfig.ConnectTimeout > connectTimeout {
		pool.ConnConfig.ConnectTimeout = connectTimeout
	}
	parameters := pool.ConnConfig.RuntimeParams
	for name, value := range map[string]string{
		"application_name":  "sluice",
		"statement_timeout": strconv.FormatInt(statementTimeout.Milliseconds(), 10),
	} {
		if parameters[name] == "" {
			parameters[name] = value
		}
	}
	return cfg, pool, table, errors.Join(faults...)
}

// checkKey reports columns that cannot be the key of a table.
func checkKey(key []string) error {
	for i, column := range key {
		if !slices.Contains(warehouse.Columns[:], column) || slices.Contains(key[:i], column) {
			return fmt.Errorf("key: must name columns once each, of %s", strings.Join(warehouse.Columns[:], ", "))
		}
	}
	if len(key) > 0 && !slices.Contains(key, "id") {
		return errors.New("key: must have id")
	}
	return nil
}

// maxIdentifier is the longest name of PostgreSQL in bytes (NAMEDATALEN - 1);
// it cuts longer ones silently.
const maxIdentifier = 63

// table is the name of a table, with or without a schema.
type table pgx.Identifier

// parseTable reads "table" or "schema.table". Names are taken as they are, case
// included, and quoted where they are used.
func parseTable(name string) (table, error) {
	parts := strings.Split(name, ".")
	if len(parts) > 2 {
		return nil, errors.New(`must be "table" or "schema.table"`)
	}
	for _, part := range parts {
		switch {
		case part == "":
			return nil, errors.New(`must be "table" or "schema.table"`)
		case len(part) > maxIdentifier:
			return nil, fmt.Errorf("a name may have %d bytes", maxIdentifier)
		case !utf8.ValidString(part) || strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || r == '"' || r == 0x7f }):
			return nil, errors.New("has characters that a name should not have")
		}
	}
	return table(parts), nil
}

// String returns the name, quoted for SQL.
func (t table) String() string { return pgx.Identifier(t).Sanitize() }

// columnNames are the columns of a statement.
var columnNames = strings.Join(warehouse.Columns[:], ", ")

// columnDefinitions are the columns of the embedded warehouse, with the types
// that PostgreSQL has for them.
const columnDefinitions = `
	id           text NOT NULL,
	type         text NOT NULL,
	name         text NOT NULL,
	user_id      text,
	anonymous_id text,
	timestamp    timestamptz,
	received_at  timestamptz,
	source       text,
	data         jsonb NOT NULL,
	context      jsonb NOT NULL`

// statements are the SQL for one table. They need no prepared statement and no
// state of the connection, so that a pool may stand between us and the server.
type statements struct {
	// create makes the table.
	create string
	// insert stores the rows in one array per column, and returns the ids of
	// those that are new. The arrays are taken apart in the select list, not in
	// FROM, where the server would write all of them down first.
	insert string
	// copy begins a transaction in which rows are copied to a temporary table,
	// and merge moves them from there, returns ids as insert does, and commits.
	// The temporary table is made by the first transaction of a connection and
	// emptied at the end of each.
	copy, merge string
	// ask has the server plan insert, and not carry it out: the table, its
	// columns, its key and the rights to it must be there.
	ask string
}

func newStatements(t table, key []string) statements {
	const staging = "sluice_staging"
	into := `INSERT INTO ` + t.String() + ` (` + columnNames + `)` + "\n"
	kept := "\n" + `ON CONFLICT (` + strings.Join(key, ", ") + `) DO NOTHING RETURNING id`
	s := statements{
		create: `CREATE TABLE IF NOT EXISTS ` + t.String() + ` (` + columnDefinitions + `,
	PRIMARY KEY (` + strings.Join(key, ", ") + `)
)`,
		insert: into + `SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[]),
	unnest($6::timestamptz[]), unnest($7::timestamptz[]), unnest($8::text[]), unnest($9::jsonb[]), unnest($10::jsonb[])` + kept,
		copy: `BEGIN;
CREATE TEMPORARY TABLE IF NOT EXISTS ` + staging + ` (` + columnDefinitions + `
) ON COMMIT DELETE ROWS;
COPY pg_temp.` + staging + ` (` + columnNames + `) FROM STDIN (FORMAT binary)`,
		merge: into + `SELECT ` + columnNames + ` FROM pg_temp.` + staging + kept + `;
COMMIT`,
	}
	s.ask = "EXPLAIN " + s.insert
	return s
}
