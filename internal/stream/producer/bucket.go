package producer

import (
	"crypto/md5" //nolint:gosec // see SpreadKeys
	"encoding/binary"
	"math/bits"
	"strconv"
	"time"
	"unsafe"

	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/stream"
)

// MaxBuckets keeps bucket keys short and a call's bookkeeping small.
const MaxBuckets = 1 << 16

// BucketKey returns the partition key of bucket i on the stream: "b" and its
// number. Readers see it, so it never changes.
func BucketKey(i int) string { return "b" + strconv.Itoa(i) }

// SpreadKeys returns the partition keys of n buckets for a stream that places a
// record by the MD5 hash of its key, as Kinesis does: each of them falls into
// another n-th of the range of hashes, so that shards of equal size get equally
// many buckets if n is a multiple of their number. They are "b" and a number
// too, and the same for the same n in every process.
func SpreadKeys(n int) []string {
	keys := make([]string, n)
	for left, i := n, 0; left > 0; i++ {
		key := BucketKey(i)
		sum := md5.Sum([]byte(key)) //nolint:gosec // Kinesis prescribes it, against nobody
		part, _ := bits.Mul64(binary.BigEndian.Uint64(sum[:]), uint64(n))
		if keys[part] == "" {
			keys[part] = key
			left--
		}
	}
	return keys
}

// bucketOf returns the bucket of a partition key with a hash (event.Hash).
func bucketOf(hash uint64, buckets int) int { return int(hash % uint64(buckets)) }

// A bucket is in one of four states; all are guarded by Producer.mu.
type state uint8

const (
	idle    state = iota // nothing waits
	ready                // in Producer.ready: its first record waits for a call
	flying               // its record is in a call
	resting              // its first record failed and is tried again at a time
)

type bucket struct {
	key   string
	state state
	until time.Time // resting: when the first record is tried again
	// first to last are the records that wait, oldest first. The last one
	// takes more events if it has not been sealed and is not full.
	first, last *record
}

// record is one record of the stream on its way, with those who wait for it.
type record struct {
	next   *record // in its bucket, or in the list of free ones
	bucket *bucket
	data   stream.Aggregate
	shares []share
	// live counts the shares whose sender still waits.
	live int
	// sealed is set when the record first joins a call: from then on its bytes
	// do not change, so that a second attempt repeats the first.
	sealed bool
	// attempts ended without the record being stored, as far as is known.
	attempts int
	// unknown counts the attempts with unknown fate: as often the record may
	// be on the stream already.
	unknown int
	// spooled says where it became durable.
	spooled bool
	// charged is the memory counted in Producer.held for it.
	charged int
}

// share is the part of a record that came from one Put: that many events, in
// order.
type share struct {
	w      *waiter
	part   int32 // index into w.parts
	events int32
}

// waiter is one Put that waits for its events. It is guarded by Producer.mu
// from the moment that a record refers to it, until done is received.
type waiter struct {
	done    chan struct{} // capacity 1: receives once, when pending drops to 0
	started time.Time
	span    trace.SpanContext // of the request
	// later, if not nil, is told what became of events whose sender has left.
	later   func(event int, spooled bool, err error)
	pending int // parts without an answer
	failed  bool
	// spooled says that some of the events are durable in a spool.
	spooled bool
	// gone is set when the sender has left without the answer. Whoever
	// answers the last part then recycles the waiter.
	gone bool
	// parts are the shares of this Put; partOf gives each event its part, or
	// noPart.
	parts  []part
	partOf []int32
}

// part is the events of a Put in one record.
type part struct {
	record *record // nil: settled, with err
	err    error
	// left says that the sender has left with err, which is not the last word.
	left bool
}

// noPart marks an event that never joined a record: too large, or passed over.
const noPart = -1

func (w *waiter) reset() {
	clear(w.parts)
	w.parts, w.partOf = w.parts[:0], w.partOf[:0]
	w.pending, w.failed, w.spooled, w.gone, w.later = 0, false, false, false, nil
}

// newPart adds a part and returns its index.
func (w *waiter) newPart() int32 {
	w.parts = append(w.parts, part{})
	w.pending++
	return int32(len(w.parts) - 1)
}

// splitPart moves the events of a part, but for the first few, to a new part
// and returns its index.
func (w *waiter) splitPart(old, keep int32) int32 {
	n := w.newPart()
	w.parts[n].left = w.parts[old].left
	for i := range w.partOf {
		switch {
		case w.partOf[i] != old:
		case keep > 0:
			keep--
		default:
			w.partOf[i] = n
		}
	}
	return n
}

// room reports whether an event fits into the record.
func (r *record) room(eventSize int, cfg *Config) bool {
	if r.sealed || cfg.OneEventPerRecord && r.data.Len() > 0 {
		return false
	}
	most := cfg.FullRecordBytes
	if r.data.Len() == 0 {
		most = cfg.MaxRecordBytes
	}
	return len(r.bucket.key)+r.data.SizeWith(eventSize) <= most
}

// add appends an event of a Put.
func (r *record) add(w *waiter, event []byte) {
	r.data.Add(event)
	var n int32
	if last := len(r.shares) - 1; last >= 0 && r.shares[last].w == w {
		n = r.shares[last].part
	} else {
		n = w.newPart()
	}
	r.join(w, n)
	w.partOf = append(w.partOf, n)
}

// join notes that the next event of the record belongs to a part of a Put.
func (r *record) join(w *waiter, part int32) {
	if last := len(r.shares) - 1; last >= 0 && r.shares[last].w == w && r.shares[last].part == part {
		r.shares[last].events++
		return
	}
	r.shares = append(r.shares, share{w: w, part: part, events: 1})
	w.parts[part].record = r
	if !w.gone {
		r.live++
	}
}

// abandoned reports whether nobody waits for the record and it is known not
// to be stored, so that it may be dropped.
func (r *record) abandoned() bool { return r.live == 0 && r.unknown == 0 }

// memory is what the record holds, used or not.
func (r *record) memory() int {
	return r.data.Cap() + cap(r.shares)*int(unsafe.Sizeof(share{}))
}

// size is what the record counts for in a call.
func (r *record) size() int { return len(r.bucket.key) + r.data.Size() }

func (b *bucket) pushBack(r *record) {
	r.next = nil
	if b.last == nil {
		b.first = r
	} else {
		b.last.next = r
	}
	b.last = r
}

func (b *bucket) pushFront(r *record) {
	r.next = b.first
	b.first = r
	if b.last == nil {
		b.last = r
	}
}

func (b *bucket) popFront() *record {
	r := b.first
	b.first = r.next
	if b.first == nil {
		b.last = nil
	}
	r.next = nil
	return r
}

// queue is the buckets that are ready, first come first served: a ring with
// room for all, for none is in it twice.
type queue struct {
	ring    []*bucket
	head, n int
}

func (q *queue) push(b *bucket) {
	q.ring[(q.head+q.n)%len(q.ring)] = b
	q.n++
}

func (q *queue) peek() *bucket { return q.ring[q.head] }

func (q *queue) pop() {
	q.head = (q.head + 1) % len(q.ring)
	q.n--
}
