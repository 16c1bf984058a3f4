package simulator

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// clickhouseEvents is the definition of a table as somebody may have it.
const clickhouseEvents = `(
	id          String,
	name        LowCardinality(String) CODEC(ZSTD(3)),
	user_id     Nullable(String),
	timestamp   Nullable(DateTime64(6, 'UTC')),
	received_at DateTime64(3) DEFAULT now64(),
	n           UInt8,
	data        JSON,
	INDEX received_at_range received_at TYPE minmax
)
ENGINE = ReplacingMergeTree(received_at)
ORDER BY (name, id)
SETTINGS non_replicated_deduplication_window = 100`

var clickhouseKey = map[string]string{"X-ClickHouse-User": clickhouseUser, "X-ClickHouse-Key": clickhousePassword, "Content-Type": "text/plain"}

// clickhouseLine is a row of TabSeparated with changes, names and values in turns.
func clickhouseLine(changes ...string) string {
	names := []string{"id", "name", "user_id", "timestamp", "received_at", "n", "data"}
	values := []string{"e1", "order", "u1", "2026-11-23T10:00:00Z", "2026-11-23 10:00:00.125", "7", `{"total":1.50}`}
	for i := 0; i < len(changes); i += 2 {
		for j := range names {
			if names[j] == changes[i] {
				values[j] = changes[i+1]
			}
		}
	}
	return strings.Join(values, "\t") + "\n"
}

// insert is a call that inserts lines; settings are "a=b&c=d".
func insert(lines string, settings ...string) request {
	return request{
		path: "/?query=" + url.QueryEscape("INSERT INTO `default`.`events` (id, name, user_id, timestamp, received_at, n, data) FORMAT TabSeparated") +
			strings.Join(append([]string{""}, append(settings, "async_insert=0")...), "&"), // the first counts
		body: lines, header: clickhouseKey,
	}
}

func statement(text string) request { return request{path: "/", body: text, header: clickhouseKey} }

func TestClickhouseTakesRowsByTheirTypes(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "clickhouse", nil)
	got := v.call(t, insert(clickhouseLine()+
		clickhouseLine("id", `a\tb\\c\n`, "user_id", `\N`, "timestamp", `\N`, "received_at", `\N`, "n", `\N`, "data", `{"a":["\\ud83d\\ude00"]}`)+
		strings.TrimSuffix(clickhouseLine("id", "e3", "timestamp", "2026-11-23T11:00:00.12345678+01:00", "n", "300", "received_at", "0001-01-01T00:00:00Z"), "\n")))
	got.wants(t, 200)
	if got.body != "" || got.header.Get("X-ClickHouse-Summary") == "" {
		t.Errorf("%+v", got)
	}
	v.wantItems(t, "row order u1 e1", "row order  a\tb\\c\n", "row order u1 e3")
	for i, want := range []string{
		`{"data":{"total":1.50},"id":"e1","n":7,"name":"order","received_at":"2026-11-23 10:00:00.125","timestamp":"2026-11-23 10:00:00.000000","user_id":"u1"}`,
		`{"data":{"a":["\ud83d\ude00"]},"id":"a\tb\\c\n","n":0,"name":"order","received_at":"1970-01-01 00:00:00.000","timestamp":null,"user_id":null}`,
		`{"data":{"total":1.50},"id":"e3","n":44,"name":"order","received_at":"1900-01-01 00:00:00.000","timestamp":"2026-11-23 10:00:00.123456","user_id":"u1"}`,
	} {
		if body := string(v.Received()[i].Body); body != want {
			t.Errorf("row %d is %s, want %s", i, body, want)
		}
	}
	gzipped := insert(clickhouseLine("id", "e4"))
	gzipped.gzip = true
	v.call(t, gzipped).wants(t, 200)
}

// One row that cannot be read is named, and keeps all others out.
func TestClickhouseNamesTheRowThatItCannotRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		line   string
		code   string
		column string // the last that is shown
	}{
		"no time":        {clickhouseLine("timestamp", "yesterday"), "41", "timestamp"},
		"no such date":   {clickhouseLine("timestamp", "2026-11-31T10:00:00Z"), "41", "timestamp"},
		"behind a time":  {clickhouseLine("received_at", "2026-11-23T10:00:00,5Z"), "27", "received_at"},
		"no number":      {clickhouseLine("n", "x"), "27", "n"},
		"no JSON":        {clickhouseLine("data", "{"), "117", "data"},
		"no object":      {clickhouseLine("data", "[1]"), "117", "data"},
		"a column less":  {"e1\torder\n", "27", "name"},
		"a column more":  {strings.TrimSuffix(clickhouseLine(), "\n") + "\tx\n", "27", "data"},
		"an empty line":  {"\n", "27", "id"},
		"told to refuse": {clickhouseLine("id", "bad"), "27", "data"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendor(t, "clickhouse", nil)
			v.Trouble(Trouble{Refuse: func(id string) bool { return id == "bad" }})
			got := v.call(t, insert(clickhouseLine("id", "before")+test.line+clickhouseLine("id", "after")))
			got.wants(t, 400, "Code: "+test.code+". DB::Exception: ", ": (at row 2)\n: \nRow 1:\nColumn 0,   name: id, ", "\n\nRow 2:\n", "\nERROR", "(version 26.5.1.1)\n")
			if got.header.Get("X-ClickHouse-Exception-Code") != test.code {
				t.Errorf("header %v", got.header)
			}
			columns := strings.Split(got.body, "name: ")
			if last := columns[len(columns)-1]; !strings.HasPrefix(last, test.column+",") {
				t.Errorf("the last column is %s, want %s", last, test.column)
			}
			v.wantItems(t)
			if c := v.Counts(); c.Refused != 1 {
				t.Errorf("%+v", c)
			}
		})
	}
}

func TestClickhouseKnowsTokensAndReplacesRows(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "clickhouse", nil)
	two := clickhouseLine("id", "1") + clickhouseLine("id", "2")
	for i, step := range []struct {
		request
		rows, duplicates int
	}{
		{insert(two, "insert_deduplication_token=a"), 2, 0},
		{insert(two, "insert_deduplication_token=a"), 2, 2},                                                 // the token
		{insert(clickhouseLine("id", "other"), "insert_deduplication_token=a"), 2, 3},                       // whatever is in it
		{insert(two, "insert_deduplication_token=b"), 2, 5},                                                 // the key
		{insert(clickhouseLine("id", "3")+clickhouseLine("id", "2"), "insert_deduplication_token=c"), 3, 6}, // one of each
		{insert(clickhouseLine("id", "3", "name", "another")), 4, 6},                                        // another key
		{insert(clickhouseLine("id", "3", "name", "another")), 4, 7},                                        // the rows themselves
		{insert(clickhouseLine("id", "4"), "async_insert=1", "insert_deduplication_token=d"), 5, 7},         // collected
		{insert(clickhouseLine("id", "5"), "insert_deduplication_token=d"), 6, 7},                           // so that it was not noted
		{insert("", "insert_deduplication_token=e"), 6, 7},                                                  // nothing
		{statement("CREATE TABLE IF NOT EXISTS events (x String) ENGINE = MergeTree ORDER BY x"), 6, 7},     // is there
		{statement("CREATE TABLE plain (id String, name String) ENGINE = MergeTree ORDER BY id"), 6, 7},     // keeps all
		{request{path: "/?query=INSERT+INTO+plain+FORMAT+TSV", body: "1\tx\n1\tx\n", header: clickhouseKey}, 8, 7},
	} {
		v.call(t, step.request).wants(t, 200)
		if c := v.Counts(); len(v.Received()) != step.rows || c.Duplicates != int64(step.duplicates) {
			t.Errorf("step %d: %d rows, %+v", i, len(v.Received()), c)
		}
	}
}

func TestClickhouseForgetsTokensBeyondItsWindow(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "clickhouse", nil)
	v.call(t, statement("CREATE TABLE short (id String, name String) ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 2")).wants(t, 200)
	for i, token := range []string{"a", "b", "a", "c", "a"} {
		v.call(t, request{path: "/?query=INSERT+INTO+short+FORMAT+TSV&async_insert=0&insert_deduplication_token=" + token, body: strconv.Itoa(i) + "\tx\n", header: clickhouseKey}).wants(t, 200)
	}
	v.wantItems(t, "row x  0", "row x  1", "row x  3", "row x  4")
}

func TestClickhouseAnswersWhatAClientAsks(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "clickhouse", nil)
	for _, test := range []struct {
		request
		status int
		says   string
	}{
		{statement("SELECT currentUser(), version(), currentDatabase()"), 200, "sluice\t26.5.1.1\tdefault\n"},
		{statement("SELECT name FROM system.columns WHERE database = 'default' AND table = 'events'"), 200, "id\nname\nuser_id\ntimestamp\nreceived_at\nn\ndata\n"},
		{statement("SELECT name FROM system.columns WHERE database = 'default' AND table = 'x'"), 200, ""},
		{statement("SELECT name FROM system.databases WHERE name = 'default'"), 200, "default\n"},
		{statement("SELECT name FROM system.databases WHERE name = 'nowhere'"), 200, ""},
		{statement("SELECT engine_full FROM system.tables WHERE database = 'default' AND name = 'events'"), 200,
			"ReplacingMergeTree(received_at) ORDER BY (name, id) SETTINGS non_replicated_deduplication_window = 100\n"},
		{statement("CHECK GRANT INSERT ON `default`.`events`"), 200, "1\n"},
		{request{method: "GET", path: "/ping"}, 200, "Ok.\n"},
		{request{path: "/nowhere", header: clickhouseKey}, 404, "There is no handle /nowhere\n"},
		{statement("DROP TABLE events"), 400, "Code: 62. "},
		{statement("CREATE TABLE events (x String) ENGINE = MergeTree ORDER BY x"), 500, "Code: 57. "},
		{statement("CREATE TABLE t (x Strong) ENGINE = MergeTree ORDER BY x"), 404, "Code: 50. DB::Exception: Unknown data type family: Strong (UNKNOWN_TYPE)"},
		{statement("CREATE TABLE t (x String) ENGINE = Memory"), 400, "Code: 62. "},
		{statement("CREATE TABLE t (x String"), 400, "Code: 62. "},
		{request{path: "/?query=INSERT+INTO+nothing+FORMAT+TSV", body: "x\n", header: clickhouseKey}, 404, "Code: 60. DB::Exception: Table default.nothing does not exist. (UNKNOWN_TABLE)"},
		{request{path: "/?query=INSERT+INTO+nowhere.events+FORMAT+TSV", body: "x\n", header: clickhouseKey}, 404, "Code: 81. DB::Exception: Database nowhere does not exist. (UNKNOWN_DATABASE)"},
		{request{path: "/?query=INSERT+INTO+events+(context)+FORMAT+TSV", body: "x\n", header: clickhouseKey}, 500, "Code: 16. DB::Exception: No such column context in table default.events. (NO_SUCH_COLUMN_IN_TABLE)"},
		{request{path: "/?query=INSERT+INTO+events+FORMAT+CSV", body: "x\n", header: clickhouseKey}, 404, "Code: 73. "},
		{insert(clickhouseLine()).altered("X-ClickHouse-Key", "wrong"), 403, "Code: 516. DB::Exception: sluice: Authentication failed"},
		{insert(clickhouseLine()).altered("X-ClickHouse-User", "nobody"), 403, "Code: 516. "},
		{request{path: "/", body: "SELECT name FROM system.databases WHERE name = 'default'", header: basic(clickhouseUser, clickhousePassword)}, 200, "default\n"},
		{request{path: "/?user=sluice&password=" + clickhousePassword, body: "CHECK GRANT INSERT ON events"}, 200, "1\n"},
	} {
		got := v.call(t, test.request)
		got.wants(t, test.status, test.says)
		if test.status == 200 && got.body != test.says || got.header.Get("X-ClickHouse-Server-Display-Name") == "" {
			t.Errorf("%s: %+v", test.body, got)
		}
	}
	v.wantItems(t)
}

func TestClickhouseHasItsOwnWordsForStatuses(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "clickhouse", nil)
	for status, code := range map[int]string{400: "27", 401: "194", 403: "497", 404: "60", 408: "159", 413: "229", 500: "241", 501: "48"} {
		v.Trouble(Trouble{Status: status})
		if got := v.call(t, insert(clickhouseLine())); got.status != status || got.header.Get("X-ClickHouse-Exception-Code") != code {
			t.Errorf("%d: %+v", status, got)
		}
	}
	v.Trouble(Trouble{})
	var settings struct{ URL, User, Password string }
	if err := json.Unmarshal(v.Settings("http://127.0.0.1:1"), &settings); err != nil || settings.User != clickhouseUser || settings.Password != clickhousePassword {
		t.Errorf("%+v, %v", settings, err)
	}
}

// A value that is written is read again as it was.
func FuzzTabSeparated(f *testing.F) {
	for _, s := range []string{"", `\N`, "a\tb\nc\r\\d\x00e'", `\\t`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got := unescapeTSV(escapeTSV(text)); got != text || strings.ContainsAny(escapeTSV(text), "\t\n") {
			t.Errorf("%q became %q", text, got)
		}
	})
}
