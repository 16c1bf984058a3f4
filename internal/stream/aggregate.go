package stream

import (
	"crypto/md5" //nolint:gosec // the format prescribes it, against damage and not against people
	"encoding/binary"
	"math/bits"
	"slices"
)

// The aggregated record is the format of the Kinesis Producer Library: several
// events of one bucket in one record. KCL, Firehose and AWS's deaggregation
// modules read it. Source: amazon-kinesis-producer, aggregation-format.md
// (read 2026-11).
//
//	 0        4                                        len-16      len
//	 ├─magic──┼─ protobuf AggregatedRecord ────────────┼─ MD5 of ──┤
//	 │F3899AC2│                                        │ protobuf  │
//	          │
//	          ├─ 0A len key      partition_key_table[0]: the bucket's key
//	          ├─ 1A len Record   once per event
//	          │         ├─ 08 00        partition_key_index, the only key
//	          │         └─ 1A len data  the event in its stored form
//	          └─ …
//
//	message AggregatedRecord {
//	  repeated string partition_key_table     = 1;
//	  repeated string explicit_hash_key_table = 2;
//	  repeated Record records                 = 3;
//	}
//	message Record {
//	  required uint64 partition_key_index     = 1;
//	  optional uint64 explicit_hash_key_index = 2;
//	  required bytes  data                    = 3;
//	  repeated Tag    tags                    = 4;
//	}
//	message Tag { required string key = 1; optional string value = 2; }
//
// Lengths are varints. A record with one event is that event and nothing
// else, as KPL writes it.
//
// The Framed format is ours: another magic and no MD5, otherwise the same. It
// is for streams that check what they read themselves: there the MD5 finds
// nothing new, and it costs more than everything else the producer does
// (about 0.65 µs for an event of 500 bytes).
const (
	magicKPL    = "\xf3\x89\x9a\xc2"
	magicFramed = "\xf3\x89\x9a\xf2"
)

// Tags of the fields in use: number<<3 | wire type, which is 0 for a varint
// and 2 for what has a length.
const (
	tagKeyTable  = 1<<3 | 2
	tagHashTable = 2<<3 | 2
	tagRecord    = 3<<3 | 2

	tagKeyIndex  = 1 << 3
	tagHashIndex = 2 << 3
	tagData      = 3<<3 | 2
	tagTag       = 4<<3 | 2

	tagTagKey = 1<<3 | 2

	tagInvalid = 0 // there is no field number 0
)

// Format is how several events share one record.
type Format uint8

const (
	// KPL is the aggregated record of the Kinesis Producer Library.
	KPL Format = iota
	// Framed is the same without the digest, for streams that verify what they
	// store and that only this module reads.
	Framed
)

// Aggregate builds the data of one record, event by event, in one buffer that
// grows as needed and is used again after Reset. Call Reset before the first
// Add. It is not safe for concurrent use.
type Aggregate struct {
	buf        []byte
	n          int
	first, end int // the data of the first event in buf
	digest     bool
	sealed     bool
}

// Reset empties a and keeps its memory. All events added from here on belong
// to the partition key. What Seal returned before is no longer valid.
func (a *Aggregate) Reset(partitionKey string, f Format) {
	magic := magicKPL
	if f == Framed {
		magic = magicFramed
	}
	buf := append(append(a.buf[:0], magic...), tagKeyTable)
	buf = binary.AppendUvarint(buf, uint64(len(partitionKey)))
	*a = Aggregate{buf: append(buf, partitionKey...), digest: f == KPL}
}

// Add appends an event. It copies the bytes. It panics after Seal.
func (a *Aggregate) Add(event []byte) {
	if a.sealed {
		panic("stream: Add to a sealed Aggregate")
	}
	dataSize := len(event)
	buf := a.buf
	buf = append(buf, tagRecord)
	buf = binary.AppendUvarint(buf, uint64(messageSize(dataSize)))
	buf = append(buf, tagKeyIndex, 0, tagData)
	buf = binary.AppendUvarint(buf, uint64(dataSize))
	buf = append(buf, event...)
	if a.n == 0 {
		a.first, a.end = len(buf)-dataSize, len(buf)
	}
	a.buf, a.n = buf, a.n+1
}

// Grow makes room for size more bytes without another allocation.
func (a *Aggregate) Grow(size int) { a.buf = slices.Grow(a.buf, size) }

// Len returns the number of events.
func (a *Aggregate) Len() int { return a.n }

// Cap returns the bytes of memory that a holds.
func (a *Aggregate) Cap() int { return cap(a.buf) }

// Size returns how many bytes Seal returns.
func (a *Aggregate) Size() int {
	switch {
	case a.n == 0:
		return 0
	case a.alone():
		return a.end - a.first
	case a.sealed || !a.digest:
		return len(a.buf)
	}
	return len(a.buf) + md5.Size
}

// SizeWith returns how many bytes Seal would return after one more Add, of a
// JSON event of eventSize bytes.
func (a *Aggregate) SizeWith(eventSize int) int {
	if a.n == 0 {
		return eventSize
	}
	message := messageSize(eventSize)
	size := len(a.buf) + 1 + uvarintSize(message) + message
	if a.digest {
		size += md5.Size
	}
	return size
}

// Seal completes the record and returns its data, which is valid until Reset.
// Calling it again returns the same bytes. It returns nil if there is no
// event.
func (a *Aggregate) Seal() []byte {
	switch {
	case a.n == 0:
		return nil
	case a.alone():
		a.sealed = true
		return a.buf[a.first:a.end:a.end]
	case !a.sealed && a.digest:
		sum := md5.Sum(a.buf[len(magicKPL):]) //nolint:gosec // as above
		a.buf = append(a.buf, sum[:]...)
	}
	a.sealed = true
	return a.buf
}

// alone reports whether the record is its only event's own bytes. They may not
// look like an aggregate, or a reader would take them apart.
func (a *Aggregate) alone() bool {
	return a.n == 1 && magicOf(a.buf[a.first:a.end]) == ""
}

// messageSize is the size of the Record message around dataSize bytes.
func messageSize(dataSize int) int { return 3 + uvarintSize(dataSize) + dataSize }

func uvarintSize(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// magicOf returns the magic that data begins with, "" if none.
func magicOf(data []byte) string {
	if len(data) >= len(magicKPL) {
		switch string(data[:len(magicKPL)]) {
		case magicKPL:
			return magicKPL
		case magicFramed:
			return magicFramed
		}
	}
	return ""
}
