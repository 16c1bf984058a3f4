package snowplow

import (
	"net/http"
	"testing"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/edge/protocol/protocoltest"
)

// FuzzDecoder reads anything as a document, and as a query.
func FuzzDecoder(f *testing.F) {
	for _, seed := range []string{
		`{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[{"e":"pv","eid":"1","aid":"k","url":"https://a/","page":"A","dtm":"1764064800000","stm":"1764064800100"},{"e":"se"},7]}`,
		`{"data":[{"e":"ue","ue_pr":"{\"schema\":\"iglu:a/b/c/d\",\"data\":{\"schema\":\"iglu:com.acme/order/jsonschema/1-0-0\",\"data\":{\"n\":1}}}","co":"{\"data\":[1]}","duid":"d","tnuid":"t"}]}`,
		`{"data":[{"e":"ue","ue_px":"eyJkYXRhIjp7InNjaGVtYSI6ImlnbHU6YS9iL2MvZCIsImRhdGEiOjF9fQ","cx":"eyJkYXRhIjpbXX0","schema":1,"contexts":[]}]}`,
		`{"data":[{"e":"tr","tr_id":"1","ttm":"253402300800000"},{"e":"ti","ti_id":1,"uid":7,"nuid":"x"}]}`,
		"e=pv&url=https%3A%2F%2Fshop.example%2F&page=Gr%C3%B6%C3%9Fe&aid=k&dtm=1764064800000&write_key=x",
		"e=se&se_ac=a+b&se_va=1&se_va=2", "e=%zz", "e=ue&ue_px=", "", "a",
	} {
		f.Add(true, []byte(seed))
		f.Add(false, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, inQuery bool, text []byte) {
		r := protocol.Request{Method: http.MethodPost, Path: "/com.snowplowanalytics.snowplow/tp2", Body: text}
		if inQuery {
			r = protocol.Request{Method: http.MethodGet, Path: "/i", Body: text}
		}
		protocoltest.Run(t, new(Decoder), new(Decoder), &r, false)
	})
}
