package segment

import (
	"time"

	"github.com/eventsluice/sluice/internal/edge/protocol"
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
//	context.traits (identify that     data; they stay in context as well
//	has no traits of its own)
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
	sent    []byte // sentAt as sent

	ev     event.Event
	visit  func(string, []byte) bool // m.member, made once
	fields sentFields
	extra  protocol.Members
	time   []byte
}

// sentFields are the values of an SDK's event as sent; nil is missing or null.
type sentFields struct {
	typ, event, name, messageID, userID, anonymousID []byte
	properties, traits, context                      []byte
	timestamp, originalTimestamp, sentAt             []byte
}

func (m *mapping) begin(env *envelope, r *protocol.Request) {
	m.limits, m.typ, m.received = r.Limits, r.Type, r.Received
	m.context, m.sentAt = nil, time.Time{}
	if len(env.context) > 0 && env.context[0] == '{' {
		// A bad context must not be copied into good events.
		if event.Check(env.context, m.limits) == nil {
			m.context = env.context
		}
	}
	m.sent = env.sentAt
	m.sentAt, _ = protocol.Time(env.sentAt)
}

// event reads one event into ev and returns nil, or what is wrong with it.
func (m *mapping) event(raw []byte, ev *event.Event) *event.Invalid {
	if m.visit == nil {
		m.visit = m.member
	}
	m.fields, m.extra = sentFields{}, m.extra[:0]
	if invalid := protocol.ReadEvent(raw, m.limits, m.visit); invalid != nil {
		return invalid
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
		m.extra.Add(name, value)
		return true
	}
	if value[0] != 'n' { // null
		*field = value
	}
	return true
}

// names fills in what the event is and whose.
func (m *mapping) names(ev *event.Event) (invalid *event.Invalid) {
	f := &m.fields
	note := func(v *event.Invalid) {
		if invalid == nil {
			invalid = v
		}
	}
	sent, fault := protocol.Text("/type", f.typ, 0, false)
	note(fault)
	switch {
	case m.typ != "":
		ev.Type = m.typ
		if sent != "" && sent != m.typ {
			m.extra.Add("type", f.typ)
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
		ev.Name, fault = protocol.Text("/event", f.event, protocol.MaxNameBytes, false)
		if note(fault); fault == nil && ev.Name == "" {
			note(&event.Invalid{Pointer: "/event", Code: event.CodeRequired, Detail: "a track event has a name, in event"})
		}
		m.extra.Add("name", f.name)
	case event.TypePage, event.TypeScreen:
		if ev.Name, fault = protocol.Text("/name", f.name, protocol.MaxNameBytes, false); ev.Name == "" {
			ev.Name = ev.Type
		}
		note(fault)
		m.extra.Add("event", f.event)
	default:
		ev.Name = ev.Type
		m.extra.Add("name", f.name)
		m.extra.Add("event", f.event)
	}
	ev.ID, fault = protocol.Text("/messageId", f.messageID, protocol.MaxIDBytes, true)
	note(fault)
	ev.UserID, fault = protocol.Text("/userId", f.userID, protocol.MaxUserBytes, true)
	note(fault)
	ev.AnonymousID, fault = protocol.Text("/anonymousId", f.anonymousID, protocol.MaxUserBytes, true)
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

// payload fills in data and context.
func (m *mapping) payload(ev *event.Event) *event.Invalid {
	f := &m.fields
	data, pointer := f.properties, "/properties"
	switch ev.Type {
	case event.TypeTrack, event.TypePage, event.TypeScreen:
		m.extra.Add("traits", f.traits)
	default:
		data, pointer = f.traits, "/traits"
		m.extra.Add("properties", f.properties)
	}
	if invalid := protocol.Object(pointer, data); invalid != nil {
		return invalid
	}
	if invalid := protocol.Object("/context", f.context); invalid != nil {
		return invalid
	}
	ev.Data, ev.Context = data, f.context
	if ev.Context == nil {
		ev.Context = m.context
	}
	if ev.Type == event.TypeIdentify && data == nil {
		ev.Data = contextTraits(f.context)
	}
	return nil
}

// contextTraits returns the traits in a context, nil if it has none. The SDKs
// of RudderStack for pages and apps have those of identify nowhere else.
func contextTraits(context []byte) (traits []byte) {
	if context == nil {
		return nil
	}
	_ = event.Members(context, func(name string, value []byte) bool { // it was checked with the event
		if name == "traits" && value[0] == '{' {
			traits = value
		}
		return traits == nil
	})
	return traits
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
	happened, ok := protocol.Time(f.timestamp)
	original := "originalTimestamp"
	switch {
	case ok && f.originalTimestamp != nil:
		m.extra.Add("originalTimestamp", f.originalTimestamp)
		original = "timestamp"
	case !ok:
		m.extra.Add("timestamp", f.timestamp)
		f.timestamp = f.originalTimestamp
		if happened, ok = protocol.Time(f.timestamp); !ok {
			m.extra.Add("originalTimestamp", f.originalTimestamp)
		}
	}
	sentAt, known := protocol.Time(f.sentAt)
	if !known {
		sentAt = m.sentAt
	}
	m.extra.Add("sentAt", f.sentAt)
	switch {
	case !ok:
		m.time = protocol.AppendTime(m.time[:0], m.received)
	case sentAt.IsZero():
		ev.Timestamp, _ = event.Unquote(f.timestamp)
		return
	default:
		m.extra.Add(original, f.timestamp)
		if f.sentAt == nil {
			m.extra.Add("sentAt", m.sent)
		}
		m.time = protocol.AppendTime(m.time[:0], protocol.Corrected(happened, sentAt, m.received))
	}
	ev.Timestamp = protocol.View(m.time)
}
