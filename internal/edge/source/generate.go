package source

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

// New returns an entry of the document and the key it is for, which is known
// to nobody else and cannot be had again. expires may be zero.
func New(id string, kind Kind, expires time.Time) (entry Key, key string) {
	key = Generate(kind)
	return Key{ID: id, Kind: kind, SHA256: Hash(key), ExpiresAt: at(expires)}, key
}

// AddToFile adds an entry to the document in a file, which is made if there is
// none. Every other byte of it stays as it is. The file is replaced whole: a
// reader, or a crash, finds the old document or the new one. Two that add at
// the same moment may lose one of the two entries; the loser finds its key
// unknown at once.
func AddToFile(path string, entry Key) error {
	document, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	changed, err := Add(document, entry)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return replaceFile(path, changed)
}

// Add returns a keys document with one more key. An empty document has none.
func Add(document []byte, entry Key) ([]byte, error) {
	changed, err := insert(document, &entry)
	if err != nil {
		return nil, err
	}
	if _, err := Parse(changed, nil); err != nil {
		return nil, fmt.Errorf("with the new key: %w", err)
	}
	return changed, nil
}

// replaceFile writes a file by way of a temporary one beside it.
func replaceFile(path string, data []byte) (err error) {
	// A link to the document stays a link.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if _, err := tmp.Write(data); err != nil {
		return err
	}
	if err := errors.Join(tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	// The new name is durable once its folder is.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// jsonName names a struct field as the document does.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}
