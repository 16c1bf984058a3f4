package mapping

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
)

// Mapper maps events. It is safe for concurrent use.
type Mapper struct {
	s Settings
	d Defaults
}

// New returns a Mapper. The error joins every fault of the settings, each with
// the name of the setting.
func New(s Settings, d Defaults) (*Mapper, error) {
	return &Mapper{s, d}, errors.Join()
}

// Map maps an event into a Record. A result that is not nil says that the event
// is not to be sent, and why; the Record means nothing then.
func (m *Mapper) Map(e *event.Event, r *Record) *connector.Result {
	*r = Record{Event: *e, Properties: r.Properties[:0], Traits: r.Traits[:0]}
	r.Name, r.UserID, r.AnonymousID = e.Name, e.UserID, e.AnonymousID
	r.Time = clock(e)
	switch {
	case e.Type == event.TypePage && m.d.Page != "":
		r.Name = fmt.Sprintf(m.d.Page, e.Name)
	case e.Type == event.TypeScreen && m.d.Screen != "":
		r.Name = fmt.Sprintf(m.d.Screen, e.Name)
	}
	isTraits := e.Type == event.TypeIdentify || e.Type == event.TypeGroup || e.Type == event.TypeAlias
	into := &r.Properties
	if isTraits {
		into = &r.Traits
	} else if traits, ok := m.Lookup(r, "/context/traits"); ok {
		m.spread(&r.Traits, traits)
	}
	m.spread(into, e.Data)
	for _, f := range m.d.Fields {
		if slices.ContainsFunc(r.Properties, func(p Property) bool { return p.Name == f.Name }) {
			continue
		}
		for _, source := range f.Sources {
			if value, ok := m.Lookup(r, source); ok && value[0] != 'n' {
				r.Properties = append(r.Properties, Property{f.Name, value})
				break
			}
		}
	}
	for _, source := range []string{"/data/email", "/context/traits/email"} {
		if value, ok := m.Lookup(r, source); ok {
			if text, ok := Text(value); ok {
				if text = strings.ToLower(strings.TrimSpace(text)); strings.Count(text, "@") == 1 {
					r.Email = text
					break
				}
			}
		}
	}
	r.IP = e.IP
	if value, ok := m.Lookup(r, "/context/ip"); ok && r.IP == "" {
		text, _ := Text(value)
		if _, err := netip.ParseAddr(text); err == nil {
			r.IP = text
		}
	}
	if value, ok := m.Lookup(r, "/context/userAgent"); ok {
		r.UserAgent, _ = Text(value)
	}
	return nil
}

func (m *Mapper) spread(into *[]Property, object []byte) {
	if !IsObject(object) {
		return
	}
	_ = event.Members(object, func(name string, value []byte) bool { // a flaw ends it: events were checked
		if value[0] != 'n' && (m.d.Reserved == nil || !m.d.Reserved(name)) {
			*into = append(*into, Property{name, value})
		}
		return true
	})
}

// Lookup returns the value at a Source, in JSON.
func (m *Mapper) Lookup(r *Record, source string) (value []byte, ok bool) {
	tokens := strings.Split(strings.TrimPrefix(source, "/"), "/")
	switch tokens[0] {
	case "data":
		value = r.Event.Data
	case "context":
		value = r.Event.Context
	default:
		return nil, false
	}
	for _, t := range tokens[1:] {
		if !IsObject(value) {
			return nil, false
		}
		var found []byte
		_ = event.Members(value, func(name string, v []byte) bool {
			if name == t {
				found = v
			}
			return found == nil
		})
		if value = found; value == nil {
			return nil, false
		}
	}
	return value, len(value) > 0
}

func clock(e *event.Event) time.Time {
	for _, text := range []string{e.Timestamp, e.ReceivedAt} {
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}
