package mapping

import (
	"unsafe"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/router"
)

// work is the memory of a Record for one event after another.
type work struct {
	values        [][]byte // by slot: what was found in data and context, nil if nothing
	shadowed      []bool   // by field: data has a property of that name
	contextTraits bool     // context.traits are traits

	subject router.Subject
	asked   bool // subject is this event

	// arena takes what is made, not found. It is only ever appended to, and left
	// to the garbage collector when it is full: what stands in it never changes.
	arena []byte
}

// arenaSize is one allocation for what some ten events make.
const arenaSize = 4 << 10

// reset begins with another event.
func (r *Record) reset(e *event.Event, m *Mapper) {
	w := r.work
	if w == nil {
		w = &work{}
	}
	*r = Record{Event: *e, Properties: r.Properties[:0], Traits: r.Traits[:0], Extra: r.Extra[:0], work: w}
	w.values = cleared(w.values, m.slots+1)
	w.shadowed = cleared(w.shadowed, len(m.fields))
	w.asked = false
}

func cleared[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// room makes place for n bytes, and returns where they begin.
func (w *work) room(n int) (start int) {
	if cap(w.arena)-len(w.arena) < n {
		w.arena = make([]byte, 0, max(n, arenaSize))
	}
	return len(w.arena)
}

// made returns what stands in the arena from start on.
func (w *work) made(start int) []byte { return w.arena[start:len(w.arena):len(w.arena)] }

// quote returns a text as a JSON string.
func (w *work) quote(text string) []byte {
	start := w.room(len(text) + 2)
	w.arena = event.AppendString(w.arena, text)
	return w.made(start)
}

// concat joins texts.
func (w *work) concat(a, b, c string) string {
	start := w.room(len(a) + len(b) + len(c))
	w.arena = append(append(append(w.arena, a...), b...), c...)
	return view(w.made(start))
}

// evaluate returns the value of an expression, nil if it has none or null.
func (w *work) evaluate(x *router.Expression, r *Record) []byte {
	value, ok := x.Constant()
	if !ok {
		if !w.asked {
			w.subject.Reset(&r.Event)
			w.asked = true
		}
		start := w.room(64)
		arena, err := x.Append(w.arena, &w.subject)
		if err != nil {
			return nil
		}
		w.arena = arena
		value = w.made(start)
	}
	if value[0] == 'n' {
		return nil
	}
	return value
}

// view returns a string that shares the memory of b.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
