// Package stream is about records: what the edge puts on the stream, how
// several events share one record, and what readers get back.
//
// It owns the aggregated record format (the one of the Kinesis Producer
// Library, so that AWS's own readers understand it) and the types that pass
// between the edge, the producer, a host's stream and the router. It keeps no
// data and starts nothing.
package stream

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/event"
)

// Record is what a stream stores: the stored form of one event, or several in
// the aggregated format.
type Record struct {
	// PartitionKey is the key of the bucket that all events in the record
	// belong to: 1 to 256 characters.
	PartitionKey string
	Data         []byte
	// Events is the number of events in Data, for accounting. A writer sets
	// it; a reader gets it only from streams that keep it.
	Events int
}

// Result is the fate of one record of a write.
type Result struct {
	// Sequence is where the record was stored; meaningful only if Err is nil
	// and the record is not Spooled.
	Sequence string
	// Spooled says that the record is durable in a spool and not on the stream
	// yet: it gets there by itself.
	Spooled bool
	// Err is nil if the record is durable. Otherwise it is classified:
	// fault.Throttled and fault.Unavailable say that it was not stored,
	// fault.TooLarge that it never will be, and any other kind that its fate
	// is unknown.
	Err error
}

// Entry is one write as readers get it back: the records that were stored
// together, at one position of the stream.
type Entry struct {
	// Position grows along the stream, by one or more. The first is 1.
	Position uint64
	// StoredAt is when the stream took it.
	StoredAt time.Time
	Records  []Record
}

// Reader returns the entries of a stream in their order, none left out. It
// reconnects by itself. It is not safe for concurrent use.
type Reader interface {
	// Next waits for the next entry. The caller may keep the entry but not
	// change it: readers share it.
	Next(ctx context.Context) (Entry, error)
	Close() error
}

// Batch holds the events of one request on their way to the stream, and after
// the write the fate of each. The zero value is empty and ready; Reset makes
// it so again and keeps its memory. It is not safe for concurrent use.
type Batch struct {
	// Span is that of the request; the zero value if it is not traced.
	Span trace.SpanContext

	data    []byte
	items   []item
	spooled bool
	// ownIDs counts the items with that mark; skipped those with that one, and
	// skippedBytes what they take.
	ownIDs, skipped, skippedBytes int
}

type item struct {
	hash       uint64 // of the partition key
	start, end int    // of the stored form in data
	source     string
	err        error
	// ownID, skip and duplicate are marks, see the methods of Batch.
	ownID, skip, duplicate bool
}

// Add encodes an event into the batch and returns its index.
func (b *Batch) Add(e *event.Event) int {
	start := len(b.data)
	b.data = e.Append(b.data)
	b.items = append(b.items, item{hash: event.Hash(e.PartitionKey()), start: start, end: len(b.data), source: e.Source})
	return len(b.items) - 1
}

// Keep takes those events out of the batch for which keep returns false. Those
// that stay move up in order; what Event returned of any of them stays valid.
func (b *Batch) Keep(keep func(i int) bool) {
	kept := b.items[:0]
	for i, it := range b.items {
		if keep(i) {
			kept = append(kept, it)
			continue
		}
		if it.ownID {
			b.ownIDs--
		}
		if it.skip {
			b.skipped--
		} else {
			b.skippedBytes += it.end - it.start // they stay in data
		}
	}
	clear(b.items[len(kept):])
	b.items = kept
}

// MarkOwnID says that the id of event i is its sender's own: the sender may
// send the event again under it. An id that the gateway made comes once.
func (b *Batch) MarkOwnID(i int) {
	if !b.items[i].ownID {
		b.items[i].ownID = true
		b.ownIDs++
	}
}

// OwnID returns whether MarkOwnID was called for event i.
func (b *Batch) OwnID(i int) bool { return b.items[i].ownID }

// OwnIDs returns the number of events whose id is their sender's own.
func (b *Batch) OwnIDs() int { return b.ownIDs }

// Identity returns the identity of event i; ok is false if it has no id.
func (b *Batch) Identity(i int) (identity event.Identity, ok bool) {
	return event.IdentityFrom(b.items[i].source, b.Event(i))
}

// Skip says whether the next Put passes event i over: it does not write and not
// count it, and leaves what Err says of it.
func (b *Batch) Skip(i int, skip bool) {
	it := &b.items[i]
	if it.skip == skip {
		return
	}
	it.skip = skip
	if skip {
		b.skipped++
		b.skippedBytes += it.end - it.start
	} else {
		b.skipped--
		b.skippedBytes -= it.end - it.start
	}
}

// Skipped returns whether event i is to be passed over.
func (b *Batch) Skipped(i int) bool { return b.items[i].skip }

// Load returns how many events the next Put writes, and their bytes.
func (b *Batch) Load() (events, bytes int) {
	return len(b.items) - b.skipped, len(b.data) - b.skippedBytes
}

// MarkDuplicate says that event i is durable since it was stored before, and
// was not written again.
func (b *Batch) MarkDuplicate(i int) { b.items[i].duplicate = true }

// Duplicates returns how many events MarkDuplicate was called for.
func (b *Batch) Duplicates() (n int) {
	if b.ownIDs == 0 {
		return 0
	}
	for i := range b.items {
		if b.items[i].duplicate {
			n++
		}
	}
	return n
}

// Len returns the number of events.
func (b *Batch) Len() int { return len(b.items) }

// Size returns the bytes of the events in stored form, with those that Keep
// took out.
func (b *Batch) Size() int { return len(b.data) }

// Event returns the stored form of event i. It is valid until Reset.
func (b *Batch) Event(i int) []byte { return b.data[b.items[i].start:b.items[i].end] }

// Hash returns the hash of the partition key of event i.
func (b *Batch) Hash(i int) uint64 { return b.items[i].hash }

// Fail records that event i is not durable, and why. The producer calls it.
func (b *Batch) Fail(i int, err error) { b.items[i].err = err }

// Err returns why event i is not durable; nil if it is. It means something
// only after the producer's Put has returned.
func (b *Batch) Err(i int) error { return b.items[i].err }

// SetSpooled records whether some of the events are durable in a spool and not
// on the stream yet. The producer calls it.
func (b *Batch) SetSpooled(spooled bool) { b.spooled = spooled }

// Spooled returns what SetSpooled was told.
func (b *Batch) Spooled() bool { return b.spooled }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	clear(b.items)
	b.Span = trace.SpanContext{}
	b.data, b.items, b.spooled = b.data[:0], b.items[:0], false
	b.ownIDs, b.skipped, b.skippedBytes = 0, 0, 0
}
