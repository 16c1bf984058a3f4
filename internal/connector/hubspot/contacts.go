package hubspot

import (
	"slices"
	"strings"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// maxText is the most characters of a property of a contact that is text. Source:
// HubSpot, Property field types (read 2026-11).
const maxText = 65_536

// contact is one input of a call: who, and the properties that change.
type contact struct {
	email      string
	properties []property
	// byName finds a property. It is nil as long as there are few.
	byName map[string]int
}

// fewProperties are found as fast without a map.
const fewProperties = 16

// property is a name and a value, a JSON string.
type property struct {
	name  string
	value []byte
}

// standard gives traits, by their names in small letters and underscores, the
// names of the properties that every account has.
var standard = map[string]string{
	"first_name": "firstname", "last_name": "lastname", "job_title": "jobtitle", "title": "jobtitle",
	"postal_code": "zip", "company_name": "company", "mobile_phone": "mobilephone", "street": "address",
}

// addContact puts an identify event into the last of the calls, or a new one. The
// events of one address become one input: HubSpot refuses calls that have two.
func (c *Connector) addContact(drafts []*draft, index int, r *mapping.Record) ([]*draft, *connector.Result) {
	if r.Email == "" {
		return drafts, mapping.Refuse(noIdentity, "email", "none found (by default in data.email and context.traits.email, see mapping.email): contacts are found by it")
	}
	// Also in a call that is full an address may come again.
	n := len(drafts)
	input, again := 0, false
	if n > 0 {
		input, again = drafts[n-1].byKey[r.Email]
	}
	if n == 0 || !again && len(drafts[n-1].ids) == maxContacts {
		drafts = append(drafts, &draft{byKey: make(map[string]int)})
		n++
	}
	d := drafts[n-1]
	if !again {
		input = len(d.ids)
		d.ids, d.byKey[r.Email] = append(d.ids, uuidOf(r.Event.ID)), input
		d.contacts = append(d.contacts, contact{email: r.Email})
	}
	into := &d.contacts[input]
	for _, p := range r.Traits {
		if p.Name == "address" && mapping.IsObject(p.Value) {
			_ = event.Members(p.Value, func(name string, value []byte) bool { // a flaw ends it: events were checked
				into.set(name, value)
				return true
			})
			continue
		}
		into.set(p.Name, p.Value)
	}
	d.events, d.inputs = append(d.events, index), append(d.inputs, input)
	return drafts, nil
}

// set changes a property: what comes later wins. Null changes nothing.
func (c *contact) set(name string, value []byte) {
	if !isProperty(name) {
		name = mapping.Snake(name, maxName)
	}
	if other, ok := standard[name]; ok {
		name = other
	}
	if name == "" || name == "email" || len(value) == 0 || value[0] == 'n' {
		return
	}
	text, _ := appendValue(nil, value, maxText)
	if i := c.find(name); i >= 0 {
		c.properties[i].value = text
		return
	}
	c.properties = append(c.properties, property{name, text})
	if n := len(c.properties); c.byName != nil {
		c.byName[name] = n - 1
	} else if n > fewProperties {
		c.byName = make(map[string]int, 2*n)
		for i, p := range c.properties {
			c.byName[p.name] = i
		}
	}
}

// find returns the index of a property, -1 if there is none.
func (c *contact) find(name string) int {
	if c.byName != nil {
		if i, ok := c.byName[name]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(c.properties, func(p property) bool { return p.name == name })
}

// appendContacts appends the body of a call. If known is not nil, properties that
// are not in it are left out, and without says which of each contact.
func appendContacts(dst []byte, b *batch, known map[string]bool) (_ []byte, without []string) {
	if known != nil {
		without = make([]string, len(b.contacts))
	}
	dst = append(dst, `{"inputs":[`...)
	for i := range b.contacts {
		contact := &b.contacts[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = event.AppendString(append(dst, `{"id":`...), contact.email)
		dst = append(append(append(dst, `,"idProperty":"email","objectWriteTraceId":"`...), b.ids[i]...), `","properties":{"email":`...)
		dst = event.AppendString(dst, contact.email)
		var left []string
		for _, p := range contact.properties {
			if known != nil && !known[p.name] {
				left = append(left, p.name)
				continue
			}
			dst = append(append(append(dst, `,"`...), p.name...), `":`...)
			dst = append(dst, p.value...)
		}
		if known != nil {
			without[i] = strings.Join(left, ", ")
		}
		dst = append(dst, `}}`...)
	}
	return append(dst, `]}`...), without
}
