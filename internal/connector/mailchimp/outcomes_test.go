package mailchimp

import (
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

// trouble is a body as Mailchimp writes it.
func trouble(status int, title, detail string) string {
	return fmt.Sprintf(`{"type":"https://mailchimp.com/developer/marketing/docs/errors/","title":%q,"status":%d,"detail":%q,"instance":"995c5cb0"}`, title, status, detail)
}

func TestEveryAnswerHasItsOutcome(t *testing.T) {
	t.Parallel()
	const (
		dlv, per, big      = connector.Delivered, connector.Permanent, connector.TooLarge
		ath, thr, ret, amb = connector.Auth, connector.Throttled, connector.Retryable, connector.Ambiguous
	)
	for _, c := range []struct {
		name   string
		status int // 0: the connection is cut
		body   string
		event  connector.Class
		person connector.Class
		wait   time.Duration
		code   string
		says   string
	}{
		{name: "taken", status: 204, event: dlv, person: dlv},
		{name: "written", status: 200, body: `{"id":"x","status":"subscribed"}`, event: dlv, person: dlv},
		{name: "a lost answer", event: amb, person: ret},
		{name: "a page", status: 200, body: "<html>Please sign in", event: ath, person: ath, code: "not_mailchimp", says: "endpoint"},
		{name: "a redirect", status: 301, event: ath, person: ath, says: "endpoint"},
		{name: "a wrong key", status: 401, body: trouble(401, "API Key Invalid", "Your API key may be invalid, or you've attempted to access the wrong datacenter."), event: ath, person: ath, code: "api_key_invalid", says: "api_key"},
		{name: "a wrong data centre", status: 403, body: trouble(403, "Wrong Datacenter", "The API key provided is linked to a different datacenter"), event: ath, person: ath, code: "wrong_datacenter", says: "api_key"},
		{name: "403 without a word", status: 403, event: thr, person: thr, wait: 30 * time.Second, code: "volume"},
		{name: "403 with a page", status: 403, body: "<html>Access Denied</html>", event: thr, person: thr, wait: 30 * time.Second, code: "volume"},
		{name: "429", status: 429, body: trouble(429, "Too Many Requests", "You have exceeded the limit of 10 simultaneous connections."), event: thr, person: thr, wait: 5 * time.Second, code: "too_many_requests", says: "10 connections"},
		{name: "429 without a word", status: 429, event: thr, person: thr, wait: 30 * time.Second, code: "volume"},
		{name: "no audience", status: 404, body: trouble(404, "Resource Not Found", "The requested resource could not be found."), event: ath, person: ath, code: "no_list", says: "list_id"},
		{name: "somebody else answers", status: 404, body: "<html>", event: ath, person: ath, code: "not_mailchimp", says: "endpoint"},
		{name: "compliance", status: 400, body: trouble(400, "Member In Compliance State", "ada@example.com is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."), event: per, person: per, code: "compliance_state", says: "unsubscribed"},
		{name: "forgotten", status: 400, body: trouble(400, "Forgotten Email Not Subscribed", "ada@example.com was permanently deleted and cannot be re-imported."), event: per, person: per, code: "forgotten_email", says: "deleted for good"},
		{name: "a fake address", status: 400, body: trouble(400, "Invalid Resource", "x@example.com looks fake or invalid, please enter a real email address."), event: per, person: per, code: "invalid_resource", says: "looks fake"},
		{name: "many lists", status: 400, body: trouble(400, "Invalid Resource", "x@example.com has signed up to a lot of lists very recently; we're not allowing more signups for now"), event: ret, person: ret, wait: 6 * time.Hour, code: "many_lists", says: "a lot of lists"},
		{name: "a field that is wrong", status: 400, body: `{"title":"Invalid Resource","status":400,"detail":"see errors","errors":[{"field":"merge_fields.BDAY","message":"not a date"}]}`, event: per, person: per, says: "merge_fields.BDAY: not a date"},
		{name: "400 without a word", status: 400, event: per, person: per},
		{name: "a method that is wrong", status: 405, body: trouble(405, "Method Not Allowed", "no"), event: per, person: per, code: "method_not_allowed"},
		{name: "too large", status: 413, event: big, person: big},
		{name: "an error of Mailchimp", status: 500, body: trouble(500, "Internal Server Error", "An unexpected internal error has occurred."), event: ret, person: ret},
		{name: "a blocked request", status: 503, body: "<html>Request Blocked</html>", event: ret, person: ret, wait: 30 * time.Second},
		{name: "an edge", status: 502, body: "<html>", event: ret, person: ret},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			answer := says(c.status, c.body)
			if c.status == 0 {
				answer = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
			}
			conn := toHandler(t, answer)
			for kind, want := range map[string]connector.Class{event.TypeTrack: c.event, event.TypeIdentify: c.person} {
				got := conn.Send(t.Context(), conn.Plan([]connector.Delivery{a(kind, nil)}).Calls[0])[0]
				if got.Class != want || got.RetryAfter != c.wait || c.code != "" && got.Code != c.code || !strings.Contains(got.Message, c.says) {
					t.Errorf("%s: %s (%s: %s), wait %s; want %s, code %q, wait %s, and that it says %q", kind, got.Class, got.Code, got.Message, got.RetryAfter, want, c.code, c.wait, c.says)
				}
			}
		})
	}
	if open(t).Limits().Dedups {
		t.Error("the limits say that an event that comes twice does no harm")
	}
}

const notFound = `{"type":"x","title":"Resource Not Found","status":404,"detail":"The requested resource could not be found."}`

// audience is one person's Mailchimp, and what is asked of it.
type audience struct {
	exists, hasPerson bool
	asked             []string
	refuse            string // of a PUT
}

func (s *audience) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	s.asked = append(s.asked, r.Method+" "+parts[len(parts)-1])
	switch {
	case !s.exists:
		says(404, notFound)(w, r)
	case r.Method == http.MethodPut && s.refuse != "":
		says(400, s.refuse)(w, r)
	case r.Method == http.MethodPut:
		s.hasPerson = true
		fmt.Fprint(w, `{}`)
	case r.Method == http.MethodGet:
		fmt.Fprint(w, `{"name":"Customers"}`)
	case !s.hasPerson:
		says(404, notFound)(w, r)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// What Mailchimp does not find may be the person or the audience.
func TestAPersonWhoIsMissingIsToldFromAnAudienceThatIs(t *testing.T) {
	t.Parallel()
	compliance := trouble(400, "Member In Compliance State", "no")
	for name, c := range map[string]struct {
		audience audience
		upsert   bool
		want     connector.Class
		code     string
		asked    int
	}{
		"there":                    {audience: audience{exists: true, hasPerson: true}, upsert: true, want: connector.Delivered, asked: 1},
		"put in":                   {audience: audience{exists: true}, upsert: true, want: connector.Delivered, asked: 3},
		"cannot be put in":         {audience: audience{exists: true, refuse: compliance}, upsert: true, want: connector.Permanent, code: "compliance_state", asked: 2},
		"not to be put in":         {audience: audience{exists: true}, want: connector.Permanent, code: "no_member", asked: 2},
		"no audience":              {want: connector.Auth, code: "no_list", asked: 2},
		"no audience to be put in": {upsert: true, want: connector.Auth, code: "no_list", asked: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := toHandler(t, c.audience.ServeHTTP, fmt.Sprintf(`"upsert_before_event":%t`, c.upsert))
			got := conn.Send(t.Context(), conn.Plan([]connector.Delivery{a(event.TypeTrack, nil)}).Calls[0])[0]
			if got.Class != c.want || got.Code != c.code || len(c.audience.asked) != c.asked {
				t.Errorf("%+v after %v", got, c.audience.asked)
			}
		})
	}
}

// An audience that was just seen is not looked for again.
func TestTheAudienceIsNotLookedForAgainAndAgain(t *testing.T) {
	t.Parallel()
	s := &audience{exists: true}
	conn := toHandler(t, s.ServeHTTP, `"upsert_before_event":false`)
	call := conn.Plan([]connector.Delivery{a(event.TypeTrack, nil)}).Calls[0]
	for range 3 {
		if got := conn.Send(t.Context(), call)[0]; got.Code != "no_member" {
			t.Errorf("%+v", got)
		}
	}
	if n := strings.Count(strings.Join(s.asked, "\n"), "GET"); n != 1 {
		t.Errorf("looked for %d times: %v", n, s.asked)
	}
}

// The person is put in, and the answer to the event itself is lost.
func TestALostAnswerAfterPuttingAPersonInIsAmbiguousForTheEventAlone(t *testing.T) {
	t.Parallel()
	for lost, want := range map[string]connector.Class{http.MethodPut: connector.Retryable, http.MethodPost: connector.Ambiguous} {
		var posts atomic.Int32
		conn := toHandler(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && posts.Add(1) == 1 {
				says(404, notFound)(w, r)
				return
			}
			if r.Method == lost {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprint(w, `{}`)
		})
		if got := conn.Send(t.Context(), conn.Plan([]connector.Delivery{a(event.TypeTrack, nil)}).Calls[0])[0]; got.Class != want {
			t.Errorf("%s is lost: %+v", lost, got)
		}
	}
}

// Of people who are sent together each has an outcome of their own.
func TestPeopleSentTogetherHaveOutcomesOfTheirOwn(t *testing.T) {
	t.Parallel()
	four := []connector.Delivery{person(1), person(2), person(3), person(4)}
	const added = `{"new_members":[{"email_address":"p1@example.com"}],"updated_members":[{"email_address":"p2@example.com"}],"errors":[
		{"email_address":"p3@example.com","error":"p3@example.com looks fake or invalid","error_code":"ERROR_GENERIC","field":"email_address","field_message":"invalid"},
		{"email_address":"P4@example.com","error":"has signed up to a lot of lists very recently","error_code":"ERROR_GENERIC"}]}`
	for name, c := range map[string]struct {
		together, alone http.HandlerFunc
		want            []connector.Class
		requests        int
	}{
		"named by their addresses":            {says(200, added), nil, []connector.Class{connector.Delivered, connector.Delivered, connector.Permanent, connector.Retryable}, 1},
		"an answer that says nothing of them": {says(200, `{"new_members":[]}`), says(200, `{}`), []connector.Class{connector.Delivered, connector.Delivered, connector.Delivered, connector.Delivered}, 5},
		"a page":                              {says(200, "<html>"), nil, []connector.Class{connector.Auth, connector.Auth, connector.Auth, connector.Auth}, 1},
		"an answer that is cut":               {says(200, `{"new_members":[{"email_addr`), says(200, `{}`), []connector.Class{connector.Delivered, connector.Delivered, connector.Delivered, connector.Delivered}, 5},
		"a refusal of all":                    {says(400, trouble(400, "Invalid Resource", "x")), says(200, `{}`), []connector.Class{connector.Delivered, connector.Delivered, connector.Delivered, connector.Delivered}, 5},
		"each refused":                        {says(413, ""), says(400, trouble(400, "Invalid Resource", "x")), []connector.Class{connector.Permanent, connector.Permanent, connector.Permanent, connector.Permanent}, 5},
		"throttled":                           {says(429, ""), nil, []connector.Class{connector.Throttled, connector.Throttled, connector.Throttled, connector.Throttled}, 1},
		"throttled then":                      {says(413, ""), says(403, ""), []connector.Class{connector.Throttled, connector.Throttled, connector.Throttled, connector.Throttled}, 2},
		"no audience":                         {says(404, notFound), nil, []connector.Class{connector.Auth, connector.Auth, connector.Auth, connector.Auth}, 1},
		"a lost answer":                       {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, []connector.Class{connector.Retryable, connector.Retryable, connector.Retryable, connector.Retryable}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requests, results := calls(t, four, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPut {
					c.alone(w, r)
					return
				}
				c.together(w, r)
			})
			for i, r := range results {
				if r.Class != c.want[i] {
					t.Errorf("person %d: %+v, want %s", i+1, r, c.want[i])
				}
			}
			if len(requests) != c.requests {
				t.Errorf("%d requests, want %d", len(requests), c.requests)
			}
		})
	}
}

// What is wrong with the outcome of one in the middle: those before it have
// theirs, those behind it wait, and nothing was sent for them.
func TestATroubleInTheMiddleIsOfThoseWhoComeAfter(t *testing.T) {
	t.Parallel()
	second := (&member{email: "p2@example.com"}).path("")
	for name, c := range map[string]struct {
		trouble http.HandlerFunc
		want    connector.Class
	}{
		"throttled":     {says(403, ""), connector.Throttled},
		"a wrong key":   {says(401, trouble(401, "API Key Invalid", "x")), connector.Auth},
		"unavailable":   {says(503, "<html>"), connector.Retryable},
		"a lost answer": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, connector.Retryable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requests, results := calls(t, []connector.Delivery{person(1), person(2), person(3), person(4)}, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, second) {
					c.trouble(w, r)
					return
				}
				fmt.Fprint(w, `{}`)
			}, `"status_if_new":"subscribed"`)
			if len(requests) != 2 {
				t.Errorf("%d requests, want two", len(requests))
			}
			for i, r := range results {
				if want := []connector.Class{connector.Delivered, c.want, c.want, c.want}[i]; r.Class != want {
					t.Errorf("person %d: %+v, want %s", i+1, r, want)
				}
			}
			if !strings.Contains(results[1].Request, "p2@") || results[2].Request != "" {
				t.Errorf("the requests that are shown: %q, %q", results[1].Request, results[2].Request)
			}
		})
	}
}

// The tags are refused after the person was written: what is known of the event
// is that it has not done all it should.
func TestAPersonWhoseTagsAreRefusedIsNotDelivered(t *testing.T) {
	t.Parallel()
	requests, results := calls(t, []connector.Delivery{person(1)}, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/tags") {
			says(400, trouble(400, "Invalid Resource", "too many tags"))(w, r)
			return
		}
		fmt.Fprint(w, `{}`)
	}, `"tags":["customer"]`)
	if len(requests) != 2 || results[0].Class != connector.Permanent || !strings.Contains(results[0].Message, "too many tags") {
		t.Errorf("%+v after %d requests", results[0], len(requests))
	}
}

// Two identify events of one address are one person. What is wrong with one of
// them does not cost the other.
func TestEventsThatShareAPersonAreSentApartIfItIsRefused(t *testing.T) {
	t.Parallel()
	of := func(data string) connector.Delivery {
		return a(event.TypeIdentify, func(e *event.Event) { e.Data = []byte(data) })
	}
	two := []connector.Delivery{of(`{"plan":"pro"}`), of(`{"birthday":"someday"}`)}
	answer := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(string(body), "someday") {
			says(400, trouble(400, "Invalid Resource", "not a birthday"))(w, r)
			return
		}
		fmt.Fprint(w, `{}`)
	}
	conn := toHandler(t, answer, `"mapping":{"traits":{"PLAN":"/data/plan","BIRTHDAY":"/data/birthday"}}`)
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

// The key is a secret also without the data centre at its end.
func TestAnAnswerThatRepeatsThePartsOfTheKeyDoesNotShowThem(t *testing.T) {
	t.Parallel()
	secret, _, _ := strings.Cut(key, "-")
	conn := toHandler(t, func(w http.ResponseWriter, r *http.Request) {
		says(400, trouble(400, "Invalid Resource", "the key "+secret+" in "+r.Header.Get("Authorization")))(w, r)
	})
	got := conn.Send(t.Context(), conn.Plan([]connector.Delivery{a(event.TypeTrack, nil)}).Calls[0])[0]
	if shown := fmt.Sprintf("%+v", got); strings.Contains(shown, secret) || !strings.Contains(shown, "the key ***") {
		t.Error(shown)
	}
}

// A person who has to wait for hours does not hold up the others.
func TestOneWhoHasToWaitDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	_, results := calls(t, []connector.Delivery{person(1), person(2)}, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, (&member{email: "p1@example.com"}).path("")) {
			says(400, trouble(400, "Invalid Resource", "p1 has signed up to a lot of lists very recently"))(w, r)
			return
		}
		fmt.Fprint(w, `{}`)
	})
	if results[0].Code != codeManyLists || results[1].Class != connector.Delivered {
		t.Errorf("%+v", results)
	}
}

func TestCheckFindsTheAudience(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ping, list http.HandlerFunc
		want       connector.Class
		says       []string
	}{
		"all is well":     {says(200, `{"health_status":"Everything's Chimpy!"}`), says(200, `{"name":"Customers","double_optin":false,"stats":{"member_count":7}}`), connector.Delivered, []string{`"Customers"`, "7 subscribers", "subscribed"}},
		"a double opt-in": {says(200, `{}`), says(200, `{"name":"Customers","double_optin":true}`), connector.Delivered, []string{"status_if_new to pending"}},
		"a wrong key":     {says(401, trouble(401, "API Key Invalid", "x")), nil, connector.Auth, []string{"api_key"}},
		"no audience":     {says(200, `{}`), says(404, notFound), connector.Auth, []string{"list_id"}},
		"no answer":       {says(200, `{}`), says(200, `{}`), connector.Retryable, []string{"cannot be read"}},
		"busy":            {says(200, `{}`), says(429, ""), connector.Throttled, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := toHandler(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.Method + " " + r.URL.Path {
				case "GET /3.0/ping":
					c.ping(w, r)
				case "GET /3.0/lists/a1b2c3":
					c.list(w, r)
				default:
					t.Errorf("%s %s", r.Method, r.URL.Path)
				}
			}, `"status_if_new":"subscribed"`).Check(t.Context())
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
