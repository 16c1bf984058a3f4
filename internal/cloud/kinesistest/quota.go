package kinesistest

import (
	"sync"
	"time"
)

// What a shard takes. Source: API reference, PutRecords.
const (
	ShardRecords = 1000    // a second
	ShardBytes   = 1 << 20 // a second, data and partition keys
)

// tokens is a bucket that holds what may be used within one second.
type tokens struct {
	rate, left float64
	at         time.Time
}

func (b *tokens) fill(now time.Time) {
	if b.at.IsZero() {
		b.left = b.rate
	} else {
		b.left = min(b.rate, b.left+b.rate*now.Sub(b.at).Seconds())
	}
	b.at = now
}

// has reports whether n can be taken. More than the bucket ever holds can be
// taken from a full one.
func (b *tokens) has(n float64) bool { return b.left >= min(n, b.rate) }

func (b *tokens) take(n float64) { b.left = max(0, b.left-n) }

// quota is buckets by name.
type quota struct {
	mu      sync.Mutex
	buckets map[string]*tokens
}

func (q *quota) bucket(name string, rate float64, now time.Time) *tokens {
	if q.buckets == nil {
		q.buckets = map[string]*tokens{}
	}
	b := q.buckets[name]
	if b == nil {
		b = &tokens{rate: rate}
		q.buckets[name] = b
	}
	b.fill(now)
	return b
}

// ShardQuota lets every shard take so many records and bytes a second, with a
// second's worth at once, and fails the records above it. AWS's own are
// ShardQuota(ShardRecords, ShardBytes).
func ShardQuota(recordsPerSecond, bytesPerSecond int) Fault {
	var q quota
	return records(Throughput, func(_, _, _ int, r *Record) bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		now := time.Now()
		count := q.bucket("records of "+r.Shard, float64(recordsPerSecond), now)
		size := q.bucket("bytes of "+r.Shard, float64(bytesPerSecond), now)
		if !count.has(1) || !size.has(float64(r.size())) {
			return true
		}
		count.take(1)
		size.take(float64(r.size()))
		return false
	})
}

// CallQuota lets so many calls of each operation through in a second, and
// refuses the others with err, such as Limit.
func CallQuota(perSecond int, err *Error) Fault {
	var q quota
	return Fault{effect: func(p *plan, t *Trouble) {
		q.mu.Lock()
		defer q.mu.Unlock()
		calls := q.bucket(p.operation, float64(perSecond), p.began)
		if calls.has(1) {
			calls.take(1)
			return
		}
		p.refuse(err, t)
	}}
}
