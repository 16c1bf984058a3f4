// Package posthog reads what PostHog's SDKs send: a batch, an array of events,
// or one of them.
//
//	{"api_key":"KEY","batch":[EVENT, …],"sent_at":"…"}
//	[EVENT, …]
//	EVENT, with its key in api_key, token or properties.token
//
// The body may be a form whose field data holds it, as base64 or plainly, which
// is how pages send when they are left. What is compressed, said or not, the
// gateway has decompressed. lz-string, which SDKs of before 2021 may use, is not
// read.
//
// Source: the requests of posthog-js 1.449.2 and posthog-node 5.70.0, and how
// PostHog's own capture service reads them.
package posthog

import (
	"strconv"
	"time"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
)

// Decoder implements protocol.Decoder. The zero value is ready for use.
type Decoder struct {
	events  []byte // an event, or an array of them
	mapping mapping
}

var _ protocol.Decoder = (*Decoder)(nil)

// Open implements protocol.Decoder.
func (d *Decoder) Open(r *protocol.Request, present func(string)) error {
	d.events = nil
	d.mapping.begin(r)
	body, err := protocol.Unform(r.Body)
	if err != nil {
		return err
	}
	keys := protocol.OneKey{Present: present}
	switch body = protocol.TrimDocument(body); {
	case len(body) == 0:
		return &event.Invalid{Code: protocol.CodeEmpty, Detail: "send an event, or a batch of events"}
	case body[0] == '[':
		d.events = body
	default:
		if err := d.openEnvelope(body, &keys); err != nil {
			return err
		}
	}
	if d.mapping.sentAt.IsZero() {
		d.mapping.sentAt = sentAtOf(r.Query)
	}
	if d.events[0] == '[' && !keys.Found() {
		if err := event.Elements(d.events, func(raw []byte) bool {
			addKey(&keys, raw)
			return true
		}); err != nil {
			return err
		}
	}
	return keys.Err()
}

// openEnvelope reads a batch, or an event that is alone. The key of a batch
// stands for all its events, whatever they say: the SDK for pages repeats it in
// each, and a property that somebody calls token is not to be taken for one.
func (d *Decoder) openEnvelope(body []byte, keys *protocol.OneKey) error {
	var key, sentAt []byte
	err := event.Members(body, func(name string, value []byte) bool {
		switch name {
		case "api_key", "token", "$token":
			if key == nil && value[0] == '"' {
				key = value
			}
		case "batch":
			d.events = value
		case "sent_at":
			sentAt = value
		}
		return true
	})
	if err != nil {
		return err
	}
	if d.events == nil {
		d.events = body // one event, which has its own sent_at
		addKey(keys, body)
		return nil
	}
	if d.events[0] != '[' {
		return &event.Invalid{Pointer: "/batch", Code: event.CodeInvalidType, Detail: "it must be an array of events"}
	}
	keys.Add(key)
	d.mapping.sentAt, _ = protocol.Time(sentAt)
	return nil
}

// addKey adds the key that an event names.
func addKey(keys *protocol.OneKey, raw []byte) {
	var key, properties []byte
	// What is no object is refused later, as an event.
	_ = event.Members(raw, func(name string, value []byte) bool {
		switch name {
		case "api_key", "token", "$token":
			if key == nil && value[0] == '"' {
				key = value
			}
		case "properties":
			properties = value
		}
		return true
	})
	if key == nil && properties != nil {
		_ = event.Members(properties, func(name string, value []byte) bool {
			if name == "token" {
				key = value
			}
			return key == nil
		})
	}
	keys.Add(key)
}

// sentAtOf returns the time in the query, which older SDKs for pages put there:
// milliseconds since 1970. Seconds, which are older still, are not read.
func sentAtOf(query string) (at time.Time) {
	protocol.Fields(query, func(name, value string) bool {
		if name != "_" {
			return true
		}
		ms, err := strconv.ParseInt(value, 10, 64)
		if t := time.UnixMilli(ms); err == nil && t.Year() > 2000 && t.Year() <= 9999 {
			at = t
		}
		return false
	})
	return at
}

// Events implements protocol.Decoder.
func (d *Decoder) Events(yield func(*event.Event, *event.Invalid, []byte) bool) error {
	m := &d.mapping
	if d.events[0] != '[' {
		yield(&m.ev, m.event(d.events, &m.ev), d.events)
		return nil
	}
	return event.Elements(d.events, func(raw []byte) bool {
		return yield(&m.ev, m.event(raw, &m.ev), raw)
	})
}

// Event implements protocol.Decoder.
func (d *Decoder) Event(r *protocol.Request, raw []byte, ev *event.Event) *event.Invalid {
	d.mapping.begin(r)
	return d.mapping.event(raw, ev)
}

// Reset implements protocol.Decoder.
func (d *Decoder) Reset(keep int) {
	d.events = nil
	d.mapping.reset(keep)
}
