package redshift

import (
	"errors"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/fault"
)

// throttlePause is the wait when there are too many statements: the Data API
// names none.
const throttlePause = 10 * time.Second

// classify returns the class of a call of AWS that failed.
func classify(err error) connector.Class {
	switch fault.KindOf(err) {
	case fault.Throttled:
		return connector.Throttled
	case fault.Unavailable, fault.Conflict, fault.TooLarge:
		return connector.Retryable
	case fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Invalid:
		return connector.Auth
	}
	return connector.Ambiguous
}

func forbidden(err error) bool { return fault.KindOf(err) == fault.Forbidden }

// explain returns the result of a call of AWS that failed. settings are what to
// look at if somebody must act, unknown is the class if the fate of the call is
// not known.
func explain(settings string, err error, unknown connector.Class) connector.Result {
	r := connector.Result{Class: classify(err), Code: fault.KindOf(err).String(), Message: detail(err)}
	switch r.Class {
	case connector.Auth:
		r.Message = settings + r.Message
	case connector.Ambiguous:
		r.Class = unknown
	case connector.Throttled:
		r.RetryAfter = max(fault.RetryAfter(err), throttlePause)
	}
	r.Message = cut(r.Message)
	return r
}

// detail returns what an error says to the operator.
func detail(err error) string {
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Detail != "" {
		return f.Detail
	}
	return err.Error()
}

func cut(text string) string {
	return httpcall.Cut(strings.ToValidUTF8(text, "\ufffd"), httpcall.MaxMessage)
}

// Codes of results of statements that failed.
const (
	codeMissing = "no_table" // the table, or the one that loads lock
	codeRow     = "row"      // something in a row
)

// failures are what the database says of statements that failed, in small
// letters, and what it means. The Data API gives the words and no SQLSTATE. The
// first line that has all its words counts; what is not here is tried again.
//
// Sources: Redshift, "Troubleshooting data loads", "COPY" and "Serializable
// isolation" (read 2026-11), and texts in bug reports of others who load from S3.
var failures = []struct {
	words   []string
	class   connector.Class
	code    string
	setting string
}{
	{[]string{"serializable isolation violation"}, connector.Retryable, "serialization", ""},
	{[]string{"deadlock"}, connector.Retryable, "deadlock", ""},
	{[]string{"s3serviceexception", "access denied"}, connector.Auth, "copy", "iam_role: the role may not read the file: "},
	{[]string{"s3serviceexception", "nosuchbucket"}, connector.Auth, "copy", "staging_bucket: "},
	{[]string{"s3serviceexception", "addressed using the specified endpoint"}, connector.Auth, "copy", "staging_bucket, which is in another region than the database: "},
	{[]string{"s3serviceexception", "permanentredirect"}, connector.Auth, "copy", "staging_bucket, which is in another region than the database: "},
	{[]string{"s3serviceexception"}, connector.Retryable, "copy", ""},
	{[]string{"the specified s3 prefix", "does not exist"}, connector.Retryable, "copy", ""},
	{[]string{"not authorized to assume iam role"}, connector.Auth, "iam_role", "iam_role, which has to be attached to the cluster: "},
	{[]string{"not authorized to get credentials of role"}, connector.Auth, "iam_role", "iam_role, which has to be attached to the cluster: "},
	{[]string{"default iam role"}, connector.Auth, "iam_role", "iam_role: "},
	{[]string{"load into table", "failed"}, connector.Permanent, codeRow, ""},
	{[]string{"value too long for type"}, connector.Permanent, codeRow, ""},
	{[]string{"string length exceeds ddl length"}, connector.Permanent, codeRow, ""},
	{[]string{"cannot insert a null value"}, connector.Auth, "table", "table, which has another column that must not be null: "},
	{[]string{`schema "`, "does not exist"}, connector.Auth, "schema", "table: "},
	{[]string{`column "`, "does not exist"}, connector.Auth, "column", "table: "},
	{[]string{`database "`, "does not exist"}, connector.Auth, "database", "database: "},
	{[]string{`user "`, "does not exist"}, connector.Auth, "user", "db_user or secret_arn: "},
	{[]string{`relation "`, "does not exist"}, connector.Auth, codeMissing, "table, or create_table: "},
	{[]string{"but expression is of type"}, connector.Auth, "column", "table: "},
	{[]string{"permission denied"}, connector.Auth, "permission", "table, or the rights of the database user (db_user, secret_arn or the AWS identity): "},
	{[]string{"must be owner"}, connector.Auth, "permission", "table, or the rights of the database user (db_user, secret_arn or the AWS identity): "},
	{[]string{"password authentication failed"}, connector.Auth, "password", "secret_arn: "},
}

// explainFailure returns the result of a transaction of n rows that was rolled
// back: nothing of it is in the table. If one of the rows is at fault nobody
// says which, so the call is too large for it, and halves find it.
func explainFailure(o Outcome, n int) connector.Result {
	r := connector.Result{Class: connector.Retryable, Code: strings.ToLower(o.Status), Message: o.Error}
	if o.Status == aborted {
		r.Message = strings.TrimSpace("the statements were stopped before they ended. " + o.Error)
	}
	text := strings.ToLower(o.Error)
	for _, f := range failures {
		if !hasAll(text, f.words) {
			continue
		}
		r.Class, r.Code, r.Message = f.class, f.code, f.setting+o.Error
		break
	}
	if r.Class == connector.Permanent && n > 1 {
		r.Class = connector.TooLarge
	}
	if r.Message == "" {
		r.Message = "the statements failed, and the database does not say why"
	}
	r.Message = cut(r.Message)
	return r
}

func hasAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}
