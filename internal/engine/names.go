package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// token maps any text to one token of a NATS subject, no two texts to the same
// one: letters, digits and '-' stay, every other byte becomes '_' and two hex
// digits. Texts that become long are hashed instead, behind "_x", which no
// escape can begin with.
func token(text string) string { return escape(text, false) }

// fileToken is a token that also differs from all others where file names
// ignore case: capital letters are escaped too. The server names folders after
// streams.
func fileToken(text string) string { return escape(text, true) }

// maxToken keeps stream names below the server's limit of 255 bytes with room
// for a prefix (server.JSMaxNameLen).
const maxToken = 160

func escape(text string, capitals bool) string {
	const digits = "0123456789abcdef"
	plain := func(c byte) bool {
		return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' ||
			'A' <= c && c <= 'Z' && !capitals
	}
	var b strings.Builder
	for i := 0; i < len(text) && b.Len() <= maxToken; i++ {
		if c := text[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'_', digits[c>>4], digits[c&15]})
		}
	}
	switch {
	case b.Len() == 0:
		return "_" // no other text gives a lone underscore
	case b.Len() > maxToken:
		sum := sha256.Sum256([]byte(text))
		return "_x" + hex.EncodeToString(sum[:])
	}
	return b.String()
}
