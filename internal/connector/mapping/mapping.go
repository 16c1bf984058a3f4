// Package mapping turns events into what a vendor's users expect to see: names,
// identities, properties, traits, the clock. Connectors bring defaults, and
// operators change them in the setting "mapping" of a destination, by JSON
// pointers and CEL expressions.
//
// It copies values as they stand in the event, byte for byte; what a vendor
// cannot take of them is the connector's to change. It relies on the check that
// every event has behind it (event.ParseStored), and goes through data and
// context once, whatever is wanted of them.
package mapping

import (
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
)

// Settings are the setting "mapping" of a destination. The zero value changes
// nothing.
//
// A Source says where a value comes from. "/data/plan" is a JSON pointer (RFC
// 6901) into the event: to its fields id, type, name, user_id, anonymous_id,
// timestamp, received_at, source and ip, which are texts, or into data or
// context. "= event.data.total * 1.2" is a CEL expression over event, in the
// language and with the bounds that "when" has in rules; "= 'web'" is a fixed
// text. A Source gives no value if there is nothing at the pointer, or null; if
// the expression gives null, or cannot be evaluated for the event, because a
// member that it reads is missing or of another type.
type Settings struct {
	// Events gives events another name at the vendor, by their name or by a
	// prefix such as "order_*" (whose replacement is used as it is); null drops
	// them. A name goes before a prefix, and a longer prefix before a shorter one.
	// It applies to events of all types, by the name that they have in the event:
	// to a page "Pricing", not "Viewed Pricing".
	Events map[string]*string `json:"events" doc:"other names of events at the vendor, by name or prefix (order_*); null leaves them out"`
	// Unmapped is what happens to track events that Events does not name, if it
	// names any that is not null: "send" under their own name, "drop", or "dead" (a
	// dead letter of code unmapped_event). Default: the connector's, which is
	// "send" for most.
	Unmapped string `json:"unmapped" doc:"what happens to track events that events does not name: send, drop or dead"`
	// UserID, AnonymousID and Email say who did it: the first Source that gives a
	// text that is not empty, or a number; for Email, one that looks like an
	// address. Default: those of the connector. An empty list is nobody.
	UserID      []string `json:"user_id" doc:"where the user id is: JSON pointers or CEL expressions, the first that gives one"`
	AnonymousID []string `json:"anonymous_id" doc:"where the anonymous id is"`
	Email       []string `json:"email" doc:"where the e-mail address is"`
	// Properties sets properties of the vendor from a Source, besides those that
	// are sent anyway, and in their place if they have the same name, also if the
	// Source gives no value; null leaves a property out. Traits does so for the
	// properties of the user.
	Properties map[string]*string `json:"properties" doc:"properties of events and where they come from; null leaves one out"`
	Traits     map[string]*string `json:"traits" doc:"properties of users and where they come from; null leaves one out"`
	// OnlyMapped sends of data and of context.traits nothing but what Properties
	// and Traits name. What the connector takes from elsewhere in context stays.
	OnlyMapped bool    `json:"only_mapped" doc:"send of data and of context.traits nothing but what properties and traits name"`
	Privacy    Privacy `json:"privacy"`
}

// Privacy is applied before anything else is read of an event.
type Privacy struct {
	// Drop and Hash are JSON pointers: what is there is removed, or replaced by
	// the SHA-256 of Salt and it, in hex. As in the transform of a rule.
	Drop []string `json:"drop" doc:"JSON pointers to what is removed before all else"`
	Hash []string `json:"hash" doc:"JSON pointers to what is replaced by the SHA-256 of salt and it"`
	Salt string   `json:"salt" doc:"what is put before a value that is hashed"`
	// IP is what happens to the address of the user, in ip and in context.ip:
	// "keep" (the default), "drop", or "truncate" (the last 8 bits of IPv4 and the
	// last 80 of IPv6 become zero; what is no address is dropped). It comes before
	// Drop and Hash.
	IP string `json:"ip" doc:"the address of the user: keep, drop or truncate"`
}

// Defaults are what a connector maps when the settings say nothing.
type Defaults struct {
	// Fields are properties that are taken from elsewhere than data, each from the
	// first Source that gives a value: {"$current_url", "/context/page/url"}. A
	// member of data of the same name has precedence, unless it is Reserved.
	Fields []Field
	// Extra are values that a connector needs and that are no properties, such as
	// {"client_id", "/context/ga/client_id"}: they go to Record.Extra.
	Extra []Field
	// UserID, AnonymousID and Email are Sources. Defaults: /user_id; /anonymous_id;
	// /data/email (of identify events), /context/traits/email, /data/email (of
	// other events, but not of group events, where it is the group's).
	UserID, AnonymousID, Email []string
	// Page and Screen make the name of page and screen events of that in the
	// event: "Viewed %s". An event without a name, or whose name is its type, has
	// data.title or data.name instead, else the type. Without %s it is the name.
	// Default: the event's name.
	Page, Screen string
	// Unmapped is the default of Settings.Unmapped. Default "send".
	Unmapped string
	// Reserved reports names that neither data nor traits may set at the vendor:
	// they are left out. The settings may set them, and Fields.
	Reserved func(name string) bool
}

// Field is a property of the vendor and where it comes from.
type Field struct {
	Name    string
	Sources []string
}

// Property is a name and a value in JSON. The value has no white space around it
// and shares memory with the event, the Mapper or the Record; it never changes.
type Property struct {
	Name  string
	Value []byte
}

// Record is an event, mapped. It shares memory with the event. What it holds is
// valid until it is mapped into again; texts and values also after that, its
// slices not. It is not safe for concurrent use and must not be copied.
type Record struct {
	// Event is the event after Privacy.
	Event event.Event
	// Name is the vendor's name of it.
	Name string
	// UserID, AnonymousID and Email are empty where there are none. Email is
	// trimmed and in lower case, and looks like an address: one @ with something
	// on both sides, and no space.
	UserID, AnonymousID, Email string
	// Time is when it happened: timestamp, else received_at, in UTC; the zero time
	// if neither can be read. Its year is 2 to 9999: what is in year 1 was never
	// set.
	Time time.Time
	// IP and UserAgent are those of the user, empty where they are not known: what
	// context says, which a server sends for its users, and for IP else the address
	// that sent the event.
	IP, UserAgent string
	// Properties are those of the event: data (of track, page and screen events),
	// Defaults.Fields and Settings.Properties in this order, each name once, null
	// values left out. Traits are those of the user or group: data of identify,
	// group and alias events, context.traits of others, and Settings.Traits.
	Properties, Traits []Property
	// Extra has the values of Defaults.Extra, by the same index; the value is nil
	// if there is none.
	Extra []Property

	work *work
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
