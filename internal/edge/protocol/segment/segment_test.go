package segment

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
)

func TestTheClockOfTheSenderIsCorrected(t *testing.T) {
	t.Parallel()
	const received = "2026-11-23T12:00:10.000Z"
	at, _ := time.Parse(time.RFC3339, received)
	for _, tt := range []struct {
		name, event, sentAt string
		want, original      string
	}{
		{"an hour late", `"timestamp":"2026-11-23T11:00:00Z"`, `"2026-11-23T11:00:10Z"`, "2026-11-23T12:00:00.000Z", "2026-11-23T11:00:00Z"},
		{"zones and nanoseconds", `"timestamp":"2026-11-23T13:00:00.123456789+01:00"`, `"2026-11-23T11:00:10-01:00"`, "2026-11-23T12:00:00.123Z", "2026-11-23T13:00:00.123456789+01:00"},
		{"the event's own sentAt wins", `"timestamp":"2026-11-23T11:00:00Z","sentAt":"2026-11-23T11:00:05Z"`, `"1999-01-01T00:00:00Z"`, "2026-11-23T12:00:05.000Z", "2026-11-23T11:00:00Z"},
		{"no sentAt", `"timestamp":"2026-11-23T11:00:00.5+01:00"`, `null`, "2026-11-23T11:00:00.5+01:00", ""},
		{"sentAt is nonsense", `"timestamp":"2026-11-23T11:00:00Z"`, `"now"`, "2026-11-23T11:00:00Z", ""},
		{"no timestamp", `"x":1`, `"2026-11-23T11:00:10Z"`, received, ""},
		{"timestamp is no time", `"timestamp":1795476643`, `null`, received, ""},
		{"originalTimestamp", `"originalTimestamp":"2026-11-23T11:00:00Z"`, `"2026-11-23T11:00:10Z"`, "2026-11-23T12:00:00.000Z", "2026-11-23T11:00:00Z"},
		{"a correction out of all bounds", `"timestamp":"9999-12-31T00:00:00Z"`, `"1970-01-01T00:00:00Z"`, "9999-12-31T00:00:00.000Z", "9999-12-31T00:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body := `{"sentAt":` + tt.sentAt + `,"batch":[{"type":"track","event":"a",` + tt.event + `}]}`
			var d Decoder
			if err := d.Open(&protocol.Request{Body: []byte(body), Received: at}, func(string) {}); err != nil {
				t.Fatal(err)
			}
			events := 0
			err := d.Events(func(ev *event.Event, invalid *event.Invalid, _ []byte) bool {
				if invalid != nil {
					t.Fatal(invalid)
				}
				if events++; ev.Timestamp != tt.want {
					t.Errorf("timestamp %s, want %s", ev.Timestamp, tt.want)
				}
				var extra struct{ OriginalTimestamp string }
				if err := json.Unmarshal([]byte("{"+string(ev.Extra)+"}"), &extra); err != nil || extra.OriginalTimestamp != tt.original {
					t.Errorf("the original is kept as %q, want %q (%v)", extra.OriginalTimestamp, tt.original, err)
				}
				return true
			})
			if err != nil || events != 1 {
				t.Errorf("%d events, %v", events, err)
			}
		})
	}
}
