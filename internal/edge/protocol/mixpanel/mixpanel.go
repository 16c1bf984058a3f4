// Package mixpanel reads what Mixpanel's SDKs send to /track, /engage and
// /groups: one message or an array of them, in a form or query, plainly or as
// base64, or as the body.
//
//	data=BASE64&verbose=1
//	[{"event":"Order placed","properties":{"token":"KEY","distinct_id":"u1",…}}, …]
//	{"$token":"KEY","$distinct_id":"u1","$set":{…}}
//	{"$token":"KEY","$group_key":"company","$group_id":"acme","$set":{…}}
//
// Source: the requests of mixpanel 0.24.0 and mixpanel-browser 2.83.0, and
// Mixpanel's ingestion.openapi.yaml of 2026-08-21. /import is not read.
package mixpanel

import (
	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
)

// Answer is what a sender wants to be told of success.
type Answer uint8

// A sender says verbose=1 for JSON and img=1 for Image, in the query or in the
// form. The parameter callback, for a script, is not obeyed: it would let a
// page run what somebody else has written into a URL.
const (
	One   Answer = iota // the character 1
	JSON                // {"status":1,"error":null}
	Image               // of one point
)

// Decoder implements protocol.Decoder. The zero value is ready for use.
type Decoder struct {
	messages []byte // one, or an array of them
	wants    Answer
	mapping  mapping
}

var _ protocol.Decoder = (*Decoder)(nil)

// Wants returns how the sender of the request that was opened wants to be
// answered.
func (d *Decoder) Wants() Answer { return d.wants }

// Open implements protocol.Decoder.
func (d *Decoder) Open(r *protocol.Request, present func(string)) error {
	d.messages, d.wants = nil, One
	d.mapping.begin(r)
	d.wish(r.Query)
	if len(r.Body) > 0 && r.Body[0] != '{' && r.Body[0] != '[' {
		d.wish(protocol.View(r.Body))
	}
	body, err := protocol.Unform(r.Body)
	if err != nil {
		return err
	}
	keys := protocol.OneKey{Present: present}
	// The library for pages encodes what it makes base64 of unit by unit.
	d.messages = protocol.TrimDocument(protocol.JoinSurrogates(body))
	switch {
	case len(d.messages) == 0:
		return &event.Invalid{Code: protocol.CodeEmpty, Detail: "send a message, or an array of messages, in the field data"}
	case d.messages[0] == '[':
		err = event.Elements(d.messages, func(raw []byte) bool {
			_ = d.mapping.addKey(&keys, raw) // what is no object is refused later
			return true
		})
	default:
		err = d.mapping.addKey(&keys, d.messages)
	}
	if err != nil {
		return err
	}
	return keys.Err()
}

// wish reads what the sender wants to be told.
func (d *Decoder) wish(form string) {
	protocol.Fields(form, func(name, value string) bool {
		switch {
		case name == "img" && value == "1":
			d.wants = Image
		case name == "verbose" && value == "1" && d.wants == One:
			d.wants = JSON
		}
		return true
	})
}

// Events implements protocol.Decoder.
func (d *Decoder) Events(yield func(*event.Event, *event.Invalid, []byte) bool) error {
	m := &d.mapping
	if d.messages[0] != '[' {
		yield(&m.ev, m.event(d.messages, &m.ev), d.messages)
		return nil
	}
	return event.Elements(d.messages, func(raw []byte) bool {
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
	d.messages, d.wants = nil, One
	d.mapping.reset(keep)
}
