package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// seeds are bodies of every kind: good, bad in one way each, and cut.
var seeds = []string{
	typical,
	`[` + typical + `,{"name":1},{"name":"b","x":[1,"\ud83d\ude00"],"source":null}]`,
	`{"a":{},"events":[{"name":"n"},[]],"b":""}`,
	`{"events":[{"name":"n"}],"name":"n"}`,
	"{\"name\":\"a\"}\n{\"name\":}\r\n\n{\"name\":\"b\"}{}",
	"\ufeff {\"name\":\"caf\\u00e9 é\",\"timestamp\":\"2024-02-29T23:59:59.5+01:00\"}",
	`{"name":"n","a":1,"context":{"extra":{"a":2,"\u0061b":[]}},"b":1}`,
	`{"name":"n","a":1,"context":{"extra":null,"extra_":1},"type":"page","b":1}`,
	`{"name":"n","data":{"a":1,"\u0061":2,"b":1e400,"c":-0.1E+3,"d":01}}`,
	`{"name":"n","data":{"a":"\ud800","b":"` + "\xff" + `","c":"\x","d":"\u12"}}`,
	`{"name":"n","data":` + strings.Repeat(`[`, 70) + strings.Repeat(`]`, 70) + `}`,
	`{"name":"n","data":{"0":0,"1":0,"2":0,"3":0,"4":0,"5":0,"6":0,"7":0,"8":0,"9":0,"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,` +
		`"g":0,"h":0,"i":{"i":0,"j":0},"j":0,"k":0,"l":0,"m":0,"n":0,"o":0,"p":0,"q":0,"r":0,"\u0069":0}}`,
	`{"name":"n","data":[true,false,null,nul,"` + "\x1f" + `",]}`,
	`{"id":"","type":"","name":"n","received_at":"2026-11-23T10:00:00Z","ip":"::1","source":"s"}`,
	`{"name":"n","a":1,"traceparent":"` + traceparent + `","b":2}`,
	`{"name":"n","a":1,"traceparent":"00-0","b":2,"traceparent":"` + traceparent + `"}`,
	`{"name":"n","tracep\u0061rent":"` + traceparent[:54] + `\u0031","b":2}`,
}

// check is Check by the standard library: slow, and written for being right.
func check(raw []byte, depth int) bool {
	if !json.Valid(raw) || !utf8.Valid(raw) {
		return false
	}
	for rest := raw; len(rest) > 0; {
		// A surrogate is one half of a pair: what the library decodes as
		// U+FFFD without having been sent that.
		i := bytes.IndexByte(rest, '\\')
		if i < 0 {
			break
		}
		if rest = rest[i:]; rest[1] != 'u' {
			rest = rest[2:]
			continue
		}
		unit, _ := strconv.ParseUint(string(rest[2:6]), 16, 16)
		rest = rest[6:]
		if unit < 0xd800 || unit > 0xdfff {
			continue
		}
		if unit > 0xdbff || len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
			return false
		}
		low, _ := strconv.ParseUint(string(rest[2:6]), 16, 16)
		if low < 0xdc00 || low > 0xdfff {
			return false
		}
		rest = rest[6:]
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return checkValue(d, depth)
}

func checkValue(d *json.Decoder, depth int) bool {
	token, err := d.Token()
	if err != nil {
		return false
	}
	switch v := token.(type) {
	case json.Number:
		f, _ := strconv.ParseFloat(string(v), 64)
		return !math.IsInf(f, 0)
	case json.Delim:
		if depth == 0 {
			return false
		}
		seen := map[string]bool{}
		for d.More() {
			if v == '{' {
				name, err := d.Token()
				if err != nil || seen[name.(string)] {
					return false
				}
				seen[name.(string)] = true
			}
			if !checkValue(d, depth-1) {
				return false
			}
		}
		_, err := d.Token()
		return err == nil
	}
	return true
}

// FuzzCheck states which JSON is accepted: by an oracle on top of encoding/json.
func FuzzCheck(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > defaultMaxBytes {
			return
		}
		err := Check(raw, Limits{})
		if want := check(raw, defaultMaxDepth); (err == nil) != want {
			t.Fatalf("%q: %v, accepted by the library: %t", raw, err, want)
		}
		v, _ := errors.AsType[*Invalid](err)
		if notJSON := v != nil && v.Code == CodeInvalidJSON; notJSON && json.Valid(raw) {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}

// FuzzParse states what becomes of an event: refused if it is not JSON;
// otherwise its stored form is valid and reads as the same event.
func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := ParseSent(raw, Limits{})
		body := bytes.TrimPrefix(raw, bom)
		if err != nil {
			v, _ := errors.AsType[*Invalid](err)
			if v == nil || v.Detail == "" || v.Code == "" || !utf8.ValidString(v.Pointer) {
				t.Fatalf("%q: %#v", raw, err)
			}
			// The library gives up at 10,000 levels; so deep ones count as JSON.
			if valid := json.Valid(body); valid == (v.Code == CodeInvalidJSON) && v.Code != CodeTooDeep {
				t.Fatalf("%q: JSON %t, %v", raw, valid, err)
			}
		} else {
			if !check(body, defaultMaxDepth+1) {
				t.Fatalf("%q is accepted", raw)
			}
			roundTrip(t, e)
		}
		if e, err := ParseStored(raw); err == nil {
			if e.Traceparent != "" && !IsTraceparent(e.Traceparent) {
				t.Fatalf("%q: traceparent %q", raw, e.Traceparent)
			}
			if !check(body, storedDepth+1) {
				t.Fatalf("%q is accepted as stored", raw)
			}
			roundTrip(t, e)
			if name, ok := Name(body); !ok || name != e.Name {
				t.Fatalf("%q: the name is %q, %t", raw, name, ok)
			}
		}
	})
}

func roundTrip(t *testing.T, e Event) {
	stored := e.Append(nil)
	if !check(stored, storedDepth+1) {
		t.Fatalf("stored as %s", stored)
	}
	got, err := ParseStored(stored)
	if err != nil {
		t.Fatalf("%s: %v", stored, err)
	}
	again := got.Append(nil)
	want := e
	want.Extra = nil
	if len(e.Extra) > 0 || len(e.Context) == 0 {
		want.Context = got.Context // compared below
	}
	if len(e.Data) == 0 {
		want.Data = json.RawMessage("{}")
	}
	if !reflect.DeepEqual(got, want) || !bytes.Equal(again, stored) {
		t.Fatalf("%+v\nis stored as %s\nand read as %+v", e, stored, got)
	}
	if name, ok := Name(stored); !ok || name != e.Name {
		t.Fatalf("%s: the name is %q, %t", stored, name, ok)
	}
	var context map[string]json.RawMessage
	if err := json.Unmarshal(got.Context, &context); err != nil {
		t.Fatal(err)
	}
	var sent map[string]json.RawMessage
	if len(e.Context) > 0 {
		if err := json.Unmarshal(e.Context, &sent); err != nil {
			t.Fatal(err)
		}
	}
	var extra map[string]json.RawMessage
	if err := json.Unmarshal(append(append([]byte{'{'}, e.Extra...), '}'), &extra); err != nil {
		t.Fatal(err)
	}
	for name, value := range sent {
		if name != "extra" && !bytes.Equal(context[name], value) {
			t.Fatalf("context %s: %s became %s", name, value, context[name])
		}
	}
	if len(extra) == 0 {
		return
	}
	// Every unknown member is in one place, beside the sender's own there.
	place, own := longest(sent), map[string]json.RawMessage(nil)
	if _, ok := context[place]; !ok {
		place = "extra"
		if sent["extra"] != nil {
			if err := json.Unmarshal(sent["extra"], &own); err != nil {
				t.Fatalf("merged into %s: %s", sent["extra"], stored)
			}
		}
	} else if !bytes.Equal(context["extra"], sent["extra"]) {
		t.Fatalf("own extra changed: %s", stored)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(context[place], &members); err != nil || len(members) != len(own)+len(extra) {
		t.Fatalf("%s and %s became %s: %v", sent["extra"], e.Extra, context[place], err)
	}
	for _, from := range []map[string]json.RawMessage{own, extra} {
		for name, value := range from {
			if !bytes.Equal(members[name], value) {
				t.Fatalf("%s is lost in %s", name, context[place])
			}
		}
	}
}

// longest returns the name that unknown members get if extra cannot take them.
func longest(context map[string]json.RawMessage) string {
	place := "extra_"
	for {
		longer := false
		for name := range context {
			if strings.HasPrefix(name, place) && strings.Trim(name[len(place):], "_") == "" {
				place, longer = name+"_", true
			}
		}
		if !longer {
			return place
		}
	}
}

// FuzzSentReader states that a body gives the same events as its parts do.
func FuzzSentReader(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var (
			r     SentReader
			body  = bytes.TrimPrefix(raw, bom)
			valid = json.Valid(body)
			parts []json.RawMessage
		)
		got, err := readParts(t, &r, raw, JSON)
		if v, _ := errors.AsType[*Invalid](err); v != nil {
			if valid && v.Code != CodeAmbiguous && v.Code != CodeDuplicateKey {
				t.Fatalf("%q: %v", raw, err)
			}
		} else {
			if !valid && bytes.Count(raw, []byte{'['})+bytes.Count(raw, []byte{'{'}) < 10_000 {
				t.Fatalf("%q is accepted", raw)
			}
			if valid {
				switch r.shape {
				case single:
					parts = []json.RawMessage{bytes.Trim(body, " \t\r\n")}
				case array:
					if err := json.Unmarshal(body, &parts); err != nil {
						t.Fatal(err)
					}
				case envelope:
					var o map[string]json.RawMessage
					if err := json.Unmarshal(body, &o); err != nil {
						t.Fatal(err)
					}
					if err := json.Unmarshal(o["events"], &parts); err != nil {
						t.Fatal(err)
					}
				}
				compare(t, got, parts)
			}
		}
		parts = nil
		for line := range bytes.SplitSeq(body, []byte{'\n'}) {
			if line = bytes.Trim(line, " \t\r"); len(line) > 0 {
				parts = append(parts, line)
			}
		}
		if got, err = readParts(t, &r, raw, NDJSON); err != nil {
			t.Fatal(err)
		}
		compare(t, got, parts)
	})
}

func readParts(t *testing.T, r *SentReader, body []byte, form Form) (parts []json.RawMessage, err error) {
	var e Event
	r.Reset(body, form, Limits{})
	for ok, invalid, raw := r.Next(&e); ok; ok, invalid, raw = r.Next(&e) {
		want, err := ParseSent(raw, Limits{})
		if (err == nil) != (invalid == nil) && !bytes.HasPrefix(raw, bom) {
			t.Fatalf("%q: %v alone and %v among others", raw, err, invalid)
		}
		if invalid == nil && !reflect.DeepEqual(e, want) {
			t.Fatalf("%q: %+v alone and %+v among others", raw, want, e)
		}
		parts = append(parts, bytes.Trim(raw, " \t\r"))
	}
	return parts, r.Err()
}

func compare(t *testing.T, got, want []json.RawMessage) {
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("event %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func FuzzMembers(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var names []string
		err := Members(raw, func(name string, value []byte) bool {
			if !json.Valid(value) && bytes.Count(value, []byte{'['})+bytes.Count(value, []byte{'{'}) < 10_000 {
				t.Fatalf("%q yields %q", raw, value)
			}
			names = append(names, name)
			return true
		})
		var o map[string]json.RawMessage
		if reference := json.Unmarshal(raw, &o); reference != nil && err == nil && len(raw) < 10_000 {
			t.Fatalf("%q: %v", raw, reference)
		}
		if err == nil && len(raw) < 10_000 && (o == nil || len(o) != len(names)) {
			t.Fatalf("%q: names %q", raw, names)
		}
		if all, again := AppendMembers(nil, raw, func(string) bool { return false }); (err == nil) != (again == nil) {
			t.Fatalf("%q: Members says %v, AppendMembers %v", raw, err, again)
		} else if err == nil && len(raw) < 10_000 {
			var same map[string]json.RawMessage
			if err := json.Unmarshal([]byte("{"+string(all)+"}"), &same); err != nil || !reflect.DeepEqual(same, o) {
				t.Fatalf("%q: %v, copied as %q", raw, err, all)
			}
		}
		n := 0
		err = Elements(raw, func([]byte) bool { n++; return true })
		var a []json.RawMessage
		if reference := json.Unmarshal(raw, &a); len(raw) < 10_000 && ((reference == nil && a != nil) != (err == nil) || err == nil && n != len(a)) {
			t.Fatalf("%q: %d elements, %v; the library: %d, %v", raw, n, err, len(a), reference)
		}
	})
}

func FuzzTimestamp(f *testing.F) {
	f.Add("2024-02-29T23:59:59.999999999999+14:00")
	f.Add("2026-02-29T00:00:00Z")
	f.Fuzz(func(t *testing.T, s string) {
		var u time.Time
		if err := u.UnmarshalText([]byte(s)); isTimestamp([]byte(s)) && err != nil {
			t.Fatalf("%q: %v", s, err)
		}
	})
}
