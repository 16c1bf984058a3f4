package postgres

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
	"github.com/eventsluice/sluice/internal/event"
)

// row is an event as PostgreSQL takes it.
type row struct {
	id string
	// tuple is the row in the form of COPY … (FORMAT binary): the number of
	// columns as int16, and for each column
	//
	//	int32  length of the value in bytes, -1 for NULL
	//	bytes  the value: text as it is; timestamptz as int64, microseconds since
	//	       2000-01-01; jsonb as a version byte, 1, and the text
	//
	// Elements of an array have the same form. Numbers are big-endian. Source:
	// PostgreSQL 15, COPY, "Binary Format", and timestamptz_recv and jsonb_recv.
	tuple []byte
}

const (
	null         = -1
	jsonbVersion = 1
	// epoch is 2000-01-01 in microseconds since 1970.
	epoch = 946_684_800_000_000
)

// makeRow maps an event, or says why PostgreSQL cannot have it.
func makeRow(e *event.Event) (row, *connector.Result) {
	if strings.IndexByte(e.ID, 0) >= 0 {
		// Replacing the character could make two ids one.
		return row{}, &connector.Result{Class: connector.Permanent, Code: "id", Message: "id: has the character U+0000, which PostgreSQL cannot store"}
	}
	data, context := escapedNUL(warehouse.Data(e)), escapedNUL(warehouse.Context(e))
	b := make([]byte, 0, len(e.ID)+len(e.Type)+len(e.Name)+len(e.UserID)+len(e.AnonymousID)+len(e.Source)+len(data)+len(context)+
		2+4*len(warehouse.Columns)+2*8+2*1)
	b = binary.BigEndian.AppendUint16(b, uint16(len(warehouse.Columns)))
	b = appendText(b, e.ID)
	b = appendText(b, withoutNUL(e.Type))
	b = appendText(b, withoutNUL(e.Name))
	b = appendOptional(b, e.UserID)
	b = appendOptional(b, e.AnonymousID)
	for _, time := range [...]struct{ name, text string }{{"timestamp", e.Timestamp}, {"received_at", e.ReceivedAt}} {
		if time.text == "" {
			b = appendInt32(b, null)
			continue
		}
		t, refused := warehouse.Time(time.name, time.text)
		if refused != nil {
			return row{}, refused
		}
		b = binary.BigEndian.AppendUint64(appendInt32(b, 8), uint64(t.UnixMicro()-epoch)) //nolint:gosec // two's complement is the form
	}
	b = appendOptional(b, e.Source)
	b = append(append(appendInt32(b, len(data)+1), jsonbVersion), data...)
	b = append(append(appendInt32(b, len(context)+1), jsonbVersion), context...)
	return row{id: e.ID, tuple: b}, nil
}

func appendInt32(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(int32(n))) //nolint:gosec // an event is far smaller
}

func appendText(b []byte, s string) []byte { return append(appendInt32(b, len(s)), s...) }

// appendOptional appends NULL for an empty string.
func appendOptional(b []byte, s string) []byte {
	if s == "" {
		return appendInt32(b, null)
	}
	return appendText(b, withoutNUL(s))
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

// cutField cuts the first value, with its length, off the rest of a tuple.
func cutField(rest []byte) (value, after []byte) {
	n := 4 + max(0, int(int32(binary.BigEndian.Uint32(rest)))) //nolint:gosec // see null
	return rest[:n], rest[n:]
}

// arrays are rows as the arguments of table.insert, one array per column.
type arrays [len(warehouse.Columns)][]byte

// spare are arrays that are not in use.
var spare = sync.Pool{New: func() any { return new(arrays) }}

// columnTypes are the types of the columns.
var columnTypes = [len(warehouse.Columns)]uint32{
	pgtype.TextOID, pgtype.TextOID, pgtype.TextOID, pgtype.TextOID, pgtype.TextOID,
	pgtype.TimestamptzOID, pgtype.TimestamptzOID, pgtype.TextOID, pgtype.JSONBOID, pgtype.JSONBOID,
}

// fill makes the arrays of some rows, at least one. An array is
//
//	int32  1, the number of dimensions
//	int32  1, there may be NULLs
//	int32  the type of the elements
//	int32  their number
//	int32  1, the index of the first
//
// and the elements, as in row.tuple. Source: PostgreSQL 15, array_recv.
func (a *arrays) fill(rows []row) [][]byte {
	for i := range a {
		b := appendInt32(appendInt32(a[i][:0], 1), 1)
		b = binary.BigEndian.AppendUint32(b, columnTypes[i])
		a[i] = appendInt32(appendInt32(b, len(rows)), 1)
	}
	for i := range rows {
		rest := rows[i].tuple[2:]
		for j := range a {
			var value []byte
			value, rest = cutField(rest)
			a[j] = append(a[j], value...)
		}
	}
	return a[:]
}

// The header of COPY … (FORMAT binary), a signature, no flags and no extension,
// and its end, -1 for a number of fields.
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	copyTrailer = "\xff\xff"
)

// copyReader reads rows in the form of COPY … (FORMAT binary).
type copyReader struct {
	rows []row
	next int    // the next row
	left []byte // what is begun
}

func newCopyReader(rows []row) *copyReader { return &copyReader{rows: rows, left: []byte(copyHeader)} }

// Read fills p, so that the server gets few large pieces.
func (r *copyReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(r.left) == 0 {
			switch {
			case r.next < len(r.rows):
				r.left = r.rows[r.next].tuple
			case r.next == len(r.rows):
				r.left = []byte(copyTrailer)
			default:
				return n, io.EOF
			}
			r.next++
		}
		copied := copy(p[n:], r.left)
		n, r.left = n+copied, r.left[copied:]
	}
	return n, nil
}
