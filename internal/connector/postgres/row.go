package postgres

import (
	"bytes"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
	"github.com/eventsluice/sluice/internal/event"
)

// row is an event as PostgreSQL takes it. A nil pointer is NULL.
type row struct {
	id, kind, name              string
	userID, anonymousID, source *string
	timestamp, receivedAt       *time.Time
	data, context               string
}

// makeRow maps an event, or says why PostgreSQL cannot have it.
func makeRow(e *event.Event) (row, *connector.Result) {
	if strings.ContainsRune(e.ID, 0) {
		// Replacing the character could make two ids one.
		return row{}, &connector.Result{Class: connector.Permanent, Code: "id", Message: "the id has the character U+0000, which PostgreSQL cannot store"}
	}
	timestamp, ok := parseTime(e.Timestamp)
	if !ok {
		return row{}, &connector.Result{Class: connector.Permanent, Code: "timestamp", Message: "the timestamp is not a time (RFC 3339)"}
	}
	receivedAt, ok := parseTime(e.ReceivedAt)
	if !ok {
		return row{}, &connector.Result{Class: connector.Permanent, Code: "received_at", Message: "received_at is not a time (RFC 3339)"}
	}
	return row{
		id: e.ID, kind: withoutNUL(e.Type), name: withoutNUL(e.Name),
		userID: optional(e.UserID), anonymousID: optional(e.AnonymousID), source: optional(e.Source),
		timestamp: timestamp, receivedAt: receivedAt,
		data: string(escapedNUL(warehouse.Data(e))), context: string(escapedNUL(warehouse.Context(e))),
	}, nil
}

// parseTime reads an RFC 3339 time; an empty one is NULL. PostgreSQL keeps
// microseconds: the rest is cut off.
func parseTime(s string) (*time.Time, bool) {
	if s == "" {
		return nil, true
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return nil, false
	}
	t = t.UTC().Truncate(time.Microsecond)
	return &t, true
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	s = withoutNUL(s)
	return &s
}

// withoutNUL replaces U+0000, which text cannot hold, by U+FFFD.
func withoutNUL(s string) string { return strings.ReplaceAll(s, "\x00", "\ufffd") }

// escapedNUL replaces the escape \u0000 in JSON, which jsonb cannot hold, by
// \ufffd. JSON has no other way to write the character.
func escapedNUL(raw []byte) []byte {
	const nul, replacement = `\u0000`, `\ufffd`
	if !bytes.Contains(raw, []byte(nul)) {
		return raw
	}
	out := bytes.Clone(raw)
	for i := 0; i < len(out); i++ {
		if out[i] != '\\' {
			continue
		}
		if bytes.HasPrefix(out[i:], []byte(nul)) {
			copy(out[i:], replacement)
		}
		i++ // over the character that the backslash escapes, another one perhaps
	}
	return out
}

// columnArrays turns rows into one array per column, the arguments of
// table.insert.
func columnArrays(rows []row) []any {
	n := len(rows)
	id, kind, name := make([]string, n), make([]string, n), make([]string, n)
	userID, anonymousID, source := make([]*string, n), make([]*string, n), make([]*string, n)
	timestamp, receivedAt := make([]*time.Time, n), make([]*time.Time, n)
	data, context := make([]string, n), make([]string, n)
	for i := range rows {
		r := &rows[i]
		id[i], kind[i], name[i] = r.id, r.kind, r.name
		userID[i], anonymousID[i], source[i] = r.userID, r.anonymousID, r.source
		timestamp[i], receivedAt[i] = r.timestamp, r.receivedAt
		data[i], context[i] = r.data, r.context
	}
	return []any{id, kind, name, userID, anonymousID, timestamp, receivedAt, source, data, context}
}
