package webhook

import (
	"cmp"
	"encoding/base64"
	"encoding/json"

	"github.com/eventsluice/sluice/internal/connector"
)

// body returns what is posted for an event.
func (c *Connector) body(d *connector.Delivery) []byte {
	stored := d.Raw
	if len(stored) == 0 {
		stored = d.Event.Append(nil)
	}
	if c.cfg.Body == bodyEvent {
		return stored
	}
	body := make([]byte, 0, len(stored)+len(d.Event.Name)+64)
	body = append(body, `{"type":"`...)
	body = append(body, eventType(d.Event.Name)...)
	body = append(body, `","timestamp":`...)
	timestamp, err := json.Marshal(cmp.Or(d.Event.Timestamp, d.Event.ReceivedAt))
	if err != nil { // a string always marshals
		timestamp = []byte(`""`)
	}
	body = append(body, timestamp...)
	body = append(body, `,"data":`...)
	body = append(body, stored...)
	return append(body, '}')
}

// eventType returns the name of an event as a type of Standard Webhooks, which
// are made of letters, digits, underscores and full stops: every other
// character becomes an underscore.
func eventType(name string) []byte {
	t := make([]byte, 0, len(name))
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '.':
			t = append(t, byte(r))
		default:
			t = append(t, '_')
		}
	}
	return t
}

func basicAuth(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
