package postgres

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/warehouse/warehousetest"
	"github.com/eventsluice/sluice/internal/event"
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

// refuseNames makes a trigger that refuses rows of a name.
const refuseNames = `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.name = 'refused' THEN RAISE EXCEPTION 'nobody wants this name'; END IF;
	RETURN NEW;
END $$; CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse()`

// Events through a proxy that loses every thirtieth commit after it is
// done, and is away for a while. One in twenty is refused, by a constraint or by a
// trigger, in calls of both kinds.
func TestEndures(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	// The place of a row in the file says nothing where several connections write.
	s.exec(t, createEvents, "ALTER TABLE events OWNER TO "+s.role, "ALTER TABLE events ADD nth bigserial, ADD CHECK (id NOT LIKE 'refused-%')", refuseNames, "GRANT ALL ON SEQUENCE events_nth_seq TO "+s.role)
	s.loseEvery.Store(30)
	refused := 0
	warehousetest.Endure(t, warehousetest.Ordeal{
		Open: func(log *slog.Logger) connector.Connector {
			conn, err := New(fmt.Appendf(nil, `{"url":%q}`, s.url), connector.Env{Log: log})
			if err != nil {
				t.Fatal(err)
			}
			conn.(*Connector).copyRows = 100
			return conn
		},
		RealTime: true, Secrets: []string{s.password, url.QueryEscape(s.password)},
		Refuse: func(e *event.Event) {
			if refused++; refused%2 == 0 {
				e.ID = "refused-" + e.ID
			} else {
				e.Name = "refused"
			}
		},
		Away:    func() func() { return s.enter(connectortest.Away)(t) },
		Arrived: func() []string { return s.texts(t, "SELECT id FROM events ORDER BY nth") },
	})
	if n := s.lost.Load(); n < 5 {
		t.Errorf("only %d answers were lost", n)
	}
}
