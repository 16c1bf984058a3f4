package clickhouse

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

func classes(results []connector.Result) []connector.Class {
	list := make([]connector.Class, len(results))
	for i, r := range results {
		list[i] = r.Class
	}
	return list
}

// goldenEvents are what the tests of the exact request send.
func goldenEvents() []connector.Delivery {
	return []connector.Delivery{
		{Event: event.Event{
			ID: "0199f0c2-0000-7000-8000-000000000001", Type: "track", Name: "order_completed", UserID: "u1", AnonymousID: "a1", Source: "web",
			Timestamp: "2026-11-23T11:00:00.1234567+01:00", ReceivedAt: "2026-11-23T10:00:01.125Z",
			Data: []byte(`{"total":1.50,"note":"say \"hi\"","path":"C:\\temp"}`), Context: []byte(`{"locale":"de-AT"}`), Extra: []byte(`"coupon":"X"`),
		}},
		{Event: event.Event{ID: "only-name", Type: "track", Name: "only name", ReceivedAt: "2026-11-23T10:00:01.125Z"}},
		{Event: event.Event{
			ID: `\N`, Type: "page", Name: "tab\there", UserID: "größe\r\n", Timestamp: "0001-01-01T00:00:00Z", ReceivedAt: "2026-11-23T10:00:02Z",
			Data: []byte("{\n\t\"a\": \"\\u0000\"\n}"),
		}},
	}
}

func TestTheRequestIsAsWritten(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(&got, "%s %s\n", r.Method, r.URL.Path)
		query := r.URL.Query()
		for _, name := range slices.Sorted(maps.Keys(query)) {
			fmt.Fprintf(&got, "? %s=%s\n", name, query.Get(name))
		}
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			if name != "Content-Length" {
				fmt.Fprintf(&got, "%s: %s\n", name, r.Header.Get(name))
			}
		}
		body, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		got.WriteByte('\n')
		if _, err := got.ReadFrom(body); err != nil {
			t.Error(err)
		}
		w.Header().Set("X-ClickHouse-Query-Id", "1")
	}))
	defer vendor.Close()
	c := open(t, fmt.Appendf(nil, `{"url":%q,"password":"secret","table":"raw.events","query":{"insert_quorum":"auto"}}`, vendor.URL))
	for _, r := range deliver(t, c, goldenEvents()) {
		if r.Class != connector.Delivered {
			t.Errorf("%+v", r)
		}
	}
	fmt.Fprintf(&got, "\n--- create_table\n%s\n", c.table.create())
	const name = "testdata/request.golden"
	if os.Getenv("SLUICE_UPDATE") == "1" {
		if err := os.WriteFile(name, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s is not what is sent (SLUICE_UPDATE=1 writes it):\n%s", name, got.Bytes())
	}
}

func TestColumnsHoldWhatWasSent(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := open(t, s.settings(t, nil))
	for _, e := range []struct {
		sent event.Event
		want string
	}{
		{goldenEvents()[0].Event, `track|order_completed|u1|a1|2026-11-23 10:00:00.123456|2026-11-23 10:00:01.125000|web|` +
			`{"total":1.50,"note":"say \"hi\"","path":"C:\\temp"}|{"locale":"de-AT","extra":{"coupon":"X"}}`},
		{goldenEvents()[1].Event, `track|only name|-|-|-|2026-11-23 10:00:01.125000|-|{}|{}`},
		{goldenEvents()[2].Event, "page|tab\there|größe\r\n|-|1900-01-01 00:00:00.000000|2026-11-23 10:00:02.000000|-|{\n\t\"a\": \"\\u0000\"\n}|{}"},
		{
			// A character that ends texts in C, in every column.
			event.Event{ID: "a\x00b", Type: "\x00", Name: "\x00", UserID: "\x00", AnonymousID: "\x00", Source: "\x00"},
			"\x00|\x00|\x00|\x00|-|1970-01-01 00:00:00.000000|\x00|{}|{}",
		},
		{event.Event{ID: "past", Name: "n", Timestamp: "1899-12-31T23:59:59.999999Z"}, `|n|-|-|1900-01-01 00:00:00.000000|1970-01-01 00:00:00.000000|-|{}|{}`},
		{event.Event{ID: "first", Name: "n", Timestamp: "1900-01-01T00:00:00.000001Z"}, `|n|-|-|1900-01-01 00:00:00.000001|1970-01-01 00:00:00.000000|-|{}|{}`},
		{event.Event{ID: "last", Name: "n", Timestamp: "2299-12-31T23:59:59.999999999Z"}, `|n|-|-|2299-12-31 23:59:59.999999|1970-01-01 00:00:00.000000|-|{}|{}`},
		{event.Event{ID: "future", Name: "n", Timestamp: "9999-12-31T23:59:59-12:00"}, `|n|-|-|2299-12-31 23:59:59.999999|1970-01-01 00:00:00.000000|-|{}|{}`},
		{event.Event{ID: "exact", Name: "n", Timestamp: "2026-11-23T10:00:00.12345678901234567890Z"}, `|n|-|-|2026-11-23 10:00:00.123456|1970-01-01 00:00:00.000000|-|{}|{}`},
		{
			event.Event{ID: "json", Name: "n", Data: []byte(`{"n":1e400000,"s":"\ud800","deep":` + strings.Repeat("[", 3000) + strings.Repeat("]", 3000) + `}`)},
			`|n|-|-|-|1970-01-01 00:00:00.000000|-|{"n":1e400000,"s":"\ud800","deep":` + strings.Repeat("[", 3000) + strings.Repeat("]", 3000) + `}|{}`,
		},
	} {
		if r := deliver(t, c, []connector.Delivery{{Event: e.sent}})[0]; r.Class != connector.Delivered {
			t.Fatalf("%+v", r)
		}
		got := s.exec(t, "SELECT concat_ws('|', type, name, ifNull(user_id, '-'), ifNull(anonymous_id, '-'), ifNull(toString(timestamp), '-'), toString(received_at), ifNull(source, '-'), data, context) "+
			"FROM {db}.events WHERE id = unhex('"+fmt.Sprintf("%x", e.sent.ID)+"')")
		if got := unescaped.Replace(strings.TrimSuffix(got, "\n")); got != e.want {
			t.Errorf("got  %q\nwant %q", got, e.want)
		}
	}
}

// What is stored exactly once at any time, and what when parts are merged.
func TestAnEventIsStoredOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := open(t, s.settings(t, nil))
	wantAll := func(deliveries []connector.Delivery, want connector.Class) {
		t.Helper()
		for _, r := range deliver(t, c, deliveries) {
			if r.Class != want {
				t.Errorf("%s %s: %s, want %s", r.Class, r.Code, r.Message, want)
			}
		}
	}
	wantRows := func(how string, want int) {
		t.Helper()
		if n := s.count(t, how); n != want {
			t.Errorf("%d rows%s, want %d", n, how, want)
		}
	}
	deliveries := connectortest.Plain(5)
	wantAll(deliveries[:1], connector.Delivered) // the table is there
	// An answer that is lost is made up for by the same call at once, whatever
	// company the events would be in later.
	s.loses(1)
	wantAll(deliveries, connector.Delivered)
	wantRows("", 6)
	s.loses(2)
	more := connectortest.Plain(5)
	wantAll(more, connector.Ambiguous)
	wantAll(more, connector.Delivered) // the token is known still
	wantRows("", 11)
	// The same events in other company: another call.
	wantAll(append(connectortest.Plain(1), deliveries[2:]...), connector.Delivered)
	wantRows("", 15)
	wantRows(" FINAL", 11)
	s.exec(t, "OPTIMIZE TABLE {db}.events FINAL")
	wantRows("", 11)
	// A table of which nobody has said that it knows events.
	plain := open(t, s.settings(t, map[string]any{"dedup": false}))
	s.loses(1)
	if r := deliver(t, plain, connectortest.Plain(1))[0]; r.Class != connector.Ambiguous {
		t.Errorf("%+v", r)
	}
	s.loses(0)
}

// Events as odd as they come are taken by the engine too, with all their bytes.
func TestOddEventsAreTaken(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := open(t, s.settings(t, nil))
	deliveries := connectortest.Odd()
	for i, r := range deliver(t, c, deliveries) {
		if r.Class != connector.Delivered {
			t.Errorf("event %d: %+v", i, r)
		}
	}
	for i := range deliveries {
		e := &deliveries[i].Event
		got := s.exec(t, fmt.Sprintf("SELECT count() FROM {db}.events WHERE id = unhex('%x') AND name = unhex('%x') AND data = unhex('%x')",
			e.ID, e.Name, warehouse.Data(e)))
		if got != "1\n" {
			t.Errorf("event %d is there %s times", i, got)
		}
	}
}

// What rows and statements are answered with is so by ClickHouse's own engine and by
// the simulated server that the other tests deliver to.
func TestTheSimulatedServerAnswersAsTheEngine(t *testing.T) {
	t.Parallel()
	const columns = "(id String, name LowCardinality(String), user_id Nullable(String), timestamp Nullable(DateTime64(6, 'UTC')), n UInt32, data JSON)" +
		" ENGINE = ReplacingMergeTree ORDER BY (name, id) SETTINGS non_replicated_deduplication_window = 10"
	s := newServer(t)
	s.exec(t, "CREATE TABLE {db}.odd "+columns)
	vendor, err := simulator.New(Kind)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(vendor)
	t.Cleanup(front.Close)
	insert := func(table string) string {
		return table + ".odd (id, name, user_id, timestamp, n, data) FORMAT TabSeparated"
	}
	engine, simulated := open(t, s.settings(t, nil)), open(t, vendor.Settings(front.URL))
	if x := simulated.run(t.Context(), "CREATE TABLE odd "+columns); x.Status != http.StatusOK {
		t.Fatal(string(x.Body))
	}
	const good = "a\torder\tu\t2026-11-23T10:00:00.5Z\t1\t{}\n"
	for name, c := range map[string]struct{ query, rows string }{
		"rows":                  {insert("INSERT INTO {db}"), good + "b\torder\t\\N\t\\N\t4294967295\t{\"a\":[1,{\"b\":null}]}"},
		"NULL in a plain type":  {insert("INSERT INTO {db}"), "\\N\t\\N\tu\t2026-11-23 10:00:00\t\\N\t\\N\n"},
		"an offset":             {insert("INSERT INTO {db}"), "c\torder\tu\t2026-11-23T10:00:00+01:00\t1\t{}\n"},
		"a column less":         {insert("INSERT INTO {db}"), good + "a\tb\n" + good},
		"a column more":         {insert("INSERT INTO {db}"), good + good[:len(good)-1] + "\tx\n"},
		"no time":               {insert("INSERT INTO {db}"), good + "a\torder\tu\tyesterday\t1\t{}\n"},
		"a comma in a time":     {insert("INSERT INTO {db}"), good + good + "a\torder\tu\t2026-11-23T10:00:00,5Z\t1\t{}\n"},
		"no number":             {insert("INSERT INTO {db}"), "a\torder\tu\t\\N\tx\t{}\n"},
		"a number below":        {insert("INSERT INTO {db}"), "a\torder\tu\t\\N\t-1\t{}\n"},
		"no JSON":               {insert("INSERT INTO {db}"), good + "a\torder\tu\t\\N\t1\t{\n"},
		"a list":                {insert("INSERT INTO {db}"), good + "a\torder\tu\t\\N\t1\t[1]\n"},
		"no table":              {strings.Replace(insert("INSERT INTO {db}"), "odd", "even", 1), good},
		"no database":           {insert("INSERT INTO nowhere"), good},
		"no column":             {"INSERT INTO {db}.odd (id, context) FORMAT TabSeparated", "a\tb\n"},
		"a type that is none":   {"CREATE TABLE {db}.x (a Strong) ENGINE = MergeTree ORDER BY a", ""},
		"a table that is there": {"CREATE TABLE {db}.odd (a String) ENGINE = MergeTree ORDER BY a", ""},
		"no statement":          {"INSERT INTO", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			say := func(c *Connector, database, query, rows string) (status, code, row int, column string) {
				query = strings.ReplaceAll(query, "{db}", database)
				x := c.run(t.Context(), query)
				if rows != "" {
					x = c.API.Do(t.Context(), httpcall.Request{Path: "/", Body: []byte(rows), Query: url.Values{"query": {query}, "async_insert": {"0"}}})
				}
				code, text := exception(x)
				return x.Status, code, faultyRow(text), faultyColumn(text)
			}
			status, code, row, column := say(engine, s.database, c.query, c.rows)
			status2, code2, row2, column2 := say(simulated, "default", c.query, c.rows)
			if status != status2 || code != code2 || row != row2 || column != column2 {
				t.Errorf("the engine says %d, %d, row %d, column %q; the simulated server %d, %d, %d, %q", status, code, row, column, status2, code2, row2, column2)
			}
		})
	}
}

func TestTokensNameEventsAndTheirOrder(t *testing.T) {
	t.Parallel()
	tokenOf := func(ids ...string) string {
		var rows []pending
		for _, id := range ids {
			rows = append(rows, pending{row: &row{id: id}})
		}
		return token(rows)
	}
	seen := map[string]bool{}
	for _, ids := range [][]string{{"a", "b"}, {"b", "a"}, {"ab"}, {"a"}, {"a", "b", ""}, {"", "a", "b"}} {
		token := tokenOf(ids...)
		if seen[token] || token != tokenOf(ids...) || len(token) != 32 {
			t.Errorf("%q has the token %s", ids, token)
		}
		seen[token] = true
	}
}

// Each bad row becomes a dead letter of its own that names what is wrong, and the
// others are stored with few inserts: here one.
func TestBadRowsAreFoundInABatch(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	// A table that somebody has made, which wants more of the rows.
	s.exec(t, "CREATE TABLE {db}.events (id String, type String, name String, user_id UInt32, anonymous_id String, timestamp DateTime64(3, 'Europe/Vienna'), "+
		"received_at DateTime, source String, data JSON, context String, CONSTRAINT short CHECK length(name) < 500) ENGINE = ReplacingMergeTree ORDER BY id")
	c := open(t, s.settings(t, nil))
	deliveries := connectortest.Plain(100)
	for i := range deliveries {
		deliveries[i].Event.UserID = fmt.Sprint(i)
	}
	bad := map[int]struct{ code, message string }{
		0:  {"27", "user_id: "},
		8:  {"117", "data: "},
		40: {"469", "short"},
		99: {"timestamp", "timestamp: "},
	}
	deliveries[0].Event.UserID = "nobody"
	deliveries[8].Event.Data = []byte(`{"n":1e400000}`)
	deliveries[40].Event.Name = strings.Repeat("n", 500)
	deliveries[99].Event.Timestamp = "yesterday"
	for i, r := range deliver(t, c, deliveries) {
		want, isBad := bad[i]
		switch {
		case isBad && (r.Class != connector.Permanent || r.Code != want.code || !strings.Contains(r.Message, want.message)):
			t.Errorf("row %d is %s %s (%s), want permanent %s (%s)", i, r.Class, r.Code, r.Message, want.code, want.message)
		case !isBad && r.Class != connector.Delivered:
			t.Errorf("row %d is %s %s (%s)", i, r.Class, r.Code, r.Message)
		}
	}
	if n := s.count(t, ""); n != len(deliveries)-len(bad) {
		t.Errorf("%d rows", n)
	}
	if s.inserts != 1 {
		t.Errorf("%d inserts for the good rows, want 1", s.inserts)
	}
	got := s.exec(t, "SELECT toString(timestamp), data.nth FROM {db}.events WHERE user_id = 2")
	if want := "2026-11-23 11:00:00.000\t2\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Rows that are refused in great numbers cost a few calls each.
func TestManyBadRowsAreFound(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	deliveries := connectortest.Plain(1000)
	bad := make(map[string]bool)
	for i := range deliveries {
		if random.IntN(20) == 0 {
			bad[deliveries[i].Event.ID] = true
		}
	}
	for name, says := range map[string]bool{"ClickHouse says which row": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls, stored := 0, make(map[string]int)
			c := open(t, vendor(t, func(w http.ResponseWriter, rows []string) {
				calls++
				for i, id := range rows {
					if bad[id] {
						where := ""
						if says {
							where = fmt.Sprintf(": (at row %d)", i+1)
						}
						exceptionAnswer(w, http.StatusBadRequest, 27, "Cannot parse input"+where)
						return
					}
				}
				for _, id := range rows {
					stored[id]++
				}
			}))
			for i, r := range deliver(t, c, deliveries) {
				want, times := connector.Delivered, 1
				if bad[deliveries[i].Event.ID] {
					want, times = connector.Permanent, 0
				}
				if r.Class != want || stored[deliveries[i].Event.ID] != times {
					t.Fatalf("row %d is %s and stored %d times", i, r.Class, stored[deliveries[i].Event.ID])
				}
			}
			if most := 12 * len(bad); calls > most {
				t.Errorf("%d calls for %d bad rows, want at most %d", calls, len(bad), most)
			}
		})
	}
}

// vendor returns settings that lead to a server of which a test says what it does
// with the ids of an INSERT.
func vendor(t *testing.T, insert func(w http.ResponseWriter, ids []string)) []byte {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var ids []string
		for line := range strings.Lines(string(body)) {
			id, _, _ := strings.Cut(line, "\t")
			ids = append(ids, id)
		}
		w.Header().Set("X-ClickHouse-Query-Id", "1")
		insert(w, ids)
	}))
	t.Cleanup(server.Close)
	return fmt.Appendf(nil, `{"url":%q,"compress":false}`, server.URL)
}

// After a call that fails for another reason than its rows, no more are made.
func TestACallThatFailsIsTheLast(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		status      int
		code        int
		text        string
		first, rest connector.Class
	}{
		{"lost", 408, 159, "Timeout exceeded", connector.Ambiguous, connector.Retryable},
		{"busy", 500, 252, "Too many parts", connector.Throttled, connector.Throttled},
		{"denied", 403, 516, "Authentication failed", connector.Auth, connector.Auth},
	} {
		for _, where := range []string{"", ": (at row 2)"} {
			calls := 0
			conn := open(t, vendor(t, func(w http.ResponseWriter, ids []string) {
				calls++
				if calls == 1 {
					exceptionAnswer(w, http.StatusBadRequest, 27, "Cannot parse input"+where)
					return
				}
				exceptionAnswer(w, c.status, c.code, c.text)
			}))
			got := classes(deliver(t, conn, connectortest.Plain(4)))
			want := []connector.Class{c.first, c.first, c.rest, c.rest}
			if where != "" {
				want = []connector.Class{c.rest, c.first, c.rest, c.rest}
			}
			if calls != 2 || !slices.Equal(got, want) {
				t.Errorf("%s%s: %v after %d calls, want %v", c.name, where, got, calls, want)
			}
		}
	}
}

func TestWhatAPersonMustPutRight(t *testing.T) {
	t.Parallel()
	const columns = "id String, type String, name String, user_id String, anonymous_id String, timestamp DateTime64, received_at DateTime64, source String, data String"
	for _, c := range []struct {
		name          string
		settings      map[string]any
		prepare       string
		code, message string
	}{
		{"no table", map[string]any{"create_table": false}, "", "60", "table: "},
		{"no database", map[string]any{"table": "nowhere.events"}, "", "81", "table: its database"},
		{"no column", nil, "CREATE TABLE {db}.events (" + columns + ") ENGINE = MergeTree ORDER BY id", "16", "context"},
		{"another password", map[string]any{"password": "wrong"}, "", "516", "user, password: "},
		{"another user", map[string]any{"user": "nobody"}, "", "516", "user, password: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			if c.prepare != "" {
				s.exec(t, c.prepare)
			}
			conn := open(t, s.settings(t, c.settings))
			for i, r := range append(deliver(t, conn, connectortest.Plain(2)), conn.Check(t.Context())) {
				if r.Class != connector.Auth || r.Code != c.code || !strings.Contains(r.Message, c.message) {
					t.Errorf("result %d is %s %s: %s", i, r.Class, r.Code, r.Message)
				}
			}
		})
	}
}

func TestCheckFindsWhatIsThere(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := open(t, s.settings(t, nil))
	for _, step := range []struct{ before, want string }{
		{"", "will be created"},
		{table{"{db}", "events"}.create(), "`events` is there"},
		{"DROP TABLE {db}.events", "will be created"},
		{"CREATE TABLE {db}.events (id String, type String, name String, user_id String, anonymous_id String, timestamp DateTime64, " +
			"received_at DateTime64, source String, data String, context String) ENGINE = MergeTree ORDER BY id", "see dedup"},
	} {
		if step.before != "" {
			s.exec(t, step.before)
		}
		if r := c.Check(t.Context()); r.Class != connector.Delivered || !strings.Contains(r.Message, step.want) {
			t.Errorf("%s: %s, want %q", r.Class, r.Message, step.want)
		}
	}
	s.Close()
	if r := c.Check(t.Context()); r.Class != connector.Retryable {
		t.Errorf("%s: %s", r.Class, r.Message)
	}
}

// A table with a partition for each day takes rows of 100 days at once.
func TestTooManyPartitionsSplitTheCall(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec(t, strings.Replace(table{"{db}", "events"}.create(), "ORDER BY", "PARTITION BY toDate(received_at) ORDER BY", 1))
	c := open(t, s.settings(t, nil))
	deliveries := connectortest.Plain(150)
	for i := range deliveries {
		deliveries[i].Event.ReceivedAt = time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC).Format(time.RFC3339)
	}
	for _, r := range deliver(t, c, deliveries) {
		if r.Class != connector.TooLarge {
			t.Fatalf("%+v", r)
		}
	}
	for _, r := range append(deliver(t, c, deliveries[:75]), deliver(t, c, deliveries[75:])...) {
		if r.Class != connector.Delivered {
			t.Fatalf("%+v", r)
		}
	}
}

func TestAnswersDecideTheOutcome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		status  int
		header  string // the number in X-ClickHouse-Exception-Code
		other   bool   // it is not ClickHouse
		body    string
		want    connector.Class
		code    string
		message string
	}{
		{name: "stored", status: 200, want: connector.Delivered},
		{name: "an error after the headers", status: 200, body: "\n\nCode: 252. DB::Exception: Too many parts (300). (TOO_MANY_PARTS)", want: connector.Throttled, code: "252"},
		{name: "an error in the header alone", status: 500, header: "241", want: connector.Throttled, code: "241"},
		{name: "an error in the body alone", status: 404, body: "Code: 60. DB::Exception: Table db.events does not exist. (UNKNOWN_TABLE)", want: connector.Auth, code: "60", message: "table: "},
		{name: "memory", status: 500, header: "241", body: "Code: 241. DB::Exception: Memory limit (total) exceeded", want: connector.Throttled, code: "241"},
		{name: "read-only replica", status: 500, header: "242", want: connector.Retryable, code: "242"},
		{name: "keeper away", status: 500, header: "999", want: connector.Ambiguous, code: "999"},
		{name: "quorum", status: 500, header: "319", want: connector.Ambiguous, code: "319"},
		{name: "too many rows", status: 500, header: "396", want: connector.TooLarge, code: "396"},
		{name: "a right is missing", status: 403, header: "497", want: connector.Auth, code: "497", message: "user: "},
		{name: "a setting is fixed", status: 500, header: "452", want: connector.Auth, code: "452", message: "query: "},
		{name: "an error of tomorrow", status: 500, header: "2999", want: connector.Retryable, code: "2999"},
		{name: "a limit of a proxy", status: 413, other: true, body: "<html>", want: connector.TooLarge, code: "http_413"},
		{name: "a proxy that throttles", status: 429, other: true, want: connector.Throttled, code: "http_429"},
		{name: "a proxy without a server", status: 502, other: true, body: "<html>", want: connector.Retryable, code: "http_502"},
		{name: "a proxy that asks for a password", status: 401, other: true, want: connector.Auth, code: "http_401", message: "user and password"},
		{name: "another path", status: 404, other: true, body: "not found", want: connector.Auth, code: "not_clickhouse", message: "url: "},
		{name: "a web site", status: 200, other: true, body: "<html>welcome</html>", want: connector.Auth, code: "not_clickhouse", message: "url: "},
		{name: "a silent something", status: 204, other: true, want: connector.Auth, code: "not_clickhouse", message: "url: "},
		{name: "a redirect", status: 301, other: true, want: connector.Auth, code: "http_301", message: "url"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if c.header != "" {
					w.Header().Set("X-ClickHouse-Exception-Code", c.header)
				}
				if !c.other {
					w.Header().Set("X-ClickHouse-Query-Id", "1")
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			defer server.Close()
			conn := open(t, fmt.Appendf(nil, `{"url":%q,"create_table":false}`, server.URL))
			r := deliver(t, conn, connectortest.Plain(1))[0]
			if r.Class != c.want || r.Code != c.code || !strings.Contains(r.Message, c.message) {
				t.Errorf("%s %s: %s, want %s %s: %s", r.Class, r.Code, r.Message, c.want, c.code, c.message)
			}
			if r.Class == connector.Throttled && c.header != "" && r.RetryAfter != overloadWait {
				t.Errorf("a wait of %s", r.RetryAfter)
			}
		})
	}
}

// Every code that pauses the destination names a setting.
func TestAuthNamesASetting(t *testing.T) {
	t.Parallel()
	for code, means := range meanings {
		setting, _, _ := strings.Cut(means.advice, ":")
		if named := slices.Contains([]string{"url", "user", "user, password", "table", "query"}, setting); named != (means.class == connector.Auth) {
			t.Errorf("%d is %s with the advice %q", code, means.class, means.advice)
		}
	}
}

func TestSettingsNameEveryFaultAndNoSecret(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, settings string
		want           []string
	}{
		{"nothing", `{}`, []string{"url: is required"}},
		{"http", `{"url":"http://clickhouse.example.com:8123"}`, []string{"url: must be https"}},
		{"a user in the address", `{"url":"https://u:hunter2@example.com"}`, []string{"url: must have no user"}},
		{"several", `{"url":"hunter2","user":"","table":"a.b.c","compres":true,"linger":"1h"}`, []string{"url: ", "user: is required", "table: must be", "compres: unknown", "linger: must be at most"}},
		{"a broken password", `{"url":"https://x.example","password":"hunter2\n"}`, []string{"password: has characters"}},
		{"an empty name", `{"url":"https://x.example","table":"a."}`, []string{"table: must be"}},
		{"an empty database", `{"url":"https://x.example","table":".a"}`, []string{"table: must be"}},
		{"no name", `{"url":"https://x.example","table":""}`, []string{"table: is required"}},
		{"a long name", `{"url":"https://x.example","table":"` + strings.Repeat("x", 81) + `"}`, []string{"table: a name may have 80 bytes"}},
		{"quotes", "{\"url\":\"https://x.example\",\"table\":\"a`b\"}", []string{"table: has characters"}},
		{"a statement", `{"url":"https://x.example","query":{"query":"DROP"}}`, []string{"query: query cannot be set"}},
		{"a parameter", `{"url":"https://x.example","query":{"param_x":"1"}}`, []string{"query: param_x cannot be set"}},
		{"no name of a setting", `{"url":"https://x.example","query":{"a b":"1"}}`, []string{`query: "a b"`}},
		{"an answer that says nothing", `{"url":"https://x.example","query":{"async_insert":"1","wait_for_async_insert":"0"}}`, []string{"query: wait_for_async_insert"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			connectortest.Refuses(t, New, c.settings, c.want...)
		})
	}
	conn := open(t, []byte(`{"url":"http://clickhouse.internal:8123","allow_http":true,"linger":"250ms","dedup":false}`))
	if limits := conn.Limits(); limits.Linger != 250*time.Millisecond || limits.Dedups {
		t.Errorf("%+v", limits)
	}
}

// A value that is written is read again as it was, and breaks no line.
func FuzzTabSeparated(f *testing.F) {
	for _, s := range []string{"", `\N`, "a\tb\nc\r\\d\x00e", `{"a":"\u0000"}`, "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		written := string(appendText(nil, text))
		if strings.ContainsAny(written, "\t\n\r\x00") || unescaped.Replace(written) != text || written == null {
			t.Errorf("%q is written %q", text, written)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(500, "252", "Code: 252. DB::Exception: Too many parts (at row 3)\nColumn 2, name: timestamp, type: x")
	f.Add(200, "", "Code: 99999999. DB::Exception: , name: ")
	f.Fuzz(func(t *testing.T, status int, code, text string) {
		x := &httpcall.Exchange{Answer: httpcall.Answer{Status: status, Header: http.Header{"X-Clickhouse-Exception-Code": {code}}, Body: []byte(text)}}
		if number, _ := exception(x); number < 0 && meanings[number].class != connector.Retryable {
			t.Errorf("code %d", number)
		}
		if row := faultyRow(text); row < -1 {
			t.Errorf("row %d", row)
		}
		if column := faultyColumn(text); len(column) > len(text) {
			t.Errorf("column %q", column)
		}
	})
}

func BenchmarkPlan(b *testing.B) {
	c := open(b, []byte(`{"url":"https://clickhouse.example.com"}`))
	deliveries := benchmarkEvents(1000)
	b.ReportAllocs()
	for b.Loop() {
		c.Plan(deliveries)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(deliveries)), "ns/event")
}

// BenchmarkSend is what a call costs us, against a server that only reads.
func BenchmarkSend(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-ClickHouse-Query-Id", "1")
	}))
	defer server.Close()
	for name, compress := range map[string]bool{"gzip": true, "plain": false} {
		b.Run(name, func(b *testing.B) {
			c := open(b, fmt.Appendf(nil, `{"url":%q,"compress":%t}`, server.URL, compress))
			calls := c.Plan(benchmarkEvents(maxRows)).Calls
			for b.Loop() {
				if r := c.Send(b.Context(), calls[0])[0]; r.Class != connector.Delivered {
					b.Fatal(r)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(calls[0].Events)), "ns/event")
		})
	}
}

// benchmarkEvents returns n new events of about 400 bytes of data.
func benchmarkEvents(n int) []connector.Delivery {
	deliveries := connectortest.Plain(n)
	for i := range deliveries {
		deliveries[i].Event.Data = fmt.Appendf(nil, `{"page":"/pricing","nth":%d,"text":%q}`, i, strings.Repeat("x", 340))
	}
	return deliveries
}
