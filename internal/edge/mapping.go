package edge

import (
	"errors"
	"fmt"
	"time"

	"github.com/eventsluice/sluice/internal/event"
)

// mapping turns events of the Segment family into ours. Its memory is used
// again by the next event: an event that it made is valid until then.
//
//	theirs                            ours
//	messageId                         id
//	type, or that of the route        type
//	event (track), name (page,        name
//	screen), else the type
//	userId, anonymousId               user_id, anonymous_id; numbers as their text
//	properties (track, page, screen)  data
//	traits (identify, group, alias)   data
//	context, else the envelope's      context
//	timestamp or originalTimestamp    timestamp, with the clock corrected
//	writeKey                          nowhere
//	everything else                   context.extra
type mapping struct {
	limits   event.Limits
	typ      string // of the route, "" if the event says it
	received time.Time
	// context and sentAt are the envelope's; nil and zero if it has none.
	context []byte
	sentAt  time.Time

	visit  func(string, []byte) bool // m.member, made once
	fields sentFields
	extra  []byte
	time   []byte
}

// sentFields are the values of an SDK's event as sent; nil is missing or null.
type sentFields struct {
	typ, event, name, messageID, userID, anonymousID []byte
	properties, traits, context                      []byte
	timestamp, originalTimestamp, sentAt             []byte
}

// The most bytes of what names things, as for events sent in our own form.
const (
	maxNameBytes = 512
	maxIDBytes   = 256
	maxUserBytes = 512
)

func (m *mapping) begin(env *envelope, typ string, received time.Time, limits event.Limits) {
	m.limits, m.typ, m.received = limits, typ, received
	m.context, m.sentAt = nil, time.Time{}
	if len(env.context) > 0 && env.context[0] == '{' {
		// A bad context must not be copied into good events.
		if event.Check(env.context, limits) == nil {
			m.context = env.context
		}
	}
	m.sentAt, _ = parseTime(env.sentAt)
}

// event reads one event into ev and returns nil, or what is wrong with it.
func (m *mapping) event(raw []byte, ev *event.Event) *event.Invalid {
	limits := m.limits
	limits.MaxDepth++ // it counts from the value of a member, and this is the whole
	if err := event.Check(raw, limits); err != nil {
		return asInvalid(err)
	}
	if raw[0] != '{' {
		return &event.Invalid{Code: event.CodeInvalidType, Detail: "an event is a JSON object"}
	}
	if m.visit == nil {
		m.visit = m.member
	}
	m.fields, m.extra = sentFields{}, m.extra[:0]
	if err := event.Members(raw, m.visit); err != nil {
		return asInvalid(err)
	}
	*ev = event.Event{}
	if invalid := m.names(ev); invalid != nil {
		return invalid
	}
	if invalid := m.payload(ev); invalid != nil {
		return invalid
	}
	m.times(ev)
	if len(m.extra) > 0 {
		ev.Extra = m.extra
	}
	return nil
}

func asInvalid(err error) *event.Invalid {
	if invalid, ok := errors.AsType[*event.Invalid](err); ok {
		return invalid
	}
	return &event.Invalid{Code: event.CodeInvalidJSON, Detail: err.Error()}
}

// member takes one member of the event.
func (m *mapping) member(name string, value []byte) bool {
	var field *[]byte
	f := &m.fields
	switch name {
	case "type":
		field = &f.typ
	case "event":
		field = &f.event
	case "name":
		field = &f.name
	case "messageId":
		field = &f.messageID
	case "userId":
		field = &f.userID
	case "anonymousId":
		field = &f.anonymousID
	case "properties":
		field = &f.properties
	case "traits":
		field = &f.traits
	case "context":
		field = &f.context
	case "timestamp":
		field = &f.timestamp
	case "originalTimestamp":
		field = &f.originalTimestamp
	case "sentAt":
		field = &f.sentAt
	case "writeKey":
		return true
	default:
		m.keep(name, value)
		return true
	}
	if value[0] != 'n' { // null
		*field = value
	}
	return true
}

// keep puts a member under context.extra, as it was sent.
func (m *mapping) keep(name string, value []byte) {
	if value == nil {
		return
	}
	if len(m.extra) > 0 {
		m.extra = append(m.extra, ',')
	}
	m.extra = append(appendString(m.extra, name), ':')
	m.extra = append(m.extra, value...)
}

// names fills in what the event is and whose.
func (m *mapping) names(ev *event.Event) (invalid *event.Invalid) {
	f := &m.fields
	note := func(v *event.Invalid) {
		if invalid == nil {
			invalid = v
		}
	}
	sent, fault := text("/type", f.typ, 0, false)
	note(fault)
	switch {
	case m.typ != "":
		ev.Type = m.typ
		if sent != "" && sent != m.typ {
			m.keep("type", f.typ)
		}
	case sent == "":
		note(&event.Invalid{Pointer: "/type", Code: event.CodeRequired, Detail: "an event of a batch has a type"})
	default:
		if ev.Type = knownType(sent); ev.Type == "" {
			note(&event.Invalid{Pointer: "/type", Code: event.CodeUnknownType, Detail: "the types are track, identify, page, screen, group and alias"})
		}
	}
	switch ev.Type {
	case event.TypeTrack:
		ev.Name, fault = text("/event", f.event, maxNameBytes, false)
		if note(fault); fault == nil && ev.Name == "" {
			note(&event.Invalid{Pointer: "/event", Code: event.CodeRequired, Detail: "a track event has a name, in event"})
		}
		m.keep("name", f.name)
	case event.TypePage, event.TypeScreen:
		if ev.Name, fault = text("/name", f.name, maxNameBytes, false); ev.Name == "" {
			ev.Name = ev.Type
		}
		note(fault)
		m.keep("event", f.event)
	default:
		ev.Name = ev.Type
		m.keep("name", f.name)
		m.keep("event", f.event)
	}
	ev.ID, fault = text("/messageId", f.messageID, maxIDBytes, true)
	note(fault)
	ev.UserID, fault = text("/userId", f.userID, maxUserBytes, true)
	note(fault)
	ev.AnonymousID, fault = text("/anonymousId", f.anonymousID, maxUserBytes, true)
	note(fault)
	return invalid
}

// knownType returns the constant equal to t, or nothing.
func knownType(t string) string {
	switch t {
	case event.TypeTrack, event.TypeIdentify, event.TypePage, event.TypeScreen, event.TypeGroup, event.TypeAlias:
		return t
	}
	return ""
}

// text returns a string; with numbers, also a number as its text. Missing is
// empty. most bounds its bytes, if it is not zero.
func text(pointer string, value []byte, most int, numbers bool) (string, *event.Invalid) {
	if value == nil {
		return "", nil
	}
	var s string
	switch c := value[0]; {
	case c == '"':
		var err error
		if s, err = event.Unquote(value); err != nil {
			return "", asInvalid(err)
		}
	case numbers && (c == '-' || c >= '0' && c <= '9'):
		s = view(value)
	default:
		want := "a string"
		if numbers {
			want = "a string or a number"
		}
		return "", &event.Invalid{Pointer: pointer, Code: event.CodeInvalidType, Detail: "this field is " + want}
	}
	if most > 0 && len(s) > most {
		return "", &event.Invalid{
			Pointer: pointer, Code: event.CodeTooLong,
			Detail: fmt.Sprintf("it has %d bytes, at most %d are allowed", len(s), most),
		}
	}
	return s, nil
}

// payload fills in data and context.
func (m *mapping) payload(ev *event.Event) *event.Invalid {
	f := &m.fields
	data, pointer := f.properties, "/properties"
	switch ev.Type {
	case event.TypeTrack, event.TypePage, event.TypeScreen:
		m.keep("traits", f.traits)
	default:
		data, pointer = f.traits, "/traits"
		m.keep("properties", f.properties)
	}
	if data != nil && data[0] != '{' {
		return &event.Invalid{Pointer: pointer, Code: event.CodeInvalidType, Detail: "this field is an object"}
	}
	if f.context != nil && f.context[0] != '{' {
		return &event.Invalid{Pointer: "/context", Code: event.CodeInvalidType, Detail: "this field is an object"}
	}
	ev.Data, ev.Context = data, f.context
	if ev.Context == nil {
		ev.Context = m.context
	}
	return nil
}

// times fills in when it happened, by the gateway's clock: a phone whose clock
// is an hour late has sent it an hour late by the same clock, so that
//
//	timestamp + (received - sentAt)
//
// is when it happened. What was sent is kept, under context.extra. A time that
// cannot be read is no reason to refuse an event: it is kept there too.
func (m *mapping) times(ev *event.Event) {
	f := &m.fields
	happened, ok := parseTime(f.timestamp)
	original := "originalTimestamp"
	switch {
	case ok && f.originalTimestamp != nil:
		m.keep("originalTimestamp", f.originalTimestamp)
		original = "timestamp"
	case !ok:
		m.keep("timestamp", f.timestamp)
		f.timestamp = f.originalTimestamp
		if happened, ok = parseTime(f.timestamp); !ok {
			m.keep("originalTimestamp", f.originalTimestamp)
		}
	}
	sentAt, known := parseTime(f.sentAt)
	if !known {
		sentAt = m.sentAt
	}
	m.keep("sentAt", f.sentAt)
	switch {
	case !ok:
		m.time = appendTime(m.time[:0], m.received)
	case sentAt.IsZero():
		ev.Timestamp, _ = event.Unquote(f.timestamp)
		return
	default:
		m.keep(original, f.timestamp)
		if f.sentAt == nil {
			m.keepTime("sentAt", sentAt)
		}
		at := happened.Add(m.received.Sub(sentAt)).UTC()
		if at.Year() < 1 || at.Year() > 9999 {
			at = happened.UTC() // nonsense: RFC 3339 has no such years
		}
		m.time = appendTime(m.time[:0], at)
	}
	ev.Timestamp = view(m.time)
}

func (m *mapping) keepTime(name string, t time.Time) {
	if len(m.extra) > 0 {
		m.extra = append(m.extra, ',')
	}
	m.extra = append(appendString(m.extra, name), `:"`...)
	m.extra = append(t.AppendFormat(m.extra, time.RFC3339Nano), '"')
}

// parseTime reads a JSON string with a time of RFC 3339.
func parseTime(value []byte) (time.Time, bool) {
	if len(value) < 2 || value[0] != '"' {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, view(value[1:len(value)-1]))
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}, false
	}
	return t, true
}
