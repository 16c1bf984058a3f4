// Package protocol says how requests of other collectors' SDKs are read, and
// holds what their readers share. Each protocol is a folder below it.
//
// A Decoder knows the form of its requests and nothing of keys, limits, the
// stream or the quarantine: those are the gateway's, and the same for all.
package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unsafe"

	"github.com/eventsluice/sluice/internal/event"
)

// Request is a request as a Decoder sees it. The gateway has read and
// decompressed the body.
type Request struct {
	// Method, Path and Query are those of the URL; the path has no slash at
	// its end.
	Method, Path, Query string
	Header              http.Header
	// Body is the body, or what takes its place in the query of a GET.
	Body []byte
	// Type is the type of the route's events (event.TypeTrack …); "" where the
	// events say it themselves.
	Type string
	// Received is when the request came, by the gateway's clock.
	Received time.Time
	// Limits bound one event.
	Limits event.Limits
}

// Decoder takes requests of one protocol apart. It keeps its memory from one
// request to the next, and is used by one at a time:
//
//	err := d.Open(&request, present)  // the keys in the request
//	…                                 // the gateway admits or refuses the key
//	err = d.Events(take)              // the events in it
type Decoder interface {
	// Open looks at the request as a whole and calls present with each key
	// that is in its body, in the order in which they count; those in headers
	// and in the query parameters write_key and writeKey are the gateway's. The
	// error is an *event.Invalid: nothing of the request can be read. Its code
	// is CodeEmpty, CodeConflict, CodeEncoding or one of event.
	Open(r *Request, present func(key string)) error
	// Events calls yield with the events of the request that was opened, in
	// their order, until it returns false. If invalid is nil the event is in ev,
	// whose memory is the Decoder's and the body's until the next one; otherwise
	// ev means nothing, and invalid says what is wrong with this event alone.
	// raw is the event as sent, as a JSON document wherever the protocol has
	// one. An error means that nothing of the request may be accepted, events
	// that were good included; it is as that of Open.
	Events(yield func(ev *event.Event, invalid *event.Invalid, raw []byte) bool) error
	// Event reads one event again from the raw form that Events gave out, by
	// the rules of r, of which it needs Path, Type, Received and Limits only.
	Event(r *Request, raw []byte, ev *event.Event) *event.Invalid
	// Reset lets go of the request. Buffers larger than keep bytes go as well.
	Reset(keep int)
}

// Codes of an *event.Invalid besides those of event. Open and Events return
// the first three for whole requests, the last two are of single events too.
const (
	CodeEmpty    = "empty_body"       // there is nothing in it
	CodeConflict = "conflicting_keys" // it has events of more than one key
	CodeEncoding = "invalid_encoding" // not the base64, or the form, that it says it is
	CodeVersion  = "unknown_version"  // a version of the protocol that is not read
)

// The most bytes of what names things, as for events sent in our own form.
const (
	MaxNameBytes = 512
	MaxIDBytes   = 256
	MaxUserBytes = 512
)

// AsInvalid returns the *event.Invalid in err, or makes one.
func AsInvalid(err error) *event.Invalid {
	if invalid, ok := errors.AsType[*event.Invalid](err); ok {
		return invalid
	}
	return &event.Invalid{Code: event.CodeInvalidJSON, Detail: err.Error()}
}

// CheckEvent checks that raw is one JSON object within the limits of an event.
func CheckEvent(raw []byte, limits event.Limits) *event.Invalid {
	limits.MaxDepth++ // it counts from the value of a member, and this is the whole
	if err := event.Check(raw, limits); err != nil {
		return AsInvalid(err)
	}
	if raw[0] != '{' {
		return &event.Invalid{Code: event.CodeInvalidType, Detail: "an event is a JSON object"}
	}
	return nil
}

// ReadEvent checks an event as CheckEvent does, and calls visit for its members.
func ReadEvent(raw []byte, limits event.Limits, visit func(name string, value []byte) bool) *event.Invalid {
	if invalid := CheckEvent(raw, limits); invalid != nil {
		return invalid
	}
	if err := event.Members(raw, visit); err != nil {
		return AsInvalid(err)
	}
	return nil
}

// Object says that a value is no object; nil, which is missing, may be one.
func Object(pointer string, value []byte) *event.Invalid {
	if value == nil || value[0] == '{' {
		return nil
	}
	return &event.Invalid{Pointer: pointer, Code: event.CodeInvalidType, Detail: "this field is an object"}
}

// TooLarge says that an event has more bytes than the limits allow.
func TooLarge(n int, limits event.Limits) *event.Invalid {
	return &event.Invalid{
		Code:   event.CodeTooLarge,
		Detail: fmt.Sprintf("it has %d bytes, at most %d are allowed", n, limits.MaxBytes),
	}
}

// Text returns what a JSON string means; with numbers, also a number as its
// text. A nil value is empty. most bounds its bytes, if it is not zero. The
// result may share memory with value.
func Text(pointer string, value []byte, most int, numbers bool) (string, *event.Invalid) {
	if value == nil {
		return "", nil
	}
	var s string
	switch c := value[0]; {
	case c == '"':
		var err error
		if s, err = event.Unquote(value); err != nil {
			return "", AsInvalid(err)
		}
	case numbers && (c == '-' || c >= '0' && c <= '9'):
		s = View(value)
	default:
		want := "a string"
		if numbers {
			want = "a string or a number"
		}
		return "", &event.Invalid{Pointer: pointer, Code: event.CodeInvalidType, Detail: "this field is " + want}
	}
	if invalid := Within(pointer, s, most); invalid != nil {
		return "", invalid
	}
	return s, nil
}

// Within says that s is too long, if it has more than most bytes; zero is no
// limit.
func Within(pointer, s string, most int) *event.Invalid {
	if most == 0 || len(s) <= most {
		return nil
	}
	return &event.Invalid{
		Pointer: pointer, Code: event.CodeTooLong,
		Detail: fmt.Sprintf("it has %d bytes, at most %d are allowed", len(s), most),
	}
}

// Time reads a JSON string with a time of RFC 3339, of the years 1 to 9999.
func Time(value []byte) (time.Time, bool) {
	if len(value) < 2 || value[0] != '"' {
		return time.Time{}, false
	}
	text := View(value[1 : len(value)-1])
	if !event.IsTimestamp(text) {
		return time.Time{}, false // time.Parse reads more than that
	}
	t, err := time.Parse(time.RFC3339, text)
	// In UTC, as it is stored: a zone can lead over the end of a year.
	if year := t.UTC().Year(); err != nil || year < 1 || year > 9999 {
		return time.Time{}, false
	}
	return t, true
}

// AppendTime appends a time as events carry it: RFC 3339 in UTC with three
// digits of a second, so that times sort as text. (The package time is slow at
// layouts other than its own.)
func AppendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	dst = t.AppendFormat(dst, time.RFC3339)
	ms := t.Nanosecond() / 1e6
	return append(dst[:len(dst)-1], '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

// Corrected is when something happened by the gateway's clock: a phone whose
// clock is an hour late has sent it an hour late by the same clock, so that
//
//	happened + (received - sent)
//
// is when it happened. What would leave the years of RFC 3339 stays as it is.
func Corrected(happened, sent, received time.Time) time.Time {
	at := happened.Add(received.Sub(sent)).UTC()
	if at.Year() < 1 || at.Year() > 9999 {
		return happened.UTC()
	}
	return at
}

// OneKey presents the key of a request in which each event names one. It must
// be the same for all: the gateway accepts a request for one key.
type OneKey struct {
	// Present is the function that Open was given.
	Present func(key string)

	key      []byte // as it stands in the first event
	conflict bool
}

// Add takes the key of an event, a JSON value; what is no string, or empty, is
// no key. It must not change before Err was called.
func (k *OneKey) Add(value []byte) {
	if len(value) < 3 || value[0] != '"' || bytes.Equal(value, k.key) {
		return
	}
	text, err := event.Unquote(value)
	if err != nil {
		return // the event is invalid
	}
	if k.key == nil {
		k.key = value
		k.Present(text)
		return
	}
	first, _ := event.Unquote(k.key)
	k.conflict = k.conflict || text != first
}

// Found reports whether there was a key.
func (k *OneKey) Found() bool { return k.key != nil }

// Err returns that there was more than one key.
func (k *OneKey) Err() error {
	if k.conflict {
		return &event.Invalid{Code: CodeConflict, Detail: "the request has events of more than one key; send them apart"}
	}
	return nil
}

// View returns a string that shares the memory of b, which must not change
// while the string is in use. It is for events on their way into the batch,
// which copies them.
func View(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Members is members of a JSON object without its braces, as event.Event.Extra
// holds them, and as data and context are built of.
type Members []byte

// Add appends a member; value is a JSON value. A nil value adds nothing.
func (m *Members) Add(name string, value []byte) {
	if value == nil {
		return
	}
	m.name(name)
	*m = append(*m, value...)
}

// AddText appends a member that is a string; an empty one adds nothing.
func (m *Members) AddText(name, value string) {
	if value == "" {
		return
	}
	m.name(name)
	*m = event.AppendString(*m, value)
}

// AddTime appends a member that is a time of RFC 3339.
func (m *Members) AddTime(name string, t time.Time) {
	m.name(name)
	*m = append(t.AppendFormat(append(*m, '"'), time.RFC3339Nano), '"')
}

func (m *Members) name(name string) {
	if len(*m) > 0 {
		*m = append(*m, ',')
	}
	*m = append(event.AppendString(*m, name), ':')
}

// AppendObject appends the members in braces.
func (m Members) AppendObject(dst []byte) []byte {
	return append(append(append(dst, '{'), m...), '}')
}

// AppendWithout appends an object, which was checked, without those of its
// members that drop names; the bytes of the others stay as they are.
func AppendWithout(dst, object []byte, drop func(name string) bool) []byte {
	dst, _ = event.AppendMembers(append(dst, '{'), object, drop)
	return append(dst, '}')
}

// Keep returns b emptied for the next use, or nil if it has more than most
// bytes: a large request does not hold its memory for ever.
func Keep[B ~[]byte](b B, most int) B {
	if cap(b) > most {
		return nil
	}
	return b[:0]
}
