package hubspot

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
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

func TestEveryPlannedBodyIsValid(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	c := open(t, eventsMapped)
	for range 15 {
		deliveries := connectortest.Odd()
		for range 100 {
			deliveries = append(deliveries, delivery(anything(r)))
		}
		plan := c.Plan(deliveries)
		for _, call := range plan.Calls {
			schema := "hubspot.events-send-batch.request"
			if call.Payload.(*batch).contacts != nil {
				schema = "hubspot.contacts-batch-upsert.request"
			}
			if err := simulator.Validate(schema, body(call)); err != nil {
				t.Errorf("%v: %.2000s", err, body(call))
			}
		}
		for _, done := range plan.Done {
			if done.Result.Message == "" || done.Result.Code == "" {
				t.Errorf("%+v does not say why", done.Result)
			}
		}
	}
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
			return `{"a b":` + value(depth+1) + `,"B":` + value(depth+1) + `}`
		case n == 3:
			return `"` + strings.Repeat(pick("x", "ü", "😀", `\u00e9`, `\n`, `\"`), r.IntN(2000)) + `"`
		case n == 4:
			return pick("0", "-0", "1e300", "12345678901234567890.5", "true", "false")
		}
		return pick(`""`, `"a@example.com"`, `"日本語"`, `"\ud83d\ude00\/"`, `"; DROP"`, "1", `"  "`)
	}
	data := "{"
	for i := range r.IntN(60) {
		if i > 0 {
			data += ","
		}
		data += memberName(pick("plan", "Plan Name", "größe", "hs_x", "日本", "_x", "9lives", strings.Repeat("n", 70), "email", "first_name", "address"), i) + ":" + value(0)
	}
	data += "}"
	return event.Event{
		ID:   pick("0199f0c2-7a31-7c3e-9a53-0123456789ab", "x", "größe/1", strings.Repeat("i", 300)) + fmt.Sprint(r.IntN(50)),
		Type: pick(event.TypeTrack, event.TypeTrack, event.TypeIdentify, event.TypePage, event.TypeScreen, event.TypeGroup, event.TypeAlias),
		Name: pick("order_completed", "Order Completed", "日本語"), UserID: pick("", "u1", "u2"), AnonymousID: pick("", "a1"),
		Timestamp:  pick("", "not a time", "2026-11-23T10:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00", "2126-01-01T00:00:00+14:00", "2026-02-29T10:00:00Z"),
		ReceivedAt: pick("", "2026-11-23T10:00:00.125Z"), Data: []byte(data),
		Context: []byte(pick(`{}`, `{"traits":{"email":"A.b+c@Example.com"}}`, `{"traits":{"email":"not an address"}}`, `{"traits":7,"hubspot":{"utk":"u-\"1"}}`, `{"hubspot":{"object_id":7}}`, `{"traits":{"email":["a@b.co"]}}`)),
	}
}

// memberName is a name of a member with a number, so that none comes twice.
func memberName(name string, n int) string {
	return string(event.AppendString(nil, fmt.Sprint(name, " ", n)))
}

func TestBadInputIsSentInAFormHubSpotTakesOrSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	many := `{"p0":0`
	for i := range 50 {
		many += fmt.Sprintf(`,"p%d":%d`, i+1, i)
	}
	many += "}"
	long := strings.Repeat("ü", 50_000)
	for name, c := range map[string]struct {
		change func(*event.Event)
		kind   string // default track
		more   []string
		// Either the code of a result without a call and what its message says, or what
		// the body says.
		code, says string
		body       []string
	}{
		"only name and data": {change: func(e *event.Event) {
			*e = event.Event{ID: "1", Type: "track", Name: "order_completed", Data: []byte(`{"total":1}`)}
		},
			code: "no_identity", says: "context.traits.email"},
		"an identify event without an address": {kind: event.TypeIdentify, change: func(e *event.Event) { e.Context = nil }, code: "no_identity", says: "data.email"},
		"an address that is none":              {change: func(e *event.Event) { e.Context = []byte(`{"traits":{"email":"ada at example"}}`) }, code: "no_identity", says: "email"},
		"an event without an entry":            {change: func(e *event.Event) { e.Name = "other" }, more: []string{`"mapping":{"events":{"order_completed":"pe1_o"}}`}, code: "unmapped_event", says: "name"},
		"no entries at all":                    {more: []string{`"contacts":false`}, code: "unmapped_event", says: "mapping.events"},
		"an event that the settings drop":      {change: func(e *event.Event) { e.Name = "other" }, more: []string{`"mapping":{"events":{"order_completed":"pe1_o"},"unmapped":"drop"}`}, code: "unmapped_event", says: "mapping.events"},
		"a group event":                        {kind: event.TypeGroup, code: "no_counterpart", says: "type"},
		"contacts that are off":                {kind: event.TypeIdentify, more: []string{`"contacts":false`}, code: "contacts_off", says: "contacts"},
		"too many properties":                  {change: func(e *event.Event) { e.Data = []byte(many) }, code: "too_many_properties", says: "data"},
		"some of many properties":              {change: func(e *event.Event) { e.Data = []byte(many) }, more: []string{eventsMapped, `"properties":["p7"]`}, body: []string{`"properties":{"p7":"6"}`}},
		"a huge string":                        {change: func(e *event.Event) { e.Data = []byte(`{"note":"` + long + `"}`) }, body: []string{`"note":"` + strings.Repeat("ü", 256) + `"`}},
		"a huge string that is not to be cut":  {change: func(e *event.Event) { e.Data = []byte(`{"note":"` + long + `"}`) }, more: []string{eventsMapped, `"long_values":"refuse"`}, code: "too_long", says: "data.note"},
		"an address of a page":                 {change: func(e *event.Event) { e.Data = []byte(`{"hs_page_url":"` + strings.Repeat("x", 2000) + `"}`) }, body: []string{`:"` + strings.Repeat("x", 1024) + `"`}},
		"null, nesting and arrays":             {change: func(e *event.Event) { e.Data = []byte(`{"a":null,"b":{"c":[1]},"d":[1,"x",true],"e":[[1]],"f":[]}`) }, body: []string{`"properties":{"b":"{\"c\":[1]}","d":"1;x;true","e":"[[1]]","f":""}`}},
		"names that are not ASCII":             {change: func(e *event.Event) { e.Data = []byte(`{"Größe (cm)":1,"日本語":2}`) }, body: []string{`_cm":"1"}`}},
		"names that become the same":           {change: func(e *event.Event) { e.Data = []byte(`{"Plan Name":1,"planName":2,"plan_name":3}`) }, body: []string{`"properties":{"plan_name":"1"}`}},
		"a time before 1970":                   {change: func(e *event.Event) { e.Timestamp = "1969-12-31T23:59:59Z" }, code: "timestamp", says: "1970"},
		"an old time":                          {change: func(e *event.Event) { e.Timestamp = "1999-01-02T03:04:05.6789+02:00" }, body: []string{`"occurredAt":"1999-01-02T01:04:05.678Z"`}},
		"a time to come":                       {change: func(e *event.Event) { e.Timestamp = "2099-01-01T00:00:00Z" }, body: []string{`"occurredAt":"2099-01-01T00:00:00.000Z"`}},
		"a reserved name":                      {change: func(e *event.Event) { e.Data = []byte(`{"uuid":"x","eventName":"y","objectId":"z"}`) }, body: []string{`"properties":{"uuid":"x","event_name":"y","object_id":"z"}`}},
		"a trait that is a huge string":        {kind: event.TypeIdentify, change: func(e *event.Event) { e.Data = []byte(`{"note":"` + strings.Repeat("x", 70_000) + `"}`) }, body: []string{`"note":"` + strings.Repeat("x", 65_536) + `"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			more := c.more
			if more == nil {
				more = []string{eventsMapped}
			}
			kind := c.kind
			if kind == "" {
				kind = event.TypeTrack
			}
			plan := open(t, more...).Plan([]connector.Delivery{a(kind, c.change)})
			if c.code != "" {
				if len(plan.Done) != 1 || plan.Done[0].Result.Code != c.code || !strings.Contains(plan.Done[0].Result.Message, c.says) {
					t.Errorf("%+v, want %s that says %q", plan, c.code, c.says)
				}
				return
			}
			if len(plan.Calls) != 1 {
				t.Fatalf("%+v", plan)
			}
			for _, want := range c.body {
				if !strings.Contains(string(body(plan.Calls[0])), want) {
					t.Errorf("%.3000s has no %s", body(plan.Calls[0]), want)
				}
			}
		})
	}
}

func TestEventsOfNobodyAreDroppedIfThatIsWanted(t *testing.T) {
	t.Parallel()
	nobody := func(e *event.Event) { e.Context = nil }
	deliveries := []connector.Delivery{
		a(event.TypeTrack, nobody), a(event.TypeIdentify, nobody), a(event.TypePage, nobody),
		a(event.TypeTrack, func(e *event.Event) { e.Context, e.Name = nil, "other" }),
	}
	const mapped = `"mapping":{"events":{"order_completed":"pe1_o"}}`
	for more, want := range map[string]connector.Class{`"without_identity":"dead"`: connector.Permanent, `"without_identity":"drop"`: connector.Dropped} {
		plan := open(t, mapped, more).Plan(deliveries)
		if len(plan.Done) != len(deliveries) {
			t.Fatalf("%s: %+v", more, plan)
		}
		for _, done := range plan.Done[:3] {
			if done.Result.Class != want || done.Result.Code != "no_identity" || done.Result.Message == "" {
				t.Errorf("%s: %+v", more, done.Result)
			}
		}
		// Another fault stays a dead letter.
		if got := plan.Done[3].Result; got.Class != connector.Permanent || got.Code != "unmapped_event" {
			t.Errorf("%s: %+v", more, got)
		}
	}
}

// Traits of which some become the same: what comes later wins, however many
// there are.
func TestOfManyTraitsTheLaterWins(t *testing.T) {
	t.Parallel()
	const n = 3 * fewProperties
	data := `{"p_0":"first"`
	for i := range n {
		data += fmt.Sprintf(`,"p_%d":"early"`, i+1)
	}
	for i := range n {
		data += fmt.Sprintf(`,"P %d":"late"`, i+1)
	}
	plan := open(t).Plan([]connector.Delivery{a(event.TypeIdentify, func(e *event.Event) { e.Data = []byte(data + "}") })})
	got := string(body(plan.Calls[0]))
	if strings.Count(got, `"late"`) != n || strings.Contains(got, "early") || !strings.Contains(got, `"p_0":"first"`) {
		t.Error(got)
	}
}

func TestAnIDThatIsNoUUIDBecomesOneThatIsAlwaysTheSame(t *testing.T) {
	t.Parallel()
	if got := uuidOf("0199F0C2-7A31-7C3E-9A53-0123456789AB"); got != "0199f0c2-7a31-7c3e-9a53-0123456789ab" {
		t.Errorf("%s", got)
	}
	seen := map[string]string{}
	for _, id := range []string{"", "a", "b", "größe", strings.Repeat("x", 36), "0199f0c2-7a31-7c3e-9a53-0123456789ag", "0199f0c2x7a31-7c3e-9a53-0123456789ab"} {
		got := uuidOf(id)
		if !isUUID(got) || got != uuidOf(id) || got[14] != '8' || !strings.ContainsAny(got[19:20], "89ab") {
			t.Errorf("%q becomes %q", id, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q become the same", id, other)
		}
		seen[got] = id
	}
}

func FuzzValue(f *testing.F) {
	f.Add([]byte(`["a",1,null,[{}]]`), 5)
	f.Add([]byte(`"\ud83d\ude00x"`), 1)
	f.Add([]byte(`{"a":[1,2]}`), 256)
	f.Fuzz(func(t *testing.T, value []byte, limit int) {
		value = bytes.TrimSpace(value)
		if limit < 1 || limit > 2000 || len(value) == 0 || value[0] == 'n' || event.Check(value, event.Limits{}) != nil {
			return
		}
		got, _ := appendValue(nil, value, limit)
		text, err := event.Unquote(got)
		if err != nil {
			t.Fatalf("%s becomes %s: %v", value, got, err)
		}
		if n := utf8.RuneCountInString(text); n > limit {
			t.Errorf("%s becomes %d characters, at most %d", value, n, limit)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	const id = "0199f0c2-7a31-7c3e-9a53-0123456789ab"
	f.Add(400, `{"category":"VALIDATION_ERROR","message":"x","errors":[{"context":{"objectWriteTraceId":["`+id+`"]}}]}`)
	f.Add(207, `{"status":"COMPLETE","results":[{"objectWriteTraceId":"`+id+`"}],"errors":[{"message":"`+id+`","context":{"ids":"x"}}]}`)
	f.Add(200, `{"results":7,"errors":{"a":1},"context":[]}`)
	f.Add(429, `{"policyName":"DAILY"}`)
	f.Add(477, ``)
	var now struct {
		status int
		body   string
	}
	// In memory: an input that takes long is in the way when the time is over.
	conn, err := New([]byte(`{"access_token":"`+token+`","endpoint":"http://127.0.0.1:9"}`), connector.Env{
		Dial: simulator.Dial(f.Context(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(now.status)
			_, _ = io.WriteString(w, now.body)
		})),
	})
	if err != nil {
		f.Fatal(err)
	}
	c := conn.(*Connector)
	f.Fuzz(func(t *testing.T, status int, answer string) {
		if status < 200 || status > 999 {
			return
		}
		now.status, now.body = status, answer
		x := c.API.Do(t.Context(), httpcall.Request{Path: "/"})
		for _, alone := range []bool{true, false} {
			for _, judge := range []func(*httpcall.Exchange, []string, bool) []connector.Result{events, contacts} {
				ids := []string{id, uuidOf("other")}
				if alone {
					ids = ids[:1]
				}
				results := judge(x, ids, alone)
				if len(results) != len(ids) {
					t.Fatalf("%d results for %d inputs", len(results), len(ids))
				}
				for _, r := range results {
					if r.RetryAfter < 0 || r.RetryAfter > httpcall.MaxRetryAfter || alone && status != 413 && r.Class == connector.TooLarge {
						t.Errorf("%d %s: %+v", status, answer, r)
					}
					if !r.Class.Settled() && r.Message == "" {
						t.Errorf("%d %s: %+v does not say why", status, answer, r)
					}
				}
			}
		}
	})
}
