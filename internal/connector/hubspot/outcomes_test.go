package hubspot

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
)

// Ids of the three events of a call.
var ids = []string{"0199f0c2-0000-7000-8000-000000000001", "0199f0c2-0000-7000-8000-000000000002", "0199f0c2-0000-7000-8000-000000000003"}

// three returns events of three users.
func three(kind string) []connector.Delivery {
	var deliveries []connector.Delivery
	for i, id := range ids {
		deliveries = append(deliveries, a(kind, func(e *event.Event) {
			e.ID, e.UserID = id, fmt.Sprint("u", i)
			e.Context = fmt.Appendf(nil, `{"traits":{"email":"u%d@example.com"}}`, i)
		}))
	}
	return deliveries
}

func TestEveryAnswerHasItsOutcome(t *testing.T) {
	t.Parallel()
	const (
		dlv, dup, per, big = connector.Delivered, connector.Duplicate, connector.Permanent, connector.TooLarge
		ath, thr, ret      = connector.Auth, connector.Throttled, connector.Retryable
	)
	all := func(c connector.Class) []connector.Class { return []connector.Class{c, c, c} }
	written := func(traces ...string) string {
		var b strings.Builder
		for i, trace := range traces {
			fmt.Fprintf(&b, `%s{"id":"%d","new":true,"properties":{},"createdAt":"x","updatedAt":"x","objectWriteTraceId":%q}`, []string{"", ","}[min(i, 1)], i, trace)
		}
		return b.String()
	}
	upsert := func(results, errors string) string {
		return fmt.Sprintf(`{"status":"COMPLETE","results":[%s],"numErrors":1,"errors":[%s],"startedAt":"x","completedAt":"x"}`, results, errors)
	}
	for _, c := range []struct {
		name   string
		kind   string // both if empty
		status int
		header string // of Retry-After
		body   string
		want   []connector.Class
		one    connector.Class // of a call of one event
		wait   time.Duration
		code   string   // of the last event
		says   []string // of the last event
	}{
		{name: "taken", kind: "track", status: 204, want: all(dlv), one: dlv},
		{name: "taken, and it says so", kind: "track", status: 200, body: `{"status":"COMPLETE"}`, want: all(dlv), one: dlv},
		{name: "written", kind: "identify", status: 200, body: upsert(written(ids...), ""), want: all(dlv), one: dlv},
		{name: "written, without traces", kind: "identify", status: 201, body: `{"status":"COMPLETE","results":[{"id":"1"},{"id":"2"},{"id":"3"}]}`, want: all(dlv), one: dlv},
		{name: "written, and the answer is cut", kind: "identify", status: 200, body: `{"status":"COMPLETE","results":[{"id":"1","prop`, want: all(dlv), one: dlv},
		{
			name: "one of three is refused", kind: "identify", status: 207,
			body: upsert(written(ids[0], ids[1]), `{"status":"error","category":"VALIDATION_ERROR","message":"Property values were not valid: PROPERTY_DOESNT_EXIST","context":{"objectWriteTraceId":["`+ids[2]+`"]}}`),
			want: []connector.Class{dlv, dlv, per}, one: per, code: "validation_error", says: []string{"PROPERTY_DOESNT_EXIST", "unknown_properties"},
		},
		{
			name: "one of three failed at HubSpot", kind: "identify", status: 207,
			body: upsert(written(ids[0], ids[1]), `{"category":"INTERNAL_ERROR","message":"sorry","context":{"objectWriteTraceId":["`+ids[2]+`"]}}`),
			want: []connector.Class{dlv, dlv, ret}, one: ret, code: "internal_error",
		},
		{name: "one is refused that is not named", kind: "identify", status: 207, body: upsert(written(ids[0], ids[1]), `{"category":"VALIDATION_ERROR","message":"who knows"}`), want: all(big), one: per, code: "refused_together", says: []string{"who knows"}},
		{name: "some are refused, and the answer is cut", kind: "identify", status: 207, body: `{"status":"COMPL`, want: all(big), one: ret},
		{name: "a silent failure that says why", kind: "identify", status: 200, body: upsert("", `{"category":"VALIDATION_ERROR","message":"no such pipeline"}`), want: all(big), one: per, says: []string{"no such pipeline"}},
		{name: "a silent failure", kind: "identify", status: 200, body: upsert("", ""), want: all(big), one: per},
		{name: "two results without traces for three", kind: "identify", status: 200, body: `{"status":"COMPLETE","results":[{"id":"1"},{"id":"2"}]}`, want: all(big), one: dlv},
		{name: "a page", status: 200, body: `<html>Please sign in`, want: all(ath), one: ath, code: "not_hubspot", says: []string{"endpoint"}},
		{name: "one of three was not written", kind: "identify", status: 200, body: upsert(written(ids[0], ids[1]), ""), want: []connector.Class{dlv, dlv, big}, one: per},
		{name: "nobody is named", status: 400, body: `{"status":"error","message":"Invalid input","category":"VALIDATION_ERROR","correlationId":"c"}`, want: all(big), one: per, code: "refused_together", says: []string{"Invalid input"}},
		{name: "not even why", status: 400, body: `no`, want: all(big), one: per},
		{name: "one is named in the context", status: 400, body: `{"category":"VALIDATION_ERROR","message":"m","context":{"id":["` + strings.ToUpper(ids[2]) + `"]}}`, want: []connector.Class{big, big, per}, one: per, code: "validation_error"},
		{name: "one is named in a message", status: 400, body: `{"category":"VALIDATION_ERROR","message":"m","errors":[{"message":"event ` + ids[2] + ` has a property that does not exist"}]}`, want: []connector.Class{big, big, per}, one: per, code: "refused", says: []string{"does not exist;"}},
		{
			name: "words that repeat what was sent", status: 400, body: `{"category":"VALIDATION_ERROR","message":"Invalid input: ` + strings.Join(ids, ", ") + `"}`,
			want: all(big), one: per, code: "refused_together",
		},
		{name: "a list of those to blame", kind: "track", status: 400, body: `{"category":"VALIDATION_ERROR","message":"m","context":{"uuid":["` + ids[1] + `","` + ids[2] + `"]}}`, want: []connector.Class{big, per, per}, one: per},
		{name: "a repeated uuid that is named", kind: "track", status: 400, body: `{"category":"VALIDATION_ERROR","message":"Duplicate uuid ` + ids[2] + `"}`, want: []connector.Class{big, big, dup}, one: dup},
		{name: "a repeated uuid that is not named", kind: "track", status: 409, body: `{"category":"CONFLICT","message":"An event with this uuid already exists"}`, want: all(big), one: dup},
		{name: "a conflict that is none of a uuid", kind: "track", status: 409, body: `{"category":"CONFLICT","message":"Another request is already in progress"}`, want: all(big), one: per, code: "refused_together"},
		{
			name: "somebody else creates one of three", kind: "identify", status: 207,
			body: upsert(written(ids[0], ids[1]), `{"category":"CONFLICT","message":"Contact already exists. Existing ID: 1","context":{"objectWriteTraceId":["`+ids[2]+`"]}}`),
			want: []connector.Class{dlv, dlv, ret}, one: ret, code: "conflict",
		},
		{name: "somebody else creates one", kind: "identify", status: 409, body: `{"category":"CONFLICT","message":"Contact already exists. Existing ID: 1"}`, want: all(ret), one: ret, code: "conflict"},
		{name: "a definition that does not exist", kind: "track", status: 404, body: `{"category":"OBJECT_NOT_FOUND","message":"Event type pe1_x does not exist"}`, want: all(big), one: per, says: []string{"pe1_x"}},
		{name: "somebody else answers", status: 404, body: `<html>not here</html>`, want: all(ath), one: ath, says: []string{"endpoint"}},
		{name: "a redirect", status: 302, want: all(ath), one: ath, says: []string{"endpoint"}},
		{name: "a token that is wrong", status: 401, body: `{"category":"INVALID_AUTHENTICATION","message":"The OAuth token used to make this call expired"}`, want: all(ath), one: ath, code: "invalid_authentication", says: []string{"access_token", "expired"}},
		{name: "an event without the scope", kind: "track", status: 403, body: `{"category":"MISSING_SCOPES","message":"scopes"}`, want: all(ath), one: ath, code: "missing_scopes", says: []string{"access_token", scopeEvents, "Enterprise"}},
		{name: "a contact without the scope", kind: "identify", status: 403, want: all(ath), one: ath, code: "forbidden", says: []string{"access_token", scopeContacts}},
		{name: "too large", status: 413, want: all(big), one: big},
		{name: "too long an address", status: 414, want: all(per), one: per},
		{name: "locked", status: 423, want: all(ret), one: ret, wait: 2 * time.Second, code: "locked"},
		{name: "too many in ten seconds", status: 429, body: `{"errorType":"RATE_LIMIT","policyName":"TEN_SECONDLY_ROLLING","message":"m"}`, want: all(thr), one: thr, wait: 10 * time.Second, code: "ten_secondly_rolling"},
		{name: "too many today", status: 429, body: `{"errorType":"RATE_LIMIT","policyName":"DAILY","message":"You have reached your daily limit."}`, want: all(thr), one: thr, wait: time.Hour, code: "daily", says: []string{"daily"}},
		{name: "too many, and nothing is said", status: 429, want: all(thr), one: thr, wait: 10 * time.Second, code: "rate_limit"},
		{name: "too many, and it says for how long", status: 429, header: "7", want: all(thr), one: thr, wait: 7 * time.Second},
		{name: "moving", status: 477, header: "86400", want: all(thr), one: thr, wait: 24 * time.Hour, code: "migration"},
		{name: "moving, and nothing is said", status: 477, want: all(thr), one: thr, wait: time.Hour},
		{name: "an error of HubSpot", status: 500, body: `{"status":"error","message":"internal error"}`, want: all(ret), one: ret},
		{name: "an edge that finds nobody", status: 502, body: `<html>`, want: all(ret), one: ret},
		{name: "unavailable", status: 503, want: all(ret), one: ret},
		{name: "a gateway that waits no longer", status: 504, want: all(ret), one: ret},
		{name: "Cloudflare: down", status: 521, want: all(ret), one: ret},
		{name: "Cloudflare: not reached", status: 523, want: all(ret), one: ret},
		{name: "Cloudflare: too slow", status: 524, want: all(ret), one: ret},
	} {
		kinds := []string{c.kind}
		if c.kind == "" {
			kinds = []string{event.TypeTrack, event.TypeIdentify}
		}
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("%s %s: %d", kind, c.name, c.status), func(t *testing.T) {
				t.Parallel()
				conn := toHandler(t, func(w http.ResponseWriter, _ *http.Request) {
					if c.header != "" {
						w.Header().Set("Retry-After", c.header)
					}
					w.WriteHeader(c.status)
					if c.status != http.StatusNoContent {
						fmt.Fprint(w, c.body)
					}
				}, eventsMapped)
				results := conn.Send(t.Context(), conn.Plan(three(kind)).Calls[0])
				for i, r := range results {
					if r.Class != c.want[i] || r.RetryAfter != c.wait {
						t.Errorf("event %d is %s (%s: %s), wait %s; want %s, %s", i, r.Class, r.Code, r.Message, r.RetryAfter, c.want[i], c.wait)
					}
				}
				last := results[len(results)-1]
				if c.code != "" && last.Code != c.code {
					t.Errorf("code %q, want %q", last.Code, c.code)
				}
				for _, want := range c.says {
					if !strings.Contains(last.Message, want) {
						t.Errorf("the message does not say %q: %s", want, last.Message)
					}
				}
				if got := conn.Send(t.Context(), conn.Plan(three(kind)[2:]).Calls[0])[0]; got.Class != c.one {
					t.Errorf("alone it is %s (%s: %s), want %s", got.Class, got.Code, got.Message, c.one)
				}
			})
		}
	}
}

// Two identify events of one address are one contact. What is wrong with one of
// them does not cost the other.
func TestIdentifyEventsThatShareAContactAreSentApartIfItIsRefused(t *testing.T) {
	t.Parallel()
	conn := toHandler(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		answer := `{"results":[{"objectWriteTraceId":"` + ids[0] + `"}]}`
		if strings.Contains(string(body), "shoe_size") {
			w.WriteHeader(http.StatusMultiStatus)
			answer = `{"results":[],"errors":[{"category":"VALIDATION_ERROR","message":"shoe_size","context":{"objectWriteTraceId":["` + ids[0] + `","` + ids[1] + `"]}}]}`
		}
		fmt.Fprint(w, answer)
	})
	two := []connector.Delivery{
		a(event.TypeIdentify, func(e *event.Event) { e.ID, e.Data = ids[0], []byte(`{"plan":"pro"}`) }),
		a(event.TypeIdentify, func(e *event.Event) { e.ID, e.Data = ids[1], []byte(`{"shoe_size":38}`) }),
	}
	for i, r := range conn.Send(t.Context(), conn.Plan(two).Calls[0]) {
		if r.Class != connector.TooLarge {
			t.Errorf("together, event %d is %s: %s", i, r.Class, r.Message)
		}
	}
	for i, want := range []connector.Class{connector.Delivered, connector.Permanent} {
		if got := conn.Send(t.Context(), conn.Plan(two[i : i+1]).Calls[0])[0]; got.Class != want {
			t.Errorf("alone, event %d is %s: %s", i, got.Class, got.Message)
		}
	}
}

// An answer repeats all properties of each contact, and what was refused stands
// at its end.
func TestALongAnswerIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	conn := toHandler(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusMultiStatus)
		fmt.Fprintf(w, `{"results":[{"objectWriteTraceId":%q,"properties":{"x":"%s"}},{"objectWriteTraceId":%q}],"errors":[{"category":"VALIDATION_ERROR","message":"m","context":{"objectWriteTraceId":[%q]}}]}`,
			ids[0], strings.Repeat("x", 500_000), ids[1], ids[2])
	})
	results := conn.Send(t.Context(), conn.Plan(three(event.TypeIdentify)).Calls[0])
	if results[1].Class != connector.Delivered || results[2].Class != connector.Permanent {
		t.Errorf("%+v", results)
	}
}

func TestALostAnswerIsAmbiguous(t *testing.T) {
	t.Parallel()
	conn := toHandler(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, eventsMapped)
	for _, kind := range []string{event.TypeTrack, event.TypeIdentify} {
		if got := conn.Send(t.Context(), conn.Plan(three(kind)).Calls[0])[2]; got.Class != connector.Ambiguous {
			t.Errorf("%s: %+v", kind, got)
		}
	}
	if !conn.Limits().Dedups {
		t.Error("the limits do not say that repetitions do no harm")
	}
}

// account serves what a HubSpot account says of itself.
func account(answers map[string]string, calls *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if calls != nil && r.URL.Path == pathProperties {
			calls.Add(1)
		}
		body, ok := answers[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, body)
	}
}

const propertiesOfContacts = `{"results":[{"name":"email"},{"name":"firstname","modificationMetadata":{"readOnlyValue":false}},{"name":"createdate","modificationMetadata":{"readOnlyValue":true}}]}`

func TestPropertiesThatHubSpotDoesNotHaveAreDroppedIfThatIsWanted(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	conn := toHandler(t, account(map[string]string{
		pathProperties: propertiesOfContacts,
		pathContacts:   `{"status":"COMPLETE","results":[{"id":"1","properties":{}}]}`,
	}, &calls), `"unknown_properties":"drop"`)
	plan := conn.Plan([]connector.Delivery{a(event.TypeIdentify, func(e *event.Event) {
		e.Data = []byte(`{"firstName":"Ada","shoe_size":38,"createdate":"2026-01-01"}`)
	})})
	for range 2 {
		got := conn.Send(t.Context(), plan.Calls[0])[0]
		if got.Class != connector.Delivered || got.Code != "properties_dropped" || !strings.Contains(got.Message, "shoe_size, createdate") {
			t.Errorf("%+v", got)
		}
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("the list was asked for %d times", n)
	}
	b := plan.Calls[0].Payload.(*batch)
	text, _ := appendContacts(nil, b, map[string]bool{"firstname": true})
	if got := string(text); !strings.Contains(got, `"properties":{"email":"ada@example.com","firstname":"Ada"}`) {
		t.Error(got)
	}
}

func TestWithoutTheListOfPropertiesNothingIsSent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    connector.Class
		says    string
	}{
		"a missing scope":      {account(nil, nil), connector.Auth, "crm.schemas.contacts.read"},
		"something unreadable": {account(map[string]string{pathProperties: `{"results":[]}`}, nil), connector.Retryable, "cannot be read"},
		"a lost answer":        {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, connector.Retryable, ""},
		"too many calls":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }, connector.Throttled, ""},
		"nothing of the kind":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }, connector.Retryable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := toHandler(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == pathContacts {
					t.Error("a contact was sent")
				}
				c.handler(w, r)
			}, `"unknown_properties":"drop"`)
			got := conn.Send(t.Context(), conn.Plan(three(event.TypeIdentify)).Calls[0])
			for _, r := range got {
				if r.Class != c.want || !strings.Contains(r.Message, c.says) {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

func TestWhoWaitsForTheListOfPropertiesGoesWithItsContext(t *testing.T) {
	t.Parallel()
	conn := open(t, `"unknown_properties":"drop"`)
	conn.known.lock <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, trouble := conn.known.get(ctx); trouble == nil || trouble.Class != connector.Retryable {
		t.Errorf("%+v", trouble)
	}
}

func TestCheckComparesTheAccountWithTheNamesOfEvents(t *testing.T) {
	t.Parallel()
	const details = `{"portalId":123456,"accountType":"STANDARD","dataHostingLocation":"eu1"}`
	for name, c := range map[string]struct {
		answers map[string]string
		more    string
		want    connector.Class
		says    []string
	}{
		"all is well":      {map[string]string{pathAccount: details}, eventsMapped, connector.Delivered, []string{"123456", "eu1"}},
		"no events":        {map[string]string{pathAccount: details}, `"contacts":true`, connector.Delivered, []string{"mapping.events is empty"}},
		"another account":  {map[string]string{pathAccount: `{"portalId":7}`}, eventsMapped, connector.Auth, []string{"account 7", "mapping.events", "access_token"}},
		"no scope":         {nil, eventsMapped, connector.Auth, []string{"access_token"}},
		"not HubSpot":      {map[string]string{pathAccount: `hello`}, eventsMapped, connector.Auth, []string{"endpoint"}},
		"properties":       {map[string]string{pathAccount: details, pathProperties: propertiesOfContacts}, `"unknown_properties":"drop"`, connector.Delivered, []string{"2 properties"}},
		"properties: none": {map[string]string{pathAccount: details}, `"unknown_properties":"drop"`, connector.Auth, []string{"crm.schemas.contacts.read"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := toHandler(t, account(c.answers, nil), c.more).Check(t.Context())
			if got.Class != c.want {
				t.Errorf("%+v", got)
			}
			for _, want := range c.says {
				if !strings.Contains(got.Message, want) {
					t.Errorf("the message does not say %q: %s", want, got.Message)
				}
			}
		})
	}
}
