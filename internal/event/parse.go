package event

import (
	"bytes"
	"fmt"
	"math"
	"sync"
)

// scanners are those of calls that have no SentReader: 16 KiB each.
var scanners = sync.Pool{New: func() any { return new(scanner) }}

func borrow(b []byte) *scanner {
	s := scanners.Get().(*scanner)
	s.b = b
	return s
}

func (s *scanner) giveBack() {
	s.b = nil
	s.trim()
	scanners.Put(s)
}

// trim lets go of memory that only an unusual event needed.
func (s *scanner) trim() {
	if cap(s.nested) > keptNested {
		s.nested = nil
	}
	s.names.trim()
}

// bom is a byte order mark. RFC 8259 lets readers ignore it at the start.
var bom = []byte("\xef\xbb\xbf")

// ParseSent reads one event as a sender sends it: a JSON object of which only
// name is required. A missing type is TypeTrack; id and timestamp stay empty if
// they are missing. Null is the same as missing for every field. Members that
// Event does not know are kept in Extra, and so are source, received_at, ip and
// traceparent, which only the gateway may set. The error is an *Invalid, which names the
// first flaw found.
//
// The whole event is checked: no name stands twice in any object of it, however
// it is spelled, strings are valid UTF-8, \u escapes are whole characters and
// numbers are within float64. ParseSent takes time in proportion to len(raw).
// It allocates nothing for an event that has no escapes in the strings of its
// own fields and nothing unknown, or its unknown members side by side.
func ParseSent(raw []byte, lim Limits) (Event, error) {
	var e Event
	lim = lim.withDefaults()
	err := parse(&e, raw, lim, false)
	return e, err
}

// ParseStored reads the stored form of an event, and what other producers put
// on the stream: an object with some of the same fields, in any order. Members
// that Event does not know are kept in Extra. The rules are those of ParseSent,
// except that there are no limits of length, an empty id or type is a missing
// one, and source, received_at, ip and traceparent are fields; a traceparent
// that is none is an unknown member. The error is an *Invalid.
func ParseStored(raw []byte) (Event, error) {
	var e Event
	err := parse(&e, raw, Limits{MaxBytes: math.MaxUint32, MaxDepth: storedDepth}, true)
	return e, err
}

func parse(e *Event, raw []byte, lim Limits, stored bool) error {
	s := borrow(bytes.TrimPrefix(raw, bom))
	defer s.giveBack()
	start, _ := s.token(0)
	end, invalid := s.read(e, start, lim, stored)
	if end < 0 {
		invalid = s.flaw.invalid(s.b, 0, len(raw)-len(s.b), 0)
	} else if after, _ := s.token(end); after < len(s.b) {
		s.syntax(after, whyAfter)
		invalid = s.flaw.invalid(s.b, 0, len(raw)-len(s.b), 0)
	}
	if invalid != nil {
		*e = Event{}
		return invalid
	}
	return nil
}

// read reads the event that begins at i. It returns where the event ends, also
// if it is invalid, and -1 with a flaw if what stands there is not JSON.
func (s *scanner) read(e *Event, i int, lim Limits, stored bool) (end int, invalid *Invalid) {
	// What lies beyond the limit is only looked at for its end: the memory
	// that an event takes is bounded by the limit, not by the body.
	whole := s.b
	s.b = whole[:i+min(len(whole)-i, lim.MaxBytes)]
	end = s.event(e, i, lim.MaxDepth, stored)
	s.b = whole
	if end >= 0 {
		return end, nil
	}
	found := s.flaw
	if end = s.skip(i); end < 0 {
		return -1, nil
	}
	if end-i > lim.MaxBytes {
		found = flaw{code: CodeTooLarge, why: fmt.Sprintf("it has %d bytes, at most %d are allowed", end-i, lim.MaxBytes)}
	}
	return end, found.invalid(s.b[:end], i, 0, 0)
}

// field is a member that Event knows.
type field uint8

const (
	unknown field = iota
	fieldID
	fieldType
	fieldName
	fieldUserID
	fieldAnonymousID
	fieldTimestamp
	fieldData
	fieldContext
	// Only the gateway sets these.
	fieldReceivedAt
	fieldSource
	fieldIP
	fieldTraceparent
)

func fieldOf(name []byte) field {
	switch string(name) {
	case "id":
		return fieldID
	case "type":
		return fieldType
	case "name":
		return fieldName
	case "user_id":
		return fieldUserID
	case "anonymous_id":
		return fieldAnonymousID
	case "timestamp":
		return fieldTimestamp
	case "data":
		return fieldData
	case "context":
		return fieldContext
	case "received_at":
		return fieldReceivedAt
	case "source":
		return fieldSource
	case "ip":
		return fieldIP
	case "traceparent":
		return fieldTraceparent
	}
	return unknown
}

// event reads the event that begins at i, strictly.
func (s *scanner) event(e *Event, begin, maxDepth int, stored bool) int {
	*e = Event{Type: TypeTrack}
	if s.at(begin) != '{' {
		return s.fail(CodeInvalidType, begin, "an event is a JSON object")
	}
	s.names.empty()
	var (
		others = s.names.open() // the unknown members
		seen   uint16           // a bit for each field
		extra  span             // unknown members side by side, not yet in e.Extra
	)
	i, c := s.token(begin + 1)
	for c != '}' {
		if c != '"' {
			return s.syntax(i, whyName)
		}
		start := i
		end, escaped := s.str(i + 1)
		if end < 0 {
			return -1
		}
		name := s.b[start+1 : end-1]
		if escaped {
			name = unquoted(nil, name)
		}
		f := fieldOf(name)
		if f >= fieldReceivedAt && !stored {
			f = unknown
		}
		if f == unknown && !s.names.add(&others, s.b, start+1, end-1, escaped) ||
			f != unknown && seen>>f&1 == 1 {
			return s.duplicate(end)
		}
		seen |= 1 << f
		if i = s.colon(end); i < 0 {
			return -1
		}
		i, c = s.token(i)
		if f == fieldTraceparent && c != 'n' && !s.traceparent(i) {
			f = unknown // another producer means something else by it
		}
		switch {
		case f == unknown:
			i = s.value(i, min(maxDepth, mostDepth))
			if extra.start == extra.end {
				extra.start = start
			}
			extra.end = i
		case c == 'n':
			i = s.literal(i, "null")
		case f == fieldData || f == fieldContext:
			i = s.object(e, f, i, maxDepth)
		default:
			i = s.field(e, f, i, stored)
		}
		if i < 0 {
			return -1
		}
		if f != unknown {
			extra.flush(e, s.b)
		}
		if i, c = s.token(i); c == ',' {
			if i, c = s.token(i + 1); c == '}' {
				return s.syntax(i, whyName)
			}
		} else if c != '}' {
			return s.syntax(i, whyObject)
		}
	}
	extra.flush(e, s.b)
	if e.Name == "" { // missing or null
		return s.fail(CodeRequired, begin, "an event has a name")
	}
	return i + 1
}

// span is some of the scanned bytes.
type span struct{ start, end int }

// flush adds the unknown members in the span to e.Extra. The first span is
// not copied.
func (r *span) flush(e *Event, b []byte) {
	switch {
	case r.start == r.end:
		return
	case e.Extra == nil:
		e.Extra = b[r.start:r.end:r.end]
	default:
		e.Extra = append(append(e.Extra, ','), b[r.start:r.end]...)
	}
	*r = span{}
}

// object reads data or context.
func (s *scanner) object(e *Event, f field, i, maxDepth int) int {
	if s.at(i) != '{' {
		return s.fail(CodeInvalidType, i, "this field is an object")
	}
	end := s.value(i, maxDepth)
	if end < 0 {
		return -1
	}
	raw := s.b[i:end:end]
	if f == fieldData {
		e.Data = raw
	} else {
		e.Context = raw
	}
	return end
}

// field reads one of the fields that are strings.
func (s *scanner) field(e *Event, f field, i int, stored bool) int {
	if s.at(i) != '"' {
		return s.fail(CodeInvalidType, i, "this field is a string")
	}
	end, escaped := s.str(i + 1)
	if end < 0 {
		return -1
	}
	raw := s.b[i+1 : end-1]
	if escaped {
		raw = unquoted(nil, raw)
	}
	value, most := text(raw), math.MaxInt
	switch f {
	case fieldID:
		if value == "" && !stored {
			return s.fail(CodeRequired, i, "an id is not empty; without one the event gets one")
		}
		e.ID, most = value, maxID
	case fieldType:
		if e.Type = typeOf(value); e.Type == "" {
			if value != "" || !stored {
				return s.fail(CodeUnknownType, i, "the types are track, identify, page, screen, group and alias")
			}
			e.Type = TypeTrack
		}
	case fieldName:
		if value == "" {
			return s.fail(CodeRequired, i, "a name is not empty")
		}
		e.Name, most = value, maxName
	case fieldUserID:
		e.UserID, most = value, maxUser
	case fieldAnonymousID:
		e.AnonymousID, most = value, maxUser
	case fieldTimestamp, fieldReceivedAt:
		if !isTimestamp(raw) {
			return s.fail(CodeInvalidTimestamp, i, "a time is written by RFC 3339, such as 2026-11-23T10:00:00.123Z")
		}
		if f == fieldReceivedAt {
			e.ReceivedAt = value
		} else {
			e.Timestamp = value
		}
	case fieldSource:
		e.Source = value
	case fieldIP:
		e.IP = value
	case fieldTraceparent:
		e.Traceparent = value
	}
	if len(value) > most && !stored {
		return s.fail(CodeTooLong, i, fmt.Sprintf("it has %d bytes, at most %d are allowed", len(value), most))
	}
	return end
}

// typeOf returns the constant that is equal to name, or nothing.
func typeOf(name string) string {
	switch name {
	case TypeTrack:
		return TypeTrack
	case TypeIdentify:
		return TypeIdentify
	case TypePage:
		return TypePage
	case TypeScreen:
		return TypeScreen
	case TypeGroup:
		return TypeGroup
	case TypeAlias:
		return TypeAlias
	}
	return ""
}
