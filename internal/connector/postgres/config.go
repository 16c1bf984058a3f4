package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/eventsluice/sluice/internal/connector/settings"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
)

// Config are the settings of a PostgreSQL destination, as they stand in the
// destinations file. All may be left out.
type Config struct {
	// URL is the address, postgres://user:password@host:5432/database, with
	// the parameters of libpq and of pgxpool (pool_max_conns). What it leaves
	// out comes from the environment (PGHOST, PGUSER, PGPASSWORD, …).
	URL string `json:"url"`
	// Table is where events go, "table" or "schema.table". Default "events".
	Table string `json:"table" validate:"required"`
	// CreateTable creates the table if it is missing. Default true.
	CreateTable bool `json:"create_table"`
}

// DefaultConfig returns the settings that hold where none are given.
func DefaultConfig() Config { return Config{Table: "events", CreateTable: true} }

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
// database has few to give, and one call carries a thousand events.
const maxConns = 4

func parseConfig(raw json.RawMessage) (Config, *pgxpool.Config, table, error) {
	cfg := DefaultConfig()
	faults := []error{settings.Decode(raw, &cfg)}
	table, err := parseTable(cfg.Table)
	if err != nil {
		faults = append(faults, fmt.Errorf("table: %w", err))
	}
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

// create is the statement that makes the table: the columns of the embedded
// warehouse, with the types that PostgreSQL has for them.
func (t table) create() string {
	return `CREATE TABLE IF NOT EXISTS ` + t.String() + ` (
	id           text PRIMARY KEY,
	type         text NOT NULL,
	name         text NOT NULL,
	user_id      text,
	anonymous_id text,
	timestamp    timestamptz,
	received_at  timestamptz,
	source       text,
	data         jsonb NOT NULL,
	context      jsonb NOT NULL
)`
}

// insert is the statement that stores any number of rows: one array per
// column. It was measured against COPY into a temporary table and INSERT from
// there, and is twice as fast up to 200 rows and as fast with 1000. It needs
// one round trip, no transaction and no temporary table, and is prepared once.
func (t table) insert() string {
	columns := strings.Join(warehouse.Columns[:], ", ")
	return `INSERT INTO ` + t.String() + ` (` + columns + `)
SELECT e.id, e.type, e.name, e.user_id, e.anonymous_id, e.timestamp, e.received_at, e.source, e.data::jsonb, e.context::jsonb
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::text[], $9::text[], $10::text[])
	AS e(` + columns + `)
ON CONFLICT (id) DO NOTHING RETURNING id`
}
