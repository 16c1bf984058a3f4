package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	modernc "modernc.org/sqlite"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
	"github.com/eventsluice/sluice/internal/event"
)

func open(t testing.TB, path string) *Connector {
	t.Helper()
	conn, err := impatient(fmt.Appendf(nil, `{"path":%q}`, path), connector.Env{})
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

// deliver delivers events in one call.
func deliver(t testing.TB, c *Connector, deliveries []connector.Delivery) []connector.Result {
	t.Helper()
	plan := c.Plan(deliveries)
	if len(plan.Calls) != 1 {
		t.Fatalf("%d calls, want 1", len(plan.Calls))
	}
	return c.Send(t.Context(), plan.Calls[0])
}

func wantAll(t testing.TB, results []connector.Result, class connector.Class, code string) {
	t.Helper()
	for i, r := range results {
		if r.Class != class || r.Code != code {
			t.Fatalf("result %d is %s %q (%s), want %s %q", i, r.Class, r.Code, r.Message, class, code)
		}
	}
}

func TestColumnsHoldWhatWasSent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	c := open(t, path)
	for _, e := range []struct {
		sent event.Event
		want row
	}{
		{
			event.Event{
				ID: "1", Type: "track", Name: "button_clicked", UserID: "u1", AnonymousID: "a1",
				Timestamp: "2026-11-23T10:00:00.50Z", ReceivedAt: "2026-11-23T10:00:01Z", Source: "web",
				Data: []byte(`{ "n" : 1.0,"n":1e2 , "ü":"\u00fc" }`), Context: []byte(`{"a": [ ]}`), IP: "192.0.2.1",
			},
			row{"1", "track", "button_clicked", "u1", "a1", "2026-11-23T10:00:00.50Z", "2026-11-23T10:00:01Z", "web", `{ "n" : 1.0,"n":1e2 , "ü":"\u00fc" }`, `{"a": [ ]}`},
		},
		{
			event.Event{ID: "2", Type: "track", Name: "only name"},
			row{"2", "track", "only name", nil, nil, nil, nil, nil, "{}", "{}"},
		},
		{
			event.Event{ID: "3", Type: "page", Name: "other zones", Timestamp: "2026-11-23t00:30:00.123456789+01:00", ReceivedAt: "2026-02-30T10:00:00+00:00"},
			row{"3", "page", "other zones", nil, nil, "2026-11-22T23:30:00.123456789Z", "2026-02-30T10:00:00+00:00", nil, "{}", "{}"},
		},
		{
			event.Event{ID: "4\x00", Type: "track", Name: "a\x00b", UserID: "\x00", Data: []byte(`{"t":"\u0000"}`), Context: []byte(`{"k":1}`), Extra: []byte(`"plan":"pro"`)},
			row{"4\x00", "track", "a\x00b", "\x00", nil, nil, nil, nil, `{"t":"\u0000"}`, `{"k":1,"extra":{"plan":"pro"}}`},
		},
	} {
		wantAll(t, deliver(t, c, []connector.Delivery{{Event: e.sent}}), connector.Delivered, "")
		var got row
		pointers := make([]any, len(got))
		for i := range got {
			pointers[i] = &got[i]
		}
		if err := shell(t, path).QueryRow("SELECT "+strings.Join(warehouse.Columns[:], ",")+" FROM events WHERE id = ?", e.sent.ID).Scan(pointers...); err != nil {
			t.Fatal(err)
		}
		if got != e.want {
			t.Errorf("got  %q\nwant %q", got, e.want)
		}
	}
}

func TestDuplicatesAreToldFromNewRows(t *testing.T) {
	t.Parallel()
	c := open(t, filepath.Join(t.TempDir(), FileName))
	seen := connectortest.Plain(150)
	wantAll(t, deliver(t, c, seen), connector.Delivered, "")
	wantAll(t, deliver(t, c, seen), connector.Duplicate, "")
	fresh := connectortest.Plain(150)
	var mixed []connector.Delivery
	var want []connector.Class
	for i := range fresh {
		mixed = append(mixed, fresh[i], seen[i], fresh[i])
		want = append(want, connector.Delivered, connector.Duplicate, connector.Duplicate)
	}
	var got []connector.Class
	for _, r := range deliver(t, c, mixed) {
		got = append(got, r.Class)
	}
	if !slices.Equal(got, want) {
		t.Errorf("classes %v", got)
	}
}

// The call's context ends while the disk takes its time over the commit.
func TestCommitThatOutlivesItsCallIsAmbiguous(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	c := open(t, path)
	wantAll(t, deliver(t, c, connectortest.Plain(1)), connector.Delivered, "")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow := make(chan struct{})
	if err := c.file.conn.Raw(func(driver any) error {
		driver.(interface {
			RegisterCommitHook(modernc.CommitHookFn)
		}).RegisterCommitHook(func() int32 {
			cancel()
			<-slow
			return 0
		})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	deliveries := connectortest.Plain(5)
	call := c.Plan(deliveries).Calls[0]
	wantAll(t, c.Send(ctx, call), connector.Ambiguous, "commit")

	// The next call waits for its turn, no longer than its context.
	over, cancelOver := context.WithCancel(t.Context())
	cancelOver()
	wantAll(t, c.Send(over, call), connector.Retryable, "timeout")

	close(slow)
	wantAll(t, c.Send(t.Context(), call), connector.Duplicate, "")
	if n := len(ids(t, path)); n != 6 {
		t.Errorf("%d rows, want 6", n)
	}
}

func TestFullDiskStoresNothingAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	c := open(t, path)
	wantAll(t, deliver(t, c, connectortest.Plain(1)), connector.Delivered, "")
	limit := func(pages int) {
		if err := c.file.exec(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // SQLite takes the present size if that is more
	deliveries := connectortest.Plain(500)
	wantAll(t, deliver(t, c, deliveries), connector.Retryable, "disk_full")
	if n := len(ids(t, path)); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
	wantAll(t, deliver(t, c, deliveries), connector.Delivered, "") // on a connection without the limit
}

func TestWhatAPersonMustPutRightPauses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, code, says string
		prepare          func(t *testing.T, path string)
	}{
		{"newer schema", "schema", "schema version 99", func(t *testing.T, path string) {
			mustExec(t, shell(t, path), createTable, "PRAGMA user_version = 99")
		}},
		{"another table of the name", "schema", "no column named type", func(t *testing.T, path string) {
			mustExec(t, shell(t, path), "CREATE TABLE events (id TEXT PRIMARY KEY, day TEXT)")
		}},
		{"no key on id", "schema", "ON CONFLICT", func(t *testing.T, path string) {
			mustExec(t, shell(t, path), strings.Replace(createTable, "PRIMARY KEY", "", 1))
		}},
		{"not a database", "not_a_database", "not a database", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("not a database\n", 300)), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"a folder", "not_writable", "unable to open", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		{"a file where the folder should be", "not_writable", "not a directory", func(t *testing.T, path string) {
			if err := os.Remove(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Dir(path), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), FileName)
			c.prepare(t, path)
			results := deliver(t, open(t, path), connectortest.Plain(2))
			wantAll(t, results, connector.Auth, c.code)
			if !strings.Contains(results[0].Message, c.says) {
				t.Errorf("message does not say %q: %s", c.says, results[0].Message)
			}
		})
	}
}

func TestFileMovedAsideKeepsItsRowsAndANewOneIsOpened(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	c := open(t, path)
	before, after := connectortest.Plain(3), connectortest.Plain(2)
	wantAll(t, deliver(t, c, before), connector.Delivered, "")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	wantAll(t, deliver(t, c, after), connector.Delivered, "")
	if n := len(ids(t, path+".old")); n != len(before) {
		t.Errorf("%d rows in the file moved aside, want %d", n, len(before))
	}
	if n := len(ids(t, path)); n != len(after) {
		t.Errorf("%d rows in the new file, want %d", n, len(after))
	}
}

func TestFileIsReadWhileItIsWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FileName)
	c := open(t, path)
	wantAll(t, deliver(t, c, connectortest.Plain(1)), connector.Delivered, "")
	reader := shell(t, path)
	tx, err := reader.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() //nolint:errcheck // it only reads
	count := func(q interface {
		QueryRow(string, ...any) *sql.Row
	}) (n int) {
		if err := q.QueryRow("SELECT count(*) FROM events").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(tx); n != 1 {
		t.Fatalf("%d rows", n)
	}
	wantAll(t, deliver(t, c, connectortest.Plain(100)), connector.Delivered, "")
	if n := count(tx); n != 1 {
		t.Errorf("the reader's snapshot has %d rows, want 1", n)
	}
}

func TestDurabilityIsAskedOfTheEngine(t *testing.T) {
	t.Parallel()
	c := open(t, filepath.Join(t.TempDir(), FileName))
	wantAll(t, deliver(t, c, connectortest.Plain(1)), connector.Delivered, "")
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "user_version": "1"} {
		var got string
		if err := c.file.conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", pragma, got, err, want)
		}
	}
}

func TestDefaultPathIsInTheDataFolder(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	conn, err := New(nil, connector.Env{DataDir: folder})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := conn.(*Connector).path, filepath.Join(folder, "warehouse.db"); got != want {
		t.Errorf("path %q, want %q", got, want)
	}
	if _, err := New(nil, connector.Env{}); err == nil || !strings.HasPrefix(err.Error(), "path: ") {
		t.Errorf("without folder and path: %v", err)
	}
}

func TestUnknownErrorsAreTriedAgain(t *testing.T) {
	t.Parallel()
	if r := failure(errors.New("something new")); r.Class != connector.Retryable || r.Message != "something new" {
		t.Errorf("%+v", r)
	}
}
