package ga4

import (
	"testing"

	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/measurement"
)

// simulated is a simulated Google Analytics.
var simulated = connectortest.Simulated{
	Vendor: Kind, New: New, Replaced: measurement.EventID,
	Credentials: []string{"measurement_id", "api_secret"}, Secrets: []string{"api_secret"},
}

func TestConforms(t *testing.T) {
	t.Parallel()
	s := simulated
	s.Adapt = connectortest.Recent()
	connectortest.Run(t, s.Harness(map[connectortest.State]string{
		connectortest.Denied:     "Google answers 204 whatever the credentials are",
		connectortest.Throttling: "Google's 429 says nothing of how long to wait: see TestOutcomes",
		connectortest.Fussy:      "Google answers 204 whatever the events are",
	}))
}

func TestEndures(t *testing.T) {
	t.Parallel()
	for name, retry := range map[string]bool{"a lost answer is a dead letter": false, "a lost answer is sent again": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			connectortest.Endure(t, connectortest.Ordeal{Simulated: simulated, CannotRefuse: true, RetryAmbiguous: retry})
		})
	}
}

func TestRequestsAreThoseInTestdata(t *testing.T) {
	t.Parallel()
	connectortest.GoldenRequests(t, New)
}

func TestTheExampleInTheREADMEIsRight(t *testing.T) {
	t.Parallel()
	connectortest.Example(t, New, goodSettings+`,"endpoint":"http://127.0.0.1:9"}`)
}
