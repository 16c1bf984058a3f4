package cloudevents

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/edge/protocol/protocoltest"
	"github.com/eventsluice/sluice/internal/event"
)

// id is the id of the event 7 of /orders.
var id = string(event.AppendNamedID(nil, "/orders", "7"))

// required are the attributes that every event has, as members and in context.
const required = `"specversion":"1.0","id":"7","source":"/orders"`

func TestDataOfEveryKindBecomesAnObject(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, members, data, attributes string }{
		{"none", ``, `{}`, ``},
		{"null", `,"data":null`, `{}`, ``},
		{"an object", `,"data":{"a": 1.0}`, `{"a":1.0}`, ``},
		{"an array", `,"data":[1,{}]`, `{"value":[1,{}]}`, ``},
		{"a JSON string", `,"data":"{}"`, `{"value":"{}"}`, ``},
		{"a number", `,"data":0`, `{"value":0}`, ``},
		{"false", `,"data":false`, `{"value":false}`, ``},
		{"XML", `,"datacontenttype":"text/xml","data":"<a b=\"c\"/>"`, `{"value":"<a b=\"c\"/>"}`, `,"datacontenttype":"text/xml"`},
		{"bytes", `,"datacontenttype":"image/png","data_base64":"AAH/"`, `{"base64":"AAH/"}`, `,"datacontenttype":"image/png"`},
		{"bytes of no type", `,"data_base64":"e30="`, `{"base64":"e30="}`, ``},
		{"bytes with escaped slashes", `,"data_base64":"AAH\/"`, `{"base64":"AAH/"}`, ``},
		{"bytes of text", `,"datacontenttype":"text/plain","data_base64":"TcO8bGwK"`, `{"value":"Müll\n"}`, `,"datacontenttype":"text/plain"`},
		{"bytes that are no text", `,"datacontenttype":"text/plain","data_base64":"/w=="`, `{"base64":"/w=="}`, `,"datacontenttype":"text/plain"`},
		{"bytes with a NUL", `,"datacontenttype":"text/plain","data_base64":"AA=="`, `{"base64":"AA=="}`, `,"datacontenttype":"text/plain"`},
		{"bytes of a JSON object", `,"datacontenttype":"application/vnd.x+json; v=1","data_base64":"IHsiYSI6MX0K"`, `{"a":1}`, `,"datacontenttype":"application/vnd.x+json; v=1"`},
		{"bytes of a JSON value", `,"datacontenttype":"application/json","data_base64":"MQ=="`, `{"value":1}`, `,"datacontenttype":"application/json"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := protocol.Request{
				Header: http.Header{"Content-Type": {"Application/CloudEvents+JSON; charset=utf-8"}},
				Body:   []byte(`{` + required + `,"type":"t"` + tt.members + `}`),
			}
			stored, _ := protocoltest.Run(t, new(Decoder), new(Decoder), &r, false)
			if len(stored) != 1 {
				t.Fatalf("%d events", len(stored))
			}
			protocoltest.Want(t, stored[0], `{"id":"`+id+`","type":"track","name":"t","data":`+tt.data+
				`,"context":{"cloudevents":{`+required+tt.attributes+`}}}`)
		})
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, members, want string }{
		{"all of them", `"subject":"o1","time":"2026-11-23T11:00:00.123456+01:00","dataschema":"https://schema.example/o",
		  "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","sampledrate":3,"flag":true,"gone":null`,
			`"timestamp":"2026-11-23T11:00:00.123456+01:00","context":{"cloudevents":{` + required + `,"subject":"o1","dataschema":"https://schema.example/o",
		  "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","sampledrate":3,"flag":true}}`},
		{"whose it is", `"userid":42,"anonymousid":"a\u0031"`, `"user_id":"42","anonymous_id":"a1","context":{"cloudevents":{` + required + `}}`},
		{"null is missing", `"subject":null,"time":null,"userid":null,"data_base64":null`, `"context":{"cloudevents":{` + required + `}}`},
		{"names of our own form are extensions", `"name":"x","user_id":"u","timestamp":"t","context":{},"extra":1`,
			`"context":{"cloudevents":{` + required + `,"name":"x","user_id":"u","timestamp":"t","context":{},"extra":1}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := protocol.Request{
				Header: http.Header{"Content-Type": {batchedPrefix + "+json"}},
				Body:   []byte(" [\n{" + tt.members + `,"type":"com.example.t",` + required + "}\n]"),
			}
			stored, _ := protocoltest.Run(t, new(Decoder), new(Decoder), &r, false)
			if len(stored) != 1 {
				t.Fatalf("%d events", len(stored))
			}
			protocoltest.Want(t, stored[0], `{"id":"`+id+`","type":"track","name":"com.example.t",`+tt.want+`}`)
		})
	}
}

func TestBinaryMode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, contentType string
		header            [][2]string
		body, want        string
	}{
		{"JSON", "application/json; charset=utf-8", nil, "\xef\xbb\xbf {\"a\": 1.0}\n",
			`"data":{"a":1.0},"context":{"cloudevents":{` + required + `,"datacontenttype":"application/json; charset=utf-8"}}`},
		{"a JSON string", "application/json", nil, `"x"`, `"data":{"value":"x"},"context":{"cloudevents":{` + required + `,"datacontenttype":"application/json"}}`},
		{"text", "text/plain", nil, "a \"b\"\n", `"data":{"value":"a \"b\"\n"},"context":{"cloudevents":{` + required + `,"datacontenttype":"text/plain"}}`},
		{"a form is text", "application/x-www-form-urlencoded", nil, "data=e30", `"data":{"value":"data=e30"},"context":{"cloudevents":{` + required + `,"datacontenttype":"application/x-www-form-urlencoded"}}`},
		{"text that is none", "text/plain", nil, "\xff", `"data":{"base64":"/w=="},"context":{"cloudevents":{` + required + `,"datacontenttype":"text/plain"}}`},
		{"bytes", "application/octet-stream", nil, "abc", `"data":{"base64":"YWJj"},"context":{"cloudevents":{` + required + `,"datacontenttype":"application/octet-stream"}}`},
		{"no type, JSON", "", nil, `[1]`, `"data":{"value":[1]},"context":{"cloudevents":{` + required + `}}`},
		{"no type, no JSON", "", nil, `[1`, `"data":{"base64":"WzE="},"context":{"cloudevents":{` + required + `}}`},
		{"nothing", "text/plain", nil, ``, `"context":{"cloudevents":{` + required + `,"datacontenttype":"text/plain"}}`},
		{"type in a ce- header", "", [][2]string{{"Ce-Datacontenttype", "application/json"}}, `{}`, `"context":{"cloudevents":{` + required + `,"datacontenttype":"application/json"}}`},
		{"escapes", "", [][2]string{{"Ce-Subject", "Euro%20%E2%82%AC%20%f0%9f%98%80"}, {"Ce-Userid", "a%2Bb%2525"}}, ``,
			`"user_id":"a+b%25","context":{"cloudevents":{` + required + `,"subject":"Euro € 😀"}}`},
		{"a percent sign that is no escape", "", [][2]string{{"Ce-Subject", "100% of 5%2"}}, ``, `"context":{"cloudevents":{` + required + `,"subject":"100% of 5%2"}}`},
		{"a plus is no space", "", [][2]string{{"Ce-Subject", "a+b"}}, ``, `"context":{"cloudevents":{` + required + `,"subject":"a+b"}}`},
		{"in double quotes", "", [][2]string{{"Ce-Subject", `"Order \"1\" %41\\"`}}, ``, `"context":{"cloudevents":{` + required + `,"subject":"Order \"1\" A\\"}}`},
		{"UTF-8 that was not escaped", "", [][2]string{{"Ce-Subject", "Größe"}}, ``, `"context":{"cloudevents":{` + required + `,"subject":"Größe"}}`},
		{"time and extensions", "", [][2]string{{"Ce-Time", "2026-11-23T10:00:00Z"}, {"Ce-Traceparent", "00-x"}, {"Ce-Anonymousid", "a1"}}, ``,
			`"anonymous_id":"a1","timestamp":"2026-11-23T10:00:00Z","context":{"cloudevents":{` + required + `,"traceparent":"00-x"}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			header := http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"7"}, "Ce-Source": {"/orders"}, "Ce-Type": {"t"}, "Cell": {"no"}}
			if tt.contentType != "" {
				header["Content-Type"] = []string{tt.contentType}
			}
			for _, h := range tt.header {
				header.Add(h[0], h[1])
			}
			if !Is(header) {
				t.Error("it is not known as a CloudEvent")
			}
			stored, _ := protocoltest.Run(t, new(Decoder), new(Decoder), &protocol.Request{Header: header, Body: []byte(tt.body)}, false)
			if len(stored) != 1 {
				t.Fatalf("%d events", len(stored))
			}
			protocoltest.Want(t, stored[0], `{"id":"`+id+`","type":"track","name":"t",`+tt.want+`}`)
		})
	}
}

func TestAFlawOfAnEventHasItsPlace(t *testing.T) {
	t.Parallel()
	const end = `,"type":"t"}`
	for _, tt := range []struct{ raw, pointer, code string }{
		{`{"id":"7","source":"/orders"` + end, "/specversion", "required"},
		{`{"specversion":"0.3","id":"7","source":"/orders"` + end, "/specversion", "unknown_version"},
		{`{"specversion":1.0,"id":"7","source":"/orders"` + end, "/specversion", "invalid_type"},
		{`{"specversion":"1.0","source":"/orders"` + end, "/id", "required"},
		{`{"specversion":"1.0","id":"","source":"/orders"` + end, "/id", "required"},
		{`{"specversion":"1.0","id":7,"source":"/orders"` + end, "/id", "invalid_type"},
		{`{"specversion":"1.0","id":"7"` + end, "/source", "required"},
		{`{"specversion":"1.0","id":"7","source":null` + end, "/source", "required"},
		{`{` + required + `}`, "/type", "required"},
		{`{` + required + `,"type":"` + strings.Repeat("x", 513) + `"}`, "/type", "too_long"},
		{`{` + required + `,"subject":{}` + end, "/subject", "invalid_type"},
		{`{` + required + `,"time":"yesterday"` + end, "/time", "invalid_timestamp"},
		{`{` + required + `,"time":1` + end, "/time", "invalid_type"},
		{`{` + required + `,"datacontenttype":1,"data":1` + end, "/datacontenttype", "invalid_type"},
		{`{` + required + `,"userid":{}` + end, "/userid", "invalid_type"},
		{`{` + required + `,"userid":"` + strings.Repeat("u", 513) + `"` + end, "/userid", "too_long"},
		{`{` + required + `,"data":1,"data_base64":"MQ=="` + end, "/data_base64", "duplicate_key"},
		{`{` + required + `,"data_base64":"?"` + end, "/data_base64", "invalid_encoding"},
		{`{` + required + `,"data_base64":7` + end, "/data_base64", "invalid_type"},
		{`{` + required + `,"datacontenttype":"application/json","data_base64":"ew=="` + end, "/data_base64", "invalid_json"},
		{`{` + required + `,"datacontenttype":"application/json","data_base64":"eyJhIjoxLCJhIjoxfQ=="` + end, "/data_base64", "duplicate_key"},
		{`{` + required + `,"id":"8"` + end, "/id", "duplicate_key"},
		{`{` + required + `,"data":{"a":1e999}` + end, "/data/a", "number_out_of_range"},
		{`{` + required + `,"data":` + strings.Repeat("[", 13) + strings.Repeat("]", 13) + end, "/data" + strings.Repeat("/0", 12), "too_deep"},
		{`{` + required + `,"data":"` + strings.Repeat("x", 5000) + `"` + end, "", "too_large"},
		{`[]`, "", "invalid_type"},
	} {
		protocoltest.Reject(t, new(Decoder), "/v1/events", tt.raw, tt.pointer, tt.code)
	}
}

func TestAFlawOfAHeaderHasThePlaceOfItsAttribute(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		change        func(http.Header)
		body          string
		pointer, code string
	}{
		{"no source", func(h http.Header) { delete(h, "Ce-Source") }, "", "/source", "required"},
		{"no version", func(h http.Header) { delete(h, "Ce-Specversion") }, "", "/specversion", "required"},
		{"a later version", func(h http.Header) { h["Ce-Specversion"] = []string{"2.0"} }, "", "/specversion", "unknown_version"},
		{"two ids", func(h http.Header) { h.Add("Ce-Id", "8") }, "", "/id", "duplicate_key"},
		{"an overlong escape", func(h http.Header) { h["Ce-Subject"] = []string{"%C0%A0"} }, "", "/subject", "invalid_utf8"},
		{"ISO 8859-1", func(h http.Header) { h["Ce-Subject"] = []string{"Gr\xf6sse \"\\"} }, "", "/subject", "invalid_utf8"},
		{"two media types", func(h http.Header) { h["Ce-Datacontenttype"] = []string{"text/plain"} }, "", "/datacontenttype", "duplicate_key"},
		{"data in a header", func(h http.Header) { h["Ce-Data"] = []string{"x"} }, "{}", "/data", "duplicate_key"},
		{"no JSON", func(http.Header) {}, `{"a":1}}`, "/data", "invalid_json"},
		{"members smuggled in", func(http.Header) {}, `1,"userid":"root"`, "/data", "invalid_json"},
		{"a flaw in the data", func(http.Header) {}, `{"a":{"b":1,"b":2}}`, "/data/a/b", "duplicate_key"},
		{"too deep", func(http.Header) {}, strings.Repeat("[", 20_000), "/data", "too_large"},
		{"too large", func(http.Header) {}, strings.Repeat(" ", 4097), "", "too_large"},
		{"too large with the headers", func(http.Header) {}, `"` + strings.Repeat("x", 4090) + `"`, "", "too_large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			header := http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"7"}, "Ce-Source": {"/orders"}, "Ce-Type": {"t"}, "Content-Type": {"application/json"}}
			tt.change(header)
			var d Decoder
			r := protocol.Request{Header: header, Body: []byte(tt.body), Limits: protocoltest.Limits}
			if err := d.Open(&r, nil); err != nil {
				t.Fatal(err)
			}
			n := 0
			err := d.Events(func(_ *event.Event, invalid *event.Invalid, raw []byte) bool {
				n++
				if invalid == nil || invalid.Pointer != tt.pointer && invalid.Code != event.CodeTooLarge || invalid.Code != tt.code {
					t.Errorf("%v of %s", invalid, raw)
				}
				return true
			})
			if n != 1 || err != nil {
				t.Errorf("%d events, %v", n, err)
			}
		})
	}
}

func TestBodiesThatAreNoCloudEvents(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ contentType, body, code string }{
		{MediaType, "", "empty_body"},
		{MediaType, " \n", "empty_body"},
		{MediaType, "[]", "invalid_type"},
		{MediaType, "{", "invalid_json"},
		{MediaType, `{"specversion":"1.0"}}`, "invalid_json"},
		{batchedPrefix + "+json", "{}", "invalid_type"},
		{batchedPrefix + "+json", "[{}", "invalid_json"},
		{batchedPrefix + "+json", "[{}]]", "invalid_json"},
		{"application/cloudevents+avro", "{}", "invalid_json"},
		{"application/cloudevents", "{}", "invalid_json"},
		{"application/cloudevents-batch+protobuf", "[]", "invalid_json"},
		{"application/cloudevents-and-more+json", "{}", "invalid_json"},
	} {
		var d Decoder
		r := protocol.Request{Header: http.Header{"Content-Type": {tt.contentType}}, Body: []byte(tt.body)}
		err := d.Open(&r, nil)
		if err == nil {
			err = d.Events(func(*event.Event, *event.Invalid, []byte) bool { return true })
		}
		if invalid, ok := errors.AsType[*event.Invalid](err); !ok || invalid.Code != tt.code {
			t.Errorf("%s %q: %v, want %s", tt.contentType, tt.body, err, tt.code)
		}
	}
}

func TestWhatIsACloudEvent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		header http.Header
		want   bool
	}{
		{http.Header{}, false},
		{http.Header{"Content-Type": {"application/json"}, "Ce-Subject": {"x"}}, false},
		{http.Header{"Content-Type": {"application/cloudevents-batch+json"}}, true},
		{http.Header{"Content-Type": {"APPLICATION/CLOUDEVENTS+JSON"}}, true},
		{http.Header{"Ce-Type": {"t"}}, true},
		{http.Header{"Ce-Id": {""}}, true},
	} {
		if Is(tt.header) != tt.want {
			t.Errorf("%v: %v", tt.header, !tt.want)
		}
	}
}

func TestReadingAllocatesLittle(t *testing.T) {
	batch := []byte(`[` + strings.Repeat(`{`+required+`,"type":"t","time":"2026-11-23T10:00:00Z","userid":"u","datacontenttype":"application/octet-stream","data_base64":"AAH/"},`, 99) +
		`{` + required + `,"type":"t","data":[1]}]`)
	r := protocol.Request{Header: http.Header{"Content-Type": {batchedPrefix + "+json"}}, Body: batch}
	protocoltest.Frugal(t, new(Decoder), &r)
}
