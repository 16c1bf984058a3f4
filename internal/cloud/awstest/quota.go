package awstest

import (
	"sync"
	"time"
)

// Quota is buckets that hold what may be used within one second. The zero value
// is ready, and safe for concurrent use.
type Quota struct {
	mu      sync.Mutex
	buckets map[string]*bucket
}

// Amount is what is wanted from a bucket.
type Amount struct {
	Bucket    string
	PerSecond int // that flows in; what the bucket holds
	Wanted    int
}

type bucket struct {
	left float64
	at   time.Time
}

// Take takes all amounts, or none if a bucket does not have its. More than a
// bucket ever holds can be taken from a full one.
func (q *Quota) Take(now time.Time, amounts ...Amount) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, a := range amounts {
		if q.fill(a, now).left < float64(min(a.Wanted, a.PerSecond)) {
			return false
		}
	}
	for _, a := range amounts {
		b := q.buckets[a.Bucket]
		b.left = max(0, b.left-float64(a.Wanted))
	}
	return true
}

// fill returns a bucket as it is now.
func (q *Quota) fill(a Amount, now time.Time) *bucket {
	b := q.buckets[a.Bucket]
	if b == nil {
		if q.buckets == nil {
			q.buckets = map[string]*bucket{}
		}
		b = &bucket{left: float64(a.PerSecond), at: now}
		q.buckets[a.Bucket] = b
	}
	rate := float64(a.PerSecond)
	b.left = min(rate, b.left+rate*now.Sub(b.at).Seconds())
	b.at = now
	return b
}
