package fanout

import (
	"math"
	"slices"
	"sync"
)

// frontier keeps the lanes of a batch together: none is further ahead of the
// hindmost than the window.
type frontier struct {
	window int32
	mu     sync.Mutex
	moved  sync.Cond
	at     []int32 // the event that each lane is at
}

func newFrontier(window int) *frontier {
	f := &frontier{window: int32(min(window, math.MaxInt32))}
	f.moved.L = &f.mu
	return f
}

// join adds a lane and returns its place. All lanes join before one moves.
func (f *frontier) join(event int32) (place int) {
	f.at = append(f.at, event)
	return len(f.at) - 1
}

// move says that a lane has settled what is before an event, and waits until it
// may go on with that.
func (f *frontier) move(place int, event int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at[place] = event
	f.moved.Broadcast()
	for event-slices.Min(f.at) > f.window {
		f.moved.Wait()
	}
}

// leave says that a lane is at its end.
func (f *frontier) leave(place int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at[place] = math.MaxInt32
	f.moved.Broadcast()
}
