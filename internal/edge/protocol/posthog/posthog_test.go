package posthog

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/edge/protocol/protocoltest"
	"github.com/eventsluice/sluice/internal/event"
)

func TestMapping(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, event, want string }{
		{"track", `"event":"Order placed","uuid":"1","properties":{"total": 9.50}`, `"id":"1","type":"track","name":"Order placed","data":{"total":9.50}`},
		{"no properties", `"event":"a","properties":null`, `"type":"track","name":"a"`},
		{"the key is not kept", `"event":"a","api_key":"KEY","properties":{"a":1,"token":"KEY","b":2}`, `"type":"track","name":"a","data":{"a":1,"b":2}`},
		{"only the key", `"event":"a","properties":{"token":"KEY"}`, `"type":"track","name":"a"`},
		{"a token that is no string is a property", `"event":"a","properties":{"token":7}`, `"type":"track","name":"a","data":{"token":7}`},
		{"page", `"event":"$pageview","properties":{"$current_url":"/"}`, `"type":"page","name":"page","data":{"$current_url":"/"},"context":{"extra":{"event":"$pageview"}}`},
		{"screen", `"event":"$screen","properties":{"$screen_name":"Home"}`, `"type":"screen","name":"Home","data":{"$screen_name":"Home"},"context":{"extra":{"event":"$screen"}}`},
		{"screen without a name", `"event":"$screen"`, `"type":"screen","name":"screen","context":{"extra":{"event":"$screen"}}`},
		{"identify", `"event":"$identify","distinct_id":"u1","$set":{"a": 1.0},"$set_once":{"b":2},"properties":{"$anon_distinct_id":"d1","token":"KEY"}`,
			`"type":"identify","name":"identify","user_id":"u1","anonymous_id":"d1","data":{"a":1.0},
			 "context":{"extra":{"event":"$identify","$set_once":{"b":2},"properties":{"$anon_distinct_id":"d1"}}}`},
		{"identify of a server", `"event":"$identify","distinct_id":"u1","properties":{"$set":{"a":1},"$set_once":{"b":2},"":3}`,
			`"type":"identify","name":"identify","user_id":"u1","data":{"a":1},"context":{"extra":{"event":"$identify","properties":{"$set_once":{"b":2},"":3}}}`},
		{"identify without traits", `"event":"$identify","distinct_id":"u1","properties":{"$set":1}`,
			`"type":"identify","name":"identify","user_id":"u1","context":{"extra":{"event":"$identify","properties":{"$set":1}}}`},
		{"person properties", `"event":"$set","distinct_id":"u1","$set":{"a":1}`, `"type":"identify","name":"identify","user_id":"u1","data":{"a":1},"context":{"extra":{"event":"$set"}}`},
		{"traits beside an event", `"event":"a","$set":{"a":1},"x":[]`, `"type":"track","name":"a","context":{"extra":{"x":[],"$set":{"a":1}}}`},
		{"group", `"event":"$groupidentify","distinct_id":"$company_acme","properties":{"$group_type":"company","$group_key":"acme","$group_set":{"size":3}}`,
			`"type":"group","name":"group","anonymous_id":"$company_acme","data":{"size":3},
			 "context":{"extra":{"event":"$groupidentify","properties":{"$group_type":"company","$group_key":"acme"}}}`},
		{"alias", `"event":"$create_alias","distinct_id":"u1","properties":{"alias":"old"}`,
			`"type":"alias","name":"alias","user_id":"u1","data":{"alias":"old"},"context":{"extra":{"event":"$create_alias"}}`},

		{"a server's user", `"event":"a","distinct_id":"u1"`, `"type":"track","name":"a","user_id":"u1"`},
		{"a number", `"event":"a","distinct_id":42`, `"type":"track","name":"a","user_id":"42"`},
		{"in the properties", `"event":"a","properties":{"distinct_id":"u1"}`, `"type":"track","name":"a","user_id":"u1","data":{"distinct_id":"u1"}`},
		{"under another name, twice", `"event":"a","$distinct_id":"u1","distinct_id":"u2"`, `"type":"track","name":"a","user_id":"u1","context":{"extra":{"distinct_id":"u2"}}`},
		{"a device", `"event":"a","properties":{"distinct_id":"d1","$device_id":"d1"}`, `"type":"track","name":"a","anonymous_id":"d1","data":{"distinct_id":"d1","$device_id":"d1"}`},
		{"a user at a device", `"event":"a","properties":{"distinct_id":"u1","$device_id":"d1","$user_id":"u1"}`,
			`"type":"track","name":"a","user_id":"u1","anonymous_id":"d1","data":{"distinct_id":"u1","$device_id":"d1","$user_id":"u1"}`},
		{"a user with another distinct id", `"event":"a","distinct_id":"x","properties":{"$user_id":"u1"}`,
			`"type":"track","name":"a","user_id":"u1","data":{"$user_id":"u1"},"context":{"extra":{"distinct_id":"x"}}`},
		{"nobody is known", `"event":"a","distinct_id":"x","properties":{"$process_person_profile":false}`,
			`"type":"track","name":"a","anonymous_id":"x","data":{"$process_person_profile":false}`},
		{"nobody is identified", `"event":"a","distinct_id":"x","properties":{"$device_id":"d","$is_identified":false}`,
			`"type":"track","name":"a","anonymous_id":"x","data":{"$device_id":"d","$is_identified":false}`},
		{"an id of the SDK's own", `"event":"a","uuid":"","properties":{"$insert_id":"i"}`, `"id":"i","type":"track","name":"a","data":{"$insert_id":"i"}`},

		{"the clock is corrected", `"event":"a","timestamp":"2026-11-23T10:59:00Z","sent_at":"2026-11-23T11:00:00Z"`,
			`"type":"track","name":"a","timestamp":"2026-11-23T11:59:00.000Z","context":{"extra":{"sent_at":"2026-11-23T11:00:00Z","timestamp":"2026-11-23T10:59:00Z"}}`},
		{"no time of sending", `"event":"a","timestamp":"2026-11-23T12:59:00.123456+01:00"`, `"type":"track","name":"a","timestamp":"2026-11-23T12:59:00.123456+01:00"`},
		{"a time of sending of another clock", `"event":"a","timestamp":"2020-01-01T00:00:00Z","sent_at":"2026-11-23T11:00:00Z","properties":{"$ignore_sent_at":true}`,
			`"type":"track","name":"a","timestamp":"2020-01-01T00:00:00Z","data":{"$ignore_sent_at":true},"context":{"extra":{"sent_at":"2026-11-23T11:00:00Z"}}`},
		{"an offset", `"event":"a","offset":1500,"timestamp":"2020-01-01T00:00:00Z"`,
			`"type":"track","name":"a","timestamp":"2026-11-23T11:59:58.500Z","context":{"extra":{"offset":1500,"timestamp":"2020-01-01T00:00:00Z"}}`},
		{"an offset beyond reason", `"event":"a","offset":9e99`, `"type":"track","name":"a","context":{"extra":{"offset":9e99}}`},
		{"no time that can be read", `"event":"a","timestamp":"2026-11-23 10:00"`, `"type":"track","name":"a","context":{"extra":{"timestamp":"2026-11-23 10:00"}}`},
		{"a time beyond the years", `"event":"a","timestamp":"9999-12-31T23:59:59-01:00"`, `"type":"track","name":"a","context":{"extra":{"timestamp":"9999-12-31T23:59:59-01:00"}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := protocol.Request{Path: "/batch", Body: []byte(`{"api_key":"KEY","batch":[{` + tt.event + `}]}`)}
			stored, keys := protocoltest.Run(t, new(Decoder), new(Decoder), &r, false)
			if len(stored) != 1 || !slices.Equal(keys, []string{"KEY"}) {
				t.Fatalf("%d events, keys %q", len(stored), keys)
			}
			protocoltest.Want(t, stored[0], "{"+tt.want+"}")
		})
	}
}

func TestEnvelopes(t *testing.T) {
	t.Parallel()
	const at = `"timestamp":"2026-11-23T10:59:00Z"`
	const corrected, uncorrected = "2026-11-23T11:59:00.000Z", "2026-11-23T10:59:00Z"
	form := func(s string) string {
		return "data=" + url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(s)))
	}
	for _, tt := range []struct {
		name, query, body, key, timestamp string
		events                            int
	}{
		{"batch", "", `{"api_key":"K","batch":[{"event":"a",` + at + `},{"event":"b"}],"sent_at":"2026-11-23T11:00:00Z"}`, "K", corrected, 2},
		{"batch under token", "", `{"batch":[{"event":"a",` + at + `}],"token":"K"}`, "K", uncorrected, 1},
		{"the envelope's key is that of all", "", `{"api_key":"K","batch":[{"event":"a",` + at + `,"properties":{"token":"mine"}}]}`, "K", uncorrected, 1},
		{"batch without a key of its own", "", `{"batch":[{"event":"a",` + at + `,"api_key":"K"},{"event":"b"}]}`, "K", uncorrected, 1 + 1},
		{"empty batch", "", `{"api_key":"K","batch":[]}`, "K", "", 0},
		{"array", "", `[{"event":"a",` + at + `,"properties":{"token":"K"}},{"event":"b","token":"K"}]`, "K", uncorrected, 2},
		{"one", "", ` {"event":"a",` + at + `,"api_key":"K","properties":{"token":"mine"}}`, "K", uncorrected, 1},
		{"one with its key in the properties", "", `{"event":"a",` + at + `,"properties":{"token":"K"}}`, "K", uncorrected, 1},
		{"one that was sent", "", `{"event":"a",` + at + `,"token":"K","sent_at":"2026-11-23T11:00:00Z"}`, "K", corrected, 1},
		{"without a key", "", `{"event":"a",` + at + `}`, "", uncorrected, 1},
		{"a form of base64", "compression=base64", form(`{"api_key":"K","batch":[{"event":"a",` + at + `}]}`), "K", uncorrected, 1},
		{"a form of JSON", "", "data=" + url.QueryEscape(`[{"event":"a",`+at+`,"token":"K"}]`), "K", uncorrected, 1},
		{"sent, in the query", "ip=1&_=1795431600000&ver=1.2", `[{"event":"a",` + at + `,"token":"K"}]`, "K", corrected, 1},
		{"sent, in seconds", "_=1795431600", `[{"event":"a",` + at + `,"token":"K"}]`, "K", uncorrected, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := protocol.Request{Path: "/e", Query: tt.query, Body: []byte(tt.body)}
			stored, keys := protocoltest.Run(t, new(Decoder), new(Decoder), &r, true)
			if len(stored) != tt.events || strings.Join(keys, " ") != tt.key {
				t.Fatalf("%d events, keys %q", len(stored), keys)
			}
			if len(stored) > 0 && !strings.Contains(string(stored[0]), `"timestamp":"`+tt.timestamp+`"`) {
				t.Errorf("%s, want %s", stored[0], tt.timestamp)
			}
		})
	}
}

func TestAFlawOfAnEventHasItsPlace(t *testing.T) {
	t.Parallel()
	long := `"` + strings.Repeat("x", 600) + `"`
	for _, tt := range []struct{ raw, pointer, code string }{
		{`{}`, "/event", "required"},
		{`{"event":""}`, "/event", "required"},
		{`{"event":{}}`, "/event", "invalid_type"},
		{`{"event":` + long + `}`, "/event", "too_long"},
		{`{"event":"a","distinct_id":["u"]}`, "/distinct_id", "invalid_type"},
		{`{"event":"a","distinct_id":` + long + `}`, "/distinct_id", "too_long"},
		{`{"event":"a","uuid":` + long + `}`, "/uuid", "too_long"},
		{`{"event":"a","properties":[]}`, "/properties", "invalid_type"},
		{`{"event":"a","properties":{"distinct_id":true}}`, "/properties/distinct_id", "invalid_type"},
		{`{"event":"a","properties":{"$user_id":{}}}`, "/properties/$user_id", "invalid_type"},
		{`{"event":"$screen","properties":{"$screen_name":` + long + `}}`, "/properties/$screen_name", "too_long"},
		{`{"event":"$identify","$set":[]}`, "/$set", "invalid_type"},
		{`{"event":"a","properties":{"a":1,"a":1}}`, "/properties/a", "duplicate_key"},
		{`{"event":"a","properties":{"a":-1e999}}`, "/properties/a", "number_out_of_range"},
		{`{"event":"a","properties":{"a":"` + "\xff" + `"}}`, "/properties/a", "invalid_utf8"},
		{`{"event":"a","properties":{"a":"\ud800"}}`, "/properties/a", "invalid_unicode"},
		{`{"event":"a","properties":` + strings.Repeat(`{"a":`, 13) + `1` + strings.Repeat(`}`, 13) + `}`, "/properties" + strings.Repeat("/a", 12), "too_deep"},
		{`{"event":"a","x":"` + strings.Repeat("x", 5000) + `"}`, "", "too_large"},
		{`null`, "", "invalid_type"},
	} {
		protocoltest.Reject(t, new(Decoder), "/e", tt.raw, tt.pointer, tt.code)
	}
}

func TestBodiesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ body, code string }{
		{"", "empty_body"},
		{"data=", "empty_body"},
		{" \n", "empty_body"},
		{"7", "invalid_type"},
		{`{"batch":{}}`, "invalid_type"},
		{`{"batch":[}`, "invalid_json"},
		{`{"batch":[{"event":"a"}]`, "invalid_json"},
		{`{"batch":[],"batch":[]}`, "duplicate_key"},
		{"\x1f\x8b\x08", "invalid_json"},
		{"data=%25%25", "invalid_encoding"},
		{`[{"event":"a","token":"a"},{"event":"b","token":"b"}]`, "conflicting_keys"},
		{`[{"event":"a","properties":{"token":"a"}},{"event":"b","api_key":"b"}]`, "conflicting_keys"},
		{`{"batch":[{"event":"a","token":"a"},{"event":"b","token":"b"}]}`, "conflicting_keys"},
	} {
		var d Decoder
		err := d.Open(&protocol.Request{Method: http.MethodPost, Path: "/e", Body: []byte(tt.body)}, func(string) {})
		if invalid, ok := errors.AsType[*event.Invalid](err); !ok || invalid.Code != tt.code {
			t.Errorf("%q: %v, want %s", tt.body, err, tt.code)
		}
	}
}

func TestReadingAllocatesLittle(t *testing.T) {
	const one = `{"event":"a","uuid":"1","timestamp":"2026-11-23T10:59:00Z","properties":{"distinct_id":"u","$device_id":"d","$user_id":"u","token":"K","n":1}}`
	r := protocol.Request{Path: "/e", Body: []byte(`{"api_key":"K","sent_at":"2026-11-23T11:00:00Z","batch":[` + strings.Repeat(one+",", 99) + one + `]}`)}
	protocoltest.Frugal(t, new(Decoder), &r)
}
