package amplitude

import (
	"fmt"
	"testing"

	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
)

var simulated = connectortest.Simulated{
	Vendor: Kind, New: New, Credentials: []string{"api_key"}, Secrets: []string{"api_key"},
}

func TestConforms(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, simulated.Harness(map[connectortest.State]string{
		connectortest.Throttling: "Amplitude throttles a user or a device; see TestOnlyThrottledUsersWait",
	}))
}

func TestEndures(t *testing.T) {
	t.Parallel()
	connectortest.Endure(t, connectortest.Ordeal{
		Simulated: simulated,
		Event: func(n int, e *event.Event) {
			switch n % 6 {
			case 1:
				e.Type, e.Name = event.TypePage, "Pricing"
			case 4:
				e.Type, e.Name, e.Data = event.TypeIdentify, "identify", fmt.Appendf(nil, `{"plan":"%d"}`, n)
			}
		},
	})
}

func TestTheExampleInTheREADMEIsRight(t *testing.T) {
	t.Parallel()
	connectortest.Example(t, New, `{"api_key":"`+apiKey+`","endpoint":"http://127.0.0.1:9"}`)
}
