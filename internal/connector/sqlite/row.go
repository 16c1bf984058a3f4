package sqlite

import (
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
	"github.com/eventsluice/sluice/internal/event"
)

// row is an event as the arguments of an INSERT, in the order of the columns.
type row [len(warehouse.Columns)]any

func (r *row) id() string { return r[0].(string) }

func makeRow(e *event.Event) (row, *connector.Result) {
	return row{
		e.ID, e.Type, e.Name, optional(e.UserID), optional(e.AnonymousID),
		optional(utc(e.Timestamp)), optional(utc(e.ReceivedAt)), optional(e.Source),
		string(warehouse.Data(e)), string(warehouse.Context(e)),
	}, nil
}

// optional returns NULL for an empty string.
func optional(s string) any {
	if s == "" {
		return nil
	}
	return s
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
