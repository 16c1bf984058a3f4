package event

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Limits bound what ParseSent accepts. Zero fields mean the defaults.
type Limits struct {
	// MaxBytes is the most bytes of one event as sent. Default 1,000,000: less
	// than a record of Kinesis (1 MiB) and an asynchronous invocation of
	// Lambda (1 MB), with room for the fields that the gateway adds.
	MaxBytes int
	// MaxDepth is how many objects and arrays may stand in each other in the
	// value of one member of the event; an empty data object is one level.
	// Default 64, at most 500: deeper is treated as 500.
	MaxDepth int
}

const (
	defaultMaxBytes = 1_000_000
	defaultMaxDepth = 64
	mostDepth       = 500
	// storedDepth is what ParseStored accepts: unknown members of the sent
	// event are two levels deeper in the stored one, in context and in extra.
	storedDepth = mostDepth + 2

	maxName = 512 // bytes of a name
	maxID   = 256 // bytes of an id
	maxUser = 512 // bytes of a user id or an anonymous id
)

func (l Limits) withDefaults() Limits {
	if l.MaxBytes <= 0 {
		l.MaxBytes = defaultMaxBytes
	}
	if l.MaxDepth <= 0 {
		l.MaxDepth = defaultMaxDepth
	}
	l.MaxDepth = min(l.MaxDepth, mostDepth)
	return l
}

// Codes of an Invalid.
const (
	CodeInvalidJSON      = "invalid_json"        // not JSON by RFC 8259
	CodeRequired         = "required"            // missing, null or empty
	CodeInvalidType      = "invalid_type"        // another type of JSON value is needed here
	CodeTooLong          = "too_long"            // a string over its limit
	CodeUnknownType      = "unknown_type"        // type is none of the Type constants
	CodeInvalidTimestamp = "invalid_timestamp"   // not a time by RFC 3339
	CodeTooLarge         = "too_large"           // the event is over Limits.MaxBytes
	CodeTooDeep          = "too_deep"            // over Limits.MaxDepth
	CodeInvalidUTF8      = "invalid_utf8"        // a string is not UTF-8
	CodeInvalidUnicode   = "invalid_unicode"     // half a surrogate pair as \u escape
	CodeDuplicateKey     = "duplicate_key"       // two members of one object have the same name
	CodeNumberOutOfRange = "number_out_of_range" // beyond what a float64 can hold
	CodeAmbiguous        = "ambiguous"           // both a batch and an event, see SentReader
)

// Invalid says what is wrong with one event, or with a whole document. It is
// an error.
type Invalid struct {
	// Pointer is the place, an RFC 6901 JSON pointer into the sent event (into
	// the document, if the document is at fault). A pointer of more than
	// 512 bytes is cut to the nearest enclosing value.
	Pointer string
	// Code is one of the Code constants.
	Code string
	// Detail is for people. It holds nothing of the event's values.
	Detail string
}

func (v *Invalid) Error() string {
	if v.Pointer == "" {
		return v.Code + ": " + v.Detail
	}
	return v.Code + " at " + v.Pointer + ": " + v.Detail
}

// flaw is a finding of the scanner: cheap to make, turned into an Invalid only
// when it is reported.
type flaw struct {
	code string
	why  string
	at   int // offset into the scanned bytes
}

// invalid turns a flaw in the value that begins at start into an Invalid. In
// the document, b begins at an offset and on a line, both counted from 0.
func (f flaw) invalid(b []byte, start, offset, lines int) *Invalid {
	v := &Invalid{Code: f.code, Detail: f.why}
	switch f.code {
	case CodeInvalidJSON:
		line, column := position(b, f.at)
		v.Detail = fmt.Sprintf("not JSON at byte %d (line %d, column %d): %s", offset+f.at, lines+line, column, f.why)
	case CodeTooLarge:
	case CodeRequired:
		v.Pointer = "/name" // there is nothing to point to if it is missing
		if f.at != start {
			v.Pointer = pointer(b, start, f.at)
		}
	default:
		v.Pointer = pointer(b, start, f.at)
	}
	return v
}

// position returns line and column of an offset, both counted from 1, the
// column in characters, without a byte order mark.
func position(b []byte, at int) (line, column int) {
	before := bytes.TrimPrefix(b[:min(at, len(b))], bom)
	line = bytes.Count(before, []byte{'\n'}) + 1
	before = before[bytes.LastIndexByte(before, '\n')+1:]
	return line, utf8.RuneCount(before) + 1
}

// maxPointer is the most bytes of a pointer: it goes into answers and logs.
const maxPointer = 512

// pointer returns the JSON pointer, from the value that begins at start, of
// the innermost value that the offset at lies in. For a flaw in a member's
// name that is the member if the name can be read, else the object.
// Everything before at is valid. It walks the bytes again from the start:
// only events that are refused pay for it.
func pointer(b []byte, start, at int) string {
	type level struct {
		object bool
		index  int // of the element, in an array
		size   int // of the pointer to the container itself
	}
	var (
		path   []byte
		levels []level
	)
	for i := start; i < at && i < len(b); {
		switch c := b[i]; c {
		case '{', '[':
			if n := len(levels); n > 0 && !levels[n-1].object {
				path = strconv.AppendInt(append(path[:levels[n-1].size], '/'), int64(levels[n-1].index), 10)
			}
			levels = append(levels, level{object: c == '{', size: len(path)})
			i++
		case '}', ']':
			levels = levels[:len(levels)-1]
			i++
		case ',':
			top := &levels[len(levels)-1]
			top.index++
			path = path[:top.size]
			i++
		case '"':
			end := i + 1
			for end < at && b[end] != '"' {
				if b[end] == '\\' {
					end++
				}
				end++
			}
			if end++; end > at { // at lies inside of this string
				i = at
				break
			}
			colon := skipSpace(b, end)
			if n := len(levels); n > 0 && levels[n-1].object && colon < len(b) && b[colon] == ':' {
				path = AppendPointerToken(append(path[:levels[n-1].size], '/'), unquoted(nil, b[i+1:end-1]))
				i = colon + 1
				break
			}
			i = end
		default:
			i++
		}
	}
	if n := len(levels); n > 0 && !levels[n-1].object {
		path = strconv.AppendInt(append(path[:levels[n-1].size], '/'), int64(levels[n-1].index), 10)
	}
	if len(path) > maxPointer {
		path = path[:bytes.LastIndexByte(path[:maxPointer+1], '/')]
	}
	return string(path)
}

// AppendPointerToken appends the name of a member as a reference token of a JSON
// pointer (RFC 6901).
func AppendPointerToken(dst, name []byte) []byte {
	if !bytes.ContainsAny(name, "~/") {
		return append(dst, name...)
	}
	for _, c := range name {
		switch c {
		case '~':
			dst = append(dst, "~0"...)
		case '/':
			dst = append(dst, "~1"...)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
