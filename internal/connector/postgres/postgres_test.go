package postgres

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/warehouse/warehousetest"
)

func TestConforms(t *testing.T) {
	t.Parallel()
	for name, factory := range map[string]connector.Factory{"arrays": New, "COPY": newWithCopy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			connectortest.Run(t, harness(factory))
		})
	}
}

// newWithCopy makes a connector that copies rows, however few they are.
func newWithCopy(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	conn, err := New(raw, env)
	if err == nil {
		conn.(*Connector).copyRows = 1
	}
	return conn, err
}

func harness(factory connector.Factory) connectortest.Harness {
	return connectortest.Harness{
		Open: func(t *testing.T) *connectortest.Destination {
			s := newServer(t)
			return &connectortest.Destination{
				Factory:     factory,
				Settings:    fmt.Appendf(nil, `{"url":%q,"table":"public.events"}`, s.url),
				Secrets:     []string{s.password, url.QueryEscape(s.password), url.PathEscape(s.password)},
				Credentials: []string{"url", "table"},
				Arrived:     func(t *testing.T) []string { return s.ids(t) },
				Enter: map[connectortest.State]func(*testing.T) func(){
					connectortest.Away:       s.enter(connectortest.Away),
					connectortest.Hanging:    s.enter(connectortest.Hanging),
					connectortest.LostAnswer: s.enter(connectortest.LostAnswer),
					connectortest.Denied:     s.deny,
					connectortest.Fussy: func(t *testing.T) func() {
						s.exec(t, createEvents, "ALTER TABLE events OWNER TO "+s.role,
							fmt.Sprintf("ALTER TABLE events ADD CONSTRAINT fussy CHECK (id <> '%s')", connectortest.BadID))
						return func() {}
					},
				},
			}
		},
		Cannot: map[connectortest.State]string{
			connectortest.Throttling: "PostgreSQL refuses or waits, and asks nobody to come back later",
		},
	}
}

// Ten thousand events, of which calls are lost and rows refused.
func TestEndures(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec(t, createEvents, "ALTER TABLE events OWNER TO "+s.role, "ALTER TABLE events ADD CHECK (id NOT LIKE '"+warehousetest.RefusedPrefix+"%')")
	warehousetest.Endure(t, warehousetest.Ordeal{
		Connector: open(t, s, ""), Events: 10_000, Arrived: func(t *testing.T) []string { return s.ids(t) },
		Enter: map[connectortest.State]func(*testing.T) func(){
			connectortest.Away: s.enter(connectortest.Away), connectortest.LostAnswer: s.enter(connectortest.LostAnswer),
		},
	})
}
