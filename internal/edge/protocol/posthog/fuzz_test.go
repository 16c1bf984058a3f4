package posthog

import (
	"net/http"
	"testing"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/edge/protocol/protocoltest"
)

// FuzzDecoder reads any body, with a time in the query or without.
func FuzzDecoder(f *testing.F) {
	for _, seed := range []string{
		`{"api_key":"k","batch":[{"event":"a","distinct_id":"u1","uuid":"1","timestamp":"2026-11-23T10:00:00.000Z","properties":{"token":"k","n":1.0}},{},7],"sent_at":"2026-11-23T11:00:00.000Z"}`,
		`[{"event":"$identify","$set":{"a":1},"$set_once":{"b":2},"properties":{"distinct_id":"u","$device_id":"d","$user_id":"u","$anon_distinct_id":"d","token":"k"}},{"event":"$set","properties":{"$set":{"p":1},"":2}}]`,
		`{"event":"$groupidentify","distinct_id":"$company_acme","api_key":"k","properties":{"$group_set":{"a":1}},"offset":1500}`,
		`{"event":"$screen","$distinct_id":1,"properties":{"$screen_name":"Home","$is_identified":false},"timestamp":"9999-12-31T23:59:59-01:00","sent_at":"0001-01-01T00:00:00Z"}`,
		`{"event":"$pageview","properties":{"distinct_id":"d","$device_id":"d","$ignore_sent_at":true},"offset":9e99,"timestamp":1}`,
		"data=eyJldmVudCI6ImEifQ%3D%3D", `{"batch":{}}`, `[]`, ``, `{"event":"$create_alias","properties":[]}`,
	} {
		f.Add("", []byte(seed))
		f.Add("compression=gzip-js&_=1795679048748", []byte(seed))
	}
	f.Fuzz(func(t *testing.T, query string, body []byte) {
		r := protocol.Request{Method: http.MethodPost, Path: "/e", Query: query, Body: body}
		d := new(Decoder)
		clock := !sentAtOf(query).IsZero()
		if err := d.Open(&protocol.Request{Query: query, Body: append([]byte(nil), body...)}, func(string) {}); err == nil {
			clock = !d.mapping.sentAt.IsZero()
		}
		protocoltest.Run(t, d, new(Decoder), &r, clock)
	})
}
