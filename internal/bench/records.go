package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// idBytes is the length of an id made by the gateway, a UUID.
const idBytes = 36

// tally stands for events by their ids, in any order. Two tallies are equal if
// they hold the same events the same number of times, and otherwise by a chance
// of 1 in 2^64: so a load that sums up what was answered and a sink that sums up
// what it got need not keep the ids to find out.
type tally struct {
	Events int    `json:"events"`
	Sum    uint64 `json:"sum"` // of the FNV-1a hashes of the ids, overflowing
}

func (t *tally) add(id []byte) {
	h := uint64(14695981039346656037)
	for _, c := range id {
		h = (h ^ uint64(c)) * 1099511628211
	}
	t.Events++
	t.Sum += h
}

func (t *tally) join(other tally) {
	t.Events += other.Events
	t.Sum += other.Sum
}

// eachRecord calls do with the partition key and the data, in base64, of each
// record in the body of a PutRecords call. It reads no more of JSON than such a
// body has: objects, arrays and strings without escapes.
func eachRecord(body []byte, do func(key []byte, data encoded) error) error {
	s := scanner{rest: body}
	var key, data []byte
	var err error
	record := func(name []byte) {
		switch string(name) {
		case "PartitionKey":
			key = s.text()
		case "Data":
			data = s.text()
		default:
			s.bad = true
		}
	}
	s.object(func(name []byte) {
		if string(name) != "Records" {
			s.text() // which stream
			return
		}
		s.array(func() {
			key, data = nil, nil
			s.object(record)
			if err == nil && !s.bad {
				err = do(key, data)
			}
		})
	})
	if s.bad || len(s.rest) > 0 {
		return fmt.Errorf("not the body of a PutRecords call, at its byte %d", len(body)-len(s.rest))
	}
	return err
}

// scanner reads JSON from its beginning. What it does not understand makes it
// bad, and then every list ends.
type scanner struct {
	rest []byte
	bad  bool
}

// skip skips c if it comes next.
func (s *scanner) skip(c byte) bool {
	if s.bad || len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) want(c byte) {
	if !s.skip(c) {
		s.bad = true
	}
}

func (s *scanner) text() []byte {
	s.want('"')
	end := bytes.IndexByte(s.rest, '"')
	if s.bad || end < 0 || bytes.IndexByte(s.rest[:end], '\\') >= 0 {
		s.bad = true
		return nil
	}
	text := s.rest[:end]
	s.rest = s.rest[end+1:]
	return text
}

// array calls element where each element stands.
func (s *scanner) array(element func()) {
	s.want('[')
	for !s.bad && !s.skip(']') {
		element()
		if !s.skip(',') {
			s.want(']')
			return
		}
	}
}

// object calls member where the value of each member stands.
func (s *scanner) object(member func(name []byte)) {
	s.want('{')
	for !s.bad && !s.skip('}') {
		name := s.text()
		s.want(':')
		member(name)
		if !s.skip(',') {
			s.want('}')
			return
		}
	}
}

// An aggregated record, as the Kinesis Producer Library lays it out (its
// aggregation-format.md, read 2026-11), with one key for all events:
//
//	F3899AC2 | 0A length key | 1A length (08 00 1A length event) … | MD5
var (
	magic      = []byte("\xf3\x89\x9a\xc2")
	recordHead = []byte("\x08\x00\x1a")
)

const (
	digestBytes = 16
	tagKey      = 0x0a
	tagRecord   = 0x1a
)

var errRecord = errors.New("neither an event with an id nor an aggregated record of such events")

// countRecord adds the events of a record to t. Of the base64 it decodes only where
// the events begin: the sink shares its core with the load.
func (t *tally) countRecord(r encoded) error {
	var window window
	head := window.decode(r, 0)
	if !bytes.HasPrefix(head, magic) {
		return t.countEvent(head)
	}
	at, end := len(magic), r.size()-digestBytes
	for at < end {
		field := window.decode(r, at)
		if len(field) == 0 {
			return errRecord
		}
		tag := field[0]
		size, n := binary.Uvarint(field[1:])
		if rest := end - at - 1 - n; n <= 0 || rest < 0 || size > uint64(rest) {
			return errRecord
		}
		at += 1 + n + int(size)
		switch field = field[1+n:]; tag {
		case tagKey:
		case tagRecord:
			event, ok := bytes.CutPrefix(field, recordHead)
			length, n := binary.Uvarint(event)
			if !ok || n <= 0 || length != size-uint64(len(recordHead)+n) {
				return errRecord
			}
			if err := t.countEvent(event[n:]); err != nil {
				return err
			}
		default:
			return errRecord
		}
	}
	if at != end {
		return errRecord
	}
	return nil
}

// countEvent adds an event, of which the beginning is enough: the gateway writes
// the id first.
func (t *tally) countEvent(begins []byte) error {
	id, ok := bytes.CutPrefix(begins, []byte(`{"id":"`))
	if !ok || len(id) <= idBytes || id[idBytes] != '"' {
		return errRecord
	}
	t.add(id[:idBytes])
	return nil
}

// encoded is the data of a record in base64.
type encoded []byte

// size returns how many bytes it stands for.
func (e encoded) size() int {
	return len(e)/4*3 - (len(e) - len(bytes.TrimRight(e, "=")))
}

// window holds a part of the data, decoded: enough for the heads of a record and
// its event, and for the id.
type window [63]byte

// decode returns what follows from byte at on, as much as the window holds. It
// returns nothing if that is not base64.
func (w *window) decode(e encoded, at int) []byte {
	from := at / 3 * 4
	n, err := base64.StdEncoding.Decode(w[:], e[from:min(len(e), from+len(w)/3*4)])
	if err != nil || n < at%3 {
		return nil
	}
	return w[at%3 : n]
}
