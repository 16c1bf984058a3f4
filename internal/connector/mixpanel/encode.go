package mixpanel

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// Limits of an event. Source: Mixpanel, Import Events (read 2026-11).
const (
	maxItem       = 1_000_000 // "smaller than 1MB of uncompressed JSON"
	maxProperties = 254       // "fewer than 255 properties"
	maxItems      = 254       // of an array: "fewer than 255 elements"
	maxKeys       = 254       // of a nested object: "fewer than 255 keys"
	maxDepth      = 3         // "a max nesting depth is 3"
	maxText       = 255       // "We truncate all strings down to 255 characters"
	maxInsertID   = 36        // "≤ 36 bytes"
)

// oldest is the earliest time of an event: "We will reject events with time
// values that are before 1971-01-01".
var oldest = time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC)

// refusedIDs are what neither distinct_id nor $insert_id may be.
// Source: Mixpanel, Import Events (read 2026-11).
var refusedIDs = []string{
	"00000000-0000-0000-0000-000000000000", "anon", "anonymous", "nil", "none", "null", "n/a", "na",
	"undefined", "unknown", "<nil>", "0", "-1", "true", "false", "[]", "{}",
}

// longestRefused other than the first, so that most ids are not compared.
const longestRefused = len("anonymous")

func refused(id string) bool {
	if len(id) > longestRefused && len(id) != len(refusedIDs[0]) {
		return false
	}
	return slices.Contains(refusedIDs, id)
}

// reserved are the properties that the connector sets, and token, which would
// send an event to another project.
func reserved(name string) bool {
	switch name {
	case "time", "distinct_id", "$insert_id", "$user_id", "$device_id", "ip", "token":
		return true
	}
	return false
}

// defaults returns what is mapped when the settings say nothing.
func defaults(groupKey string) mapping.Defaults {
	fields := slices.Clone(contextFields)
	if groupKey != "" {
		fields = append(fields, mapping.Field{Name: groupKey, Sources: []string{"/context/groupId", "/context/extra/groupId"}})
	}
	return mapping.Defaults{
		Fields: fields, Extra: []mapping.Field{{Name: "group_id", Sources: groupIDs}},
		Page: "Viewed %s", Screen: "Viewed %s", Reserved: reserved,
	}
}

// contextFields are Mixpanel's names of what SDKs put into context.
// Source: Mixpanel, Default Properties, and the mapping of its two largest
// senders (read 2026-11).
var contextFields = []mapping.Field{
	{Name: "$current_url", Sources: []string{"/context/page/url"}},
	{Name: "$referrer", Sources: []string{"/context/page/referrer"}},
	{Name: "$os", Sources: []string{"/context/os/name"}},
	{Name: "$os_version", Sources: []string{"/context/os/version"}},
	{Name: "$browser", Sources: []string{"/context/browser/name"}},
	{Name: "$browser_version", Sources: []string{"/context/browser/version"}},
	{Name: "$screen_width", Sources: []string{"/context/screen/width"}},
	{Name: "$screen_height", Sources: []string{"/context/screen/height"}},
	{Name: "$screen_density", Sources: []string{"/context/screen/density"}},
	{Name: "$manufacturer", Sources: []string{"/context/device/manufacturer"}},
	{Name: "$model", Sources: []string{"/context/device/model"}},
	{Name: "$device_type", Sources: []string{"/context/device/type"}},
	{Name: "$carrier", Sources: []string{"/context/network/carrier"}},
	{Name: "$wifi", Sources: []string{"/context/network/wifi"}},
	{Name: "$app_name", Sources: []string{"/context/app/name"}},
	{Name: "$app_version_string", Sources: []string{"/context/app/version"}},
	{Name: "$app_build_number", Sources: []string{"/context/app/build"}},
	{Name: "$locale", Sources: []string{"/context/locale"}},
	{Name: "mp_lib", Sources: []string{"/context/library/name"}},
	{Name: "$lib_version", Sources: []string{"/context/library/version"}},
	{Name: "utm_source", Sources: []string{"/context/campaign/source"}},
	{Name: "utm_medium", Sources: []string{"/context/campaign/medium"}},
	{Name: "utm_campaign", Sources: []string{"/context/campaign/name"}},
	{Name: "utm_term", Sources: []string{"/context/campaign/term"}},
	{Name: "utm_content", Sources: []string{"/context/campaign/content"}},
}

// encode appends the element that an event becomes, or says why it is none.
func (c *Connector) encode(dst []byte, to resource, r *mapping.Record) (item []byte, said note, done *connector.Result) {
	switch to {
	case profiles:
		item, done = c.profile(dst, r)
	case groups:
		item, done = c.group(dst, r)
	default:
		item, said, done = c.event(dst, r)
	}
	if done == nil && len(item) >= maxItem {
		done = mapping.Refuse("too_large", "event", fmt.Sprintf("it has %d bytes at Mixpanel, which takes fewer than %d", len(item), maxItem))
	}
	return item, said, done
}

// nobody says that an id was left out.
func nobody(name, id string) note {
	return note{code: "identity", text: fmt.Sprintf("%s: %q is a value that Mixpanel refuses; the event was sent without it", name, id)}
}

// event appends an element of Import Events. Of somebody who is known by a device
// alone distinct_id is what Mixpanel makes of $device_id: only that becomes the
// user's by the first event that has both.
// Source: Mixpanel, Identifying Users (Simplified) (read 2026-11).
func (c *Connector) event(dst []byte, r *mapping.Record) (item []byte, said note, done *connector.Result) {
	at, done := moment(r)
	if done != nil {
		return dst, said, done
	}
	user, device := r.UserID, r.AnonymousID
	if refused(device) {
		said, device = nobody("anonymous_id", device), ""
	}
	if refused(user) {
		said, user = nobody("user_id", user), ""
	}
	dst = mapping.AppendText(append(dst, '{'), "event", r.Name)
	dst = append(dst, `,"properties":{"time":`...)
	dst = strconv.AppendInt(dst, at.UnixMilli(), 10)
	dst = append(dst, `,"distinct_id":`...)
	if user == "" && device != "" {
		dst = append(dst, `"$device`...)
		at := len(dst)
		dst = event.AppendString(dst, device)
		dst[at] = ':' // where its quotation mark was
	} else {
		dst = event.AppendString(dst, user)
	}
	n := 4 + len(r.Properties) // time, distinct_id, $insert_id, ip
	if user != "" {
		dst = mapping.AppendText(dst, "$user_id", user)
		n++
	}
	if device != "" {
		dst = mapping.AppendText(dst, "$device_id", device)
		n++
	}
	dst = append(dst, `,"$insert_id":"`...)
	dst = append(appendInsertID(dst, r.Event.ID), '"')
	if r.IP != "" {
		dst = mapping.AppendText(dst, "ip", r.IP)
	} else {
		dst = append(dst, `,"ip":0`...)
	}
	if n > maxProperties {
		return dst, said, mapping.Refuse("too_many_properties", "data", fmt.Sprintf("the event would have %d properties at Mixpanel, which takes %d", n, maxProperties))
	}
	for i := range r.Properties {
		p := &r.Properties[i]
		if done := fits(p); done != nil {
			return dst, said, done
		}
		dst = mapping.AppendMember(dst, p.Name, short(p.Value))
	}
	return append(dst, "}}"...), said, nil
}

// moment returns when an event happened. A time in the future Mixpanel overwrites
// with its own clock, or refuses, and with it would go what it knows the event by.
func moment(r *mapping.Record) (time.Time, *connector.Result) {
	at := r.Past()
	switch {
	case at.IsZero():
		return at, mapping.Refuse("no_time", "timestamp", "is missing or no time, and there is no received_at")
	case at.Before(oldest):
		return at, mapping.Refuse("too_old", "timestamp", "is before 1971-01-01, and Mixpanel takes nothing older")
	}
	return at, nil
}

// appendInsertID appends an event's id as Mixpanel takes it: as it is if it has
// at most 36 letters, digits and hyphens, else the beginning of its SHA-256.
func appendInsertID(dst []byte, id string) []byte {
	if len(id) > 0 && len(id) <= maxInsertID && plain(id) && !refused(id) {
		return append(dst, id...)
	}
	hash := sha256.Sum256([]byte(id))
	return hex.AppendEncode(dst, hash[:maxInsertID/2])
}

// plain reports whether an id is made of letters, digits and hyphens.
func plain(id string) bool {
	for i := range len(id) {
		c := id[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// short returns a value as it stands, or, of a text that is surely longer than
// what Mixpanel keeps, that. A character has at most 12 bytes in JSON.
func short(value []byte) []byte {
	if len(value) <= 4*maxText || value[0] != '"' {
		return value
	}
	text, err := event.Unquote(value)
	if err != nil {
		return value
	}
	return event.AppendString(nil, mapping.CutRunes(text, maxText))
}

// fits says what Mixpanel has against the value of a property.
func fits(p *mapping.Property) *connector.Result {
	if p.Value[0] != '{' && p.Value[0] != '[' {
		return nil
	}
	code, rule := shape(p.Value)
	if code == "" {
		return nil
	}
	return mapping.Refuse(code, "property "+p.Name, rule)
}

// shape checks how an object or array is nested. The value is JSON.
func shape(value []byte) (code, rule string) {
	var (
		room    [16]int
		members = room[:0] // of each value that is open
		kinds   uint64     // a bit for each: it is an object; those beyond 64 levels are arrays
		depth   int        // of objects
	)
	for i := 0; i < len(value); i++ {
		switch c := value[i]; c {
		case '"':
			for i++; i < len(value) && value[i] != '"'; i++ {
				if value[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if bit := uint64(1) << len(members); c == '{' {
				kinds |= bit
				if depth++; depth > maxDepth {
					return "too_deep", fmt.Sprintf("objects are nested deeper than the %d levels that Mixpanel takes", maxDepth)
				}
			} else {
				kinds &^= bit
			}
			members = append(members, 1)
		case '}', ']':
			if len(members) == 0 {
				return "", ""
			}
			members = members[:len(members)-1]
			if c == '}' {
				depth--
			}
		case ',':
			if len(members) == 0 {
				return "", ""
			}
			n := &members[len(members)-1]
			if *n++; kinds>>(len(members)-1)&1 == 1 {
				if *n > maxKeys {
					return "too_many_keys", fmt.Sprintf("an object has more than the %d keys that Mixpanel takes", maxKeys)
				}
			} else if *n > maxItems {
				return "too_many_items", fmt.Sprintf("an array has more than the %d items that Mixpanel takes", maxItems)
			}
		}
	}
	return "", ""
}

// profile appends an element of /engage.
func (c *Connector) profile(dst []byte, r *mapping.Record) ([]byte, *connector.Result) {
	id, prefix := r.UserID, ""
	if id == "" || refused(id) {
		id, prefix = r.AnonymousID, "$device:" // as of events
	}
	switch {
	case id == "" || refused(id):
		return dst, mapping.Refuse("no_identity", "user_id", "a profile needs a user_id, or an anonymous_id, that is none of the values that Mixpanel refuses")
	case len(r.Traits) == 0:
		return dst, mapping.Drop("no_traits", "there is nothing to set in the profile")
	}
	dst = append(append(dst, `{"$token":`...), c.token...)
	dst = mapping.AppendText(dst, "$distinct_id", prefix+id)
	if r.IP != "" {
		dst = mapping.AppendText(dst, "$ip", r.IP)
	}
	dst = append(dst, `,"$set":{`...)
	used := uint(0) // of profileNames
	for i := range r.Traits {
		if n := slices.Index(profileNames[:], r.Traits[i].Name); n >= 0 {
			used |= 1 << n
		}
	}
	for i := range r.Traits {
		p := &r.Traits[i]
		name := p.Name
		if n := profileName(name); n >= 0 && used>>n&1 == 0 {
			used |= 1 << n
			name = profileNames[n]
		}
		dst = mapping.AppendMember(dst, name, p.Value)
	}
	return append(dst, "}}"...), nil
}

// profileNames are properties of a profile that Mixpanel shows by itself.
// Source: Mixpanel, Reserved profile properties (read 2026-11).
var profileNames = [...]string{"$email", "$name", "$first_name", "$last_name", "$phone", "$created", "$avatar"}

// profileName returns the index in profileNames of a trait, or -1.
func profileName(trait string) int {
	switch trait {
	case "email":
		return 0
	case "name":
		return 1
	case "first_name", "firstName":
		return 2
	case "last_name", "lastName":
		return 3
	case "phone":
		return 4
	case "created_at", "createdAt":
		return 5
	case "avatar":
		return 6
	}
	return -1
}

// groupIDs are where the id of a group is looked for.
var groupIDs = []string{"/data/group_id", "/data/groupId", "/context/groupId", "/context/extra/groupId"}

// group appends an element of /groups.
func (c *Connector) group(dst []byte, r *mapping.Record) ([]byte, *connector.Result) {
	value := r.Extra[0].Value
	id, _ := mapping.Text(value)
	if id == "" || mapping.IsObject(value) || mapping.IsArray(value) {
		return dst, mapping.Refuse("no_group_id", "data.group_id", "is missing or no text and no number, and so is context.groupId")
	}
	dst = append(append(dst, `{"$token":`...), c.token...)
	dst = mapping.AppendText(dst, "$group_key", c.cfg.GroupKey)
	dst = mapping.AppendText(dst, "$group_id", id)
	dst = append(dst, `,"$set":{`...)
	empty := len(dst)
	for i := range r.Traits {
		if name := r.Traits[i].Name; name != "group_id" && name != "groupId" {
			if name == "name" {
				name = "$name"
			}
			dst = mapping.AppendMember(dst, name, r.Traits[i].Value)
		}
	}
	if len(dst) == empty {
		return dst, mapping.Drop("no_traits", "there is nothing to set in the group's profile")
	}
	return append(dst, "}}"...), nil
}
