package delivery

import (
	"container/heap"
	"slices"
	"time"
)

// hold is a partition key that has parked events: later events of the key go
// behind them, so that the order within the key stays.
type hold struct {
	key     string
	letters []waiting // in the order of the stream; the first is tried next
	// out is true while some of the letters are in a call; blocked once one of
	// them failed in the calls now being made.
	out, blocked bool
	index        int // in the heap; -1 if out
}

// waiting is what memory keeps of a parked letter.
type waiting struct {
	id       place
	attempts int
	due      time.Time
}

// holds are the parked events of one lane.
type holds struct {
	byKey map[string]*hold
	due   dueHeap
}

// put adds a letter, or replaces what is known of it.
func (hs *holds) put(key string, w waiting) {
	h := hs.byKey[key]
	if h == nil {
		h = &hold{key: key, index: -1}
		hs.byKey[key] = h
	}
	i, found := slices.BinarySearchFunc(h.letters, w.id, func(w waiting, id place) int { return w.id.compare(id) })
	if found {
		h.letters[i] = w
	} else {
		h.letters = slices.Insert(h.letters, i, w)
	}
	hs.fix(h)
}

// remove drops a letter, and the hold with the last one.
func (hs *holds) remove(h *hold, id place) {
	i, found := slices.BinarySearchFunc(h.letters, id, func(w waiting, id place) int { return w.id.compare(id) })
	if found {
		h.letters = slices.Delete(h.letters, i, i+1)
	}
	hs.fix(h)
}

// fix puts the hold where it belongs in the heap.
func (hs *holds) fix(h *hold) {
	switch {
	case len(h.letters) == 0:
		delete(hs.byKey, h.key)
		if h.index >= 0 {
			heap.Remove(&hs.due, h.index)
		}
	case h.out:
	case h.index < 0:
		heap.Push(&hs.due, h)
	default:
		heap.Fix(&hs.due, h.index)
	}
}

// take marks the hold as being in a call.
func (hs *holds) take(h *hold) {
	h.out = true
	heap.Remove(&hs.due, h.index)
}

// back ends what take began.
func (hs *holds) back(h *hold) {
	h.out, h.blocked = false, false
	hs.fix(h)
}

// next returns the hold that is due first, nil if there is none.
func (hs *holds) next() *hold {
	if len(hs.due) == 0 {
		return nil
	}
	return hs.due[0]
}

// wake makes all letters due now.
func (hs *holds) wake(now time.Time) {
	for _, h := range hs.due {
		h.letters[0].due = now
	}
	heap.Init(&hs.due)
}

// dueHeap has the hold whose first letter is due earliest at index 0.
type dueHeap []*hold

func (d dueHeap) Len() int { return len(d) }
func (d dueHeap) Less(i, j int) bool {
	a, b := &d[i].letters[0], &d[j].letters[0]
	if c := a.due.Compare(b.due); c != 0 {
		return c < 0
	}
	return a.id.compare(b.id) < 0
}
func (d dueHeap) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}
func (d *dueHeap) Push(x any) {
	h := x.(*hold)
	h.index = len(*d)
	*d = append(*d, h)
}
func (d *dueHeap) Pop() any {
	last := len(*d) - 1
	h := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	h.index = -1
	return h
}
