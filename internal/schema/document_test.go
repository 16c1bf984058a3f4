package schema

import (
	"fmt"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
)

func TestEveryFaultOfADocumentIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ doc, want string }{
		"empty":         {"", `the document is empty; without schemas it is {"schemas":[]}`},
		"not JSON":      {`{"schemas":[}`, `not JSON at byte 12 (line 1, column 13): a value is missing or malformed`},
		"two names":     {`{"schemas":[{"name":"a","name":"b"}]}`, `/schemas/0/name: two members of the object have this name`},
		"no object":     {`[]`, `the document is an object: {"schemas":[…]}`},
		"no schemas":    {`{"schema":[]}`, "/schema: this member is not known; the document has \"schemas\"\n/schemas: it must be an array of schemas"},
		"entry":         {`{"schemas":[1]}`, `schemas[0] an entry is an object with name, mode and schema`},
		"empty entry":   {`{"schemas":[{}]}`, "schemas[0] name is missing: the exact name of the events that the schema is for\nschemas[0] mode is null; right would be observe, quarantine or reject\nschemas[0] schema is missing: the JSON Schema of the data of the events"},
		"mode":          {`{"schemas":[{"name":"a","mode":"warn","schema":{}}]}`, `schemas[0] a: mode is "warn"; right would be observe, quarantine or reject`},
		"version":       {`{"schemas":[{"name":"a","version":true,"mode":"observe","schema":{}}]}`, `schemas[0] a: version is a string or a number`},
		"empty version": {`{"schemas":[{"name":"a","version":"","mode":"observe","schema":{}}]}`, `schemas[0] a: version is empty; leave it out for events that say no version`},
		"member":        {`{"schemas":[{"name":"a","modus":"x","mode":"observe","schema":{}}]}`, `schemas[0] a: the member "modus" is not known; an entry has name, version, mode, schema and description`},
		"twice": {`{"schemas":[{"name":"a","version":2,"mode":"observe","schema":{}},{"name":"a","version":"2","mode":"reject","schema":{}}]}`,
			`schemas[1] a@2: schemas[0] is for the same name and version`},
		"all at once": {`{"schemas":[{"name":"a","mode":"observe","schema":{"properties":{"x":{"pattern":"(?=y)"},"y":{"format":"phone"}}}},{"name":"b","version":"3","mode":"no","schema":{"$ref":"https://other.example/x.json"}}]}`,
			"schemas[0] a: /properties/x/pattern: not a regular expression of Go (RE2: no lookaround, no backreferences): error parsing regexp: invalid or unsupported Perl syntax: `(?=`\n" +
				`schemas[0] a: /properties/y/format: the format "phone" is not known; these are: ` + knownFormats() + "\n" +
				`schemas[1] b@3: mode is "no"; right would be observe, quarantine or reject` + "\n" +
				`schemas[1] b@3: /$ref: a schema can refer to its own parts only, by # and a JSON pointer or an anchor; put what it needs under $defs`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := Parse([]byte(c.doc))
			if err == nil || set != nil {
				t.Fatal("no fault")
			}
			if got := err.Error(); got != c.want {
				t.Errorf("%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestEveryFaultOfASchemaIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ schema, want string }{
		"no schema":          {`"x"`, `a schema is an object, or true or false`},
		"type":               {`{"properties":{"a":{"type":"int"}}}`, `/properties/a/type: expected null, boolean, object, array, number, integer, string, or an array of some of these, got "int"`},
		"minimum":            {`{"minimum":"0"}`, `/minimum: expected number, got string`},
		"draft 4":            {`{"minimum":0,"exclusiveMinimum":true}`, `/exclusiveMinimum: expected number, got boolean`},
		"draft 7 tuple":      {`{"items":[{},{}]}`, `/items: expected boolean or object, got array`},
		"draft 7 keyword":    {`{"dependencies":{"a":["b"]}}`, `/dependencies: this keyword is not of JSON Schema 2020-12; use dependentRequired and dependentSchemas`},
		"draft 7 by name":    {`{"$schema":"http://json-schema.org/draft-07/schema#"}`, `/$schema: only JSON Schema 2020-12 is known: https://json-schema.org/draft/2020-12/schema`},
		"negative length":    {`{"minLength":-1}`, `/minLength: expected at least 0, got -1`},
		"file reference":     {`{"$ref":"file:///etc/passwd"}`, `/$ref: a schema can refer to its own parts only, by # and a JSON pointer or an anchor; put what it needs under $defs`},
		"relative reference": {`{"$ref":"other.json#/a"}`, `/$ref: a schema can refer to its own parts only, by # and a JSON pointer or an anchor; put what it needs under $defs`},
		"dangling":           {`{"properties":{"a":{"$ref":"#/$defs/b"}}}`, `/properties/a/$ref: the schema has nothing at this place`},
		"dangling anchor":    {`{"$ref":"#b"}`, `/$ref: the schema has no anchor of this name`},
		"no schema there":    {`{"$ref":"#/required","required":["a"]}`, `/$ref: there is no schema at this place`},
		"endless":            {`{"$ref":"#"}`, `it refers to itself, so that checking a value would never end`},
		"endless in two":     {`{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"anyOf":[{"$ref":"#"},{"type":"null"}]}}}`, `it refers to itself, so that checking a value would never end`},
		"pattern of names":   {`{"patternProperties":{"(":{}}}`, "/patternProperties/(: not a regular expression of Go (RE2: no lookaround, no backreferences): error parsing regexp: missing closing ): `(`"},
		"pattern elsewhere":  {`{"$ref":"#/x-lib/a","x-lib":{"a":{"pattern":"["}}}`, "/x-lib/a/pattern: not a regular expression of Go (RE2: no lookaround, no backreferences): error parsing regexp: missing closing ]: `[`"},
		"inner id":           {`{"$defs":{"a":{"$id":"https://x.example/a"}}}`, `/$defs/a/$id: only the whole schema may have an $id; refer to its parts by JSON pointer, or by $anchor`},
		"circle by library":  {`{"properties":{"a":{"$ref":"#"}},"unevaluatedProperties":false}`, `a schema that refers to itself cannot use unevaluatedItems, unevaluatedProperties, $dynamicRef: what checking an event takes would have no bound`},
		"a huge size":        {`{"maxLength":12345678901}`, `/maxLength: sizes may have nine digits; this is 12345678901`},
		"a long divisor":     {`{"multipleOf":1.23456789012345678901234567}`, `/multipleOf: it may have 19 digits; this is 1.23456789012345678901234567`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := asEntry([]byte(c.schema))
			if err == nil {
				t.Fatal("no fault")
			}
			if want := "schemas[0] e: " + c.want; err.Error() != want {
				t.Errorf("%s\nwant\n%s", err, want)
			}
		})
	}
}

func TestTooManyWaysForTheLibraryAreAFault(t *testing.T) {
	t.Parallel()
	var defs []string
	for i := range 20 { // each refers to the next twice
		defs = append(defs, fmt.Sprintf(`"d%d":{"anyOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]}`, i, i+1, i+1))
	}
	schema := `{"unevaluatedProperties":false,"$ref":"#/$defs/d0","$defs":{"d20":{"type":"string"},` + strings.Join(defs, ",") + `}}`
	if _, err := asEntry([]byte(schema)); err == nil || !strings.Contains(err.Error(), "would take more than 10000 steps") {
		t.Errorf("%v", err)
	}
}

func TestHintsTellOfKeywordsThatSayNothing(t *testing.T) {
	t.Parallel()
	_, faults, hints := Check([]byte(`{"schemas":[{"name":"a","mode":"observe","schema":{"requird":["a"],"x-owner":"me","title":"t","properties":{"requird":{}}}}]}`))
	if len(faults) != 0 || len(hints) != 1 || hints[0].Pointer != "/requird" {
		t.Errorf("faults %v, hints %v", faults, hints)
	}
}

const versions = `{"schemas":[
 {"name":"a","version":1,"mode":"reject","schema":{"required":["one"]}},
 {"name":"a","version":"2","mode":"observe","schema":{"required":["two"]}},
 {"name":"b","mode":"reject","schema":{"required":["none"]}},
 {"name":"b","version":"2024-01","mode":"quarantine","schema":{"required":["new"]}}]}`

func TestTheVersionOfAnEventChoosesItsSchema(t *testing.T) {
	t.Parallel()
	set, err := Parse([]byte("\xef\xbb\xbf" + versions))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		event, context, label, pointer, rule string
		mode                                 Mode
	}{
		"number":                  {"a", `{"schema_version":1}`, "a@1", "/data/one", "required", Reject},
		"string":                  {"a", `{"schema_version":"2"}`, "a@2", "/data/two", "required", Observe},
		"of Segment":              {"a", `{"protocols":{"event_version":1}}`, "a@1", "/data/one", "required", Reject},
		"ours first":              {"a", `{"protocols":{"event_version":1},"schema_version":"2"}`, "a@2", "/data/two", "required", Observe},
		"none: the last":          {"a", `{}`, "a@2", "/data/two", "required", Observe},
		"none: without":           {"b", ``, "b", "/data/none", "required", Reject},
		"null is none":            {"b", `{"schema_version":null,"protocols":{"event_version":null}}`, "b", "/data/none", "required", Reject},
		"empty is none":           {"b", `{"schema_version":"","protocols":7}`, "b", "/data/none", "required", Reject},
		"said":                    {"b", `{"schema_version":"2024-01"}`, "b@2024-01", "/data/new", "required", Quarantine},
		"unknown":                 {"a", `{"schema_version":"3"}`, "a", "/context/schema_version", "version", Observe},
		"unknown of Segment":      {"b", `{"protocols":{"event_version":9}}`, "b", "/context/protocols/event_version", "version", Quarantine},
		"of a wrong type":         {"b", `{"schema_version":{"x":1}}`, "b", "/context/schema_version", "version", Quarantine},
		"spelled with an escape":  {"a", `{"schema\u005fversion":"\u0031"}`, "a@1", "/data/one", "required", Reject},
		"numbers are not rounded": {"a", `{"schema_version":1.0}`, "a", "/context/schema_version", "version", Observe},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r Report
			e := set.Check(&event.Event{Name: c.event, Context: []byte(c.context)}, &r)
			if e == nil {
				t.Fatal("it is right")
			}
			v := r.Violations[0]
			if e.Label() != c.label || e.Mode != c.mode || v.Pointer != c.pointer || v.Rule != c.rule || v.PointerIn("/properties") == v.Pointer != (c.rule == "version") {
				t.Errorf("%s %s: %+v", e.Label(), e.Mode, v)
			}
		})
	}
	var r Report
	for _, other := range []string{"A", "a ", "c", ""} {
		if set.Check(&event.Event{Name: other}, &r) != nil {
			t.Errorf("%q has a schema", other)
		}
	}
	if r := (Report{}); set.Check(&event.Event{Name: "a", Context: []byte(`{"schema_version":"3"}`)}, &r) != nil && r.Violations[0].Expected != "one of 1, 2" {
		t.Errorf("%+v", r.Violations)
	}
}
