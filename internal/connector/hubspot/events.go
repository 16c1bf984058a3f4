package hubspot

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// Limits of events. Source: HubSpot, Send custom event occurrences, Limits (read
// 2026-11): a request that exceeds one fails.
const (
	maxName       = 50   // characters of a property's name
	maxProperties = 50   // of an event
	maxValue      = 256  // characters of a value
	maxURL        = 1024 // characters of the address of a page or a referrer
)

// addEvent puts an event into the last of the calls, or a new one. more is how
// many may follow.
func (c *Connector) addEvent(drafts []*draft, index int, r *mapping.Record, more int) ([]*draft, *connector.Result) {
	id := uuidOf(r.Event.ID)
	if n := len(drafts); n == 0 || len(drafts[n-1].ids) == maxEvents {
		body := make([]byte, 0, min(more, maxEvents)*320)
		drafts = append(drafts, &draft{batch: batch{body: append(body, `{"inputs":[`...)}, byKey: make(map[string]int)})
	}
	d := drafts[len(drafts)-1]
	input, again := d.byKey[id]
	if !again {
		before := len(d.body)
		if len(d.ids) > 0 {
			d.body = append(d.body, ',')
		}
		body, result := c.appendEvent(d.body, id, r)
		if result != nil {
			d.body = body[:before]
			return drafts, result
		}
		input = len(d.ids)
		d.body, d.ids, d.byKey[id] = body, append(d.ids, id), input
	}
	d.events, d.inputs = append(d.events, index), append(d.inputs, input)
	return drafts, nil
}

// appendEvent appends the input of an event.
func (c *Connector) appendEvent(dst []byte, id string, r *mapping.Record) ([]byte, *connector.Result) {
	if !isEventName(r.Name) {
		if c.cfg.Mapping.Unmapped == drop {
			return dst, mapping.Drop("unmapped_event", "name: has no entry in mapping.events")
		}
		return dst, mapping.Refuse("unmapped_event", "name", "mapping.events has no entry that gives the event its name at HubSpot, pe{HubID}_{name}")
	}
	dst = append(dst, `{"eventName":"`...)
	dst = append(append(dst, r.Name...), '"')
	identified := false
	for _, who := range r.Extra {
		if text, ok := mapping.Text(who.Value); ok && text != "" {
			dst = append(append(append(dst, `,"`...), who.Name...), `":`...)
			dst = event.AppendString(dst, text)
			identified = true
		}
	}
	if r.Email != "" {
		dst = event.AppendString(append(dst, `,"email":`...), r.Email)
		identified = true
	}
	if !identified {
		return dst, mapping.Refuse(noIdentity, "email", "none found (by default in context.traits.email and data.email, see mapping.email), nor context.hubspot.object_id or context.hubspot.utk: HubSpot could not tell whose event it is")
	}
	if !r.Time.IsZero() {
		if year := r.Time.Year(); year < 1970 || year > 9999 {
			return dst, mapping.Refuse("timestamp", "timestamp", "is not between the years 1970 and 9999")
		}
		dst = r.Time.AppendFormat(append(dst, `,"occurredAt":"`...), "2006-01-02T15:04:05.000Z")
		dst = append(dst, '"')
	}
	dst = append(append(append(dst, `,"uuid":"`...), id...), `","properties":{`...)
	dst, result := c.appendProperties(dst, r.Properties)
	return append(dst, `}}`...), result
}

// appendProperties appends the members of properties.
func (c *Connector) appendProperties(dst []byte, properties []mapping.Property) ([]byte, *connector.Result) {
	var names [maxProperties]string
	n := 0
next:
	for i := range properties {
		p := &properties[i]
		name := p.Name
		if !isProperty(name) {
			if name = mapping.Snake(name, maxName); name == "" {
				continue // HubSpot can have no property of such a name
			}
		}
		// The address is whose event it is, not what it is about.
		if c.listed != nil && !c.listed[name] || name == "email" && !c.sendsEmail {
			continue
		}
		for _, other := range names[:n] {
			if other == name {
				continue next
			}
		}
		limit := maxValue
		switch name {
		case "url", "referrer", "hs_url", "hs_page_url", "hs_referrer":
			limit = maxURL
		}
		if n == maxProperties {
			return dst, mapping.Refuse("too_many_properties", "data", fmt.Sprintf("has more than %d properties, the most that HubSpot takes; name those to send in the setting properties", maxProperties))
		}
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), name...), `":`...)
		var long bool
		if dst, long = appendValue(dst, p.Value, limit); long && c.cfg.LongValues == refuse {
			return dst, mapping.Refuse("too_long", "data."+p.Name, fmt.Sprintf("has more than %d characters, the most that HubSpot takes", limit))
		}
		names[n] = name
		n++
	}
	return dst, nil
}

// appendValue appends a value as HubSpot takes all values, as a string of at most
// limit characters; long says that it had more. An array of plain values becomes
// "a;b;c", an object its JSON text.
func appendValue(dst, value []byte, limit int) (_ []byte, long bool) {
	if !mapping.IsArray(value) {
		return mapping.AppendAsText(dst, value, limit)
	}
	text := joined(value)
	short := mapping.CutRunes(text, limit)
	return event.AppendString(dst, short), len(short) < len(text)
}

// joined returns the values of an array with semicolons between them, as HubSpot
// has the values of a property with several; as it is written if not all are
// plain. Null is left out.
func joined(array []byte) string {
	var b strings.Builder
	plain := true
	err := event.Elements(array, func(value []byte) bool {
		plain = !mapping.IsObject(value) && !mapping.IsArray(value)
		if one, ok := mapping.Text(value); ok && plain {
			if b.Len() > 0 {
				b.WriteByte(';')
			}
			b.WriteString(one)
		}
		return plain
	})
	if err != nil || !plain {
		return string(array)
	}
	return b.String()
}

// isEventName reports whether a name has HubSpot's form, pe{HubID}_{name}.
func isEventName(name string) bool {
	rest, ok := strings.CutPrefix(name, "pe")
	hub, name, found := strings.Cut(rest, "_")
	return ok && found && hub != "" && name != "" && only(hub, "") && only(name, "abcdefghijklmnopqrstuvwxyz_-")
}

// only reports whether a text is made of digits and some more characters.
func only(s, more string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return true
}

// isProperty reports whether a name may be that of a property.
func isProperty(name string) bool {
	if len(name) == 0 || len(name) > maxName || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for i := 1; i < len(name); i++ {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// uuidOf returns the id of an event as a UUID: HubSpot calls the field so. An id
// that is none is replaced by a UUID of version 8 (RFC 9562) made of its
// SHA-256, always the same.
func uuidOf(id string) string {
	if isUUID(id) {
		return strings.ToLower(id)
	}
	sum := sha256.Sum256([]byte(id))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	var b [36]byte
	hex.Encode(b[:8], sum[:4])
	hex.Encode(b[9:13], sum[4:6])
	hex.Encode(b[14:18], sum[6:8])
	hex.Encode(b[19:23], sum[8:10])
	hex.Encode(b[24:], sum[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f'):
			return false
		}
	}
	return true
}
