// Package event is the vocabulary of the pipeline: the Event, its id, its
// partition key, and the scan that reads it from JSON.
//
// An event has two forms in JSON. As sent, only name is required and any field
// may be missing, unknown or wrong; ParseSent checks it, and SentReader takes a
// request body apart. As stored, it is an object with the fields of Event in a
// fixed order, data and context last; Append writes it and ParseStored reads
// it, and ParseStored also reads what other producers put on the stream. The
// bytes of data and context are copied from the one to the other and never
// decoded and encoded again: the stored form has line breaks in it if a sender
// put some between the tokens of these.
//
// The package imports nothing else of this module.
package event

import (
	"encoding/json"
	"unicode/utf8"
)

// Types of events. A sender may name any of them; TypeTrack is the default.
const (
	TypeTrack    = "track"
	TypeIdentify = "identify"
	TypePage     = "page"
	TypeScreen   = "screen"
	TypeGroup    = "group"
	TypeAlias    = "alias"
)

// Event is one thing that happened.
//
// The strings and raw messages of an Event that was parsed may share memory
// with the bytes it was parsed from: those bytes must stay unchanged while the
// Event is in use.
type Event struct {
	// ID is the idempotency key: the sender's, or a UUIDv7 of the gateway.
	ID string
	// Type is one of the Type constants.
	Type string
	// Name is what happened, such as "button_clicked". Rules select by it.
	Name string
	// UserID and AnonymousID say who did it; either may be empty.
	UserID      string
	AnonymousID string
	// Timestamp is when it happened by the sender's clock, RFC 3339, as sent.
	Timestamp string
	// ReceivedAt is when the gateway received it, RFC 3339 in UTC.
	ReceivedAt string
	// Source names the sender; it comes from the key, never from the event.
	Source string
	// IP is the sender's address, if the policy of the source asks for it.
	IP string
	// Traceparent is the span that the event was received in, as W3C Trace
	// Context writes it (IsTraceparent), if that is sampled. It comes from the
	// request: a member of that name in an event as sent is the sender's own
	// record of where the event began, and stays in Extra.
	Traceparent string
	// Data and Context are JSON objects, byte for byte as sent. Nil stands for
	// an empty object.
	Data    json.RawMessage
	Context json.RawMessage
	// Extra holds the members of the sent object that Event does not know, as
	// JSON members separated by commas, without braces. Append stores them
	// under context.extra, or under context.extra_ if the sender's own extra
	// leaves them no room: see spliceExtra.
	Extra []byte
}

// PartitionKey returns what keeps events in order: all events of one key stay
// in the order in which they were accepted. It is the user id, else the
// anonymous id, else the event's own id.
func (e *Event) PartitionKey() string {
	switch {
	case e.UserID != "":
		return e.UserID
	case e.AnonymousID != "":
		return e.AnonymousID
	}
	return e.ID
}

// Hash spreads partition keys over buckets, lanes and samples. It is FNV-1a
// with the finalizer of MurmurHash3, so that high and low bits are equally
// good; its values are part of what is stored and never change.
func Hash(partitionKey string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := 0; i < len(partitionKey); i++ {
		h = (h ^ uint64(partitionKey[i])) * prime
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// Append appends the stored form of e to dst, without a newline.
func (e *Event) Append(dst []byte) []byte {
	dst = AppendString(append(dst, `{"id":`...), e.ID)
	dst = AppendString(append(dst, `,"type":`...), e.Type)
	dst = AppendString(append(dst, `,"name":`...), e.Name)
	for _, f := range [...]struct{ prefix, value string }{
		{`,"user_id":`, e.UserID},
		{`,"anonymous_id":`, e.AnonymousID},
		{`,"timestamp":`, e.Timestamp},
		{`,"received_at":`, e.ReceivedAt},
		{`,"source":`, e.Source},
		{`,"ip":`, e.IP},
		{`,"traceparent":`, e.Traceparent},
	} {
		if f.value != "" {
			dst = AppendString(append(dst, f.prefix...), f.value)
		}
	}
	dst = append(dst, `,"data":`...)
	if len(e.Data) == 0 {
		dst = append(dst, `{}`...)
	} else {
		dst = append(dst, e.Data...)
	}
	dst = append(dst, `,"context":`...)
	dst = e.appendContext(dst)
	return append(dst, '}')
}

// AppendString appends s as a JSON string. Invalid UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	plain := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[plain:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			plain = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[plain:i]...)
			dst = append(dst, "\ufffd"...)
			i++
			plain = i
			continue
		}
		i += size
	}
	dst = append(dst, s[plain:]...)
	return append(dst, '"')
}

// appendContext appends the context with Extra under its member "extra".
func (e *Event) appendContext(dst []byte) []byte {
	switch {
	case len(e.Extra) > 0:
		return spliceExtra(dst, e.Context, e.Extra)
	case len(e.Context) > 0:
		return append(dst, e.Context...)
	}
	return append(dst, `{}`...)
}
