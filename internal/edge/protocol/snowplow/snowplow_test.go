package snowplow

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/edge/protocol/protocoltest"
	"github.com/eventsluice/sluice/internal/event"
)

const path = "/com.snowplowanalytics.snowplow/tp2"

// quoted is text as a JSON string.
func quoted(text string) string { return string(event.AppendString(nil, text)) }

// inBase64 is text in base64 for URLs, as a JSON string.
func inBase64(text string) string {
	return `"` + base64.RawURLEncoding.EncodeToString([]byte(text)) + `"`
}

func TestMapping(t *testing.T) {
	t.Parallel()
	const (
		order    = `{"schema":"iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0","data":{"schema":"iglu:com.acme/order/jsonschema/2-0-0","data":%}}`
		contexts = `{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1","data":[{"schema":"iglu:a/b/c/1-0-0","data":{"ü":1.0}}]}`
	)
	ue := func(data string) string { return strings.Replace(order, "%", data, 1) }
	// Received at 12:00:00.000Z, which is this many milliseconds:
	at := func(offset int) string {
		return strconv.FormatInt(protocoltest.Received.UnixMilli()+int64(offset), 10)
	}
	for _, tt := range []struct{ name, event, want string }{
		{"page view", `"e":"pv","url":"https://a/","page":"A","refr":"https://b/","res":"1x1"`,
			`"type":"page","name":"page_view","data":{"url":"https://a/","title":"A","referrer":"https://b/"},
			 "context":{"snowplow":{"url":"https://a/","page":"A","refr":"https://b/","res":"1x1"}}`},
		{"page ping", `"e":"pp","pp_mix":"0","pp_may":"9"`,
			`"type":"track","name":"page_ping","data":{"min_x":"0","max_y":"9"},"context":{"snowplow":{"pp_mix":"0","pp_may":"9"}}`},
		{"structured", `"se_ca":"shop","se_ac":"add","se_la":"l","se_pr":"p","se_va":"2.5","e":"se","url":"/"`,
			`"type":"track","name":"add","data":{"category":"shop","action":"add","label":"l","property":"p","value":"2.5"},"context":{"snowplow":{"url":"/"}}`},
		{"an action that is a number", `"e":"se","se_ac":7`, `"type":"track","name":"7","data":{"action":7}`},
		{"transaction", `"e":"tr","tr_id":"1","tr_tt":"9.99","tr_cu":"CHF"`,
			`"type":"track","name":"transaction","data":{"order_id":"1","total":"9.99","currency":"CHF"}`},
		{"item", `"e":"ti","ti_id":"1","ti_sk":"s","ti_qu":"2"`,
			`"type":"track","name":"transaction_item","data":{"order_id":"1","sku":"s","quantity":"2"}`},
		{"fields of another kind stay as they are", `"e":"pv","se_ac":"x","tr_id":"1","ue_pr":"{"`,
			`"type":"page","name":"page_view","context":{"snowplow":{"se_ac":"x","tr_id":"1","ue_pr":"{"}}`},
		{"self-describing", `"e":"ue","ue_pr":` + quoted(ue(`{"n": 1.0}`)),
			`"type":"track","name":"order","data":{"n":1.0},"context":{"snowplow":{"schema":"iglu:com.acme/order/jsonschema/2-0-0"}}`},
		{"self-describing in base64", `"ue_px":` + inBase64(ue(`{"n":"?>~ü"}`)) + `,"e":"ue"`,
			`"type":"track","name":"order","data":{"n":"?>~ü"},"context":{"snowplow":{"schema":"iglu:com.acme/order/jsonschema/2-0-0"}}`},
		{"self-describing, both", `"e":"ue","ue_px":` + inBase64(ue(`{"a":1}`)) + `,"ue_pr":"x"`,
			`"type":"track","name":"order","data":{"a":1},"context":{"snowplow":{"ue_pr":"x","schema":"iglu:com.acme/order/jsonschema/2-0-0"}}`},
		{"self-describing, data is no object", `"e":"ue","ue_pr":` + quoted(ue(`[1]`)),
			`"type":"track","name":"order","data":{"value":[1]},"context":{"snowplow":{"schema":"iglu:com.acme/order/jsonschema/2-0-0"}}`},
		{"contexts", `"e":"pv","co":` + quoted(contexts),
			`"type":"page","name":"page_view","context":{"snowplow":{"contexts":[{"schema":"iglu:a/b/c/1-0-0","data":{"ü":1.0}}]}}`},
		{"contexts in base64, and both", `"e":"pv","co":"x","cx":` + inBase64(contexts),
			`"type":"page","name":"page_view","context":{"snowplow":{"co":"x","contexts":[{"schema":"iglu:a/b/c/1-0-0","data":{"ü":1.0}}]}}`},
		{"whose it is", `"e":"pv","eid":"e1","uid":"u1","duid":"d1","tnuid":"t1","nuid":"n1"`,
			`"id":"e1","type":"page","name":"page_view","user_id":"u1","anonymous_id":"d1","context":{"snowplow":{"tnuid":"t1","nuid":"n1"}}`},
		{"without a domain user", `"e":"pv","uid":"","tnuid":7`, `"type":"page","name":"page_view","anonymous_id":"7"`},
		{"a network user of old", `"e":"pv","duid":null,"nuid":"n1"`, `"type":"page","name":"page_view","anonymous_id":"n1"`},
		{"the clock is an hour late", `"e":"pv","dtm":"` + at(-3600_000-500) + `","stm":"` + at(-3600_000) + `"`,
			`"type":"page","name":"page_view","timestamp":"2026-11-23T11:59:59.500Z","context":{"snowplow":{"dtm":"` + at(-3600_000-500) + `","stm":"` + at(-3600_000) + `"}}`},
		{"no time of sending", `"e":"pv","dtm":"` + at(-1) + `"`,
			`"type":"page","name":"page_view","timestamp":"2026-11-23T11:59:59.999Z","context":{"snowplow":{"dtm":"` + at(-1) + `"}}`},
		{"a true time", `"e":"pv","ttm":"` + at(-60_000) + `","dtm":"1","stm":"2"`,
			`"type":"page","name":"page_view","timestamp":"2026-11-23T11:59:00.000Z","context":{"snowplow":{"ttm":"` + at(-60_000) + `","dtm":"1","stm":"2"}}`},
		{"no time at all", `"e":"pv","dtm":"now","ttm":"99999999999999999999","stm":"-1"`,
			`"type":"page","name":"page_view","context":{"snowplow":{"dtm":"now","ttm":"99999999999999999999","stm":"-1"}}`},
		{"a time beyond the years", `"e":"pv","dtm":"253402300800000"`,
			`"type":"page","name":"page_view","context":{"snowplow":{"dtm":"253402300800000"}}`},
		{"what is no string stays as it is", `"e":"pv","x":{"a":[1.0]},"y":true,"z":null`,
			`"type":"page","name":"page_view","context":{"snowplow":{"x":{"a":[1.0]},"y":true}}`},
		{"fields named as ours", `"e":"pv","schema":"s","contexts":[1],"extra":1`,
			`"type":"page","name":"page_view","context":{"snowplow":{"extra":1},"extra":{"schema":"s","contexts":[1]}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := protocol.Request{Method: http.MethodPost, Path: path, Body: []byte(
				"\xef\xbb\xbf {\"schema\":\"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4\",\"data\":[{" + tt.event + `,"aid":"KEY"}]}`)}
			stored, keys := protocoltest.Run(t, new(Decoder), new(Decoder), &r, false)
			if len(stored) != 1 || !slices.Equal(keys, []string{"KEY"}) {
				t.Fatalf("%d events, keys %q", len(stored), keys)
			}
			protocoltest.Want(t, stored[0], "{"+tt.want+"}")
		})
	}
}

func TestAQueryIsAnEvent(t *testing.T) {
	t.Parallel()
	r := protocol.Request{
		Method: http.MethodGet, Path: "/i",
		Body: []byte("e=se&se_ac=add+to%20basket&page=Gr%C3%B6%C3%9Fe%22%01&eid=1&aid=K%2BY&write_key=w&writeKey=w&empty=&&flag"),
	}
	stored, keys := protocoltest.Run(t, new(Decoder), new(Decoder), &r, false)
	if len(stored) != 1 || !slices.Equal(keys, []string{"K+Y"}) {
		t.Fatalf("%d events, keys %q", len(stored), keys)
	}
	protocoltest.Want(t, stored[0], `{"id":"1","type":"track","name":"add to basket","data":{"action":"add to basket"},
		"context":{"snowplow":{"page":"Größe\"\u0001"}}}`)
}

func TestAFlawOfAnEventHasItsPlace(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 20) + strings.Repeat("]", 20)
	for _, tt := range []struct{ raw, pointer, code string }{
		{`{}`, "/e", "required"},
		{`{"e":null}`, "/e", "required"},
		{`{"e":1}`, "/e", "invalid_type"},
		{`{"e":"click"}`, "/e", "unknown_type"},
		{`{"e":"se"}`, "/se_ac", "required"},
		{`{"e":"se","se_ac":{}}`, "/se_ac", "invalid_type"},
		{`{"e":"se","se_ac":"` + strings.Repeat("x", 513) + `"}`, "/se_ac", "too_long"},
		{`{"e":"ue"}`, "/ue_pr", "required"},
		{`{"e":"ue","ue_px":"?"}`, "/ue_px", "invalid_encoding"},
		{`{"e":"ue","ue_px":""}`, "/ue_px", "invalid_json"},
		{`{"e":"ue","ue_px":{}}`, "/ue_px", "invalid_type"},
		{`{"e":"ue","ue_pr":"{"}`, "/ue_pr", "invalid_json"},
		{`{"e":"ue","ue_pr":"[]"}`, "/ue_pr", "invalid_type"},
		{`{"e":"ue","ue_pr":"{\"data\":1}"}`, "/ue_pr", "invalid_type"},
		{`{"e":"ue","ue_pr":"{\"data\":{\"schema\":\"order\"}}"}`, "/ue_pr", "invalid_encoding"},
		{`{"e":"ue","ue_pr":"{\"data\":{\"schema\":\"iglu:a/b/c/1/2\"}}"}`, "/ue_pr", "invalid_encoding"},
		{`{"e":"ue","ue_pr":"{\"data\":{\"schema\":\"iglu:a//c/1\"}}"}`, "/ue_pr", "invalid_encoding"},
		{`{"e":"ue","ue_pr":"{\"data\":{\"a\":1,\"a\":1}}"}`, "/ue_pr", "duplicate_key"},
		{`{"e":"ue","ue_pr":` + quoted(`{"data":`+deep+`}`) + `}`, "/ue_pr", "too_deep"},
		{`{"e":"ue","ue_pr":` + quoted(`{"data":{"schema":"iglu:a/`+strings.Repeat("x", 513)+`/c/1"}}`) + `}`, "/ue_pr", "too_long"},
		{`{"e":"ue","ue_pr":` + quoted("{\"data\":1e999}") + `}`, "/ue_pr", "number_out_of_range"},
		{`{"e":"ue","ue_px":` + inBase64("{\"data\":\"\xff\"}") + `}`, "/ue_px", "invalid_utf8"},
		{`{"e":"pv","cx":"????"}`, "/cx", "invalid_encoding"},
		{`{"e":"pv","co":"{\"data\":{}}"}`, "/co", "invalid_type"},
		{`{"e":"pv","co":[]}`, "/co", "invalid_type"},
		{`{"e":"pv","eid":"` + strings.Repeat("x", 257) + `"}`, "/eid", "too_long"},
		{`{"e":"pv","eid":[]}`, "/eid", "invalid_type"},
		{`{"e":"pv","uid":true}`, "/uid", "invalid_type"},
		{`{"e":"pv","duid":{}}`, "/duid", "invalid_type"},
		{`{"e":"pv","e":"pv"}`, "/e", "duplicate_key"},
		{`{"e":"pv","aid":"a","aid":"b"}`, "/aid", "duplicate_key"},
		{`{"e":"pv","x":` + deep + `}`, "/x" + strings.Repeat("/0", 12), "too_deep"},
		{`{"e":"pv","x":"` + strings.Repeat("x", 5000) + `"}`, "", "too_large"},
		{`"pv"`, "", "invalid_type"},
	} {
		protocoltest.Reject(t, new(Decoder), path, tt.raw, tt.pointer, tt.code)
	}
}

func TestDocumentsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ method, text, code string }{
		{http.MethodPost, "", "empty_body"},
		{http.MethodPost, "[]", "invalid_type"},
		{http.MethodPost, "{}", "invalid_type"},
		{http.MethodPost, `{"data":{}}`, "invalid_type"},
		{http.MethodPost, `{"data":[}`, "invalid_json"},
		{http.MethodPost, `{"data":[],"data":[]}`, "duplicate_key"},
		{http.MethodPost, `{"schema":"iglu:com.snowplowanalytics.iglu/anything/jsonschema/1-0-0","data":[]}`, "invalid_type"},
		{http.MethodPost, `{"data":[{"e":"pv","aid":"a"},{"e":"pv","aid":"b"}]}`, "conflicting_keys"},
		{http.MethodPost, `e=pv`, "invalid_json"},
		{http.MethodGet, "", "empty_body"},
		{http.MethodGet, "write_key=k", "empty_body"},
		{http.MethodGet, "e=pv&page=%zz", "invalid_encoding"},
		{http.MethodGet, "e=pv&page=%f6", "invalid_encoding"},
	} {
		var d Decoder
		r := protocol.Request{Method: tt.method, Path: path, Body: []byte(tt.text)}
		err := d.Open(&r, func(string) {})
		if invalid, ok := errors.AsType[*event.Invalid](err); !ok || invalid.Code != tt.code {
			t.Errorf("%s %q: %v, want %s", tt.method, tt.text, err, tt.code)
		}
	}
}

func TestReadingAllocatesLittle(t *testing.T) {
	one := `{"e":"ue","aid":"KEY","eid":"1","uid":"u","dtm":"1764064800000","stm":"1764064800100","ue_pr":` +
		quoted(`{"data":{"schema":"iglu:com.acme/order/jsonschema/1-0-0","data":{"n":"x"}}}`) + `,"co":` + quoted(`{"data":[{"a":"b"}]}`) + `}`
	r := protocol.Request{Method: http.MethodPost, Path: path, Body: []byte(`{"data":[` + strings.Repeat(one+",", 99) + one + `]}`)}
	protocoltest.Frugal(t, new(Decoder), &r)
}
