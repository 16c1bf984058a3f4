package limit

import (
	"sync"
	"time"
)

// table has the buckets that were in use of late. It has two generations: a
// bucket that is changed is in the young one, and when that is full it becomes
// the old one, and what was in the old one is forgotten. So the table is
// bounded, and the longest unused leave first. A forgotten bucket is a full one.
type table struct {
	mu         sync.Mutex
	most       int // buckets of one generation
	young, old map[ID]time.Duration
}

// ahead returns how long after now, which is counted from the limiter's epoch,
// a bucket will be full. mu is held.
func (t *table) ahead(id ID, now time.Duration) time.Duration {
	full, ok := t.young[id]
	if !ok {
		full, ok = t.old[id]
	}
	if !ok {
		return 0
	}
	return max(full-now, 0)
}

// set makes a bucket full at now+ahead. mu is held.
func (t *table) set(id ID, now, ahead time.Duration) {
	if _, ok := t.young[id]; !ok && len(t.young) >= t.most {
		t.young, t.old = t.old, t.young
		clear(t.young)
	}
	if t.young == nil {
		t.young = map[ID]time.Duration{}
	}
	t.young[id] = now + min(ahead, maxAhead)
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.young) + len(t.old)
}
