package router

import (
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
)

func TestPointersFindAndSet(t *testing.T) {
	t.Parallel()
	original := string(stored("a", `{"a/b":[{"~":1}],"n": null }`, ""))
	for _, test := range []struct {
		pointer, field, keys, found string
	}{
		{"/data/a~1b/0/~0", "data", "a/b|0|~", "1"},
		{"/data/n", "data", "n", "null"},
		{"/data/x", "data", "x", ""},
		{"/data", "data", "", `{"a/b":[{"~":1}],"n": null }`},
		{"/context", "context", "", `{}`},
		{"/id", "id", "", `"0198f6a2-0000-7000-8000-000000000001"`},
		{"/user_id", "user_id", "", `"u1"`},
	} {
		e, err := event.ParseStored([]byte(original))
		if err != nil {
			t.Fatal(err)
		}
		p, faults := ParsePointer(test.pointer)
		if faults != nil {
			t.Fatal(faults)
		}
		if p.Field() != test.field || !slices.Equal(p.Keys(), strings.FieldsFunc(test.keys, func(r rune) bool { return r == '|' })) {
			t.Errorf("%s: %s %q", test.pointer, p.Field(), p.Keys())
		}
		if value, ok := p.Find(&e); string(value) != test.found || ok != (test.found != "") {
			t.Errorf("%s: %s %v", test.pointer, value, ok)
		}
		if text, ok := p.Text(&e); ok != (test.field != "data" && test.field != "context") || ok && `"`+text+`"` != test.found {
			t.Errorf("%s: text %q %v", test.pointer, text, ok)
		}
		if test.field != "data" || test.keys == "" {
			continue
		}
		before := string(e.Data)
		shared := e.Data
		if err := p.Set(&e, []byte(`{"new":1}`)); err != nil {
			t.Errorf("%s: %v", test.pointer, err)
		}
		if value, _ := p.Find(&e); string(value) != `{"new":1}` || string(shared) != before {
			t.Errorf("%s: %s, and the shared memory is %s", test.pointer, value, shared)
		}
	}
	for pointer, want := range map[string]string{
		"": "is not a JSON pointer", "data": "is not a JSON pointer", "/data/~2": "is not a JSON pointer", "/dta": "does not lead into an event",
		"/name/x": "is a string and has no members", "/data" + strings.Repeat("/a", 40): "leads 41 levels deep",
	} {
		if _, faults := ParsePointer(pointer); len(faults) != 1 || !strings.Contains(faults[0].Problem, want) || faults[0].Pointer != "" {
			t.Errorf("%q: %v, want %s", pointer, faults, want)
		}
	}
}

func TestATransformOfPointersIsThatOfARule(t *testing.T) {
	t.Parallel()
	raw := stored("a", `{"email":"x@y","b":{"c":1},"d":[1,2]}`, `{"ip":"192.0.2.1"}`)
	want, _, _, err := parse(t, ruleWith(`"transform":{"drop":["/ip","/data/b/c","/data/absent","/context/ip"],"hash":["/data/email","/user_id","/data/d/0"],"salt":"s"}`)).Route("crm").Apply(raw)
	if err != nil {
		t.Fatal(err)
	}
	transform, faults := NewTransform([]string{"/ip", "/data/b/c", "/data/absent", "/context/ip"}, []string{"/data/email", "/user_id", "/data/d/0"}, "s")
	if faults != nil {
		t.Fatal(faults)
	}
	e, err := event.ParseStored(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := transform.Apply(&e); err != nil || string(e.Append(nil)) != string(want) {
		t.Errorf("%v\n got %s\nwant %s", err, e.Append(nil), want)
	}
	if again, _ := event.ParseStored(stored("a", `{"email":"x@y","b":{"c":1},"d":[1,2]}`, `{"ip":"192.0.2.1"}`)); string(again.Append(nil)) != string(raw) {
		t.Error("the stored event was changed")
	}
	nothing, faults := NewTransform(nil, nil, "")
	if nothing != nil || faults != nil || nothing.Apply(&e) != nil || string(e.Append(nil)) != string(want) {
		t.Error("no pointers, and still a transform")
	}
	_, faults = NewTransform([]string{"/data/a", "/id", "x"}, []string{"/data", "/type"}, "")
	var places []string
	for _, f := range faults {
		places = append(places, f.Pointer)
	}
	if want := []string{"/drop/1", "/drop/2", "/hash/0", "/hash/1"}; !slices.Equal(places, want) {
		t.Errorf("faults at %q, want %q: %v", places, want, faults)
	}
}

func TestCheckPattern(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "*", "order_*", "Order Completed", "größe"} {
		if faults := CheckPattern(good); faults != nil {
			t.Errorf("%q: %v", good, faults)
		}
	}
	for _, bad := range []string{"", "a*b", " a", "a\n", strings.Repeat("a", 2000)} {
		if CheckPattern(bad) == nil {
			t.Errorf("%q is good", bad)
		}
	}
}

func TestSkippingFindsTheEnds(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		`""`, `"a"`, `"\""`, `"\\"`, `"\\\""`, `"a\\\\"`, `"\u0022"`, `"{[,"`, `1`, `-1.5e3`, `true`, `null`, `{}`, `[]`, `{"a":"}"}`, `[[],{"a":[1,"]"]} ]`,
	} {
		for _, behind := range []string{"", ",", "}", "]", " ", `,"x"`, "\n}"} {
			text := []byte("  " + value + behind)
			at := SkipSpace(text, 0)
			if end := SkipValue(text, at); end != 2+len(value) {
				t.Errorf("%s: ends at %d, want %d", text, end, 2+len(value))
			}
		}
	}
	for _, text := range []string{`"`, `"\"`, `"\`, `"a\\\"`, `{"a`, `[`, ``, ` `} {
		for i := range len(text) + 1 {
			if end := SkipValue([]byte(text), i); end > len(text) || end < i {
				t.Errorf("%s from %d: %d", text, i, end)
			}
		}
	}
}
