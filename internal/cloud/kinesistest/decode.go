package kinesistest

import (
	"bytes"
	"encoding/base64"
	"unicode/utf8"
)

// decodeFast reads what SDKs send, several times faster than encoding/json: a
// load of a benchmark is mostly this. It gives up, and reports false, at all
// that it is not made for; what it takes it reads as encoding/json does.
func (in *putRecordsInput) decodeFast(body []byte) bool {
	s := scanner{rest: body, data: make([]byte, 0, base64.StdEncoding.DecodedLen(len(body)))}
	var fast putRecordsInput
	ok := s.object(func(name string) bool {
		switch name {
		case "StreamName":
			return s.text(&fast.StreamName)
		case "StreamARN":
			return s.text(&fast.StreamARN)
		case "Records":
			return fast.Records == nil && s.list(func() bool {
				var e entry
				if !s.entry(&e) {
					return false
				}
				fast.Records = append(fast.Records, e)
				return true
			})
		}
		return false
	})
	s.space()
	if !ok || len(s.rest) > 0 {
		return false
	}
	*in = fast
	return true
}

// scanner reads JSON. Its methods report whether they found what they are for.
type scanner struct {
	rest []byte
	data []byte // of all entries; never grows, for entries point into it
}

func (s *scanner) entry(e *entry) bool {
	return s.object(func(name string) bool {
		switch name {
		case "Data":
			return e.Data == nil && s.base64(&e.Data)
		case "PartitionKey":
			if e.PartitionKey != nil {
				return false
			}
			e.PartitionKey = new(string)
			return s.text(e.PartitionKey)
		case "ExplicitHashKey":
			return s.text(&e.ExplicitHashKey)
		}
		return false
	})
}

func (s *scanner) space() {
	for len(s.rest) > 0 && (s.rest[0] == ' ' || s.rest[0] == '\n' || s.rest[0] == '\t' || s.rest[0] == '\r') {
		s.rest = s.rest[1:]
	}
}

// next takes one character that has to be there, and space before it.
func (s *scanner) next(c byte) bool {
	s.space()
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// object reads members; member reads the value of each.
func (s *scanner) object(member func(name string) bool) bool {
	return s.next('{') && (s.next('}') || s.members('}', func() bool {
		name, ok := s.quoted()
		return ok && s.next(':') && member(string(name))
	}))
}

func (s *scanner) list(item func() bool) bool {
	return s.next('[') && (s.next(']') || s.members(']', item))
}

func (s *scanner) members(end byte, read func() bool) bool {
	for {
		if !read() {
			return false
		}
		if !s.next(',') {
			return s.next(end)
		}
	}
}

// quoted reads a string without escapes, and returns what is in it.
func (s *scanner) quoted() ([]byte, bool) {
	if !s.next('"') {
		return nil, false
	}
	end := bytes.IndexByte(s.rest, '"')
	if end < 0 {
		return nil, false
	}
	text := s.rest[:end]
	s.rest = s.rest[end+1:]
	return text, true
}

// text reads a string into one that is empty.
func (s *scanner) text(out *string) bool {
	raw, ok := s.quoted()
	if !ok || *out != "" || !utf8.Valid(raw) {
		return false
	}
	for _, c := range raw {
		if c < ' ' || c == '\\' {
			return false
		}
	}
	*out = string(raw)
	return true
}

func (s *scanner) base64(out *[]byte) bool {
	raw, ok := s.quoted()
	if !ok || len(raw)%4 != 0 {
		return false
	}
	start := len(s.data)
	end := start + base64.StdEncoding.DecodedLen(len(raw))
	n, err := base64.StdEncoding.Decode(s.data[start:end], raw)
	padding := len(raw) - len(bytes.TrimRight(raw, "="))
	if err != nil || start+n != end-padding { // line ends, which JSON has not, are skipped
		return false
	}
	s.data = s.data[:start+n]
	*out = s.data[start : start+n : start+n]
	return true
}
