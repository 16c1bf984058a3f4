package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"net/url"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
)

// SQLSTATE codes. Source: PostgreSQL, appendix A (errcodes.txt of version 15).
const (
	undefinedTable      = "42P01"
	duplicateTable      = "42P07"
	uniqueViolation     = "23505"
	transactionUnknown  = "08007"
	completionUnknown   = "40003"
	databaseDropped     = "57P04"
	readOnlyTransaction = "25006"
	classData           = "22"
	classConstraint     = "23"
	classProgramLimit   = "54"
	classAuthorization  = "28"
	classCatalogName    = "3D"
	classSchemaName     = "3F"
	classAccessRule     = "42" // missing table or column, no privilege, no unique key
	classFeature        = "0A"
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
		// to the new primary soon.
		return connector.Retryable
	}
	if len(code) < 2 {
		return connector.Retryable
	}
	switch code[:2] {
	case classAuthorization, classCatalogName, classSchemaName, classAccessRule, classFeature:
		return connector.Auth
	case classData, classConstraint, classProgramLimit:
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
	return code == duplicateTable || code == uniqueViolation
}

// redact makes results whose texts hold no password.
type redact struct{ masker httpcall.Masker }

func newRedact(cfg *pgx.ConnConfig) redact {
	return redact{httpcall.NewMasker(cfg.Password, url.QueryEscape(cfg.Password), url.PathEscape(cfg.Password))}
}

// failure is the result of rows whose statement failed, for a reason that is
// not in them.
func (r redact) failure(err error) connector.Result {
	result := connector.Result{Message: r.masker.Text(err.Error(), httpcall.MaxMessage)}
	var pgError *pgconn.PgError
	var connect *pgconn.ConnectError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &pgError):
		result.Class, result.Code = classify(pgError.Code), pgError.Code
		if result.Class == connector.Permanent { // of no row: of the CREATE TABLE
			result.Class = connector.Auth
		}
		result.Response = r.response(pgError)
	case errors.As(err, &cert):
		result.Class, result.Code = connector.Auth, "tls"
	case errors.As(err, &connect), errors.Is(err, errNotBegun):
		result.Class, result.Code = connector.Retryable, "connect"
	case pgconn.SafeToRetry(err):
		result.Class, result.Code = connector.Retryable, "connection"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		result.Class, result.Code = connector.Ambiguous, "timeout"
	default:
		// The connection ended between the statement and its answer: the
		// server may have committed it.
		result.Class, result.Code = connector.Ambiguous, "connection"
	}
	return result
}

// refused is the result of a row that the table does not take.
func (r redact) refused(err error) connector.Result {
	result := connector.Result{Class: connector.Permanent, Code: codeOf(err), Message: r.masker.Text(err.Error(), httpcall.MaxMessage)}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		result.Response = r.response(e)
	}
	return result
}

// response is what the server said beyond its message. Its detail may quote
// the row, which the dead letter holds anyway.
func (r redact) response(e *pgconn.PgError) string {
	text := e.Severity + ": " + e.Message
	for _, part := range []struct{ name, text string }{
		{"detail", e.Detail}, {"hint", e.Hint}, {"table", e.TableName}, {"column", e.ColumnName}, {"constraint", e.ConstraintName}, {"where", e.Where},
	} {
		if part.text != "" {
			text += "\n" + part.name + ": " + part.text
		}
	}
	return r.masker.Text(text, httpcall.MaxExcerpt)
}
