package simulator

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// The account, and the server that is simulated.
const (
	clickhouseUser     = "sluice"
	clickhousePassword = "simulated-clickhouse-key-0001" //nolint:gosec // a secret of nobody
	clickhouseDatabase = "default"
	clickhouseVersion  = "26.5.1.1"
	// clickhouseInsert bounds the unpacked body of an INSERT; ClickHouse has no such
	// bound.
	clickhouseInsert = 256 << 20
)

// clickhouse is the HTTP interface of a ClickHouse server with one user and one
// database, and of its engine what an INSERT of TabSeparated needs.
type clickhouse struct {
	shelf *shelf

	mu     sync.Mutex
	tables map[string]*clickhouseTable // by name, in the one database
}

func newClickhouse(s *shelf) *clickhouse {
	return &clickhouse{shelf: s, tables: make(map[string]*clickhouseTable)}
}

func (*clickhouse) settings(baseURL string) any {
	return struct {
		URL      string `json:"url"`
		User     string `json:"user"`
		Password string `json:"password"`
	}{baseURL, clickhouseUser, clickhousePassword}
}

// exception is an error of ClickHouse: its number and its text. row is set if it
// is about one row.
type exception struct {
	code int
	text string
	row  bool
}

func (e *exception) Error() string { return e.text }

func excepted(code int, format string, args ...any) *exception {
	return &exception{code: code, text: fmt.Sprintf(format, args...)}
}

// The numbers that are used, their names and statuses. Sources: ClickHouse,
// src/Common/ErrorCodes.cpp and src/Server/HTTP/exceptionCodeToHTTPStatus.cpp
// (read 2026-11).
const (
	cannotParseInput     = 27
	cannotParseDateTime  = 41
	noSuchColumn         = 16
	unknownType          = 50
	tableAlreadyExists   = 57
	unknownTable         = 60
	syntaxError          = 62
	unknownFormat        = 73
	unknownDatabase      = 81
	incorrectData        = 117
	timeoutExceeded      = 159
	tooManyQueries       = 202
	queryIsTooLarge      = 229
	memoryLimitExceeded  = 241
	tooManyParts         = 252
	accessDenied         = 497
	authenticationFailed = 516
	requiredPassword     = 194
	notImplemented       = 48
)

var clickhouseErrors = map[int]struct {
	name   string
	status int
}{
	cannotParseInput: {"CANNOT_PARSE_INPUT_ASSERTION_FAILED", 400}, cannotParseDateTime: {"CANNOT_PARSE_DATETIME", 400},
	incorrectData: {"INCORRECT_DATA", 400}, syntaxError: {"SYNTAX_ERROR", 400},
	requiredPassword: {"REQUIRED_PASSWORD", 401}, accessDenied: {"ACCESS_DENIED", 403}, authenticationFailed: {"AUTHENTICATION_FAILED", 403},
	unknownType: {"UNKNOWN_TYPE", 404}, unknownTable: {"UNKNOWN_TABLE", 404}, unknownFormat: {"UNKNOWN_FORMAT", 404}, unknownDatabase: {"UNKNOWN_DATABASE", 404},
	timeoutExceeded: {"TIMEOUT_EXCEEDED", 408}, queryIsTooLarge: {"QUERY_IS_TOO_LARGE", 413}, notImplemented: {"NOT_IMPLEMENTED", 501},
	noSuchColumn: {"NO_SUCH_COLUMN_IN_TABLE", 500}, tableAlreadyExists: {"TABLE_ALREADY_EXISTS", 500}, tooManyQueries: {"TOO_MANY_SIMULTANEOUS_QUERIES", 500},
	memoryLimitExceeded: {"MEMORY_LIMIT_EXCEEDED", 500}, tooManyParts: {"TOO_MANY_PARTS", 500},
}

// clickhouseSays is an answer with the headers that a server sends with each.
func clickhouseSays(status int, body string) answer {
	return typed(status, "text/tab-separated-values; charset=UTF-8", []byte(body)).
		with("X-ClickHouse-Server-Display-Name", "simulated").
		with("X-ClickHouse-Summary", `{"read_rows":"0","read_bytes":"0","written_rows":"0","written_bytes":"0"}`)
}

func clickhouseFails(e *exception) answer {
	means := clickhouseErrors[e.code]
	text := fmt.Sprintf("Code: %d. DB::Exception: %s (%s) (version %s)\n", e.code, e.text, means.name, clickhouseVersion)
	return clickhouseSays(means.status, text).
		with("Content-Type", "text/plain; charset=UTF-8").
		with("X-ClickHouse-Exception-Code", fmt.Sprint(e.code))
}

func (*clickhouse) denied(*call) answer {
	return clickhouseFails(excepted(authenticationFailed,
		"%s: Authentication failed: password is incorrect, or there is no user with such name.", clickhouseUser))
}

// throttled says that there is too much to do, in one of two ways: merges do not
// keep up, or there are too many queries at once. Neither names a wait.
func (*clickhouse) throttled(c *call, _ time.Duration) answer {
	if c.share(flavourShare) < 0.5 {
		return clickhouseFails(excepted(tooManyQueries, "Too many simultaneous queries. Maximum: 100."))
	}
	return clickhouseFails(excepted(tooManyParts, "Too many parts (3000 with average size of 1.00 KiB) in table '%s.events'. "+
		"Merges are processing significantly slower than inserts.", clickhouseDatabase))
}

func (ch *clickhouse) status(c *call, code int) answer {
	for status, e := range map[int]*exception{
		http.StatusBadRequest:            excepted(cannotParseInput, `Cannot parse input: expected '\t' before: 'x'`),
		http.StatusUnauthorized:          excepted(requiredPassword, "%s: Authentication failed: password is required", clickhouseUser),
		http.StatusForbidden:             excepted(accessDenied, "%s: Not enough privileges.", clickhouseUser),
		http.StatusNotFound:              excepted(unknownTable, "Table %s.events does not exist.", clickhouseDatabase),
		http.StatusRequestTimeout:        excepted(timeoutExceeded, "Timeout exceeded: elapsed 30 seconds, maximum: 30"),
		http.StatusRequestEntityTooLarge: excepted(queryIsTooLarge, "Query is too large"),
		http.StatusInternalServerError:   excepted(memoryLimitExceeded, "(total) memory limit exceeded: would use 8.00 GiB, maximum: 7.20 GiB."),
		http.StatusNotImplemented:        excepted(notImplemented, "Not implemented"),
	} {
		if status == code {
			return clickhouseFails(e)
		}
	}
	if code == http.StatusTooManyRequests { // of a proxy: ClickHouse has no such status
		return edge(code).with("Retry-After", seconds(c.trouble.Wait, time.Second))
	}
	return edge(code)
}

func (ch *clickhouse) serve(c *call) answer {
	switch {
	case c.r.URL.Path == "/ping":
		return clickhouseSays(http.StatusOK, "Ok.\n")
	case c.r.URL.Path != "/":
		return clickhouseSays(http.StatusNotFound, "There is no handle "+c.r.URL.Path+"\n").with("Content-Type", "text/plain; charset=UTF-8")
	case c.r.Method != http.MethodPost:
		return bare(http.StatusMethodNotAllowed)
	case !ch.knows(c):
		return ch.denied(c)
	}
	body, err := c.body(clickhouseInsert, true)
	switch {
	case err == errTooLarge:
		return edge(http.StatusRequestEntityTooLarge)
	case err != nil:
		return clickhouseFails(excepted(incorrectData, "Cannot read the body: %v", err))
	}
	rows, err := ch.run(c, body)
	if e, ok := errors.AsType[*exception](err); ok {
		if e.row {
			ch.shelf.refuse(1)
		}
		return clickhouseFails(e)
	}
	return clickhouseSays(http.StatusOK, rows)
}

// knows reports whether user and password are right. They are in headers, in
// Basic authentication, or in the query. Source: ClickHouse, HTTP Interface
// (read 2026-11).
func (ch *clickhouse) knows(c *call) bool {
	user, password := c.r.Header.Get("X-ClickHouse-User"), c.r.Header.Get("X-ClickHouse-Key")
	if user == "" && password == "" {
		var ok bool
		if user, password, ok = c.r.BasicAuth(); !ok {
			user, password = c.query("user"), c.query("password")
		}
	}
	return user == clickhouseUser && password == clickhousePassword
}

// Statements that are understood.
var (
	insertStatement = regexp.MustCompile(`(?is)^\s*INSERT\s+INTO\s+(?:TABLE\s+)?([^\s(]+)\s*(?:\(([^)]*)\))?\s*FORMAT\s+(\w+)\s*$`)
	createStatement = regexp.MustCompile(`(?is)^\s*CREATE\s+TABLE\s+(IF\s+NOT\s+EXISTS\s+)?([^\s(]+)\s*(\(.*)$`)
	systemStatement = regexp.MustCompile(`(?is)^\s*SELECT\s+(\w+)\s+FROM\s+system\.(columns|databases|tables)\s+WHERE\s+(.*?)\s*;?\s*$`)
	whoStatement    = regexp.MustCompile(`(?is)^\s*SELECT\s+currentUser\(\)\s*,\s*version\(\)\s*,\s*currentDatabase\(\)\s*;?\s*$`)
	grantStatement  = regexp.MustCompile(`(?is)^\s*CHECK\s+GRANT\s+\w+(?:\s+TABLE)?\s+ON\s+\S+\s*;?\s*$`)
	condition       = regexp.MustCompile(`(?is)^\s*(\w+)\s*=\s*'((?:[^'\\]|\\.)*)'\s*(?:AND\s+|$)`)
)

// run carries a statement out and returns the rows of its answer. The statement is
// the parameter query with the body behind it; of an INSERT the body is its rows.
func (ch *clickhouse) run(c *call, body []byte) (string, error) {
	statement := c.query("query")
	if m := insertStatement.FindStringSubmatch(statement); m != nil {
		return "", ch.insert(c, m[1], m[2], m[3], body)
	}
	if len(body) > 0 {
		statement = strings.TrimPrefix(statement+"\n"+string(body), "\n")
	}
	if m := createStatement.FindStringSubmatch(statement); m != nil {
		return "", ch.create(m[2], m[3], m[1] != "")
	}
	if m := systemStatement.FindStringSubmatch(statement); m != nil {
		return ch.ask(strings.ToLower(m[2]), m[1], m[3])
	}
	switch {
	case whoStatement.MatchString(statement):
		return clickhouseUser + "\t" + clickhouseVersion + "\t" + clickhouseDatabase + "\n", nil
	case grantStatement.MatchString(statement):
		return "1\n", nil // the user may do everything
	}
	return "", excepted(syntaxError, "Syntax error: the simulator knows INSERT … FORMAT TabSeparated, CREATE TABLE, CHECK GRANT and some of system, and not %q.",
		beginning([]byte(statement)))
}

// ask answers a question about what there is.
func (ch *clickhouse) ask(about, column, conditions string) (string, error) {
	where := map[string]string{}
	for conditions != "" {
		m := condition.FindStringSubmatch(conditions)
		if m == nil {
			return "", excepted(syntaxError, "Syntax error: failed at %q.", conditions)
		}
		where[strings.ToLower(m[1])], conditions = unescapeTSV(m[2]), conditions[len(m[0]):]
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	here := where["database"] == clickhouseDatabase
	table := ch.tables[cmp.Or(where["table"], where["name"])]
	var rows strings.Builder
	switch about + " " + strings.ToLower(column) {
	case "databases name":
		for _, name := range []string{clickhouseDatabase, "system"} {
			if where["name"] == "" || where["name"] == name {
				rows.WriteString(name + "\n")
			}
		}
	case "columns name":
		if here && table != nil {
			for i := range table.columns {
				rows.WriteString(escapeTSV(table.columns[i].name) + "\n")
			}
		}
	case "tables name":
		if here && table != nil {
			rows.WriteString(escapeTSV(table.name) + "\n")
		}
	case "tables engine_full":
		if here && table != nil {
			rows.WriteString(escapeTSV(table.engine) + "\n")
		}
	default:
		return "", excepted(syntaxError, "Syntax error: the simulator does not know the column %s of system.%s.", column, about)
	}
	return rows.String(), nil
}

// tableName reads `database`.`table` and checks that the database is there.
func tableName(text string) (string, error) {
	parts := strings.Split(text, ".")
	for i, part := range parts {
		parts[i] = unquoteName(part)
	}
	switch {
	case len(parts) > 2 || slices.Contains(parts, ""):
		return "", excepted(syntaxError, "Syntax error: failed at %s", text)
	case len(parts) == 2 && parts[0] != clickhouseDatabase:
		return "", excepted(unknownDatabase, "Database %s does not exist.", parts[0])
	}
	return parts[len(parts)-1], nil
}

// unquoteName reads an identifier.
func unquoteName(text string) string {
	if n := len(text); n >= 2 && (text[0] == '`' || text[0] == '"') && text[n-1] == text[0] {
		return text[1 : n-1]
	}
	return text
}

func (ch *clickhouse) create(name, definition string, ifNotExists bool) error {
	name, err := tableName(name)
	if err != nil {
		return err
	}
	table, err := newClickhouseTable(name, definition)
	if err != nil {
		return err
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	switch {
	case ch.tables[name] == nil:
		ch.tables[name] = table
	case !ifNotExists:
		return excepted(tableAlreadyExists, "Table %s.%s already exists.", clickhouseDatabase, name)
	}
	return nil
}

// insert stores rows, all or none.
func (ch *clickhouse) insert(c *call, name, list, format string, body []byte) error {
	name, err := tableName(name)
	if err != nil {
		return err
	}
	if f := strings.ToLower(format); f != "tabseparated" && f != "tsv" {
		return excepted(unknownFormat, "Unknown format %s. (the simulator reads TabSeparated)", format)
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	table := ch.tables[name]
	if table == nil {
		return excepted(unknownTable, "Table %s.%s does not exist.", clickhouseDatabase, name)
	}
	columns, err := table.pick(list)
	if err != nil {
		return err
	}
	var items []Item
	for n, last := 1, []string(nil); len(body) > 0; n++ {
		line, rest, _ := bytes.Cut(body, []byte("\n"))
		values := strings.Split(string(line), "\t")
		row, e := parseRow(columns, values)
		if e == nil && c.refuses(row.item()) {
			bad := max(0, slices.IndexFunc(columns, func(k *clickhouseColumn) bool { return k.name == "data" }))
			e = &rowFault{column: bad, code: cannotParseInput, text: "Cannot parse input: expected '\\t' before: '…'", error: "the simulator was told to refuse this row"}
		}
		if e != nil {
			return e.explain(columns, n, last, values)
		}
		items = append(items, row.item())
		last, body = values, rest
	}
	if !table.isNew(c, items) {
		for range items {
			ch.shelf.duplicate()
		}
		return nil
	}
	for _, item := range items {
		// Merges, and a query that says FINAL, see one row of each key.
		if table.keys != nil && !table.keys.add(c.now, item.Name, item.ID) {
			ch.shelf.duplicate()
			continue
		}
		ch.shelf.take(item)
	}
	return nil
}
