package mixpanel

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/simulator"
)

// simulated is Mixpanel. Profiles have no field for an event's id, and events
// not for every id: the ids are looked for in a property.
var simulated = connectortest.Simulated{
	Vendor: Kind, New: New, Credentials: []string{"token"}, Secrets: []string{"token"}, Adapt: withID, IDs: idsOf,
}

func TestConforms(t *testing.T) {
	t.Parallel()
	connectortest.Run(t, simulated.Harness(nil))
}

// idsOf returns the ids that withID put into what has arrived.
func idsOf(items []simulator.Item) []string {
	ids := make([]string, len(items))
	for i, item := range items {
		var body struct {
			Properties, Set struct {
				ID string `json:"test_id"`
			}
		}

		if err := json.Unmarshal([]byte(strings.Replace(string(item.Body), `"$set"`, `"set"`, 1)), &body); err != nil {
			panic(err) // the vendor has read it
		}
		ids[i] = body.Properties.ID + body.Set.ID
	}
	return ids
}

// withID puts the event's id into its data.
func withID(e *event.Event) {
	member := append([]byte(`{"test_id":`), event.AppendString(nil, e.ID)...)
	rest := e.Data
	for len(rest) > 0 && (rest[0] == '{' || rest[0] == ' ') {
		rest = rest[1:]
	}
	if len(rest) == 0 {
		rest = []byte(`}`)
	}
	if rest[0] != '}' {
		member = append(member, ',')
	}
	e.Data = append(member, rest...)
}

// Track, page and screen events; each is there once.
func TestEndures(t *testing.T) {
	t.Parallel()
	connectortest.Endure(t, connectortest.Ordeal{
		Simulated: simulated,
		Event: func(n int, e *event.Event) {
			switch n % 6 {
			case 1:
				e.Type, e.Name = event.TypePage, "Pricing"
			case 4:
				e.Type, e.Name = event.TypeScreen, "Cart"
			}
		},
	})
}

// Profiles and events of a user, in order. An update of a profile whose answer
// was lost is made again, which changes nothing.
func TestProfilesEndure(t *testing.T) {
	t.Parallel()
	connectortest.Endure(t, connectortest.Ordeal{
		Simulated: simulated, RetryAmbiguous: true, CannotRefuse: true,
		Event: func(n int, e *event.Event) {
			if n%3 == 0 {
				e.Type, e.Name, e.Data = event.TypeIdentify, "identify", fmt.Appendf(nil, `{"plan":"pro","nth":%d}`, n)
			}
		},
	})
}

// open returns a connector for planning.
func open(t testing.TB, settings string) *Connector {
	t.Helper()
	conn, err := New([]byte(settings), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*Connector)
}

func TestTheExampleInTheREADMEIsRight(t *testing.T) {
	t.Parallel()
	connectortest.Example(t, New, `{"token":"`+token+`","endpoint":"http://127.0.0.1:9"}`)
}
