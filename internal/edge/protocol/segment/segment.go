// Package segment reads the requests of Segment's HTTP API, which RudderStack
// and Jitsu have taken over: one event, or a batch of them.
//
//	{"batch":[EVENT, …],"writeKey":"…","sentAt":"…","context":{…}}
//	EVENT, which may have writeKey and sentAt as well
//
// The body may be labelled as anything, and may be a form whose field data
// holds it: libraries and browsers do all of that. What each SDK sends:
// docs/clients.md.
package segment

import (
	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
)

// Decoder implements protocol.Decoder. The zero value is ready for use.
type Decoder struct {
	env     envelope
	mapping mapping
}

var _ protocol.Decoder = (*Decoder)(nil)

// envelope is the parts of a request; nil is missing.
type envelope struct {
	writeKey, batch, sentAt, context []byte
}

// Open implements protocol.Decoder.
func (d *Decoder) Open(r *protocol.Request, present func(string)) error {
	d.env = envelope{}
	body, err := protocol.Unform(r.Body)
	if err != nil {
		return err
	}
	switch body = protocol.TrimDocument(body); {
	case len(body) == 0:
		return &event.Invalid{Code: protocol.CodeEmpty, Detail: "send an event, or a batch of events"}
	case body[0] == '[':
		d.env.batch = body
	default:
		if err := d.env.read(body); err != nil {
			return err
		}
	}
	if w := d.env.writeKey; len(w) > 0 && w[0] == '"' {
		if key, err := event.Unquote(w); err == nil {
			present(key)
		}
	}
	d.mapping.begin(&d.env, r)
	return nil
}

func (env *envelope) read(body []byte) error {
	err := event.Members(body, func(name string, value []byte) bool {
		switch name {
		case "writeKey":
			env.writeKey = value
		case "batch":
			env.batch = value
		case "sentAt":
			env.sentAt = value
		case "context":
			env.context = value
		}
		return true
	})
	if err != nil {
		return err
	}
	if env.batch == nil {
		env.batch = body // one event: Events sees the brace
		env.context = nil
	} else if env.batch[0] != '[' {
		return &event.Invalid{Pointer: "/batch", Code: event.CodeInvalidType, Detail: "it must be an array of events"}
	}
	return nil
}

// Events implements protocol.Decoder.
func (d *Decoder) Events(yield func(*event.Event, *event.Invalid, []byte) bool) error {
	m := &d.mapping
	if d.env.batch[0] != '[' {
		yield(&m.ev, m.event(d.env.batch, &m.ev), d.env.batch)
		return nil
	}
	return event.Elements(d.env.batch, func(raw []byte) bool {
		return yield(&m.ev, m.event(raw, &m.ev), raw)
	})
}

// Event implements protocol.Decoder.
func (d *Decoder) Event(r *protocol.Request, raw []byte, ev *event.Event) *event.Invalid {
	d.mapping.begin(&envelope{}, r)
	return d.mapping.event(raw, ev)
}

// Reset implements protocol.Decoder.
func (d *Decoder) Reset(keep int) {
	m := &d.mapping
	d.env = envelope{}
	m.context, m.sent, m.fields, m.ev = nil, nil, sentFields{}, event.Event{}
	m.extra = protocol.Keep(m.extra, keep)
}
