package router

import (
	"strconv"

	"github.com/eventsluice/sluice/internal/event"
)

// Pointer is a JSON pointer into an event (RFC 6901), as transforms have them:
// it begins with a field of the event, such as /user_id, or leads into data or
// context.
type Pointer struct{ place place }

// ParsePointer reads a pointer. The faults have no rule and no pointer; there
// are none if it can be used.
func ParsePointer(s string) (Pointer, Faults) {
	c := &collector{rule: -1}
	p, ok := newPlace(c, "", s)
	if !ok {
		return Pointer{}, c.faults
	}
	return Pointer{p}, nil
}

// Field is the field of the event that the pointer begins with.
func (p *Pointer) Field() string { return p.place.field }

// Keys are the names of the members, or indexes of elements, that lead from the
// field to the value, unescaped.
func (p *Pointer) Keys() []string {
	keys := make([]string, len(p.place.path))
	for i := range p.place.path {
		keys[i] = p.place.path[i].key
	}
	return keys
}

// Text returns the field of type string that the pointer leads to; ok is false if
// it leads into data or context.
func (p *Pointer) Text(e *event.Event) (text string, ok bool) {
	if field := stringField(e, p.place.field); field != nil {
		return *field, true
	}
	return "", false
}

// Find returns the JSON text at the pointer. A field of type string that is
// empty is not there; data and context always are.
func (p *Pointer) Find(e *event.Event) (value []byte, ok bool) { return p.place.get(e) }

// Set replaces what is at the pointer by JSON text, as set in a transform does.
// The memory that e shares stays as it is.
func (p *Pointer) Set(e *event.Event, value []byte) error { return p.place.put(e, value) }

// Transform is a transform that drops and hashes. It is safe for concurrent use.
type Transform struct{ transform transform }

// NewTransform makes a transform of pointers, as one step with drop and hash
// does. It is nil if there are none. The faults have no rule; their pointers are
// /drop and /hash with an index behind, such as /drop/0.
func NewTransform(dropped, hashed []string, salt string) (*Transform, Faults) {
	c := &collector{rule: -1}
	t := &Transform{}
	for _, list := range [...]struct {
		verb     verb
		pointers []string
	}{{drop, dropped}, {hash, hashed}} {
		for i, s := range list.pointers {
			at := "/" + verbs[list.verb] + "/" + strconv.Itoa(i)
			op := operation{verb: list.verb, salt: salt}
			var ok bool
			if op.place, ok = changeablePlace(c, at, s); ok && op.possible(c, at) {
				t.transform.operations = append(t.transform.operations, op)
			}
		}
	}
	t.transform.bound(c, "")
	switch {
	case len(c.faults) > 0:
		return nil, c.faults
	case len(t.transform.operations) == 0:
		return nil, nil
	}
	return t, nil
}

// Apply changes an event, but not the memory that it shares.
func (t *Transform) Apply(e *event.Event) error {
	if t == nil {
		return nil
	}
	return t.transform.change(e)
}

// CheckPattern returns what keeps s from being the name of an event or a prefix
// such as "order_*", as they stand in enabled_events.
func CheckPattern(s string) Faults {
	c := &collector{rule: -1}
	checkPattern(c, "", s)
	return c.faults
}
