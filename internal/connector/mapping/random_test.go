package mapping_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// generator makes events and settings that have names in common.
type generator struct{ *rand.Rand }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

func (g generator) name() string {
	return pick(g, "a", "b", "c", "email", "traits", "title", "name", "ip", "userAgent", "0", "1", "01", "", "a/b", "m~n", "größe", "A", "time", "$os", "x y", `"`, "\\", "\n")
}

// quoted writes a text as JSON, at times with escapes that are not needed.
func (g generator) quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		if r > 0xffff || g.IntN(6) > 0 && r != '"' && r != '\\' && r >= ' ' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String() + `"`
}

func (g generator) space() string { return pick(g, "", "", "", " ", "\n\t", "\r") }

func (g generator) value(depth int) string {
	switch n := g.IntN(10); {
	case n < 2 && depth > 0:
		return g.object(depth - 1)
	case n < 4 && depth > 0:
		elements := make([]string, g.IntN(4))
		for i := range elements {
			elements[i] = g.space() + g.value(depth-1) + g.space()
		}
		return "[" + strings.Join(elements, ",") + "]"
	case n < 5:
		return pick(g, "null", "true", "false")
	case n < 7:
		return pick(g, "0", "-1.50", "1E5", "9007199254740993", "12")
	}
	return g.quoted(pick(g, "", "a", "]}", `{"`, `\"`, "Ada@Example.com ", "203.0.113.7", "日本", "\U0001F600", strings.Repeat("long ", 100)))
}

func (g generator) object(depth int) string {
	var members []string
	seen := map[string]bool{}
	for range g.IntN(7) {
		if name := g.name(); !seen[name] {
			seen[name] = true
			members = append(members, g.space()+g.quoted(name)+g.space()+":"+g.space()+g.value(depth)+g.space())
		}
	}
	return "{" + strings.Join(members, ",") + g.space() + "}"
}

func (g generator) event() string {
	members := []string{`"name":` + g.quoted(pick(g, "a", "b", "order_x", "page", "identify"))}
	for _, field := range []string{"user_id", "anonymous_id", "ip", "source"} {
		if g.IntN(2) == 0 {
			members = append(members, `"`+field+`":`+g.quoted(pick(g, "", "u", "2001:db8::1", "é\"")))
		}
	}
	if g.IntN(2) == 0 {
		members = append(members, `"timestamp":`+pick(g, `"2026-11-23T10:00:00Z"`, `"0001-01-01T00:00:00Z"`, `"9999-12-31T23:59:59-01:00"`))
	}
	if g.IntN(2) == 0 {
		members = append(members, `"type":`+pick(g, `"identify"`, `"page"`, `"screen"`, `"group"`, `"alias"`))
	}
	if g.IntN(8) > 0 {
		members = append(members, `"data":`+g.object(3))
	}
	if g.IntN(4) > 0 {
		members = append(members, `"context":`+g.object(3))
	}
	if g.IntN(6) == 0 {
		members = append(members, `"unknown":`+g.value(2))
	}
	g.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return "{" + strings.Join(members, ",") + "}"
}

var escape = strings.NewReplacer("~", "~0", "/", "~1")

func (g generator) pointer() string {
	if g.IntN(5) == 0 {
		return "/" + pick(g, "user_id", "name", "source", "ip", "data", "context", "id")
	}
	p := "/" + pick(g, "data", "context")
	for range 1 + g.IntN(3) {
		p += "/" + escape.Replace(g.name())
	}
	return p
}

func (g generator) pointers() []string {
	list := make([]string, 1+g.IntN(3))
	for i := range list {
		list[i] = g.pointer()
	}
	return list
}

func (g generator) overrides() map[string]*string {
	set := map[string]*string{}
	for range g.IntN(4) {
		name, source := g.name(), g.pointer()
		if set[name] = &source; g.IntN(4) == 0 {
			set[name] = nil
		}
	}
	delete(set, "")
	return set
}

func (g generator) settings() mapping.Settings {
	s := mapping.Settings{Properties: g.overrides(), Traits: g.overrides(), OnlyMapped: g.IntN(4) == 0}
	if g.IntN(2) == 0 {
		s.UserID, s.Email = g.pointers(), g.pointers()
	}
	if g.IntN(3) == 0 {
		s.Privacy.IP = pick(g, "drop", "truncate", "keep")
		s.Privacy.Drop, s.Privacy.Hash = []string{"/data/" + escape.Replace(g.name())}, []string{"/context/traits/email", "/data/a/b"}
	}
	return s
}

func reserved(name string) bool { return strings.HasPrefix(name, "$") || name == "time" }

func (g generator) defaults() mapping.Defaults {
	d := mapping.Defaults{Page: "Viewed %s", Screen: "%s"}
	if g.IntN(2) == 0 {
		d.Reserved = reserved
	}
	seen := map[string]bool{}
	for range g.IntN(6) {
		if name := g.name(); !seen[name] {
			seen[name] = true
			d.Fields = append(d.Fields, mapping.Field{Name: name, Sources: g.pointers()})
		}
	}
	for range g.IntN(20) {
		d.Extra = append(d.Extra, mapping.Field{Name: "x", Sources: []string{g.pointer()}})
	}
	return d
}

// model says what properties and traits a Record has, in the plainest way: each
// pointer is followed on its own, by the code of the router.
func model(m *mapping.Mapper, r *mapping.Record, s mapping.Settings, d mapping.Defaults) (properties, traits string) {
	members := func(object []byte, set map[string]*string) (out []mapping.Property) {
		if s.OnlyMapped || !mapping.IsObject(object) {
			return nil
		}
		_ = event.Members(object, func(name string, value []byte) bool {
			if _, overridden := set[name]; !overridden && value[0] != 'n' && (d.Reserved == nil || !d.Reserved(name)) {
				out = append(out, mapping.Property{Name: name, Value: value})
			}
			return true
		})
		return out
	}
	override := func(list []mapping.Property, set map[string]*string) []mapping.Property {
		var names []string
		for name := range set {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			if set[name] == nil {
				continue
			}
			if value, ok := m.Lookup(r, *set[name]); ok {
				list = append(list, mapping.Property{Name: name, Value: value})
			}
		}
		return list
	}
	var p, u []mapping.Property
	switch r.Event.Type {
	case event.TypeIdentify, event.TypeGroup, event.TypeAlias:
		u = members(r.Event.Data, s.Traits)
	default:
		p = members(r.Event.Data, s.Properties)
		contextTraits, _ := m.Lookup(r, "/context/traits")
		u = members(contextTraits, s.Traits)
	}
	for _, f := range d.Fields {
		_, overridden := s.Properties[f.Name]
		if overridden || slices.ContainsFunc(p, func(p mapping.Property) bool { return p.Name == f.Name }) {
			continue
		}
		for _, source := range f.Sources {
			if value, ok := m.Lookup(r, source); ok && !(s.OnlyMapped && (source == "/data" || strings.HasPrefix(source, "/data/"))) {
				p = append(p, mapping.Property{Name: f.Name, Value: value})
				break
			}
		}
	}
	return object(override(p, s.Properties)), object(override(u, s.Traits))
}

// sound checks what holds for every Record.
func sound(t *testing.T, r *mapping.Record, found bool) {
	t.Helper()
	stored := r.Event.Append(nil)
	for _, list := range [][]mapping.Property{r.Properties, r.Traits} {
		seen := map[string]bool{}
		for _, p := range list {
			switch {
			case seen[p.Name]:
				t.Fatalf("%q is there twice", p.Name)
			case !json.Valid(p.Value) || len(bytes.TrimSpace(p.Value)) != len(p.Value) || p.Value[0] == 'n':
				t.Fatalf("%q is %q", p.Name, p.Value)
			case found && !bytes.Contains(stored, p.Value):
				t.Fatalf("%q is %s, which is not in the event", p.Name, p.Value)
			}
			seen[p.Name] = true
		}
	}
	if r.Email != "" && (strings.Count(r.Email, "@") != 1 || strings.ToLower(strings.TrimSpace(r.Email)) != r.Email) {
		t.Fatalf("email %q", r.Email)
	}
	if year := r.Time.Year(); !r.Time.IsZero() && (year < 2 || year > 9999) {
		t.Fatal(r.Time)
	}
}

func TestRandomEventsAreMappedAsThePlainModelSays(t *testing.T) {
	t.Parallel()
	var r mapping.Record // the same for all: nothing of one event is left for another
	for seed := range uint64(300) {
		g := generator{rand.New(rand.NewPCG(seed, 5))}
		s, d := g.settings(), g.defaults()
		m, err := mapping.New(s, d)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for range 4 {
			raw := g.event()
			e := parsed(t, raw)
			if res := m.Map(e, &r); res != nil {
				t.Fatalf("seed %d: %+v for %s", seed, res, raw)
			}
			sound(t, &r, true)
			wantProperties, wantTraits := model(m, &r, s, d)
			if got := object(r.Properties); got != wantProperties {
				t.Fatalf("seed %d: %s\nproperties %s\n      want %s", seed, raw, got, wantProperties)
			}
			if got := object(r.Traits); got != wantTraits {
				t.Fatalf("seed %d: %s\ntraits %s\n  want %s", seed, raw, got, wantTraits)
			}
			for i, x := range d.Extra {
				if want, _ := m.Lookup(&r, x.Sources[0]); string(r.Extra[i].Value) != string(want) {
					t.Fatalf("seed %d: %s\n%s is %s, want %s", seed, raw, x.Sources[0], r.Extra[i].Value, want)
				}
			}
			if s.Privacy.IP == "drop" && (r.IP != "" || r.Event.IP != "") {
				t.Fatalf("seed %d: %s\nhas the address %s", seed, raw, r.IP)
			}
		}
	}
}

// writesMap reports whether an expression of the settings may write a map.
func writesMap(s mapping.Settings) bool {
	sources := slices.Concat(s.UserID, s.AnonymousID, s.Email)
	for _, set := range []map[string]*string{s.Properties, s.Traits} {
		for _, source := range set {
			if source != nil {
				sources = append(sources, *source)
			}
		}
	}
	return slices.ContainsFunc(sources, func(source string) bool { return strings.HasPrefix(source, "=") && strings.Contains(source, "{") })
}

func FuzzMap(f *testing.F) {
	for _, setting := range []string{
		`{}`, `{"events":{"a":"A","order_*":null},"unmapped":"dead"}`,
		`{"properties":{"a":"/data/b/0/c","b":"/context/traits/email","c":null,"d":"= event.data.n * 2.0"},"traits":{"a":"= event.data"},"user_id":["/data/id"]}`,
		`{"only_mapped":true,"properties":{"a":"= event.data.b.map(x, [x, x])","b":"= {'k': bytes(event.name), 'd': duration('90s')}"}}`,
		`{"privacy":{"drop":["/data/a"],"hash":["/data/b/0","/user_id"],"salt":"s","ip":"truncate"},"email":["/data/e"]}`,
	} {
		for _, raw := range []string{
			`{"name":"a"}`, `{"name":"order_x","type":"page","data":{"title":"T"}}`,
			`{"name":"a","user_id":"u","ip":"::ffff:1.2.3.4","data":{"b":[{"c":1}],"n":1.5,"id":7,"e":"A@B"},"context":{"ip":"1.2.3.4","traits":{"email":"x@y","\u0061":null}},"more":{}}`,
		} {
			f.Add([]byte(setting), []byte(raw))
		}
	}
	d := mapping.Defaults{
		Page: "Viewed %s", Reserved: reserved, Fields: []mapping.Field{{Name: "a", Sources: []string{"/context/a"}}, {Name: "$b", Sources: []string{"/data/b", "= event.name"}}},
		Extra: []mapping.Field{{Name: "x", Sources: []string{"/data/a/0/b"}}, {Name: "y", Sources: []string{"/context/traits"}}},
	}
	f.Fuzz(func(t *testing.T, setting, raw []byte) {
		var s mapping.Settings
		if json.Unmarshal(setting, &s) != nil {
			return
		}
		m, err := mapping.New(s, d)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "mapping") && !strings.HasPrefix(line, " ") {
					t.Fatalf("a fault without a place: %q", line)
				}
			}
			return
		}
		e, err := event.ParseStored(raw)
		if err != nil {
			// What nobody checked does no harm either.
			var r mapping.Record
			m.Map(&event.Event{Name: "a", Data: raw, Context: raw}, &r)
			return
		}
		before := string(e.Append(nil))
		var r mapping.Record
		res := m.Map(&e, &r)
		if string(e.Append(nil)) != before {
			t.Fatal("the event was changed")
		}
		if res != nil {
			if res.Class != connector.Permanent && res.Class != connector.Dropped || res.Code == "" || res.Message == "" || len(res.Message) > 1024 {
				t.Fatalf("%+v", res)
			}
			return
		}
		sound(t, &r, false)
		first := shown(&r)
		for i, x := range d.Extra {
			if want, _ := m.Lookup(&r, x.Sources[0]); string(r.Extra[i].Value) != string(want) {
				t.Fatalf("%s is %s, want %s", x.Sources[0], r.Extra[i].Value, want)
			}
		}
		if writesMap(s) {
			return // CEL goes through the maps that an expression writes in any order
		}
		if m.Map(&e, &r) != nil || shown(&r) != first {
			t.Fatalf("the second time it is\n%s, the first time it was\n%s", shown(&r), first)
		}
	})
}
