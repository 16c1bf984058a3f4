package event

import "fmt"

// Members calls yield for the members of an object, in their order, until it
// returns false. The names are unescaped; they are valid UTF-8 and none comes
// twice. Of the values only the grammar is checked, so that one that breaks
// another rule can be refused alone: Check tells. Names and values share
// memory with obj. The error is an *Invalid; members before the flaw have been
// yielded, and after yield has returned false there is none.
func Members(obj []byte, yield func(name string, value []byte) bool) error {
	s := borrow(obj)
	defer s.giveBack()
	end, stopped := s.members(func(name []byte, value span) bool {
		return yield(text(name), obj[value.start:value.end:value.end])
	})
	if stopped {
		return nil
	}
	if end < 0 {
		return s.flaw.invalid(obj, s.begin(), 0, 0)
	}
	return s.ends(end)
}

// members is Members with places. It returns where the object ends, or -1 with
// the flaw.
func (s *scanner) members(yield func(name []byte, value span) bool) (end int, stopped bool) {
	s.names.empty()
	i := s.begin()
	if s.at(i) != '{' {
		return s.notA(i, "an object is needed here"), false
	}
	set := s.names.open()
	i, c := s.token(i + 1)
	for first := true; c != '}' || !first; first = false {
		if c != '"' {
			return s.syntax(i, whyName), false
		}
		start := i + 1
		end, escaped := s.str(start)
		if end < 0 {
			return -1, false
		}
		if !s.names.add(&set, s.b, start, end-1, escaped) {
			return s.duplicate(end), false
		}
		if i = s.colon(end); i < 0 {
			return -1, false
		}
		value, _ := s.token(i)
		if i = s.skip(value); i < 0 {
			return -1, false
		}
		name := s.b[start : end-1]
		if escaped {
			name = unquoted(nil, name)
		}
		if !yield(name, span{value, i}) {
			return i, true
		}
		if i, c = s.token(i); c == '}' {
			break
		}
		if c != ',' {
			return s.syntax(i, whyObject), false
		}
		i, c = s.token(i + 1)
	}
	return i + 1, false
}

// AppendMembers appends the members of an object to dst, byte for byte, with
// commas between and without the braces. Those that drop names are left out.
// The error is that of Members, and then dst is as it was.
func AppendMembers(dst, obj []byte, drop func(name string) bool) ([]byte, error) {
	s := borrow(obj)
	defer s.giveBack()
	before, from := len(dst), s.begin()+1 // behind the brace, the comma
	end, _ := s.members(func(name []byte, value span) bool {
		start := from
		if i, c := s.token(from); c == ',' {
			start = i + 1
		}
		start, _ = s.token(start)
		from = value.end
		if drop(text(name)) {
			return true
		}
		if len(dst) > before {
			dst = append(dst, ',')
		}
		dst = append(dst, obj[start:value.end]...)
		return true
	})
	if end < 0 {
		return dst[:before], s.flaw.invalid(obj, s.begin(), 0, 0)
	}
	if err := s.ends(end); err != nil {
		return dst[:before], err
	}
	return dst, nil
}

// Elements calls yield for the elements of an array, in their order, until it
// returns false. Of the elements only the grammar is checked, see Members.
func Elements(arr []byte, yield func(value []byte) bool) error {
	s := borrow(arr)
	defer s.giveBack()
	i := s.begin()
	if s.at(i) != '[' {
		s.notA(i, "an array is needed here")
		return s.flaw.invalid(arr, i, 0, 0)
	}
	i, c := s.token(i + 1)
	for first := true; c != ']' || !first; first = false {
		value := i
		if i = s.skip(value); i < 0 {
			return s.flaw.invalid(arr, 0, 0, 0)
		}
		if !yield(arr[value:i:i]) {
			return nil
		}
		if i, c = s.token(i); c == ']' {
			break
		}
		if c != ',' {
			s.syntax(i, whyArray)
			return s.flaw.invalid(arr, 0, 0, 0)
		}
		i, c = s.token(i + 1)
	}
	return s.ends(i + 1)
}

// Check checks one JSON value by the rules that ParseSent has for the value of
// a member: no name twice in an object, valid UTF-8, whole characters, numbers
// within float64, nested at most lim.MaxDepth levels, at most lim.MaxBytes
// long. The error is an *Invalid.
func Check(value []byte, lim Limits) error {
	lim = lim.withDefaults()
	s := borrow(value)
	defer s.giveBack()
	if len(value) > lim.MaxBytes {
		return &Invalid{Code: CodeTooLarge, Detail: fmt.Sprintf("it has %d bytes, at most %d are allowed", len(value), lim.MaxBytes)}
	}
	s.names.empty()
	i, _ := s.token(0)
	end := s.value(i, lim.MaxDepth)
	if end < 0 {
		return s.flaw.invalid(value, i, 0, 0)
	}
	return s.ends(end)
}

// Unquote returns what a JSON string, quotes included, means. The result may
// share memory with it. The error is an *Invalid.
func Unquote(jsonString []byte) (string, error) {
	s := borrow(jsonString)
	defer s.giveBack()
	if s.at(0) != '"' {
		s.notA(0, "a string is needed here")
		return "", s.flaw.invalid(jsonString, 0, 0, 0)
	}
	end, escaped := s.str(1)
	if end < 0 {
		return "", s.flaw.invalid(jsonString, 0, 0, 0)
	}
	if err := s.ends(end); err != nil {
		return "", err
	}
	raw := jsonString[1 : end-1]
	if escaped {
		raw = unquoted(nil, raw)
	}
	return text(raw), nil
}

// AppendUnquoted appends what a JSON string, quotes included, means. The error
// is that of Unquote, and then dst is as it was.
func AppendUnquoted(dst, jsonString []byte) ([]byte, error) {
	s := borrow(jsonString)
	defer s.giveBack()
	if s.at(0) != '"' {
		s.notA(0, "a string is needed here")
		return dst, s.flaw.invalid(jsonString, 0, 0, 0)
	}
	end, _ := s.str(1)
	if end < 0 {
		return dst, s.flaw.invalid(jsonString, 0, 0, 0)
	}
	if err := s.ends(end); err != nil {
		return dst, err
	}
	return unquoted(dst, jsonString[1:end-1]), nil
}

// notA is fail for a value of the wrong type at i, or for no value at all.
func (s *scanner) notA(i int, why string) int {
	if s.skip(i) >= 0 {
		s.fail(CodeInvalidType, i, why)
	}
	return -1
}

// begin returns where the first token is.
func (s *scanner) begin() int {
	i, _ := s.token(0)
	return i
}

// ends checks that nothing but white space stands from i on.
func (s *scanner) ends(i int) error {
	if i, _ = s.token(i); i < len(s.b) {
		s.syntax(i, whyAfter)
		return s.flaw.invalid(s.b, 0, 0, 0)
	}
	return nil
}
