package simulator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// upload is a request to Amplitude, with changes.
func upload(events []any, changes ...any) request {
	return request{path: "/2/httpapi", body: asked(changed(object{"api_key": amplitudeKey, "events": events}, changes))}
}

func amplitudeEvent(id string, changes ...any) object {
	return changed(object{
		"event_type": "Signed Up", "user_id": "user-1", "insert_id": id, "time": 1790000000000, "event_properties": object{"plan": "pro"},
	}, changes)
}

// nested returns objects within each other, n in all.
func nested(n int) any {
	var doc any = 1
	for range n {
		doc = object{"a": doc}
	}
	return doc
}

func TestAmplitudeTakesEventsOnceInAWeek(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t, "amplitude", nil)
		v.call(t, upload([]any{amplitudeEvent("a"), amplitudeEvent("b")})).wants(t, 200, `"code":200`, `"events_ingested":2`)
		v.call(t, upload([]any{amplitudeEvent("b"), amplitudeEvent("c", "user_id", nil, "device_id", "device-1")})).wants(t, 200, `"events_ingested":2`)
		time.Sleep(amplitudeWeek)
		v.call(t, upload([]any{amplitudeEvent("b")})).wants(t, 200)
		r := upload([]any{amplitudeEvent("d")})
		r.path = "/batch"
		v.call(t, r).wants(t, 200)
		v.wantItems(t, "event Signed Up user-1 a", "event Signed Up user-1 b", "event Signed Up device-1 c", "event Signed Up user-1 b", "event Signed Up user-1 d")
	})
}

func TestAmplitudeRefusesACallForOneEventAndNamesIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		event any
		says  string
	}{
		"no type":             {amplitudeEvent("x", "event_type", nil), `"events_with_missing_fields":{"event_type":[1]}`},
		"nobody":              {amplitudeEvent("x", "user_id", nil), `"events_with_missing_fields":{"user_id":[1]}`},
		"short id":            {amplitudeEvent("x", "user_id", "u-1"), `"events_with_missing_fields":{"user_id":[1]}`},
		"banned id":           {amplitudeEvent("x", "user_id", "Anonymous"), `"events_with_invalid_fields":{"user_id":[1]}`},
		"zero device":         {amplitudeEvent("x", "device_id", "00000000-0000-0000-0000-000000000000"), `"events_with_invalid_fields":{"device_id":[1]}`},
		"number as id":        {amplitudeEvent("x", "user_id", 123456), `"events_with_invalid_fields":{"user_id":[1]}`},
		"time as text":        {amplitudeEvent("x", "time", "2026-11-23T10:00:00Z"), `"events_with_invalid_fields":{"time":[1]}`},
		"reserved type":       {amplitudeEvent("x", "event_type", "[Amplitude] Revenue"), `"events_with_invalid_fields":{"event_type":[1]}`},
		"list of properties":  {amplitudeEvent("x", "event_properties", []any{}), `"events_with_invalid_fields":{"event_properties":[1]}`},
		"41 layers":           {amplitudeEvent("x", "event_properties", nested(41)), `"events_with_invalid_fields":{"event_properties":[1]}`},
		"insert id as number": {amplitudeEvent("x", "insert_id", 1), `"events_with_invalid_fields":{"insert_id":[1]}`},
		"price as text":       {amplitudeEvent("x", "price", "1"), `"events_with_invalid_fields":{"price":[1]}`},
		"refused":             {amplitudeEvent("bad"), `"events_with_invalid_fields":{"event_properties":[1]}`},
		"no object":           {"x", `"error":"Invalid event JSON"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendor(t, "amplitude", nil)
			v.Trouble(Trouble{Refuse: func(id string) bool { return id == "bad" }})
			v.call(t, upload([]any{amplitudeEvent("a"), test.event, amplitudeEvent("b")})).wants(t, 400, `"code":400`, test.says)
			v.wantItems(t)
			v.call(t, upload([]any{amplitudeEvent("a"), amplitudeEvent("c", "user_id", "u", "event_properties", nested(40))}, "options", object{"min_id_length": 1})).wants(t, 200)
		})
	}
}

func TestAmplitudeRefusesWholeCalls(t *testing.T) {
	t.Parallel()
	v := newVendor(t, "amplitude", nil)
	one := []any{amplitudeEvent("a")}
	big := upload([]any{amplitudeEvent("a", "event_properties", object{"a": strings.Repeat("x", 1_000_000)})})
	elsewhere, empty, form := upload(one), request{path: "/2/httpapi"}, upload(one)
	elsewhere.path = "/2/other"
	form.header = map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	for name, test := range map[string]struct {
		request
		status int
		says   string
	}{
		"another key":                {upload(one, "api_key", "x"), 400, `{"code":400,"error":"Invalid API key"}`},
		"another key, and no events": {upload(nil, "api_key", "x"), 400, `{"code":400,"error":"Invalid API key"}`},
		"no key":                     {upload(one, "api_key", nil), 400, `"missing_field":"api_key"`},
		"no events":                  {upload(nil), 400, `"missing_field":"events"`},
		"2001 events":                {upload(many(2001, object{"event_type": "x", "user_id": "user-1"})), 413, `{"code":413,"error":"Payload too large"}`},
		"a megabyte":                 {big, 413, "Payload too large"},
		"no body":                    {empty, 400, "Missing request body"},
		"not JSON":                   {request{path: "/2/httpapi", body: "["}, 400, "Invalid JSON request body"},
		"a form":                     {form, 400, "Invalid JSON request body"},
		"elsewhere":                  {elsewhere, 400, "Invalid request path"},
	} {
		v.call(t, test.request).wants(t, test.status, test.says)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	big.path = "/batch"
	v.call(t, big).wants(t, 200)
	v.call(t, upload(many(2000, object{"event_type": "x", "user_id": "user-1"}))).wants(t, 200)
}

// 30 events per second for each user, measured over a while.
func TestAmplitudeThrottlesWhoSendsTooMuchAndNamesTheEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVendor(t, "amplitude", nil)
		busy := func(n int) (events []any) {
			for i := range n {
				events = append(events, amplitudeEvent(fmt.Sprint(len(v.Received())+i), "user_id", "user-busy"))
			}
			return events
		}
		v.call(t, upload(busy(900))).wants(t, 200)
		calm := amplitudeEvent("calm", "user_id", nil, "device_id", "device-calm")
		v.call(t, upload(slices.Concat([]any{calm}, busy(2)))).wants(t, 429, `"eps_threshold":30`, `"throttled_users":{"user-busy":31}`, `"throttled_devices":{}`, `"throttled_events":[1,2]`)
		v.call(t, upload([]any{calm})).wants(t, 200)
		time.Sleep(amplitudeWindow)
		v.call(t, upload(busy(2))).wants(t, 200)
		v.Unlimited()
		v.call(t, upload(busy(1000))).wants(t, 200)
		v.call(t, upload(busy(1000))).wants(t, 200)
		v.Trouble(Trouble{Throttle: 1}) // which is no limit
		v.call(t, upload([]any{calm, amplitudeEvent("x")})).wants(t, 429, `"throttled_devices":{"device-calm":31}`, `"throttled_events":[0]`)
		if n := v.Counts().Throttled; n != 2 {
			t.Errorf("%d throttled", n)
		}
	})
}
