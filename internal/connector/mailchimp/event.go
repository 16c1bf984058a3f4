package mailchimp

import (
	"fmt"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

const (
	// minName and maxName bound the name of an event. Source: Mailchimp Marketing
	// API, Add event (read 2026-11).
	minName, maxName = 2, 30
	// maxValue is the most characters of a value. Mailchimp documents none; its
	// people speak of about 1,000 characters for all properties of an event.
	// Source: github.com/mailchimp/mailchimp-sdk-ios, issue 70 (read 2026-11).
	maxValue = 1000
)

// event returns the body of an event.
func (c *Connector) event(r *mapping.Record) ([]byte, *connector.Result) {
	dst := make([]byte, 0, 128+len(r.Event.Data))
	dst = append(dst, `{"name":"`...)
	before := len(dst)
	dst = appendName(dst, r.Name)
	if len(dst)-before < minName {
		return nil, mapping.Refuse("event_name", "name", fmt.Sprintf("has fewer than %d of the characters that Mailchimp takes: A to Z, a to z, 0 to 9, _ and -; give it another name in mapping.events", minName))
	}
	dst = append(dst, '"')
	n := 0
	for i := range r.Properties {
		p := &r.Properties[i]
		if p.Name == "email" && !c.sendsEmail {
			continue // it is whose event it is, not what it is about
		}
		dst = append(dst, [...]string{`,"properties":{`, `,`}[min(n, 1)]...)
		n++
		dst = append(event.AppendString(dst, p.Name), ':')
		dst, _ = mapping.AppendAsText(dst, p.Value, maxValue)
	}
	if n > 0 {
		dst = append(dst, '}')
	}
	if !r.Time.IsZero() {
		if year := r.Time.Year(); year < 1970 || year > 9999 {
			return nil, mapping.Refuse("timestamp", "timestamp", "is not between the years 1970 and 9999")
		}
		dst = r.Time.AppendFormat(append(dst, `,"occurred_at":"`...), "2006-01-02T15:04:05-07:00")
		dst = append(dst, '"')
	}
	if c.cfg.IsSyncing {
		dst = append(dst, `,"is_syncing":true`...)
	}
	return append(dst, '}'), nil
}

// appendName appends the name of an event with the characters that Mailchimp
// takes: runs of others become one underscore.
func appendName(dst []byte, name string) []byte {
	start, gap := len(dst), false
	for _, r := range name {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			if gap && len(dst) > start {
				dst = append(dst, '_')
			}
			gap = false
			dst = append(dst, byte(r))
			continue
		}
		gap = true
	}
	return dst[:start+min(len(dst)-start, maxName)]
}
