// Package snowplow reads what Snowplow's trackers send: a document of events
// by POST, or one event in the query of a GET.
//
//	{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
//	 "data":[{"e":"pv","eid":"…","aid":"KEY","dtm":"1764064800000",…}, …]}
//	/i?e=pv&eid=…&aid=KEY&dtm=1764064800000&…
//
// Source: the requests of @snowplow/browser-tracker 4.10.1 and
// @snowplow/node-tracker 4.8.0, and the tracker protocol as they follow it.
package snowplow

import (
	"bytes"
	"net/http"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
)

// Decoder implements protocol.Decoder. The zero value is ready for use.
type Decoder struct {
	// data is the array of events; nil for an event in a query, which is in
	// query as a JSON object of strings.
	data    []byte
	query   []byte
	fields  protocol.Members // of the query
	text    []byte           // one of them
	mapping mapping
}

var _ protocol.Decoder = (*Decoder)(nil)

// Open implements protocol.Decoder. The app id is the only thing in which a
// tracker can say whose its events are, so that it is the key.
func (d *Decoder) Open(r *protocol.Request, present func(string)) error {
	d.data = nil
	d.mapping.begin(r)
	if r.Method == http.MethodGet {
		return d.openQuery(protocol.View(r.Body), present)
	}
	body := protocol.TrimDocument(r.Body)
	if len(body) == 0 {
		return &event.Invalid{Code: protocol.CodeEmpty, Detail: `send {"schema":"iglu:…/payload_data/…","data":[…]}`}
	}
	var schema []byte
	err := event.Members(body, func(name string, value []byte) bool {
		switch name {
		case "schema":
			schema = value
		case "data":
			d.data = value
		}
		return true
	})
	switch {
	case err != nil:
		return err
	case schema != nil && !bytes.Contains(schema, []byte("/payload_data/")):
		return &event.Invalid{Pointer: "/schema", Code: event.CodeInvalidType, Detail: "only payload_data is read here"}
	case d.data == nil || d.data[0] != '[':
		return &event.Invalid{Pointer: "/data", Code: event.CodeInvalidType, Detail: "it must be an array of events"}
	}
	return d.findKeys(present)
}

// findKeys presents the app id, of which there may be one.
func (d *Decoder) findKeys(present func(string)) error {
	keys := protocol.OneKey{Present: present}
	err := event.Elements(d.data, func(raw []byte) bool {
		// What is no object is refused later, as an event.
		_ = event.Members(raw, func(name string, value []byte) bool {
			if name != "aid" {
				return true
			}
			keys.Add(value)
			return false
		})
		return true
	})
	if err != nil {
		return err
	}
	return keys.Err()
}

// openQuery makes an object of strings of the query, without the fields that
// carry a key of the gateway.
func (d *Decoder) openQuery(query string, present func(string)) error {
	readable := true
	d.fields = d.fields[:0]
	protocol.Fields(query, func(name, value string) bool {
		var ok [2]bool
		d.text, ok[0] = protocol.AppendUnescaped(d.text[:0], name)
		split := len(d.text)
		d.text, ok[1] = protocol.AppendUnescaped(d.text, value)
		if readable = ok[0] && ok[1] && utf8.Valid(d.text); !readable {
			return false
		}
		if name := protocol.View(d.text[:split]); name != "write_key" && name != "writeKey" {
			d.fields.AddText(name, protocol.View(d.text[split:]))
		}
		return true
	})
	if !readable {
		return &event.Invalid{Code: protocol.CodeEncoding, Detail: "the query is not UTF-8 with percent escapes"}
	}
	if len(d.fields) == 0 {
		return &event.Invalid{Code: protocol.CodeEmpty, Detail: "send the fields of an event in the query"}
	}
	d.query = d.fields.AppendObject(d.query[:0])
	keys := protocol.OneKey{Present: present}
	// A name that stands twice is a flaw of the event.
	_ = event.Members(d.query, func(name string, value []byte) bool {
		if name == "aid" {
			keys.Add(value)
		}
		return true
	})
	return keys.Err()
}

// Events implements protocol.Decoder.
func (d *Decoder) Events(yield func(*event.Event, *event.Invalid, []byte) bool) error {
	m := &d.mapping
	if d.data == nil {
		yield(&m.ev, m.event(d.query, &m.ev), d.query)
		return nil
	}
	return event.Elements(d.data, func(raw []byte) bool {
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
	d.data = nil
	d.fields = protocol.Keep(d.fields, keep)
	d.query, d.text = protocol.Keep(d.query, keep), protocol.Keep(d.text, keep)
	d.mapping.reset(keep)
}
