package clickhouse

import (
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
	"github.com/eventsluice/sluice/internal/event"
)

// row is an event as ClickHouse takes it.
type row struct {
	id string
	// line is a line of TabSeparated: the values of the columns in their order,
	// with tabs between them and a newline at the end; \N is NULL.
	line []byte
}

func makeRow(e *event.Event) (row, *connector.Result) {
	data, context := warehouse.Data(e), warehouse.Context(e)
	// Room for the times, and some escapes.
	const more = len(warehouse.Columns) + 2*len(time.RFC3339Nano) + 32
	b := make([]byte, 0, len(e.ID)+len(e.Type)+len(e.Name)+len(e.UserID)+len(e.AnonymousID)+len(e.Source)+len(data)+len(context)+more)
	b = append(appendText(b, e.ID), '\t')
	b = append(appendText(b, e.Type), '\t')
	b = append(appendText(b, e.Name), '\t')
	b = append(appendOptional(b, e.UserID), '\t')
	b = append(appendOptional(b, e.AnonymousID), '\t')
	var refused *connector.Result
	if b, refused = appendTime(b, "timestamp", e.Timestamp); refused != nil {
		return row{}, refused
	}
	if b, refused = appendTime(append(b, '\t'), "received_at", e.ReceivedAt); refused != nil {
		return row{}, refused
	}
	b = append(appendOptional(append(b, '\t'), e.Source), '\t')
	b = append(appendText(b, data), '\t')
	b = append(appendText(b, context), '\n')
	return row{id: e.ID, line: b}, nil
}

// escapes are the letters after a backslash for bytes that end a value, a line or
// a text in C. Source: ClickHouse, formats, "TabSeparated".
var escapes = [256]byte{'\t': 't', '\n': 'n', '\r': 'r', '\\': '\\', 0: '0'}

func appendText[T ~string | ~[]byte](b []byte, text T) []byte {
	plain := 0
	for i := 0; i < len(text); i++ {
		if escape := escapes[text[i]]; escape != 0 {
			b = append(append(b, text[plain:i]...), '\\', escape)
			plain = i + 1
		}
	}
	return append(b, text[plain:]...)
}

const null = `\N`

// appendOptional appends NULL for an empty string.
func appendOptional(b []byte, text string) []byte {
	if text == "" {
		return append(b, null...)
	}
	return appendText(b, text)
}

// The bounds of DateTime64(6). What is outside would become any time inside.
// Source: ClickHouse, data types, DateTime64 (read 2026-11).
var (
	earliest = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2299, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
)

// appendTime appends a time in UTC, NULL if there is none. A time outside the
// bounds becomes the nearest one inside.
func appendTime(b []byte, column, text string) ([]byte, *connector.Result) {
	if text == "" {
		return append(b, null...), nil
	}
	t, refused := warehouse.Time(column, text)
	switch {
	case refused != nil:
		return b, refused
	case t.Before(earliest):
		t = earliest
	case t.After(latest):
		t = latest
	case strings.HasSuffix(text, "Z") && len(text) <= len("2006-01-02T15:04:05.000000000Z"):
		return append(b, text...), nil
	}
	return t.UTC().AppendFormat(b, time.RFC3339Nano), nil
}
