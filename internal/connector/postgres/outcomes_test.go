package postgres

import (
	"context"
	"errors"
	"fmt"
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
	s := newServer(t)
	c := open(t, s, "")
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
	c := open(t, newServer(t), "")
	seen, fresh := connectortest.Plain(2), connectortest.Plain(1)
	deliver(t, c, seen)
	got := classes(deliver(t, c, []connector.Delivery{seen[0], fresh[0], fresh[0], seen[1]}))
	if want := []connector.Class{connector.Duplicate, connector.Delivered, connector.Duplicate, connector.Duplicate}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Each bad row becomes a dead letter of its own, and no other row suffers.
func TestBadRowsAreFoundInABatch(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := open(t, s, "")
	deliveries := connectortest.Plain(100)
	codes := map[int]string{
		0:  "22003", // a number beyond numeric
		41: "54001", // nested too deep for the server's stack
		42: "54000", // an id that no index entry can hold
		77: "id",    // found by Plan
		99: "timestamp",
	}
	deliveries[0].Event.Data = []byte(`{"n":1e200000}`)
	deliveries[41].Event.Data = []byte(`{"n":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`)
	deliveries[42].Event.ID = incompressible(10_000)
	deliveries[77].Event.ID = "a\x00b"
	deliveries[99].Event.Timestamp = "yesterday"
	for i, r := range deliver(t, c, deliveries) {
		code, bad := codes[i]
		switch {
		case bad && (r.Class != connector.Permanent || r.Code != code || r.Message == ""):
			t.Errorf("row %d is %s %s (%s), want permanent %s", i, r.Class, r.Code, r.Message, code)
		case !bad && r.Class != connector.Delivered:
			t.Errorf("row %d is %s %s (%s)", i, r.Class, r.Code, r.Message)
		}
	}
	if n := len(s.ids(t)); n != len(deliveries)-len(codes) {
		t.Errorf("%d rows", n)
	}
}

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

func TestWhatAPersonMustPutRightPauses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, settings, code string
		prepare              []string
	}{
		{"no table", `,"create_table":false`, "42P01", nil},
		{"no schema", `,"table":"analytics.events"`, "3F000", nil},
		{"another table of the name", ``, "42703", []string{"CREATE TABLE events (id text PRIMARY KEY)", "GRANT ALL ON events TO PUBLIC"}},
		{"no key on id", ``, "42P10", []string{strings.Replace(table{"events"}.create(), " PRIMARY KEY", "", 1), "GRANT ALL ON events TO PUBLIC"}},
		{"no right to create", ``, "42501", []string{"REVOKE CREATE ON SCHEMA public FROM PUBLIC"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.exec(t, c.prepare...)
			if c.code == "42501" {
				s.exec(t, "REVOKE CREATE ON SCHEMA public FROM "+s.role)
			}
			for _, r := range deliver(t, open(t, s, c.settings), connectortest.Plain(2)) {
				if r.Class != connector.Auth || r.Code != c.code {
					t.Errorf("%s %s: %s", r.Class, r.Code, r.Message)
				}
			}
		})
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

// A connection pool between us and the server has no use for prepared
// statements.
func TestEventsArriveWithoutPreparedStatements(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"exec", "describe_exec", "cache_describe"} {
		s := newServer(t)
		s.url += "&default_query_exec_mode=" + mode
		c := open(t, s, "")
		deliveries := append(connectortest.Odd(), connectortest.Plain(3)...)
		for _, want := range []connector.Class{connector.Delivered, connector.Duplicate} {
			for i, r := range deliver(t, c, deliveries) {
				if r.Class != want {
					t.Errorf("%s: event %d is %s: %s", mode, i, r.Class, r.Message)
				}
			}
		}
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
	if r := (redact{}).failure(errors.New("something new")); r.Class != connector.Ambiguous {
		t.Errorf("an unknown error after the statement was sent is %s", r.Class)
	}
	if r := (redact{}).failure(fmt.Errorf("create: %w", &pgconn.PgError{Code: "23502"})); r.Class != connector.Auth {
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
		{"a quote", `{"table":"a\"b"}`, []string{"table: has characters"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := New([]byte(c.settings), connector.Env{})
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error repeats a value: %v", err)
			}
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

func BenchmarkSend(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("%d-rows", n), func(b *testing.B) {
			c := open(b, newServer(b), "")
			rows := 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				deliveries := connectortest.Plain(n)
				for i := range deliveries {
					deliveries[i].Event.Data = fmt.Appendf(nil, `{"page":"/pricing","text":%q}`, strings.Repeat("x", 300))
				}
				b.StartTimer()
				for _, r := range deliver(b, c, deliveries) {
					if r.Class != connector.Delivered {
						b.Fatal(r)
					}
				}
				rows += n
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
