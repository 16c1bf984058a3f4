package measurement

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// Parameters that have rules of their own.
const (
	paramSession    = "session_id"
	paramEngagement = "engagement_time_msec"
	paramLocation   = "page_location"
	paramReferrer   = "page_referrer"
	paramTitle      = "page_title"
	paramScreen     = "screen_name"
	paramValue      = "value"
	paramCurrency   = "currency"
	paramItems      = "items"
	// paramOtherValue takes a value that is no amount of money: Google Analytics
	// wants a currency with a value.
	paramOtherValue = "event_value"
)

// isRuled reports the parameters that are written whatever others there are.
func isRuled(name string) bool {
	switch name {
	case paramSession, paramEngagement, paramLocation, paramReferrer, paramTitle, paramScreen, paramValue, paramCurrency, paramItems:
		return true
	}
	return false
}

// Events that have a name of Google Analytics by their type.
const (
	nameGroup  = "join_group"
	namePage   = "page_view"
	nameScreen = "screen_view"
)

// maxNested is how deep an object is taken apart; what lies deeper is sent as
// its text.
const maxNested = 4

// Indexes of the values in Record.Extra. What is said of the device stands at the
// end.
const (
	extraUserData = iota
	extraPersonalization
	extraPhone
	extraGroup
	extraDevice
)

// defaults is what is mapped when the settings say nothing.
func defaults(app bool) mapping.Defaults {
	d := mapping.Defaults{
		Fields: []mapping.Field{
			{Name: paramSession, Sources: []string{"/context/ga/session_id", "/context/sessionId"}},
			{Name: paramLocation, Sources: []string{"/context/page/url"}},
			{Name: paramReferrer, Sources: []string{"/context/page/referrer"}},
			{Name: paramTitle, Sources: []string{"/context/page/title"}},
			{Name: "language", Sources: []string{"/context/locale"}},
		},
		Extra: []mapping.Field{
			extraUserData:        {Name: "ad_user_data", Sources: []string{"/context/consent/ad_user_data"}},
			extraPersonalization: {Name: "ad_personalization", Sources: []string{"/context/consent/ad_personalization"}},
			extraPhone:           {Name: "phone", Sources: []string{"/context/traits/phone", "/data/phone"}},
			extraGroup:           {Name: "group_id", Sources: []string{"/data/group_id", "/data/groupId", "/context/groupId"}},
			// The device, by the names of the protocol.
			extraDevice: {Name: "category", Sources: []string{"/context/device/type"}},
			{Name: "brand", Sources: []string{"/context/device/manufacturer"}},
			{Name: "model", Sources: []string{"/context/device/model"}},
			{Name: "operating_system", Sources: []string{"/context/os/name"}},
			{Name: "operating_system_version", Sources: []string{"/context/os/version"}},
		},
		AnonymousID: []string{"/context/ga/client_id", "/context/ga/cookie", "/anonymous_id"},
		Reserved:    Personal,
	}
	if app {
		d.AnonymousID = []string{"/context/ga/app_instance_id", "/anonymous_id"}
	}
	return d
}

// scratch is what mapping an event needs and what it makes.
type scratch struct {
	record     mapping.Record
	head, body []byte
	params     []param  // of the event, in their order
	written    []string // names of the parameters in body, or of an object in it
	left, cut  []string // names of what was left out, or shortened
}

// param is a parameter on its way into the body.
type param struct {
	name  string
	value []byte
	taken bool
}

// maxNamed is how many names a note has.
const maxNamed = 10

// note says what of an event was left out and shortened, nothing if it is whole.
func (s *scratch) note() string {
	var parts []string
	for _, list := range []struct {
		what  string
		names []string
	}{{"left out: ", s.left}, {"cut to the length allowed: ", s.cut}} {
		if n := len(list.names); n > maxNamed {
			parts = append(parts, fmt.Sprintf("%s%s and %d more", list.what, strings.Join(list.names[:maxNamed], ", "), n-maxNamed))
		} else if n > 0 {
			parts = append(parts, list.what+strings.Join(list.names, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// leave notes that a parameter is not sent, and shorten that it is cut. Names
// come from the event and may be long.
func (s *scratch) leave(name string)   { s.left = append(s.left, mapping.CutRunes(name, MaxName)) }
func (s *scratch) shorten(name string) { s.cut = append(s.cut, mapping.CutRunes(name, MaxName)) }

// name returns what Google Analytics calls an event, or says why it is not sent.
func (p *Planner) name(r *mapping.Record) (name string, refused *connector.Result) {
	e := &r.Event
	renamed := r.Name != e.Name
	switch {
	case renamed && validName(r.Name, MaxName):
		name = r.Name
	case renamed:
		name = snake(r.Name, MaxName)
	case e.Type == event.TypeIdentify || e.Type == event.TypeAlias:
		return "", mapping.Drop("no_event", "Google Analytics has no "+e.Type+" event: what context.traits of the user's other events hold becomes user properties")
	case e.Type == event.TypePage:
		name = namePage
	case e.Type == event.TypeScreen:
		name = nameScreen
	case e.Type == event.TypeGroup:
		name = nameGroup
	default:
		name = snake(r.Name, MaxName)
		if known := commerceNames[name]; p.o.Ecommerce && known != "" {
			name = known
		}
	}
	switch {
	case name == "":
		return "", mapping.Refuse("event_name", "name", "must have a letter from a to z for Google Analytics; give it another name in mapping.events")
	case reserved.event(name):
		return "", mapping.Refuse("event_name", "name", strconv.Quote(name)+" is reserved by Google Analytics; give it another name in mapping.events")
	}
	return name, nil
}

// validName reports whether a name can be used as it is.
func validName(name string, limit int) bool {
	if name == "" || len(name) > limit {
		return false
	}
	for i := range len(name) {
		c := name[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return true
}

// what writes the event itself, up to its time.
func (p *Planner) what(s *scratch, r *mapping.Record) *connector.Result {
	name, refused := p.name(r)
	if refused != nil {
		return refused
	}
	if r.Event.Type == event.TypeTrack && isCut(r.Name, name) {
		s.shorten("name")
	}
	shape := plain
	if p.o.Ecommerce {
		shape = shapes[name]
	}
	s.params, s.written = s.params[:0], s.written[:0]
	if r.Event.Type == event.TypeGroup {
		if value := r.Extra[extraGroup].Value; value != nil {
			s.params = append(s.params, param{name: "group_id", value: value})
		} else if name == nameGroup {
			return mapping.Drop("no_event", "a group without data.group_id is no event for Google Analytics")
		}
	} else {
		s.gather(r, shape)
	}
	s.body = mapping.AppendText(append(s.body[:0], '{'), "name", name)
	s.body = append(s.body, `,"params":{`...)
	if p.o.EventIDParameter != "" {
		s.add(p.o.EventIDParameter)
		s.body = mapping.AppendText(s.body, p.o.EventIDParameter, EventID(r.Event.ID))
	}
	s.session()
	p.page(s, r)
	if shape == basket {
		s.sum()
	}
	s.money(p.o.Currency)
	if shape != plain {
		p.items(s, shape)
	} else if items := s.take(paramItems); items != nil {
		p.list(s, paramItems, items)
	}
	for i := range s.params {
		if at := &s.params[i]; !at.taken {
			p.put(s, at.name, at.value, p.maxValue)
		}
	}
	s.body = append(s.body, '}')
	return nil
}

// EventID returns an event's id as the value of a parameter: a long one is
// replaced by its hash, which is as good for finding repetitions.
func EventID(id string) string {
	if len(id) <= MaxValue || utf8.RuneCountInString(id) <= MaxValue {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// gather makes parameters of the properties: objects are taken apart, and names
// become those of Google Analytics.
func (s *scratch) gather(r *mapping.Record, shape shape) {
	page := r.Event.Type == event.TypePage
	for _, property := range r.Properties {
		if !mapping.IsObject(property.Value) {
			s.gatherOne(property.Name, property.Value, shape, page)
			continue
		}
		mapping.Flatten(property, "_", maxNested, func(name string, value []byte) bool {
			s.gatherOne(name, value, shape, page)
			return true
		})
	}
}

func (s *scratch) gatherOne(name string, value []byte, shape shape, page bool) {
	known := snake(name, MaxName)
	if known == "" || reserved.param(known) {
		s.leave(name)
		return
	}
	if isCut(name, known) {
		s.shorten("the name " + name)
	}
	switch {
	case page:
		known = pageParam(known)
	case shape != plain:
		known = shape.param(known)
	}
	s.params = append(s.params, param{name: known, value: value})
}

// isCut reports whether a name had more to it than what snake left of it.
func isCut(name, known string) bool {
	return len(name) > MaxName && len(mapping.Snake(name, 2*len(name))) > len(known)
}

// pageParam returns what Google Analytics calls a property of a page event.
func pageParam(name string) string {
	switch name {
	case "url":
		return paramLocation
	case "title":
		return paramTitle
	case "referrer":
		return paramReferrer
	}
	return name
}

// take returns the value of the first parameter of a name, nil if there is none.
// It and others of that name are not written any more.
func (s *scratch) take(name string) (value []byte) {
	for i := range s.params {
		if at := &s.params[i]; at.name == name && !at.taken {
			at.taken = true
			if value == nil {
				value = at.value
			}
		}
	}
	return value
}

// has reports whether a name is among those written, and add adds it.
func (s *scratch) has(name string) bool {
	for _, other := range s.written {
		if other == name {
			return true
		}
	}
	return false
}

func (s *scratch) add(name string) { s.written = append(s.written, name) }

// put writes a parameter, if it has room and there is none of its name.
func (p *Planner) put(s *scratch, name string, value []byte, limit int) {
	if len(s.written) == MaxParams || s.has(name) {
		s.leave(name)
		return
	}
	s.add(name)
	s.body = mapping.AppendMember(s.body, name, nil)
	if s.text(value, limit, false) {
		s.shorten(name)
	}
}

// text writes a value: numbers and booleans as they are, unless it must be a
// string, and anything else as its text. It reports whether it was cut.
func (s *scratch) text(value []byte, limit int, mustBe bool) (cut bool) {
	switch value[0] {
	case '"':
		if len(value)-2 <= limit { // no more characters than bytes
			s.body = append(s.body, value...)
			return false
		}
	case '{', '[':
	default:
		if !mustBe {
			s.body = append(s.body, value...)
			return false
		}
	}
	text, _ := mapping.Text(value)
	short := mapping.CutRunes(text, limit)
	s.body = event.AppendString(s.body, short)
	return len(short) < len(text)
}

// session writes what makes an activity visible: the session, if it is known,
// and how long the user was engaged, in milliseconds. Source: Google,
// Measurement Protocol, "Sending events" (read 2026-11).
func (s *scratch) session() {
	if value := s.take(paramSession); value != nil {
		s.add(paramSession)
		s.body = mapping.AppendMember(s.body, paramSession, nil)
		if s.text(value, MaxValue, !whole(value)) {
			s.shorten(paramSession)
		}
	}
	s.add(paramEngagement)
	s.body = mapping.AppendMember(s.body, paramEngagement, nil)
	text, _ := mapping.Text(s.take(paramEngagement))
	if !whole([]byte(text)) {
		text = "1"
	}
	s.body = append(s.body, text...)
}

// whole reports whether a text is a number without sign, point and exponent, as
// JSON has it.
func whole(text []byte) bool {
	if len(text) == 0 || len(text) > 18 || text[0] == '0' && len(text) > 1 {
		return false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// page writes where the user is. Pages and screens have their event's name for a
// title if they have no other. An event whose name is its type has none.
func (p *Planner) page(s *scratch, r *mapping.Record) {
	for _, at := range [...]struct {
		name  string
		limit int
	}{{paramLocation, 1000}, {paramReferrer, 420}, {paramTitle, 300}} { // Source: Analytics Help, "Event collection limits" (read 2026-11)
		if value := s.take(at.name); value != nil {
			s.add(at.name)
			s.body = mapping.AppendMember(s.body, at.name, nil)
			if s.text(value, at.limit, true) {
				s.shorten(at.name)
			}
		} else if at.name == paramTitle && r.Event.Type == event.TypePage && Named(&r.Event) {
			s.title(paramTitle, r.Event.Name, at.limit)
		}
	}
	if r.Event.Type == event.TypeScreen {
		if value := s.take(paramScreen); value != nil {
			p.put(s, paramScreen, value, MaxValue)
		} else if Named(&r.Event) {
			s.title(paramScreen, r.Event.Name, MaxValue)
		}
	}
}

// Named reports whether the name of a page or screen says which.
func Named(e *event.Event) bool { return e.Name != "" && e.Name != e.Type }

func (s *scratch) title(name, text string, limit int) {
	s.add(name)
	s.body = mapping.AppendText(s.body, name, mapping.CutRunes(text, limit))
}

// money writes value and currency. A value without a currency, or that is no
// number, is sent under another name.
func (s *scratch) money(usual string) {
	value, given := s.take(paramValue), s.take(paramCurrency)
	text, _ := mapping.Text(given)
	currency := strings.ToUpper(strings.TrimSpace(text))
	if given != nil && !isCurrency(currency) {
		s.leave(paramCurrency)
		currency = ""
	}
	amount, isAmount := number(value)
	switch {
	case value == nil:
	case isAmount && (currency != "" || usual != ""):
		currency = cmp.Or(currency, usual)
		s.add(paramValue)
		s.body = mapping.AppendMember(s.body, paramValue, amount)
	default:
		s.params = append(s.params, param{name: paramOtherValue, value: value})
	}
	if currency != "" {
		s.add(paramCurrency)
		s.body = mapping.AppendText(s.body, paramCurrency, currency)
	}
}

func isCurrency(text string) bool {
	return len(text) == 3 && text[0]-'A' < 26 && text[1]-'A' < 26 && text[2]-'A' < 26
}

// number returns a value that is a number, or a text that is one, as JSON has
// it.
func number(value []byte) ([]byte, bool) {
	if len(value) > 2 && value[0] == '"' {
		value = value[1 : len(value)-1]
		if !isNumber(value) {
			return nil, false
		}
		return value, true
	}
	return value, len(value) > 0 && (value[0] == '-' || value[0]-'0' <= 9)
}

// isNumber reports whether a text is a number as JSON has it, without exponent.
func isNumber(text []byte) bool {
	if len(text) > 0 && text[0] == '-' {
		text = text[1:]
	}
	digits := func() (n int) {
		for n < len(text) && text[n]-'0' <= 9 {
			n++
		}
		return n
	}
	n := digits()
	if n == 0 || n > 15 || n > 1 && text[0] == '0' {
		return false
	}
	if text = text[n:]; len(text) == 0 {
		return true
	}
	if text[0] != '.' {
		return false
	}
	text = text[1:]
	n = digits()
	return n > 0 && n == len(text)
}
