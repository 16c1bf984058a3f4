package event

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// readAll returns what a SentReader makes of a body, one line for each event:
// its name, or the flaw and the bytes.
func readAll(r *SentReader, body string, form Form, lim Limits) (events []string, err error) {
	var e Event
	r.Reset([]byte(body), form, lim)
	for ok, invalid, raw := r.Next(&e); ok; ok, invalid, raw = r.Next(&e) {
		if invalid != nil {
			events = append(events, fmt.Sprintf("%s %s %s", invalid.Code, invalid.Pointer, raw))
		} else {
			events = append(events, e.Name)
		}
	}
	if ok, invalid, raw := r.Next(&e); ok || invalid != nil || raw != nil {
		events = append(events, "an event behind the last")
	}
	return events, r.Err()
}

func TestABodyIsTakenApart(t *testing.T) {
	t.Parallel()
	var r SentReader // one for all: nothing of a body stays for the next
	for _, tt := range []struct {
		name, body string
		form       Form
		want       []string
	}{
		{"one event", ` {"name":"a"} `, JSON, []string{"a"}},
		{"byte order mark", "\ufeff[{\"name\":\"a\"}]", JSON, []string{"a"}},
		{"array", "[ {\"name\":\"a\"} ,\r\n{\"name\":\"b\"}]\n", JSON, []string{"a", "b"}},
		{"empty array", `[ ]`, JSON, nil},
		{"envelope", `{"events":[{"name":"a"},{"name":"b"}]}`, JSON, []string{"a", "b"}},
		{"empty envelope", `{"events":[]}`, JSON, nil},
		{"envelope among others", `{"type":"batch","timestamp":5,"x":{"events":[1]},"name":null,"\u0065vents":[{"name":"a"}],"name":null,"y":[],"y":0}`, JSON, []string{"a"}},
		{"an event with events", `{"name":"a","events":[{"name":"b"}]}`, JSON, []string{"a"}},
		{"events is no array", `{"events":{},"data":{}}`, JSON, []string{`required /name {"events":{},"data":{}}`}},
		{"no object", `"x"`, JSON, []string{`invalid_type  "x"`}},
		{
			"the neighbours of bad events", `[{"name":"a"},{"name":1},[2],{"name":"b"},null,{"name":"c","data":{"a":1,"a":1}},{"name":"d"},"` + "\xff" + `"]`, JSON,
			[]string{"a", `invalid_type /name {"name":1}`, "invalid_type  [2]", "b", "invalid_type  null",
				`duplicate_key /data/a {"name":"c","data":{"a":1,"a":1}}`, "d", "invalid_type  \"\xff\""},
		},
		{"lines", "{\"name\":\"a\"}\r\n\n  \n{\"name\":\"b\"}\n", NDJSON, []string{"a", "b"}},
		{"lines without the last end", "\ufeff{\"name\":\"a\"}\n{\"name\":\"b\"}", NDJSON, []string{"a", "b"}},
		{"no lines", " \n\n", NDJSON, nil},
		{
			"the neighbours of bad lines", "{\"name\":\"a\"}\n {\"name\":\n{\"name\":\"b\"} {}\n[{\"name\":\"c\"}]\n\x00\n{\"name\":\"d\"}", NDJSON,
			[]string{"a", `invalid_json  {"name":`, `invalid_json  {"name":"b"} {}`, `invalid_type  [{"name":"c"}]`, "invalid_json  \x00", "d"},
		},
	} {
		if got, err := readAll(&r, tt.body, tt.form, Limits{}); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q, %v\nwant %q", tt.name, got, err, tt.want)
		}
	}
}

func TestADocumentThatIsNotJSONIsRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	var r SentReader
	for _, tt := range []struct{ name, body, code, place string }{
		{"empty", "", CodeInvalidJSON, "byte 0 "},
		{"cut in an event", `[{"name":"a"},{"name":"b"`, CodeInvalidJSON, "byte 25 "},
		{"cut behind an event", `[{"name":"a"}`, CodeInvalidJSON, "byte 13 "},
		{"comma too many", `[{"name":"a"},]`, CodeInvalidJSON, "byte 14 "},
		{"comma too few", "[{\"name\":\"a\"}\n{\"name\":\"b\"}]", CodeInvalidJSON, "byte 14 (line 2, column 1)"},
		{"no value", `[,]`, CodeInvalidJSON, "byte 1 "},
		{"two documents", `{"name":"a"}{"name":"b"}`, CodeInvalidJSON, "byte 12 "},
		{"something behind the array", `[{"name":"a"}]]`, CodeInvalidJSON, "byte 14 "},
		{"something behind the envelope", `{"events":[]}]`, CodeInvalidJSON, "byte 13 "},
		{"envelope not closed", `{"events":[] `, CodeInvalidJSON, "byte 13 "},
		{"envelope goes on wrongly", `{"events":[],}`, CodeInvalidJSON, "byte 13 "},
		{"envelope begins wrongly", `{"a":01,"events":[{"name":"a"}]}`, CodeInvalidJSON, "byte 7 "},
		{"name behind the events", `{"events":[{"name":"a"}],"name":"b"}`, CodeAmbiguous, ""},
		{"events twice", `{"events":[{"name":"a"}],"events":[]}`, CodeDuplicateKey, ""},
	} {
		_, err := readAll(&r, tt.body, JSON, Limits{})
		v, _ := errors.AsType[*Invalid](err)
		if v == nil || v.Code != tt.code || !strings.Contains(v.Detail, tt.place) {
			t.Errorf("%s: %v, want %s at %s", tt.name, err, tt.code, tt.place)
		}
	}
}

func TestABadLineIsNamedByItsPlaceInTheBody(t *testing.T) {
	t.Parallel()
	var (
		r SentReader
		e Event
	)
	r.Reset([]byte("{\"name\":\"a\"}\n\n{\"name\":tru}\n"), NDJSON, Limits{})
	r.Next(&e)
	_, invalid, _ := r.Next(&e)
	if invalid == nil || !strings.Contains(invalid.Detail, "byte 25 (line 3, column 12)") {
		t.Errorf("got %v", invalid)
	}
}

func TestOneEventOverALimitLeavesItsNeighbours(t *testing.T) {
	t.Parallel()
	const n = 1_000_000
	for name, bad := range map[string]struct{ event, want string }{
		"10,000 levels":    {`{"name":"x","data":` + strings.Repeat(`{"a":`, 10_000) + "{}" + strings.Repeat("}", 10_000) + "}", CodeTooDeep},
		"a million levels": {`{"name":"x","data":{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}}", CodeTooDeep},
		"too many bytes":   {`{"name":"x","data":{"a":"` + strings.Repeat("x", 3*n) + `"}}`, CodeTooLarge},
	} {
		lim := Limits{MaxBytes: 3 * n}
		for form, body := range map[Form]string{
			JSON:   `[{"name":"a"},` + bad.event + `,{"name":"b"}]`,
			NDJSON: "{\"name\":\"a\"}\n" + bad.event + "\n{\"name\":\"b\"}",
		} {
			var r SentReader
			got, err := readAll(&r, body, form, lim)
			if err != nil || len(got) != 3 || got[0] != "a" || !strings.HasPrefix(got[1], bad.want+" ") || !strings.HasSuffix(got[1], bad.event) || got[2] != "b" {
				t.Errorf("%s: %.100q, %v", name, got, err)
			}
		}
		// Cut short it is no JSON, however deep.
		if _, err := ParseSent([]byte(bad.event[:len(bad.event)-1]), lim); err == nil || !strings.HasPrefix(err.Error(), CodeInvalidJSON) {
			t.Errorf("%s, cut short: %.100v", name, err)
		}
	}
}

func TestMembersAndElementsAreYieldedInOrder(t *testing.T) {
	t.Parallel()
	var got []string
	members := func(obj string) error {
		got = nil
		return Members([]byte(obj), func(name string, value []byte) bool {
			got = append(got, name+"="+string(value))
			return name != "stop"
		})
	}
	elements := func(arr string) error {
		got = nil
		return Elements([]byte(arr), func(value []byte) bool {
			got = append(got, string(value))
			return string(value) != `"stop"`
		})
	}
	for _, tt := range []struct {
		read func(string) error
		in   string
		code string
		want []string
	}{
		{members, ` { "a\u0062" : 1 , "c":{"d":1,"d":2}} `, "", []string{"ab=1", `c={"d":1,"d":2}`}},
		{members, `{}`, "", nil},
		{members, `{"a":1,"stop":2,"b":`, "", []string{"a=1", "stop=2"}},
		{members, `{"a":1,"\u0061":2}`, CodeDuplicateKey, []string{"a=1"}},
		{members, `{"a":1,}`, CodeInvalidJSON, []string{"a=1"}},
		{members, `{"a":1} 2`, CodeInvalidJSON, []string{"a=1"}},
		{members, `{`, CodeInvalidJSON, nil},
		{members, `[1]`, CodeInvalidType, nil},
		{members, ``, CodeInvalidJSON, nil},
		{elements, ` [ 1 , [2,3],"` + "\xff" + `"] `, "", []string{"1", "[2,3]", "\"\xff\""}},
		{elements, `[]`, "", nil},
		{elements, `["stop",`, "", []string{`"stop"`}},
		{elements, `[1,]`, CodeInvalidJSON, []string{"1"}},
		{elements, `[1 2]`, CodeInvalidJSON, []string{"1"}},
		{elements, `[1]]`, CodeInvalidJSON, []string{"1"}},
		{elements, `{}`, CodeInvalidType, nil},
	} {
		err := tt.read(tt.in)
		v, _ := errors.AsType[*Invalid](err)
		if !slices.Equal(got, tt.want) || (v == nil) != (tt.code == "") || v != nil && v.Code != tt.code {
			t.Errorf("%s: %q, %v", tt.in, got, err)
		}
	}
}

func TestUnquote(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`""`: "", `"a"`: "a", `"\"\\\/\b\f\n\r\t"`: "\"\\/\b\f\n\r\t", `"\u00e9\uD83D\uDE00é"`: "é😀é", `"\u0000"`: "\x00",
	} {
		if got, err := Unquote([]byte(in)); err != nil || got != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
		if got, err := AppendUnquoted([]byte("x"), []byte(in)); err != nil || string(got) != "x"+want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{``, `"`, `a`, `"a"b`, `1`, `"\x"`, `"\ud800"`, "\"\xff\"", "\"\n\""} {
		if got, err := Unquote([]byte(in)); err == nil {
			t.Errorf("%s: %q", in, got)
		}
		if got, err := AppendUnquoted([]byte("x"), []byte(in)); err == nil || string(got) != "x" {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
}

func TestMembersAreAppendedAsTheyStand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ obj, drop, want, code string }{
		{`{}`, "", ``, ""},
		{`{"a":1}`, "", `"a":1`, ""},
		{`{"a":1}`, "a", ``, ""},
		{" { \"a\" : 1.0 ,\n\"b\":[ 1, 2 ] } ", "", `"a" : 1.0,"b":[ 1, 2 ]`, ""},
		{`{"a":1,"b":2,"c":3}`, "a", `"b":2,"c":3`, ""},
		{`{"a":1,"b":2,"c":3}`, "b", `"a":1,"c":3`, ""},
		{`{"a":1,"b":2,"c":3}`, "c", `"a":1,"b":2`, ""},
		{`{"\u0061":1,"b":"}"}`, "a", `"b":"}"`, ""},
		{`[]`, "", ``, CodeInvalidType},
		{`{"a":1,"a":2}`, "", ``, CodeDuplicateKey},
		{`{"a":1`, "", ``, CodeInvalidJSON},
		{`{"a":1}}`, "", ``, CodeInvalidJSON},
		{``, "", ``, CodeInvalidJSON},
	} {
		got, err := AppendMembers([]byte("x"), []byte(tt.obj), func(name string) bool { return name == tt.drop })
		v, _ := err.(*Invalid)
		if string(got) != "x"+tt.want || (v == nil) != (tt.code == "") || v != nil && v.Code != tt.code {
			t.Errorf("%s without %q: %q, %v", tt.obj, tt.drop, got, err)
		}
	}
}
