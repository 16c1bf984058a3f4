package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
)

func open(t testing.TB, s *server, more string) *Connector {
	t.Helper()
	conn, err := New(fmt.Appendf(nil, `{"url":%q%s}`, s.url, more), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn.(*Connector)
}

// deliver delivers events and returns their results in order.
func deliver(t testing.TB, c *Connector, deliveries []connector.Delivery) []connector.Result {
	t.Helper()
	results := make([]connector.Result, len(deliveries))
	plan := c.Plan(deliveries)
	for _, done := range plan.Done {
		results[done.Event] = done.Result
	}
	for _, call := range plan.Calls {
		for i, r := range c.Send(t.Context(), call) {
			results[call.Events[i]] = r
		}
	}
	return results
}

func classes(results []connector.Result) []connector.Class {
	list := make([]connector.Class, len(results))
	for i, r := range results {
		list[i] = r.Class
	}
	return list
}

func TestColumnsHoldWhatWasSent(t *testing.T) {
	t.Parallel()
	for name, copyRows := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testColumns(t, copyRows)
		})
	}
}

func testColumns(t *testing.T, copyRows int) {
	s := newServer(t)
	c := open(t, s, "")
	c.copyRows = copyRows
	for _, e := range []struct {
		sent event.Event
		want string
	}{
		{
			event.Event{
				ID: "1", Type: "track", Name: "button_clicked", UserID: "u1", AnonymousID: "a1", Source: "web",
				Timestamp: "2026-11-23T11:00:00.1234567+01:00", ReceivedAt: "2026-11-23T10:00:01Z",
				Data: []byte(`{"n": 1.0, "big":12345678901234567890.5}`), Context: []byte(`{"a":[]}`),
			},
			`track|button_clicked|u1|a1|2026-11-23T10:00:00.123456|2026-11-23T10:00:01.000000|web|{"n": 1.0, "big": 12345678901234567890.5}|{"a": []}`,
		},
		{event.Event{ID: "2", Type: "track", Name: "only name"}, `track|only name|-|-|-|-|-|{}|{}`},
		{
			// U+0000, which PostgreSQL cannot store, is replaced; an escaped
			// backslash before u0000 is not touched.
			event.Event{ID: "3", Type: "track", Name: "a\x00b", UserID: "\x00", Data: []byte(`{"\u0000k":"x\u0000\\u0000\\\u0000"}`), Context: []byte(`{}`), Extra: []byte(`"plan":"\u0000"`)},
			"track|a\ufffdb|\ufffd|-|-|-|-|{\"\ufffdk\": \"x\ufffd\\\\u0000\\\\\ufffd\"}|{\"extra\": {\"plan\": \"\ufffd\"}}",
		},
		{
			// In every column of text.
			event.Event{ID: "nul", Type: "\x00", Name: "\x00", UserID: "\x00", AnonymousID: "\x00", Source: "\x00", Data: []byte(`{}`)},
			"\ufffd|\ufffd|\ufffd|\ufffd|-|-|\ufffd|{}|{}",
		},
		{event.Event{ID: "long ago", Type: "page", Name: "n", Timestamp: "0000-01-01T00:00:00+23:59"}, `page|n|-|-|0002-12-31T00:01:00.000000 BC|-|-|{}|{}`},
		{event.Event{ID: "far off", Type: "page", Name: "n", Timestamp: "9999-12-31T23:59:59-23:59"}, `page|n|-|-|10000-01-01T23:58:59.000000|-|-|{}|{}`},
		{event.Event{ID: "4", Type: "page", Name: "first day", Timestamp: "0000-01-01T00:00:00Z"}, `page|first day|-|-|0001-01-01T00:00:00.000000 BC|-|-|{}|{}`},
		{event.Event{ID: "5", Type: "page", Name: "last day", Timestamp: "9999-12-31T23:59:59.999999999Z"}, `page|last day|-|-|9999-12-31T23:59:59.999999|-|-|{}|{}`},
	} {
		if r := deliver(t, c, []connector.Delivery{{Event: e.sent}})[0]; r.Class != connector.Delivered {
			t.Fatalf("%+v", r)
		}
		conn := s.connect(t)
		var got string
		at := `coalesce(to_char(%[1]s AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US' || CASE WHEN %[1]s < '0001-01-01 UTC' THEN ' BC' ELSE '' END), '-')`
		if err := conn.QueryRow(t.Context(), `SELECT concat_ws('|', type, name, coalesce(user_id, '-'), coalesce(anonymous_id, '-'), `+
			fmt.Sprintf(at, "timestamp")+`, `+fmt.Sprintf(at, "received_at")+`, coalesce(source, '-'), data::text, context::text) FROM events WHERE id = $1`, e.sent.ID).Scan(&got); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close(t.Context())
		// jsonb orders members by length, then by name.
		if got != e.want {
			t.Errorf("got  %q\nwant %q", got, e.want)
		}
	}
}

func TestDuplicatesAreToldFromNewRows(t *testing.T) {
	t.Parallel()
	for _, copyRows := range ways {
		c := open(t, newServer(t), "")
		c.copyRows = copyRows
		seen, fresh := connectortest.Plain(2), connectortest.Plain(2)
		deliver(t, c, seen)
		got := classes(deliver(t, c, []connector.Delivery{seen[0], fresh[0], fresh[0], seen[1], fresh[1], fresh[0]}))
		if want := []connector.Class{
			connector.Duplicate, connector.Delivered, connector.Duplicate, connector.Duplicate, connector.Delivered, connector.Duplicate,
		}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

// Each bad row becomes a dead letter of its own that names what is wrong, and no
// other row suffers.
func TestBadRowsAreFoundInABatch(t *testing.T) {
	t.Parallel()
	for name, copyRows := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			c := open(t, s, "")
			c.copyRows = copyRows
			s.exec(t, createEvents, "ALTER TABLE events OWNER TO "+s.role, "ALTER TABLE events ADD CONSTRAINT short CHECK (length(name) < 500)", refuseNames,
				"CREATE TABLE sources (source text PRIMARY KEY)", "INSERT INTO sources VALUES ('web')", "GRANT SELECT ON sources TO "+s.role,
				"ALTER TABLE events ADD CONSTRAINT known FOREIGN KEY (source) REFERENCES sources DEFERRABLE INITIALLY DEFERRED")
			deliveries := connectortest.Plain(100)
			bad := map[int]struct{ code, message string }{
				0:  {"22003", "data: "},       // a number beyond numeric
				7:  {"22003", "context: "},    // the same in context
				8:  {"22P02", "data: "},       // half a surrogate pair
				9:  {"22021", "UTF8"},         // not UTF-8
				40: {"23514", "short"},        // somebody's constraint
				43: {"P0001", "nobody wants"}, // somebody's trigger
				44: {"23503", "known"},        // found when the transaction is committed
				41: {"54001", "data: "},       // nested too deep for the server's stack
				42: {"54000", "index"},        // an id that no index entry can hold
				77: {"id", "id: has"},         // found by Plan, as the next
				99: {"timestamp", "RFC 3339"}, // not a time
			}
			deliveries[0].Event.Data = []byte(`{"n":1e400000}`)
			deliveries[7].Event.Context = []byte(`{"n":-1e400000}`)
			deliveries[8].Event.Data = []byte(`{"s":"\ud800"}`)
			deliveries[9].Event.Name = "\xff"
			deliveries[40].Event.Name = strings.Repeat("n", 500)
			deliveries[41].Event.Data = []byte(`{"n":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`)
			deliveries[42].Event.ID = incompressible(10_000)
			deliveries[43].Event.Name = "refused"
			deliveries[44].Event.Source = "unknown"
			deliveries[77].Event.ID = "a\x00b"
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
			if n := len(s.ids(t)); n != len(deliveries)-len(bad) {
				t.Errorf("%d rows", n)
			}
		})
	}
}

// ways are the two ways of storing rows, by their Connector.copyRows.
var ways = map[string]int{"arrays": math.MaxInt, "COPY": 1}

// incompressible returns hexadecimal digits that PostgreSQL cannot squeeze
// into an index entry.
func incompressible(n int) string {
	var b strings.Builder
	for i := range uint64(n / 16) {
		fmt.Fprintf(&b, "%016x", event.Hash(fmt.Sprint(i)))
	}
	return b.String()
}

func TestTableIsCreatedOnceByManyAndAgainIfDropped(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var wg sync.WaitGroup
	for range 4 {
		c := open(t, s, "")
		wg.Go(func() {
			for _, r := range deliver(t, c, connectortest.Plain(1)) {
				if r.Class != connector.Delivered {
					t.Errorf("%+v", r)
				}
			}
		})
	}
	wg.Wait()
	c := open(t, s, "")
	deliver(t, c, connectortest.Plain(1))
	s.exec(t, "DROP TABLE events")
	if r := deliver(t, c, connectortest.Plain(1))[0]; r.Class != connector.Delivered {
		t.Errorf("%+v", r)
	}
	if n := len(s.ids(t)); n != 1 {
		t.Errorf("%d rows", n)
	}
}

// What a person must put right pauses the destination, and says which setting to
// look at; a check finds the same before there are events.
func TestWhatAPersonMustPutRight(t *testing.T) {
	t.Parallel()
	const withoutKey = "CREATE TABLE events (id text, type text, name text, user_id text, anonymous_id text, timestamp timestamptz, " +
		"received_at timestamptz, source text, data jsonb, context jsonb)"
	for _, c := range []struct {
		name, settings string
		prepare        []string
		code, message  string
	}{
		{"no table", `,"create_table":false`, nil, "42P01", "table: "},
		{"no schema", `,"table":"analytics.events"`, nil, "3F000", "table: there is no schema"},
		{"another table of the name", ``, []string{"CREATE TABLE events (id text PRIMARY KEY)", "GRANT ALL ON events TO PUBLIC"}, "42703", "table: "},
		{"a column of another type", ``, []string{strings.Replace(withoutKey, "name text", "name integer", 1), "GRANT ALL ON events TO PUBLIC"}, "42804", "table: "},
		{"no key on id", ``, []string{withoutKey, "GRANT ALL ON events TO PUBLIC"}, "42P10", "key: "},
		{"another key", ``, []string{withoutKey, "ALTER TABLE events ADD PRIMARY KEY (id, received_at)", "GRANT ALL ON events TO PUBLIC"}, "42P10", "(id)"},
		{"no right to create", ``, []string{"REVOKE CREATE ON SCHEMA public FROM PUBLIC, %s"}, "42501", "table: "},
		{"no right to insert", ``, []string{createEvents, "GRANT SELECT ON events TO PUBLIC"}, "42501", "INSERT"},
		{"no right to connect", ``, []string{"ALTER ROLE %s NOLOGIN"}, "28000", "url: "},
		{"another password", ``, []string{"ALTER ROLE %s PASSWORD 'another'"}, "28P01", "url: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			for _, statement := range c.prepare {
				s.exec(t, strings.ReplaceAll(statement, "%s", s.role))
			}
			conn := open(t, s, c.settings)
			results := append(deliver(t, conn, connectortest.Plain(2)), conn.Check(t.Context()))
			conn.copyRows = 1
			for i, r := range append(results, deliver(t, conn, connectortest.Plain(2))...) {
				if r.Class != connector.Auth || r.Code != c.code || !strings.Contains(r.Message, c.message) {
					t.Errorf("result %d is %s %s: %s", i, r.Class, r.Code, r.Message)
				}
			}
		})
	}

	t.Run("no such database", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		address, err := url.Parse(s.url)
		if err != nil {
			t.Fatal(err)
		}
		address.Path = "/nowhere"
		s.url = address.String()
		conn := open(t, s, "")
		for _, r := range append(deliver(t, conn, connectortest.Plain(1)), conn.Check(t.Context())) {
			if r.Class != connector.Auth || r.Code != "3D000" || !strings.Contains(r.Message, "url: ") {
				t.Errorf("%s %s: %s", r.Class, r.Code, r.Message)
			}
		}
	})
}

func TestCheckFindsWhatIsThere(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := open(t, s, "")
	for _, want := range []string{"will be created in schema public", `"events" takes rows`} {
		r := c.Check(t.Context())
		if r.Class != connector.Delivered || !strings.Contains(r.Message, want) || !strings.Contains(r.Message, s.role) {
			t.Errorf("%s: %s, want %q", r.Class, r.Message, want)
		}
		if s.hasTable(t) && len(s.ids(t)) > 0 {
			t.Error("a check leaves rows")
		}
		s.exec(t, createEvents, "GRANT ALL ON events TO "+s.role)
	}
	leave := s.enter(connectortest.Away)(t)
	if r := c.Check(t.Context()); r.Class != connector.Retryable {
		t.Errorf("%s: %s", r.Class, r.Message)
	}
	leave()
}

// The key of a partitioned table has the column in it by which it is partitioned.
func TestPartitionedTablesTakeRows(t *testing.T) {
	t.Parallel()
	for _, copyRows := range ways {
		s := newServer(t)
		c := open(t, s, `,"key":["id","received_at"]`)
		c.copyRows = copyRows
		s.exec(t, strings.TrimSuffix(c.sql.create, ")")+") PARTITION BY RANGE (received_at)",
			"CREATE TABLE november PARTITION OF events FOR VALUES FROM ('2026-11-01 UTC') TO ('2026-12-01 UTC')",
			"GRANT ALL ON events TO "+s.role)
		if r := c.Check(t.Context()); r.Class != connector.Delivered {
			t.Errorf("%s: %s", r.Class, r.Message)
		}
		deliveries := connectortest.Plain(3)
		deliveries[1].Event.ReceivedAt = "2026-12-01T00:00:00Z" // no partition
		for _, stored := range []connector.Class{connector.Delivered, connector.Duplicate} {
			got := classes(deliver(t, c, deliveries))
			if want := []connector.Class{stored, connector.Permanent, stored}; !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		}
	}
}

// A role that may not make temporary tables has all its rows in arrays.
func TestRowsAreStoredWithoutTemporaryTables(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	address, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	s.exec(t, "REVOKE TEMPORARY ON DATABASE "+strings.TrimPrefix(address.Path, "/")+" FROM PUBLIC")
	c := open(t, s, "")
	c.copyRows = 1
	deliveries := connectortest.Plain(3)
	for _, want := range []connector.Class{connector.Delivered, connector.Duplicate} {
		for _, r := range deliver(t, c, deliveries) {
			if r.Class != want {
				t.Errorf("%s: %s, want %s", r.Class, r.Message, want)
			}
		}
	}
	if !c.cannotCopy.Load() {
		t.Error("COPY is tried again with each call")
	}
}

// What somebody's trigger does to the rows does not hide which are new.
func TestRowsAreToldApartInAnyOrder(t *testing.T) {
	t.Parallel()
	rows := []row{{id: "a"}, {id: "b"}, {id: "a"}, {id: "c"}}
	s := newlyStored{rows: rows, fresh: make([]bool, len(rows))}
	for _, id := range []string{"c", "another", "a", "b"} {
		if found := s.find([]byte(id), s.next) || s.find([]byte(id), 0); found == (id == "another") {
			t.Errorf("%s is found: %t", id, found)
		}
	}
	if want := []bool{true, true, false, true}; !slices.Equal(s.fresh, want) {
		t.Errorf("%v, want %v", s.fresh, want)
	}
}

func TestNamesAreQuoted(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if r := deliver(t, open(t, s, `,"table":"public.Möbel; DROP TABLE x --"`), connectortest.Plain(1))[0]; r.Class != connector.Delivered {
		t.Errorf("%+v", r)
	}
	conn := s.connect(t)
	defer conn.Close(t.Context())
	var n int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM "Möbel; DROP TABLE x --"`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// A transaction of somebody else holds the row; the server gives up by itself.
func TestStatementTimeoutIsRetryable(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.url += "&statement_timeout=100"
	c := open(t, s, "")
	deliveries := connectortest.Plain(2)
	deliver(t, c, deliveries[:1])
	conn := s.connect(t)
	defer conn.Close(context.Background())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE events IN EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	if r := deliver(t, c, deliveries)[1]; r.Class != connector.Retryable || r.Code != "57014" {
		t.Errorf("%+v", r)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := deliver(t, c, deliveries)[1]; r.Class != connector.Delivered {
		t.Errorf("%+v", r)
	}
}

// A server that has become a standby takes no rows, and its connections stay as they
// are. Those to the new primary take them.
func TestReadOnlyConnectionsAreNotUsedAgain(t *testing.T) {
	t.Parallel()
	for name, copyRows := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			c := open(t, s, "")
			c.copyRows = copyRows
			s.exec(t, createEvents, "ALTER TABLE events OWNER TO "+s.role, "ALTER ROLE "+s.role+" SET default_transaction_read_only = on")
			deliveries := connectortest.Plain(2)
			if r := deliver(t, c, deliveries)[0]; r.Class != connector.Retryable || r.Code != "25006" {
				t.Fatalf("%+v", r)
			}
			s.exec(t, "ALTER ROLE "+s.role+" SET default_transaction_read_only = off")
			for _, r := range deliver(t, c, deliveries) {
				if r.Class != connector.Delivered {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

func TestCodesDecideTheOutcome(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]connector.Class{
		"08000": connector.Retryable, "08006": connector.Retryable, "08007": connector.Ambiguous, "08P01": connector.Retryable,
		"0A000": connector.Auth,
		"22003": connector.Permanent, "22021": connector.Permanent, "22P02": connector.Permanent, "22P05": connector.Permanent,
		"23502": connector.Permanent, "23505": connector.Permanent, "23514": connector.Permanent,
		"25006": connector.Retryable,
		"28000": connector.Auth, "28P01": connector.Auth, "3D000": connector.Auth, "3F000": connector.Auth,
		"40001": connector.Retryable, "40003": connector.Ambiguous, "40P01": connector.Retryable,
		"44000": connector.Permanent, "P0001": connector.Permanent, "P0004": connector.Permanent,
		"42501": connector.Auth, "42703": connector.Auth, "42804": connector.Auth, "42P01": connector.Auth, "42P10": connector.Auth,
		"53100": connector.Retryable, "53200": connector.Retryable, "53300": connector.Retryable,
		"54000": connector.Permanent, "54001": connector.Permanent,
		"55000": connector.Retryable, "55P03": connector.Retryable,
		"57014": connector.Retryable, "57P01": connector.Retryable, "57P02": connector.Retryable, "57P03": connector.Retryable, "57P04": connector.Auth,
		"58030": connector.Retryable, "XX000": connector.Retryable, "99999": connector.Retryable, "": connector.Retryable, "x": connector.Retryable,
	} {
		if got := classify(code); got != want {
			t.Errorf("%q: %s, want %s", code, got, want)
		}
	}
	if r := (explain{}).failure(errors.New("something new")); r.Class != connector.Ambiguous {
		t.Errorf("an unknown error after the statement was sent is %s", r.Class)
	}
	if r := (explain{}).failure(fmt.Errorf("create: %w", &pgconn.PgError{Code: "23502"})); r.Class != connector.Auth {
		t.Errorf("a constraint of the catalog is %s", r.Class)
	}
}

func TestSettingsNameEveryFaultAndNoSecret(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, settings string
		want           []string
	}{
		{"not an address", `{"url":"postgres://user:hunter2@host:port/db"}`, []string{"url: is not an address"}},
		{"a broken escape", `{"url":"postgres://user:hunter2%zz@host/db"}`, []string{"url: is not an address"}},
		{"several", `{"url":"hunter2 hunter2","table":"a.b.c","creat_table":true}`, []string{"url: is not", "table: must be", "creat_table: unknown"}},
		{"an empty name", `{"table":"a."}`, []string{"table: must be"}},
		{"no name", `{"table":""}`, []string{"table: "}},
		{"a long name", `{"table":"` + strings.Repeat("x", 64) + `"}`, []string{"table: a name may have 63 bytes"}},
		{"no key", `{"key":[]}`, []string{"key: must be at least 1"}},
		{"a key without id", `{"key":["received_at"]}`, []string{"key: must have id"}},
		{"a key of other columns", `{"key":["id","day"]}`, []string{"key: must name columns"}},
		{"a key that repeats", `{"key":["id","id"]}`, []string{"key: must name columns"}},
		{"a quote", `{"table":"a\"b"}`, []string{"table: has characters"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			connectortest.Refuses(t, New, c.settings, c.want...)
		})
	}
}

func FuzzEscapedNUL(f *testing.F) {
	for _, s := range []string{`{"a":"\u0000"}`, `"\\u0000"`, `"\\\u0000"`, `\`, `\u000`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := string(raw)
		got := escapedNUL(raw)
		if string(raw) != before || len(got) != len(raw) {
			t.Errorf("%q becomes %q", before, got)
		}
		// What is left of \u0000 comes after an odd backslash.
		for i := 0; i < len(got); i++ {
			if got[i] == '\\' {
				if strings.HasPrefix(string(got[i:]), `\u0000`) {
					t.Errorf("%q becomes %q", before, got)
				}
				i++
			}
		}
	})
}
