package gtm

import (
	"maps"
	"testing"

	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/measurement"
)

// clients are the ways to a container, and what else their settings have.
var clients = map[string]map[string]any{
	clientProtocol: {"client": clientProtocol, "measurement_id": "G-TEST1", "api_secret": "s3cret-of-a-stream", "preview_header": "ZW52LTF8cHJldmlldw=="},
	clientData:     {"client": clientData, "preview_header": "ZW52LTF8cHJldmlldw=="},
}

// simulated returns a simulated container.
func simulated(client string) connectortest.Simulated {
	s := connectortest.Simulated{
		Vendor: Kind, New: New, Replaced: measurement.EventID,
		Settings:    func(settings map[string]any) { maps.Copy(settings, clients[client]) },
		Credentials: []string{"url", "path"}, Secrets: []string{"preview_header"},
	}
	if client == clientProtocol {
		s.Secrets = append(s.Secrets, "api_secret")
	}
	return s
}

func TestConforms(t *testing.T) {
	t.Parallel()
	for client := range clients {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			s := simulated(client)
			s.Adapt = connectortest.Recent()
			connectortest.Run(t, s.Harness(map[connectortest.State]string{
				connectortest.Throttling: "a tagging server's 429 says nothing of how long to wait: see TestOutcomes",
				connectortest.Fussy:      "the container says nothing of what its tags did",
			}))
		})
	}
}

func TestEndures(t *testing.T) {
	t.Parallel()
	for client := range clients {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			connectortest.Endure(t, connectortest.Ordeal{Simulated: simulated(client), CannotRefuse: true})
		})
	}
}

func TestRequestsAreThoseInTestdata(t *testing.T) {
	t.Parallel()
	connectortest.GoldenRequests(t, New)
}

func TestTheExampleInTheREADMEIsRight(t *testing.T) {
	t.Parallel()
	connectortest.Example(t, New, `{"url":"http://127.0.0.1:9","client":"data"}`)
}
