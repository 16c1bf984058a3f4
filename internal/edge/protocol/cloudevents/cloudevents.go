// Package cloudevents reads CloudEvents 1.0 over HTTP, in JSON, in the three
// modes of the binding: structured (the body is an event), batched (the body is
// an array of them) and binary (the body is the data, the attributes are ce-
// headers). Source: CloudEvents 1.0.2, HTTP protocol binding and JSON format.
//
// An event in binary mode is first written in the form of the structured one,
// and then read as that: this is its raw form too, so that the quarantine holds
// events of one form only.
package cloudevents

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
)

// MediaType is the media type of an event in structured mode.
const MediaType = "application/cloudevents+json"

const (
	structuredPrefix = "application/cloudevents"
	batchedPrefix    = "application/cloudevents-batch"
)

// Is reports whether a request carries CloudEvents: by its content type, or by
// a header with one of the attributes that every event has. A request that has
// some of these is meant as one, and is told what is missing.
func Is(header http.Header) bool {
	if contentType := header["Content-Type"]; len(contentType) > 0 &&
		hasPrefix(contentType[0], structuredPrefix) {
		return true
	}
	return len(header["Ce-Specversion"])+len(header["Ce-Id"])+len(header["Ce-Source"])+len(header["Ce-Type"]) > 0
}

// hasPrefix is strings.HasPrefix without regard to case.
func hasPrefix(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// mode is how events stand in a request.
type mode uint8

const (
	binary mode = iota
	structured
	batched
)

// Decoder implements protocol.Decoder. The zero value is ready for use.
type Decoder struct {
	mode    mode
	body    []byte
	mapping mapping

	// The event of binary mode, in the structured form; it has none if its body
	// is too large.
	raw      []byte
	tooLarge bool
	names    []string // of its headers
	value    []byte   // of one of them
}

var _ protocol.Decoder = (*Decoder)(nil)

// Open implements protocol.Decoder. There are no keys in CloudEvents.
func (d *Decoder) Open(r *protocol.Request, _ func(string)) error {
	d.mapping.limits, d.tooLarge = r.Limits, false
	var contentType, format string
	if v := r.Header["Content-Type"]; len(v) > 0 {
		contentType = v[0]
	}
	switch {
	case hasPrefix(contentType, batchedPrefix):
		d.mode, format = batched, contentType[len(batchedPrefix):]
	case hasPrefix(contentType, structuredPrefix):
		d.mode, format = structured, contentType[len(structuredPrefix):]
	default:
		d.mode, d.body = binary, r.Body
		d.fromHeaders(r, contentType)
		return nil
	}
	if format, _, _ = strings.Cut(format, ";"); !strings.EqualFold(strings.TrimSpace(format), "+json") {
		return &event.Invalid{Code: event.CodeInvalidJSON, Detail: "CloudEvents are read in the format JSON, as " + MediaType + " or " + batchedPrefix + "+json"}
	}
	switch d.body = protocol.TrimDocument(r.Body); {
	case len(d.body) == 0:
		return &event.Invalid{Code: protocol.CodeEmpty, Detail: "send a CloudEvent, or an array of them as " + batchedPrefix + "+json"}
	case d.mode == batched && d.body[0] != '[':
		return &event.Invalid{Code: event.CodeInvalidType, Detail: "a batch of CloudEvents is an array; one is sent as " + MediaType}
	case d.mode == structured && d.body[0] == '[':
		return &event.Invalid{Code: event.CodeInvalidType, Detail: "a CloudEvent is an object; an array of them is sent as " + batchedPrefix + "+json"}
	}
	return nil
}

// Events implements protocol.Decoder.
func (d *Decoder) Events(yield func(*event.Event, *event.Invalid, []byte) bool) error {
	m := &d.mapping
	switch {
	case d.mode == batched:
		return event.Elements(d.body, func(raw []byte) bool {
			return yield(&m.ev, m.event(raw, &m.ev), raw)
		})
	case d.tooLarge:
		yield(&m.ev, protocol.TooLarge(len(d.body), m.limits), d.body)
		return nil
	case d.mode == binary:
		invalid := m.event(d.raw, &m.ev)
		if invalid != nil && invalid.Pointer == "/data_base64" {
			invalid.Pointer = "/data" // what the sender knows it as
		}
		yield(&m.ev, invalid, d.raw)
		return nil
	}
	invalid := m.event(d.body, &m.ev)
	if invalid != nil && invalid.Code == event.CodeInvalidJSON && invalid.Pointer == "" {
		return invalid // not one event that is bad, but no document
	}
	yield(&m.ev, invalid, d.body)
	return nil
}

// Event implements protocol.Decoder.
func (d *Decoder) Event(r *protocol.Request, raw []byte, ev *event.Event) *event.Invalid {
	d.mapping.limits = r.Limits
	return d.mapping.event(raw, ev)
}

// Reset implements protocol.Decoder.
func (d *Decoder) Reset(keep int) {
	clear(d.names)
	d.body, d.names = nil, d.names[:0]
	d.raw, d.value = protocol.Keep(d.raw, keep), protocol.Keep(d.value, keep)
	d.mapping.reset(keep)
}

// fromHeaders writes the event of a request in binary mode in the structured
// form. What is wrong with a header is wrong with the form as well, at the same
// place: two headers of one name are two members, bytes that are no UTF-8 stay.
func (d *Decoder) fromHeaders(r *protocol.Request, contentType string) {
	d.names = d.names[:0]
	for name := range r.Header {
		if hasPrefix(name, "ce-") {
			d.names = append(d.names, name)
		}
	}
	slices.Sort(d.names) // a map has no order, and what is kept should have one
	d.raw = append(d.raw[:0], '{')
	for _, name := range d.names {
		for _, value := range r.Header[name] {
			d.value = decodeHeader(d.value[:0], value)
			d.member(strings.ToLower(name[len("ce-"):]), d.value)
		}
	}
	if contentType != "" {
		d.member("datacontenttype", append(d.value[:0], contentType...))
	}
	d.data(contentType, r)
	if len(d.raw) > 1 {
		d.raw = d.raw[:len(d.raw)-1] // the last comma
	}
	d.raw = append(d.raw, '}')
}

func (d *Decoder) member(name string, value []byte) {
	d.raw = append(event.AppendString(d.raw, name), ':')
	d.raw = append(appendText(d.raw, value), ',')
}

// data adds the body. The form of it depends on its media type: JSON as such,
// text as a string, everything else, and what is not what it says it is, as
// base64. Of each the event can be made again.
func (d *Decoder) data(contentType string, r *protocol.Request) {
	body := r.Body
	switch {
	case r.Limits.MaxBytes > 0 && len(body) > r.Limits.MaxBytes:
		d.tooLarge = true
	case len(body) == 0:
	case (contentType == "" || isJSON(contentType)) && json.Valid(protocol.TrimDocument(body)):
		d.raw = append(append(append(d.raw, `"data":`...), protocol.TrimDocument(body)...), ',')
	case isText(contentType) && printable(body):
		d.raw = append(appendText(append(d.raw, `"data":`...), body), ',')
	default:
		d.raw = base64.StdEncoding.AppendEncode(append(d.raw, `"data_base64":"`...), body)
		d.raw = append(d.raw, `",`...)
	}
}

// appendText appends a JSON string of bytes that need not be UTF-8: those that
// are none are found by whoever reads it.
func appendText(dst, text []byte) []byte {
	if utf8.Valid(text) {
		return event.AppendString(dst, protocol.View(text))
	}
	dst = append(dst, '"')
	for _, c := range text {
		if c < ' ' || c == '"' || c == '\\' {
			c = '?'
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// decodeHeader appends what a header says: text in double quotes without them
// and without the backslashes in it, then with one round of percent escapes
// taken out. A percent sign that is no escape stays as it is: it is wrong, and
// cloudevents of npm sends it.
func decodeHeader(dst []byte, value string) []byte {
	quoted := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"':
			quoted = !quoted
			continue
		case c == '\\' && quoted && i+1 < len(value):
			i++
		}
		dst = append(dst, value[i])
	}
	n := 0
	for i := 0; i < len(dst); i, n = i+1, n+1 {
		dst[n] = dst[i]
		if dst[i] == '%' && i+2 < len(dst) {
			if c, ok := protocol.AppendUnescaped(dst[n:n], dst[i:i+3]); ok {
				dst[n] = c[0]
				i += 2
			}
		}
	}
	return dst[:n]
}

// isJSON reports whether a media type is one of JSON: */json or */*+json.
func isJSON(contentType string) bool {
	mediaType := base(contentType)
	return strings.HasSuffix(mediaType, "/json") || strings.HasSuffix(mediaType, "+json")
}

// isText reports whether what has this media type is text: text/*, XML, forms,
// and what says that it is UTF-8.
func isText(contentType string) bool {
	mediaType := base(contentType)
	return strings.HasPrefix(mediaType, "text/") || strings.HasSuffix(mediaType, "/xml") || strings.HasSuffix(mediaType, "+xml") ||
		mediaType == "application/x-www-form-urlencoded" || strings.Contains(strings.ToLower(contentType), "charset=utf-8")
}

func base(contentType string) string {
	mediaType, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(mediaType))
}

// printable reports whether b is UTF-8 without control characters other than
// tabs and line ends. As a JSON string it has less than twice its bytes.
func printable(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return utf8.Valid(b)
}
