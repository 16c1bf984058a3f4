package redshift

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
	"github.com/eventsluice/sluice/internal/event"
)

// row is an event as COPY takes it.
type row struct {
	id string
	// line is JSON with a member for each column, and a line break.
	line []byte
}

// maxLine is the most bytes of a row that COPY reads. Source: Redshift, "COPY
// from JSON format", "Data conversion" (read 2026-11).
const maxLine = 4 << 20

// maxNth is the most bytes by which its place in the file makes a row longer.
const maxNth = len(`"` + nthColumn + `":100000,`)

// timeLayout is how times stand in the file, in UTC, to be cast to TIMESTAMPTZ,
// which keeps microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z"

func refuse(column, rule string, args ...any) *connector.Result {
	return &connector.Result{Class: connector.Permanent, Code: column, Message: column + ": " + fmt.Sprintf(rule, args...)}
}

// makeRow maps an event, or says why Redshift cannot have it.
func makeRow(e *event.Event) (row, *connector.Result) {
	if strings.IndexByte(e.ID, 0) >= 0 {
		// Replacing the character could make two ids one.
		return row{}, refuse("id", "has the character U+0000, which Redshift cannot store")
	}
	// The stored form of an event has the columns as members, in their order.
	r := event.Event{
		ID: e.ID, Type: withoutNUL(e.Type), Name: withoutNUL(e.Name),
		UserID: withoutNUL(e.UserID), AnonymousID: withoutNUL(e.AnonymousID), Source: withoutNUL(e.Source),
	}
	for _, text := range [...]struct {
		column, value string
		most          int
	}{
		{"id", r.ID, maxText}, {"type", r.Type, maxType}, {"name", r.Name, maxText},
		{"user_id", r.UserID, maxText}, {"anonymous_id", r.AnonymousID, maxText}, {"source", r.Source, maxSource},
	} {
		if len(text.value) > text.most {
			return row{}, refuse(text.column, "has %d bytes, and the column holds %d", len(text.value), text.most)
		}
	}
	var refused *connector.Result
	if r.Timestamp, refused = formatTime("timestamp", e.Timestamp); refused != nil {
		return row{}, refused
	}
	if r.ReceivedAt, refused = formatTime("received_at", e.ReceivedAt); refused != nil {
		return row{}, refused
	}
	r.Data, r.Context = escapedNUL(e.Data), escapedNUL(warehouse.Context(e))
	line := r.Append(make([]byte, 0, 256+len(r.ID)+len(r.Name)+len(r.UserID)+len(r.AnonymousID)+len(r.Data)+len(r.Context)))
	if n := len(line) + maxNth; n > maxLine {
		return row{}, refuse("data", "with the rest of the event has %d bytes, and COPY reads %d", n, maxLine)
	}
	return row{id: e.ID, line: append(line, '\n')}, nil
}

// formatTime returns a time as it stands in the file, "" for none.
func formatTime(column, text string) (string, *connector.Result) {
	if text == "" {
		return "", nil
	}
	t, refused := warehouse.Time(column, text)
	if refused != nil {
		return "", refused
	}
	t = t.UTC()
	if y := t.Year(); y < 1 || y > 9999 {
		return "", refuse(column, "is in a year that is not 1 to 9999 in UTC")
	}
	return t.Format(timeLayout), nil
}

// withoutNUL replaces U+0000, which VARCHAR cannot hold, by U+FFFD.
func withoutNUL(s string) string { return strings.ReplaceAll(s, "\x00", "\ufffd") }

// escapedNUL replaces the escape \u0000 in JSON by \ufffd, and line breaks, which
// there are between tokens only, by spaces.
func escapedNUL(raw []byte) []byte {
	if !bytes.Contains(raw, []byte(`\u0000`)) && bytes.IndexByte(raw, '\n') < 0 {
		return raw
	}
	out := bytes.Clone(raw)
	for i := 0; i < len(out); i++ {
		switch {
		case out[i] == '\n':
			out[i] = ' '
		case out[i] != '\\':
		case bytes.HasPrefix(out[i:], []byte(`\u0000`)):
			copy(out[i:], `\ufffd`)
			i++
		default:
			i++ // over the character that is escaped, a backslash perhaps
		}
	}
	return out
}
