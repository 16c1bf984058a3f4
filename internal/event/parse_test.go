package event

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestAnEventIsReadAsSent(t *testing.T) {
	t.Parallel()
	raw := ` {"data": {"n": 1.50, "s":"\u00e9"},"name":"caf\u00e9 \"x\"","id":"i-1","type":"page","user_id":"u",
		"anonymous_id":"a","timestamp":"2026-11-23T10:00:00.123456789012+05:30","context":{ "ip":null }} `
	got, err := ParseSent([]byte(raw), Limits{})
	want := Event{
		ID: "i-1", Type: TypePage, Name: `café "x"`, UserID: "u", AnonymousID: "a",
		Timestamp: "2026-11-23T10:00:00.123456789012+05:30",
		Data:      json.RawMessage(`{"n": 1.50, "s":"\u00e9"}`), Context: json.RawMessage(`{ "ip":null }`),
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestOnlyTheNameIsRequiredAndNullIsMissing(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		`{"name":"n"}`,
		"\ufeff{\"name\":\"n\"}",
		`{"id":null,"type":null,"name":"n","user_id":null,"anonymous_id":null,"timestamp":null,"data":null,"context":null}`,
		`{"name":"n","user_id":"","anonymous_id":""}`,
	} {
		got, err := ParseSent([]byte(raw), Limits{})
		if want := (Event{Type: TypeTrack, Name: "n"}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", raw, got, err)
		}
	}
}

func TestEveryFlawIsNamedWithItsPlace(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1) }
	for _, tt := range []struct{ raw, code, pointer string }{
		{`{}`, CodeRequired, "/name"},
		{`{"data":{}}`, CodeRequired, "/name"},
		{`{"name":null}`, CodeRequired, "/name"},
		{`{"name":""}`, CodeRequired, "/name"},
		{`{"name":5}`, CodeInvalidType, "/name"},
		{`{"n\u0061me":5}`, CodeInvalidType, "/name"},
		{`{"name":"` + strings.Repeat("x", 513) + `"}`, CodeTooLong, "/name"},
		{`{"name":"n","id":""}`, CodeRequired, "/id"},
		{`{"name":"n","id":17}`, CodeInvalidType, "/id"},
		{`{"name":"n","id":"` + strings.Repeat("x", 257) + `"}`, CodeTooLong, "/id"},
		{`{"name":"n","user_id":["u"]}`, CodeInvalidType, "/user_id"},
		{`{"name":"n","user_id":"` + strings.Repeat("x", 513) + `"}`, CodeTooLong, "/user_id"},
		{`{"name":"n","anonymous_id":"` + strings.Repeat(`\u00e9`, 257) + `"}`, CodeTooLong, "/anonymous_id"},
		{`{"name":"n","type":"click"}`, CodeUnknownType, "/type"},
		{`{"name":"n","type":""}`, CodeUnknownType, "/type"},
		{`{"name":"n","type":1}`, CodeInvalidType, "/type"},
		{`{"name":"n","timestamp":"yesterday"}`, CodeInvalidTimestamp, "/timestamp"},
		{`{"name":"n","timestamp":1763892000}`, CodeInvalidType, "/timestamp"},
		{`{"name":"n","data":[]}`, CodeInvalidType, "/data"},
		{`{"name":"n","data":"{}"}`, CodeInvalidType, "/data"},
		{`{"name":"n","context":true}`, CodeInvalidType, "/context"},
		{`[]`, CodeInvalidType, ""},
		{`"name"`, CodeInvalidType, ""},
		{`null`, CodeInvalidType, ""},
		{`{"name":"n","data":` + deep(65) + `}`, CodeTooDeep, "/data" + strings.Repeat("/a", 64)},
		{`{"name":"n","x":` + deep(65) + `}`, CodeTooDeep, "/x" + strings.Repeat("/a", 64)},
		{`{"name":"n","data":{"l":[0,[1,"a` + "\xff" + `"]]}}`, CodeInvalidUTF8, "/data/l/1/1"},
		{`{"name":"n","data":{"l":{"a` + "\xc3" + `":1}}}`, CodeInvalidUTF8, "/data/l"},
		{`{"name":"n` + "\xed\xa0\x80" + `"}`, CodeInvalidUTF8, "/name"},
		{`{"name":"n","data":{"a":"\ud83d"}}`, CodeInvalidUnicode, "/data/a"},
		{`{"name":"n","data":{"a":["x","\ude00\ud83d"]}}`, CodeInvalidUnicode, "/data/a/1"},
		{`{"name":"n","data":{"a":"\ud83d\u0041"}}`, CodeInvalidUnicode, "/data/a"},
		{`{"name":"n","data":{"a":1,"b":[],"a":2}}`, CodeDuplicateKey, "/data/a"},
		{`{"name":"n","data":{"a":1,"\u0061":2}}`, CodeDuplicateKey, "/data/a"},
		{`{"name":"n","data":{"l":[{"a/b~":1,"a\/b\u007e":2}]}}`, CodeDuplicateKey, "/data/l/0/a~1b~0"},
		{`{"name":"n","name":"n"}`, CodeDuplicateKey, "/name"},
		{`{"name":"n","n\u0061me":"n"}`, CodeDuplicateKey, "/name"},
		{`{"x":1,"name":"n","x":1}`, CodeDuplicateKey, "/x"},
		{`{"":1,"name":"n","":1}`, CodeDuplicateKey, "/"},
		{`{"source":1,"name":"n","source":1}`, CodeDuplicateKey, "/source"},
		{`{"name":"n","data":{"a":[1,1e308,1e400]}}`, CodeNumberOutOfRange, "/data/a/2"},
		{`{"name":"n","data":{"a":-1` + strings.Repeat("0", 309) + `}}`, CodeNumberOutOfRange, "/data/a"},
		{`{"name":"n","data":{"a":1.8e308}}`, CodeNumberOutOfRange, "/data/a"},
	} {
		e, err := ParseSent([]byte(tt.raw), Limits{})
		v, ok := errors.AsType[*Invalid](err)
		if !ok {
			t.Errorf("%.80s: accepted as %+v", tt.raw, e)
			continue
		}
		if v.Code != tt.code || v.Pointer != tt.pointer || v.Detail == "" {
			t.Errorf("%.80s: %+v, want %s at %q", tt.raw, v, tt.code, tt.pointer)
		}
		if !reflect.DeepEqual(e, Event{}) {
			t.Errorf("%.80s: an invalid event is not empty", tt.raw)
		}
	}
}

func TestWhatIsAtALimitIsAccepted(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`[`, 63) + strings.Repeat("]", 63)
	for _, raw := range []string{
		`{"name":"` + strings.Repeat(`\u0041`, 512) + `","id":"` + strings.Repeat("x", 256) + `"}`,
		`{"name":"n","user_id":"` + strings.Repeat(`x`, 512) + `","anonymous_id":"` + strings.Repeat("x", 512) + `"}`,
		`{"name":"n","data":{"a":` + deep + `},"context":{"a":` + deep + `},"x":[` + deep + `]}`,
		`{"name":"n","data":{"a":1.7976931348623157e308,"b":1e-400,"c":0e999999999999,"d":-0.0,"e":1` + strings.Repeat("0", 308) + `}}`,
		`{"name":"n","data":{"a":"\ud83d\ude00","b":"😀\u0000","A":1,"aa":1,"a\u0000":1}}`,
	} {
		if _, err := ParseSent([]byte(raw), Limits{}); err != nil {
			t.Errorf("%.80s: %v", raw, err)
		}
	}
	full := `{"name":"n","data":{"a":"` + strings.Repeat("x", 100) + `"}}`
	for size, want := range map[int]string{len(full): "", len(full) - 1: CodeTooLarge} {
		_, err := ParseSent([]byte(" "+full+"\n"), Limits{MaxBytes: size})
		v, _ := errors.AsType[*Invalid](err)
		if v == nil && want != "" || v != nil && v.Code != want {
			t.Errorf("limit %d, event of %d: %v, want %q", size, len(full), err, want)
		}
	}
}

func TestWhatIsNotJSONIsRefusedAtItsPlace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ raw, place string }{
		{``, "byte 0 (line 1, column 1)"},
		{` `, "byte 1 "},
		{"\ufeff", "byte 3 (line 1, column 1)"},
		{"\ufeff{x", "byte 4 (line 1, column 2)"},
		{"{\"name\":\"n\",\n \"é\":\"é\" x}", "byte 24 (line 2, column 10)"},
		{`{"name":"n"`, "byte 11 "},
		{`{"name":"n",}`, "byte 12 "},
		{`{,"name":"n"}`, "byte 1 "},
		{`{"name":"n"}}`, "byte 12 "},
		{`{"name":"n"} {"name":"n"}`, "byte 13 "},
		{`{"name" "n"}`, "byte 8 "},
		{`{"name":"n" "a":1}`, "byte 12 "},
		{`{name:"n"}`, "byte 1 "},
		{`{'name':"n"}`, "byte 1 "},
		{`{"name":"n}`, "byte 11 "},
		{"{\"name\":\"a\nb\"}", "byte 10 "},
		{"{\"name\":\"a\x00b\"}", "byte 10 "},
		{`{"name":"n","data":{"a":[1,]}}`, "byte 27 "},
		{`{"name":"n","data":{"a":[1 2]}}`, "byte 27 "},
		{`{"name":"n","data":{"a":[1}}}`, "byte 26 "},
		{`{"name":"n","data":{"a":01}}`, "byte 26 "},
		{`{"name":"n","data":{"a":-}}`, "byte 25 "},
		{`{"name":"n","data":{"a":1.}}`, "byte 26 "},
		{`{"name":"n","data":{"a":.5}}`, "byte 24 "},
		{`{"name":"n","data":{"a":1e}}`, "byte 26 "},
		{`{"name":"n","data":{"a":+1}}`, "byte 24 "},
		{`{"name":"n","data":{"a":0x10}}`, "byte 25 "},
		{`{"name":"n","data":{"a":NaN}}`, "byte 24 "},
		{`{"name":"n","data":{"a":Infinity}}`, "byte 24 "},
		{`{"name":"n","data":{"a":nul}}`, "byte 27 "},
		{`{"name":"n","data":{"a":trve}}`, "byte 26 "},
		{`{"name":"n","data":{"a":"\x41"}}`, "byte 25 "},
		{`{"name":"n","data":{"a":"\u00g1"}}`, "byte 25 "},
		{`{"name":"n","data":{"a":"\`, "byte 26 "},
		{`{"name":"n","data":{"a":1}/**/}`, "byte 26 "},
		{"{\"name\":\"n\",\u00a0\"a\":1}", "byte 12 "},
		{"{\"name\":\"n\",\"a\":\xff}", "byte 16 "},
		// The flaw that only this event has does not hide that the rest is
		// no JSON.
		{`{"name":5,"data":{"a":1,"a":2,}}`, "byte 30 "},
	} {
		if json.Valid([]byte(strings.TrimPrefix(tt.raw, "\ufeff"))) {
			t.Errorf("%s is JSON", tt.raw)
		}
		_, err := ParseSent([]byte(tt.raw), Limits{})
		v, _ := errors.AsType[*Invalid](err)
		if v == nil || v.Code != CodeInvalidJSON || v.Pointer != "" || !strings.Contains(v.Detail, "at "+tt.place) {
			t.Errorf("%q: %v, want %s", tt.raw, err, tt.place)
		}
	}
}

func TestUnknownMembersAreKeptAsSent(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{"a":1,"name":"n"}`:                                    `"a":1`,
		`{"name":"n", "a" : [ 1 ] , "b":2 }`:                    `"a" : [ 1 ] , "b":2`,
		`{"a":1,"name":"n","b":{"c":2},"id":"i","d":3}`:         `"a":1,"b":{"c":2},"d":3`,
		`{"name":"n","source":"me","received_at":0,"ip":"::1"}`: `"source":"me","received_at":0,"ip":"::1"`,
		`{"name":"n","traceparent":"` + traceparent + `"}`:      `"traceparent":"` + traceparent + `"`,
	} {
		e, err := ParseSent([]byte(raw), Limits{})
		if err != nil || string(e.Extra) != want {
			t.Errorf("%s: %s, %v", raw, e.Extra, err)
		}
	}
}

func TestExtraLosesNothingOfEitherSide(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, context, want string }{
		{"no context", ``, `{"extra":{"a":1,"b":2}}`},
		{"empty context", ` {} `, `{"extra":{"a":1,"b":2}}`},
		{"context without extra", `{"k" : {"extra":{"a":0}} }`, `{"k" : {"extra":{"a":0}} ,"extra":{"a":1,"b":2}}`},
		{"own extra, other names", `{"extra":{ "c":{"a":0} } ,"k":1}`, `{"extra":{ "c":{"a":0} ,"a":1,"b":2} ,"k":1}`},
		{"own extra, empty", `{"k":1,"extra":{ }}`, `{"k":1,"extra":{ "a":1,"b":2}}`},
		{"own extra, a name in both", `{"extra":{"\u0061":0}}`, `{"extra":{"\u0061":0},"extra_":{"a":1,"b":2}}`},
		{"own extra is no object", `{"extra":[0],"k":1}`, `{"extra":[0],"k":1,"extra_":{"a":1,"b":2}}`},
		{"own extra is null", `{"ex\u0074ra":null}`, `{"ex\u0074ra":null,"extra_":{"a":1,"b":2}}`},
		{"the other names are taken too", `{"extra":0,"extra_":0,"extra___":0}`, `{"extra":0,"extra_":0,"extra___":0,"extra____":{"a":1,"b":2}}`},
		{"only the other name is taken", `{"extra_":0}`, `{"extra_":0,"extra":{"a":1,"b":2}}`},
	} {
		e := Event{Name: "n", Context: json.RawMessage(tt.context), Extra: []byte(`"a":1,"b":2`)}
		want := `{"id":"","type":"","name":"n","data":{},"context":` + tt.want + `}`
		if got := string(e.Append(nil)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, want)
		}
		if err := Check(e.Append(nil), Limits{}); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestStoredEventsOfOtherProducersAreRead(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]Event{
		`{"name":"event-1","data":{"square":1}}`: {Type: TypeTrack, Name: "event-1", Data: json.RawMessage(`{"square":1}`)},
		`{"data":null,"shard":7,"name":"n","id":"","type":""}` + "\n": {
			Type: TypeTrack, Name: "n", Extra: []byte(`"shard":7`)},
		`{"source":"web","ip":"::1","received_at":"2026-11-23T10:00:00Z","name":"n"}`: {
			Type: TypeTrack, Name: "n", Source: "web", IP: "::1", ReceivedAt: "2026-11-23T10:00:00Z"},
		`{"traceparent" : "` + traceparent + `","name":"n"}`: {Type: TypeTrack, Name: "n", Traceparent: traceparent},
		`{"traceparent":null,"name":"n"}`:                    {Type: TypeTrack, Name: "n"},
		// What is no traceparent is somebody's own member, and no reason to
		// refuse the event.
		`{"a":1,"traceparent":"` + traceparent[:54] + `","name":"n"}`: {
			Type: TypeTrack, Name: "n", Extra: []byte(`"a":1,"traceparent":"` + traceparent[:54] + `"`)},
		`{"traceparent":{"trace":[1]},"name":"n"}`: {Type: TypeTrack, Name: "n", Extra: []byte(`"traceparent":{"trace":[1]}`)},
	} {
		if got, err := ParseStored([]byte(raw)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
	}
	for raw, code := range map[string]string{
		`{"data":{}}`:                       CodeRequired,
		`{"name":"n","data":"eyJhIjoxfQ"}`:  CodeInvalidType,
		`name=n`:                            CodeInvalidJSON,
		`{"name":"n","data":{"a":1,"a":2}}`: CodeDuplicateKey,
		`{"traceparent":"` + traceparent + `","name":"n","traceparent":1}`: CodeDuplicateKey,
		`{"traceparent":1,"name":"n","traceparent":"` + traceparent + `"}`: CodeDuplicateKey,
	} {
		_, err := ParseStored([]byte(raw))
		if v, _ := errors.AsType[*Invalid](err); v == nil || v.Code != code {
			t.Errorf("%s: %v, want %s", raw, err, code)
		}
	}
}

// The deepest event that may be sent must be readable once it is stored, with
// its unknown members two levels deeper.
func TestTheDeepestSentEventIsReadFromTheStream(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", mostDepth) + strings.Repeat("]", mostDepth)
	e, err := ParseSent([]byte(`{"name":"n","x":`+deep+`}`), Limits{MaxDepth: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseStored(e.Append(nil)); err != nil {
		t.Error(err)
	}
	if _, err := ParseSent([]byte(`{"name":"n","x":[`+deep+`]}`), Limits{MaxDepth: 1 << 30}); err == nil {
		t.Error("the bound of the depth does not hold")
	}
}
