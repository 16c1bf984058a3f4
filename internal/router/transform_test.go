package router

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
)

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestTransformsKeepTheBytesTheyDoNotTouch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, transform, data, want string
		context, wantContext        string
	}{
		{name: "nothing there", transform: `{"drop":["/data/x","/data/a/b"],"hash":["/data/y"],"rename":{"from":"/data/z","to":"/data/n"}}`,
			data: `{ "a" : 1.50, "B\u0041":"\u00e9\/" }`, want: `{ "a" : 1.50, "B\u0041":"\u00e9\/" }`},
		{name: "drop the first", transform: `{"drop":["/data/a"]}`, data: `{ "a" : 1 , "b" : 2 }`, want: `{ "b" : 2 }`},
		{name: "drop the last", transform: `{"drop":["/data/b"]}`, data: `{ "a" : 1 , "b" : 2 }`, want: `{ "a" : 1 }`},
		{name: "drop the middle", transform: `{"drop":["/data/b"]}`, data: `{"a":1,"b":{"b":[{}]},"c":1e2}`, want: `{"a":1,"c":1e2}`},
		{name: "drop the only one", transform: `{"drop":["/data/a"]}`, data: `{"a":"},{"}`, want: `{}`},
		{name: "drop a spelled out name", transform: `{"drop":["/data/password"]}`, data: `{"p\u0061ssword":1,"b":2}`, want: `{"b":2}`},
		{name: "drop a name with / and ~", transform: `{"drop":["/data/a~1b~0c"]}`, data: `{"a/b~c":1,"b":2}`, want: `{"b":2}`},
		{name: "drop an empty name", transform: `{"drop":["/data/"]}`, data: `{"":1,"b":2}`, want: `{"b":2}`},
		{name: "drop deep", transform: `{"drop":["/data/a/b/c"]}`, data: `{"a":{"b":{"c":1,"d":0.10}},"c":1}`, want: `{"a":{"b":{"d":0.10}},"c":1}`},
		{name: "drop an element", transform: `{"drop":["/data/a/1"]}`, data: `{"a":[ 1, 2 ,3]}`, want: `{"a":[ 1,3]}`},
		{name: "drop in an element", transform: `{"drop":["/data/a/0/x"]}`, data: `{"a":[{"x":1,"y":2},{"x":3}]}`, want: `{"a":[{"y":2},{"x":3}]}`},
		{name: "an index is exact", transform: `{"drop":["/data/a/01","/data/a/-","/data/a/9"]}`, data: `{"a":[1,2]}`, want: `{"a":[1,2]}`},
		{name: "drop all of data", transform: `{"drop":["/data"]}`, data: `{"a":1}`, want: `{}`},
		{name: "set new and old", transform: `{"set":{"/data/b":{"x":[1, 2.0]},"/data/a":null}}`, data: `{"a":1,"c":3}`, want: `{"a":null,"c":3,"b":{"x":[1, 2.0]}}`},
		{name: "set makes objects", transform: `{"set":{"/data/x/y/z":"é"}}`, data: `{}`, want: `{"x":{"y":{"z":"é"}}}`},
		{name: "set with a name to escape", transform: `{"set":{"/data/a\"<\n":1}}`, data: `{}`, want: `{"a\"<\n":1}`},
		{name: "set an element", transform: `{"set":{"/data/a/0":9,"/data/a/2":7,"/data/a/-":8}}`, data: `{"a":[1,2]}`, want: `{"a":[9,2,7,8]}`},
		{name: "set all of data", transform: `{"set":{"/data":{"v":2}}}`, data: `{"a":1}`, want: `{"v":2}`},
		{name: "rename", transform: `{"rename":{"from":"/data/total","to":"/data/revenue"}}`, data: `{"total":99.90,"x":1}`, want: `{"x":1,"revenue":99.90}`},
		{name: "rename onto another", transform: `{"rename":{"from":"/data/a","to":"/data/b"}}`, data: `{"a":1,"b":2}`, want: `{"b":1}`},
		{name: "rename up", transform: `{"rename":{"from":"/data/properties","to":"/data"}}`, data: `{"properties":{"a":1.0},"b":2}`, want: `{"a":1.0}`},
		{name: "rename to context", transform: `{"rename":{"from":"/data/page","to":"/context/page"}}`, data: `{"page":{"u":"\/"}}`, want: `{}`,
			context: `{"a":1}`, wantContext: `{"a":1,"page":{"u":"\/"}}`},
		{name: "steps in order", transform: `[{"set":{"/data/a":1}},{"rename":{"from":"/data/a","to":"/data/b"}},{"drop":["/data/a"]},{"set":{"/data/a":2}}]`,
			data: `{}`, want: `{"b":1,"a":2}`},
		{name: "within a step drop, rename, set, hash", transform: `{"hash":["/data/c"],"set":{"/data/c":"s"},"rename":{"from":"/data/a","to":"/data/b"},"drop":["/data/b"]}`,
			data: `{"a":1,"b":2}`, want: `{"b":1,"c":"` + sha("s") + `"}`},
		{name: "hash", transform: `{"hash":["/data/email"]}`, data: `{"email":"a\u0040b.example"}`, want: `{"email":"` + sha("a@b.example") + `"}`},
		{name: "hash with salt", transform: `{"hash":["/data/email","/data/n","/data/o","/data/null"],"salt":"s"}`,
			data: `{"email":"a","n":1.0,"o":{"a": 1},"null":null}`,
			want: `{"email":"` + sha("sa") + `","n":"` + sha("s1.0") + `","o":"` + sha(`s{"a": 1}`) + `","null":null}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.context == "" {
				test.context, test.wantContext = `{"k": 1E+2}`, `{"k": 1E+2}`
			}
			route := parse(t, ruleWith(`"transform":`+test.transform)).Route("crm")
			raw := stored("a", test.data, test.context)
			before := string(raw)
			out, _, wanted, err := route.Apply(raw)
			if err != nil || !wanted {
				t.Fatalf("wanted %v, error %v", wanted, err)
			}
			if want := string(stored("a", test.want, test.wantContext)); string(out) != want {
				t.Errorf("\n got %s\nwant %s", out, want)
			}
			if string(raw) != before {
				t.Errorf("the stored event was changed: %s", raw)
			}
		})
	}
}

func TestTransformsChangeTheFieldsOfAnEvent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		transform string
		want      func(e *event.Event)
	}{
		{`{"drop":["/ip","/user_id","/timestamp","/received_at","/source"]}`, func(e *event.Event) {
			e.IP, e.UserID, e.Timestamp, e.ReceivedAt, e.Source = "", "", "", "", ""
		}},
		{`{"hash":["/user_id","/ip"],"salt":"x"}`, func(e *event.Event) { e.UserID, e.IP = sha("xu1"), sha("x203.0.113.7") }},
		{`{"set":{"/name":"b","/type":"page","/timestamp":"2026-01-01T00:00:00Z"}}`, func(e *event.Event) {
			e.Name, e.Type, e.Timestamp = "b", event.TypePage, "2026-01-01T00:00:00Z"
		}},
		{`{"rename":[{"from":"/user_id","to":"/data/user"},{"from":"/data/email","to":"/user_id"}]}`, func(e *event.Event) {
			e.UserID, e.Data = "é", []byte(`{"n":1,"user":"u1"}`)
		}},
		{`{"rename":{"from":"/data/absent","to":"/user_id"}}`, func(*event.Event) {}},
	} {
		raw := stored("a", `{"email":"\u00e9","n":1}`, "")
		want, err := event.ParseStored(stored("a", `{"email":"\u00e9","n":1}`, ""))
		if err != nil {
			t.Fatal(err)
		}
		test.want(&want)
		out, _, _, err := parse(t, ruleWith(`"transform":`+test.transform)).Route("crm").Apply(raw)
		if err != nil || string(out) != string(want.Append(nil)) {
			t.Errorf("%s: %v\n got %s\nwant %s", test.transform, err, out, want.Append(nil))
		}
	}
}

func TestATransformThatCannotBeDoneIsAnErrorOfItsRule(t *testing.T) {
	t.Parallel()
	for transform, want := range map[string]string{
		`{"set":{"/data/text/x":1}}`:                               `set /data/text/x: what "x" should be a member of is a string`,
		`{"set":{"/data/list/7":1}}`:                               `an array of 1 elements has no place "7"`,
		`{"rename":{"from":"/data/n","to":"/user_id"}}`:            "/user_id is a string and cannot become a number",
		`{"rename":{"from":"/data/n","to":"/data"}}`:               "/data is an object and cannot become a number",
		`{"rename":{"from":"/data/text","to":"/timestamp"}}`:       "not a valid event",
		`{"rename":{"from":"/data/nothing","to":"/name"}}`:         "not a valid event",
		`{"rename":{"from":"/data/text","to":"/type"}}`:            "not a valid event",
		`[{"drop":["/ip"]},{"set":{"/context/page/path/deep":1}}]`: "set /context/page/path/deep",
	} {
		table := parse(t, ruleWith(`"transform":`+transform))
		raw := stored("a", `{"text":"x","n":1,"list":[1],"nothing":null}`, `{"page":{"path":1}}`)
		out, rule, wanted, err := table.Route("crm").Apply(raw)
		if err == nil || wanted || out != nil || rule != "rules[0] crm" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: out %q, rule %q, wanted %v, error %v; want %q", transform, out, rule, wanted, err, want)
		}
		if s := table.Stats()[0]; s.Failed != 1 || s.Matched != 0 {
			t.Errorf("%s: %+v", transform, s)
		}
	}
}
