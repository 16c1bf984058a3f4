package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/eventsluice/sluice/internal/event"
)

const (
	// DefaultSeen is how many events have to have a member before it is proposed
	// as required.
	DefaultSeen = 20

	// An enum is proposed for strings of few different values, each of them
	// short and seen several times, among many.
	mostEnum       = 10
	mostEnumBytes  = 64
	leastEnumCount = 50
	leastEnumEach  = 3
	// leastFormat is how many texts have to be of a format.
	leastFormat = 5

	// An object with more names than this is a table whose names are data.
	mostMembers = 100
	// Below mostLevels, and beyond mostShapes and mostInferred, nothing is
	// proposed: 50 MB of memory at most.
	mostLevels   = 32
	mostShapes   = 50_000
	mostInferred = 1000
)

// Inference proposes schemas for the events that it has seen. The document that
// it makes is in mode observe, and every event that it was made from passes.
// It is not safe for concurrent use.
type Inference struct {
	// Seen is as DefaultSeen, which 0 stands for.
	Seen int
	// Skipped counts events that no schema can be for: those that say a version
	// that is neither a string nor a number, or is longer than 64 bytes, and those
	// of more than 1000 different names and versions.
	Skipped int

	entries map[[2]string]*inferred
	order   []*inferred
	shapes  int
}

// inferred is what is known of a name and version.
type inferred struct {
	name, version string
	root          *shape
}

// shape is what is known of the values at one place.
type shape struct {
	count int
	types jsonType
	// whole says that all numbers are integers, negative that one is below zero.
	whole, negative bool
	// texts are the different strings and how often each came; nil if they are
	// too many, or too long. formats are those that all of them have.
	texts   map[string]int
	strings int
	formats []string
	// members are those of objects, and objects how many there were. free
	// describes the values of all members if these are too many.
	members map[string]*shape
	names   []string // in the order in which they came
	objects int
	free    *shape
	items   *shape
}

// proposedFormats are those that a text is tried for, the stricter first.
var proposedFormats = []string{"date-time", "date", "uuid", "email", "uri", "ipv4", "ipv6"}

// hasFormat reports whether a text is clearly of a format.
func hasFormat(name string, value []byte) bool {
	if name == "uri" && !bytes.HasPrefix(value, []byte("http://")) && !bytes.HasPrefix(value, []byte("https://")) {
		return false // "a:b" is one as well
	}
	return formats()[name].is(value)
}

func (in *Inference) newShape() *shape {
	in.shapes++
	return &shape{whole: true, texts: map[string]int{}, formats: proposedFormats}
}

// Add looks at an event.
func (in *Inference) Add(ev *event.Event) {
	version, pointer, _ := versionOf(ev.Context)
	if pointer != "" && (version == "" || len(version) > mostVersion) {
		in.Skipped++
		return
	}
	key := [2]string{ev.Name, version}
	e := in.entries[key]
	if e == nil {
		if len(in.entries) == mostInferred || len(ev.Name) > mostName {
			in.Skipped++
			return
		}
		if in.entries == nil {
			in.entries = map[[2]string]*inferred{}
		}
		e = &inferred{name: strings.Clone(ev.Name), version: strings.Clone(version), root: in.newShape()}
		in.entries[[2]string{e.name, e.version}] = e
		in.order = append(in.order, e)
	}
	data := []byte(ev.Data)
	if len(data) == 0 {
		data = noData
	}
	c := checker{b: data}
	in.see(e.root, &c, space(data, 0), 0)
}

// see adds the value at i to what is known.
func (in *Inference) see(s *shape, c *checker, i, level int) {
	s.count++
	k := kindAt(c.b, i)
	s.types |= k
	switch k {
	case number:
		d := c.decimal(c.b[i:numberEnd(c.b, i)])
		s.whole = s.whole && d.isInteger()
		s.negative = s.negative || d.neg
	case text:
		value, _ := meaning(c.b, i)
		s.seeText(value)
	case array:
		if s.items == nil && level < mostLevels && in.shapes < mostShapes {
			s.items = in.newShape()
		}
		if s.items != nil {
			for item := range c.elements(i) {
				in.see(s.items, c, item, level+1)
			}
		}
	case object:
		s.objects++
		for name, value := range c.members(i) {
			if m := in.memberOf(s, name, level); m != nil {
				in.see(m, c, value, level+1)
			}
		}
	}
}

func (s *shape) seeText(value []byte) {
	s.strings++
	if s.texts != nil {
		if _, known := s.texts[string(value)]; !known && (len(s.texts) == mostEnum || len(value) > mostEnumBytes) {
			s.texts = nil
		} else {
			s.texts[string(value)]++
		}
	}
	for i := 0; i < len(s.formats); i++ {
		if !hasFormat(s.formats[i], value) {
			s.formats = slices.Concat(s.formats[:i], s.formats[i+1:]) // others share the memory
			i--
		}
	}
}

// memberOf returns what is known of a member; nil if nothing is to be.
func (in *Inference) memberOf(s *shape, name []byte, level int) *shape {
	if s.free != nil {
		return s.free
	}
	if m := s.members[string(name)]; m != nil {
		return m
	}
	if level >= mostLevels || in.shapes >= mostShapes {
		return nil
	}
	if len(s.members) == mostMembers {
		s.free = in.newShape()
		for _, m := range s.members {
			in.merge(s.free, m)
		}
		s.members, s.names = nil, nil
		return s.free
	}
	if s.members == nil {
		s.members = map[string]*shape{}
	}
	m := in.newShape()
	s.members[string(name)] = m
	s.names = append(s.names, string(name))
	return m
}

// merge adds what is known of one place to another.
func (in *Inference) merge(s, other *shape) {
	s.count += other.count
	s.types |= other.types
	s.whole, s.negative = s.whole && other.whole, s.negative || other.negative
	s.strings += other.strings
	s.texts = mergeTexts(s.texts, other.texts)
	s.formats = slices.DeleteFunc(slices.Clone(s.formats), func(f string) bool { return !slices.Contains(other.formats, f) })
	s.objects += other.objects
	if other.items != nil {
		if s.items == nil {
			s.items = in.newShape()
		}
		in.merge(s.items, other.items)
	}
	if other.free != nil && s.free == nil {
		s.free = in.newShape()
		for _, m := range s.members {
			in.merge(s.free, m)
		}
		s.members, s.names = nil, nil
	}
	if other.free != nil {
		in.merge(s.free, other.free)
	}
	for _, name := range other.names {
		switch m := s.members[name]; {
		case s.free != nil:
			in.merge(s.free, other.members[name])
		case m != nil:
			in.merge(m, other.members[name])
		default:
			if s.members == nil {
				s.members = map[string]*shape{}
			}
			s.members[name] = other.members[name]
			s.names = append(s.names, name)
		}
	}
}

func mergeTexts(a, b map[string]int) map[string]int {
	if a == nil || b == nil {
		return nil
	}
	for value, n := range b {
		a[value] += n
	}
	if len(a) > mostEnum {
		return nil
	}
	return a
}

// proposal is a schema on its way to JSON.
type proposal struct {
	Type                 any        `json:"type,omitempty"`
	Format               string     `json:"format,omitempty"`
	Enum                 []any      `json:"enum,omitempty"`
	Minimum              *int       `json:"minimum,omitempty"`
	Required             []string   `json:"required,omitempty"`
	Properties           properties `json:"properties,omitempty"`
	AdditionalProperties *proposal  `json:"additionalProperties,omitempty"`
	Items                *proposal  `json:"items,omitempty"`
}

// properties are members in their order.
type properties []property

type property struct {
	name   string
	schema *proposal
}

// MarshalJSON implements json.Marshaler.
func (p properties) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, m := range p {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(event.AppendString(out, m.name), ':')
		text, err := json.Marshal(m.schema)
		if err != nil {
			return nil, err
		}
		out = append(out, text...)
	}
	return append(out, '}'), nil
}

// proposedEntry is an entry on its way to JSON.
type proposedEntry struct {
	Name        string    `json:"name"`
	Version     string    `json:"version,omitempty"`
	Mode        string    `json:"mode"`
	Description string    `json:"description"`
	Schema      *proposal `json:"schema"`
}

// Document returns the proposal: a document with a schema for every name and
// version, by name, and of one name in the order in which they came.
func (in *Inference) Document() ([]byte, error) {
	seen := in.Seen
	if seen <= 0 {
		seen = DefaultSeen
	}
	sorted := slices.Clone(in.order)
	slices.SortStableFunc(sorted, func(a, b *inferred) int { return strings.Compare(a.name, b.name) })
	entries := []proposedEntry{}
	for _, e := range sorted {
		entries = append(entries, proposedEntry{
			Name: e.name, Version: e.version, Mode: Observe.String(),
			Description: fmt.Sprintf("inferred from %d events", e.root.count), Schema: e.root.propose("", seen),
		})
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(struct {
		Schemas []proposedEntry `json:"schemas"`
	}{entries}); err != nil {
		return nil, err
	}
	if _, err := Parse(out.Bytes()); err != nil {
		return nil, fmt.Errorf("the proposal is no document of schemas: %w", err)
	}
	return out.Bytes(), nil
}

// propose writes what is known of the values of a member of this name.
func (s *shape) propose(name string, seen int) *proposal {
	p := &proposal{}
	var types []string
	for _, t := range []jsonType{object, array, text, number, boolean, null} {
		if s.types&t == 0 {
			continue
		}
		if t == number && s.whole && !says(money, name) {
			t = integer
		}
		types = append(types, t.String())
	}
	switch len(types) {
	case 0:
	case 1:
		p.Type = types[0]
	default:
		p.Type = types
	}
	if s.types&text != 0 {
		if len(s.formats) > 0 && s.strings >= leastFormat {
			p.Format = s.formats[0]
		} else if s.types&^(text|null) == 0 {
			p.Enum = s.enum()
		}
	}
	if s.types&number != 0 && !s.negative && s.count >= seen && (says(money, name) || says(amounts, name)) {
		p.Minimum = new(int)
	}
	if s.items != nil {
		p.Items = s.items.propose(name, seen)
	}
	if s.free != nil {
		p.AdditionalProperties = s.free.propose("", seen)
	}
	for _, member := range s.names {
		m := s.members[member]
		p.Properties = append(p.Properties, property{name: member, schema: m.propose(member, seen)})
		if m.count == s.objects && s.objects >= seen {
			p.Required = append(p.Required, member)
		}
	}
	return p
}

// enum returns the values of texts that are few among many; nil otherwise.
func (s *shape) enum() (values []any) {
	if len(s.texts) == 0 || s.strings < leastEnumCount {
		return nil
	}
	for value, n := range s.texts {
		if n < leastEnumEach {
			return nil
		}
		values = append(values, value)
	}
	slices.SortFunc(values, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	if s.types&null != 0 {
		values = append(values, nil)
	}
	return values
}

// Names of which people know that they are never below zero; those of money have
// fractions even if none was seen.
var (
	money   = []string{"price", "total", "subtotal", "amount", "revenue", "tax", "shipping", "discount", "cost", "fee"}
	amounts = []string{"quantity", "qty", "count", "items", "size", "length", "width", "height", "duration", "age"}
)

// says reports whether one of the words of a name, such as unit_price or
// unitPrice, is among some.
func says(words []string, name string) bool {
	word := []rune{}
	for _, r := range name + "_" {
		if r == '_' || r == '-' || r == ' ' || r == '.' || unicode.IsUpper(r) {
			if slices.Contains(words, string(word)) {
				return true
			}
			word = word[:0]
		}
		if unicode.IsLetter(r) {
			word = append(word, unicode.ToLower(r))
		}
	}
	return false
}
