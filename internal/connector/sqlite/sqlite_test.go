package sqlite

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
)

func TestConforms(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, connectortest.Harness{
		Open: func(t *testing.T) *connectortest.Destination {
			path := filepath.Join(t.TempDir(), "sub folder", "ware?house #1%20.db")
			return &connectortest.Destination{
				Factory:  impatient,
				Settings: fmt.Appendf(nil, `{"path":%q}`, path),
				Arrived:  func(t *testing.T) []string { return ids(t, path) },
				Enter: map[connectortest.State]func(*testing.T) func(){
					connectortest.Away:    func(t *testing.T) func() { return lock(t, path) },
					connectortest.Hanging: func(t *testing.T) func() { return lock(t, path) },
					connectortest.Denied:  func(t *testing.T) func() { return replace(t, path) },
					connectortest.Fussy:   func(t *testing.T) func() { return refuse(t, path, connectortest.BadID) },
				},
			}
		},
		Cannot: map[connectortest.State]string{
			connectortest.Throttling: "a file asks for no patience",
			connectortest.LostAnswer: "see TestCommitThatOutlivesItsCallIsAmbiguous",
		},
	})
}

// impatient is New with a short wait for locks.
func impatient(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	conn, err := New(raw, env)
	if err != nil {
		return nil, err
	}
	conn.(*Connector).busy = 500 * time.Millisecond
	return conn, nil
}

// shell opens the file as the sqlite3 shell of a person would.
func shell(t *testing.T, path string) *sql.DB {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	mustExec(t, db, "PRAGMA busy_timeout = 10000")
	return db
}

func mustExec(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func ids(t *testing.T, path string) []string {
	t.Helper()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	db := shell(t, path)
	var tables int
	if err := db.QueryRow("SELECT count(*) FROM sqlite_schema WHERE name = 'events'").Scan(&tables); err != nil {
		t.Fatal(err)
	}
	if tables == 0 {
		return nil
	}
	rows, err := db.Query("SELECT id FROM events ORDER BY rowid")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		list = append(list, id)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// lock is a person who has left a transaction open.
func lock(t *testing.T, path string) (leave func()) {
	db := shell(t, path)
	mustExec(t, db, "PRAGMA journal_mode = WAL", "BEGIN IMMEDIATE")
	return func() { mustExec(t, db, "ROLLBACK") }
}

// replace puts something else where the warehouse was.
func replace(t *testing.T, path string) (leave func()) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".aside"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("id;name\n1;this is not a database, it is a list of names\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".aside", path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// refuse makes the table refuse one id, as a constraint of a person could.
func refuse(t *testing.T, path, id string) (leave func()) {
	db := shell(t, path)
	mustExec(t, db, createTable, fmt.Sprintf(`CREATE TRIGGER fussy BEFORE INSERT ON events WHEN NEW.id = '%s'
		BEGIN SELECT RAISE(ABORT, 'no such product'); END`, id))
	return func() { mustExec(t, db, "DROP TRIGGER fussy") }
}
