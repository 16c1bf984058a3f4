package clickhouse

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/settings"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
)

// Config are the settings of a ClickHouse destination, as they stand in the
// destinations file. Only URL is required.
type Config struct {
	// URL is the address of the HTTP interface, https, or http too if AllowHTTP
	// is set or it leads to this machine.
	URL string `json:"url" validate:"required" doc:"address of the HTTP interface, such as https://clickhouse.example.com:8443"`
	// User and Password are those of ClickHouse. Default "default" without one.
	User     string `json:"user" validate:"required" doc:"user of ClickHouse"`
	Password string `json:"password" doc:"password of the user"`
	// Table is where events go, "table" or "database.table". Default "events" in
	// the user's default database.
	Table string `json:"table" validate:"required" doc:"where events go: table, or database.table"`
	// CreateTable creates the table if it is missing. Default true.
	CreateTable bool `json:"create_table" doc:"create the table if it is missing; the database must exist"`
	// Dedup says that the table collapses rows of the same event, as the one that
	// CreateTable makes does, so that a call whose answer was lost is made again.
	// Default true.
	Dedup bool `json:"dedup" doc:"the table collapses rows of the same event, so that a call whose answer was lost may be made again"`
	// Linger is the longest an event waits for company: ClickHouse wants few large
	// inserts. Default 1s.
	Linger settings.Duration `json:"linger" validate:"min=0,max=1m" doc:"the longest an event waits for company; ClickHouse wants few large inserts"`
	// Compress sends calls compressed with gzip. Default true.
	Compress bool `json:"compress" doc:"send calls compressed with gzip"`
	// AllowHTTP lets the URL be http, that is, readable on the way. Default false.
	AllowHTTP bool `json:"allow_http" doc:"let the url be http, that is, readable on the way"`
	// Query are ClickHouse's own settings for each INSERT, such as
	// {"insert_quorum":"auto"}.
	Query map[string]string `json:"query" doc:"settings of ClickHouse for each INSERT, such as {\"insert_quorum\":\"auto\"}"`
	// Privacy is applied before all else.
	Privacy mapping.Privacy `json:"privacy" doc:"what is removed from events or hashed first: drop, hash, salt, ip; see mapping"`
	filter  *mapping.Filter
}

// DefaultConfig returns the settings that hold where none are given.
func DefaultConfig() Config {
	return Config{User: "default", Table: "events", CreateTable: true, Dedup: true, Linger: settings.Duration(time.Second), Compress: true}
}

// callTimeout bounds one call: an INSERT of maxRows takes less than a second on
// a server that has time.
const callTimeout = 30 * time.Second

// defaultQuery are the settings for each INSERT, unless Config.Query says another
// value. async_insert is on by default in new servers; it collects small inserts,
// which ours are not, and does not know our token.
var defaultQuery = map[string]string{"async_insert": "0", "date_time_input_format": "best_effort"}

// ownQuery are parameters that Config.Query cannot have: they belong to the
// request or to this package.
var ownQuery = []string{
	"query", "query_id", "user", "password", "database", "default_format", "compress", "decompress", "quota_key", "role",
	"session_id", "session_timeout", "session_check", "wait_end_of_query", "buffer_size", "insert_deduplication_token",
}

var settingName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func parseConfig(raw json.RawMessage) (Config, table, error) {
	cfg := DefaultConfig()
	faults := []error{settings.Decode(raw, &cfg)}
	filter, err := mapping.NewFilter(cfg.Privacy)
	if cfg.filter = filter; err != nil {
		faults = append(faults, err)
	}
	table, err := parseTable(cfg.Table)
	if err != nil && cfg.Table != "" {
		faults = append(faults, fmt.Errorf("table: %w", err))
	}
	for name, value := range map[string]string{"user": cfg.User, "password": cfg.Password} {
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			faults = append(faults, fmt.Errorf("%s: has characters that a header cannot have", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Query)) {
		switch {
		case !settingName.MatchString(name):
			faults = append(faults, fmt.Errorf("query: %q is not the name of a setting", name))
		case slices.Contains(ownQuery, name) || strings.HasPrefix(name, "param_"):
			faults = append(faults, fmt.Errorf("query: %s cannot be set", name))
		case name == "wait_for_async_insert" && cfg.Query[name] != "1":
			faults = append(faults, errors.New("query: wait_for_async_insert must be 1: without it the answer does not say whether rows are stored"))
		}
	}
	return cfg, table, errors.Join(faults...)
}

// header is sent with each call. Source: ClickHouse, HTTP interface.
func (c *Config) header() http.Header {
	return http.Header{"X-Clickhouse-User": {c.User}, "X-Clickhouse-Key": {c.Password}, "Content-Type": {"text/tab-separated-values; charset=utf-8"}}
}

// maxName is the longest name of a database or table: it is the name of a file
// too, in which each byte outside [a-zA-Z0-9_] takes three.
const maxName = 80

// table is the name of a table; database may be empty.
type table struct{ database, name string }

// parseTable reads "table" or "database.table". Names are taken as they are and
// quoted where they are used.
func parseTable(text string) (table, error) {
	database, name, both := strings.Cut(text, ".")
	if !both {
		database, name = "", text
	}
	for _, part := range []string{database, name} {
		switch {
		case part == "" && (both || part == name), strings.Contains(part, "."):
			return table{}, errors.New(`must be "table" or "database.table"`)
		case len(part) > maxName:
			return table{}, fmt.Errorf("a name may have %d bytes", maxName)
		case !utf8.ValidString(part) || strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || strings.ContainsRune("`'\"\\\x7f", r) }):
			return table{}, errors.New("has characters that a name should not have")
		}
	}
	return table{database, name}, nil
}

// String returns the name, quoted for SQL.
func (t table) String() string {
	if t.database == "" {
		return "`" + t.name + "`"
	}
	return "`" + t.database + "`.`" + t.name + "`"
}

// create is the statement that makes the table: the columns of the embedded
// warehouse, with the types that ClickHouse has for them. Rows of the same event
// have the same place in the order, where merges find and collapse them; ids of
// the gateway begin with their time, so that the rows of a name are in the order
// of time as well, and the index of received_at finds its days. The window is
// the number of insertions whose token a table that is not replicated keeps.
func (t table) create() string {
	return "CREATE TABLE IF NOT EXISTS " + t.String() + ` (
	id           String,
	type         LowCardinality(String),
	name         LowCardinality(String),
	user_id      Nullable(String),
	anonymous_id Nullable(String),
	timestamp    Nullable(DateTime64(6, 'UTC')),
	received_at  DateTime64(6, 'UTC'),
	source       LowCardinality(Nullable(String)),
	data         String,
	context      String,
	INDEX received_at_range received_at TYPE minmax
)
ENGINE = ReplacingMergeTree(received_at)
ORDER BY (name, id)
SETTINGS non_replicated_deduplication_window = 10000`
}

// insert is the statement whose rows follow in the body. TabSeparated is shorter
// than JSONEachRow, for the quotes of data need no escape; and unlike RowBinary it says nothing of the types of the columns: data
// may be a String or a JSON.
func (t table) insert() string {
	return "INSERT INTO " + t.String() + " (" + strings.Join(warehouse.Columns[:], ", ") + ") FORMAT TabSeparated"
}

// api returns the way to the server.
func (c *Config) api() httpcall.APIConfig {
	return httpcall.APIConfig{
		Endpoint: c.URL, Address: "url", Credentials: "user and password", AllowHTTP: c.AllowHTTP,
		Header: c.header(), Secrets: []string{c.Password}, Timeout: callTimeout, MaxConns: maxCalls,
	}
}
