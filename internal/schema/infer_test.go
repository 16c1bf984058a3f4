package schema

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
)

// proposalFor returns what is proposed for n events named e, in one line.
func proposalFor(t *testing.T, n int, data func(i int) string) string {
	t.Helper()
	in := &Inference{}
	for i := range n {
		in.Add(&event.Event{Name: "e", Data: []byte(data(i))})
	}
	doc, err := in.Document()
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Schemas []struct{ Schema json.RawMessage }
	}
	if err := json.Unmarshal(doc, &d); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.SplitSeq(string(d.Schemas[0].Schema), "\n") {
		out.WriteString(strings.TrimSpace(line))
	}
	return strings.ReplaceAll(out.String(), `": `, `":`)
}

func TestProposalsSayWhatEventsHaveInCommon(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		n    int
		data func(i int) string
		want string
	}{
		"few events": {19, func(int) string { return `{"a":"x"}` }, `{"type":"object","properties":{"a":{"type":"string"}}}`},
		"required":   {20, func(int) string { return `{"a":"x","b":true}` }, `{"type":"object","required":["a","b"],"properties":{"a":{"type":"string"},"b":{"type":"boolean"}}}`},
		"optional": {40, func(i int) string {
			if i == 7 {
				return `{}`
			}
			return `{"a":"x"}`
		}, `{"type":"object","properties":{"a":{"type":"string"}}}`},
		"integers": {20, func(i int) string { return fmt.Sprintf(`{"level":%d,"ratio":%d.5,"big":%de2}`, i-3, i, i) },
			`{"type":"object","required":["level","ratio","big"],"properties":{"level":{"type":"integer"},"ratio":{"type":"number"},"big":{"type":"integer"}}}`},
		"money has fractions": {20, func(i int) string {
			return fmt.Sprintf(`{"unitPrice":%d,"item_count":%d,"tax_free":1,"totality":1}`, i, i)
		},
			`{"type":"object","required":["unitPrice","item_count","tax_free","totality"],"properties":{"unitPrice":{"type":"number","minimum":0},` +
				`"item_count":{"type":"integer","minimum":0},"tax_free":{"type":"number","minimum":0},"totality":{"type":"integer"}}}`},
		"a refund": {20, func(i int) string { return fmt.Sprintf(`{"total":%d}`, i-10) }, `{"type":"object","required":["total"],"properties":{"total":{"type":"number"}}}`},
		"few among many": {60, func(i int) string { return fmt.Sprintf(`{"currency":%q}`, []string{"EUR", "USD", "CHF"}[i%3]) },
			`{"type":"object","required":["currency"],"properties":{"currency":{"type":"string","enum":["CHF","EUR","USD"]}}}`},
		"few among few": {49, func(i int) string { return fmt.Sprintf(`{"currency":%q}`, []string{"EUR", "USD", "CHF"}[i%3]) },
			`{"type":"object","required":["currency"],"properties":{"currency":{"type":"string"}}}`},
		"one of a kind among many": {60, func(i int) string {
			if i == 9 {
				return `{"city":"Rome"}`
			}
			return `{"city":"Bonn"}`
		}, `{"type":"object","required":["city"],"properties":{"city":{"type":"string"}}}`},
		"or null": {60, func(i int) string {
			if i%2 == 0 {
				return `{"plan":null}`
			}
			return `{"plan":"free"}`
		}, `{"type":"object","required":["plan"],"properties":{"plan":{"type":["string","null"]}}}`},
		"many, or null": {200, func(i int) string {
			if i%2 == 0 {
				return `{"plan":null}`
			}
			return `{"plan":"free"}`
		}, `{"type":"object","required":["plan"],"properties":{"plan":{"type":["string","null"],"enum":["free",null]}}}`},
		"formats": {20, func(i int) string {
			return fmt.Sprintf(`{"at":"2026-11-%02dT10:00:00+01:00","day":"2026-11-%02d","id":"01980000-0000-7000-8000-0000000000%02d","mail":"a%d@shop.example","url":"https://shop.example/%d","ref":"a:%d","ip":"10.0.0.%d"}`,
				i+1, i+1, i+10, i, i, i, i)
		}, `{"type":"object","required":["at","day","id","mail","url","ref","ip"],"properties":{"at":{"type":"string","format":"date-time"},"day":{"type":"string","format":"date"},` +
			`"id":{"type":"string","format":"uuid"},"mail":{"type":"string","format":"email"},"url":{"type":"string","format":"uri"},"ref":{"type":"string"},"ip":{"type":"string","format":"ipv4"}}}`},
		"nearly a format": {20, func(i int) string {
			if i == 19 {
				return `{"at":"tomorrow"}`
			}
			return `{"at":"2026-11-23"}`
		}, `{"type":"object","required":["at"],"properties":{"at":{"type":"string"}}}`},
		"nested": {20, func(i int) string {
			return fmt.Sprintf(`{"user":{"plan":"x%d","age":3},"products":[{"sku":"a%d","price":1},{"sku":"b","price":2,"gift":true}],"tags":[],"mixed":[1,"a",null]}`, i, i)
		}, `{"type":"object","required":["user","products","tags","mixed"],"properties":{"user":{"type":"object","required":["plan","age"],"properties":{"plan":{"type":"string"},"age":{"type":"integer","minimum":0}}},` +
			`"products":{"type":"array","items":{"type":"object","required":["sku","price"],"properties":{"sku":{"type":"string"},"price":{"type":"number","minimum":0},"gift":{"type":"boolean"}}}},` +
			`"tags":{"type":"array","items":{}},"mixed":{"type":"array","items":{"type":["string","integer","null"]}}}}`},
		"names that are data": {20, func(i int) string {
			var members []string
			for j := range 10 {
				members = append(members, fmt.Sprintf(`"sku-%d":{"n":%d,"c":"x"}`, i*10+j, j))
			}
			return `{"stock":{` + strings.Join(members, ",") + `}}`
		}, `{"type":"object","required":["stock"],"properties":{"stock":{"type":"object","additionalProperties":{"type":"object","required":["n","c"],` +
			`"properties":{"n":{"type":"integer"},"c":{"type":"string","enum":["x"]}}}}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := proposalFor(t, c.n, c.data); got != c.want {
				t.Errorf("%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestAProposalHasASchemaForEachNameAndVersion(t *testing.T) {
	t.Parallel()
	in := &Inference{}
	add := func(name, context, data string) {
		in.Add(&event.Event{Name: name, Context: []byte(context), Data: []byte(data)})
	}
	add("b", `{"schema_version":2}`, `{"x":1}`)
	add("a", ``, ``)
	add("b", `{"protocols":{"event_version":"1"}}`, `{"x":"s"}`)
	add("b", ``, `{"x":true}`)
	add("b", `{"schema_version":[]}`, `{}`)
	add("b", `{"schema_version":"`+strings.Repeat("9", 65)+`"}`, `{}`)
	doc, err := in.Document()
	if err != nil {
		t.Fatal(err)
	}
	set, err := Parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	var labels []string
	for _, e := range set.Entries() {
		labels = append(labels, e.Label()+" "+e.Mode.String())
	}
	if got := strings.Join(labels, ", "); got != "a observe, b@2 observe, b@1 observe, b observe" || in.Skipped != 2 {
		t.Errorf("%s, %d skipped", got, in.Skipped)
	}
	if doc, err := (&Inference{}).Document(); err != nil || !strings.Contains(string(doc), `"schemas": []`) {
		t.Errorf("of nothing: %s, %v", doc, err)
	}
}

// inferred checks that every event from which a document was inferred passes.
func checkInference(t testing.TB, seed uint64) {
	g := newGenerator(seed)
	roots := make([]any, 1+g.IntN(3))
	for i := range roots {
		roots[i] = g.root()
	}
	in := &Inference{Seen: 1 + g.IntN(30)}
	var events []event.Event
	for range 1 + g.IntN(150) {
		which := g.IntN(len(roots))
		data, ok := g.like(roots[which], 4).(map[string]any)
		if !ok {
			data = map[string]any{"v": g.value(3)}
		}
		ev := event.Event{Name: fmt.Sprint("e", which), Data: g.write(data), Context: []byte(pick(g, ``, `{}`, `{"schema_version":"1"}`, `{"schema_version":2}`))}
		if event.Check(ev.Data, event.Limits{}) != nil {
			continue
		}
		in.Add(&ev)
		events = append(events, ev)
	}
	doc, err := in.Document()
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	set, err := Parse(doc)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	var r Report
	for i := range events {
		if set.Check(&events[i], &r) != nil {
			t.Fatalf("seed %d: %s breaks %v\n%s", seed, events[i].Data, r.Violations, doc)
		}
	}
}

func TestEveryEventPassesWhatWasInferredFromIt(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		checkInference(t, seed)
	}
}

func FuzzInference(f *testing.F) {
	f.Add(uint64(7))
	f.Fuzz(func(t *testing.T, seed uint64) { checkInference(t, seed) })
}

func TestInferenceIsBounded(t *testing.T) {
	t.Parallel()
	in := &Inference{}
	for i := range 1100 {
		in.Add(&event.Event{Name: fmt.Sprint("e", i), Data: []byte(strings.Repeat(`{"a":[`, 100) + strings.Repeat(`]}`, 100))})
	}
	for i := range 2000 {
		in.Add(&event.Event{Name: "e0", Data: []byte(fmt.Sprintf(`{"m%d":{"n%d":1}}`, i, i))})
	}
	if len(in.entries) != mostInferred || in.Skipped != 100 || in.shapes > mostShapes+100 {
		t.Errorf("%d entries, %d skipped, %d shapes", len(in.entries), in.Skipped, in.shapes)
	}
	if _, err := in.Document(); err != nil {
		t.Error(err)
	}
}
