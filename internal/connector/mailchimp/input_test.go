package mailchimp

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

// validate checks a body by the schema of a request.
func validate(t *testing.T, request string, body []byte) {
	t.Helper()
	if err := simulator.Validate("mailchimp."+request+".request", body); err != nil {
		t.Errorf("%v: %.2000s", err, body)
	}
}

func TestEveryPlannedBodyIsValid(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	c := open(t, `"mapping":{"traits":{"PLAN":"/data/plan","ADDRESS":"/data/address","N":"/data/first_name","tags":"/data/tags"}}`)
	for range 15 {
		deliveries := connectortest.Odd()
		for range 100 {
			deliveries = append(deliveries, delivery(anything(r)))
		}
		plan := c.Plan(deliveries)
		var members []member
		for _, call := range plan.Calls {
			switch p := call.Payload.(type) {
			case *happening:
				validate(t, "event", p.body)
				members = append(members, p.member)
			case *people:
				validate(t, "list-batch", together(p.members, everybody(p.members)))
				members = append(members, p.members...)
			}
		}
		for i := range members {
			validate(t, "member-put", members[i].put())
			if len(members[i].tags) > 0 {
				validate(t, "tags", members[i].putTags(i%2 == 0))
			}
		}
		for _, done := range plan.Done {
			if done.Result.Message == "" || done.Result.Code == "" {
				t.Errorf("%+v does not say why", done.Result)
			}
		}
	}
}

// everybody is what together is told if it is to have all.
func everybody(members []member) (all []int) {
	for i := range members {
		all = append(all, i)
	}
	return all
}

// anything returns a random event, as a sender may write it.
func anything(r *rand.Rand) event.Event {
	pick := func(texts ...string) string { return texts[r.IntN(len(texts))] }
	var value func(depth int) string
	value = func(depth int) string {
		switch n := r.IntN(11); {
		case n == 0:
			return "null"
		case n == 1 && depth < 4:
			return "[" + value(depth+1) + " , " + value(depth+1) + "]"
		case n == 2 && depth < 4:
			return `{"street":` + value(depth+1) + `,"city":` + value(depth+1) + `,"state":"x","zip":1}`
		case n == 3:
			return `"` + strings.Repeat(pick("x", "ü", "😀", `\u00e9`, `\n`, `\"`), r.IntN(2000)) + `"`
		case n == 4:
			return pick("0", "-0", "1e300", "12345678901234567890.5", "true", "false")
		}
		return pick(`""`, `"a@example.com"`, `"日本語"`, `"\ud83d\ude00\/"`, `"; DROP"`, "1", `"  "`)
	}
	data := "{"
	for i, name := range []string{"plan", "Plan Name", "größe", "日本", strings.Repeat("n", 70), "email", "first_name", "address", "tags", ""} {
		if i > 0 {
			data += ","
		}
		data += string(event.AppendString(nil, name)) + ":" + value(0)
	}
	data += "}"
	return event.Event{
		ID:   fmt.Sprint("id-", r.IntN(50)),
		Type: pick(event.TypeTrack, event.TypeTrack, event.TypeIdentify, event.TypePage, event.TypeScreen, event.TypeGroup, event.TypeAlias),
		Name: pick("order_completed", "Order Completed", "日本語", "x", "  --  ", strings.Repeat("long ", 20)), UserID: pick("", "u1", "u2"), AnonymousID: pick("", "a1"),
		Timestamp:  pick("", "not a time", "2026-11-23T10:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00", "2126-01-01T00:00:00+14:00"),
		ReceivedAt: pick("", "2026-11-23T10:00:00.125Z"), Data: []byte(data),
		Context: []byte(pick(`{}`, `{"traits":{"email":"A.b+c@Example.com"}}`, `{"traits":{"email":"not an address"}}`, `{"traits":7}`)),
	}
}

func TestBadInputIsSentInAFormMailchimpTakesOrSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	const trait = `"mapping":{"traits":{"X":"/data/x","ADDRESS":"/data/address","tags":"/data/tags","status_if_new":"/data/status"}}`
	for name, c := range map[string]struct {
		kind   string // default track
		change func(*event.Event)
		more   string
		// Either the code of a result without a call and what its message says, or what
		// the body says.
		code, says string
		body       string
	}{
		"only name and data": {change: func(e *event.Event) {
			*e = event.Event{ID: "1", Type: "track", Name: "clicked", Data: []byte(`{"n":1}`)}
		}, code: "no_identity", says: "context.traits.email"},
		"an identify event without an address": {kind: event.TypeIdentify, change: func(e *event.Event) { e.Context = nil }, code: "no_identity", says: "data.email"},
		"a group event":                        {kind: event.TypeGroup, code: "no_counterpart", says: "type"},
		"an alias event":                       {kind: event.TypeAlias, code: "no_counterpart", says: "type"},
		"a page":                               {kind: event.TypePage, body: `"name":"Viewed_Order_Completed"`},
		"a long name":                          {change: func(e *event.Event) { e.Name = strings.Repeat("n", 200) }, body: `"name":"` + strings.Repeat("n", 30) + `"`},
		"a name that is not ASCII":             {change: func(e *event.Event) { e.Name = "Größe 🛒 gewählt!" }, body: `"name":"Gr_e_gew_hlt"`},
		"a name without a letter":              {change: func(e *event.Event) { e.Name = "日本語" }, code: "event_name", says: "name"},
		"a name of one letter":                 {change: func(e *event.Event) { e.Name = "x" }, code: "event_name", says: "mapping.events"},
		"null, nesting and arrays":             {change: func(e *event.Event) { e.Data = []byte(`{"a":null,"b":{"c":[1]},"d":[1,"x"],"e":true,"f":-0}`) }, body: `"properties":{"b":"{\"c\":[1]}","d":"[1,\"x\"]","e":"true","f":"-0"}`},
		"no properties":                        {change: func(e *event.Event) { e.Data = nil }, body: `{"name":"Order_Completed","occurred_at":"2026-11-23T09:00:00+00:00"}`},
		"a huge string":                        {change: func(e *event.Event) { e.Data = []byte(`{"note":"` + strings.Repeat("ü", 50_000) + `"}`) }, body: `"note":"` + strings.Repeat("ü", 1000) + `"`},
		"a time before 1970":                   {change: func(e *event.Event) { e.Timestamp = "1969-12-31T23:59:59Z" }, code: "timestamp", says: "1970"},
		"an old time":                          {change: func(e *event.Event) { e.Timestamp = "1999-01-02T03:04:05+02:00" }, body: `"occurred_at":"1999-01-02T01:04:05+00:00"`},
		"a time to come":                       {change: func(e *event.Event) { e.Timestamp = "2099-01-01T00:00:00Z" }, body: `"occurred_at":"2099-01-01T00:00:00+00:00"`},
		"traits that nobody asked for":         {kind: event.TypeIdentify, change: func(e *event.Event) { e.Data = []byte(`{"FNAME":1,"plan":"x"}`) }, body: `{"email_address":"ada@example.com","status_if_new":"transactional"}`},
		"a trait that is a huge string":        {kind: event.TypeIdentify, change: func(e *event.Event) { e.Data = []byte(`{"x":"` + strings.Repeat("ü", 9999) + `"}`) }, more: trait, body: `"X":"` + strings.Repeat("ü", 255) + `"`},
		"a trait that is an array":             {kind: event.TypeIdentify, change: func(e *event.Event) { e.Data = []byte(`{"x":[1,"a"]}`) }, more: trait, body: `"X":"[1,\"a\"]"`},
		"an address with parts missing":        {kind: event.TypeIdentify, change: func(e *event.Event) { e.Data = []byte(`{"address":{"street":"1 Main St","city":"Wien"}}`) }, more: trait, body: `"status_if_new":"transactional"}`},
		"a status that does not exist":         {kind: event.TypeIdentify, change: func(e *event.Event) { e.Data = []byte(`{"status":"archived"}`) }, more: trait, code: "status_if_new", says: "mapping.traits.status_if_new"},
		"a status by an expression": {
			kind: event.TypeIdentify, change: func(e *event.Event) { e.Data = []byte(`{"newsletter":true}`) },
			more: `"mapping":{"traits":{"status_if_new":"= event.data.newsletter ? 'subscribed' : 'transactional'"}}`, body: `"status_if_new":"subscribed"`,
		},
		"a status of one person": {kind: event.TypeIdentify, change: func(e *event.Event) { e.Data = []byte(`{"status":"subscribed"}`) }, more: trait, body: `"status_if_new":"subscribed"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kind, more := c.kind, c.more
			if kind == "" {
				kind = event.TypeTrack
			}
			if more == "" {
				more = `"tags":[]`
			}
			plan := open(t, more).Plan([]connector.Delivery{a(kind, c.change)})
			if c.code != "" {
				if len(plan.Done) != 1 || plan.Done[0].Result.Code != c.code || !strings.Contains(plan.Done[0].Result.Message, c.says) {
					t.Errorf("%+v, want %s that says %q", plan, c.code, c.says)
				}
				return
			}
			if len(plan.Calls) != 1 {
				t.Fatalf("%+v", plan)
			}
			var body []byte
			switch p := plan.Calls[0].Payload.(type) {
			case *happening:
				body = p.body
			case *people:
				body = p.members[0].put()
			}
			if !strings.Contains(string(body), c.body) {
				t.Errorf("%.3000s has no %s", body, c.body)
			}
		})
	}
}

func TestEventsOfNobodyAreDroppedIfThatIsWanted(t *testing.T) {
	t.Parallel()
	nobody := func(e *event.Event) { e.Context = nil }
	deliveries := []connector.Delivery{
		a(event.TypeTrack, nobody), a(event.TypeIdentify, nobody), a(event.TypeTrack, func(e *event.Event) { e.Name = "x" }),
	}
	for more, want := range map[string]connector.Class{`"without_identity":"dead"`: connector.Permanent, `"without_identity":"drop"`: connector.Dropped} {
		plan := open(t, more).Plan(deliveries)
		if len(plan.Done) != len(deliveries) {
			t.Fatalf("%s: %+v", more, plan)
		}
		for _, done := range plan.Done[:2] {
			if done.Result.Class != want || done.Result.Code != "no_identity" || done.Result.Message == "" {
				t.Errorf("%s: %+v", more, done.Result)
			}
		}
		// Another fault stays a dead letter.
		if got := plan.Done[2].Result; got.Class != connector.Permanent || got.Code != "event_name" {
			t.Errorf("%s: %+v", more, got)
		}
	}
}

func TestTheHashIsThatOfTheAddressInLowerCase(t *testing.T) {
	t.Parallel()
	// The example of the vendor's documentation: Urist.McVankab@freddiesjokes.com.
	plan := open(t).Plan([]connector.Delivery{a(event.TypeIdentify, func(e *event.Event) {
		e.Data = []byte(`{"email":"Urist.McVankab@freddiesjokes.com"}`)
	})})
	if got := plan.Calls[0].Payload.(*people).members[0].path("/lists/x"); got != "/lists/x/members/62eeb292278cc15f5817cb78f7790b08" {
		t.Errorf("%s", got)
	}
}

func FuzzValue(f *testing.F) {
	f.Add([]byte(`["a",1,null,[{}]]`))
	f.Add([]byte(`"\ud83d\ude00x"`))
	f.Add([]byte(`{"street":"a","city":"b","state":"c","zip":1}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		value = bytes.TrimSpace(value)
		if len(value) == 0 || value[0] == 'n' || event.Check(value, event.Limits{}) != nil {
			return
		}
		quoted, _ := mapping.AppendAsText(nil, value, maxValue)
		text, err := event.Unquote(quoted)
		if err != nil || utf8.RuneCountInString(text) > maxValue {
			t.Errorf("%s becomes %q, %v", value, text, err)
		}
		var m member
		for _, tag := range []string{"X", "ADDRESS", "X"} {
			m.set(tag, value)
		}
		m.addTags(value)
		for _, body := range [][]byte{m.put(), m.putTags(true), together([]member{m, m}, []int{0, 1})} {
			if err := event.Check(body, event.Limits{}); err != nil {
				t.Errorf("%s becomes %s: %v", value, body, err)
			}
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add(400, notFound)
	f.Add(404, notFound)
	f.Add(200, `{"new_members":[{"email_address":"P1@example.com"}],"errors":[{"email_address":"p2@example.com","error_code":7,"error":"x"}]}`)
	f.Add(200, `{"new_members":7,"errors":{}}`)
	f.Add(403, ``)
	f.Add(503, `<html>`)
	var now struct {
		status int
		body   string
	}
	// In memory: an input that takes long is in the way when the time is over.
	conn, err := New([]byte(`{"api_key":"`+key+`","list_id":"x","endpoint":"http://127.0.0.1:9"}`), connector.Env{
		Dial: simulator.Dial(f.Context(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(now.status)
			_, _ = io.WriteString(w, now.body)
		})),
	})
	if err != nil {
		f.Fatal(err)
	}
	c := conn.(*Connector)
	members := []member{{email: "p1@example.com"}, {email: "p2@example.com"}, {email: "p3@example.com"}}
	f.Fuzz(func(t *testing.T, status int, answer string) {
		if status < 200 || status > 999 {
			return
		}
		now.status, now.body = status, answer
		results := c.sendPeople(t.Context(), members)
		results = append(results, c.sendEvent(t.Context(), &happening{member: members[0]}), c.Check(t.Context()))
		if len(results) != len(members)+2 {
			t.Fatalf("%d results", len(results))
		}
		for _, r := range results {
			if r.RetryAfter < 0 || r.RetryAfter > httpcall.MaxRetryAfter || !r.Class.Settled() && r.Message == "" {
				t.Errorf("%d %s: %+v", status, answer, r)
			}
		}
	})
}
