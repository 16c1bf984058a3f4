package mapping

import (
	"bytes"
	"strconv"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/router"
)

// node is a place in data or context that pointers lead to or through. All
// pointers of a Mapper are in two trees, so that data and context are gone
// through once, whatever is wanted of them.
type node struct {
	// slot is where the value is put in work.values, 0 if nobody wants it.
	slot     int
	name     string
	members  []*node
	index    map[string]*node // of members, if there are many
	elements map[int]*node    // the members whose names are indexes
	last     int              // the largest of these

	// overrides is set of members of data and context.traits that properties or
	// traits of the settings take the place of.
	overrides [2]bool // by spread
	// field is one more than the index in Mapper.fields of the property that the
	// member takes the place of, 0 if there is none.
	field int
	// traits marks context.traits.
	traits bool
}

// manyMembers is where a search in a map gets cheaper than one in a slice.
const manyMembers = 16

// find returns the node below n with a name, nil if there is none.
func (n *node) find(name string) *node {
	if n.index != nil {
		return n.index[name]
	}
	for _, c := range n.members {
		if c.name == name {
			return c
		}
	}
	return nil
}

// child returns the node below n with a name, and makes it if there is none.
func (n *node) child(name string) *node {
	if c := n.find(name); c != nil {
		return c
	}
	c := &node{name: name}
	n.members = append(n.members, c)
	if n.index != nil {
		n.index[name] = c
	} else if len(n.members) > manyMembers {
		n.index = make(map[string]*node, len(n.members))
		for _, c := range n.members {
			n.index[c.name] = c
		}
	}
	// RFC 6901 section 4: digits without leading zeros.
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && strconv.Itoa(i) == name {
		if n.elements == nil {
			n.elements = map[int]*node{}
		}
		n.elements[i] = c
		n.last = max(n.last, i)
	}
	return c
}

// spread is what the members of an object become.
type spread uint8

const (
	asProperties spread = iota
	asTraits
	asNothing
)

var emptyObject = []byte("{}")

// container goes through data or context and puts what is found in its place. It
// reports whether that is an object. Like all that goes through events here, it
// relies on the check that every event has behind it, and does not check again.
func (m *Mapper) container(r *Record, value []byte, n *node, s spread) bool {
	if value = bytes.TrimSpace(value); len(value) == 0 {
		value = emptyObject
	}
	if !IsObject(value) {
		return false
	}
	if n.slot > 0 {
		r.work.values[n.slot] = value
	}
	if len(n.members) > 0 || s != asNothing {
		m.members(r, value, 0, n, s)
	}
	return true
}

// members goes through the object that begins at i and returns its end.
func (m *Mapper) members(r *Record, b []byte, i int, n *node, s spread) int {
	i = router.SkipSpace(b, i+1)
	for i < len(b) && b[i] == '"' {
		start := i + 1
		i = router.SkipString(b, i)
		name := nameOf(b[start:max(start, i-1)])
		if i = router.SkipSpace(b, i); i < len(b) { // the colon
			i = router.SkipSpace(b, i+1)
		}
		if i >= len(b) {
			break
		}
		start = i
		child := n.find(name)
		i = m.value(r, b, i, child)
		if v := b[start:i:i]; s != asNothing {
			m.spread(r, name, v, child, s)
		}
		if i = router.SkipSpace(b, i); i >= len(b) || b[i] != ',' {
			break
		}
		i = router.SkipSpace(b, i+1)
	}
	return min(i+1, len(b))
}

// nameOf returns what a name means, of which raw is between the quotes.
func nameOf(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return view(raw)
	}
	name, _ := event.Unquote(append(append([]byte{'"'}, raw...), '"'))
	return name
}

// elements goes through the array that begins at i and returns its end.
func (m *Mapper) elements(r *Record, b []byte, i int, n *node) int {
	start := i
	i = router.SkipSpace(b, i+1)
	for k := 0; i < len(b) && b[i] != ']'; k++ {
		if k > n.last {
			return router.SkipValue(b, start)
		}
		i = m.value(r, b, i, n.elements[k])
		if i = router.SkipSpace(b, i); i >= len(b) || b[i] != ',' {
			break
		}
		i = router.SkipSpace(b, i+1)
	}
	return min(i+1, len(b))
}

// value takes the value that begins at i, for the node that leads to it if there
// is one, and returns its end. Null is as good as nothing.
func (m *Mapper) value(r *Record, b []byte, i int, n *node) (end int) {
	switch {
	case n == nil:
		return router.SkipValue(b, i)
	case b[i] == '{' && (len(n.members) > 0 || n.traits):
		s := asNothing
		if n.traits && r.work.contextTraits {
			s = asTraits
		}
		end = m.members(r, b, i, n, s)
	case b[i] == '[' && len(n.elements) > 0:
		end = m.elements(r, b, i, n)
	default:
		end = router.SkipValue(b, i)
	}
	if n.slot > 0 && b[i] != 'n' {
		r.work.values[n.slot] = b[i:end:end]
	}
	return end
}

// spread makes a member of data or context.traits a property or a trait.
func (m *Mapper) spread(r *Record, name string, v []byte, child *node, s spread) {
	if len(v) == 0 || v[0] == 'n' || child != nil && child.overrides[s] || m.reserved != nil && m.reserved(name) {
		return
	}
	if s == asTraits {
		r.Traits = append(r.Traits, Property{name, v})
		return
	}
	if child != nil && child.field > 0 {
		r.work.shadowed[child.field-1] = true
	}
	r.Properties = append(r.Properties, Property{name, v})
}
