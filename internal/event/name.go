package event

import "bytes"

// Name returns the name of an event on the stream. On the form that Append
// writes it reads no further than to the name; on any other it looks for the
// member. It checks only what it reads, and returns false if it finds no name.
// The name may share memory with raw.
func Name(raw []byte) (string, bool) {
	if name, ok := storedName(raw); ok {
		return name, true
	}
	return searchName(raw)
}

// storedName expects {"id":"…","type":"…","name":"…" without escapes.
func storedName(raw []byte) (string, bool) {
	const id, typ, name = `{"id":"`, `","type":"`, `","name":"`
	rest, ok := bytes.CutPrefix(raw, []byte(id))
	if !ok {
		return "", false
	}
	end, high := plain(rest, 0)
	if rest, ok = bytes.CutPrefix(rest[end:], []byte(typ)); !ok || high != 0 {
		return "", false
	}
	end, _ = plain(rest, 0)
	if rest, ok = bytes.CutPrefix(rest[end:], []byte(name)); !ok {
		return "", false
	}
	end, high = plain(rest, 0)
	if end == 0 || high != 0 || end == len(rest) || rest[end] != '"' {
		return "", false
	}
	return text(rest[:end]), true
}

func searchName(raw []byte) (name string, ok bool) {
	err := Members(raw, func(member string, value []byte) bool {
		if member != "name" {
			return true
		}
		if value[0] == '"' {
			var err error
			name, err = Unquote(value)
			ok = err == nil && name != ""
		}
		return false
	})
	return name, ok && err == nil
}
