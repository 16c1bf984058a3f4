package cloudevents

import (
	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
)

// mapping turns a CloudEvent in JSON into an event of ours. Its memory is used
// again by the next one.
//
//	theirs                            ours
//	source and id                     id: a UUIDv8 of both, see event.AppendNamedID
//	                                  type: track
//	type                              name
//	time                              timestamp, as sent
//	userid, anonymousid (extensions)  user_id, anonymous_id; integers as their text
//	data, an object                   data
//	data, another JSON value or text  data.value
//	data_base64, of JSON or text      the same as data
//	data_base64, of something else    data.base64, as sent
//	all attributes but type, time,    context.cloudevents
//	userid and anonymousid
//
// Two sources may use the same id, so that the id alone names no event. A
// member that is null is a member that is missing. An attribute traceparent is
// the sender's record of where the event began, and stays among the others.
type mapping struct {
	limits event.Limits

	ev         event.Event
	visit      func(string, []byte) bool // m.member, made once
	fields     fields
	attributes protocol.Members
	id         []byte
	data       []byte
	decoded    []byte
	context    []byte
}

// fields are the values of a CloudEvent as sent; nil is missing or null.
type fields struct {
	specversion, id, source, typ, time []byte
	subject, dataschema                []byte
	datacontenttype, data, dataBase64  []byte
	userID, anonymousID                []byte
}

func (m *mapping) reset(keep int) {
	m.ev, m.fields = event.Event{}, fields{}
	m.attributes = protocol.Keep(m.attributes, keep)
	for _, b := range []*[]byte{&m.data, &m.decoded, &m.context} {
		*b = protocol.Keep(*b, keep)
	}
}

// event reads one event into ev and returns nil, or what is wrong with it.
func (m *mapping) event(raw []byte, ev *event.Event) *event.Invalid {
	if m.visit == nil {
		m.visit = m.member
	}
	m.fields, m.attributes = fields{}, m.attributes[:0]
	if invalid := protocol.ReadEvent(raw, m.limits, m.visit); invalid != nil {
		return invalid
	}
	*ev = event.Event{Type: event.TypeTrack}
	if invalid := m.names(ev); invalid != nil {
		return invalid
	}
	if invalid := m.payload(ev); invalid != nil {
		return invalid
	}
	m.context = append(m.attributes.AppendObject(append(m.context[:0], `{"cloudevents":`...)), '}')
	ev.Context = m.context
	return nil
}

// member takes one member of the event.
func (m *mapping) member(name string, value []byte) bool {
	if value[0] == 'n' { // null
		return true
	}
	f := &m.fields
	switch name {
	case "type":
		f.typ = value
	case "time":
		f.time = value
	case "userid":
		f.userID = value
	case "anonymousid":
		f.anonymousID = value
	case "data":
		f.data = value
	case "data_base64":
		f.dataBase64 = value
	case "specversion":
		f.specversion = value
		m.attributes.Add(name, value)
	case "id":
		f.id = value
		m.attributes.Add(name, value)
	case "source":
		f.source = value
		m.attributes.Add(name, value)
	case "subject":
		f.subject = value
		m.attributes.Add(name, value)
	case "datacontenttype":
		f.datacontenttype = value
		m.attributes.Add(name, value)
	case "dataschema":
		f.dataschema = value
		m.attributes.Add(name, value)
	default:
		m.attributes.Add(name, value)
	}
	return true
}

// names fills in what the event is, when it was and whose.
func (m *mapping) names(ev *event.Event) (invalid *event.Invalid) {
	f := &m.fields
	text := func(pointer string, value []byte, most int, required bool) string {
		s, fault := protocol.Text(pointer, value, most, false)
		if fault == nil && required && s == "" {
			fault = &event.Invalid{Pointer: pointer, Code: event.CodeRequired, Detail: "every CloudEvent has this attribute"}
		}
		if invalid == nil {
			invalid = fault
		}
		return s
	}
	if version := text("/specversion", f.specversion, 0, true); version != "1.0" && invalid == nil {
		return &event.Invalid{Pointer: "/specversion", Code: protocol.CodeVersion, Detail: "the version of CloudEvents that is read is 1.0"}
	}
	id, source := text("/id", f.id, 0, true), text("/source", f.source, 0, true)
	ev.Name = text("/type", f.typ, protocol.MaxNameBytes, true)
	text("/subject", f.subject, 0, false)
	text("/dataschema", f.dataschema, 0, false)
	ev.Timestamp = text("/time", f.time, 0, false)
	if invalid != nil {
		return invalid
	}
	if ev.Timestamp != "" && !event.IsTimestamp(ev.Timestamp) {
		return &event.Invalid{
			Pointer: "/time", Code: event.CodeInvalidTimestamp,
			Detail: "a time is written by RFC 3339, such as 2026-11-23T10:00:00.123Z",
		}
	}
	if ev.UserID, invalid = protocol.Text("/userid", f.userID, protocol.MaxUserBytes, true); invalid != nil {
		return invalid
	}
	if ev.AnonymousID, invalid = protocol.Text("/anonymousid", f.anonymousID, protocol.MaxUserBytes, true); invalid != nil {
		return invalid
	}
	m.id = event.AppendNamedID(m.id[:0], source, id)
	ev.ID = protocol.View(m.id)
	return nil
}

// payload fills in the data.
func (m *mapping) payload(ev *event.Event) *event.Invalid {
	f := &m.fields
	contentType, invalid := protocol.Text("/datacontenttype", f.datacontenttype, 0, false)
	switch {
	case invalid != nil:
		return invalid
	case f.data != nil && f.dataBase64 != nil:
		return &event.Invalid{Pointer: "/data_base64", Code: event.CodeDuplicateKey, Detail: "an event has data or data_base64, and not both"}
	case f.data != nil:
		m.value(ev, f.data)
	case f.dataBase64 != nil:
		return m.bytes(ev, contentType)
	}
	return nil
}

// value makes a JSON value the data of an event, which is an object.
func (m *mapping) value(ev *event.Event, value []byte) {
	if value[0] != '{' {
		m.data = append(append(append(m.data[:0], `{"value":`...), value...), '}')
		value = m.data
	}
	ev.Data = value
}

// bytes fills in data_base64.
func (m *mapping) bytes(ev *event.Event, contentType string) *event.Invalid {
	const pointer = "/data_base64"
	f := &m.fields
	text, err := event.AppendUnquoted(m.decoded[:0], f.dataBase64)
	if err != nil {
		invalid := protocol.AsInvalid(err)
		return &event.Invalid{Pointer: pointer, Code: invalid.Code, Detail: invalid.Detail}
	}
	decoded, ok := protocol.AppendBase64(text[:0], text)
	if m.decoded = decoded; !ok {
		return &event.Invalid{Pointer: pointer, Code: protocol.CodeEncoding, Detail: "it is not base64"}
	}
	switch {
	case isJSON(contentType):
		value := protocol.TrimDocument(m.decoded)
		if err := event.Check(value, m.limits); err != nil {
			invalid := protocol.AsInvalid(err)
			return &event.Invalid{Pointer: pointer, Code: invalid.Code, Detail: "its media type is of JSON; " + invalid.Detail}
		}
		m.value(ev, value)
	case isText(contentType) && printable(m.decoded):
		m.data = append(event.AppendString(append(m.data[:0], `{"value":`...), protocol.View(m.decoded)), '}')
		ev.Data = m.data
	default:
		m.data = append(append(append(m.data[:0], `{"base64":`...), f.dataBase64...), '}')
		ev.Data = m.data
	}
	if m.limits.MaxBytes > 0 && len(ev.Data) > m.limits.MaxBytes {
		return protocol.TooLarge(len(ev.Data), m.limits)
	}
	return nil
}
