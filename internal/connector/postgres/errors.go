package postgres

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
)

// SQLSTATE codes. Source: PostgreSQL, appendix A (errcodes.txt of version 15).
const (
	undefinedTable        = "42P01"
	duplicateTable        = "42P07"
	duplicateObject       = "42710" // the row type of the table
	insufficientPrivilege = "42501"
	noMatchingKey         = "42P10" // of ON CONFLICT
	featureNotSupported   = "0A000"
	uniqueViolation       = "23505"
	transactionUnknown    = "08007"
	completionUnknown     = "40003"
	databaseDropped       = "57P04"
	readOnlyTransaction   = "25006"
	classData             = "22"
	classConstraint       = "23"
	classProgramLimit     = "54"
	classAuthorization    = "28"
	classCatalogName      = "3D"
	classSchemaName       = "3F"
	classAccessRule       = "42" // missing table or column, no privilege, no unique key
	classFeature          = "0A"
	classCheckOption      = "44" // of a view
	classRaised           = "P0" // by a trigger: RAISE EXCEPTION
)

// classify returns the class of a code, for rows of which none was stored.
// What is not known is tried again: that is so for classes 08 (connection), 40
// (rollback: deadlock, serialization), 53 (resources), 55 (locks), 57 (operator:
// shutdown, statement timeout), 58 (system) and XX (internal).
func classify(code string) connector.Class {
	switch code {
	case transactionUnknown, completionUnknown:
		return connector.Ambiguous
	case databaseDropped:
		return connector.Auth
	case readOnlyTransaction:
		// A standby, or a primary that has just become one: the name may lead
		// to the new primary soon. See Connector.insertOnce.
		return connector.Retryable
	}
	if len(code) < 2 {
		return connector.Retryable
	}
	switch code[:2] {
	case classAuthorization, classCatalogName, classSchemaName, classAccessRule, classFeature:
		return connector.Auth
	case classData, classConstraint, classProgramLimit, classCheckOption, classRaised:
		return connector.Permanent
	}
	return connector.Retryable
}

// codeOf returns the SQLSTATE of an error, "" if the server did not send one.
func codeOf(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// isRowFault reports whether the statement failed because of what is in one of
// its rows.
func isRowFault(err error) bool {
	code := codeOf(err)
	return code != "" && classify(code) == connector.Permanent
}

func isMissingTable(err error) bool { return codeOf(err) == undefinedTable }

// isCreatedMeanwhile reports whether CREATE TABLE IF NOT EXISTS failed because
// another session was creating the table.
func isCreatedMeanwhile(err error) bool {
	code := codeOf(err)
	return code == duplicateTable || code == duplicateObject || code == uniqueViolation
}

// errNotCommitted is the error of a call that did not come to its commit.
var errNotCommitted = errors.New("not stored")

func notCommitted(err error) error { return fmt.Errorf("%w: %w", errNotCommitted, err) }

// maybeCommitted is the error of several statements that were sent at once. If
// the connection ends before the first answer, pgx says that it was closed
// before anything was sent (v5.12, MultiResultReader.NextResult).
func maybeCommitted(err error) error {
	if codeOf(err) != "" {
		return err
	}
	return fmt.Errorf("%w: %w", errMaybeCommitted, err)
}

var errMaybeCommitted = errors.New("the connection ended before the answer")

// explain makes results that say what the matter is and which setting to look
// at, without the password.
type explain struct {
	masker httpcall.Masker
	table  table
	key    []string
}

func newExplain(cfg *pgx.ConnConfig, table table, key []string) explain {
	return explain{httpcall.NewMasker(cfg.Password, url.QueryEscape(cfg.Password), url.PathEscape(cfg.Password)), table, key}
}

// failure is the result of rows whose statement failed, for a reason that is
// not in them.
func (x explain) failure(err error) connector.Result {
	var result connector.Result
	var pgError *pgconn.PgError
	var connect *pgconn.ConnectError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &pgError):
		result.Class, result.Code = classify(pgError.Code), pgError.Code
		if result.Class == connector.Permanent { // of no row: of the CREATE TABLE
			result.Class = connector.Auth
		}
		result.Response = x.response(pgError)
	case errors.As(err, &cert):
		result.Class, result.Code = connector.Auth, "tls"
	case errors.As(err, &connect), errors.Is(err, errNotCommitted):
		result.Class, result.Code = connector.Retryable, "connect"
	case pgconn.SafeToRetry(err) && !errors.Is(err, errMaybeCommitted):
		result.Class, result.Code = connector.Retryable, "connection"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		result.Class, result.Code = connector.Ambiguous, "timeout"
	default:
		// The connection ended between the statement and its answer: the
		// server may have committed it.
		result.Class, result.Code = connector.Ambiguous, "connection"
	}
	text := err.Error()
	if result.Class == connector.Auth {
		text = x.advice(result.Code) + ": " + text
	}
	result.Message = x.masker.Text(text, httpcall.MaxMessage)
	return result
}

// advice says which setting to correct, or what to do with the table.
func (x explain) advice(code string) string {
	table := x.table.String()
	switch code {
	case "tls":
		return "url: the server's certificate is not trusted; see sslmode and sslrootcert"
	case undefinedTable:
		return "table: " + table + " does not exist; create it, or set create_table"
	case insufficientPrivilege:
		return "table: the role needs INSERT and SELECT on " + table + ", USAGE on its schema, and CREATE there for create_table"
	case noMatchingKey:
		return "key: " + table + " has no unique key on exactly (" + strings.Join(x.key, ", ") + "); create one, or name the columns of the one that it has"
	case databaseDropped:
		return "url: the database was dropped"
	}
	switch code[:min(2, len(code))] {
	case classAuthorization:
		return "url: the server refuses user or password"
	case classCatalogName:
		return "url: there is no such database"
	case classSchemaName:
		return "table: there is no schema of " + table + "; create it"
	}
	return "table: " + table + " cannot take the rows; compare its columns with those that README.md shows"
}

// refused is the result of a row that the table does not take, because of a
// column if one is known.
func (x explain) refused(err error, column string) connector.Result {
	text := err.Error()
	result := connector.Result{Class: connector.Permanent, Code: codeOf(err)}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		result.Response = x.response(e)
		column = cmp.Or(column, e.ColumnName)
	}
	if column != "" {
		text = column + ": " + text
	}
	result.Message = x.masker.Text(text, httpcall.MaxMessage)
	return result
}

// response is what the server said beyond its message. Its detail may quote
// the row, which the dead letter holds anyway.
func (x explain) response(e *pgconn.PgError) string {
	text := e.Severity + ": " + e.Message
	for _, part := range []struct{ name, text string }{
		{"detail", e.Detail}, {"hint", e.Hint}, {"table", e.TableName}, {"column", e.ColumnName}, {"constraint", e.ConstraintName}, {"where", e.Where},
	} {
		if part.text != "" {
			text += "\n" + part.name + ": " + part.text
		}
	}
	return x.masker.Text(text, httpcall.MaxExcerpt)
}
