package simulator

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func newHubspotVendor(t *testing.T) *vendor {
	return newVendor(t, "hubspot", map[string]string{"Authorization": "Bearer " + hubspotToken})
}

// completion is an event that HubSpot accepts, with changes as those of signup.
func completion(uuid string, changes ...any) object {
	o := object{
		"eventName": "pe123456_signed_up", "email": "a@b.co", "occurredAt": "2026-11-23T10:00:00.000Z", "uuid": uuid,
		"properties": object{"plan": "pro"},
	}
	return changed(o, changes)
}

// contact is the input of an upsert, with changes.
func contact(email, trace string, changes ...any) object {
	return changed(object{
		"id": email, "idProperty": "email", "objectWriteTraceId": trace, "properties": object{"email": email, "firstname": "Ada"},
	}, changes)
}

func inputs(all ...any) string { return asked(object{"inputs": all}) }

const (
	hubspotSend   = "/events/v3/send/batch"
	hubspotUpsert = "/crm/v3/objects/contacts/batch/upsert"
)

func TestHubspotTakesEventsOncePerUUIDAndType(t *testing.T) {
	t.Parallel()
	v := newHubspotVendor(t)
	v.call(t, request{path: hubspotSend, body: inputs(completion("1"), completion("2"))}).wants(t, 204)
	// A repetition refuses all of its call.
	v.call(t, request{path: hubspotSend, body: inputs(completion("2"), completion("3"))}).wants(t, 400, "unique within the type of event")
	v.call(t, request{path: hubspotSend, body: inputs(completion("3"), completion("3"))}).wants(t, 400, "unique within the type of event")
	v.call(t, request{path: "/events/v3/send", body: asked(completion("3"))}).wants(t, 204)
	v.call(t, request{path: "/events/2026-03/send", body: asked(completion("3", "eventName", "pe123456_other"))}).wants(t, 204)
	// Without a uuid everything is new.
	v.call(t, request{path: "/events/custom/2026-09/send", body: asked(completion("", "uuid", nil))}).wants(t, 204)
	v.call(t, request{path: "/events/custom/2026-09/send", body: asked(completion("", "uuid", nil))}).wants(t, 204)
	v.wantItems(t, "event pe123456_signed_up a@b.co 1", "event pe123456_signed_up a@b.co 2", "event pe123456_signed_up a@b.co 3",
		"event pe123456_other a@b.co 3", "event pe123456_signed_up a@b.co ", "event pe123456_signed_up a@b.co ")
	if n := v.Counts().Duplicates; n != 2 {
		t.Errorf("%d duplicates", n)
	}
	// Some answers name the uuid, others do not.
	named := map[bool]int{}
	for range 50 {
		got := v.call(t, request{path: hubspotSend, body: inputs(completion("9"), completion("2"))})
		got.wants(t, 400)
		named[strings.Contains(got.body, "2 was sent before")]++
	}
	if named[true] == 0 || named[false] == 0 {
		t.Errorf("%v answers name the uuid", named)
	}
}

// "Repeats inside a year are rejected."
func TestHubspotForgetsUUIDsAfterAYear(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newHubspotVendor(t)
		for _, then := range []struct {
			wait   time.Duration
			status int
		}{{0, 204}, {hubspotYear - time.Hour, 400}, {time.Hour, 204}} {
			time.Sleep(then.wait)
			v.call(t, request{path: hubspotSend, body: inputs(completion("1"))}).wants(t, then.status)
		}
		if n := len(v.Received()); n != 2 {
			t.Errorf("%d taken", n)
		}
	})
}

func TestHubspotRefusesABatchOfEventsAsAWholeAndNamesNobody(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]object{
		"bare name":          completion("bad", "eventName", "signed_up"),
		"not defined":        completion("bad", "eventName", "pe1_unknown"),
		"number":             completion("bad", "properties", object{"n": 1}),
		"no identity":        completion("bad", "email", nil),
		"no properties":      completion("bad", "properties", nil),
		"upper case":         completion("bad", "properties", object{"Plan": "x"}),
		"51 properties":      completion("bad", "properties", texts(51)),
		"long value":         completion("bad", "properties", object{"plan": strings.Repeat("é", 257)}),
		"long address":       completion("bad", "properties", object{"hs_page_url": strings.Repeat("u", 1025)}),
		"long property name": completion("bad", "properties", object{strings.Repeat("p", 51): "x"}),
		"time":               completion("bad", "occurredAt", "yesterday"),
		"refused":            completion("refused"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newHubspotVendor(t)
			v.Define("pe123456_signed_up", "pe123456_other")
			v.Trouble(Trouble{Refuse: func(id string) bool { return id == "refused" }})
			got := v.call(t, request{path: hubspotSend, body: inputs(completion("1"), bad, completion("2"))})
			got.wants(t, 400, `"category":"VALIDATION_ERROR"`, `"status":"error"`)
			if strings.Contains(got.body, "bad") || strings.Contains(got.body, "inputs.1") {
				t.Errorf("it names the input: %s", got.body)
			}
			if flaw := check("hubspot.error.response", got.json(t)); flaw != nil {
				t.Error(flaw)
			}
			v.wantItems(t)
			if n := v.Counts().Refused; n != 3 {
				t.Errorf("%d refused", n)
			}
			v.call(t, request{path: hubspotSend, body: inputs(completion("1", "properties", object{
				"plan": strings.Repeat("é", 256), "url": strings.Repeat("u", 1024),
			}))}).wants(t, 204)
		})
	}
}

// texts are n properties that are strings.
func texts(n int) object {
	o := keys(n)
	for name := range o {
		o[name] = "x"
	}
	return o
}

func TestHubspotUpsertsContacts(t *testing.T) {
	t.Parallel()
	v := newHubspotVendor(t)
	got := v.call(t, request{path: hubspotUpsert, body: inputs(contact("a@b.co", "e1"), contact("c@d.co", "e2"))})
	got.wants(t, 200, `"status":"COMPLETE"`, `"new":true`, `"objectWriteTraceId":"e1"`, `"firstname":"Ada"`)
	if flaw := check("hubspot.batch.response", got.json(t)); flaw != nil {
		t.Error(flaw)
	}
	again := v.call(t, request{path: "/crm/objects/2026-03/contacts/batch/upsert", body: inputs(contact("A@b.co", "e3"))})
	again.wants(t, 200, `"new":false`)
	id := func(r reply) string { return text(member(r.json(t), "results").([]any)[0], "id") }
	if id(got) != id(again) {
		t.Errorf("the contact has another id: %s, %s", got.body, again.body)
	}
	v.wantItems(t, "contact  a@b.co e1", "contact  c@d.co e2", "contact  A@b.co e3")
}

func TestHubspotAnswers207WithTheTraceOfEachContactThatIsWrong(t *testing.T) {
	t.Parallel()
	v := newHubspotVendor(t)
	v.Define("firstname", "email")
	v.Trouble(Trouble{Refuse: func(id string) bool { return id == "e4" }})
	got := v.call(t, request{path: hubspotUpsert, body: inputs(
		contact("a@b.co", "e1"), contact("no address", "e2"), contact("c@d.co", "e3", "properties", object{"shoe": "42"}),
		contact("e@f.co", "e4"), contact("7", "e5", "idProperty", "hs_object_id"), contact("g@h.co", ""),
	)})
	got.wants(t, 207, `"numErrors":4`, `"objectWriteTraceId":["e2"]`, `"objectWriteTraceId":["e3"]`, `"objectWriteTraceId":["e4"]`,
		`"objectWriteTraceId":["e5"]`, "PROPERTY_DOESNT_EXIST")
	if flaw := check("hubspot.batch.response", got.json(t)); flaw != nil {
		t.Error(flaw)
	}
	v.wantItems(t, "contact  a@b.co e1", "contact  g@h.co ")
	v.call(t, request{method: "GET", path: "/crm/v3/properties/contacts"}).wants(t, 200, `"name":"firstname"`, `"readOnlyValue":true`)
}

func TestHubspotRefusesWholeCalls(t *testing.T) {
	t.Parallel()
	v := newHubspotVendor(t)
	narrow := map[string]string{"Authorization": "Bearer " + hubspotNarrow}
	for name, test := range map[string]struct {
		request
		status int
		says   string
	}{
		"another token":    {request{path: hubspotSend, body: "{}", header: map[string]string{"Authorization": "Bearer x"}}, 401, "INVALID_AUTHENTICATION"},
		"no token":         {request{path: hubspotUpsert, body: "{}", header: map[string]string{"Authorization": ""}}, 401, "INVALID_AUTHENTICATION"},
		"no scope":         {request{path: hubspotSend, body: inputs(completion("1")), header: narrow}, 403, "MISSING_SCOPES"},
		"501 events":       {request{path: hubspotSend, body: inputs(many(501, completion("1"))...)}, 400, "at most 500"},
		"no event":         {request{path: hubspotSend, body: inputs()}, 400, "VALIDATION_ERROR"},
		"101 contacts":     {request{path: hubspotUpsert, body: inputs(many(101, contact("a@b.co", "e"))...)}, 400, "at most 100"},
		"twice one person": {request{path: hubspotUpsert, body: inputs(contact("a@b.co", "e1"), contact("A@B.co", "e2"))}, 400, "Duplicate IDs found in batch input: [a@b.co]"},
		"boolean":          {request{path: hubspotUpsert, body: inputs(contact("a@b.co", "e", "properties", object{"vip": true}))}, 400, "vip"},
		"no JSON":          {request{path: hubspotUpsert, body: "{"}, 400, "Invalid input JSON"},
		"packed":           {request{path: hubspotUpsert, body: "{}", gzip: true}, 400, "encoding"},
		"elsewhere":        {request{path: "/crm/v3/objects/deals", body: "{}"}, 404, "OBJECT_NOT_FOUND"},
		"a read":           {request{method: "GET", path: hubspotSend}, 404, "OBJECT_NOT_FOUND"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := v.call(t, test.request)
			got.wants(t, test.status, test.says)
			if flaw := check("hubspot.error.response", got.json(t)); flaw != nil {
				t.Error(flaw)
			}
		})
	}
	v.call(t, request{path: hubspotSend, body: inputs(many(500, completion("1", "uuid", nil))...)}).wants(t, 204)
	v.call(t, request{method: "GET", path: "/account-info/v3/details"}).wants(t, 200, `"portalId":123456`, `"dataHostingLocation":"na1"`)
	v.call(t, request{method: "GET", path: "/account-info/v3/details", header: narrow}).wants(t, 200)
}

// 190 calls in ten seconds and 650,000 a day; sending events is exempt.
func TestHubspotThrottlesByPolicy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newHubspotVendor(t)
		h := v.api.(*hubspot)
		upsert := request{path: hubspotUpsert, body: inputs(contact("a@b.co", "e"))}
		for range hubspotTenSeconds {
			if got := v.call(t, upsert); got.status != 200 {
				t.Fatalf("%+v", got)
			}
		}
		got := v.call(t, upsert)
		got.wants(t, 429, `"errorType":"RATE_LIMIT"`, `"policyName":"TEN_SECONDLY_ROLLING"`)
		if got.header.Get("Retry-After") != "" || got.header.Get("X-Hubspot-Ratelimit-Remaining") != "0" || strings.Contains(got.body, "category") {
			t.Errorf("%+v", got)
		}
		v.call(t, request{path: hubspotSend, body: inputs(completion("1"))}).wants(t, 204)
		time.Sleep(10 * time.Second)
		v.call(t, upsert).wants(t, 200)
		h.day.limit = h.day.used
		v.call(t, upsert).wants(t, 429, `"policyName":"DAILY"`, "You have reached your daily limit.")
		time.Sleep(24 * time.Hour)
		v.call(t, upsert).wants(t, 200)
		h.events.limit = 0
		send := request{path: hubspotSend, body: inputs(completion("2"))}
		v.call(t, send).wants(t, 429, `"policyName":"SECONDLY"`)
		v.Unlimited()
		v.call(t, send).wants(t, 204)
		if n := v.Counts().Throttled; n != 3 {
			t.Errorf("%d throttled", n)
		}
	})
}

func TestHubspotLocksAndMigrates(t *testing.T) {
	t.Parallel()
	v := newHubspotVendor(t)
	v.Trouble(Trouble{Status: 423})
	v.call(t, request{path: hubspotUpsert, body: inputs(contact("a@b.co", "e"))}).wants(t, 423, "2 seconds")
	v.Trouble(Trouble{Status: 477, Wait: 90 * time.Minute})
	got := v.call(t, request{path: hubspotUpsert, body: inputs(contact("a@b.co", "e"))})
	got.wants(t, 477)
	if after := got.header.Get("Retry-After"); after != "5400" {
		t.Errorf("Retry-After %q", after)
	}
	v.wantItems(t)
}
