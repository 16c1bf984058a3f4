package mixpanel

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
)

// mapping turns Mixpanel's messages into events of ours. Its memory is used
// again by the next one.
//
//	theirs                              ours
//	/track: event                       name, type track, but for
//	  $mp_web_page_view                 type page, name page
//	  $identify                         type identify, name identify
//	  $create_alias, $merge             type alias, name alias
//	/engage                             type identify, name identify
//	/groups                             type group, name group
//	properties                          data; of identify: context.extra
//	$set                                data
//	$insert_id                          id
//	$user_id, distinct_id               user_id
//	$device_id, else distinct_id        anonymous_id
//	after $device:
//	time, $time                         timestamp
//	token, $token                       nowhere
//	everything else, and the event      context.extra
//	that is renamed
//
// Operations on profiles other than $set ($set_once, $add, $append, …) are kept
// in context.extra of an identify or group.
type mapping struct {
	limits   event.Limits
	profiles bool   // the messages are of /engage or /groups
	typ      string // of these

	ev     event.Event
	visit  func(string, []byte) bool // m.member, made once
	fields fields
	extra  protocol.Members
	data   []byte
	time   []byte
}

// fields are the values of a message as sent, or of its properties; nil is
// missing or null.
type fields struct {
	event, properties, set                   []byte
	distinctID, userID, deviceID, insertID   []byte
	time, anonDistinctID, identified, anonID []byte
	token                                    bool
}

func (m *mapping) begin(r *protocol.Request) {
	m.limits = r.Limits
	switch r.Path {
	case "/engage":
		m.profiles, m.typ = true, event.TypeIdentify
	case "/groups":
		m.profiles, m.typ = true, event.TypeGroup
	default:
		m.profiles, m.typ = false, ""
	}
}

func (m *mapping) reset(keep int) {
	m.ev, m.fields = event.Event{}, fields{}
	m.extra, m.data = protocol.Keep(m.extra, keep), protocol.Keep(m.data, keep)
}

// addKey adds the key that a message names: its $token, or the token of its
// properties.
func (m *mapping) addKey(keys *protocol.OneKey, raw []byte) error {
	var properties []byte
	err := event.Members(raw, func(name string, value []byte) bool {
		switch {
		case m.profiles && name == "$token":
			keys.Add(value)
		case !m.profiles && name == "properties":
			properties = value
		}
		return true
	})
	if err != nil || properties == nil || properties[0] != '{' {
		return err
	}
	_ = event.Members(properties, func(name string, value []byte) bool {
		if name == "token" {
			keys.Add(value)
		}
		return name != "token"
	})
	return nil
}

// event reads one message into ev and returns nil, or what is wrong with it.
func (m *mapping) event(raw []byte, ev *event.Event) *event.Invalid {
	if m.visit == nil {
		m.visit = m.member
	}
	m.fields, m.extra = fields{}, m.extra[:0]
	if invalid := protocol.ReadEvent(raw, m.limits, m.visit); invalid != nil {
		return invalid
	}
	*ev = event.Event{Type: m.typ, Name: m.typ}
	var invalid *event.Invalid
	if m.profiles {
		invalid = m.profile(ev)
	} else {
		invalid = m.track(ev)
	}
	if invalid != nil {
		return invalid
	}
	m.timestamp(ev)
	if len(m.extra) > 0 {
		ev.Extra = m.extra
	}
	return nil
}

// member takes one member of the message.
func (m *mapping) member(name string, value []byte) bool {
	if value[0] == 'n' { // null
		return true
	}
	f := &m.fields
	switch {
	case !m.profiles && name == "event":
		f.event = value
	case !m.profiles && name == "properties":
		f.properties = value
	case !m.profiles:
		m.extra.Add(name, value)
	case name == "$token":
	case name == "$set":
		f.set = value
	case name == "$distinct_id":
		f.distinctID = value
	case name == "$user_id":
		f.userID = value
	case name == "$device_id":
		f.deviceID = value
	case name == "$insert_id":
		f.insertID = value
	case name == "$time":
		f.time = value
	default:
		m.extra.Add(name, value)
	}
	return true
}

// profile fills in an event of what is known of a user or a group.
func (m *mapping) profile(ev *event.Event) *event.Invalid {
	if invalid := protocol.Object("/$set", m.fields.set); invalid != nil {
		return invalid
	}
	ev.Data = m.fields.set
	return m.identities(ev, "/$", "/$distinct_id")
}

// track fills in an event that happened.
func (m *mapping) track(ev *event.Event) (invalid *event.Invalid) {
	f := &m.fields
	ev.Name, invalid = protocol.Text("/event", f.event, protocol.MaxNameBytes, false)
	switch {
	case invalid != nil:
		return invalid
	case ev.Name == "":
		return &event.Invalid{Pointer: "/event", Code: event.CodeRequired, Detail: "an event has a name, in event"}
	}
	if invalid := protocol.Object("/properties", f.properties); invalid != nil {
		return invalid
	}
	if f.properties != nil {
		_ = event.Members(f.properties, m.property)
	}
	if ev.Type = typeOf(ev.Name); ev.Type != event.TypeTrack {
		m.extra.Add("event", f.event)
		ev.Name = ev.Type
	}
	properties := f.properties
	if f.token {
		m.data = protocol.AppendWithout(m.data[:0], f.properties, func(name string) bool { return name == "token" })
		properties = m.data
	}
	if ev.Type == event.TypeIdentify {
		m.extra.Add("properties", properties)
	} else {
		ev.Data = properties
	}
	return m.identities(ev, "/properties/$", "/properties/distinct_id")
}

// property takes one of the properties of an event.
func (m *mapping) property(name string, value []byte) bool {
	f := &m.fields
	if name == "token" {
		f.token = true
	}
	if value[0] == 'n' {
		return true
	}
	switch name {
	case "time":
		f.time = value
	case "distinct_id":
		f.distinctID = value
	case "$insert_id":
		f.insertID = value
	case "$user_id":
		f.userID = value
	case "$device_id":
		f.deviceID = value
	case "$anon_distinct_id":
		f.anonDistinctID = value
	case "$identified_id":
		f.identified = value
	case "$anon_id":
		f.anonID = value
	}
	return true
}

// typeOf returns the type of an event by its name.
func typeOf(name string) string {
	switch name {
	case "$mp_web_page_view":
		return event.TypePage
	case "$identify":
		return event.TypeIdentify
	case "$create_alias", "$merge":
		return event.TypeAlias
	}
	return event.TypeTrack
}

// identities fills in the ids. A distinct id is a user's, unless it says that
// it is a device's or is the same as that of the device.
func (m *mapping) identities(ev *event.Event, under, distinctPointer string) (invalid *event.Invalid) {
	f := &m.fields
	text := func(pointer, name string, value []byte, most int) (s string) {
		if value == nil {
			return ""
		}
		s, fault := protocol.Text("", value, most, true)
		if fault != nil && invalid == nil {
			fault.Pointer = pointer + name
			invalid = fault
		}
		return s
	}
	ev.ID = text(under, "insert_id", f.insertID, protocol.MaxIDBytes)
	device := text(under, "device_id", f.deviceID, protocol.MaxUserBytes)
	distinct, isDevice := strings.CutPrefix(text(distinctPointer, "", f.distinctID, protocol.MaxUserBytes), "$device:")
	before, _ := strings.CutPrefix(text(under, "anon_distinct_id", f.anonDistinctID, protocol.MaxUserBytes), "$device:")
	old := text(under, "anon_id", f.anonID, protocol.MaxUserBytes)
	user := text(under, "user_id", f.userID, protocol.MaxUserBytes)
	if named := text(under, "identified_id", f.identified, protocol.MaxUserBytes); user == "" {
		user = named
	}
	if user == "" && !isDevice && distinct != device {
		user = distinct
	}
	if device == "" && (isDevice || distinct != user) {
		device = distinct
	}
	for _, other := range [...]string{before, old} {
		if device == "" {
			device = other
		}
	}
	ev.UserID, ev.AnonymousID = user, device
	return invalid
}

// timestamp fills in when it happened. What cannot be read is kept: the time of
// an event is among its properties in any case.
func (m *mapping) timestamp(ev *event.Event) {
	at, ok := timeOf(m.fields.time)
	if !ok {
		if m.profiles {
			m.extra.Add("$time", m.fields.time)
		}
		return
	}
	m.time = protocol.AppendTime(m.time[:0], at)
	ev.Timestamp = protocol.View(m.time)
}

// timeOf reads seconds or milliseconds since 1970, told apart by their size,
// or a time in letters, without a zone in UTC.
func timeOf(value []byte) (time.Time, bool) {
	text, invalid := protocol.Text("", value, 0, true)
	if invalid != nil || text == "" {
		return time.Time{}, false
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		const (
			millisFrom = 1e11            // seconds of the year 5138, milliseconds of 1973
			end        = 253402300800000 // milliseconds of the year 10000
		)
		if n < millisFrom {
			n *= 1000
		}
		if n = math.Round(n); !(n >= 0 && n < end) {
			return time.Time{}, false
		}
		return time.UnixMilli(int64(n)), true
	}
	if at, ok := protocol.Time(value); ok {
		return at, true
	}
	at, err := time.Parse("2006-01-02T15:04:05", text)
	return at, err == nil && at.Year() >= 1
}
