package webhook

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
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

func TestEndures(t *testing.T) {
	t.Parallel()
	connectortest.Endure(t, connectortest.Ordeal{Simulated: connectortest.Simulated{
		Vendor: Kind, New: New, Credentials: []string{"secret", "url"}, Secrets: []string{"secret"},
	}})
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
