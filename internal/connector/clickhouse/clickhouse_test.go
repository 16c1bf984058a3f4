package clickhouse

import (
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
)

var simulated = connectortest.Simulated{
	Vendor: Kind, New: New, Credentials: []string{"user, password"}, Secrets: []string{"password"},
}

func TestConforms(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, simulated.Harness(nil))
}

func TestEndures(t *testing.T) {
	t.Parallel()
	connectortest.Endure(t, connectortest.Ordeal{Simulated: simulated})
}

func open(t testing.TB, settings []byte) *Connector {
	t.Helper()
	conn, err := New(settings, connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn.(*Connector)
}

// deliver delivers events and returns their results in order.
func deliver(t testing.TB, c *Connector, deliveries []connector.Delivery) []connector.Result {
	t.Helper()
	results := make([]connector.Result, len(deliveries))
	plan := c.Plan(deliveries)
	for _, done := range plan.Done {
		results[done.Event] = done.Result
	}
	for _, call := range plan.Calls {
		for i, r := range c.Send(t.Context(), call) {
			results[call.Events[i]] = r
		}
	}
	return results
}
