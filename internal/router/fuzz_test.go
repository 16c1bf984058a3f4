package router

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
)

func FuzzParse(f *testing.F) {
	for _, doc := range documents(f) {
		f.Add(doc)
	}
	raw := stored("order_placed", `{"total":120}`, "")
	f.Fuzz(func(t *testing.T, doc []byte) {
		table, err := Parse(doc)
		report := Check(doc, []string{"crm"})
		if (err == nil) != report.OK() {
			t.Fatalf("Parse says %v, Check %v", err, report.Faults)
		}
		if err != nil {
			if table != nil || err.Error() == "" {
				t.Fatal("a table and an error, or an error that says nothing")
			}
			return
		}
		if _, err := report.WriteTo(&bytes.Buffer{}); err != nil {
			t.Fatal(err)
		}
		agree(t, table, raw)
	})
}

// everything is a document that uses all that rules can do.
const everything = `[
	{"destination_name":"a","enabled_events":["a","b*"],"when":"event.data.a.b == 1 || event.data.exists(k, k == 'x')"},
	{"destination_name":"a","enabled_events":["*"],"disabled_events":["c*"],"sample":0.5,"when":"size(event.context) > 1 && event.data.n * 2.0 > 3.0"},
	{"destination_name":"a","enabled_events":["c*"]},
	{"destination_name":"b","enabled_events":["*"],"transform":[
		{"drop":["/data/a","/data/list/1","/context/a/b","/ip"]},
		{"rename":[{"from":"/data/b","to":"/data/c/d"},{"from":"/data/user","to":"/user_id"},{"from":"/context/c","to":"/data/x"}]},
		{"set":{"/data/set/deep":[1.50],"/context/z":null}},
		{"hash":["/data/e","/user_id","/data/list/0","/data/o"],"salt":"s"}]},
	{"destination_name":"c","enabled_events":["*"],"transform":{"rename":{"from":"/data/inner","to":"/data"}}},
	{"destination_name":"d","enabled_events":["*"],"enabled":false}]`

func FuzzApply(f *testing.F) {
	table, err := Parse([]byte(everything))
	if err != nil {
		f.Fatal(err)
	}
	for _, data := range []string{
		`{}`, `{"a":{"b":1},"n":1.50,"x":"\u00e9"}`, `{"b":[1,{"c":"}"}],"user":"u2","e":"mail","list":["a",2,3],"o":{"p":1}}`,
		`{"inner":{"a":1E5}}`, `{"inner":7,"user":7}`, ` { "list" : [ ] , "set" : { } } `, `{"set":7}`, `{"c":{"d":{}}}`,
	} {
		f.Add(stored("a", data, data))
		f.Add(stored("order", data, ""))
	}
	f.Add([]byte(`{"name":"a","plan":"pro"}`))
	f.Add([]byte(`{"name":"a"`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		agree(t, table, raw)
	})
}

// agree checks what must hold for every table and every input: Apply and
// Explain decide the same, what is sent is a valid stored event with the id it
// had, and nothing changes the input.
func agree(t *testing.T, table *Table, raw []byte) {
	t.Helper()
	before := bytes.Clone(raw)
	explanations, explainErr := table.Explain(raw)
	sends := map[string]Explanation{}
	for _, x := range explanations {
		if x.Sends || x.Err != nil {
			sends[x.Destination] = x
		}
		if x.Reason == "" {
			t.Fatalf("%s: no reason", x.Name)
		}
	}
	if err := WriteExplanations(&bytes.Buffer{}, explanations); err != nil {
		t.Fatal(err)
	}
	in, parseErr := event.ParseStored(raw)
	if (parseErr != nil) != (explainErr != nil) {
		t.Fatalf("Explain says %v, the event %v", explainErr, parseErr)
	}
	for _, destination := range table.Destinations() {
		out, rule, wanted, err := table.Route(destination).Apply(raw)
		if !bytes.Equal(raw, before) {
			t.Fatalf("%s: Apply changed the event", destination)
		}
		if explainErr != nil {
			continue // Apply may filter, or pass on, what it need not read
		}
		x, sent := sends[destination]
		if wanted != x.Sends || (err != nil) != (x.Err != nil) || sent && rule != x.Name || wanted && !bytes.Equal(out, x.Out) {
			t.Fatalf("%s: Apply says %q %v %v, Explain %+v\n%s", destination, rule, wanted, err, x, raw)
		}
		if !wanted {
			continue
		}
		e, err := event.ParseStored(out)
		if err != nil || e.ID != in.ID || !json.Valid(out) {
			t.Fatalf("%s: %s makes %s of %s: %v", destination, rule, out, raw, err)
		}
		again, _, _, _ := table.Route(destination).Apply(raw)
		if !bytes.Equal(again, out) {
			t.Fatalf("%s: a second reading sends something else", destination)
		}
	}
}

func TestExplainAndApplyAgree(t *testing.T) {
	t.Parallel()
	for name, doc := range documents(t) {
		table, err := Parse(doc)
		if err != nil {
			continue
		}
		for _, event := range []string{"signed_up", "order_placed", "order_draft_saved", "page_view"} {
			for _, data := range []string{`{}`, `{"total":120,"password":"x","email":"a@b.example","phone":7}`, `{"total":"many"}`} {
				t.Log(name, event, data)
				agree(t, table, stored(event, data, `{"routed":1}`))
			}
		}
	}
}
