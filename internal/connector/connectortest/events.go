package connectortest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
)

// Deliveries returns events as the delivery loop hands them over.
func Deliveries(events ...event.Event) []connector.Delivery {
	deliveries := make([]connector.Delivery, len(events))
	for i, e := range events {
		deliveries[i] = deliveryOf(e)
	}
	return deliveries
}

// Plain returns n events of three users with unique ids, as most events are.
func Plain(n int) []connector.Delivery {
	deliveries := make([]connector.Delivery, n)
	for i := range deliveries {
		deliveries[i] = deliveryOf(event.Event{
			ID: uuid.Must(uuid.NewV7()).String(), Type: event.TypeTrack, Name: "button_clicked",
			UserID: fmt.Sprintf("user-%d", i%3), AnonymousID: "anonymous-1",
			Timestamp: "2026-11-23T10:00:00Z", ReceivedAt: "2026-11-23T10:00:00.125Z", Source: "web",
			Data: fmt.Appendf(nil, `{"page":"/pricing","nth":%d}`, i), Context: []byte(`{"locale":"de-AT"}`),
		})
	}
	return deliveries
}

// Recent returns a function that moves events of the suite to a minute ago, all by
// the same: some destinations take nothing that is older than days.
func Recent() func(e *event.Event) {
	by := time.Since(time.Date(2026, 11, 23, 10, 0, 1, 0, time.UTC)) - time.Minute
	move := func(text string) string {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || at.IsZero() {
			return text
		}
		return at.Add(by).Format(time.RFC3339Nano)
	}
	return func(e *event.Event) { e.Timestamp, e.ReceivedAt = move(e.Timestamp), move(e.ReceivedAt) }
}

// Today returns n events as those of Plain that happened a minute ago.
func Today(n int) []connector.Delivery {
	deliveries, move := Plain(n), Recent()
	for i := range deliveries {
		move(&deliveries[i].Event)
		deliveries[i] = deliveryOf(deliveries[i].Event)
	}
	return deliveries
}

// Odd returns events that are valid and unusual: each has been the end of some
// connector somewhere.
func Odd() []connector.Delivery {
	full := func(change func(e *event.Event)) connector.Delivery {
		d := Plain(1)[0]
		change(&d.Event)
		return deliveryOf(d.Event)
	}
	return []connector.Delivery{
		deliveryOf(event.Event{ID: uuid.NewString(), Type: event.TypeTrack, Name: "only_name", ReceivedAt: "2026-11-23T10:00:00Z"}),
		full(func(e *event.Event) { e.ID = "order.created/1 " + e.ID }), // full stop, slash and space in the id
		full(func(e *event.Event) { e.ID = "größe-" + e.ID }),
		full(func(e *event.Event) { e.ID = strings.Repeat("i", 200) + e.ID }),
		full(func(e *event.Event) { e.Name = "Order Completed" }),
		full(func(e *event.Event) { e.Name = "日本語 🛒 'quoted' \"twice\" \\ ; DROP TABLE events; --" }),
		full(func(e *event.Event) { e.Name = strings.Repeat("n", 200) }),
		full(func(e *event.Event) { e.Name = "tab\tnewline\r\nend" }),
		full(func(e *event.Event) { e.UserID, e.AnonymousID = "", "" }),
		full(func(e *event.Event) { e.UserID = "user with spaces, a comma and a 😀" }),
		full(func(e *event.Event) { e.Timestamp = "2026-11-23T11:00:00.123456789+01:00" }),
		full(func(e *event.Event) { e.Timestamp = "0001-01-01T00:00:00Z" }),
		full(func(e *event.Event) { e.Type, e.Name = event.TypeIdentify, "identify" }),
		full(func(e *event.Event) { e.Type, e.Name = event.TypePage, "Pricing" }),
		full(func(e *event.Event) { e.Data, e.Context = nil, nil }),
		full(func(e *event.Event) { e.Data = []byte(`{ "spaces" : [ 1.0 , 2e3 , -0 ] , "spaces" : null }`) }),
		full(func(e *event.Event) {
			e.Data = []byte(`{"big":12345678901234567890.123456789,"text":"\u00e9\ud83d\ude00\/"}`)
		}),
		full(func(e *event.Event) {
			e.Data = []byte(`{"deep":` + strings.Repeat("[", 60) + strings.Repeat("]", 60) + `}`)
		}),
		full(func(e *event.Event) { e.Data = []byte(`{"long":"` + strings.Repeat("ü", 50_000) + `"}`) }),
		full(func(e *event.Event) { e.Extra = []byte(`"campaign":"x","n":1`) }),
		full(func(e *event.Event) { e.IP = "2001:db8::1" }),
		full(func(e *event.Event) { e.Traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" }),
	}
}

// random returns up to n deliveries with few users and some repeated ids.
func random(t *testing.T, n int) []connector.Delivery {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	deliveries := append(Plain(n), Odd()...)
	r.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
	deliveries = deliveries[:min(n, len(deliveries))]
	for i := range deliveries {
		if i > 0 && r.IntN(8) == 0 {
			deliveries[i] = deliveries[r.IntN(i)]
		}
	}
	return deliveries
}
