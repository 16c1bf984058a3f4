package clickhouse

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/warehouse/warehousetest"
)

func TestConforms(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, connectortest.Harness{
		Open: func(t *testing.T) *connectortest.Destination {
			s := newServer(t)
			return &connectortest.Destination{
				Factory:     New,
				Settings:    s.settings(t, nil),
				Secrets:     []string{s.password, url.QueryEscape(s.password), url.PathEscape(s.password)},
				Credentials: []string{"user, password"},
				Arrived:     func(t *testing.T) []string { return s.ids(t) },
				Enter: map[connectortest.State]func(*testing.T) func(){
					connectortest.Away:       s.enter(connectortest.Away),
					connectortest.Hanging:    s.enter(connectortest.Hanging),
					connectortest.LostAnswer: s.enter(connectortest.LostAnswer),
					connectortest.Throttling: s.enter(connectortest.Throttling),
					connectortest.Denied:     s.deny,
					connectortest.Fussy: func(t *testing.T) func() {
						s.exec(t, table{s.database, "events"}.create(),
							fmt.Sprintf("ALTER TABLE {db}.events ADD CONSTRAINT fussy CHECK id != '%s'", connectortest.BadID))
						return func() {}
					},
				},
			}
		},
	})
}

// Events, of which calls are lost and rows refused.
func TestEndures(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec(t, table{"{db}", "events"}.create(), "ALTER TABLE {db}.events ADD CONSTRAINT refuse CHECK NOT startsWith(id, '"+warehousetest.RefusedPrefix+"')")
	warehousetest.Endure(t, warehousetest.Ordeal{
		Connector: open(t, s.settings(t, nil)), Events: 2_000, Arrived: func(t *testing.T) []string { return s.ids(t) },
		Enter: map[connectortest.State]func(*testing.T) func(){
			connectortest.Away: s.enter(connectortest.Away), connectortest.LostAnswer: s.enter(connectortest.LostAnswer),
			connectortest.Throttling: s.enter(connectortest.Throttling),
		},
	})
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
