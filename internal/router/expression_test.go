package router

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
)

func TestExpressionsGiveValuesInJSON(t *testing.T) {
	t.Parallel()
	e, err := event.ParseStored(stored("a", `{"n":10.50,"big":9007199254740993,"huge":1e308,"list":[{"x" : 1.0},{"x":"y"}],"o":{"b": [1, 2.0]},"text":"\u00e9\"\n","null":null,"empty":{}}`, `{"k":1}`))
	if err != nil {
		t.Fatal(err)
	}
	var s Subject
	s.Reset(&e)
	for source, want := range map[string]string{
		`event.name`:   `"a"`,
		`event.data.n`: `10.5`,
		`1.5e30`:       `1.5e+30`,
		`1.5e-8`:       `1.5e-8`, `1.5e-12`: `1.5e-12`,
		`event.data.n * -0.0`:                   `-0`,
		`event.data.big`:                        `9007199254740993`,
		`int(event.data.n)`:                     `10`,
		`uint(event.data.n)`:                    `10`,
		`event.data.n > 3`:                      `true`,
		`event.data["null"]`:                    `null`,
		`null`:                                  `null`,
		`event.data.text`:                       `"é\"\n"`,
		`event.data.o`:                          `{"b": [1, 2.0]}`,
		`event.data.list`:                       `[{"x" : 1.0},{"x":"y"}]`,
		`event.data.list.map(i, i.x)`:           `[1,"y"]`,
		`event.data.list.filter(i, i.x == 1.0)`: `[{"x" : 1.0}]`,
		`{"b": 1, "a": [event.data.empty], "é\n": {}}`: `{"a":[{}],"b":1,"é\n":{}}`,
		`[]`:                         `[]`,
		`bytes(event.name)`:          `"YQ=="`,
		`duration("90s")`:            `"90s"`,
		`duration("1500ms")`:         `"1.5s"`,
		`timestamp(event.timestamp)`: `"2026-11-23T10:00:00Z"`,
		`event.context`:              `{"k":1}`,
		`has(event.data.x) ? event.data.x : "none"`: `"none"`,
	} {
		x, faults := CompileValue(source)
		if faults != nil {
			t.Errorf("%s: %v", source, faults)
			continue
		}
		got, err := x.Append([]byte("before"), &s)
		if err != nil || string(got) != "before"+want || !json.Valid([]byte(want)) {
			t.Errorf("%s: %s %v, want %s", source, got, err, want)
		}
		value, constant := x.Constant()
		if constant != !strings.Contains(source, "event") || constant && string(value) != want {
			t.Errorf("%s: constant %v %s", source, constant, value)
		}
	}
	for source, want := range map[string]string{
		`event.data.absent`:        "no such key",
		`event.data.absent.deeper`: "no such key",
		`event.data.text * 2.0`:    "no such overload",
		`event.data.n / 0.0`:       "no form",
		`event.data.huge * 10.0`:   "no form",
		`{1: event.name}`:          "no form",
		`[event]`:                  "no form",
		`type(event.name) == string ? event.data.list.map(i, event) : []`: "no form",
	} {
		x, faults := CompileValue(source)
		if faults != nil {
			t.Errorf("%s: %v", source, faults)
			continue
		}
		if got, err := x.Append(nil, &s); err == nil || got != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s %v, want %s", source, got, err, want)
		}
	}
}

// TestObjectsHaveAnOrder: the same event makes the same call to a vendor, each
// time.
func TestObjectsHaveAnOrder(t *testing.T) {
	t.Parallel()
	e, err := event.ParseStored(stored("a", `{"z":1,"y":2,"x":{"b":1,"a":2},"w":4}`, ""))
	if err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{
		`event.data.map(k, k)`:                     `["z","y","x","w"]`,
		`event.data.x.map(k, event.data.x[k])`:     `[1,2]`,
		`{"z": event.name, "b": {"y": 1, "x": 2}}`: `{"b":{"x":2,"y":1},"z":"a"}`,
		`event.data.x == {"a": 2, "b": 1}`:         `true`,
	} {
		x, faults := CompileValue(source)
		if faults != nil {
			t.Errorf("%s: %v", source, faults)
			continue
		}
		for range 20 {
			var s Subject
			s.Reset(&e)
			if got, err := x.Append(nil, &s); err != nil || string(got) != want {
				t.Fatalf("%s: %s %v, want %s", source, got, err, want)
			}
		}
	}
}

func TestExpressionsOfAnEventWithoutDataAndContext(t *testing.T) {
	t.Parallel()
	x, faults := CompileValue(`[event.data, event.context, size(event.data)]`)
	if faults != nil {
		t.Fatal(faults)
	}
	var s Subject
	s.Reset(&event.Event{})
	if got, err := x.Append(nil, &s); err != nil || string(got) != `[{},{},0]` {
		t.Errorf("%s %v", got, err)
	}
}

func TestASubjectIsUsedAgain(t *testing.T) {
	t.Parallel()
	x, faults := CompileValue(`event.name + string(event.data.n)`)
	if faults != nil {
		t.Fatal(faults)
	}
	var s Subject
	for i := range 3 {
		s.Reset(&event.Event{Name: "n", Data: fmt.Appendf(nil, `{"n":"%d"}`, i)})
		if got, err := x.Append(nil, &s); err != nil || string(got) != fmt.Sprintf(`"n%d"`, i) {
			t.Errorf("%s %v", got, err)
		}
	}
	s.Reset(nil)
	if s.binding.event != nil || s.binding.data.raw != nil || s.binding.context.raw != nil {
		t.Error("it holds on to the event")
	}
}

func TestAValueIsBounded(t *testing.T) {
	t.Parallel()
	data := `{"text":"` + strings.Repeat("x", 500_000) + `","list":[1,2,3]}`
	for source, want := range map[string]error{
		`event.data.list.map(i, event.data.text)`: errLargeValue,
		`event.data.list.map(i, event.data)`:      errLargeValue,
		`[event.data.text]`:                       nil,
	} {
		x, faults := CompileValue(source)
		if faults != nil {
			t.Fatal(faults)
		}
		var s Subject
		s.Reset(&event.Event{Data: []byte(data)})
		if _, err := x.Append(nil, &s); err != want {
			t.Errorf("%s: %v, want %v", source, err, want)
		}
	}
	// A loop in a loop over many elements costs too much, as in when.
	x, faults := CompileValue(`event.data.items.map(x, event.data.items.map(y, x))`)
	if faults != nil {
		t.Fatal(faults)
	}
	var s Subject
	s.Reset(&event.Event{Data: []byte(`{"items":[` + strings.TrimSuffix(strings.Repeat("1,", 1000), ",") + `]}`)})
	if _, err := x.Append(nil, &s); err != errTooCostly {
		t.Errorf("error %v", err)
	}
}

func TestFaultsOfValuesHaveLineAndColumn(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"":                         `is empty; want a CEL expression such as event.data.total * 1.2`,
		"event.data.\n  +":         `line 2, column 3: Syntax error`,
		"event.nmae":               `line 1, column 6: undefined field 'nmae'; an event has the fields`,
		"event":                    `the expression is a sluice.Event; want a CEL expression`,
		"type(event.name)":         `the expression is a type(string); want a CEL expression`,
		"1 / 0":                    `division by zero`,
		"{1: 2}":                   `has no value, whatever the event: JSON has no form for the value`,
		"other.data":               `line 1, column 1: undeclared reference to 'other'`,
		`"a".matches(event.name)`:  `matches() has a regular expression that is computed`,
		strings.Repeat("1+", 3000): `has 6000 bytes; the most is 4096`,
	} {
		x, faults := CompileValue(source)
		if x != nil || len(faults) == 0 {
			t.Errorf("%s: no fault", source)
			continue
		}
		f := faults[0]
		if text := f.Problem + "; " + f.Want; !strings.Contains(text, want) || f.Rule != -1 || f.Pointer != "" {
			t.Errorf("%s: %+v, want %s", source, f, want)
		}
	}
}

func FuzzValue(f *testing.F) {
	for _, source := range []string{`event.data`, `[event.name, 1.5, {"a": event.context}]`, `bytes("é")`, `timestamp("2026-01-01T00:00:00Z") - duration("1h")`, `event.data.map(k, k)`, `1.0 / 0.0`, `(){0}`} {
		f.Add(source)
	}
	e, err := event.ParseStored(typical("a"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, source string) {
		x, faults := CompileValue(source)
		if (x == nil) != (faults != nil) {
			t.Fatal("an expression and faults, or neither")
		}
		if x == nil {
			return
		}
		var s Subject
		s.Reset(&e)
		value, err := x.Append(nil, &s)
		if err != nil {
			return
		}
		if !json.Valid(value) || event.Check(value, event.Limits{}) != nil || len(value) > MaxValue {
			t.Fatalf("%s gives %s", source, value)
		}
		if strings.Contains(source, "{") {
			return // loops go through maps that an expression writes in any order
		}
		if again, err := x.Append(nil, &s); err != nil || string(again) != string(value) {
			t.Fatalf("%s gives %s, then %s %v", source, value, again, err)
		}
	})
}

func BenchmarkValue(b *testing.B) {
	e, err := event.ParseStored(typical("a"))
	if err != nil {
		b.Fatal(err)
	}
	for _, source := range []string{`event.name`, `event.data.total * 1.2`, `event.data.items.map(i, i.sku)`} {
		b.Run(source, func(b *testing.B) {
			x, faults := CompileValue(source)
			if faults != nil {
				b.Fatal(faults)
			}
			var s Subject
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				s.Reset(&e)
				var err error
				if dst, err = x.Append(dst[:0], &s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
