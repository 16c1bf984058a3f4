package spool

import (
	"crypto/sha256"
	"slices"
	"time"

	"github.com/eventsluice/sluice/internal/stream"
)

// bucket is what is known of the records of one partition key that has
// anything in the spool, or whose last attempt failed. All of it is guarded by
// Spool.mu.
type bucket struct {
	key string
	// failing is when the first attempt began of those that failed in a row;
	// zero if the last one did not fail.
	failing time.Time

	// waiting counts its records of this process that are in the log and not on
	// the stream; unread are those of them that are not in the window.
	waiting, unread int
	// writing counts its records in writes to the log.
	writing int
	// doubtful says that the outcome of its last write to the log is unknown.
	// Its record comes again, and until that is in the log what comes after the
	// bucket's last record in it is not known.
	doubtful bool
	// copies are records of which the log may hold more than one copy, or that
	// the reader may see before the writer knows that they are in the log.
	copies []*copied

	// queue are the records in the window, oldest first; size is their bytes.
	queue []item
	size  int
	// flying is how many of queue, from the first, are in a call.
	flying int
	// behind says that the reader has passed over records of the bucket: all
	// from position next on are not in the window; nextAt is when the one at next was
	// stored. missed is the pass in which the reader did so last.
	behind bool
	next   uint64
	nextAt time.Time
	missed uint64

	// attempts of the first record failed; until is when it is tried again.
	attempts int
	until    time.Time
	// alone says that the first record was too large for the stream together
	// with others.
	alone bool
	// stuck says that the stream will never take the first record, and nobody
	// else has.
	stuck bool
}

// item is a record in the window, in memory of its own.
type item struct {
	record   stream.Record
	position uint64
	storedAt time.Time
	// old says that an earlier process wrote it.
	old bool
}

// copied is a record in a write to the log, or one whose write once had an
// unknown outcome. However many copies are in the log, it is counted once, and
// the copy that the reader found first is the one that goes to the stream.
type copied struct {
	digest  [sha256.Size]byte
	doubted bool // a write had an unknown outcome
	counted bool
	found   uint64 // position of the first copy, 0 until it is read
	// settled is when it was known to be in the log, or was overtaken.
	settled time.Time
}

// copyLife is how long after the last write of a record another copy of it may
// turn up in the log. One that comes later goes to the stream a second time.
const copyLife = time.Minute

// spooled reports whether the bucket's next record has to go to the log.
func (b *bucket) spooled() bool { return b.waiting > 0 || b.writing > 0 || b.doubtful }

// resting reports whether the bucket is not to be tried yet.
func (b *bucket) resting(now time.Time) bool { return b.until.After(now) }

// rested ends a row of failures.
func (b *bucket) rested() {
	b.failing, b.until, b.attempts, b.alone, b.stuck = time.Time{}, time.Time{}, 0, false, false
}

// oldest returns the position of its oldest record in the log that the reader
// has seen and the stream does not have, 0 if there is none.
func (b *bucket) oldest() (position uint64, at time.Time) {
	switch {
	case len(b.queue) > 0:
		return b.queue[0].position, b.queue[0].storedAt
	case b.behind:
		return b.next, b.nextAt
	}
	return 0, time.Time{}
}

// drop forgets a copied record.
func (b *bucket) drop(c *copied) {
	b.copies = slices.DeleteFunc(b.copies, func(other *copied) bool { return other == c })
}

// copyOf returns the entry of copies for a digest, nil if there is none.
func (b *bucket) copyOf(digest [sha256.Size]byte) *copied {
	if i := slices.IndexFunc(b.copies, func(c *copied) bool { return c.digest == digest }); i >= 0 {
		return b.copies[i]
	}
	return nil
}

// forget drops copies that can come no more: the reader, for this bucket too,
// is where the log was copyLife after their last write.
func (b *bucket) forget(readAt time.Time) {
	if b.behind {
		return
	}
	b.copies = slices.DeleteFunc(b.copies, func(c *copied) bool {
		return !c.settled.IsZero() && readAt.Sub(c.settled) > copyLife
	})
}

// bucketOf returns the bucket of a key, made if there is none.
func (s *Spool) bucketOf(key string) *bucket {
	b := s.buckets[key]
	if b == nil {
		b = &bucket{key: key}
		s.buckets[key] = b
	}
	return b
}

// tidy forgets a bucket of which there is nothing to know.
func (s *Spool) tidy(b *bucket) {
	if !b.spooled() && len(b.queue) == 0 && !b.behind && b.failing.IsZero() && len(b.copies) == 0 {
		delete(s.buckets, b.key)
	}
}

// count takes a record that is in the log into the account.
func (s *Spool) count(b *bucket, r *stream.Record) {
	b.waiting++
	b.unread++
	s.waiting++
	s.events += int64(eventsOf(r))
	s.bytes += int64(sizeOf(r))
}

// settle takes the first record of a bucket out of the window and the account:
// it is on the stream, or was refused.
func (s *Spool) settle(b *bucket) {
	it := b.queue[0]
	b.queue[0] = item{}
	b.queue = b.queue[1:]
	size := sizeOf(&it.record)
	b.size -= size
	s.window.size -= size
	s.events -= int64(eventsOf(&it.record))
	s.bytes -= int64(size)
	if it.old {
		s.oldSize -= int64(size)
	} else {
		b.waiting--
		s.waiting--
	}
	b.rested()
}

func eventsOf(r *stream.Record) int { return max(r.Events, 1) }

func sizeOf(r *stream.Record) int { return len(r.PartitionKey) + len(r.Data) }
