package mapping

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/event"
)

// Text returns a JSON value as text: a string unquoted, a number, true, false,
// an object or an array as it is written. There is none of null. The text may
// share memory with the value.
func Text(value []byte) (text string, ok bool) {
	if len(value) == 0 || value[0] == 'n' {
		return "", false
	}
	if value[0] != '"' {
		return view(value), true
	}
	if n := len(value); n > 1 && value[n-1] == '"' && bytes.IndexByte(value, '\\') < 0 {
		return view(value[1 : n-1]), true // events were checked
	}
	text, err := event.Unquote(value)
	return text, err == nil
}

// IsObject and IsArray say what a JSON value is.
func IsObject(value []byte) bool { return len(value) > 0 && value[0] == '{' }

// IsArray is described at IsObject.
func IsArray(value []byte) bool { return len(value) > 0 && value[0] == '[' }

// Flatten calls yield for a property, or, of an object, for each of its members
// and theirs: {"a":{"b":1}} is a_b, with "_" between. What is nested deeper than
// depth objects is yielded as it is; null is not yielded.
func Flatten(p Property, between string, depth int, yield func(name string, value []byte) bool) bool {
	if len(p.Value) == 0 || p.Value[0] == 'n' {
		return true
	}
	if depth == 0 || !IsObject(p.Value) {
		return yield(p.Name, p.Value)
	}
	more := true
	_ = event.Members(p.Value, func(name string, value []byte) bool { // a flaw ends it: events were checked
		more = Flatten(Property{p.Name + between + name, value}, between, depth-1, yield)
		return more
	})
	return more
}

// Snake returns a name as most vendors want it: letters a to z, digits and
// underscores, the first a letter, at most limit bytes. Capitals in the middle of
// a word begin a new one. It is empty if nothing is left of it.
func Snake(name string, limit int) string {
	if len(name) <= limit && isSnake(name) {
		return name
	}
	var b strings.Builder
	b.Grow(len(name) + 4)
	gap, lower := false, false // an underscore is due; the last was a small letter or digit
	for _, r := range name {
		switch {
		case r >= 'A' && r <= 'Z':
			gap = gap || lower
			r += 'a' - 'A'
			lower = false
		case r >= 'a' && r <= 'z':
			lower = true
		case r >= '0' && r <= '9':
			if b.Len() == 0 {
				continue // the first is a letter
			}
			lower = true
		default:
			gap, lower = true, false
			continue
		}
		if gap && b.Len() > 0 {
			b.WriteByte('_')
		}
		gap = false
		b.WriteRune(r)
	}
	return strings.TrimRight(CutRunes(b.String(), limit), "_")
}

// isSnake reports whether Snake changes nothing of a name.
func isSnake(name string) bool {
	last := byte('_')
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z':
		case '0' <= c && c <= '9' && i > 0:
		case c == '_' && last != '_':
		default:
			return false
		}
		last = c
	}
	return last != '_'
}

// CutRunes returns at most limit characters of a text.
func CutRunes(s string, limit int) string {
	if len(s) <= limit || utf8.RuneCountInString(s) <= limit {
		return s
	}
	n := 0
	for i := range s {
		if n == limit {
			return s[:i]
		}
		n++
	}
	return s
}

// AppendMember appends a member of a JSON object to dst, with a comma before it
// if it is not the first.
func AppendMember(dst []byte, name string, value []byte) []byte {
	dst = appendName(dst, name)
	return append(dst, value...)
}

// AppendText is AppendMember with a string.
func AppendText(dst []byte, name, text string) []byte {
	dst = appendName(dst, name)
	return event.AppendString(dst, text)
}

// AppendObject is AppendMember with an object.
func AppendObject(dst []byte, name string, members []Property) []byte {
	dst = append(appendName(dst, name), '{')
	for i := range members {
		dst = AppendMember(dst, members[i].Name, members[i].Value)
	}
	return append(dst, '}')
}

// AppendAsText appends a JSON value as a string of at most limit characters, for
// vendors that take nothing else: a number, true, false, an object or an array as
// it is written. cut says that it had more.
func AppendAsText(dst, value []byte, limit int) (_ []byte, cut bool) {
	switch value[0] {
	case '"':
		if len(value)-2 <= limit { // as it is written it has no fewer bytes than it means
			return append(dst, value...), false
		}
	case '[', '{':
	default: // a number, true, false
		if len(value) <= limit {
			return append(append(append(dst, '"'), value...), '"'), false
		}
	}
	text, _ := Text(value)
	short := CutRunes(text, limit)
	return event.AppendString(dst, short), len(short) < len(text)
}

func appendName(dst []byte, name string) []byte {
	if !bytes.HasSuffix(dst, []byte("{")) {
		dst = append(dst, ',')
	}
	dst = event.AppendString(dst, name)
	return append(dst, ':')
}
