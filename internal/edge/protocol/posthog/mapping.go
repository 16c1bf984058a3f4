package posthog

import (
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
)

// mapping turns PostHog's events into ours. Its memory is used again by the
// next one.
//
//	theirs                            ours
//	uuid, else properties.$insert_id  id
//	event                             name, type track, but for
//	  $pageview                       type page, name page
//	  $screen                         type screen, name $screen_name or screen
//	  $identify, $set                 type identify, name identify
//	  $groupidentify                  type group, name group
//	  $create_alias,                  type alias, name alias
//	  $merge_dangerously
//	properties                        data; of identify and group: context.extra
//	$set, of identify                 data
//	properties.$group_set, of group   data
//	distinct_id and what is said      user_id, anonymous_id, see identities
//	of it in the properties
//	timestamp, offset, sent_at        timestamp, with the clock corrected
//	api_key, token                    nowhere, nor properties.token
//	everything else, and the event    context.extra
//	that is renamed
//
// What is known of users and groups is the data of identify and group, as it
// is with every other SDK.
type mapping struct {
	limits   event.Limits
	received time.Time
	sentAt   time.Time // of the envelope; zero if it has none

	ev        event.Event
	visit     func(string, []byte) bool // m.member, made once
	visitProp func(string, []byte) bool // m.property, made once
	dropProp  func(string) bool         // m.dropped, made once
	fields    fields
	props     properties
	extra     protocol.Members
	data      []byte
	time      []byte
}

// fields are the values of an event as sent; nil is missing or null.
type fields struct {
	event, distinctID, uuid, timestamp, offset []byte
	properties, set, sentAt                    []byte
}

// properties are those of the properties that mean something to us.
type properties struct {
	distinctID, userID, deviceID, anonID, insertID []byte
	set, groupSet, screen                          []byte
	// token is whether there is one. anonymous is that the sender says that
	// nobody is known; ignoreSentAt that sent_at is of another clock.
	token, anonymous, ignoreSentAt bool
	// taken names a property that is the data, and so is not kept besides it.
	taken string
}

func (m *mapping) begin(r *protocol.Request) {
	m.limits, m.received, m.sentAt = r.Limits, r.Received, time.Time{}
}

func (m *mapping) reset(keep int) {
	m.ev, m.fields, m.props = event.Event{}, fields{}, properties{}
	m.extra, m.data = protocol.Keep(m.extra, keep), protocol.Keep(m.data, keep)
}

// event reads one event into ev and returns nil, or what is wrong with it.
func (m *mapping) event(raw []byte, ev *event.Event) *event.Invalid {
	if m.visit == nil {
		m.visit, m.visitProp, m.dropProp = m.member, m.property, m.dropped
	}
	m.fields, m.props, m.extra = fields{}, properties{}, m.extra[:0]
	if invalid := protocol.ReadEvent(raw, m.limits, m.visit); invalid != nil {
		return invalid
	}
	if f := &m.fields; f.properties != nil {
		if invalid := protocol.Object("/properties", f.properties); invalid != nil {
			return invalid
		}
		if err := event.Members(f.properties, m.visitProp); err != nil {
			return protocol.AsInvalid(err)
		}
	}
	*ev = event.Event{}
	if invalid := m.names(ev); invalid != nil {
		return invalid
	}
	if invalid := m.identities(ev); invalid != nil {
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
	if value[0] == 'n' { // null
		return true
	}
	f := &m.fields
	switch name {
	case "event":
		f.event = value
	case "distinct_id", "$distinct_id":
		if f.distinctID != nil {
			m.extra.Add(name, value)
			break
		}
		f.distinctID = value
	case "uuid":
		f.uuid = value
	case "timestamp":
		f.timestamp = value
	case "offset":
		f.offset = value
	case "sent_at":
		f.sentAt = value
	case "properties":
		f.properties = value
	case "$set":
		f.set = value
	case "api_key", "token", "$token":
	default:
		m.extra.Add(name, value)
	}
	return true
}

// property takes one of the properties.
func (m *mapping) property(name string, value []byte) bool {
	p := &m.props
	if name == "token" {
		p.token = value[0] == '"'
	}
	if value[0] == 'n' {
		return true
	}
	switch name {
	case "distinct_id":
		p.distinctID = value
	case "$user_id":
		p.userID = value
	case "$device_id":
		p.deviceID = value
	case "$anon_distinct_id":
		p.anonID = value
	case "$insert_id":
		p.insertID = value
	case "$set":
		p.set = value
	case "$group_set":
		p.groupSet = value
	case "$screen_name":
		p.screen = value
	case "$is_identified", "$process_person_profile":
		p.anonymous = p.anonymous || value[0] == 'f'
	case "$ignore_sent_at":
		p.ignoreSentAt = value[0] == 't'
	}
	return true
}

// dropped reports whether a property is not kept: a key must not be copied into
// an event, and what is the data is there.
func (m *mapping) dropped(name string) bool {
	return name == "token" && m.props.token || name == m.props.taken && name != ""
}

// names fills in what the event is.
func (m *mapping) names(ev *event.Event) (invalid *event.Invalid) {
	f := &m.fields
	ev.Name, invalid = protocol.Text("/event", f.event, protocol.MaxNameBytes, false)
	switch {
	case invalid != nil:
		return invalid
	case ev.Name == "":
		return &event.Invalid{Pointer: "/event", Code: event.CodeRequired, Detail: "an event has a name, in event"}
	}
	if ev.Type = typeOf(ev.Name); ev.Type == event.TypeTrack {
		return nil
	}
	m.extra.Add("event", f.event)
	ev.Name = ev.Type
	if ev.Type == event.TypeScreen && m.props.screen != nil {
		ev.Name, invalid = protocol.Text("/properties/$screen_name", m.props.screen, protocol.MaxNameBytes, true)
		if ev.Name == "" {
			ev.Name = ev.Type
		}
	}
	return invalid
}

// typeOf returns the type of an event by its name.
func typeOf(name string) string {
	switch name {
	case "$pageview":
		return event.TypePage
	case "$screen":
		return event.TypeScreen
	case "$identify", "$set":
		return event.TypeIdentify
	case "$groupidentify":
		return event.TypeGroup
	case "$create_alias", "$merge_dangerously":
		return event.TypeAlias
	}
	return event.TypeTrack
}

// identities fills in the ids. PostHog has one id, and it is a user's or a
// device's. It is the user's if the properties name the same or another as
// $user_id, as the SDK for pages does when somebody was identified. It is a
// device's if it is that of $device_id, if $is_identified or
// $process_person_profile is false, or if it is what SDKs for servers make up
// for a group ($company_acme). Otherwise a server has named a user.
func (m *mapping) identities(ev *event.Event) (invalid *event.Invalid) {
	f, p := &m.fields, &m.props
	text := func(pointer string, value []byte, most int) (s string) {
		s, fault := protocol.Text(pointer, value, most, true)
		if invalid == nil {
			invalid = fault
		}
		return s
	}
	if ev.ID = text("/uuid", f.uuid, protocol.MaxIDBytes); ev.ID == "" {
		ev.ID = text("/properties/$insert_id", p.insertID, protocol.MaxIDBytes)
	}
	distinct := text("/distinct_id", f.distinctID, protocol.MaxUserBytes)
	if distinct == "" {
		distinct = text("/properties/distinct_id", p.distinctID, protocol.MaxUserBytes)
	}
	device := text("/properties/$device_id", p.deviceID, protocol.MaxUserBytes)
	if ev.AnonymousID = text("/properties/$anon_distinct_id", p.anonID, protocol.MaxUserBytes); ev.AnonymousID == "" {
		ev.AnonymousID = device
	}
	ev.UserID = text("/properties/$user_id", p.userID, protocol.MaxUserBytes)
	if ev.UserID == "" && distinct != "" {
		if p.anonymous || distinct == device || ev.Type == event.TypeGroup && strings.HasPrefix(distinct, "$") {
			ev.AnonymousID = distinct
		} else {
			ev.UserID = distinct
		}
	}
	if distinct != ev.UserID && distinct != ev.AnonymousID {
		m.extra.Add("distinct_id", f.distinctID)
	}
	return invalid
}

// payload fills in the data.
func (m *mapping) payload(ev *event.Event) *event.Invalid {
	f, p := &m.fields, &m.props
	switch {
	case ev.Type == event.TypeIdentify && f.set != nil:
		if invalid := protocol.Object("/$set", f.set); invalid != nil {
			return invalid
		}
		ev.Data = f.set
	case ev.Type == event.TypeIdentify:
		if p.set != nil && p.set[0] == '{' {
			ev.Data, p.taken = p.set, "$set"
		}
	case ev.Type == event.TypeGroup:
		m.extra.Add("$set", f.set)
		if p.groupSet != nil && p.groupSet[0] == '{' {
			ev.Data, p.taken = p.groupSet, "$group_set"
		}
	default:
		m.extra.Add("$set", f.set)
		ev.Data = m.properties()
		return nil
	}
	m.extra.Add("properties", m.properties())
	return nil
}

// properties returns the properties that are kept; nil if there are none.
func (m *mapping) properties() []byte {
	if !m.props.token && m.props.taken == "" || m.fields.properties == nil {
		return m.fields.properties
	}
	if m.data = protocol.AppendWithout(m.data[:0], m.fields.properties, m.dropProp); len(m.data) == len("{}") {
		return nil
	}
	return m.data
}

// times fills in when it happened, by the gateway's clock, as PostHog does: an
// offset is how long before it was sent; otherwise the clock is corrected by
// sent_at. What was sent is kept where it is not what is stored.
func (m *mapping) times(ev *event.Event) {
	f := &m.fields
	sentAt, own := protocol.Time(f.sentAt)
	if !own {
		sentAt = m.sentAt
	}
	m.extra.Add("sent_at", f.sentAt)
	m.extra.Add("offset", f.offset)
	happened, ok := protocol.Time(f.timestamp)
	offset, known := millis(f.offset)
	switch {
	case known:
		happened = m.received.Add(-offset)
	case !ok:
		m.extra.Add("timestamp", f.timestamp)
		return
	case sentAt.IsZero() || m.props.ignoreSentAt:
		ev.Timestamp, _ = event.Unquote(f.timestamp)
		return
	default:
		if f.sentAt == nil {
			m.extra.AddTime("sent_at", sentAt)
		}
		happened = protocol.Corrected(happened, sentAt, m.received)
	}
	m.extra.Add("timestamp", f.timestamp)
	m.time = protocol.AppendTime(m.time[:0], happened)
	ev.Timestamp = protocol.View(m.time)
}

// millis reads a number of milliseconds, of less than a hundred years.
func millis(value []byte) (time.Duration, bool) {
	if value == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(protocol.View(value), 10, 64)
	const most = 100 * 365 * 24 * int64(time.Hour/time.Millisecond)
	if err != nil || n < -most || n > most {
		return 0, false
	}
	return time.Duration(n) * time.Millisecond, true
}
