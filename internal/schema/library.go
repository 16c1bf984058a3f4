package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// resource is what the library calls the schema that it compiles.
const resource = "sluice:schema"

// errElsewhere is why a reference to another document is not followed.
var errElsewhere = errors.New("a schema cannot refer to another document")

// nowhere is a jsonschema.URLLoader that loads nothing.
type nowhere struct{}

func (nowhere) Load(string) (any, error) { return nil, errElsewhere }

// compileLibrary compiles a schema with the library, which knows all of JSON
// Schema, and validates it against the metaschema.
func compileLibrary(schema any) (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(nowhere{})
	if err := c.AddResource(resource, schema); err != nil {
		return nil, err
	}
	return c.Compile(resource)
}

// library checks values with the library. It is for schemas with keywords that
// node does not have, and costs some ten times as much.
type library struct{ in bytes.Reader }

// check checks data and notes the violations.
func (l *library) check(s *jsonschema.Schema, data []byte, r *Report) (ok bool) {
	l.in.Reset(data)
	d := json.NewDecoder(&l.in)
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		// An event that was parsed is JSON.
		r.Violations = append(r.Violations, Violation{Pointer: dataPointer, Group: dataPointer, Rule: "type", Expected: "JSON", Got: "something else"})
		return false
	}
	err := s.Validate(plainNumbers(value))
	if err == nil {
		return true
	}
	invalid, isInvalid := errors.AsType[*jsonschema.ValidationError](err)
	if !isInvalid {
		r.Violations = append(r.Violations, Violation{Pointer: dataPointer, Group: dataPointer, Rule: "schema", Expected: "a value that the schema allows", Got: "another"})
		return false
	}
	var all []Violation
	leaves(invalid, value, func(v Violation) { all = append(all, v) })
	// The library goes through members in no particular order.
	slices.SortFunc(all, func(a, b Violation) int {
		return strings.Compare(a.Pointer+"\x00"+a.Rule, b.Pointer+"\x00"+b.Rule)
	})
	all = slices.Compact(all)
	for i := range all {
		if r.full() {
			break
		}
		r.Violations = append(r.Violations, all[i])
	}
	return false
}

// plainNumbers makes the numbers of a value what the library can work with: it
// takes an exponent of a million literally, and one of two millions ends the
// process.
func plainNumbers(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			v[name] = plainNumbers(inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = plainNumbers(inner)
		}
	case json.Number:
		text := rounded([]byte(v))
		if d := parseDecimal(nil, text); len(d.digits) == 0 {
			return json.Number("0")
		}
		return json.Number(text)
	}
	return value
}

// leaves calls note for what an error says of single values.
func leaves(e *jsonschema.ValidationError, value any, note func(Violation)) {
	switch e.ErrorKind.(type) {
	case *kind.Schema, *kind.Group, *kind.Reference, *kind.AllOf, nil:
		for _, cause := range e.Causes {
			leaves(cause, value, note)
		}
		return
	}
	var steps []step
	at := value
	for _, token := range e.InstanceLocation {
		switch inner := at.(type) {
		case map[string]any:
			steps = append(steps, step{name: []byte(token)})
			at = inner[token]
		case []any:
			index, _ := strconv.Atoi(token) // the library wrote it
			steps = append(steps, step{index: index})
			if at = nil; index < len(inner) {
				at = inner[index]
			}
		}
	}
	add := func(member, rule, expected, got string) {
		way := steps
		if member != "" {
			way = append(slices.Clip(steps), step{name: []byte(member)})
		}
		note(Violation{Pointer: pointerOf(way, false), Group: pointerOf(way, true), Rule: rule, Expected: expected, Got: got})
	}
	say := func(rule, expected string) { add("", rule, expected, shortOf(at)) }
	count := func(rule, expected string, want, got int, of string) {
		add("", rule, expected+strconv.Itoa(want)+of, strconv.Itoa(got)+of)
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		add("", "type", strings.Join(k.Want, " or "), k.Got)
	case *kind.Enum:
		say("enum", newChoice("", k.Want).expected)
	case *kind.Const:
		say("const", newChoice("", []any{k.Want}).expected)
	case *kind.Format:
		say("format", k.Want)
	case *kind.Pattern:
		say("pattern", matching(k.Want))
	case *kind.Required:
		for _, name := range k.Missing {
			add(name, "required", "this member", "nothing")
		}
	case *kind.DependentRequired:
		for _, name := range k.Missing {
			add(name, "dependentRequired", "this member", "nothing")
		}
	case *kind.Dependency:
		for _, name := range k.Missing {
			add(name, "dependencies", "this member", "nothing")
		}
	case *kind.AdditionalProperties:
		members, _ := at.(map[string]any)
		for _, name := range k.Properties {
			add(name, "additionalProperties", "no members but those that the schema names", kindOf(members[name]).String())
		}
	case *kind.PropertyNames:
		add("", "propertyNames", "a name that propertyNames allows", quoted([]byte(k.Property)))
	case *kind.MinLength:
		count("minLength", "at least ", k.Want, k.Got, " characters")
	case *kind.MaxLength:
		count("maxLength", "at most ", k.Want, k.Got, " characters")
	case *kind.MinItems:
		count("minItems", "at least ", k.Want, k.Got, " items")
	case *kind.MaxItems:
		count("maxItems", "at most ", k.Want, k.Got, " items")
	case *kind.MinProperties:
		count("minProperties", "at least ", k.Want, k.Got, " members")
	case *kind.MaxProperties:
		count("maxProperties", "at most ", k.Want, k.Got, " members")
	case *kind.MinContains:
		count("minContains", "at least ", k.Want, len(k.Got), " items of the kind that contains describes")
	case *kind.MaxContains:
		count("maxContains", "at most ", k.Want, len(k.Got), " items of the kind that contains describes")
	case *kind.Contains:
		count("contains", "at least ", 1, 0, " items of the kind that contains describes")
	case *kind.UniqueItems:
		add("", "uniqueItems", "items that all differ", "two that are equal")
	case *kind.Minimum:
		say("minimum", "at least "+ratText(k.Want))
	case *kind.Maximum:
		say("maximum", "at most "+ratText(k.Want))
	case *kind.ExclusiveMinimum:
		say("exclusiveMinimum", "more than "+ratText(k.Want))
	case *kind.ExclusiveMaximum:
		say("exclusiveMaximum", "less than "+ratText(k.Want))
	case *kind.MultipleOf:
		say("multipleOf", "a multiple of "+ratText(k.Want))
	case *kind.Not:
		say("not", "none of the values that the schema excludes")
	case *kind.AnyOf:
		say("anyOf", "one of "+strconv.Itoa(max(1, len(e.Causes)))+" alternatives")
	case *kind.OneOf:
		if len(k.Subschemas) > 0 {
			add("", "oneOf", "exactly one of the alternatives", "two that match")
		} else {
			say("oneOf", "one of "+strconv.Itoa(max(1, len(e.Causes)))+" alternatives")
		}
	case *kind.FalseSchema:
		rule := "false"
		for _, keyword := range []string{"unevaluatedProperties", "unevaluatedItems", "additionalProperties"} {
			if strings.HasSuffix(e.SchemaURL, "/"+keyword) {
				rule = keyword
			}
		}
		say(rule, "nothing: the schema allows no value here")
	default:
		path := e.ErrorKind.KeywordPath()
		rule := "schema"
		if len(path) > 0 {
			rule = path[0]
		}
		say(rule, "a value that the schema allows")
	}
}

// kindOf tells what a decoded value is.
func kindOf(v any) (k jsonType) {
	switch v.(type) {
	case nil:
		return null
	case bool:
		return boolean
	case string:
		return text
	case []any:
		return array
	case map[string]any:
		return object
	}
	return number
}

// shortOf is short for a decoded value.
func shortOf(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return "object"
	case []any:
		return "array"
	case string:
		return quoted([]byte(v))
	}
	return string(clip(fmt.Append(nil, jsonText(v)), mostGot))
}

func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(text)
}

// ratText writes a limit of the library as a person would.
func ratText(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'g', -1, 64)
}
