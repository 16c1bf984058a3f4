package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/eventsluice/sluice/internal/event"
)

// generator makes schemas, and values that have something to do with them.
type generator struct {
	*rand.Rand
	defs int // how many there are under $defs
}

func newGenerator(seed uint64) *generator { return &generator{Rand: rand.New(rand.NewPCG(seed, 1))} }

func pick[T any](g *generator, all ...T) T { return all[g.IntN(len(all))] }

var (
	genNames   = []string{"a", "b", "c", "price", "über", "x/y", "m~n", "", `q"t`}
	genNumbers = []string{"0", "1", "-1", "2", "3", "1.0", "1.5", "0.1", "-0", "1e2", "100", "1E-2", "0.01", "123456789012345678901234567890",
		"9007199254740993", "9007199254740992", "1e308", "5e-324", "1e-500", "-2.50", "18446744073709551616", "0.30000000000000004", "1e400"}
	genTexts = []string{"", "a", "ab", "abc", "ABC", "12", "über", "a\nb", "😀", "2026-11-23", "2026-11-23T10:00:00Z", "2026-02-29T23:59:60+01:00", "ann@shop.example",
		"@x", "a..b@c", "https://shop.example/a?b=c#d", "http://[::1]/", "not a uri", "01980000-0000-7000-8000-000000000001", "01980000-0000-7000-8000-00000000000g",
		"127.0.0.1", "127.0.0.01", "::1", "P1D", "shop.example", "-bad-", "1.2.3", "10:00:00Z", "/a/b~0", "2026-02-30", "2026-04-31", "x@y.z", "http://a.b/c d", "http:///x"}
	genPatterns = []string{"^a", "b$", "^[A-Z]{2,3}$", "^\\d+$", ".", "^$", "a|b", "ü", "^x/"}
)

// schema writes a schema of at most depth levels.
func (g *generator) schema(depth int) any {
	if g.IntN(12) == 0 {
		return pick[any](g, true, false, map[string]any{})
	}
	s := map[string]any{}
	for range 1 + g.IntN(3) {
		g.keyword(s, depth)
	}
	return s
}

func (g *generator) keyword(s map[string]any, depth int) {
	deep := depth > 0
	switch n := g.IntN(34); {
	case n < 4:
		types := []string{"null", "boolean", "number", "integer", "string", "array", "object"}
		if g.IntN(3) > 0 {
			s["type"] = pick(g, types...)
			return
		}
		g.Shuffle(len(types), func(i, j int) { types[i], types[j] = types[j], types[i] })
		var some []any
		for _, t := range types[:1+g.IntN(3)] {
			some = append(some, t)
		}
		s["type"] = some
	case n < 6:
		var values []any
		for range 1 + g.IntN(4) {
			values = append(values, g.value(1))
		}
		s["enum"] = values
	case n == 6:
		s["const"] = g.value(2)
	case n == 7:
		s[pick(g, "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")] = json.Number(pick(g, genNumbers[:22]...))
	case n == 8:
		s["multipleOf"] = json.Number(pick(g, "1", "2", "0.1", "0.01", "1.5", "3", "1e2", "0.5e-1", "7"))
	case n == 9:
		s[pick(g, "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")] = json.Number(pick(g, "0", "1", "2", "3.0"))
	case n == 10:
		s["pattern"] = pick(g, genPatterns...)
	case n == 11:
		s["format"] = pick(g, formatNames...)
	case n == 12:
		s["uniqueItems"] = g.IntN(4) > 0
	case n == 13:
		var names []any
		for _, name := range genNames[:1+g.IntN(4)] {
			names = append(names, name)
		}
		s["required"] = names
	case n == 14:
		s["dependentRequired"] = map[string]any{pick(g, genNames...): []any{pick(g, genNames...)}}
	case !deep:
	case n < 19:
		properties := map[string]any{}
		for range 1 + g.IntN(4) {
			properties[pick(g, genNames...)] = g.schema(depth - 1)
		}
		s["properties"] = properties
	case n == 19:
		s["additionalProperties"] = g.schema(depth - 1)
	case n == 20:
		s["patternProperties"] = map[string]any{pick(g, genPatterns...): g.schema(depth - 1), pick(g, genPatterns...): g.schema(depth - 1)}
	case n == 21:
		s["propertyNames"] = g.schema(0)
	case n == 22:
		s["dependentSchemas"] = map[string]any{pick(g, genNames...): g.schema(depth - 1)}
	case n < 25:
		s["items"] = g.schema(depth - 1)
	case n == 25:
		s["prefixItems"] = []any{g.schema(depth - 1), g.schema(depth - 1)}
	case n == 26:
		s["contains"] = g.schema(depth - 1)
		if g.IntN(2) == 0 {
			s[pick(g, "minContains", "maxContains")] = json.Number(pick(g, "0", "1", "2"))
		}
	case n < 30:
		s[pick(g, "allOf", "anyOf", "oneOf")] = []any{g.schema(depth - 1), g.schema(depth - 1)}
	case n == 30:
		s["not"] = g.schema(depth - 1)
	case n == 31:
		s["if"], s["then"] = g.schema(depth-1), g.schema(depth-1)
		if g.IntN(2) == 0 {
			s["else"] = g.schema(depth - 1)
		}
	default:
		if g.defs > 0 {
			s["$ref"] = fmt.Sprintf("#/$defs/d%d", g.IntN(g.defs))
		}
	}
}

// root writes a schema with parts that it refers to.
func (g *generator) root() any {
	g.defs = g.IntN(3)
	s, ok := g.schema(3).(map[string]any)
	if !ok {
		return s
	}
	defs := map[string]any{}
	for i := range g.defs {
		defs[fmt.Sprintf("d%d", i)] = g.schema(2)
	}
	if g.defs > 0 {
		s["$defs"] = defs
	}
	return s
}

// value writes a value of at most depth levels.
func (g *generator) value(depth int) any {
	n := g.IntN(10)
	if depth == 0 {
		n = g.IntN(6)
	}
	switch {
	case n == 0:
		return nil
	case n == 1:
		return g.IntN(2) == 0
	case n < 4:
		return json.Number(pick(g, genNumbers[:22]...))
	case n < 6:
		return pick(g, genTexts...)
	case n < 8:
		list := []any{}
		for range g.IntN(4) {
			list = append(list, g.value(depth-1))
		}
		return list
	}
	obj := map[string]any{}
	for range g.IntN(5) {
		obj[pick(g, genNames...)] = g.value(depth - 1)
	}
	return obj
}

// like writes a value that a schema may be right about.
func (g *generator) like(schema any, depth int) any {
	s, ok := schema.(map[string]any)
	if !ok || depth == 0 || g.IntN(8) == 0 {
		return g.value(depth)
	}
	if v, ok := s["const"]; ok {
		return v
	}
	if v, ok := s["enum"].([]any); ok {
		return v[g.IntN(len(v))]
	}
	for _, keyword := range []string{"allOf", "anyOf", "oneOf"} {
		if list, ok := s[keyword].([]any); ok && g.IntN(2) == 0 {
			return g.like(list[g.IntN(len(list))], depth)
		}
	}
	properties, isObject := s["properties"].(map[string]any)
	items, isArray := s["items"]
	switch {
	case isObject || s["type"] == "object" || s["required"] != nil:
		obj := map[string]any{}
		for name, p := range properties {
			if g.IntN(5) > 0 {
				obj[name] = g.like(p, depth-1)
			}
		}
		if required, ok := s["required"].([]any); ok && g.IntN(4) > 0 {
			for _, name := range required {
				if _, ok := obj[name.(string)]; !ok {
					obj[name.(string)] = g.value(depth - 1)
				}
			}
		}
		if g.IntN(3) == 0 {
			obj[pick(g, genNames...)] = g.value(depth - 1)
		}
		return obj
	case isArray || s["type"] == "array":
		list := []any{}
		for range g.IntN(5) {
			list = append(list, g.like(items, depth-1))
		}
		return list
	case s["type"] == "string" || s["format"] != nil || s["pattern"] != nil:
		return pick(g, genTexts...)
	case s["type"] == "integer" || s["type"] == "number" || s["multipleOf"] != nil:
		return json.Number(pick(g, genNumbers[:22]...))
	}
	return g.value(depth)
}

// write is JSON of a value, spelled in one of several ways.
func (g *generator) write(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	switch g.IntN(4) {
	case 0:
		var b bytes.Buffer
		if err := json.Indent(&b, text, "", "\t"); err != nil {
			panic(err)
		}
		return b.Bytes()
	case 1:
		return []byte(strings.ReplaceAll(string(text), `"a"`, `"\u0061"`))
	}
	return text
}

// twoWays is a schema that can be checked both ways.
type twoWays struct {
	schema  []byte
	entry   *Entry
	library *jsonschema.Schema
}

// bothWays compiles a schema; ok is false if it is refused.
func bothWays(t testing.TB, schema []byte) (w twoWays, ok bool) {
	e, err := asEntry(schema)
	if err != nil {
		return w, false
	}
	decoded, err := decode(schema)
	if err != nil {
		t.Fatalf("%s was read before: %v", schema, err)
	}
	lib, err := compileLibrary(plainNumbers(decoded))
	if err != nil {
		t.Fatalf("accepted, and the library refuses %s: %v", schema, err)
	}
	return twoWays{schema: schema, entry: e, library: lib}, true
}

// compare checks a value both ways and returns whether it is right.
func (w twoWays) compare(t testing.TB, data []byte) bool {
	value, err := decode(data)
	if err != nil {
		t.Fatalf("no value: %s: %v", data, err)
	}
	var r Report
	got := w.entry.Check(data, &r)
	if got == (len(r.Violations) > 0) || len(r.Violations) > MostViolations {
		t.Fatalf("right is %v with %d violations\nschema %s\ndata   %s", got, len(r.Violations), w.schema, data)
	}
	if len(r.Violations) > 0 && r.Violations[0].Rule == "complexity" {
		return false
	}
	if want := w.library.Validate(plainNumbers(value)); got != (want == nil) {
		t.Fatalf("right is %v, the library says %v\nschema %s\ndata   %s\nviolations %v", got, want, w.schema, data, r.Violations)
	}
	for _, v := range r.Violations {
		if len(v.Got) > mostGot || len(v.Pointer) > mostPointer || !strings.HasPrefix(v.Pointer, dataPointer) || v.Rule == "" || v.Expected == "" {
			t.Fatalf("violation %+v\nschema %s\ndata   %s", v, w.schema, data)
		}
	}
	return got
}

// compareGenerated compares what a seed makes, and returns how many values were
// right and wrong.
func compareGenerated(t testing.TB, seed uint64, values int) (right, wrong int) {
	g := newGenerator(seed)
	root := g.root()
	w, ok := bothWays(t, g.write(root))
	if !ok {
		return 0, 0
	}
	for range values {
		data := g.write(g.like(root, 3))
		if event.Check(data, event.Limits{}) != nil {
			continue // beyond what an event may hold
		}
		if w.compare(t, data) {
			right++
		} else {
			wrong++
		}
	}
	return right, wrong
}

func TestGeneratedSchemasAreCheckedAsByTheLibrary(t *testing.T) {
	t.Parallel()
	right, wrong := 0, 0
	for seed := range uint64(100) {
		r, w := compareGenerated(t, seed, 50)
		right, wrong = right+r, wrong+w
	}
	if right < 700 || wrong < 700 {
		t.Errorf("the generator is one-sided: %d values right, %d wrong", right, wrong)
	}
}

func FuzzGeneratedAgainstTheLibrary(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { compareGenerated(t, seed, 50) })
}

// FuzzCheckAgainstTheLibrary changes schemas and values byte by byte.
func FuzzCheckAgainstTheLibrary(f *testing.F) {
	for _, groups := range readSuite(f, "*.json") {
		for _, g := range groups { // one case of each: a schema takes milliseconds to compile
			f.Add([]byte(g.Schema), []byte(g.Tests[len(g.Tests)-1].Data))
		}
	}
	f.Fuzz(func(t *testing.T, schema, data []byte) {
		if len(schema) > 4000 || len(data) > 1000 || event.Check(data, event.Limits{MaxDepth: 10}) != nil {
			return
		}
		if w, ok := bothWays(t, schema); ok {
			w.compare(t, slices.Clip(data))
		}
	})
}

// FuzzParse reads documents, and checks an event with what it accepts.
func FuzzParse(f *testing.F) {
	f.Add([]byte(Empty))
	f.Add([]byte(`{"schemas":[{"name":"e","version":"2","mode":"observe","schema":` + orderSchema + `}]}`))
	f.Add([]byte(`{"schemas":[{"name":"","version":{},"mode":"x","schema":{"$ref":"http://x","pattern":"(","format":"phone"}},1]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		set, faults, _ := Check(doc)
		if (set == nil) == (len(faults) == 0) {
			t.Fatalf("a set: %v; faults: %v", set != nil, faults)
		}
		if set == nil {
			if faults.Error() == "" {
				t.Fatal("no word about what is wrong")
			}
			return
		}
		for _, e := range set.Entries() {
			for _, data := range []string{order, `{}`} {
				ev := event.Event{Name: e.Name, Data: []byte(data), Context: []byte(`{"schema_version":"2"}`)}
				var r Report
				if set.Check(&ev, &r) == nil != (len(r.Violations) == 0) {
					t.Fatalf("%v", r.Violations)
				}
			}
		}
	})
}

// FuzzCheckBytes gives the checker bytes that are no JSON at all.
func FuzzCheckBytes(f *testing.F) {
	e, err := asEntry([]byte(orderSchema))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(order))
	f.Add([]byte(`{"a":`))
	f.Add([]byte(`{"tags":[1,`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		var r Report
		e.Check(data, &r)
	})
}
