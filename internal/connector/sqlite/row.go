package sqlite

import (
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/event"
)

// row is an event as the arguments of an INSERT, in the order of columns.
type row [10]any

// columns of the table events. The README describes them.
var columns = [len(row{})]string{
	"id", "type", "name", "user_id", "anonymous_id", "timestamp", "received_at", "source", "data", "context",
}

func (r *row) id() string { return r[0].(string) }

func makeRow(e *event.Event) row {
	return row{
		e.ID, e.Type, e.Name, optional(e.UserID), optional(e.AnonymousID),
		optional(utc(e.Timestamp)), optional(utc(e.ReceivedAt)), optional(e.Source),
		object(e.Data), contextOf(e),
	}
}

// optional returns NULL for an empty string.
func optional(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func object(raw []byte) string {
	if len(raw) == 0 {
		return "{}"
	}
	return string(raw)
}

// contextOf returns the context of an event as it is stored, with the unknown
// members of the sent object under "extra".
func contextOf(e *event.Event) string {
	if len(e.Extra) == 0 {
		return object(e.Context)
	}
	// Append alone knows how the two are joined; context is its last member.
	only := event.Event{Context: e.Context, Extra: e.Extra}
	prefix := len((&event.Event{}).Append(nil)) - len("{}}")
	stored := only.Append(nil)
	return string(stored[prefix : len(stored)-1])
}

// utc returns an RFC 3339 time in UTC, so that the column sorts: as sent if it
// ends in Z, else converted, at the same precision up to nanoseconds. What is
// not a time stays as it is.
func utc(timestamp string) string {
	if strings.HasSuffix(timestamp, "Z") || timestamp == "" {
		return timestamp
	}
	// RFC 3339 allows lower case letters, package time does not.
	upper := strings.ToUpper(timestamp)
	t, err := time.Parse(time.RFC3339Nano, upper)
	if err != nil {
		return timestamp
	}
	return t.UTC().Format(time.RFC3339Nano)
}
