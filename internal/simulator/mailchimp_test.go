package simulator

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func newMailchimpVendor(t *testing.T) *vendor {
	return newVendor(t, "mailchimp", basic("any", mailchimpKey))
}

const mailchimpAudience = "/3.0/lists/" + mailchimpList

func memberPath(email string) string {
	return mailchimpAudience + "/members/" + mailchimpHash(email)
}

func put(email string, changes ...any) request {
	body := changed(object{"email_address": email, "status_if_new": "subscribed", "merge_fields": object{"FNAME": "Ada"}}, changes)
	return request{method: http.MethodPut, path: memberPath(email), body: asked(body)}
}

func (r reply) problem(t *testing.T) {
	t.Helper()
	if flaw := check("mailchimp.problem.response", r.json(t)); flaw != nil || r.header.Get("Content-Type") != "application/problem+json; charset=utf-8" {
		t.Errorf("no problem of Mailchimp's: %v, %s", flaw, r.header)
	}
}

func TestMailchimpMembersEventsAndTags(t *testing.T) {
	t.Parallel()
	v := newMailchimpVendor(t)
	event := request{path: memberPath("Ada@B.co") + "/events", body: `{"name":"signed_up","properties":{"plan":"pro","event_id":"e1"},"occurred_at":"2026-11-23T10:00:00+00:00"}`}
	got := v.call(t, event)
	got.wants(t, 404, "Resource Not Found") // there is no member
	got.problem(t)
	v.call(t, put("Ada@B.co")).wants(t, 200, `"status":"subscribed"`, `"FNAME":"Ada"`, `"id":"`+mailchimpHash("ada@b.co")+`"`)
	v.call(t, put("ada@b.co", "status_if_new", "pending", "merge_fields", object{"LNAME": "L"})).wants(t, 200, `"status":"subscribed"`, `"FNAME":"Ada"`, `"LNAME":"L"`)
	v.call(t, event).wants(t, 204)
	v.call(t, event).wants(t, 204) // twice is twice
	v.call(t, request{path: mailchimpAudience + "/members/ada%40b.co/tags", body: `{"tags":[{"name":"vip","status":"active"}]}`}).wants(t, 204)
	v.wantItems(t, "member  Ada@B.co ", "member  ada@b.co ", "event signed_up ada@b.co e1", "event signed_up ada@b.co e1", "tags  ada@b.co ")
}

func TestMailchimpRefusesWithProblems(t *testing.T) {
	t.Parallel()
	v := newMailchimpVendor(t)
	v.call(t, put("ada@b.co")).wants(t, 200)
	v.call(t, put("gone@b.co", "status_if_new", "unsubscribed")).wants(t, 200)
	v.Trouble(Trouble{Refuse: func(id string) bool { return id == "fake@b.co" || id == "e-bad" }})
	plain := strings.ToUpper(mailchimpHash("x@b.co"))
	for name, test := range map[string]struct {
		request
		status int
		says   string
	}{
		"another key":       {request{method: "GET", path: "/3.0/ping", header: basic("any", "x-us1")}, 401, `"title":"API Key Invalid"`},
		"no key":            {request{method: "GET", path: "/3.0/ping", header: map[string]string{"Authorization": ""}}, 401, "API Key Invalid"},
		"another list":      {request{method: "GET", path: "/3.0/lists/other"}, 404, "Resource Not Found"},
		"no version":        {request{method: "GET", path: "/ping"}, 404, "Resource Not Found"},
		"no status_if_new":  {put("n@b.co", "status_if_new", nil), 400, `"field":"status_if_new"`},
		"archived":          {put("n@b.co", "status_if_new", "archived"), 400, "status_if_new"},
		"long merge tag":    {put("n@b.co", "merge_fields", object{"ABCDEFGHIJK": "x"}), 400, "merge_fields.ABCDEFGHIJK"},
		"half an address":   {put("n@b.co", "merge_fields", object{"ADDRESS": object{"addr1": "x", "city": "y"}}), 400, "merge_fields.ADDRESS.state"},
		"hash of another":   {request{method: "PUT", path: mailchimpAudience + "/members/" + plain, body: asked(object{"email_address": "x@b.co", "status_if_new": "subscribed"})}, 400, "subscriber_hash"},
		"who has left":      {put("gone@b.co", "status", "subscribed"), 400, `"title":"Member In Compliance State"`},
		"fake":              {put("fake@b.co"), 400, "looks fake or invalid"},
		"refused event":     {request{path: memberPath("ada@b.co") + "/events", body: `{"name":"x1","properties":{"event_id":"e-bad"}}`}, 400, "refuse"},
		"short name":        {request{path: memberPath("ada@b.co") + "/events", body: `{"name":"x"}`}, 400, `"field":"name"`},
		"name with a space": {request{path: memberPath("ada@b.co") + "/events", body: `{"name":"Signed Up"}`}, 400, `"field":"name"`},
		"number":            {request{path: memberPath("ada@b.co") + "/events", body: `{"name":"xx","properties":{"n":1}}`}, 400, `"field":"properties.n"`},
		"bad tag":           {request{path: memberPath("ada@b.co") + "/tags", body: `{"tags":[{"name":"vip","status":"on"}]}`}, 400, `"field":"tags.0.status"`},
		"not JSON":          {request{path: mailchimpAudience, body: `{`}, 400, "JSON Parse Error"},
		"packed":            {request{path: mailchimpAudience, body: `{}`, gzip: true}, 400, "JSON Parse Error"},
		"501 members":       {request{path: mailchimpAudience, body: asked(object{"members": many(501, object{"email_address": "a@b.co"})})}, 400, "at most 500"},
		"no batch":          {request{method: "GET", path: "/3.0/batches/x"}, 404, "Resource Not Found"},
	} {
		got := v.call(t, test.request)
		got.wants(t, test.status, test.says)
		got.problem(t)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	v.call(t, request{method: "GET", path: "/3.0/ping"}).wants(t, 200, `{"health_status":"Everything's Chimpy!"}`)
	v.call(t, request{method: "GET", path: mailchimpAudience, header: map[string]string{"Authorization": "Bearer " + mailchimpKey}}).wants(t, 200, `"member_count":2`)
}

func TestMailchimpListBatchSays200WhateverFails(t *testing.T) {
	t.Parallel()
	v := newMailchimpVendor(t)
	v.call(t, put("old@b.co")).wants(t, 200)
	v.call(t, put("gone@b.co", "status_if_new", "unsubscribed")).wants(t, 200)
	members := []any{
		object{"email_address": "new@b.co", "status": "subscribed"}, object{"email_address": "old@b.co", "status": "subscribed"},
		object{"email_address": "nobody", "status": "subscribed"}, object{"email_address": "more@b.co"},
	}
	v.call(t, request{path: mailchimpAudience, body: asked(object{"members": members})}).
		wants(t, 200, `"total_created":1`, `"total_updated":0`, `"error_count":3`, `"error_code":"ERROR_CONTACT_EXISTS"`, `"error_code":"ERROR_GENERIC"`, `"field":"status"`)
	again := []any{members[1], object{"email_address": "gone@b.co", "status": "subscribed"}}
	v.call(t, request{path: mailchimpAudience, body: asked(object{"members": again, "update_existing": true})}).
		wants(t, 200, `"total_updated":1`, `"error_count":1`, "compliance state")
	v.wantItems(t, "member  old@b.co ", "member  gone@b.co ", "member  new@b.co ", "member  old@b.co ")
}

func TestMailchimpCarriesOutBatchesOfOperations(t *testing.T) {
	t.Parallel()
	v := newMailchimpVendor(t)
	path := strings.TrimPrefix(memberPath("a@b.co"), "/3.0")
	got := v.call(t, request{path: "/3.0/batches", body: asked(object{"operations": []any{
		object{"method": "PUT", "path": path, "body": `{"email_address":"a@b.co","status_if_new":"subscribed"}`},
		object{"method": "POST", "path": path + "/events?x=1", "body": `{"name":"xx"}`, "operation_id": "e1"},
		object{"method": "POST", "path": path + "/events", "body": `{}`},
		object{"method": "POST", "path": "/batches", "body": `{}`},
	}})})
	got.wants(t, 200, `"status":"pending"`, `"total_operations":4`)
	v.call(t, request{method: "GET", path: "/3.0/batches/" + text(got.json(t), "id")}).wants(t, 200, `"status":"finished"`, `"errored_operations":2`)
	v.call(t, request{path: "/3.0/batches", body: `{"operations":[{"method":"POST","path":"/x","body":{}}]}`}).wants(t, 400, "operations.0.body")
	v.wantItems(t, "member  a@b.co ", "event xx a@b.co ")
}

// Ten at once; the eleventh is told in one of three ways, two of them without a
// word.
func TestMailchimpHasTenConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newMailchimpVendor(t)
		v.Trouble(Trouble{Delay: time.Second})
		answers := make(chan reply)
		for range 12 {
			go func() {
				got, err := v.try(t.Context(), request{method: "GET", path: "/3.0/ping"})
				if err != nil {
					t.Error(err)
				}
				answers <- got
			}()
		}
		statuses := map[int]int{}
		for range 12 {
			got := <-answers
			statuses[got.status]++
			if got.status != 200 && got.header.Get("Retry-After") != "" {
				t.Errorf("Retry-After: %s", got.header)
			}
		}
		if statuses[200] != 10 || statuses[429]+statuses[403] != 2 {
			t.Errorf("statuses %v", statuses)
		}
	})
}

func TestMailchimpThrottlesInThreeWays(t *testing.T) {
	t.Parallel()
	v := newMailchimpVendor(t)
	v.Trouble(Trouble{Throttle: 1})
	seen := map[string]int{}
	for range 60 {
		got := v.call(t, request{method: "GET", path: "/3.0/ping"})
		switch {
		case got.body == "" && len(got.header["Content-Type"]) == 0:
			seen[http.StatusText(got.status)]++
		default:
			got.wants(t, 429, "Too Many Requests")
			got.problem(t)
			seen["problem"]++
		}
	}
	if len(seen) != 3 || seen["problem"] < 5 || seen["Forbidden"] < 5 || seen["Too Many Requests"] < 5 {
		t.Errorf("answers %v", seen)
	}
}
