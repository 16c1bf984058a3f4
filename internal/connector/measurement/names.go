package measurement

import (
	_ "embed"
	"encoding/json"
	"strings"

	"github.com/eventsluice/sluice/internal/connector/mapping"
)

// reservedFile holds the names that Google Analytics keeps for itself. Source:
// Google, Measurement Protocol reference, "Reserved names", and Analytics Help,
// "Event naming rules" (read 2026-11).
//
//go:embed reserved-names.json
var reservedFile []byte

var reserved = readReserved(reservedFile)

// names are those that cannot be given to one's own.
type names struct {
	events, properties              map[string]bool
	paramPrefixes, propertyPrefixes []string
}

func readReserved(file []byte) *names {
	var lists struct {
		Events           []string `json:"event_names"`
		ParamPrefixes    []string `json:"param_prefixes"`
		Properties       []string `json:"user_property_names"`
		PropertyPrefixes []string `json:"user_property_prefixes"`
	}
	if err := json.Unmarshal(file, &lists); err != nil {
		panic(err) // it is part of the program
	}
	set := func(list []string) map[string]bool {
		m := make(map[string]bool, len(list))
		for _, name := range list {
			m[name] = true
		}
		return m
	}
	return &names{set(lists.Events), set(lists.Properties), lists.ParamPrefixes, lists.PropertyPrefixes}
}

// event, param and property report whether a name is reserved.
func (n *names) event(name string) bool { return n.events[name] || hasPrefix(name, n.paramPrefixes) }
func (n *names) param(name string) bool { return hasPrefix(name, n.paramPrefixes) }
func (n *names) property(name string) bool {
	return n.properties[name] || hasPrefix(name, n.propertyPrefixes)
}

func hasPrefix(name string, prefixes []string) bool {
	if name == "" || name[0] != '_' && name[0] != 'f' && name[0] != 'g' { // as all of them begin, see the tests
		return false
	}
	for _, prefix := range prefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// snake is mapping.Snake, and returns a name that is one already as it is.
func snake(name string, limit int) string {
	if len(name) > limit || name == "" || name[0]-'a' > 'z'-'a' || name[len(name)-1] == '_' {
		return mapping.Snake(name, limit)
	}
	for i := 1; i < len(name); i++ {
		c := name[i]
		switch {
		case c-'a' <= 'z'-'a', c-'0' <= 9:
		case c == '_' && name[i-1] != '_':
		default:
			return mapping.Snake(name, limit)
		}
	}
	return name
}

// Personal reports names that hold what identifies a person, which must not be sent
// to Google Analytics in the clear: they are not spread. Source: Analytics Help,
// "Best practices to avoid sending Personally Identifiable Information" (read
// 2026-11).
func Personal(name string) bool {
	switch name {
	case "email", "Email", "email_address", "emailAddress", "phone", "Phone", "phone_number", "phoneNumber":
		return true
	}
	return false
}

// personalTrait are those that are so in traits alone: data has products with a
// name.
func personalTrait(name string) bool {
	switch name {
	case "name", "first_name", "firstName", "last_name", "lastName", "username", "address", "street", "birthday", "avatar":
		return true
	}
	return false
}
