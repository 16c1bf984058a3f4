package postgres

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/eventsluice/sluice/internal/connector/connectortest"
)

func TestConforms(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, connectortest.Harness{
		Open: func(t *testing.T) *connectortest.Destination {
			s := newServer(t)
			return &connectortest.Destination{
				Factory:  New,
				Settings: fmt.Appendf(nil, `{"url":%q,"table":"public.events"}`, s.url),
				Secrets:  []string{s.password, url.QueryEscape(s.password), url.PathEscape(s.password)},
				Arrived:  func(t *testing.T) []string { return s.ids(t) },
				Enter: map[connectortest.State]func(*testing.T) func(){
					connectortest.Away:       s.enter(connectortest.Away),
					connectortest.Hanging:    s.enter(connectortest.Hanging),
					connectortest.LostAnswer: s.enter(connectortest.LostAnswer),
					connectortest.Denied:     s.deny,
					connectortest.Fussy: func(t *testing.T) func() {
						s.exec(t, table{"events"}.create(), "ALTER TABLE events OWNER TO "+s.role,
							fmt.Sprintf("ALTER TABLE events ADD CONSTRAINT fussy CHECK (id <> '%s')", connectortest.BadID))
						return func() {}
					},
				},
			}
		},
		Cannot: map[connectortest.State]string{
			connectortest.Throttling: "PostgreSQL refuses or waits, and asks nobody to come back later",
		},
	})
}
