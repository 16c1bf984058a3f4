package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/delivery"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

func TestConforms(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, connectortest.Harness{
		Open: func(t *testing.T) *connectortest.Destination {
			r := newReceiver(t, secretA)
			url := strings.Replace(r.server.URL, "https://", "https://customer-7:pa55word-in-url@", 1) + "/hooks/T0123456/B0123456/path-token?token=query-token"
			d := &connectortest.Destination{
				Factory: r.trusting,
				Settings: fmt.Appendf(nil, `{"url":%q,"secret":%q,"secret_previous":%q,"headers":{"Authorization":"Bearer bearer-token","X-Api-Key":"header-key"},"timeout":"20s","allow_private":true}`,
					url, secretA, secretB),
				Secrets:     []string{secretA, secretA[6:], secretB, secretB[6:], "bearer-token", "header-key", "pa55word-in-url", "customer-7", "query-token", "path-token"},
				Credentials: []string{"secret", "headers", "url"},
				Arrived:     func(*testing.T) []string { return r.ids() },
				Enter:       make(map[connectortest.State]func(*testing.T) func()),
			}
			for _, state := range []connectortest.State{
				connectortest.Away, connectortest.Denied, connectortest.Throttling,
				connectortest.Hanging, connectortest.LostAnswer, connectortest.Fussy,
			} {
				d.Enter[state] = func(*testing.T) func() {
					r.mode.Store(state)
					return func() { r.mode.Store(connectortest.State("")) }
				}
			}
			return d
		},
	})
}

// simulated is the connector and a receiver that has been written apart from it.
var simulated = connectortest.Simulated{
	Vendor: Kind, New: New, Credentials: []string{"secret", "url"}, Secrets: []string{"secret"},
	// An id that cannot be in a header is in the body alone.
	IDs: func(items []simulator.Item) (ids []string) {
		for _, item := range items {
			var stored struct{ ID string }
			if err := json.Unmarshal(item.Body, &stored); err != nil {
				stored.ID = err.Error() // which nobody has sent
			}
			ids = append(ids, stored.ID)
		}
		return ids
	},
}

func TestConformsWithAnotherReceiver(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, simulated.Harness(nil))
}

func TestEndures(t *testing.T) {
	t.Parallel()
	connectortest.Endure(t, connectortest.Ordeal{Simulated: simulated})
}

// A receiver that answers 410 gets no more events, but for a probe now and then:
// the destination pauses, says why, and keeps its events. When the receiver takes
// calls again they are delivered.
func TestAReceiverThatWantsNoMoreGetsNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.Sleep(time.Until(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)))
		vendor, err := simulator.New(Kind)
		if err != nil {
			t.Fatal(err)
		}
		vendor.Trouble(simulator.Trouble{Status: http.StatusGone})
		conn, err := New(vendor.Settings("http://127.0.0.1:9"), connector.Env{Dial: simulator.Dial(ctx, vendor)})
		if err != nil {
			t.Fatal(err)
		}
		stream, disk := &deliverytest.Stream{}, &deliverytest.Store{}
		runner, err := delivery.New(stream, disk.Open(), conn, func() delivery.Route { return deliverytest.Route{} },
			delivery.Config{Destination: "crm"}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		running, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- runner.Run(running) }()
		for _, d := range connectortest.Plain(50) {
			stream.Append(d.Raw)
		}
		time.Sleep(time.Hour)
		status := runner.Status()
		if status.State != delivery.Paused || !strings.Contains(status.Reason, "the receiver wants no more events at the setting url") {
			t.Errorf("%s: %s", status.State, status.Reason)
		}
		if status.Calls > 50 {
			t.Errorf("%d calls in an hour to a receiver that wants none", status.Calls)
		}
		if c := runner.Counts(); c.Dead != 0 || c.Delivered != 0 {
			t.Errorf("%+v", c)
		}
		vendor.Trouble(simulator.Trouble{})
		time.Sleep(time.Hour)
		if c := runner.Counts(); c.Delivered != 50 || len(vendor.Received()) != 50 {
			t.Errorf("%+v, and %d received", c, len(vendor.Received()))
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_ = conn.Close()
		cancel()
		synctest.Wait()
	})
}

// The whole request, to the letter: what receivers see.
func TestRequestsAreThoseInTestdata(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{
		"event":    `"secret":"` + secretA + `"`,
		"standard": `"body":"standard","headers":{"X-Tenant":"t1"}`,
		"key-pair": `"secret":"whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=","secret_previous":"` + secretA + `"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // where it is always the same time
				ctx, cancel := context.WithCancel(t.Context())
				var got string
				conn, err := New([]byte(`{"url":"http://user:pass@127.0.0.1:9/hooks?token=t","allow_private":true,`+more+`}`), connector.Env{
					Dial: simulator.Dial(ctx, http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { got = connectortest.RequestText(t, req) })),
				})
				if err != nil {
					t.Fatal(err)
				}
				stored := []byte(`{"id":"0199f0c2-0000-7000-8000-000000000001","type":"track","name":"Order Completed","user_id":"u1","timestamp":"2026-11-23T10:00:00Z","received_at":"2026-11-23T10:00:00.125Z","source":"web","data":{"total":1.50},"context":{}}`)
				e, err := event.ParseStored(stored)
				if err != nil {
					t.Fatal(err)
				}
				if result := conn.Send(ctx, conn.Plan([]connector.Delivery{{Event: e, Raw: stored}}).Calls[0])[0]; result.Class != connector.Delivered {
					t.Errorf("%+v", result)
				}
				connectortest.Golden(t, name, got)
				_ = conn.Close()
				cancel()
				synctest.Wait()
			})
		})
	}
}
