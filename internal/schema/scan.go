package schema

import (
	"bytes"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"github.com/eventsluice/sluice/internal/event"
)

// view returns a string that shares the memory of b.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// jsonType is what a value is, a bit each, or a set of these.
type jsonType uint8

const (
	null jsonType = 1 << iota
	boolean
	number
	text
	array
	object
	// integer is a number without a fraction; it stands in sets of kinds only.
	integer
)

// The functions below walk over JSON that is known to be valid. On anything
// else they stop somewhere, within the bytes.

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// at returns the byte at i, 0 behind the end.
func at(b []byte, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return 0
}

// kindAt tells what the value that begins at i is.
func kindAt(b []byte, i int) jsonType {
	switch at(b, i) {
	case '"':
		return text
	case '{':
		return object
	case '[':
		return array
	case 't', 'f':
		return boolean
	case 'n':
		return null
	}
	return number
}

// str returns what stands between the quotes of the string at i, whether that
// has escapes, and where the string ends.
func str(b []byte, i int) (raw []byte, escaped bool, end int) {
	if i++; i > len(b) {
		return nil, false, len(b)
	}
	n := bytes.IndexByte(b[i:], '"')
	if n < 0 {
		return b[i:], false, len(b)
	}
	if bytes.IndexByte(b[i:i+n], '\\') < 0 {
		return b[i : i+n], false, i + n + 1
	}
	for j := i; j < len(b); j++ {
		switch b[j] {
		case '\\':
			j++
		case '"':
			return b[i:j], true, j + 1
		}
	}
	return b[i:], true, len(b)
}

// meaning returns the text that the string at i stands for, and where it ends.
func meaning(b []byte, i int) (value []byte, end int) {
	raw, escaped, end := str(b, i)
	if !escaped {
		return raw, end
	}
	s, err := event.Unquote(b[i:end])
	if err != nil {
		return raw, end // half a surrogate pair, which no event has
	}
	return unsafe.Slice(unsafe.StringData(s), len(s)), end
}

// numberEnd returns where the number at i ends.
func numberEnd(b []byte, i int) int {
	for i < len(b) {
		switch c := b[i]; {
		case c >= '0' && c <= '9', c == '-', c == '+', c == '.', c == 'e', c == 'E':
			i++
		default:
			return i
		}
	}
	return i
}

// valueEnd returns where the value at i ends.
func valueEnd(b []byte, i int) int {
	switch kindAt(b, i) {
	case text:
		_, _, i = str(b, i)
	case object, array:
		i = containerEnd(b, i)
	case boolean, null:
		n := len("true") // and null
		if b[i] == 'f' {
			n = len("false")
		}
		i = min(i+n, len(b))
	default:
		i = numberEnd(b, i)
	}
	return i
}

func containerEnd(b []byte, i int) int {
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			_, _, i = str(b, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return len(b)
}

// mostGot is the most bytes of an event's value that are told to anybody.
const mostGot = 64

// short returns a value as people are told of it: its kind, or if it is a scalar
// its JSON, of at most mostGot bytes.
func short(b []byte, i int) string {
	switch kindAt(b, i) {
	case object:
		return "object"
	case array:
		return "array"
	case text:
		value, _ := meaning(b, i)
		return quoted(value)
	}
	return string(clip(b[i:valueEnd(b, i)], mostGot))
}

// quoted returns a text in quotes, cut so that the whole has at most mostGot
// bytes.
func quoted(value []byte) string {
	const ellipsis = "…"
	for most := mostGot - 2; ; {
		cut := clip(value, most)
		s := strconv.Quote(string(cut))
		if len(cut) < len(value) {
			s = s[:len(s)-1] + ellipsis + `"`
		}
		if len(s) <= mostGot {
			return s
		}
		// Escapes made it longer: as much less goes in.
		most = max(0, min(most, len(cut))-max(1, (len(s)-mostGot)/4))
	}
}

// clip returns at most n bytes, cut between characters.
func clip(b []byte, n int) []byte { return b[:clipped(b, n)] }

// clipped returns how many bytes of a text are left if it is cut between
// characters to at most n.
func clipped[T string | []byte](s T, n int) int {
	if len(s) <= n {
		return len(s)
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return n
}
