package gtm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

// clients are the ways to a container, and what else their settings have.
var clients = map[string]map[string]any{
	clientProtocol: {"client": clientProtocol, "measurement_id": "G-TEST1", "api_secret": "s3cret-of-a-stream", "preview_header": "ZW52LTF8cHJldmlldw=="},
	clientData:     {"client": clientData, "preview_header": "ZW52LTF8cHJldmlldw=="},
}

// simulated returns the connector and a simulated container.
func simulated(client string) connectortest.Simulated {
	long := &longIDs{}
	s := connectortest.Simulated{
		Vendor: Kind, New: long.factory, IDs: long.of,
		Settings: func(settings map[string]any) {
			for name, value := range clients[client] {
				settings[name] = value
			}
		},
		Credentials: []string{"url", "path"}, Secrets: []string{"preview_header"},
	}
	if client == clientProtocol {
		s.Secrets = append(s.Secrets, "api_secret")
	}
	return s
}

// longIDs remembers event ids that are too long for a parameter, by what is sent
// in their place.
type longIDs struct{ ids sync.Map }

func (l *longIDs) factory(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	conn, err := New(raw, env)
	if err != nil {
		return nil, err
	}
	return remembering{conn, l}, nil
}

type remembering struct {
	connector.Connector
	l *longIDs
}

func (r remembering) Plan(events []connector.Delivery) connector.Plan {
	for i := range events {
		id := events[i].Event.ID
		sum := sha256.Sum256([]byte(id))
		r.l.ids.Store(hex.EncodeToString(sum[:]), id)
	}
	return r.Connector.Plan(events)
}

func (l *longIDs) of(items []simulator.Item) []string {
	ids := make([]string, len(items))
	for i, item := range items {
		ids[i] = item.ID
		if id, ok := l.ids.Load(item.ID); ok {
			ids[i] = id.(string)
		}
	}
	return ids
}

// recent moves events of the suite to now: Google Analytics takes nothing that
// is older than three days.
func recent() func(e *event.Event) {
	by := time.Since(time.Date(2026, 11, 23, 10, 0, 1, 0, time.UTC)) - time.Minute
	move := func(text string) string {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || at.IsZero() {
			return text
		}
		return at.Add(by).Format(time.RFC3339Nano)
	}
	return func(e *event.Event) { e.Timestamp, e.ReceivedAt = move(e.Timestamp), move(e.ReceivedAt) }
}

func TestConforms(t *testing.T) {
	t.Parallel()
	for client := range clients {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			s := simulated(client)
			s.Adapt = recent()
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
			s := simulated(client)
			factory := s.New
			s.New = func(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
				// Simulated time begins in 2000, and timestamps of the protocol in 2001.
				time.Sleep(time.Until(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)))
				return factory(raw, env)
			}
			connectortest.Endure(t, connectortest.Ordeal{Simulated: s, CannotRefuse: true})
		})
	}
}
