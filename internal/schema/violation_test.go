package schema

import (
	"fmt"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
)

// lines is what a check says, one violation a line.
func lines(r *Report) string {
	var all []string
	for _, v := range r.Violations {
		all = append(all, v.Pointer+" "+v.Rule+": "+v.Expected+" / "+v.Got)
	}
	return strings.Join(all, "\n")
}

func TestAViolationSaysPlaceRuleExpectedAndGot(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200)
	for name, c := range map[string]struct{ schema, data, want string }{
		"missing":                  {`{"required":["a"]}`, `{}`, `/data/a required: this member / nothing`},
		"missing below":            {`{"properties":{"p":{"required":["a/b"]}}}`, `{"p":{}}`, `/data/p/a~1b required: this member / nothing`},
		"type":                     {`{"properties":{"a":{"type":["integer","null"]}}}`, `{"a":1.5}`, `/data/a type: integer or null / number`},
		"type, no value told":      {`{"properties":{"a":{"type":"number"}}}`, `{"a":"secret"}`, `/data/a type: number / string`},
		"enum":                     {`{"properties":{"a":{"enum":["x","y",3,null]}}}`, `{"a":"z"}`, `/data/a enum: one of "x", "y", 3, null / "z"`},
		"const":                    {`{"properties":{"a":{"const":true}}}`, `{"a":false}`, `/data/a const: true / false`},
		"index":                    {`{"properties":{"p":{"items":{"type":"string"}}}}`, `{"p":["a","b",3]}`, `/data/p/2 type: string / number`},
		"minimum":                  {`{"properties":{"a":{"minimum":0}}}`, `{"a":-0.01}`, `/data/a minimum: at least 0 / -0.01`},
		"exclusive maximum":        {`{"properties":{"a":{"exclusiveMaximum":10}}}`, `{"a":10}`, `/data/a exclusiveMaximum: less than 10 / 10`},
		"multiple":                 {`{"properties":{"a":{"multipleOf":0.01}}}`, `{"a":1.005}`, `/data/a multipleOf: a multiple of 0.01 / 1.005`},
		"length":                   {`{"properties":{"a":{"minLength":3}}}`, `{"a":"äö"}`, `/data/a minLength: at least 3 characters / 2 characters`},
		"pattern":                  {`{"properties":{"a":{"pattern":"^a+$"}}}`, `{"a":"ab"}`, `/data/a pattern: a text that matches ^a+$ / "ab"`},
		"format":                   {`{"properties":{"a":{"format":"date-time"}}}`, `{"a":"yesterday"}`, `/data/a format: date-time / "yesterday"`},
		"items":                    {`{"properties":{"a":{"maxItems":1}}}`, `{"a":[1,2]}`, `/data/a maxItems: at most 1 items / 2 items`},
		"unique":                   {`{"properties":{"a":{"uniqueItems":true}}}`, `{"a":[{"x":1,"y":2},{"y":2.0,"x":1e0}]}`, `/data/a uniqueItems: items that all differ / two that are equal`},
		"unknown member":           {`{"properties":{"a":{}},"additionalProperties":false}`, `{"b":1}`, `/data/b additionalProperties: no members but those that the schema names / number`},
		"name":                     {`{"propertyNames":{"pattern":"^[a-z]+$"}}`, `{"A":1}`, `/data/A propertyNames: a name that propertyNames allows / "A"`},
		"dependent":                {`{"dependentRequired":{"a":["b"]}}`, `{"a":1}`, `/data/b dependentRequired: this member / nothing`},
		"not":                      {`{"properties":{"a":{"not":{"type":"string"}}}}`, `{"a":"x"}`, `/data/a not: none of the values that the schema excludes / "x"`},
		"any of":                   {`{"properties":{"a":{"anyOf":[{"type":"string"},{"type":"null"}]}}}`, `{"a":1}`, `/data/a anyOf: one of 2 alternatives / 1`},
		"the only one for objects": {`{"properties":{"a":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/x"}]}},"$defs":{"x":{"type":"object","required":["b"]}}}`, `{"a":{}}`, `/data/a/b required: this member / nothing`},
		"two of":                   {`{"properties":{"a":{"oneOf":[{"minimum":1},{"maximum":3}]}}}`, `{"a":2}`, `/data/a oneOf: exactly one of 2 alternatives / two that match`},
		"then":                     {`{"if":{"required":["a"]},"then":{"required":["b"]}}`, `{"a":1}`, `/data/b required: this member / nothing`},
		"contains":                 {`{"properties":{"a":{"contains":{"const":1},"minContains":2}}}`, `{"a":[1]}`, `/data/a minContains: at least 2 items of the kind that contains describes / 1 items of the kind that contains describes`},
		"never":                    {`{"properties":{"a":false}}`, `{"a":1}`, `/data/a false: nothing: the schema allows no value here / 1`},
		"several, in the order of the event": {`{"properties":{"b":{"type":"string"},"a":{"type":"string"}},"required":["c"]}`, `{"a":1,"b":2}`,
			"/data/a type: string / number\n/data/b type: string / number\n/data/c required: this member / nothing"},
		"long value":       {`{"properties":{"a":{"enum":["b"]}}}`, `{"a":"` + long + `"}`, `/data/a enum: "b" / "` + strings.Repeat("x", 59) + `…"`},
		"control in value": {`{"properties":{"a":{"enum":["b"]}}}`, `{"a":"\u001b[31m\n"}`, `/data/a enum: "b" / "\x1b[31m\n"`},
		"by the library":   {`{"properties":{"a":{}},"unevaluatedProperties":false}`, `{"b":"` + long + `"}`, `/data/b unevaluatedProperties: nothing: the schema allows no value here / "` + strings.Repeat("x", 59) + `…"`},
		"by the library, several": {`{"properties":{"a":{"minimum":0.5},"b":{"type":"string"}},"required":["c"],"unevaluatedProperties":false}`, `{"a":0,"b":1}`,
			"/data/a minimum: at least 0.5 / 0\n/data/b type: string / number\n/data/c required: this member / nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := asEntry([]byte(c.schema))
			if err != nil {
				t.Fatal(err)
			}
			var r Report
			if e.Check([]byte(c.data), &r) {
				t.Fatal("it is right")
			}
			if got := lines(&r); got != c.want {
				t.Errorf("%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestWhatIsToldIsBounded(t *testing.T) {
	t.Parallel()
	e, err := asEntry([]byte(`{"additionalProperties":{"type":"string","pattern":"^a"}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{strings.Repeat("€", 500), strings.Repeat("\x01", 500), strings.Repeat("\\", 500), strings.Repeat("\U0010ffff", 200)} {
		text, _ := jsonQuoted(value)
		members := make([]string, 30)
		for i := range members {
			members[i] = fmt.Sprintf(`"%s%d":%s`, strings.Repeat("n", 400), i, text)
		}
		var r Report
		if e.Check([]byte("{"+strings.Join(members, ",")+"}"), &r) || len(r.Violations) != MostViolations {
			t.Fatalf("%d violations", len(r.Violations))
		}
		for _, v := range r.Violations {
			if len(v.Got) > 64 || len(v.Pointer) > 512 {
				t.Errorf("%d bytes of a value, %d of a pointer: %s", len(v.Got), len(v.Pointer), v.Got)
			}
		}
		if said := r.Text("/properties", 1000); len(said) > 1020 || !strings.Contains(said, " more") || !strings.HasPrefix(said, "/properties/n") {
			t.Errorf("%d bytes: %s", len(said), said)
		}
	}
}

func jsonQuoted(s string) (string, int) { b := event.AppendString(nil, s); return string(b), len(b) }

func TestPlacesOfAGroupHaveNoIndexes(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{
		`{"properties":{"p":{"items":{"properties":{"q":{"items":{"type":"string"}}}}}}}`,
		`{"properties":{"p":{"items":{"properties":{"q":{"items":{"type":"string"}}}}}},"unevaluatedProperties":false}`,
	} {
		e, err := asEntry([]byte(schema))
		if err != nil {
			t.Fatal(err)
		}
		var r Report
		e.Check([]byte(`{"p":[{},{"q":["a",1]}]}`), &r)
		if len(r.Violations) != 1 || r.Violations[0].Group != "/data/p/*/q/*" || r.Violations[0].Pointer != "/data/p/1/q/1" {
			t.Errorf("%+v", r.Violations)
		}
	}
}

// A tree that is compared with two alternatives at every level asks for two to
// the power of its depth.
func TestAnEventThatAsksForTooMuchIsNoTrouble(t *testing.T) {
	t.Parallel()
	e, err := asEntry([]byte(`{"anyOf":[{"properties":{"a":{"$ref":"#"}},"required":["x"]},{"properties":{"a":{"$ref":"#"}},"required":["x"]},{"type":"string"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if e.Check([]byte(strings.Repeat(`{"a":`, 60)+`1`+strings.Repeat(`}`, 60)), &r) || len(r.Violations) != 1 || r.Violations[0].Rule != "complexity" {
		t.Errorf("%v", r.Violations)
	}
	if !e.Check([]byte(`{"a":{"a":"s","x":1},"x":1}`), &r) {
		t.Errorf("%v", r.Violations)
	}
}

func TestWhatIsNotFoundOutIsNotRight(t *testing.T) {
	t.Parallel()
	e, err := asEntry([]byte(`{"not":{"anyOf":[{"properties":{"a":{"$ref":"#/$defs/x"}},"required":["x"]},{"properties":{"a":{"$ref":"#/$defs/x"}},"required":["x"]}]},` +
		`"$defs":{"x":{"anyOf":[{"properties":{"a":{"$ref":"#/$defs/x"}},"required":["x"]},{"properties":{"a":{"$ref":"#/$defs/x"}},"required":["x"]}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if e.Check([]byte(strings.Repeat(`{"a":`, 60)+`1`+strings.Repeat(`}`, 60)), &r) || r.Violations[0].Rule != "complexity" {
		t.Errorf("%v", r.Violations)
	}
}

func TestChecksOfRightEventsAllocateNothing(t *testing.T) {
	set, ev := fifty(t, orderSchema), orderEvent(t, order)
	var r Report
	if n := testing.AllocsPerRun(100, func() {
		if set.Check(&ev, &r) != nil {
			t.Fatal(r.Violations)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
