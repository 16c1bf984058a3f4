package protocol

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/event"
)

// Unform returns what the form field data holds, JSON or base64 of it, as
// pages without fetch send it; a body that does not begin with that field is
// returned as it is. It is written over the body: what a form takes apart needs
// no more memory than the form. The error is an *event.Invalid.
func Unform(body []byte) ([]byte, error) {
	field, ok := bytes.CutPrefix(body, []byte("data="))
	if !ok {
		return body, nil
	}
	field, _, _ = bytes.Cut(field, []byte("&"))
	text, ok := AppendUnescaped(body[:0], field)
	if ok && len(text) > 0 && text[0] != '{' && text[0] != '[' {
		text, ok = AppendBase64(text[:0], text)
	}
	if !ok {
		return nil, errNotBase64
	}
	return text, nil
}

var errNotBase64 = &event.Invalid{Code: CodeEncoding, Detail: "the field data is neither JSON nor base64 of it"}

// Fields calls yield with the fields of a form, or of a query, in their order,
// until it returns false. Name and value are as they stand, escapes included.
func Fields(form string, yield func(name, value string) bool) {
	for form != "" {
		var pair string
		if pair, form, _ = strings.Cut(form, "&"); pair == "" {
			continue
		}
		if name, value, _ := strings.Cut(pair, "="); !yield(name, value) {
			return
		}
	}
}

// AppendUnescaped appends a part of a form or query with its escapes taken
// out: %20, and the plus for a space. It returns false where a percent sign is
// no escape. dst may be the beginning of src.
func AppendUnescaped[S []byte | string](dst []byte, src S) ([]byte, bool) {
	for i := 0; i < len(src); i++ {
		c := src[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			if i+2 >= len(src) {
				return dst, false
			}
			high, low := unhex(src[i+1]), unhex(src[i+2])
			if high > 15 || low > 15 {
				return dst, false
			}
			c = high<<4 | low
			i += 2
		}
		dst = append(dst, c)
	}
	return dst, true
}

// unhex returns what a hexadecimal digit stands for, and more than 15 for any
// other byte.
func unhex(c byte) byte {
	switch {
	case c-'0' <= 9:
		return c - '0'
	case c|0x20-'a' <= 5:
		return c | 0x20 - 'a' + 10
	}
	return 16
}

// AppendBase64 appends what base64 of either alphabet, with padding or without,
// stands for, and returns false if it is none. A plus that was not escaped in a
// URL has become a space, and is taken for a plus. dst may be the beginning of
// src: a decoded byte is written behind those that were read.
func AppendBase64(dst, src []byte) ([]byte, bool) {
	src = bytes.TrimRight(src, "=\r\n")
	var chunk [1024]byte // a multiple of four: only the last one may end elsewhere
	for len(src) > 0 {
		n := 0
		for n < len(chunk) && len(src) > 0 {
			c := src[0]
			src = src[1:]
			switch c {
			case '-':
				c = '+' // the alphabet for URLs
			case '_':
				c = '/'
			case ' ':
				c = '+'
			case '\r', '\n':
				continue
			}
			chunk[n] = c
			n++
		}
		at, most := len(dst), base64.RawStdEncoding.DecodedLen(n)
		dst = slices.Grow(dst, most)[:at+most]
		size, err := base64.RawStdEncoding.Decode(dst[at:], chunk[:n])
		if dst = dst[:at+size]; err != nil {
			return dst[:at], false
		}
	}
	return dst, true
}

// JoinSurrogates replaces each surrogate pair of which both halves are encoded
// by themselves (CESU-8) by the character in UTF-8, in place, and returns what
// it has become. Encoders in JavaScript that go through a string by its units
// write every character beyond the first plane like that. A half without the
// other is left, and is refused as what it is.
func JoinSurrogates(text []byte) []byte {
	at := bytes.IndexByte(text, 0xed)
	if at < 0 {
		return text
	}
	out := text[:at]
	for i := at; i < len(text); {
		pair := text[i:min(i+6, len(text))]
		if len(pair) == 6 && pair[0] == 0xed && pair[1]&0xf0 == 0xa0 && pair[3] == 0xed && pair[4]&0xf0 == 0xb0 {
			high := rune(pair[1]&0x0f)<<6 | rune(pair[2]&0x3f)
			low := rune(pair[4]&0x0f)<<6 | rune(pair[5]&0x3f)
			out = utf8.AppendRune(out, 0x10000+high<<10+low)
			i += 6
			continue
		}
		out = append(out, text[i])
		i++
	}
	return out
}

// TrimDocument returns a JSON document without byte order mark and white space
// before it.
func TrimDocument(body []byte) []byte {
	return bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), " \t\r\n")
}
