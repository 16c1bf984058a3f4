package mixpanel

import (
	"net/http"
	"testing"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/edge/protocol/protocoltest"
)

// FuzzDecoder reads any body on the three paths.
func FuzzDecoder(f *testing.F) {
	paths := []string{"/track", "/engage", "/groups"}
	for path := range paths {
		for _, seed := range []string{
			`{"event":"a","properties":{"token":"k","distinct_id":"$device:d","$device_id":"d","time":1795679047.701,"$insert_id":"i"}}`,
			`[{"event":"$mp_web_page_view","properties":{"time":"1795679047701"}},{"event":"$identify","properties":{"$user_id":1,"$anon_distinct_id":"$device:x","token":"k"}},{}]`,
			`{"$token":"k","$distinct_id":"u","$set":{"a":1},"$add":{"n":1},"$time":"2026-11-23T10:00:00"}`,
			`[{"$token":"k","$group_key":"company","$group_id":"acme","$set":{"a":1}},{"$token":"other"}]`,
			"data=eyJldmVudCI6ImEiLCJwcm9wZXJ0aWVzIjp7fX0%3D&verbose=1&img=1", "verbose=1&data=e30", ``, `[]`, `7`, `{"event":"a","properties":[]}`,
			`{"event":"a","properties":{"time":253402300799.9999,"token":[]}}`, `{"$set":{},"$time":1e999}`,
		} {
			f.Add(byte(path), []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, path byte, body []byte) {
		r := protocol.Request{Method: http.MethodPost, Path: paths[int(path)%len(paths)], Body: body}
		protocoltest.Run(t, new(Decoder), new(Decoder), &r, false)
	})
}
