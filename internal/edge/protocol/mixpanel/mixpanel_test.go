package mixpanel

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
	for _, tt := range []struct{ name, path, message, want string }{
		{"track", "/track", `"event":"Order placed","properties":{"token":"KEY","total": 9.50,"$insert_id":"i1"}`,
			`"id":"i1","type":"track","name":"Order placed","data":{"total":9.50,"$insert_id":"i1"}`},
		{"only the key", "/track", `"event":"a","properties":{"token":"KEY"}`, `"type":"track","name":"a"`},
		{"what is not known", "/track", `"event":"a","properties":{"token":"KEY"},"$mp_metadata":{"x":1},"$set":1`,
			`"type":"track","name":"a","context":{"extra":{"$mp_metadata":{"x":1},"$set":1}}`},
		{"page", "/track", `"event":"$mp_web_page_view","properties":{"token":"KEY","current_url_path":"/"}`,
			`"type":"page","name":"page","data":{"current_url_path":"/"},"context":{"extra":{"event":"$mp_web_page_view"}}`},
		{"identify", "/track", `"event":"$identify","properties":{"token":"KEY","$user_id":"u1","distinct_id":"u1","$anon_distinct_id":"$device:d1"}`,
			`"type":"identify","name":"identify","user_id":"u1","anonymous_id":"d1",
			 "context":{"extra":{"event":"$identify","properties":{"$user_id":"u1","distinct_id":"u1","$anon_distinct_id":"$device:d1"}}}`},
		{"identify by the API", "/track", `"event":"$identify","properties":{"$identified_id":"u1","$anon_id":"a1","token":"KEY"}`,
			`"type":"identify","name":"identify","user_id":"u1","anonymous_id":"a1",
			 "context":{"extra":{"event":"$identify","properties":{"$identified_id":"u1","$anon_id":"a1"}}}`},
		{"alias", "/track", `"event":"$create_alias","properties":{"token":"KEY","distinct_id":"u1","alias":"old"}`,
			`"type":"alias","name":"alias","user_id":"u1","data":{"distinct_id":"u1","alias":"old"},"context":{"extra":{"event":"$create_alias"}}`},

		{"a device", "/track", `"event":"a","properties":{"token":"KEY","distinct_id":"$device:d1"}`,
			`"type":"track","name":"a","anonymous_id":"d1","data":{"distinct_id":"$device:d1"}`},
		{"a device of older SDKs", "/track", `"event":"a","properties":{"token":"KEY","distinct_id":"d1","$device_id":"d1"}`,
			`"type":"track","name":"a","anonymous_id":"d1","data":{"distinct_id":"d1","$device_id":"d1"}`},
		{"a user at a device", "/track", `"event":"a","properties":{"token":"KEY","distinct_id":"u1","$device_id":"d1","$user_id":"u1"}`,
			`"type":"track","name":"a","user_id":"u1","anonymous_id":"d1","data":{"distinct_id":"u1","$device_id":"d1","$user_id":"u1"}`},
		{"a number", "/track", `"event":"a","properties":{"token":"KEY","distinct_id":42}`, `"type":"track","name":"a","user_id":"42","data":{"distinct_id":42}`},
		{"nobody", "/track", `"event":"a","properties":{"token":"KEY","distinct_id":null}`, `"type":"track","name":"a","data":{"distinct_id":null}`},

		{"seconds", "/track", `"event":"a","properties":{"token":"KEY","time":1795679047}`, `"type":"track","name":"a","timestamp":"2026-11-26T07:44:07.000Z","data":{"time":1795679047}`},
		{"seconds with a fraction", "/track", `"event":"a","properties":{"token":"KEY","time":1795679047.701}`, `"type":"track","name":"a","timestamp":"2026-11-26T07:44:07.701Z","data":{"time":1795679047.701}`},
		{"milliseconds in a string", "/track", `"event":"a","properties":{"token":"KEY","time":"1795679047701"}`, `"type":"track","name":"a","timestamp":"2026-11-26T07:44:07.701Z","data":{"time":"1795679047701"}`},
		{"a time beyond the years", "/track", `"event":"a","properties":{"token":"KEY","time":253402300799999.9}`, `"type":"track","name":"a","data":{"time":253402300799999.9}`},
		{"a time before 1970", "/track", `"event":"a","properties":{"token":"KEY","time":-1}`, `"type":"track","name":"a","data":{"time":-1}`},
		{"a time that is none", "/track", `"event":"a","properties":{"token":"KEY","time":"NaN"}`, `"type":"track","name":"a","data":{"time":"NaN"}`},

		{"a profile", "/engage", `"$token":"KEY","$distinct_id":"u1","$set":{"plan": "pro"},"$ip":"0"`,
			`"type":"identify","name":"identify","user_id":"u1","data":{"plan":"pro"},"context":{"extra":{"$ip":"0"}}`},
		{"another operation", "/engage", `"$add":{"n":1},"$token":"KEY","$distinct_id":"$device:d1","$user_id":null`,
			`"type":"identify","name":"identify","anonymous_id":"d1","context":{"extra":{"$add":{"n":1}}}`},
		{"a profile with a time", "/engage", `"$token":"KEY","$time":"2026-11-23T10:00:00","$insert_id":"i"`,
			`"id":"i","type":"identify","name":"identify","timestamp":"2026-11-23T10:00:00.000Z"`},
		{"a profile with a time in a zone", "/engage", `"$token":"KEY","$time":"2026-11-23T10:00:00+01:00"`,
			`"type":"identify","name":"identify","timestamp":"2026-11-23T09:00:00.000Z"`},
		{"a profile with no time", "/engage", `"$token":"KEY","$time":"now"`, `"type":"identify","name":"identify","context":{"extra":{"$time":"now"}}`},
		{"a group", "/groups", `"$token":"KEY","$group_key":"company","$group_id":"acme","$set":{"size":3}`,
			`"type":"group","name":"group","data":{"size":3},"context":{"extra":{"$group_key":"company","$group_id":"acme"}}`},
		{"a name of an event says nothing of a profile", "/engage", `"$token":"KEY","event":"a","properties":{"token":"x"}`,
			`"type":"identify","name":"identify","context":{"extra":{"event":"a","properties":{"token":"x"}}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, body := range []string{"{" + tt.message + "}", "[{" + tt.message + "}]"} {
				r := protocol.Request{Method: http.MethodPost, Path: tt.path, Body: []byte(body)}
				stored, keys := protocoltest.Run(t, new(Decoder), new(Decoder), &r, false)
				if len(stored) != 1 || !slices.Equal(keys, []string{"KEY"}) {
					t.Fatalf("%d events, keys %q", len(stored), keys)
				}
				protocoltest.Want(t, stored[0], "{"+tt.want+"}")
			}
		})
	}
}

func TestHowASenderWantsToBeAnswered(t *testing.T) {
	t.Parallel()
	const message = `{"event":"a","properties":{"token":"KEY"}}`
	inBase64 := url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(message)))
	for _, tt := range []struct {
		query, body string
		want        Answer
	}{
		{"", message, One},
		{"verbose=0&ip=1", message, One},
		{"verbose=1", message, JSON},
		{"ip=0&img=1&verbose=1", message, Image},
		{"verbose=1&img=1", message, Image},
		{"callback=alert&redirect=https%3A%2F%2Fx.example", message, One},
		{"", "data=" + inBase64 + "&verbose=1&ip=0", JSON}, // the libraries for Python and Ruby
		{"", "data=" + url.QueryEscape(message), One},
		{"data=" + inBase64 + "&img=1", "data=" + inBase64, Image}, // a GET: the gateway makes a form of it
	} {
		var d Decoder
		if err := d.Open(&protocol.Request{Path: "/track", Query: tt.query, Body: []byte(tt.body)}, func(string) {}); err != nil || d.Wants() != tt.want {
			t.Errorf("%q %q: %v, %v", tt.query, tt.body, d.Wants(), err)
		}
		if d.Reset(0); d.Wants() != One {
			t.Error("the wish of a request that is gone")
		}
	}
}

func TestAFlawOfAMessageHasItsPlace(t *testing.T) {
	t.Parallel()
	long := `"` + strings.Repeat("x", 600) + `"`
	for _, tt := range []struct{ path, raw, pointer, code string }{
		{"/track", `{}`, "/event", "required"},
		{"/track", `{"event":""}`, "/event", "required"},
		{"/track", `{"event":1}`, "/event", "invalid_type"},
		{"/track", `{"event":` + long + `}`, "/event", "too_long"},
		{"/track", `{"event":"a","properties":[]}`, "/properties", "invalid_type"},
		{"/track", `{"event":"a","properties":{"distinct_id":{}}}`, "/properties/distinct_id", "invalid_type"},
		{"/track", `{"event":"a","properties":{"$insert_id":` + long + `}}`, "/properties/$insert_id", "too_long"},
		{"/track", `{"event":"a","properties":{"a":1,"a":1}}`, "/properties/a", "duplicate_key"},
		{"/track", `{"event":"a","properties":{"a":1e999}}`, "/properties/a", "number_out_of_range"},
		{"/track", `{"event":"a","properties":{"a":` + strings.Repeat("[", 12) + strings.Repeat("]", 12) + `}}`, "/properties/a" + strings.Repeat("/0", 11), "too_deep"},
		{"/engage", `{"$distinct_id":[]}`, "/$distinct_id", "invalid_type"},
		{"/engage", `{"$user_id":` + long + `}`, "/$user_id", "too_long"},
		{"/engage", `{"$set":[]}`, "/$set", "invalid_type"},
		{"/groups", `{"$set":"x"}`, "/$set", "invalid_type"},
		{"/groups", `{"x":"` + strings.Repeat("x", 5000) + `"}`, "", "too_large"},
		{"/groups", `[]`, "", "invalid_type"},
	} {
		protocoltest.Reject(t, new(Decoder), tt.path, tt.raw, tt.pointer, tt.code)
	}
}

func TestBodiesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ path, body, code string }{
		{"/track", "", "empty_body"},
		{"/track", "data=", "empty_body"},
		{"/track", "7", "invalid_type"},
		{"/track", "ip=1", "invalid_json"},
		{"/track", "data=eyJ", "invalid_json"},
		{"/track", "data=e", "invalid_encoding"},
		{"/track", "data=%zz", "invalid_encoding"},
		{"/track", "{", "invalid_json"},
		{"/track", "[{}", "invalid_json"},
		{"/track", `[{"event":"a","properties":{"token":"a"}},{"event":"b","properties":{"token":"b"}}]`, "conflicting_keys"},
		{"/engage", `[{"$token":"a"},{"$token":"b"}]`, "conflicting_keys"},
		{"/groups", `[{"$token":"a"},{},{"$token":"b"},7]`, "conflicting_keys"},
	} {
		var d Decoder
		err := d.Open(&protocol.Request{Path: tt.path, Body: []byte(tt.body)}, func(string) {})
		if invalid, ok := errors.AsType[*event.Invalid](err); !ok || invalid.Code != tt.code {
			t.Errorf("%s %q: %v, want %s", tt.path, tt.body, err, tt.code)
		}
	}
}

func TestReadingAllocatesLittle(t *testing.T) {
	const one = `{"event":"a","properties":{"token":"K","distinct_id":"$device:d","$device_id":"d","time":1795679047.701,"$insert_id":"i","n":1}}`
	r := protocol.Request{Path: "/track", Body: []byte(`[` + strings.Repeat(one+",", 99) + one + `]`)}
	protocoltest.Frugal(t, new(Decoder), &r)
}
