package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/warehouse"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// schemaVersion is kept in the file as PRAGMA user_version. A file with a
// higher one was made by a newer program and is not touched.
const schemaVersion = 1

// createTable makes the table. The rows are in the order of delivery by rowid.
// There is no index but that of the key: one on name and timestamp was measured
// to cost half the speed of inserting, one on users, which come in no order,
// two thirds. People may add their own; README.md shows which.
const createTable = `CREATE TABLE IF NOT EXISTS events (
	id           TEXT NOT NULL PRIMARY KEY,
	type         TEXT NOT NULL,
	name         TEXT NOT NULL,
	user_id      TEXT,
	anonymous_id TEXT,
	timestamp    TEXT,
	received_at  TEXT,
	source       TEXT,
	data         TEXT NOT NULL,
	context      TEXT NOT NULL
)`

// maxStatementRows is the most rows of one INSERT. From about 50 on, more make
// no difference (see BenchmarkSend); the engine takes 3,276.
const maxStatementRows = 64

// file is the open database: one connection, and INSERT statements for 1, 2,
// 4, … rows, prepared when first used.
type file struct {
	db      *sql.DB
	conn    *sql.Conn
	inserts [7]*sql.Stmt // 1<<i rows
	info    os.FileInfo
	args    []any
}

// pragmas of the connection. WAL lets people read while rows are written;
// synchronous FULL fsyncs it at every commit, so that a row which was reported
// as delivered survives a loss of power.
var pragmas = []string{"journal_mode = WAL", "synchronous = FULL"}

// busyTimeout is how long a writer waits for another process that writes, or
// until its context ends. Less than the timeout of a call, so that its result
// can say what the matter is.
const busyTimeout = 5 * time.Second

// openFile opens or creates a warehouse and brings its schema up to date.
func openFile(ctx context.Context, path string, busy time.Duration) (_ *file, err error) {
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		return nil, err
	}
	f := &file{db: db}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.conn, err = db.Conn(ctx); err != nil {
		return nil, err
	}
	for _, pragma := range append([]string{fmt.Sprintf("busy_timeout = %d", busy.Milliseconds())}, pragmas...) {
		if _, err := f.conn.ExecContext(ctx, "PRAGMA "+pragma); err != nil {
			return nil, err
		}
	}
	if err := f.migrate(ctx); err != nil {
		return nil, err
	}
	f.info, err = os.Stat(path)
	return f, err
}

// dsn returns the name by which the driver opens a path, whatever its characters.
func dsn(path string) string { return (&url.URL{Scheme: "file", Path: path}).String() }

// makeFolder makes a folder that survives a loss of power.
func makeFolder(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// migrate brings the schema up to date in one transaction.
func (f *file) migrate(ctx context.Context) (err error) {
	if err := f.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.rollback())
		}
	}()
	var have int
	if err := f.conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return err
	}
	if have > schemaVersion {
		return &schemaError{fmt.Sprintf("the warehouse has schema version %d, this program knows up to %d: use a newer one, or another path", have, schemaVersion)}
	}
	if have == schemaVersion {
		return f.exec(ctx, "COMMIT")
	}
	if err := f.exec(ctx, createTable); err != nil {
		return err
	}
	if err := f.exec(ctx, fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)); err != nil {
		return err
	}
	return f.exec(ctx, "COMMIT")
}

// stillAt reports whether path names the file that is open.
func (f *file) stillAt(path string) bool {
	info, err := os.Stat(path)
	return err == nil && os.SameFile(info, f.info)
}

// flush moves all rows from the WAL into the file and empties the WAL. That
// matters for a file that was moved: SQLite closes it without doing so, and the
// WAL that stays behind would be taken for that of the next file of the name.
func (f *file) flush(ctx context.Context) error {
	var busy, frames, moved int
	err := f.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved)
	if err == nil && busy != 0 {
		return errors.New("the warehouse file was moved while others read it: they have to close it")
	}
	return err
}

// insert begins a transaction and inserts rows. If it returns an error the
// transaction is rolled back, else commit must follow.
func (f *file) insert(ctx context.Context, rows []row) (_ []connector.Result, err error) {
	if err := f.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.rollback())
		}
	}()
	results := connector.All(len(rows), connector.Result{Class: connector.Delivered})
	inserted, last, err := f.insertAll(ctx, rows)
	switch {
	case isRowFault(err):
		// Some row is refused, by a constraint or trigger that somebody has
		// added, or for its size. A failed statement leaves nothing of itself.
		if err := f.exec(ctx, "ROLLBACK"); err != nil {
			return nil, err
		}
		if err := f.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
			return nil, err
		}
		return results, f.insertEach(ctx, rows, results)
	case err != nil:
		return nil, err
	case inserted == 0:
		return connector.All(len(rows), connector.Result{Class: connector.Duplicate}), nil
	case inserted < int64(len(rows)):
		err = f.markDuplicates(ctx, rows, results, last-inserted)
	}
	return results, err
}

// insertAll inserts rows and returns how many were new, and the last rowid.
func (f *file) insertAll(ctx context.Context, rows []row) (inserted, last int64, err error) {
	for len(rows) > 0 {
		power := bits.Len(uint(min(len(rows), maxStatementRows))) - 1
		statement, err := f.statement(ctx, power)
		if err != nil {
			return 0, 0, err
		}
		n := 1 << power
		f.args = f.args[:0]
		for i := range n {
			f.args = append(f.args, rows[i][:]...)
		}
		result, err := statement.ExecContext(ctx, f.args...)
		clear(f.args)
		if err != nil {
			return 0, 0, err
		}
		affected, err := result.RowsAffected()
		if err != nil {
			return 0, 0, err
		}
		if affected > 0 {
			inserted += affected
			if last, err = result.LastInsertId(); err != nil {
				return 0, 0, err
			}
		}
		rows = rows[n:]
	}
	return inserted, last, nil
}

// insertEach inserts rows one by one and writes their results.
func (f *file) insertEach(ctx context.Context, rows []row, results []connector.Result) error {
	for i := range rows {
		inserted, _, err := f.insertAll(ctx, rows[i:i+1])
		switch {
		case isRowFault(err):
			results[i] = refused(err)
		case err != nil:
			return err
		case inserted == 0:
			results[i].Class = connector.Duplicate
		}
	}
	return nil
}

// markDuplicates finds out which rows were there before. SQLite gives each new
// row the rowid after the greatest, so the new ones are those after before.
func (f *file) markDuplicates(ctx context.Context, rows []row, results []connector.Result, before int64) error {
	found, err := f.conn.QueryContext(ctx, "SELECT id FROM events WHERE rowid > ?", before)
	if err != nil {
		return err
	}
	defer found.Close()
	fresh := make(map[string]bool, len(rows))
	for found.Next() {
		var id string
		if err := found.Scan(&id); err != nil {
			return err
		}
		fresh[id] = true
	}
	if err := found.Err(); err != nil {
		return err
	}
	for i := range rows {
		id := rows[i].id()
		if !fresh[id] {
			results[i].Class = connector.Duplicate
		}
		delete(fresh, id) // the same id again in this call is a duplicate
	}
	return nil
}

// statement returns the INSERT of 1<<power rows.
func (f *file) statement(ctx context.Context, power int) (*sql.Stmt, error) {
	if f.inserts[power] == nil {
		values := "(" + strings.TrimSuffix(strings.Repeat("?,", len(warehouse.Columns)), ",") + "),"
		statement, err := f.conn.PrepareContext(ctx, "INSERT INTO events ("+strings.Join(warehouse.Columns[:], ",")+") VALUES "+
			strings.TrimSuffix(strings.Repeat(values, 1<<power), ",")+" ON CONFLICT(id) DO NOTHING")
		if err != nil {
			return nil, err
		}
		f.inserts[power] = statement
	}
	return f.inserts[power], nil
}

// commit ends the transaction. Without a context: an interrupted commit would
// have an unknown outcome.
func (f *file) commit() error {
	err := f.exec(context.Background(), "COMMIT")
	if err != nil {
		return errors.Join(err, f.rollback())
	}
	return nil
}

// rollback gives the transaction up. SQLite may have done so already.
func (f *file) rollback() error {
	if err := f.exec(context.Background(), "ROLLBACK"); err != nil && !strings.Contains(err.Error(), "no transaction is active") {
		return err
	}
	return nil
}

func (f *file) exec(ctx context.Context, statement string) error {
	_, err := f.conn.ExecContext(ctx, statement)
	return err
}

// close closes the connection, which moves the rows of the WAL into the file.
func (f *file) close() error {
	var faults []error
	for _, statement := range f.inserts {
		if statement != nil {
			faults = append(faults, statement.Close())
		}
	}
	if f.conn != nil {
		faults = append(faults, f.conn.Close())
	}
	return errors.Join(append(faults, f.db.Close())...)
}
