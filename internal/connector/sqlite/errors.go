package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
)

// schemaError is a warehouse that this program cannot write to.
type schemaError struct{ text string }

func (e *schemaError) Error() string { return e.text }

// primaryCode returns the primary result code of SQLite (without the extended
// part), or -1 if err is not of SQLite. Source: sqlite.org/rescode.html.
func primaryCode(err error) int {
	if e, ok := errors.AsType[*modernc.Error](err); ok {
		return e.Code() & 0xff
	}
	return -1
}

func isBusy(err error) bool {
	code := primaryCode(err)
	return code == sqlite3.SQLITE_BUSY || code == sqlite3.SQLITE_LOCKED
}

// isRowFault reports whether one row is to blame, and not the file.
func isRowFault(err error) bool {
	switch primaryCode(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH:
		return true
	}
	return false
}

// failure is the result of rows of which none was stored.
func failure(err error) connector.Result {
	r := connector.Result{Class: connector.Retryable, Code: "sqlite", Message: message(err)}
	switch primaryCode(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		r.Code = "locked"
		return r
	case sqlite3.SQLITE_FULL:
		r.Code = "disk_full"
		return r
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT:
		return r
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		// Writing on could only make it worse. A person has to look.
		r.Class, r.Code = connector.Auth, "not_a_database"
		return r
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN:
		r.Class, r.Code = connector.Auth, "not_writable"
		return r
	case sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA:
		// A table or column is missing, or is something else.
		r.Class, r.Code = connector.Auth, "schema"
		return r
	}
	_, schema := errors.AsType[*schemaError](err)
	switch {
	case schema:
		r.Class, r.Code = connector.Auth, "schema"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		r.Code = "timeout"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		r.Code = "disk_full"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR):
		r.Class, r.Code = connector.Auth, "not_writable"
	}
	return r
}

// commitFailure is the result of rows whose commit failed. Most failures leave
// the transaction undone; after an I/O error nobody knows what is on the disk.
func commitFailure(err error) connector.Result {
	switch primaryCode(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL:
		return failure(err)
	}
	return ambiguous(err)
}

// ambiguous is the result of rows that may have been stored.
func ambiguous(err error) connector.Result {
	return connector.Result{Class: connector.Ambiguous, Code: "commit", Message: message(err)}
}

// refused is the result of a row that the table does not take.
func refused(err error) connector.Result {
	return connector.Result{Class: connector.Permanent, Code: "row", Message: message(err)}
}

func message(err error) string { return httpcall.Masker{}.Text(err.Error(), httpcall.MaxMessage) }
