package router

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/eventsluice/sluice/internal/event"
)

// The functions here change JSON text in place of values: what they do not
// touch keeps its bytes. They expect text whose syntax has been checked, and
// never read outside of it if it has not.

// token is one step of a pointer.
type token struct {
	key    string
	quoted []byte // key as JSON string
	index  int    // key as the index of an array, -1 if it is none
}

func newToken(key string) token {
	t := token{key: key, quoted: quoteJSON(key), index: -1}
	// RFC 6901 section 4: digits without leading zeros.
	if n, err := strconv.Atoi(key); err == nil && n >= 0 && strconv.Itoa(n) == key {
		t.index = n
	}
	return t
}

// quoteJSON returns s as a JSON string.
func quoteJSON(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return []byte(`""`) // strings always encode
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// piece is a member of an object or an element of an array, as offsets: the
// whole of it between the commas or braces, its name (empty in an array), its
// value.
type piece struct {
	start, end           int
	nameStart, nameEnd   int
	valueStart, valueEnd int
}

// pieces calls yield for the members of an object or the elements of an array,
// until it returns false.
func pieces(container []byte, yield func(i int, p piece) bool) {
	object := container[0] == '{'
	for i, n := 1, 0; ; n++ {
		p := piece{start: i}
		i = SkipSpace(container, i)
		if i >= len(container) || container[i] == '}' || container[i] == ']' {
			return
		}
		if object {
			p.nameStart = i
			i = SkipValue(container, i)
			p.nameEnd = i
			if i = SkipSpace(container, i); i < len(container) {
				i++ // the colon
			}
			i = SkipSpace(container, i)
		}
		p.valueStart = i
		i = SkipValue(container, i)
		p.valueEnd = i
		i = SkipSpace(container, i)
		p.end = i
		if !yield(n, p) || i >= len(container) || container[i] != ',' {
			return
		}
		i++
	}
}

// SkipSpace returns the first place from i on that has no white space.
func SkipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// SkipValue returns the end of the JSON value that begins at i. Like SkipString
// it is for text whose syntax has been checked; of other text the end is
// somewhere, and len(b) at most.
func SkipValue(b []byte, i int) int {
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			i = SkipString(b, i)
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\n', '\r', '\t':
			i++
			continue
		default:
			for i++; i < len(b) && !endsScalar(b[i]); {
				i++
			}
		}
		if depth <= 0 {
			break
		}
	}
	return min(i, len(b))
}

// endsScalar reports whether a number, true, false or null ends before c.
func endsScalar(c byte) bool {
	switch c {
	case ',', ':', ']', '}', ' ', '\n', '\r', '\t':
		return true
	}
	return false
}

// SkipString returns the end of the JSON string that begins at i.
func SkipString(b []byte, i int) int {
	for i++; i < len(b); {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			break
		}
		// The quote is part of the string after an odd number of backslashes.
		quote := i + n
		first := quote
		for first > i && b[first-1] == '\\' {
			first--
		}
		if (quote-first)%2 == 0 {
			return quote + 1
		}
		i = quote + 1
	}
	return len(b)
}

// meets reports whether a token leads to piece number i.
func (t *token) meets(container []byte, i int, p piece) bool {
	if container[0] == '[' {
		return t.index == i
	}
	name := container[p.nameStart:p.nameEnd]
	if len(name) < 2 {
		return false
	}
	if bytes.IndexByte(name, '\\') < 0 {
		return string(name[1:len(name)-1]) == t.key
	}
	s, err := event.Unquote(name)
	return err == nil && s == t.key
}

func isContainer(value []byte) bool {
	return len(value) > 0 && (value[0] == '{' || value[0] == '[')
}

// find returns what stands at a path. Of members with the same name it takes
// the last.
func find(value []byte, path []token) (found []byte, ok bool) {
	if len(path) == 0 {
		return value, true
	}
	if !isContainer(value) {
		return nil, false
	}
	pieces(value, func(i int, p piece) bool {
		if path[0].meets(value, i, p) {
			if v, here := find(value[p.valueStart:p.valueEnd], path[1:]); here {
				found, ok = v, true
			}
		}
		return true
	})
	return found, ok
}

// rewrite appends value to dst, with what stands at path replaced by what
// change appends for it, or removed if change returns false. A name that
// occurs twice is met twice.
func rewrite(dst, value []byte, path []token, change func(dst, old []byte) ([]byte, bool)) []byte {
	if !isContainer(value) {
		return append(dst, value...)
	}
	dst = append(dst, value[0])
	first, end := true, 1
	pieces(value, func(i int, p piece) bool {
		end = p.end
		before := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		if !path[0].meets(value, i, p) {
			dst = append(dst, value[p.start:p.end]...)
			first = false
			return true
		}
		dst = append(dst, value[p.start:p.valueStart]...)
		old, keep := value[p.valueStart:p.valueEnd], true
		if len(path) == 1 {
			dst, keep = change(dst, old)
		} else {
			dst = rewrite(dst, old, path[1:], change)
		}
		if !keep {
			dst = dst[:before]
			return true
		}
		dst = append(dst, value[p.valueEnd:p.end]...)
		first = false
		return true
	})
	return append(dst, value[end:]...)
}

// put appends value to dst, with what stands at path replaced by replacement.
// Objects that are missing on the way are made.
func put(dst, value []byte, path []token, replacement []byte) ([]byte, error) {
	if len(path) == 0 {
		return append(dst, replacement...), nil
	}
	if !isContainer(value) {
		return nil, fmt.Errorf("what %q should be a member of is %s", path[0].key, kindOf(value))
	}
	var err error
	met, count := false, 0
	dst = append(dst, value[0])
	end := 1
	pieces(value, func(i int, p piece) bool {
		end = p.end
		count++
		if i > 0 {
			dst = append(dst, ',')
		}
		if !path[0].meets(value, i, p) {
			dst = append(dst, value[p.start:p.end]...)
			return true
		}
		met = true
		dst = append(dst, value[p.start:p.valueStart]...)
		if dst, err = put(dst, value[p.valueStart:p.valueEnd], path[1:], replacement); err != nil {
			return false
		}
		dst = append(dst, value[p.valueEnd:p.end]...)
		return true
	})
	if err != nil {
		return nil, err
	}
	if !met {
		if value[0] == '[' && path[0].key != "-" && path[0].index != count {
			return nil, fmt.Errorf("an array of %d elements has no place %q", count, path[0].key)
		}
		if count > 0 {
			dst = append(dst, ',')
		}
		if value[0] == '{' {
			dst = append(append(dst, path[0].quoted...), ':')
		}
		for _, t := range path[1:] {
			dst = append(append(append(dst, '{'), t.quoted...), ':')
		}
		dst = append(dst, replacement...)
		for range path[1:] {
			dst = append(dst, '}')
		}
	}
	return append(dst, value[end:]...), nil
}
