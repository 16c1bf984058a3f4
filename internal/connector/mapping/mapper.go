package mapping

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/router"
)

// Mapper maps events. It is safe for concurrent use.
type Mapper struct {
	filter Filter

	names    names
	unmapped string // send, drop or dead
	// page and screen are templates; title is where the name of a page is if the
	// event has none.
	page, screen string
	title        []source

	userID, anonymousID                  []source
	email, emailOfIdentify, emailOfGroup []source // by the type of event
	userAgent, ip                        []source

	data, context node
	slots         int
	fields        []field
	properties    []field // of the settings
	traits        []field
	extra         []field
	onlyMapped    bool
	reserved      func(string) bool

	lookups pointers
}

// field is a property and where it comes from.
type field struct {
	name    string
	sources []source
}

// New returns a Mapper. The error joins every fault of the settings, each with
// the name of the setting: "mapping.properties.plan: …". Those of an expression
// have line and column.
func New(s Settings, d Defaults) (*Mapper, error) {
	m := &Mapper{reserved: d.Reserved, page: d.Page, screen: d.Screen, onlyMapped: s.OnlyMapped}
	c := &compiler{m: m}
	m.context.child("traits").traits = true

	c.events(s, d)
	m.filter = c.filter("mapping.privacy", s.Privacy)
	c.identities(s, d)
	c.fields(s, d)
	m.properties = c.overrides("mapping.properties", s.Properties, func(name string) {
		m.data.child(name).overrides[asProperties] = true
	})
	m.traits = c.overrides("mapping.traits", s.Traits, func(name string) {
		m.data.child(name).overrides[asTraits] = true
		m.context.child("traits").child(name).overrides[asTraits] = true
	})
	for i, f := range d.Extra {
		at := fmt.Sprintf("defaults.extra[%d] (%s)", i, f.Name)
		m.extra = append(m.extra, field{f.Name, c.list(at, f.Sources)})
	}
	m.userAgent = c.list("user agent", []string{"/context/userAgent", "/context/user_agent"})
	m.ip = c.list("ip", []string{"/context/ip", "/ip"})
	m.title = c.list("title", []string{"/data/title", "/data/name"})
	if err := errors.Join(c.faults...); err != nil {
		return nil, err
	}
	return m, nil
}

// events compiles what becomes of names.
func (c *compiler) events(s Settings, d Defaults) {
	m := c.m
	if len(s.Events) > router.MaxPatterns {
		c.fault("mapping.events", "has %d names, the most is %d", len(s.Events), router.MaxPatterns)
		return
	}
	named := false
	for _, pattern := range sorted(s.Events) {
		at := "mapping.events." + place(pattern)
		if faults := router.CheckPattern(pattern); faults != nil {
			c.routerFaults(at, faults)
			continue
		}
		to := s.Events[pattern]
		if to != nil && strings.TrimSpace(*to) == "" {
			c.fault(at, "the new name is empty; null leaves the event out")
		}
		named = named || to != nil
		m.names.add(pattern, to)
	}
	if s.Unmapped != "" && !slices.Contains(unmappeds, s.Unmapped) {
		c.fault("mapping.unmapped", "must be one of %s", strings.Join(unmappeds, ", "))
	}
	if m.unmapped = cmp.Or(s.Unmapped, d.Unmapped, "send"); !named {
		m.unmapped = "send"
	}
}

var unmappeds = []string{"send", "drop", "dead"}

// identities compiles who did it.
func (c *compiler) identities(s Settings, d Defaults) {
	m := c.m
	of := func(name string, set, connectors, otherwise []string) []source {
		switch {
		case set != nil:
			return c.list("mapping."+name, set)
		case connectors != nil:
			return c.list("defaults."+name, connectors)
		}
		return c.list("defaults."+name, otherwise)
	}
	m.userID = of("user_id", s.UserID, d.UserID, []string{"/user_id"})
	m.anonymousID = of("anonymous_id", s.AnonymousID, d.AnonymousID, []string{"/anonymous_id"})
	m.email = of("email", s.Email, d.Email, []string{"/context/traits/email", "/data/email"})
	m.emailOfIdentify, m.emailOfGroup = m.email, m.email
	if s.Email == nil && d.Email == nil {
		m.emailOfIdentify, m.emailOfGroup = []source{m.email[1], m.email[0]}, m.email[:1]
	}
}

// fields compiles the properties that a connector takes from elsewhere than
// data, as far as the settings leave them alone.
func (c *compiler) fields(s Settings, d Defaults) {
	m := c.m
	seen := map[string]bool{}
	for i, f := range d.Fields {
		at := fmt.Sprintf("defaults.fields[%d] (%s)", i, f.Name)
		if seen[f.Name] {
			c.fault(at, "the name stands twice")
		}
		seen[f.Name] = true
		if _, overridden := s.Properties[f.Name]; overridden {
			continue
		}
		texts := f.Sources
		if s.OnlyMapped {
			texts = slices.DeleteFunc(slices.Clone(texts), func(text string) bool {
				return text == "/data" || strings.HasPrefix(text, "/data/")
			})
		}
		m.fields = append(m.fields, field{f.Name, c.list(at, texts)})
		m.data.child(f.Name).field = len(m.fields)
	}
}

// overrides compiles properties or traits of the settings; mark marks what they
// take the place of.
func (c *compiler) overrides(at string, set map[string]*string, mark func(name string)) []field {
	var fields []field
	for _, name := range sorted(set) {
		at := at + "." + place(name)
		if name == "" {
			c.fault(at, "the name is empty")
		}
		mark(name)
		if text := set[name]; text == nil {
			continue
		} else if s, ok := c.source(at, *text); ok {
			fields = append(fields, field{name, []source{s}})
		}
	}
	return fields
}

// Map maps an event into a Record. A result that is not nil says that the event
// is not to be sent, and why; the Record means nothing then.
func (m *Mapper) Map(e *event.Event, r *Record) *connector.Result {
	r.reset(e, m)
	e = &r.Event
	if refused := m.filter.apply(e); refused != nil {
		return refused
	}
	named, refused := m.rename(r)
	if refused != nil {
		return refused
	}
	if refused := m.walk(r); refused != nil {
		return refused
	}
	if !named {
		m.name(r)
	}
	m.identify(r)
	m.fill(r)
	r.Time = clock(e)
	return nil
}

// walk goes through data and context.
func (m *Mapper) walk(r *Record) *connector.Result {
	e := &r.Event
	s := asProperties
	switch e.Type {
	case event.TypeIdentify, event.TypeGroup, event.TypeAlias:
		s = asTraits
	}
	r.work.contextTraits = s == asProperties && !m.onlyMapped
	if m.onlyMapped {
		s = asNothing
	}
	const rule = "is not a JSON object"
	if !m.container(r, e.Data, &m.data, s) {
		return Refuse("invalid_event", "data", rule)
	}
	if !m.container(r, e.Context, &m.context, asNothing) {
		return Refuse("invalid_event", "context", rule)
	}
	return nil
}

// rename finds the name of an event in the settings. named is false if it is not
// there.
func (m *Mapper) rename(r *Record) (named bool, refused *connector.Result) {
	e := &r.Event
	to, named := m.names.lookup(e.Name)
	switch {
	case named && to == nil:
		return true, Drop("event_left_out", fmt.Sprintf("mapping.events: %s is null", quoted(e.Name)))
	case named:
		r.Name = *to
		return true, nil
	case m.unmapped == "send" || e.Type != event.TypeTrack && e.Type != "":
	case m.unmapped == "drop":
		return false, Drop("unmapped_event", fmt.Sprintf("mapping.unmapped is drop, and mapping.events does not name %s", quoted(e.Name)))
	default:
		return false, Refuse("unmapped_event", "name", fmt.Sprintf("mapping.unmapped is dead, and mapping.events does not name %s", quoted(e.Name)))
	}
	return false, nil
}

// quoted shows the name of an event in a message.
func quoted(name string) string { return fmt.Sprintf("%q", CutRunes(name, 100)) }

// name gives an event its name where the settings do not.
func (m *Mapper) name(r *Record) {
	e := &r.Event
	template := ""
	switch e.Type {
	case event.TypePage:
		template = m.page
	case event.TypeScreen:
		template = m.screen
	}
	if r.Name = e.Name; template == "" {
		return
	}
	before, after, ok := strings.Cut(template, "%s")
	if !ok {
		r.Name = template
		return
	}
	title := e.Name
	if title == "" || title == e.Type {
		title = e.Type
		for i := range m.title {
			if text := strings.TrimSpace(m.title[i].text(r)); text != "" {
				title = text
				break
			}
		}
	}
	r.Name = r.work.concat(before, title, after)
}

// identify finds who did it, and from where.
func (m *Mapper) identify(r *Record) {
	r.UserID, r.AnonymousID = firstText(m.userID, r), firstText(m.anonymousID, r)
	email := m.email
	switch r.Event.Type {
	case event.TypeIdentify:
		email = m.emailOfIdentify
	case event.TypeGroup:
		email = m.emailOfGroup
	}
	for i := range email {
		if r.Email = mailAddress(email[i].text(r)); r.Email != "" {
			break
		}
	}
	r.UserAgent = firstText(m.userAgent, r)
	for i := range m.ip {
		text := m.ip[i].text(r)
		if _, err := netip.ParseAddr(text); err == nil {
			r.IP = text
			break
		}
	}
}

// firstText returns the first text that is not empty.
func firstText(sources []source, r *Record) string {
	for i := range sources {
		if text := sources[i].text(r); text != "" {
			return text
		}
	}
	return ""
}

// fill adds what does not come from data as it stands there.
func (m *Mapper) fill(r *Record) {
	for i := range m.fields {
		if r.work.shadowed[i] {
			continue
		}
		if value := first(m.fields[i].sources, r); value != nil {
			r.Properties = append(r.Properties, Property{m.fields[i].name, value})
		}
	}
	for i := range m.properties {
		if value := first(m.properties[i].sources, r); value != nil {
			r.Properties = append(r.Properties, Property{m.properties[i].name, value})
		}
	}
	for i := range m.traits {
		if value := first(m.traits[i].sources, r); value != nil {
			r.Traits = append(r.Traits, Property{m.traits[i].name, value})
		}
	}
	for i := range m.extra {
		r.Extra = append(r.Extra, Property{m.extra[i].name, first(m.extra[i].sources, r)})
	}
}
