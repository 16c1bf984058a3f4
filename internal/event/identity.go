package event

import (
	"bytes"
	"crypto/sha256"
)

// Identity stands for an event's id among the events of its source: the first
// 16 bytes of SHA-256 over source, a zero byte and id. Two ids have the same
// Identity only by an accident that does not happen, also where somebody looks
// for one: whoever wants another's event to pass for one of his own has to
// find a second preimage of 128 bits. Which Identities share their first bits,
// though, anybody can choose: a table that goes by them needs a secret.
type Identity [16]byte

var idOpens = []byte(`{"id":"`)

// IdentityOf returns the Identity of an event in stored form, as Append writes
// it: the strings are hashed as they stand there, with their escapes. ok is
// false of what does not begin like one, and of an event without an id.
//
// It allocates nothing while id and source have fewer than 250 bytes together.
func IdentityOf(stored []byte) (identity Identity, ok bool) {
	id, rest, ok := cutID(stored)
	if !ok {
		return identity, false
	}
	// Members with strings follow, and the first that has none is the data.
	for len(rest) > 0 {
		name, value, ok := bytes.Cut(rest, []byte(`":`))
		if !ok || len(value) == 0 || !bytes.HasPrefix(name, []byte(`,"`)) {
			return identity, false
		}
		if value[0] != '"' {
			break
		}
		end := endOfString(value[1:])
		if end < 0 {
			return identity, false
		}
		if string(name) == `,"source` {
			return hashIdentity(value[1:1+end], id), true
		}
		rest = value[end+2:]
	}
	return hashIdentity(nil, id), true
}

// IdentityFrom is IdentityOf for those who know the source of the event, and
// need not look for it.
func IdentityFrom(source string, stored []byte) (identity Identity, ok bool) {
	id, _, ok := cutID(stored)
	if !ok {
		return identity, false
	}
	var buf [128]byte
	quoted := AppendString(buf[:0], source)
	return hashIdentity(quoted[1:len(quoted)-1], id), true
}

// cutID returns the id of an event in stored form, as it stands there, and what
// follows it.
func cutID(stored []byte) (id, rest []byte, ok bool) {
	rest, ok = bytes.CutPrefix(stored, idOpens)
	if !ok {
		return nil, nil, false
	}
	end := endOfString(rest)
	if end <= 0 {
		return nil, nil, false
	}
	return rest[:end], rest[end+1:], true
}

func hashIdentity(source, id []byte) Identity {
	var buf [256]byte
	b := append(append(append(buf[:0], source...), 0), id...)
	sum := sha256.Sum256(b)
	return Identity(sum[:16])
}

// endOfString returns where the string ends that b begins in, at its quote, and
// -1 if there is none.
func endOfString(b []byte) int {
	for i := 0; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		escapes := 0
		for escapes < i && b[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
	return -1
}
