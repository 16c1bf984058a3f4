package simulator

import (
	"strings"
	"testing"
	"time"
)

const ga4Collect = "/mp/collect?measurement_id=" + ga4Measurement + "&api_secret=" + ga4Secret

// hit is a request that Google Analytics uses, with changes.
func hit(events []any, changes ...any) string {
	return asked(changed(object{"client_id": "123.456", "user_id": "u-1", "events": events}, changes))
}

func ga4Event(id string, changes ...any) object {
	return changed(object{"name": "sign_up", "params": object{"event_id": id, "method": "email", "session_id": "1790000000"}}, changes)
}

func TestGA4TakesEventsAsOftenAsTheyAreSent(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "ga4", nil)
	for range 2 {
		got := v.call(t, request{path: ga4Collect, body: hit([]any{ga4Event("1"), ga4Event("2")})})
		got.wants(t, 204)
		if got.body != "" {
			t.Errorf("body %q", got.body)
		}
	}
	v.call(t, request{path: "/mp/collect?firebase_app_id=" + ga4Firebase + "&api_secret=" + ga4Secret, body: hit([]any{ga4Event("3")},
		"client_id", nil, "user_id", nil, "app_instance_id", strings.Repeat("a1", 16))}).wants(t, 204)
	v.wantItems(t, "event sign_up u-1 1", "event sign_up u-1 2", "event sign_up u-1 1", "event sign_up u-1 2", "event sign_up "+strings.Repeat("a1", 16)+" 3")
	v.wantDrops(t)
}

// What Google would have thrown away is told by Dropped alone: the answer is the
// same.
func TestGA4Says204AndDropsSilently(t *testing.T) {
	t.Parallel()
	now := time.Now()
	old, soon := now.Add(-73*time.Hour).UnixMicro(), now.Add(time.Hour).UnixMicro()
	good := []any{ga4Event("1")}
	for name, test := range map[string]struct {
		path, body string
		reason     string
		kept       int
	}{
		"not JSON":            {ga4Collect, "{", "the body is not JSON", 0},
		"wrong secret":        {"/mp/collect?measurement_id=" + ga4Measurement + "&api_secret=x", hit(good), "api_secret is of no stream", 0},
		"wrong stream":        {"/mp/collect?measurement_id=G-1&api_secret=" + ga4Secret, hit(good), "measurement_id is of no stream", 0},
		"wrong app":           {"/mp/collect?firebase_app_id=1:2:ios:3&api_secret=" + ga4Secret, hit(good), "firebase_app_id is of no stream", 0},
		"app that is escaped": {"/mp/collect?firebase_app_id=" + strings.ReplaceAll(ga4Firebase, ":", "%3A") + "&api_secret=" + ga4Secret, hit(good), "firebase_app_id has colons that are escaped", 0},
		"app id on the web":   {ga4Collect, hit(good, "client_id", nil, "app_instance_id", strings.Repeat("a", 32)), "app_instance_id is for app streams", 0},
		"no client":           {ga4Collect, hit(good, "client_id", nil), "the body needs one of app_instance_id, client_id", 0},
		"26 events":           {ga4Collect, hit(many(26, ga4Event("1"))), "events must have at most 25 items", 0},
		"130 kB":              {ga4Collect, hit(good, "user_agent", strings.Repeat("x", 130_000)), "the body must be smaller than 130 kB", 0},
		"reserved name":       {ga4Collect, hit([]any{ga4Event("1"), ga4Event("2", "name", "session_start")}), "events.1.name has a value that is not allowed", 1},
		"name with a space":   {ga4Collect, hit([]any{ga4Event("1", "name", "Sign Up"), ga4Event("2")}), "events.0.name must match ^[A-Za-z][A-Za-z0-9_]{0,39}$", 1},
		"null":                {ga4Collect, hit([]any{ga4Event("1", "params", object{"a": nil}), ga4Event("2")}), "events.0.params.a has a value of a type that is not allowed", 1},
		"nested":              {ga4Collect, hit([]any{ga4Event("1", "params", object{"a": object{"b": 1}}), ga4Event("2")}), "events.0.params.a has a value of a type that is not allowed", 1},
		"26 parameters":       {ga4Collect, hit([]any{ga4Event("1", "params", keys(26)), ga4Event("2")}), "events.0.params must have at most 25 members", 1},
		"long value":          {ga4Collect, hit([]any{ga4Event("1", "params", object{"a": strings.Repeat("x", 101)}), ga4Event("2")}), "events.0.params.a must have at most 100 characters", 1},
		"73 hours ago":        {ga4Collect, hit([]any{ga4Event("1", "timestamp_micros", old), ga4Event("2")}), "events.0.timestamp_micros is more than 72 hours ago", 1},
		"all 73 hours ago":    {ga4Collect, hit(good, "timestamp_micros", old), "timestamp_micros is more than 72 hours ago", 0},
		"ahead":               {ga4Collect, hit([]any{ga4Event("1", "timestamp_micros", soon), ga4Event("2")}), "events.0.timestamp_micros is in the future", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendor(t, "ga4", nil)
			v.call(t, request{path: test.path, body: test.body}).wants(t, 204)
			v.wantDrops(t, test.reason)
			if n := len(v.Received()); n != test.kept {
				t.Errorf("%d taken, want %d", n, test.kept)
			}
		})
	}
}

func TestGA4DropsWhatItIsToRefuseAndWithDeniedEverything(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "ga4", nil)
	v.Trouble(Trouble{Refuse: func(id string) bool { return id == "1" }})
	v.call(t, request{path: ga4Collect, body: hit([]any{ga4Event("1"), ga4Event("2")})}).wants(t, 204)
	v.Trouble(Trouble{Denied: true})
	v.call(t, request{path: ga4Collect, body: hit([]any{ga4Event("3")})}).wants(t, 204)
	v.wantItems(t, "event sign_up u-1 2")
	v.wantDrops(t, "the simulator was told to refuse this event", "api_secret is of no stream")
}

func TestGA4ValidationNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "ga4", nil)
	for name, test := range map[string]struct{ body, code, field string }{
		"fine":              {hit([]any{ga4Event("1")}), "", ""},
		"bad name":          {hit([]any{ga4Event("1", "name", "_badEventName")}), "NAME_INVALID", "events.name"},
		"reserved name":     {hit([]any{ga4Event("1", "name", "first_open")}), "NAME_RESERVED", "events.name"},
		"reserved prefix":   {hit([]any{ga4Event("1", "params", object{"google_x": 1})}), "NAME_RESERVED", "events.params.google_x"},
		"bad parameter":     {hit([]any{ga4Event("1", "params", object{"a b": 1})}), "NAME_INVALID", "events.params.a b"},
		"reserved property": {hit([]any{ga4Event("1")}, "user_properties", object{"user_id": object{"value": "x"}}), "NAME_RESERVED", "user_properties.user_id"},
		"no client":         {hit([]any{ga4Event("1")}, "client_id", nil), "VALUE_REQUIRED", ""},
		"too many":          {hit(many(26, ga4Event("1"))), "EXCEEDED_MAX_ENTITIES", "events"},
		"a list":            {hit([]any{ga4Event("1", "params", object{"a": []any{1}})}), "VALUE_INVALID", "events.params.a"},
		"long":              {hit([]any{ga4Event("1", "params", object{"page_title": strings.Repeat("x", 301)})}), "VALUE_OUT_OF_BOUNDS", "events.params.page_title"},
		"value alone":       {hit([]any{ga4Event("1", "params", object{"value": 1})}), "VALUE_REQUIRED", "events.params.currency"},
		"not JSON":          {"[", "VALUE_INVALID", ""},
	} {
		// It does not look at the secret.
		got := v.call(t, request{path: "/debug/mp/collect?measurement_id=" + ga4Measurement + "&api_secret=x", body: test.body})
		got.wants(t, 200)
		doc := got.json(t)
		if flaw := check("ga4.debug.response", doc); flaw != nil {
			t.Error(flaw)
		}
		messages := member(doc, "validationMessages").([]any)
		switch {
		case test.code == "" && len(messages) == 0:
		case test.code != "" && len(messages) == 1 && text(messages[0], "validationCode") == test.code && text(messages[0], "fieldPath") == test.field:
		default:
			t.Errorf("%s: %s, want %s at %q", name, got.body, test.code, test.field)
		}
	}
	v.wantItems(t)
	v.wantDrops(t)
}

func TestGA4IsNowhereElse(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "ga4", nil)
	v.call(t, request{method: "GET", path: "/mp/collect"}).wants(t, 404, "<html>")
	v.call(t, request{path: "/g/collect"}).wants(t, 404, "<html>")
}

func TestGTMClaimsTheProtocolAndData(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "gtm", nil)
	v.call(t, request{path: "/mp/collect", body: hit([]any{ga4Event("1"), ga4Event("2", "name", "a b")})}).wants(t, 204)
	v.call(t, request{path: "/mp/collect", body: "{"}).wants(t, 400)
	v.call(t, request{path: "/data?v=2", body: `{"event_name":"purchase","event_id":"3","client_id":"c","user_data":{"x":"<y>"}}`}).wants(t, 200, `{"client_id":"c","event_id":"3"}`)
	v.call(t, request{path: "/data", body: `{"name":"x"}`}).wants(t, 200, `"client_id":"dcid.1.`, `"event_id":"`)
	v.call(t, request{path: "/data", body: `[]`}).wants(t, 400)
	v.call(t, request{path: "/g/collect", body: `{}`}).wants(t, 400)
	v.Trouble(Trouble{Refuse: func(id string) bool { return id == "4" }})
	v.call(t, request{path: "/data", body: `{"name":"x","event_id":"4"}`}).wants(t, 200)
	v.wantItems(t, "event sign_up u-1 1", "event purchase c 3", "event x  ")
	v.wantDrops(t, "events.1.name must match ^[A-Za-z][A-Za-z0-9_]{0,39}$", "a tag failed")
	if body := string(v.Received()[1].Body); !strings.Contains(body, `"v":"2"`) || !strings.Contains(body, "<y>") {
		t.Errorf("body %s", body)
	}
}
