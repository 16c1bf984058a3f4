package event

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// scanner validates JSON. It goes over the bytes once and without recursion,
// and keeps its memory from one event to the next.
//
// Its methods take an offset and return the offset behind what they read, or
// -1 with the reason in flaw. There are two ways of reading. The strict one
// (value) stops at the first flaw of any kind. The lenient one (skip) checks
// the grammar of RFC 8259 only, to any depth: it finds the end of a value that
// the strict one refused, so that its neighbours can be read.
type scanner struct {
	b       []byte
	lenient bool // in strings and numbers, only the grammar counts
	flaw    flaw

	frames [storedDepth]frame // the open objects and arrays of value
	names  names
	nested []uint64 // the open objects and arrays of skip, a bit each: 1 is an object
}

// frame is one open object or array.
type frame struct {
	object bool
	set    nameSet
}

// fail notes what is wrong and where, and returns -1.
func (s *scanner) fail(code string, at int, why string) int {
	s.flaw = flaw{code: code, at: at, why: why}
	return -1
}

// syntax is fail for bytes that are not JSON.
func (s *scanner) syntax(at int, why string) int {
	if at >= len(s.b) {
		at, why = len(s.b), "it ends too early"
	}
	return s.fail(CodeInvalidJSON, at, why)
}

// What is said of bytes that are not JSON.
const (
	whyValue   = "a value is missing or malformed"
	whyName    = "the name of a member is missing; names are strings in double quotes"
	whyColon   = "a colon is missing after the name of a member"
	whyObject  = "a comma or a closing brace is missing"
	whyArray   = "a comma or a closing bracket is missing"
	whyControl = "a control character stands in a string without an escape"
	whyEscape  = "a string has an escape that does not exist"
	whyNumber  = "a number is malformed"
	whyAfter   = "something stands after the end of the document"
)

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// at returns the byte at i, 0 behind the end. No token of JSON begins with 0.
func (s *scanner) at(i int) byte {
	if i < len(s.b) {
		return s.b[i]
	}
	return 0
}

// token returns the offset of the next byte that is not white space, and that
// byte: 0 behind the end.
func (s *scanner) token(i int) (int, byte) {
	if i < len(s.b) && s.b[i] > ' ' {
		return i, s.b[i]
	}
	i = skipSpace(s.b, i)
	return i, s.at(i)
}

// value reads the value that begins at i, strictly. At most maxDepth objects
// and arrays stand in each other in it, and storedDepth is the most of that.
func (s *scanner) value(i, maxDepth int) int {
	var (
		depth  = 0
		object = false // the innermost open container is an object
		c      byte
	)
	for {
		if object {
			if i = s.member(i, &s.frames[depth-1].set); i < 0 {
				return -1
			}
		}
		switch i, c = s.token(i); c {
		case '"':
			if i, _ = s.str(i + 1); i < 0 {
				return -1
			}
		case '{', '[':
			if depth >= maxDepth {
				return s.fail(CodeTooDeep, i, "objects and arrays are nested deeper than "+strconv.Itoa(maxDepth)+" levels")
			}
			object = c == '{'
			s.frames[depth] = frame{object: object, set: s.names.open()}
			depth++
			closing := c + 2 // '{'+2 is '}' and '['+2 is ']'
			if i, c = s.token(i + 1); c != closing {
				continue
			}
		default:
			if i = s.scalar(i, c); i < 0 {
				return -1
			}
		}
		// Close what ends here, up to a comma.
		for {
			if depth == 0 {
				return i
			}
			i, c = s.token(i)
			if c == ',' {
				i++
				break
			}
			if object && c != '}' {
				return s.syntax(i, whyObject)
			}
			if !object && c != ']' {
				return s.syntax(i, whyArray)
			}
			i++
			depth--
			s.names.close(&s.frames[depth].set)
			object = depth > 0 && s.frames[depth-1].object
		}
	}
}

// member reads the name of a member into set, and the colon.
func (s *scanner) member(i int, set *nameSet) int {
	start, c := s.token(i)
	if c != '"' {
		return s.syntax(start, whyName)
	}
	i, escaped := s.str(start + 1)
	if i < 0 {
		return -1
	}
	if !s.names.add(set, s.b, start+1, i-1, escaped) {
		return s.duplicate(i)
	}
	return s.colon(i)
}

// duplicate is fail for a name, of which end is the end, that its object has
// already.
func (s *scanner) duplicate(end int) int {
	return s.fail(CodeDuplicateKey, end, "two members of the object have this name")
}

// colon reads what stands between a name and its value.
func (s *scanner) colon(i int) int {
	i, c := s.token(i)
	if c != ':' {
		return s.syntax(i, whyColon)
	}
	return i + 1
}

// skip reads the value that begins at i, leniently.
func (s *scanner) skip(i int) int {
	var (
		depth  = 0
		object = false
		c      byte
	)
	s.lenient = true
	defer func() { s.lenient = false }()
	for {
		if object {
			if i, c = s.token(i); c != '"' {
				return s.syntax(i, whyName)
			}
			if i, _ = s.str(i + 1); i < 0 {
				return -1
			}
			if i = s.colon(i); i < 0 {
				return -1
			}
		}
		switch i, c = s.token(i); c {
		case '"':
			if i, _ = s.str(i + 1); i < 0 {
				return -1
			}
		case '{', '[':
			object = c == '{'
			word, bit := depth/64, uint64(1)<<(depth%64)
			if word == len(s.nested) {
				s.nested = append(s.nested, 0)
			}
			if object {
				s.nested[word] |= bit
			} else {
				s.nested[word] &^= bit
			}
			depth++
			closing := c + 2
			if i, c = s.token(i + 1); c != closing {
				continue
			}
		default:
			if i = s.scalar(i, c); i < 0 {
				return -1
			}
		}
		for {
			if depth == 0 {
				return i
			}
			i, c = s.token(i)
			if c == ',' {
				i++
				break
			}
			if object && c != '}' {
				return s.syntax(i, whyObject)
			}
			if !object && c != ']' {
				return s.syntax(i, whyArray)
			}
			i++
			depth--
			up := depth - 1
			object = depth > 0 && s.nested[up/64]>>(up%64)&1 == 1
		}
	}
}

// scalar reads a number or a literal that begins with c.
func (s *scanner) scalar(i int, c byte) int {
	switch {
	case c == '-' || '0' <= c && c <= '9':
		return s.number(i)
	case c == 't':
		return s.literal(i, "true")
	case c == 'f':
		return s.literal(i, "false")
	case c == 'n':
		return s.literal(i, "null")
	}
	return s.syntax(i, whyValue)
}

func (s *scanner) literal(i int, want string) int {
	if end := i + len(want); end <= len(s.b) && string(s.b[i:end]) == want {
		return end
	}
	for n := range len(want) {
		if s.at(i+n) != want[n] {
			return s.syntax(i+n, whyValue)
		}
	}
	return i + len(want)
}

// number reads a number. What lies beyond float64 is refused: readers of JSON
// make infinity, an error or something else of it. What is nearer to zero than
// float64 can hold is read as zero by all of them and stays.
func (s *scanner) number(i int) int {
	start := i
	if s.at(i) == '-' {
		i++
	}
	first := i
	for isDigit(s.at(i)) {
		i++
	}
	whole := i - first
	if whole == 0 || whole > 1 && s.b[first] == '0' {
		return s.syntax(i, whyNumber)
	}
	if s.at(i) == '.' {
		i++
		fraction := i
		for isDigit(s.at(i)) {
			i++
		}
		if i == fraction {
			return s.syntax(i, whyNumber)
		}
	}
	exponent := 0
	if s.at(i)|0x20 == 'e' {
		i++
		negative := s.at(i) == '-'
		if negative || s.at(i) == '+' {
			i++
		}
		digits := i
		for ; isDigit(s.at(i)); i++ {
			exponent = min(exponent*10+int(s.b[i]-'0'), 1<<20)
		}
		if i == digits {
			return s.syntax(i, whyNumber)
		}
		if negative {
			exponent = 0 // it makes the number smaller only
		}
	}
	// The largest float64 is 1.8e308: what has fewer digits fits.
	if whole+exponent > 308 && !s.lenient {
		if f, _ := strconv.ParseFloat(text(s.b[start:i]), 64); math.IsInf(f, 0) {
			return s.fail(CodeNumberOutOfRange, start, "the number is beyond the range of a 64-bit float")
		}
	}
	return i
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// str reads a string from behind its opening quote to behind its closing one,
// and tells whether it has escapes.
func (s *scanner) str(i int) (end int, escaped bool) {
	j, high := plain(s.b, i)
	if j < len(s.b) && s.b[j] == '"' && high == 0 {
		return j + 1, false
	}
	return s.restOfString(i, j, high)
}

// restOfString goes on after the first run of plain bytes of a string, which
// is from start to i, with what is rare: escapes, other languages, flaws.
func (s *scanner) restOfString(start, i int, high uint64) (end int, escaped bool) {
	unicode := -1 // where half a surrogate pair stands
	for s.at(i) != '"' {
		if s.at(i) != '\\' {
			return s.syntax(i, whyControl), false
		}
		escaped = true
		switch s.at(i + 1) {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i += 2
		case 'u':
			unit, ok := hex4(s.b, i+2)
			if !ok {
				return s.syntax(i, whyEscape), false
			}
			switch {
			case unit < 0xd800 || unit > 0xdfff:
			case unit < 0xdc00 && s.at(i+6) == '\\' && s.at(i+7) == 'u':
				low, ok := hex4(s.b, i+8)
				if ok && 0xdc00 <= low && low <= 0xdfff {
					i += 6
					break
				}
				fallthrough
			default:
				if unicode < 0 {
					unicode = i
				}
			}
			i += 6
		default:
			if i+1 >= len(s.b) {
				i++
			}
			return s.syntax(i, whyEscape), false
		}
		var more uint64
		i, more = plain(s.b, i)
		high |= more
	}
	if s.lenient {
		return i + 1, escaped
	}
	if high != 0 && !utf8.Valid(s.b[start:i]) {
		return s.fail(CodeInvalidUTF8, start, "the string is not valid UTF-8"), false
	}
	if unicode >= 0 {
		return s.fail(CodeInvalidUnicode, unicode, `a \u escape is one half of a surrogate pair without the other`), false
	}
	return i + 1, escaped
}

// plain passes over bytes of a string that need no look: all but quotes,
// backslashes and control characters. It returns where it stopped, and
// something other than 0 if it passed a byte that is not ASCII.
//
// It goes eight bytes at a time: most names and values end within two steps.
// In x - 0x01…01 a byte that was 0 gets its high bit set by the borrow, in
// x - 0x20…20 each byte below 0x20 does. A borrow runs only into higher
// bytes, so that the lowest byte found is right, and that is the first one in
// memory. (Bytes over 0x7f have the bit already: &^ x leaves them out.)
func plain(b []byte, i int) (stop int, high uint64) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		found := (((x ^ '"'*ones) - ones) | ((x ^ '\\'*ones) - ones) | (x - ' '*ones)) &^ x & highs
		if found != 0 {
			n := bits.TrailingZeros64(found) // 8 × its index, and 7
			return i + n/8, high | x&highs&(1<<n-1)
		}
		high |= x & highs
	}
	for ; i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\'; i++ {
		high |= uint64(b[i]) & 0x80
	}
	return i, high
}

// hex4 reads the four digits of a \u escape.
func hex4(b []byte, i int) (unit rune, ok bool) {
	if i+4 > len(b) {
		return 0, false
	}
	for _, c := range b[i : i+4] {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		unit = unit<<4 | rune(c)
	}
	return unit, true
}
