package stream

import (
	"crypto/md5" //nolint:gosec // the format prescribes it
	"encoding/binary"
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
)

// UserRecord is one of the things that a writer put into a record: an event,
// if the writer was the producer of this module.
type UserRecord struct {
	// PartitionKey and ExplicitHashKey are the writer's own for this one. In a
	// record of our producer they are the bucket's key and empty.
	PartitionKey    string
	ExplicitHashKey string
	// SubSequence is its place in the record, from 0: with the sequence number
	// of the record it is unique on the stream.
	SubSequence int
	// Data aliases the data of the record.
	Data []byte
}

// Deaggregate yields what a record holds, with its sub-sequence number. The
// bytes alias rec.Data. Data that is not a valid aggregate is one plain user
// record, unchanged, also where it looks like a damaged aggregate: that is
// what AWS's readers make of it, and the event behind it can then be kept as
// one that cannot be read. A valid aggregate may hold nothing.
//
// It allocates nothing.
func Deaggregate(rec Record) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		body, ok := aggregateBody(rec.Data)
		if !ok {
			yield(0, rec.Data)
			return
		}
		sub := 0
		for f := (fields{rest: body}); f.next(); {
			if f.tag != tagRecord {
				continue
			}
			r, _ := parseUserRecord(f.data)
			if !yield(sub, r.data) {
				return
			}
			sub++
		}
	}
}

// AppendUserRecords appends what a record holds to dst, with keys. It treats
// the record as Deaggregate does.
func AppendUserRecords(dst []UserRecord, rec Record) []UserRecord {
	body, ok := aggregateBody(rec.Data)
	if !ok {
		return append(dst, UserRecord{PartitionKey: rec.PartitionKey, Data: rec.Data})
	}
	var keys, hashKeys []string
	for f := (fields{rest: body}); f.next(); {
		switch f.tag {
		case tagKeyTable:
			key := rec.PartitionKey
			if string(f.data) != key {
				key = string(f.data)
			}
			keys = append(keys, key)
		case tagHashTable:
			hashKeys = append(hashKeys, string(f.data))
		}
	}
	sub := 0
	for f := (fields{rest: body}); f.next(); {
		if f.tag != tagRecord {
			continue
		}
		r, _ := parseUserRecord(f.data)
		u := UserRecord{PartitionKey: keys[r.key], SubSequence: sub, Data: r.data}
		if r.hasHashKey {
			u.ExplicitHashKey = hashKeys[r.hashKey]
		}
		dst = append(dst, u)
		sub++
	}
	return dst
}

// aggregateBody returns the protobuf message in data if data is an aggregate
// whose digest is right and of which every part can be read.
func aggregateBody(data []byte) (body []byte, ok bool) {
	switch magicOf(data) {
	case magicKPL:
		body = data[len(magicKPL):]
		if len(body) <= md5.Size {
			return nil, false
		}
		end := len(body) - md5.Size
		if md5.Sum(body[:end]) != [md5.Size]byte(body[end:]) { //nolint:gosec // as above
			return nil, false
		}
		body = body[:end]
	case magicFramed:
		body = data[len(magicFramed):]
	default:
		return nil, false
	}
	return body, valid(body)
}

// valid reports whether body is an AggregatedRecord with all required fields
// and no index outside its table. The tables may follow the records.
func valid(body []byte) bool {
	var keys, hashKeys, minKeys, minHashKeys uint64
	for f := (fields{rest: body}); f.next(); {
		switch f.tag {
		case tagInvalid:
			return false
		case tagKeyTable:
			keys++
		case tagHashTable:
			hashKeys++
		case tagRecord:
			r, ok := parseUserRecord(f.data)
			if !ok {
				return false
			}
			minKeys = max(minKeys, r.key+1)
			if r.hasHashKey {
				minHashKeys = max(minHashKeys, r.hashKey+1)
			}
		}
	}
	return minKeys <= keys && minHashKeys <= hashKeys
}

// userRecord is the message Record.
type userRecord struct {
	key, hashKey uint64
	hasHashKey   bool
	data         []byte
}

// parseUserRecord reads the message Record; ok is false if it is damaged or
// incomplete.
func parseUserRecord(message []byte) (r userRecord, ok bool) {
	// As Aggregate writes it: nothing but the first key and the data.
	if len(message) > 3 && message[0] == tagKeyIndex && message[1] == 0 && message[2] == tagData {
		size, n := uvarint(message[3:])
		if rest := message[3+max(n, 0):]; n > 0 && size == uint64(len(rest)) {
			return userRecord{data: rest[:len(rest):len(rest)]}, true
		}
	}
	hasKey, hasData := false, false
	for f := (fields{rest: message}); f.next(); {
		switch f.tag {
		case tagKeyIndex:
			r.key, hasKey = f.value, true
		case tagHashIndex:
			r.hashKey, r.hasHashKey = f.value, true
		case tagData:
			r.data, hasData = f.data, true
		case tagTag:
			if !validTag(f.data) {
				return r, false
			}
		case tagInvalid:
			return r, false
		}
	}
	const maxIndex = 1 << 32 // more than any record can hold; index+1 must not wrap
	return r, hasKey && hasData && r.key < maxIndex && r.hashKey < maxIndex
}

// validTag checks the message Tag: its key is required.
func validTag(message []byte) bool {
	hasKey := false
	for f := (fields{rest: message}); f.next(); {
		switch f.tag {
		case tagInvalid:
			return false
		case tagTagKey:
			hasKey = true
		}
	}
	return hasKey
}

// fields walks over the fields of a protobuf message.
type fields struct {
	rest []byte
	// tag is that of the field reached, as in the constants of the format;
	// tagInvalid, and the last one, where the message is damaged.
	tag uint64
	// value is that of a varint, data that of a length-delimited field. Fields
	// of other types are only skipped.
	value uint64
	data  []byte
}

// next goes to the next field; it returns false after the last.
func (f *fields) next() bool {
	if len(f.rest) == 0 {
		return false
	}
	size := f.read(f.rest)
	if size <= 0 {
		f.tag, f.rest = tagInvalid, nil
		return true
	}
	f.rest = f.rest[size:]
	return true
}

// read reads the field that b begins with and returns its size, 0 if it is
// damaged.
func (f *fields) read(b []byte) int {
	tag, size := uvarint(b)
	if size <= 0 || tag>>3 < uint64(protowire.MinValidNumber) || tag>>3 > uint64(protowire.MaxValidNumber) {
		return 0
	}
	f.tag = tag
	switch typ := protowire.Type(tag & 7); typ {
	case protowire.VarintType:
		value, n := uvarint(b[size:])
		if n <= 0 {
			return 0
		}
		f.value = value
		return size + n
	case protowire.BytesType:
		length, n := uvarint(b[size:])
		size += n
		if n <= 0 || length > uint64(len(b)-size) {
			return 0
		}
		end := size + int(length)
		f.data = b[size:end:end]
		return end
	default:
		n := protowire.ConsumeFieldValue(protowire.Number(tag>>3), typ, b[size:])
		if n < 0 {
			return 0
		}
		return size + n
	}
}

// uvarint is binary.Uvarint with a short way for one byte.
func uvarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}
