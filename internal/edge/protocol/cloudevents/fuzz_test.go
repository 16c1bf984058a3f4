package cloudevents

import (
	"net/http"
	"testing"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/edge/protocol/protocoltest"
)

// FuzzDecoder reads any body in the three modes; in binary mode the headers are
// any as well.
func FuzzDecoder(f *testing.F) {
	const full = `{"specversion":"1.0","id":"7","source":"/orders","type":"order_placed","time":"2026-11-23T10:00:00Z","subject":"o1","userid":42,"data":{"a":1}}`
	for _, contentType := range []string{MediaType, batchedPrefix + "+json; charset=utf-8", "application/json", "text/plain", "application/octet-stream", ""} {
		for _, body := range []string{
			full, "[" + full + "," + full + ",{},7]", "plain \"text\"\n", "\x00\xff", "", `{"specversion":"1.0","id":"1","source":"a","type":"t","data_base64":"eyJhIjoxfQ==","datacontenttype":"application/json"}`,
			`{"specversion":"1.0","id":"1","source":"a","type":"t","data":"\ud83d\ude00","datacontenttype":"text/xml","x":[{}]}`,
			`{"specversion":"0.3"}`, `[[[[]]]]`, "\xef\xbb\xbf" + full,
		} {
			f.Add(contentType, "/orders", "Gr%C3%B6%C3%9Fe%20100%", "extension", []byte(body))
		}
	}
	f.Add("text/xml", "\"a\\\"b\"", "%C0%A0", "data", []byte("<a/>"))
	f.Fuzz(func(t *testing.T, contentType, source, subject, extension string, body []byte) {
		header := http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"7"}, "Ce-Type": {"t"}, "Ce-Source": {source}, "Ce-Subject": {subject}}
		header["Ce-"+extension] = append(header["Ce-"+extension], subject)
		if contentType != "" {
			header["Content-Type"] = []string{contentType}
		}
		r := protocol.Request{Method: http.MethodPost, Path: "/v1/events", Header: header, Body: body}
		protocoltest.Run(t, new(Decoder), new(Decoder), &r, false)
	})
}
