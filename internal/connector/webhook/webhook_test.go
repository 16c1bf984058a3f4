package webhook

import (
	"fmt"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector/connectortest"
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
				Secrets: []string{secretA, secretA[6:], secretB, secretB[6:], "bearer-token", "header-key", "pa55word-in-url", "customer-7", "query-token", "path-token"},
				Arrived: func(*testing.T) []string { return r.ids() },
				Enter:   make(map[connectortest.State]func(*testing.T) func()),
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
