package source

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Prefixes of generated keys, so that a person, and a scanner for leaked
// secrets, sees what they are.
const (
	writePrefix  = "wk_"
	secretPrefix = "sk_"
)

// Generate returns a new random key of a kind: the prefix and 32 random bytes
// in unpadded URL-safe base64, 46 characters that need no escaping in a URL,
// a header or a shell.
func Generate(kind Kind) string {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // it never fails, says crypto/rand
	prefix := writePrefix
	if kind == Secret {
		prefix = secretPrefix
	}
	return prefix + base64.RawURLEncoding.EncodeToString(random)
}

// Hash returns what the document keeps of a key.
func Hash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// NewSecret returns a new random secret for signatures: whsec_ and base64 of 32
// bytes.
func NewSecret() SecretRef {
	random := make([]byte, 32)
	_, _ = rand.Read(random)
	return SecretRef(signaturePrefix + base64.StdEncoding.EncodeToString(random))
}

// CheckValue finds out whether a key that somebody has already can be one: it
// must get through a header, a query and Basic, where a colon ends it.
func CheckValue(key string) error {
	switch {
	case key == "" || len(key) > 200:
		return errors.New("a key has 1 to 200 bytes")
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }):
		return errors.New("a key has printable ASCII characters, no spaces and no colon")
	}
	return nil
}

// New returns an entry of the document and the key it is for, which is known
// to nobody else and cannot be had again. expires may be zero. A key of kind
// token has no value: key is then empty.
func New(id string, kind Kind, expires time.Time) (entry Key, key string) {
	entry = Key{ID: id, Kind: kind, ExpiresAt: at(expires)}
	if kind != Token {
		key = Generate(kind)
		entry.SHA256 = Hash(key)
	}
	return entry, key
}

// AddToFile adds an entry to the document in a file, see ChangeFile. Every other
// byte of it stays as it is.
func AddToFile(path string, entry Key) error {
	return ChangeFile(path, func(document []byte) ([]byte, error) { return Add(document, entry) })
}

// Add returns a keys document with one more key. An empty document has none.
func Add(document []byte, entry Key) ([]byte, error) {
	changed, err := insert(document, &entry)
	if err != nil {
		return nil, err
	}
	if err := check(changed, entry.ID, func(k *Key) bool { return k.SHA256 == strings.ToLower(entry.SHA256) }); err != nil {
		return nil, fmt.Errorf("with the new key: %w", err)
	}
	return changed, nil
}

// jsonName names a struct field as the document does.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}
