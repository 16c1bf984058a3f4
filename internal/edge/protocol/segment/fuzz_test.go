package segment

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
)

// FuzzDecoder reads any body as a batch, and as one event of a route. What
// comes out can be stored and read again, and what was given out as raw is read
// again with the same result: a letter of the quarantine holds no more.
func FuzzDecoder(f *testing.F) {
	for _, seed := range []string{
		`{"batch":[{"type":"track","event":"a","userId":1,"properties":{"n":1.0}},{}],"writeKey":"k","sentAt":"2026-11-23T23:30:33.266Z","context":{"a":1}}`,
		`{"type":"identify","traits":{"a":[1,{"b":null}]},"timestamp":"2026-11-23T23:30:33.266Z","sentAt":"2026-11-23T23:30:34Z","x":[]}`,
		`[{"type":"page","name":"Home","category":"Docs","messageId":"m","anonymousId":null}]`,
		"data=eyJldmVudCI6ImEifQ==", `data=%7B%22event%22%3A%22a%22%7D&x=1`, "\xef\xbb\xbf { \"event\":\"\\ud83d\\ude00\"}", `[]`, ``, `{"batch":{}}`,
	} {
		f.Add("", []byte(seed))
		f.Add(event.TypeTrack, []byte(seed))
	}
	received := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, typ string, body []byte) {
		if typ != "" && knownType(typ) == "" {
			return
		}
		r := protocol.Request{Path: "/v1/batch", Body: bytes.Clone(body), Type: typ, Received: received}
		var d, again Decoder
		if d.Open(&r, func(string) {}) != nil {
			return
		}
		// The sentAt and context of an envelope are not in its events.
		alone := d.mapping.sentAt.IsZero() && d.mapping.context == nil
		_ = d.Events(func(ev *event.Event, invalid *event.Invalid, raw []byte) bool {
			var second event.Event
			reread := again.Event(&r, raw, &second)
			if (invalid == nil) != (reread == nil) {
				t.Fatalf("first %v, then %v: %s", invalid, reread, raw)
			}
			if invalid != nil {
				if *invalid != *reread {
					t.Fatalf("first %v, then %v: %s", invalid, reread, raw)
				}
				return true
			}
			if alone && !reflect.DeepEqual(*ev, second) {
				t.Fatalf("first %+v\nthen %+v", *ev, second)
			}
			stored := ev.Append(nil)
			if _, err := event.ParseStored(stored); err != nil {
				t.Fatalf("%v: %s", err, stored)
			}
			return true
		})
	})
}
