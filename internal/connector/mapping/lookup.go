package mapping

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/eventsluice/sluice/internal/router"
)

// pointers are those that Lookup has been asked for: connectors ask for the same
// again and again.
type pointers struct {
	known sync.Map // string to *router.Pointer
	count atomic.Int32
}

// maxKnown bounds what is kept, should a connector make pointers of events.
const maxKnown = 256

func (p *pointers) get(source string) *router.Pointer {
	if known, ok := p.known.Load(source); ok {
		return known.(*router.Pointer)
	}
	pointer, faults := router.ParsePointer(source)
	if faults != nil {
		return nil
	}
	if p.count.Add(1) <= maxKnown {
		p.known.Store(source, &pointer)
	}
	return &pointer
}

// Lookup returns the value at a JSON pointer into the event, after Privacy, in
// JSON; there is none of null. It goes through the event again: what each event
// is asked for belongs in Defaults.Extra, and so do expressions, which it does
// not know.
func (m *Mapper) Lookup(r *Record, source string) (value []byte, ok bool) {
	p := m.lookups.get(source)
	if p == nil {
		return nil, false
	}
	value, ok = p.Find(&r.Event)
	if value = bytes.TrimSpace(value); !ok || len(value) == 0 || value[0] == 'n' {
		return nil, false
	}
	return value, true
}
