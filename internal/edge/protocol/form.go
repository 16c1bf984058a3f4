package protocol

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"strings"

	"github.com/eventsluice/sluice/internal/event"
)

// Unform returns what the form field data holds, JSON or base64 of it, as
// pages without fetch send it; a body that does not begin with that field is
// returned as it is. It may be written over the body. The error is an
// *event.Invalid.
func Unform(body []byte) ([]byte, error) {
	field, ok := bytes.CutPrefix(body, []byte("data="))
	if !ok {
		return body, nil
	}
	field, _, _ = bytes.Cut(field, []byte("&"))
	text, err := url.QueryUnescape(string(field))
	if err == nil && text != "" && text[0] != '{' && text[0] != '[' {
		var decoded []byte
		if decoded, ok = Base64(text); !ok {
			err = errNotBase64
		}
		return append(body[:0], decoded...), err
	}
	if err != nil {
		return nil, errNotBase64
	}
	return append(body[:0], text...), nil
}

var errNotBase64 = &event.Invalid{Code: CodeEncoding, Detail: "the field data is neither JSON nor base64 of it"}

// Base64 decodes either alphabet of base64, with padding or without. A plus
// that was not escaped in a URL has become a space, and is taken for a plus.
func Base64(s string) ([]byte, bool) {
	s = strings.TrimRight(strings.ReplaceAll(s, " ", "+"), "=")
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if out, err := enc.DecodeString(s); err == nil {
			return out, true
		}
	}
	return nil, false
}

// TrimDocument returns a JSON document without byte order mark and white space
// before it.
func TrimDocument(body []byte) []byte {
	return bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), " \t\r\n")
}
