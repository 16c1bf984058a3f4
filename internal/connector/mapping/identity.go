package mapping

import (
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/router"
)

// maxAddress bounds an e-mail address, in bytes.
// Source: RFC 5321 section 4.5.3.1: 64 before the @, 255 after it.
const maxAddress = 64 + 1 + 255

// mailAddress returns text as an e-mail address: trimmed, in lower case. It is
// empty if text does not look like one.
func mailAddress(text string) string {
	text = strings.TrimSpace(text)
	at := strings.IndexByte(text, '@')
	if at < 1 || at == len(text)-1 || len(text) > maxAddress || strings.IndexByte(text[at+1:], '@') >= 0 ||
		strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return ""
	}
	return strings.ToLower(text)
}

// clock returns when an event happened.
func clock(e *event.Event) time.Time {
	for _, text := range [...]string{e.Timestamp, e.ReceivedAt} {
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
			// Year 1 is what a date that was never set looks like in several languages,
			// and RFC 3339 has no years beyond 9999: those are made by time zones.
			if t = t.UTC(); t.Year() > 1 && t.Year() <= 9999 {
				return t
			}
		}
	}
	return time.Time{}
}

// Past returns when the event happened, and no later than it was received: where
// that is before Time, the sender's clock is fast. Vendors that want the past
// alone overwrite a time in the future, or refuse the event.
func (r *Record) Past() time.Time {
	if r.Event.ReceivedAt == "" || r.Event.Timestamp == "" {
		return r.Time
	}
	received, err := time.Parse(time.RFC3339Nano, r.Event.ReceivedAt)
	if err == nil && r.Time.After(received) {
		return received.UTC()
	}
	return r.Time
}

// address says what happens to the address of the user.
type address uint8

const (
	keepAddress address = iota
	dropAddress
	truncateAddress
)

var (
	contextIP, _     = router.ParsePointer("/context/ip")
	dropIP, _        = router.NewTransform([]string{"/ip", "/context/ip"}, nil, "")
	dropContextIP, _ = router.NewTransform([]string{"/context/ip"}, nil, "")
)

// apply changes the address in the event and in its context. What should be
// truncated and is no address is dropped.
func (a address) apply(e *event.Event) error {
	if a == keepAddress {
		return nil
	}
	if a == dropAddress {
		return dropIP.Apply(e)
	}
	e.IP = truncated(e.IP)
	value, ok := contextIP.Find(e)
	if !ok {
		return nil
	}
	if short := truncated(plainText(value)); short != "" {
		return contextIP.Set(e, event.AppendString(nil, short))
	}
	return dropContextIP.Apply(e)
}

// truncated returns the network of an address, as an address: /24 of IPv4, /48
// of IPv6. It is empty if text is no address.
func truncated(text string) string {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return ""
	}
	addr = addr.Unmap().WithZone("")
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	network, err := addr.Prefix(bits)
	if err != nil {
		return ""
	}
	return network.Addr().String()
}
