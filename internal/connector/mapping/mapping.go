// Package mapping turns events into what a vendor's users expect to see: names,
// identities, properties, traits, the clock. Connectors bring defaults, and
// operators change them in the setting "mapping" of a destination, by JSON
// pointers and CEL expressions.
//
// It copies values as they stand in the event, byte for byte; what a vendor
// cannot take of them is the connector's to change.
package mapping

import (
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
)

// Settings are the setting "mapping" of a destination. The zero value changes
// nothing.
//
// A Source says where a value comes from: "/data/plan" is a JSON pointer into
// the event, "= event.data.total * 1.2" a CEL expression over event.
type Settings struct {
	// Events gives events another name at the vendor, by their name or by a
	// prefix such as "order_*" (whose replacement is used as it is); null drops
	// them.
	Events map[string]*string `json:"events"`
	// Unmapped is what happens to track events that Events does not name, if it
	// names any that is not null: "send" under their own name, "drop", or "dead" (a
	// dead letter). Default: the connector's, which is "send" for most.
	Unmapped string `json:"unmapped" validate:"omitempty,oneof=send drop dead"`
	// UserID, AnonymousID and Email say who did it: the first Source that gives a
	// text that is not empty. Default: those of the connector.
	UserID      []string `json:"user_id"`
	AnonymousID []string `json:"anonymous_id"`
	Email       []string `json:"email"`
	// Properties sets properties of the vendor from a Source, besides those that
	// are sent anyway, and in their place if they have the same name; null leaves
	// a property out. Traits does so for the properties of the user.
	Properties map[string]*string `json:"properties"`
	Traits     map[string]*string `json:"traits"`
	// OnlyMapped sends of data nothing but what Properties and Traits name.
	OnlyMapped bool    `json:"only_mapped"`
	Privacy    Privacy `json:"privacy"`
}

// Privacy is applied before anything else is read of an event.
type Privacy struct {
	// Drop and Hash are JSON pointers: what is there is removed, or replaced by
	// the SHA-256 of Salt and it, in hex. As in the transform of a rule.
	Drop []string `json:"drop"`
	Hash []string `json:"hash"`
	Salt string   `json:"salt"`
	// IP is what happens to the address of the user: "keep" (the default), "drop",
	// or "truncate" (the last 8 bits of IPv4 and the last 80 of IPv6 become zero).
	IP string `json:"ip" validate:"omitempty,oneof=keep drop truncate"`
}

// Defaults are what a connector maps when the settings say nothing.
type Defaults struct {
	// Fields are properties that are taken from elsewhere than data, each from the
	// first Source that gives a value: {"$current_url", "/context/page/url"}. A
	// member of data of the same name has precedence.
	Fields []Field
	// UserID, AnonymousID and Email are Sources. Defaults: /user_id; /anonymous_id;
	// /data/email (of identify events), /context/traits/email, /data/email.
	UserID, AnonymousID, Email []string
	// Page and Screen make the name of page and screen events of that in the
	// event: "Viewed %s". Default: the event's name.
	Page, Screen string
	// Unmapped is the default of Settings.Unmapped. Default "send".
	Unmapped string
	// Reserved reports names that neither data nor traits may set at the vendor:
	// they are left out. The settings may set them.
	Reserved func(name string) bool
}

// Field is a property of the vendor and where it comes from.
type Field struct {
	Name    string
	Sources []string
}

// Property is a name and a value in JSON. The value has no white space around it
// and shares memory with the event or the Mapper.
type Property struct {
	Name  string
	Value []byte
}

// Record is an event, mapped. It shares memory with the event, and is valid until
// it is mapped into again.
type Record struct {
	// Event is the event after Privacy.
	Event event.Event
	// Name is the vendor's name of it.
	Name string
	// UserID, AnonymousID and Email are empty where there are none. Email is
	// trimmed and in lower case, and looks like an address.
	UserID, AnonymousID, Email string
	// Time is when it happened: timestamp, else received_at, in UTC; the zero time
	// if neither can be read.
	Time time.Time
	// IP and UserAgent are those of the user, empty where they are not known.
	IP, UserAgent string
	// Properties are those of the event: of Defaults.Fields, data (of track, page
	// and screen events) and Settings.Properties, each name once, null values left
	// out. Traits are those of the user or group: data of identify and group
	// events, context.traits of others, and Settings.Traits.
	Properties, Traits []Property
}

// Refuse is the result of an event that a vendor would not take: a dead letter
// that names the field and the rule.
func Refuse(code, field, rule string) *connector.Result {
	return &connector.Result{Class: connector.Permanent, Code: code, Message: field + ": " + rule}
}

// Drop is the result of an event that the mapping leaves out, and why.
func Drop(code, why string) *connector.Result {
	return &connector.Result{Class: connector.Dropped, Code: code, Message: why}
}
