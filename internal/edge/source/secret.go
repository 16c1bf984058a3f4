package source

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// SecretRef is the secret of signatures as the document has it: the secret
// itself (whsec_BASE64), or where it is (env:NAME, file:PATH).
type SecretRef string

const (
	signaturePrefix = "whsec_"
	envScheme       = "env:"
	fileScheme      = "file:"
	// maxSecretFile is the most bytes that are read of a file with a secret.
	maxSecretFile = 4 << 10
	// A secret has 24 to 64 random bytes. Source: Standard Webhooks,
	// spec/standard-webhooks.md, "Signature scheme" (read 2026-11).
	minSecret, maxSecret = 24, 64
)

// String masks the secret, and says where it is if it is elsewhere.
func (r SecretRef) String() string {
	if strings.HasPrefix(string(r), envScheme) || strings.HasPrefix(string(r), fileScheme) {
		return string(r)
	}
	return signaturePrefix + "…"
}

// GoString masks the secret.
func (r SecretRef) GoString() string { return r.String() }

// check finds what is wrong with the form of the reference. What it refers to
// is looked up by resolve, in the gateway: the document is also read where the
// secrets are not, by the operator's commands.
func (r SecretRef) check() error {
	s := string(r)
	switch {
	case strings.HasPrefix(s, envScheme) && len(s) > len(envScheme),
		strings.HasPrefix(s, fileScheme) && len(s) > len(fileScheme):
		return nil
	case strings.HasPrefix(s, signaturePrefix):
		_, err := decodeSecret(s)
		return err
	}
	return errNotSecret
}

var errNotSecret = fmt.Errorf("must be whsec_ and base64 of %d to %d bytes, env:NAME or file:PATH", minSecret, maxSecret)

func decodeSecret(s string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(s, signaturePrefix)
	secret, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(encoded, "="))
	if !ok || err != nil || len(secret) < minSecret || len(secret) > maxSecret {
		return nil, errNotSecret // which says nothing of the secret
	}
	return secret, nil
}

// resolve returns the secret itself.
func (r SecretRef) resolve(lookup func(string) (string, bool)) ([]byte, error) {
	s := string(r)
	if name, ok := strings.CutPrefix(s, envScheme); ok {
		value, set := lookup(name)
		if !set {
			return nil, fmt.Errorf("%s is not set", name)
		}
		secret, err := decodeSecret(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("the value of %s %w", name, errNotLiteral)
		}
		return secret, nil
	}
	if path, ok := strings.CutPrefix(s, fileScheme); ok {
		value, err := readFile(path, maxSecretFile)
		if err != nil {
			return nil, err
		}
		secret, err := decodeSecret(strings.TrimSpace(string(value)))
		if err != nil {
			return nil, fmt.Errorf("the content of %s %w", path, errNotLiteral)
		}
		return secret, nil
	}
	return decodeSecret(s)
}

var errNotLiteral = fmt.Errorf("is not whsec_ and base64 of %d to %d bytes", minSecret, maxSecret)

// readFile reads a file of at most so many bytes.
func readFile(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return data, err
}

// Secrets are the secrets of a key that are in force together, one or more. In
// the document one of them is a string and several are an array.
type Secrets []SecretRef

// MarshalJSON writes the secrets as the document has them.
func (s Secrets) MarshalJSON() ([]byte, error) {
	if len(s) == 1 {
		return json.Marshal(string(s[0]))
	}
	return json.Marshal([]SecretRef(s))
}

// UnmarshalJSON reads a string or an array of strings. Its errors say nothing
// of what was read.
func (s *Secrets) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil && string(data) != "null" {
		*s = Secrets{SecretRef(one)}
		return nil
	}
	var several []string
	if json.Unmarshal(data, &several) != nil || several == nil {
		return errors.New("must be a string or an array of strings")
	}
	*s = make(Secrets, len(several))
	for i, ref := range several {
		(*s)[i] = SecretRef(ref)
	}
	return nil
}
