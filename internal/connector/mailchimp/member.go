package mailchimp

import (
	"crypto/md5" //nolint:gosec // Mailchimp names members by it; it protects nothing
	"encoding/hex"
	"slices"
	"strings"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

const (
	// maxMergeTag is the most characters of the name of a merge field. Source:
	// Mailchimp, Manage audience and signup form fields (read 2026-11).
	maxMergeTag = 10
	// maxMergeValue is the most characters of a merge field that is text. Source: as
	// above.
	maxMergeValue = 255
)

// member is a person in the audience.
type member struct {
	email string // in lower case
	// status is that of a person who is new.
	status string
	fields []mergeField
	tags   []string
}

// mergeField is the name and the value, in JSON, of a merge field.
type mergeField struct {
	tag   string
	value []byte
}

// field is a merge field that every audience has, and the traits that it is
// filled from.
type field struct {
	tag    string
	traits []string
}

var defaultFields = []field{
	{"FNAME", []string{"firstName", "first_name", "firstname"}},
	{"LNAME", []string{"lastName", "last_name", "lastname"}},
}

// member returns the person of an event, with what is known of them.
func (c *Connector) member(r *mapping.Record) (member, *connector.Result) {
	if r.Email == "" {
		return member{}, mapping.Refuse(noIdentity, "email", "none found (by default in context.traits.email and data.email, see mapping.email): Mailchimp knows people by it")
	}
	m := member{email: r.Email, status: c.cfg.StatusIfNew, tags: c.cfg.Tags}
	for i := range c.fields {
	search:
		for _, name := range c.fields[i].traits {
			for t := range r.Traits {
				if r.Traits[t].Name == name {
					m.set(c.fields[i].tag, r.Traits[t].Value)
					break search
				}
			}
		}
	}
	if len(c.cfg.Mapping.Traits) == 0 {
		return m, nil
	}
	for _, t := range r.Traits {
		if source := c.cfg.Mapping.Traits[t.Name]; source == nil {
			continue // what is not asked for is not a merge field
		}
		switch t.Name {
		case traitTags:
			m.addTags(t.Value)
		case traitStatus:
			status, _ := mapping.Text(t.Value)
			if !slices.Contains(statuses, status) {
				return m, mapping.Refuse("status_if_new", "mapping.traits."+traitStatus, "is none of "+strings.Join(statuses, ", "))
			}
			m.status = status
		default:
			m.set(t.Name, t.Value)
		}
	}
	return m, nil
}

// path is where a member of an audience is: it is named by the MD5 of the address
// in lower case. Source: Mailchimp Marketing API, Add or update list member (read
// 2026-11).
func (m *member) path(list string) string {
	sum := md5.Sum([]byte(m.email)) //nolint:gosec // see the import
	return list + "/members/" + hex.EncodeToString(sum[:])
}

// set changes a merge field: what comes later wins. Numbers stay numbers, all
// else becomes text, but for an address.
func (m *member) set(tag string, value []byte) {
	if len(value) == 0 || value[0] == 'n' {
		return
	}
	switch {
	case tag == "ADDRESS" && mapping.IsObject(value):
		if value = address(value); value == nil {
			return
		}
	case (value[0] == '-' || value[0] >= '0' && value[0] <= '9') && len(value) <= maxMergeValue:
	case value[0] == '"' && len(value)-2 <= maxMergeValue:
	default:
		text, _ := mapping.Text(value)
		value = event.AppendString(nil, mapping.CutRunes(text, maxMergeValue))
	}
	for i := range m.fields {
		if m.fields[i].tag == tag {
			m.fields[i].value = value
			return
		}
	}
	m.fields = append(m.fields, mergeField{tag, value})
}

// addressParts are the parts of a merge field ADDRESS, the names that they go by
// among traits, and which it cannot be without. Source: Mailchimp Marketing API,
// Merge fields (read 2026-11).
var addressParts = []struct {
	name, other string
	required    bool
}{
	{"addr1", "street", true}, {"addr2", "", false}, {"city", "", true}, {"state", "", true}, {"zip", "postalCode", true}, {"country", "", false},
}

// address returns an address with the names of Mailchimp, nil if a part is
// missing without which it is refused.
func address(object []byte) []byte {
	out := []byte{'{'}
	for _, part := range addressParts {
		var found string
		_ = event.Members(object, func(name string, value []byte) bool { // a flaw ends it: events were checked
			if text, ok := mapping.Text(value); ok && text != "" && (name == part.name || name == part.other && found == "") {
				found = text
			}
			return true
		})
		switch {
		case found != "":
			out = mapping.AppendText(out, part.name, mapping.CutRunes(found, maxMergeValue))
		case part.required:
			return nil
		}
	}
	return append(out, '}')
}

// addTags adds tags: an array of texts, or one text.
func (m *member) addTags(value []byte) {
	var tags []string
	add := func(value []byte) bool {
		if tag, ok := mapping.Text(value); ok && !mapping.IsObject(value) && !mapping.IsArray(value) {
			if tag = strings.TrimSpace(tag); tag != "" {
				tags = append(tags, tag)
			}
		}
		return true
	}
	if mapping.IsArray(value) {
		_ = event.Elements(value, add) // a flaw ends it: events were checked
	} else {
		add(value)
	}
	m.tags = union(m.tags, tags)
}

// union returns the tags of both, each once. It changes neither.
func union(a, b []string) []string {
	if len(b) == 0 {
		return a
	}
	both := slices.Clip(a)
	seen := make(map[string]bool, len(a)+len(b))
	for _, tag := range a {
		seen[tag] = true
	}
	for _, tag := range b {
		if !seen[tag] {
			seen[tag] = true
			both = append(both, tag)
		}
	}
	return both
}

// merge adds what a later event says of the same person. The status is that of
// the earlier one, as if they were sent one after the other: after the first the
// person is in the audience, and their status is not changed.
func (m *member) merge(later *member) {
	for _, f := range later.fields {
		m.set(f.tag, f.value)
	}
	m.tags = union(m.tags, later.tags)
}

// put is the body that writes the member, whether it is there or not. It has no
// status: that would subscribe people again who have left.
func (m *member) put() []byte {
	dst := mapping.AppendText([]byte{'{'}, "email_address", m.email)
	dst = mapping.AppendText(dst, traitStatus, m.status)
	return append(m.appendFields(dst), '}')
}

// putTags is the body that gives the member its tags.
func (m *member) putTags(isSyncing bool) []byte {
	dst := []byte(`{"tags":[`)
	for i, tag := range m.tags {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = event.AppendString(append(dst, `{"name":`...), tag)
		dst = append(dst, `,"status":"active"}`...)
	}
	dst = append(dst, ']')
	if isSyncing {
		dst = append(dst, `,"is_syncing":true`...)
	}
	return append(dst, '}')
}

// together is the body that adds those of some members who are new.
func together(members []member, grouped []int) []byte {
	dst := []byte(`{"members":[`)
	for n, i := range grouped {
		m := &members[i]
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = mapping.AppendText(append(dst, '{'), "email_address", m.email)
		dst = mapping.AppendText(dst, "status", m.status)
		dst = m.appendFields(dst)
		if len(m.tags) > 0 {
			dst = append(dst, `,"tags":[`...)
			for n, tag := range m.tags {
				if n > 0 {
					dst = append(dst, ',')
				}
				dst = event.AppendString(dst, tag)
			}
			dst = append(dst, ']')
		}
		dst = append(dst, '}')
	}
	// With update_existing the status of those who are there would change too.
	return append(dst, `],"sync_tags":false,"update_existing":false}`...)
}

func (m *member) appendFields(dst []byte) []byte {
	if len(m.fields) == 0 {
		return dst
	}
	dst = append(dst, `,"merge_fields":{`...)
	for _, f := range m.fields {
		dst = mapping.AppendMember(dst, f.tag, f.value)
	}
	return append(dst, '}')
}

// isMergeTag reports whether a name may be that of a merge field.
func isMergeTag(s string) bool {
	return s != "" && len(s) <= maxMergeTag && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}
