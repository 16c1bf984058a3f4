// Package schema checks events against contracts: JSON Schemas (2020-12) of
// their data, by name and version.
//
// # What it promises
//
// A value is right if and only if the schema says so. The keywords that most
// schemas are made of are compiled and checked over the bytes of the event,
// without decoding them; a schema with others (unevaluatedProperties,
// unevaluatedItems, $dynamicRef) is checked by a library. Fuzz tests compare the
// two. A check takes time in proportion to the event: patterns are regular
// expressions of Go, and a schema that could ask for more is refused, or its
// event is said to break the rule "complexity".
//
// What is told of a violation is bounded: ten violations of an event, 64 bytes
// of a value.
//
// Where it differs from the letter of JSON Schema: formats are asserted; patterns
// are those of Go; a number of more than 400 characters is rounded to a 64-bit
// float before it is compared, and one nearer to zero than 10^-400 is zero.
//
// # What it assumes
//
// The data of an event is valid JSON without duplicate names, as package event
// makes sure.
package schema

import (
	"github.com/eventsluice/sluice/internal/event"
)

// Mode is what happens to an event that is not what its schema says.
type Mode uint8

const (
	// Observe stores it and counts the violation.
	Observe Mode = iota
	// Quarantine puts it aside, durably, and tells its sender that it is safe.
	Quarantine
	// Reject refuses it, and tells its sender why.
	Reject
	// Modes is how many there are.
	Modes
)

var modeNames = [Modes]string{Observe: "observe", Quarantine: "quarantine", Reject: "reject"}

func (m Mode) String() string { return modeNames[m] }

func modeOf(name string) (Mode, bool) {
	for m, n := range modeNames {
		if n == name {
			return Mode(m), true
		}
	}
	return 0, false
}

// Entry is one schema of a document.
type Entry struct {
	// Name is the name of the events that it is for, Version their version; ""
	// is for events that say none.
	Name, Version string
	Mode          Mode

	label string // name or name@version
	compiled
}

// Label returns the name of the schema, with its version if it has one:
// "order_completed@2".
func (e *Entry) Label() string { return e.label }

// Set is a document that was read. It is safe for concurrent use.
type Set struct {
	byName  map[string]*contract
	entries []*Entry
}

// contract is all that a document says of a name.
type contract struct {
	entries  []*Entry
	versions map[string]*Entry
	// newest is the last of the name, unversioned is for events that say no
	// version: the one that has none, or the newest.
	newest, unversioned *Entry
	// unknown is what an event of a version that is not there breaks: newest
	// without a version, for what its sender says is not to be kept.
	unknown *Entry
	known   string // the versions, in words
}

func (s *Set) add(e *Entry) {
	s.entries = append(s.entries, e)
	c := s.byName[e.Name]
	if c == nil {
		c = &contract{versions: map[string]*Entry{}}
		s.byName[e.Name] = c
	}
	c.entries = append(c.entries, e)
	c.versions[e.Version] = e
	c.newest = e
}

// finish completes the contracts when all entries are there.
func (s *Set) finish() {
	for _, c := range s.byName {
		if c.unversioned = c.versions[""]; c.unversioned == nil {
			c.unversioned = c.newest
		}
		c.unknown = &Entry{Name: c.newest.Name, Mode: c.newest.Mode, label: c.newest.Name}
		words := make([]string, 0, len(c.entries))
		for _, e := range c.entries {
			if e.Version == "" {
				words = append(words, "no version")
			} else {
				words = append(words, e.Version)
			}
		}
		c.known = someOf(words)
	}
}

// Len returns how many schemas there are.
func (s *Set) Len() int { return len(s.entries) }

// Has reports whether there is a schema for events of a name.
func (s *Set) Has(name string) bool { return s.byName[name] != nil }

// Entries returns the schemas in the order of the document.
func (s *Set) Entries() []*Entry { return s.entries }

// Check checks an event against the schema for its name and version. It returns
// nil if the event has no schema or is what that says; otherwise what it breaks,
// with the violations in r.
//
// The version is context.schema_version, else context.protocols.event_version,
// a string or a number. An event of a version that the document does not have
// breaks the rule "version" of the newest schema of its name. An event without
// a version is checked against the schema without one, else the newest.
func (s *Set) Check(ev *event.Event, r *Report) *Entry {
	broken, _ := s.check(ev, r)
	return broken
}

// check is Check; found is false if the event has no schema.
func (s *Set) check(ev *event.Event, r *Report) (broken *Entry, found bool) {
	r.Violations = r.Violations[:0]
	contract, ok := s.byName[ev.Name]
	if !ok {
		return nil, false
	}
	entry := contract.unversioned
	version, pointer, at := versionOf(ev.Context)
	if pointer != "" {
		if entry, ok = contract.versions[version]; !ok || version == "" { // "" is of the wrong type
			r.Violations = append(r.Violations, Violation{
				Pointer: pointer, Group: pointer, Rule: "version", Expected: contract.known, Got: short(ev.Context, at),
			})
			return contract.unknown, true
		}
	}
	data := []byte(ev.Data)
	if len(data) == 0 {
		data = noData
	}
	if entry.Check(data, r) {
		return nil, true
	}
	return entry, true
}

var noData = []byte("{}")

// Check reports whether data is what the schema says; the violations are in r.
func (e *Entry) Check(data []byte, r *Report) bool {
	r.Violations = r.Violations[:0]
	if e.library != nil {
		return r.library.check(e.library, data, r)
	}
	c := &r.checker
	c.b, c.report, c.quiet, c.budget = data, r, 0, budgetOf(len(data))
	c.path, c.bits, c.hashes = c.path[:0], c.bits[:0], c.hashes[:0]
	_, ok := c.check(e.node, space(data, 0))
	if c.budget < 0 {
		// Nothing is known: what was found below a "not", say, means nothing.
		r.Violations = append(r.Violations[:0], Violation{
			Pointer: dataPointer, Group: dataPointer, Rule: "complexity",
			Expected: "an event that its schema can be compared with in reasonable time", Got: "one that needs too many comparisons",
		})
		ok = false
	}
	c.b, c.report = nil, nil
	clear(c.path)
	return ok
}

// versionOf returns the version that the context of an event says, and where it
// says so: as a pointer, which is empty if it says none, and as a place in the
// context. A version that is neither a string nor a number is said, and empty.
func versionOf(context []byte) (version, pointer string, i int) {
	if len(context) == 0 {
		return "", "", 0
	}
	c := checker{b: context}
	own, protocols := -1, -1
	for name, value := range c.members(space(context, 0)) {
		switch string(name) {
		case "schema_version":
			own = value
		case "protocols":
			protocols = value
		}
	}
	if isSaid(context, own) {
		return versionAt(context, own), "/context/schema_version", own
	}
	if protocols < 0 || kindAt(context, protocols) != object {
		return "", "", 0
	}
	own = -1
	for name, value := range c.members(protocols) {
		if string(name) == "event_version" {
			own = value
		}
	}
	if isSaid(context, own) {
		return versionAt(context, own), "/context/protocols/event_version", own
	}
	return "", "", 0
}

// isSaid reports whether something stands at i: neither null nor an empty string.
func isSaid(b []byte, i int) bool {
	return i >= 0 && kindAt(b, i) != null && !(at(b, i) == '"' && at(b, i+1) == '"')
}

func versionAt(b []byte, i int) string {
	switch kindAt(b, i) {
	case text:
		value, _ := meaning(b, i)
		return view(value)
	case number:
		return view(b[i:numberEnd(b, i)])
	}
	return ""
}
