package router

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/eventsluice/sluice/internal/event"
)

// stored returns the stored form of an event that carries data and context.
func stored(name, data, context string) []byte {
	e := event.Event{
		ID: "0198f6a2-0000-7000-8000-000000000001", Type: event.TypeTrack, Name: name,
		UserID: "u1", AnonymousID: "a1", Source: "shop", IP: "203.0.113.7",
		Timestamp: "2026-11-23T10:00:00Z", ReceivedAt: "2026-11-23T10:00:01Z",
		Data: json.RawMessage(data), Context: json.RawMessage(context),
	}
	return e.Append(nil)
}

func parse(t testing.TB, doc string) *Table {
	t.Helper()
	table, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// rule returns a document of one rule for crm that wants all events.
func ruleWith(members string) string {
	return `[{"destination_name":"crm","enabled_events":["*"],` + members + `}]`
}

func TestNamesSelect(t *testing.T) {
	t.Parallel()
	table := parse(t, `[
		{"destination_name":"crm","enabled_events":["signed_up","order_*"],"disabled_events":["order_draft_*","order_lost"]},
		{"destination_name":"crm","enabled_events":["order_draft_kept","order_x*","zz"]},
		{"destination_name":"all","enabled_events":["*"],"disabled_events":["noise_*"]},
		{"destination_name":"nothing","enabled_events":[]},
		{"destination_name":"off","enabled_events":["*"],"enabled":false}]`)
	for _, test := range []struct{ name, crm, all string }{
		{"signed_up", "rules[0] crm", "rules[2] all"},
		{"signed_up_", "", "rules[2] all"},
		{"order_", "rules[0] crm", "rules[2] all"},
		{"order_placed", "rules[0] crm", "rules[2] all"},
		{"order_draft_saved", "", "rules[2] all"},
		{"order_draft_", "", "rules[2] all"},
		{"order_draft", "rules[0] crm", "rules[2] all"},
		{"order_lost", "", "rules[2] all"},
		{"order_draft_kept", "rules[1] crm", "rules[2] all"},
		{"order_xy", "rules[0] crm", "rules[2] all"},
		{"noise_a", "", ""},
		{"order", "", "rules[2] all"},
		{"ORDER_placed", "", "rules[2] all"},
		{"zzz", "", "rules[2] all"},
		{"zz", "rules[1] crm", "rules[2] all"},
		{"\u00e9t\u00e9", "", "rules[2] all"},
	} {
		raw := stored(test.name, "", "")
		for destination, want := range map[string]string{
			"crm": test.crm, "all": test.all, "nothing": "", "off": "", "unknown": "",
		} {
			out, rule, wanted, err := table.Route(destination).Apply(raw)
			if rule != want || wanted != (want != "") || err != nil {
				t.Errorf("%s to %s: rule %q, wanted %v, error %v; want %q", test.name, destination, rule, wanted, err, want)
			}
			if wanted && &out[0] != &raw[0] {
				t.Errorf("%s to %s: the event was copied without need", test.name, destination)
			}
		}
	}
}

func TestTheNameIndexAgreesWithThePatterns(t *testing.T) {
	t.Parallel()
	// All subsets of patterns over a small alphabet, enabled or disabled.
	all := []string{"*", "a*", "ab*", "abc*", "b*", "a", "ab", "abc", "b", "ba"}
	names := []string{"a", "ab", "abc", "abcd", "abd", "b", "ba", "bab", "c", "aa", "A"}
	for seed := range 3000 {
		var rules []*rule
		for i := range 1 + seed%3 {
			pick := func(salt uint64) (list []string) {
				h := event.Hash(fmt.Sprint(seed, i, salt))
				for j, p := range all {
					if h>>(3*j)&7 == 0 {
						list = append(list, p)
					}
				}
				return list
			}
			r := &rule{index: i, enabled: seed%7 > 0 || i > 0, sample: 0.5}
			r.names, r.except = newPatterns(pick(1)), newPatterns(pick(2))
			rules = append(rules, r)
		}
		x := newNameIndex(rules)
		for _, name := range names {
			var want []*rule
			for _, r := range rules {
				if r.selects(name) {
					want = append(want, r)
				}
			}
			if got := x.lookup(name); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("seed %d, name %q: %d rules, want %d", seed, name, len(got), len(want))
			}
		}
	}
}

func TestWhen(t *testing.T) {
	t.Parallel()
	raw := stored("order_placed",
		`{"total":120,"price":99.5,"n":3,"big":9007199254740993,"huge":1e400,"sku":"A\u00e9\n","ok":true,"no":null,
		  "items":[{"sku":"x","qty":2},{"sku":"y","qty":1}],"tags":["a","b"],"deep":{"a":{"b":[[1,2],[3]]}},"two words":1}`,
		`{"page":{"path":"/pricing"}}`)
	if _, err := event.ParseStored(raw); err != nil {
		raw = []byte(strings.Replace(string(raw), "1e400", "1e300", 1))
	}
	for _, test := range []struct {
		when string
		want outcome
	}{
		{`event.name == "order_placed"`, matched},
		{`event.type == "track" && event.source == "shop"`, matched},
		{`event.name.startsWith("order_") && event.user_id.endsWith("1")`, matched},
		{`event.id == "0198f6a2-0000-7000-8000-000000000001" && event.anonymous_id == "a1" && event.ip == "203.0.113.7"`, matched},
		{`timestamp(event.received_at) - timestamp(event.timestamp) == duration("1s")`, matched},
		{`event.data.total > 100`, matched},
		{`event.data.total == 120`, matched},
		{`event.data.total == 120.0`, matched},
		{`event.data.price > 99 && event.data.price < 100`, matched},
		{`event.data.price * 2.0 == 199.0`, matched},
		{`int(event.data.n) % 2 == 1`, matched},
		{`event.data.big == 9007199254740993`, matched},
		{`event.data.big == 9007199254740992`, whenFalse},
		{`event.data.huge > 1e299`, matched},
		{`event.data.sku == "Aé\n"`, matched},
		{`event.data.ok`, matched},
		{`event.data.no == null`, matched},
		{`event.data["two words"] == 1`, matched},
		{`event.data.items[0].sku == "x"`, matched},
		{`event.data.items.exists(i, i.qty > 1)`, matched},
		{`event.data.items.all(i, i.qty > 1)`, whenFalse},
		{`event.data.items.filter(i, i.qty > 1).size() == 1`, matched},
		{`event.data.items.map(i, i.sku) == ["x", "y"]`, matched},
		{`"b" in event.data.tags`, matched},
		{`"total" in event.data && !("tota" in event.data)`, matched},
		{`event.data.exists(k, k == "sku")`, matched},
		{`size(event.data) == 12`, matched},
		{`event.data.deep.a.b[0][1] == 2`, matched},
		{`event.data.deep == {"a": {"b": [[1.0, 2.0], [3.0]]}}`, matched},
		{`event.context.page.path.matches("^/pri")`, matched},
		{`has(event.data.total) && has(event.context.page) && has(event.user_id) && has(event.data)`, matched},
		{`has(event.data.absent)`, whenFalse},
		{`!has(event.data.absent) || event.data.absent > 1`, matched},
		{`type(event.data.n) == double && type(event.data.big) == int && type(event.data) == map`, matched},
		{`event.data.absent > 1`, whenFailed},
		{`event.data.absent > 1 || event.data.total > 100`, matched},
		{`event.data.total.deeper == 1`, whenFailed},
		{`event.data.tags[7] == "a"`, whenFailed},
		{`event.data.sku > 7`, whenFailed},
		{`event.data.total`, whenFailed},
		{`event.data.n * 2 == 6`, whenFailed},
		{`event.data.sku`, whenFailed},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			quoted, _ := json.Marshal(test.when)
			table := parse(t, ruleWith(`"when":`+string(quoted)))
			_, _, wanted, err := table.Route("crm").Apply(raw)
			if err != nil {
				t.Fatal(err)
			}
			s := table.Stats()[0]
			got := [...]uint64{matched: s.Matched, whenFalse: s.WhenFalse, whenFailed: s.WhenFailed}
			if got[test.want] != 1 || wanted != (test.want == matched) {
				x, err := table.Explain(raw)
				t.Errorf("wanted %v, %+v; %v %v", wanted, s, x, err)
			}
		})
	}
}

func TestASampleTakesUsersWhole(t *testing.T) {
	t.Parallel()
	table := parse(t, `[
		{"destination_name":"tenth","enabled_events":["*"],"sample":0.1},
		{"destination_name":"third","enabled_events":["a","b"],"sample":0.3},
		{"destination_name":"none","enabled_events":["*"],"sample":0},
		{"destination_name":"all","enabled_events":["*"],"sample":1}]`)
	wants := func(destination, user, name string) bool {
		e := event.Event{ID: "x", Type: event.TypeTrack, Name: name, UserID: user}
		_, _, wanted, err := table.Route(destination).Apply(e.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		return wanted
	}
	const users = 4_000
	kept := map[string]int{}
	lowest := map[uint64]int{}
	for i := range users {
		user := fmt.Sprint("user-", i)
		for _, d := range table.Destinations() {
			a, b := wants(d, user, "a"), wants(d, user, "b")
			if a != b {
				t.Fatalf("%s: %s is in the sample with one event and not with another", d, user)
			}
			if a {
				kept[d]++
			}
		}
		if wants("tenth", user, "a") {
			lowest[event.Hash(user)>>61]++
			if !wants("third", user, "a") {
				t.Fatalf("%s is in the small sample and not in the large one", user)
			}
		}
	}
	if kept["none"] != 0 || kept["all"] != users {
		t.Errorf("kept %v", kept)
	}
	for d, want := range map[string]int{"tenth": users / 10, "third": users * 3 / 10} {
		if kept[d] < want*8/10 || kept[d] > want*12/10 {
			t.Errorf("%s kept %d of %d, want about %d", d, kept[d], users, want)
		}
	}
	if len(lowest) != 8 {
		t.Errorf("the sample falls into %d of 8 ranges of the hash: buckets would be uneven", len(lowest))
	}
}

func TestTheFirstRuleThatMatchesWins(t *testing.T) {
	t.Parallel()
	table := parse(t, `[
		{"destination_name":"crm","enabled_events":["*"],"when":"event.data.vip == true","transform":{"set":{"/data/by":1}}},
		{"destination_name":"crm","enabled_events":["order_*"],"transform":{"set":{"/data/by":2}}},
		{"destination_name":"crm","enabled_events":["*"],"transform":{"set":{"/data/by":3}}}]`)
	for _, test := range []struct{ name, data, rule, by string }{
		{"order_placed", `{"vip":true}`, "rules[0] crm", `"by":1`},
		{"order_placed", `{}`, "rules[1] crm", `"by":2`},
		{"other", `{"vip":false}`, "rules[2] crm", `"by":3`},
	} {
		out, rule, wanted, err := table.Route("crm").Apply(stored(test.name, test.data, ""))
		if err != nil || !wanted || rule != test.rule || !strings.Contains(string(out), test.by) {
			t.Errorf("%s %s: %s %v %v %s", test.name, test.data, rule, wanted, err, out)
		}
	}
	stats := table.Stats()
	if stats[0].Matched != 1 || stats[0].WhenFailed != 1 || stats[0].WhenFalse != 1 || stats[1].Matched != 1 || stats[2].Matched != 1 {
		t.Errorf("stats: %+v", stats)
	}
	if s := table.Route("crm").Stats(); s.Seen != 3 || s.Filtered != 0 || s.Unreadable != 0 {
		t.Errorf("route: %+v", s)
	}
}

func TestAnUnreadableEventIsNotFiltered(t *testing.T) {
	t.Parallel()
	plain := parse(t, `[{"destination_name":"crm","enabled_events":["*"]}]`).Route("crm")
	when := parse(t, ruleWith(`"when":"event.data.a == 1"`)).Route("crm")
	change := parse(t, ruleWith(`"transform":{"drop":["/ip"]}`)).Route("crm")
	for _, raw := range []string{"", "not json", "[]", "{}", `{"name":7}`, `{"name":""}`, "\xff", `{"name":"a"`} {
		for _, route := range []*Route{plain, when, change} {
			if out, _, wanted, err := route.Apply([]byte(raw)); err == nil && !(wanted && route == plain) {
				t.Errorf("%q: out %q, wanted %v, no error", raw, out, wanted)
			}
		}
	}
	cut := stored("a", `{"a":1}`, "")
	cut = cut[:len(cut)-3]
	for _, route := range []*Route{when, change} {
		if _, _, wanted, err := route.Apply(cut); err == nil || wanted {
			t.Errorf("an event that is cut off: wanted %v, error %v", wanted, err)
		}
	}
}

// An event that a back end wrote to the stream itself: other order, unknown
// members.
func TestUnknownMembersAreInContextExtra(t *testing.T) {
	t.Parallel()
	raw := []byte(`{"plan":"pro","name":"a","id":"1","data":{"x":1}}`)
	table := parse(t, ruleWith(`"when":"event.context.extra.plan == 'pro'","transform":{"drop":["/context/extra/plan"]}`))
	out, _, wanted, err := table.Route("crm").Apply(raw)
	if err != nil || !wanted || !strings.Contains(string(out), `"context":{"extra":{}}`) {
		t.Errorf("out %s, wanted %v, error %v", out, wanted, err)
	}
}

func TestAnExpressionCannotStallThePipeline(t *testing.T) {
	t.Parallel()
	items := "[" + strings.TrimSuffix(strings.Repeat(`{"a":1,"b":2},`, 20_000), ",") + "]"
	raw := stored("a", `{"items":`+items+`,"text":"`+strings.Repeat("a", 10_000)+`"}`, "")
	const all = `event.data.items.all(x, event.data.items.all(y, x.a == y.a))`
	table := parse(t, ruleWith(`"when":"`+all+`"`))
	_, _, wanted, err := table.Route("crm").Apply(raw)
	if wanted || err != nil || table.Stats()[0].WhenFailed != 1 {
		t.Errorf("wanted %v, error %v, %+v", wanted, err, table.Stats()[0])
	}
	const exists = `event.data.items.exists(x, event.data.items.exists(y, x.a == y.b + 1.0))`
	x, err := parse(t, ruleWith(`"when":"`+exists+`"`)).Explain(raw)
	if err != nil || x[0].Matches || !strings.Contains(x[0].Reason, "costs too much") {
		t.Errorf("%+v %v", x, err)
	}
}

func TestATableIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	table := parse(t, `[
		{"destination_name":"crm","enabled_events":["*"],"when":"event.data.user == event.user_id && event.data.list.exists(x, x == event.data.n)",
		 "transform":[{"rename":{"from":"/data/n","to":"/data/m"}},{"hash":["/user_id"]}]}]`)
	const workers, events = 8, 300
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range events {
				user := fmt.Sprintf("u%d-%d", w, i)
				e := event.Event{ID: user, Type: event.TypeTrack, Name: "a", UserID: user,
					Data: fmt.Appendf(nil, `{"user":%q,"n":%d,"list":[1,%d]}`, user, i, i)}
				if i%3 == 0 {
					e.UserID = "another"
				}
				out, _, wanted, err := table.Route("crm").Apply(e.Append(nil))
				if err != nil || wanted != (i%3 != 0) {
					t.Errorf("%s: wanted %v, error %v", user, wanted, err)
					return
				}
				e.UserID = sha(user)
				e.Data = fmt.Appendf(nil, `{"user":%q,"list":[1,%d],"m":%d}`, user, i, i)
				if want := e.Append(nil); wanted && string(out) != string(want) {
					t.Errorf("\n got %s\nwant %s", out, want)
					return
				}
			}
		})
	}
	wg.Wait()
	if s := table.Stats()[0]; s.Matched != workers*events*2/3 || s.WhenFalse != workers*events/3 {
		t.Errorf("%+v", s)
	}
}
