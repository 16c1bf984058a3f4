package router

import (
	"bytes"
	"encoding/json"
	"strings"
)

// The functions here take documents apart whose syntax has been checked. They
// keep what encoding/json's own decoding into structs loses: members that
// stand twice, their order, and their bytes. They are for documents, not for
// events.

type rawMember struct {
	key   string
	value json.RawMessage
}

// membersOf returns the members of an object, and false for anything else.
func membersOf(raw json.RawMessage) ([]rawMember, bool) {
	if kindOf(raw) != "an object" {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	var members []rawMember
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, false
		}
		m := rawMember{}
		m.key, _ = token.(string)
		if err := d.Decode(&m.value); err != nil {
			return nil, false
		}
		members = append(members, m)
	}
	return members, true
}

// elementsOf returns the elements of an array, and false for anything else.
func elementsOf(raw json.RawMessage) ([]json.RawMessage, bool) {
	if kindOf(raw) != "an array" {
		return nil, false
	}
	var elements []json.RawMessage
	err := json.Unmarshal(raw, &elements)
	return elements, err == nil
}

// stringOf returns the value of a string, and false for anything else.
func stringOf(raw json.RawMessage) (string, bool) {
	if kindOf(raw) != "a string" {
		return "", false
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// kindOf names what a JSON value is, as messages say it.
func kindOf(raw json.RawMessage) string {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

// pointerTokens takes a JSON pointer apart (RFC 6901).
func pointerTokens(pointer string) ([]string, bool) {
	if pointer == "" || pointer[0] != '/' {
		return nil, false
	}
	tokens := strings.Split(pointer[1:], "/")
	for i, token := range tokens {
		for j := strings.IndexByte(token, '~'); j >= 0; {
			if j+1 == len(token) || token[j+1] != '0' && token[j+1] != '1' {
				return nil, false
			}
			next := strings.IndexByte(token[j+1:], '~')
			if next < 0 {
				break
			}
			j += 1 + next
		}
		tokens[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
	}
	return tokens, true
}

// escapeToken makes a key a token of a JSON pointer.
func escapeToken(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
