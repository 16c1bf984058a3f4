package router

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// typical is an event of about 500 bytes.
func typical(name string) []byte {
	return stored(name, `{"page":"/pricing","referrer":"https://www.example.com/search?q=event+collector","plan":"pro","total":129.90,`+
		`"currency":"EUR","items":[{"sku":"A-1","qty":2},{"sku":"B-7","qty":1}],"email":"someone@example.com"}`,
		`{"locale":"de-DE","library":{"name":"web","version":"2.1.0"}}`)
}

func BenchmarkApplyNameDoesNotMatch(b *testing.B) {
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("%q", fmt.Sprint("event_", i)))
	}
	route := parse(b, `[{"destination_name":"crm","enabled_events":["signed_up","order_*","cart_*",`+strings.Join(names, ",")+`]}]`).Route("crm")
	raw := typical("button_clicked")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, wanted, err := route.Apply(raw); wanted || err != nil {
			b.Fatal(wanted, err)
		}
	}
}

func BenchmarkApplyNameMatches(b *testing.B) {
	route := parse(b, `[{"destination_name":"crm","enabled_events":["*"]}]`).Route("crm")
	raw := typical("button_clicked")
	b.ReportAllocs()
	for b.Loop() {
		route.Apply(raw)
	}
}

func BenchmarkApplyWhen(b *testing.B) {
	for _, when := range []string{
		`event.source == "shop"`,
		`event.data.total > 100`,
		`has(event.data.plan) && event.data.plan == "pro" && event.data.total >= 100`,
		`event.data.items.exists(i, i.sku == "B-7")`,
		`event.data.email.matches("@example\\.com$")`,
	} {
		quoted, _ := json.Marshal(when)
		route := parse(b, ruleWith(`"when":`+string(quoted))).Route("crm")
		raw := typical("button_clicked")
		b.Run(when, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				route.Apply(raw)
			}
		})
	}
}

func BenchmarkApplyTransform(b *testing.B) {
	route := parse(b, ruleWith(`"transform":[{"drop":["/ip","/data/password"]},{"rename":{"from":"/data/total","to":"/data/revenue"}},`+
		`{"set":{"/data/channel":"web"}},{"hash":["/data/email"],"salt":"c0ffee"}]`)).Route("crm")
	raw := typical("button_clicked")
	b.ReportAllocs()
	for b.Loop() {
		route.Apply(raw)
	}
}

// twentyRules is what a large shop has: a warehouse that takes all, and rules
// by name, prefix, condition, sample and transform for the rest.
func twentyRules() string {
	rules := []string{`{"destination_name":"warehouse","enabled_events":["*"]}`}
	for i := range 19 {
		r := fmt.Sprintf(`"destination_name":"d%d"`, i)
		switch i % 4 {
		case 0:
			r += `,"enabled_events":["signed_up","order_placed"]`
		case 1:
			r += `,"enabled_events":["button_*"],"when":"event.data.total > ` + fmt.Sprint(i*20) + `"`
		case 2:
			r += `,"enabled_events":["*"],"sample":0.1,"transform":{"drop":["/ip"],"hash":["/data/email"]}`
		case 3:
			r += `,"enabled_events":["*"],"when":"has(event.data.plan) && event.data.plan == 'pro' && event.source == 'shop'"`
		}
		rules = append(rules, "{"+r+"}")
	}
	return "[" + strings.Join(rules, ",") + "]"
}

// BenchmarkTwentyDestinations asks 20 destinations about each event, as their
// consumers do.
func BenchmarkTwentyDestinations(b *testing.B) {
	table := parse(b, twentyRules())
	var routes []*Route
	for _, d := range table.Destinations() {
		routes = append(routes, table.Route(d))
	}
	raw := typical("button_clicked")
	b.ReportAllocs()
	for b.Loop() {
		for _, route := range routes {
			if _, _, _, err := route.Apply(raw); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkTwentyRulesOfOneDestination has 20 conditions of which the last
// matches.
func BenchmarkTwentyRulesOfOneDestination(b *testing.B) {
	var rules []string
	for i := range 20 {
		rules = append(rules, fmt.Sprintf(`{"destination_name":"crm","enabled_events":["*"],"when":"event.data.plan == 'plan-%d' || event.data.total > %d"}`, i, 2000-100*i))
	}
	route := parse(b, "["+strings.Join(rules, ",")+"]").Route("crm")
	raw := typical("button_clicked")
	b.ReportAllocs()
	for b.Loop() {
		if _, rule, _, _ := route.Apply(raw); rule != "rules[19] crm" {
			b.Fatal(rule)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkWorstExpression is the slowest that a sender can make an expression
// by an event of 1 MB.
func BenchmarkWorstExpression(b *testing.B) {
	text := strings.Repeat("a", 500_000)
	for name, test := range map[string][2]string{
		"loop in a loop":     {`event.data.items.all(x, event.data.items.all(y, x.a == y.a))`, `{"items":[` + strings.TrimSuffix(strings.Repeat(`{"a":1},`, 60_000), ",") + `]}`},
		"one loop":           {`event.data.items.all(x, x < 2)`, `{"items":[` + strings.TrimSuffix(strings.Repeat(`1,`, 250_000), ",") + `]}`},
		"regex over text":    {`event.data.text.matches("(a|aa)+b$")`, `{"text":"` + text + `"}`},
		"regex in a loop":    {`event.data.items.all(x, !event.data.text.matches("(a|aa)+b$"))`, `{"items":[1,2,3,4,5,6,7,8,9],"text":"` + text + `"}`},
		"contains in a loop": {`event.data.items.all(x, !event.data.text.contains("aaaaaaaaaaaaaaaaaaaaaaaaaaaab"))`, `{"items":[` + strings.TrimSuffix(strings.Repeat(`1,`, 5000), ",") + `],"text":"` + text + `"}`},
	} {
		quoted, _ := json.Marshal(test[0])
		route := parse(b, ruleWith(`"when":`+string(quoted))).Route("crm")
		raw := stored("a", test[1], "")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				route.Apply(raw)
			}
		})
	}
}
