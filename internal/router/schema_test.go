package router

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/eventsluice/sluice/api/schemas"
)

// beyondSchema are documents whose fault no schema can tell.
var beyondSchema = []string{
	"bad-duplicate-member", "bad-not-json", "bad-trailing-data",
	"bad-when-computed-regex", "bad-when-field", "bad-when-huge-regex", "bad-when-not-bool", "bad-when-regex",
	"bad-when-syntax", "bad-when-three-loops", "bad-when-variable",
	"bad-transform-hash", "bad-transform-set",
}

func TestTheSchemaAgreesWithParse(t *testing.T) {
	t.Parallel()
	var schema map[string]any
	if err := json.Unmarshal(schemas.Of("rules"), &schema); err != nil {
		t.Fatal(err)
	}
	v := validator{t: t, root: schema}
	for name, doc := range documents(t) {
		name = filepath.Base(name)
		if slices.Contains(beyondSchema, name) {
			continue
		}
		var value any
		if err := json.Unmarshal(doc, &value); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err := Parse(doc)
		if fault := v.check(schema, value, ""); (fault == "") != (err == nil) {
			t.Errorf("%s: the schema says %q, Parse says %v", name, fault, err)
		}
	}
}

func TestTheSchemaNamesTheMembersOfARule(t *testing.T) {
	t.Parallel()
	var schema struct {
		Defs struct {
			Rule struct{ Properties map[string]any }
			Step struct{ Properties map[string]any }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(schemas.Of("rules"), &schema); err != nil {
		t.Fatal(err)
	}
	_, err := Parse([]byte(`[{"x":1,"transform":{"y":1}}]`))
	for _, names := range []map[string]any{schema.Defs.Rule.Properties, schema.Defs.Step.Properties} {
		for _, name := range slices.Collect(maps.Keys(names)) {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("the schema has %q, Parse does not offer it: %v", name, err)
			}
		}
	}
}

// validator knows the words of JSON Schema that rules.schema.json uses, and
// fails the test on any other.
type validator struct {
	t    *testing.T
	root map[string]any
}

// check returns the first fault of a value, "" if there is none.
func (v validator) check(schema map[string]any, value any, at string) string {
	object, _ := value.(map[string]any)
	array, _ := value.([]any)
	text, isText := value.(string)
	number, isNumber := value.(float64)
	for _, word := range slices.Sorted(maps.Keys(schema)) {
		var fault string
		switch arg := schema[word]; word {
		case "$schema", "$id", "$defs", "title", "description", "default":
		case "$ref":
			name := strings.TrimPrefix(arg.(string), "#/$defs/")
			fault = v.check(v.root["$defs"].(map[string]any)[name].(map[string]any), value, at)
		case "type":
			is := map[string]bool{
				"object": object != nil, "array": reflect.ValueOf(value).Kind() == reflect.Slice, "string": isText,
				"number": isNumber, "integer": isNumber && number == float64(int(number)),
				"boolean": value == true || value == false,
			}
			if !is[arg.(string)] {
				fault = "is no " + arg.(string)
			}
		case "required":
			for _, name := range arg.([]any) {
				if _, ok := object[name.(string)]; object != nil && !ok {
					fault = fmt.Sprint("misses ", name)
				}
			}
		case "dependentRequired":
			for name, needs := range arg.(map[string]any) {
				for _, need := range needs.([]any) {
					_, has := object[name]
					if _, ok := object[need.(string)]; has && !ok {
						fault = fmt.Sprint("has ", name, " without ", need)
					}
				}
			}
		case "properties":
			for name, sub := range arg.(map[string]any) {
				if member, ok := object[name]; ok && fault == "" {
					fault = v.check(sub.(map[string]any), member, at+"/"+name)
				}
			}
		case "additionalProperties":
			for name := range object {
				if _, ok := schema["properties"].(map[string]any)[name]; !ok {
					fault = "has " + name
				}
			}
		case "propertyNames":
			for name := range object {
				if fault == "" {
					fault = v.check(arg.(map[string]any), name, at+"/"+name)
				}
			}
		case "minProperties":
			if object != nil && float64(len(object)) < arg.(float64) {
				fault = "has too few members"
			}
		case "items":
			for i, e := range array {
				if fault == "" {
					fault = v.check(arg.(map[string]any), e, fmt.Sprint(at, "/", i))
				}
			}
		case "maxItems":
			if float64(len(array)) > arg.(float64) {
				fault = "has too many elements"
			}
		case "anyOf":
			ok := false
			for _, sub := range arg.([]any) {
				ok = ok || v.check(sub.(map[string]any), value, at) == ""
			}
			if !ok {
				fault = "is none of the alternatives"
			}
		case "pattern":
			if isText && !regexp.MustCompile(arg.(string)).MatchString(text) {
				fault = "does not match " + arg.(string)
			}
		case "minLength":
			if isText && float64(utf8.RuneCountInString(text)) < arg.(float64) {
				fault = "is too short"
			}
		case "maxLength":
			if isText && float64(utf8.RuneCountInString(text)) > arg.(float64) {
				fault = "is too long"
			}
		case "minimum":
			if isNumber && number < arg.(float64) {
				fault = "is too small"
			}
		case "maximum":
			if isNumber && number > arg.(float64) {
				fault = "is too large"
			}
		default:
			v.t.Fatalf("the schema has the word %q, which this test does not know", word)
		}
		if fault != "" {
			return at + " " + fault
		}
	}
	return ""
}
