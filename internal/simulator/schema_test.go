package simulator

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// contractCase is one document of the case file: what a contract accepts or
// does not.
type contractCase struct {
	Name  string
	Valid bool
	Doc   any
}

// contractCases reads the case file. {"$repeat": n, "$item": x} stands for n
// times x, and {"$keys": {"prefix", "count", "value"}} for that many members.
func contractCases(t *testing.T) map[string][]contractCase {
	t.Helper()
	file, err := os.ReadFile("testdata/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases map[string][]contractCase
	if err := json.Unmarshal(file, &cases); err != nil {
		t.Fatal(err)
	}
	for _, list := range cases {
		for i := range list {
			list[i].Doc = expand(list[i].Doc)
		}
	}
	return cases
}

func expand(doc any) any {
	switch v := doc.(type) {
	case []any:
		for i := range v {
			v[i] = expand(v[i])
		}
	case map[string]any:
		if n, ok := v["$repeat"].(float64); ok {
			return many(int(n), expand(v["$item"]))
		}
		if k, ok := v["$keys"].(map[string]any); ok {
			delete(v, "$keys")
			for i := range int(k["count"].(float64)) {
				v[fmt.Sprint(k["prefix"], i)] = k["value"]
			}
		}
		for name := range v {
			v[name] = expand(v[name])
		}
	}
	return doc
}

func TestTheSchemasSayOfEachCaseWhatItSays(t *testing.T) {
	t.Parallel()
	n := 0
	for name, list := range contractCases(t) {
		for _, c := range list {
			n++
			doc, err := decode(raw(c.Doc))
			if err != nil {
				t.Fatal(err)
			}
			if flaw := check(name, doc); (flaw == nil) != c.Valid {
				t.Errorf("%s: %s: %v, want valid %v", name, c.Name, flaw, c.Valid)
			}
		}
	}
	if n != 62 {
		t.Errorf("%d cases, want 62", n)
	}
}

// Of the requests among the cases the vendors themselves say the same.
func TestTheVendorsSayOfEachCaseWhatItSays(t *testing.T) {
	t.Parallel()
	member := "a@b.co"
	requests := map[string]struct {
		kind, path string
		header     map[string]string
	}{
		"mixpanel.import.request":               {"mixpanel", "/import?strict=1", basic(mixpanelToken, "")},
		"mixpanel.engage.request":               {"mixpanel", "/engage?strict=1", nil},
		"ga4.mp-collect.request":                {"ga4", ga4Collect, nil},
		"hubspot.events-send-batch.request":     {"hubspot", hubspotSend, map[string]string{"Authorization": "Bearer " + hubspotToken}},
		"hubspot.contacts-batch-upsert.request": {"hubspot", hubspotUpsert, map[string]string{"Authorization": "Bearer " + hubspotToken}},
		"mailchimp.member-put.request":          {"mailchimp", memberPath(member), basic("any", mailchimpKey)},
		"mailchimp.event.request":               {"mailchimp", memberPath(member) + "/events", basic("any", mailchimpKey)},
		"mailchimp.tags.request":                {"mailchimp", memberPath(member) + "/tags", basic("any", mailchimpKey)},
		"mailchimp.list-batch.request":          {"mailchimp", mailchimpAudience, basic("any", mailchimpKey)},
		"mailchimp.batches.request":             {"mailchimp", "/3.0/batches", basic("any", mailchimpKey)},
	}
	done := 0
	for name, list := range contractCases(t) {
		if strings.Contains(name, ".response") {
			continue
		}
		to, ok := requests[name]
		if !ok {
			t.Errorf("no vendor takes %s", name)
			continue
		}
		for _, c := range list {
			done++
			v := newVendor(t, to.kind, to.header)
			if to.kind == "mailchimp" && strings.Count(to.path, "/") > 5 {
				v.call(t, put(member)).wants(t, 200)
			}
			r := request{path: to.path, body: string(raw(current(c.Doc)))}
			if name == "mailchimp.member-put.request" {
				r.method = "PUT"
			}
			got := v.call(t, r)
			taken := got.status/100 == 2
			if to.kind == "ga4" {
				got.wants(t, 204)
				taken = len(v.Dropped()) == 0
			}
			// A token of no project is no reason for /engage to say no.
			if taken != c.Valid {
				t.Errorf("%s: %s: %d %s, dropped %v", name, c.Name, got.status, got.body, v.Dropped())
			}
		}
	}
	if done < 55 {
		t.Errorf("only %d cases are requests", done)
	}
}

// current moves a time of the cases, in September 2026, to now, in its own unit:
// Google takes nothing that is older than three days.
func current(doc any) any {
	if m, ok := doc.(map[string]any); ok && m["timestamp_micros"] == 1.79e15 {
		m = maps.Clone(m)
		m["timestamp_micros"] = time.Now().UnixMicro()
		return m
	}
	return doc
}

func TestAllSchemasCompile(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("schemas/*.json")
	if err != nil || len(files) != 17 {
		t.Fatalf("%d schemas, %v", len(files), err)
	}
	for _, file := range files {
		schema(strings.TrimSuffix(filepath.Base(file), ".schema.json"))
	}
}

func TestAFlawSaysWhereAndWhat(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ schema, doc, want string }{
		{"hubspot.events-send.request", `{"eventName":"pe1_x","properties":{}}`, "the body needs one of email, objectId, utk"},
		{"hubspot.events-send.request", `{"eventName":"pe1_x","email":"a@b","properties":{},"occurredAt":"now"}`, "occurredAt must be a date-time"},
		{"hubspot.events-send.request", `{"eventName":"pe1_x","email":"a@b","properties":{},"b":1,"a":1}`, "a is not a known field"},
		{"hubspot.events-send.request", `{"eventName":1,"email":"a@b","properties":{}}`, "eventName must be string, not number"},
		{"mailchimp.tags.request", `{"tags":[]}`, "tags must have at least 1 items"},
		{"mailchimp.tags.request", `{"tags":[{"name":"","status":"active"}]}`, "tags.0.name must have at least 1 characters"},
		{"mailchimp.member-put.request", `{"email_address":"a@b","status_if_new":"pending","merge_fields":{"OK":1,"not ok":1}}`, "merge_fields.not ok is not an allowed name"},
		{"mixpanel.import.request", `[{"event":"x","properties":{"time":1,"distinct_id":"","$insert_id":"x"}}]`, "0.properties.time must be at least 31536000"},
		{"mixpanel.engage.request", `[{"$token":"t","$distinct_id":"u"}]`, "0 needs one of $add, $append, $delete, $remove, $set, $set_once, $union, $unset"},
		{"mixpanel.engage.request", `[{"$token":"t","$distinct_id":"u","$union":{}}]`, "0.$union must have at least 1 members"},
		{"ga4.mp-collect.request", `{"client_id":"c","events":[{"name":"x","params":{"a":"` + strings.Repeat("x", 101) + `"}}]}`, "events.0.params.a must have at most 100 characters"},
		{"ga4.mp-collect.request", `{"client_id":"c","user_data":{},"events":[{"name":"x"}]}`, "user_id is required with user_data"},
	} {
		doc, err := decode([]byte(test.doc))
		if err != nil {
			t.Fatal(err)
		}
		for range 5 { // maps have no order
			if flaw := check(test.schema, doc); flaw == nil || flaw.String() != test.want {
				t.Errorf("%s: %v, want %q", test.doc, flaw, test.want)
				break
			}
		}
	}
}

// The reserved names of the facts are those of the schema.
func TestGA4ReservesTheNamesOfTheList(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("testdata/ga4-reserved-names.json")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Events     []string `json:"event_names"`
		Properties []string `json:"user_property_names"`
		Params     []string `json:"param_prefixes"`
	}
	if err := json.Unmarshal(file, &list); err != nil || len(list.Events) < 20 || len(list.Properties) < 5 {
		t.Fatal(err, list)
	}
	valid := func(body string) bool {
		doc, err := decode([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return check("ga4.mp-collect.request", doc) == nil
	}
	if !valid(hit([]any{ga4Event("1")})) {
		t.Fatal("nothing is valid")
	}
	for _, name := range list.Events {
		if valid(hit([]any{ga4Event("1", "name", name)})) {
			t.Errorf("event %s is not reserved", name)
		}
	}
	for _, name := range list.Properties {
		if valid(hit([]any{ga4Event("1")}, "user_properties", object{name: object{"value": "x"}})) {
			t.Errorf("user property %s is not reserved", name)
		}
	}
	for _, prefix := range slices.Concat(list.Params, []string{"gtag."}) {
		if valid(hit([]any{ga4Event("1", "params", object{prefix + "x": 1})})) {
			t.Errorf("parameters %sx are not reserved", prefix)
		}
	}
}
