package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
)

// Sizes of a symmetric secret in bytes. Source: Standard Webhooks, "Signature
// scheme".
const (
	minSecretBytes = 24
	maxSecretBytes = 64
)

// Prefixes of secrets: a symmetric one, and the two halves of a key pair. Source:
// Standard Webhooks, "Signature scheme".
const (
	symmetricPrefix = "whsec_"
	privatePrefix   = "whsk_"
	publicPrefix    = "whpk_"
)

// key signs calls: symmetric ones have macs, the others private.
type key struct {
	macs    *sync.Pool // of hash.Hash, keyed
	private ed25519.PrivateKey
}

// parseKey reads whsec_ and the base64 of 24 to 64 random bytes, or whsk_ and
// that of an ed25519 key: 32 bytes, perhaps with the 32 of the public key behind
// them. The error does not repeat the secret. raw is what of the key may be seen
// nowhere.
func parseKey(text string) (k key, raw []byte, err error) {
	prefix := symmetricPrefix
	switch {
	case strings.HasPrefix(text, publicPrefix):
		return k, nil, errors.New("is a public key, which is for the receiver; the secret key begins with " + privatePrefix)
	case strings.HasPrefix(text, privatePrefix):
		prefix = privatePrefix
	case !strings.HasPrefix(text, symmetricPrefix):
		return k, nil, errors.New("must begin with " + symmetricPrefix + " or " + privatePrefix)
	}
	// Some generators leave the padding off.
	raw, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(text[len(prefix):], "="))
	switch {
	case err != nil:
		return k, nil, errors.New("is not base64 after " + prefix)
	case prefix == privatePrefix:
		k.private, err = privateKey(raw)
		return k, raw, err
	case len(raw) < minSecretBytes || len(raw) > maxSecretBytes:
		return k, nil, fmt.Errorf("has %d bytes, must have %d to %d", len(raw), minSecretBytes, maxSecretBytes)
	}
	k.macs = &sync.Pool{New: func() any { return hmac.New(sha256.New, raw) }}
	return k, raw, nil
}

func privateKey(raw []byte) (ed25519.PrivateKey, error) {
	if len(raw) != ed25519.SeedSize && len(raw) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("has %d bytes, an ed25519 key has %d, or %d with its public key", len(raw), ed25519.SeedSize, ed25519.PrivateKeySize)
	}
	private := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if len(raw) == ed25519.PrivateKeySize && string(private) != string(raw) {
		return nil, errors.New("ends with a public key that is not its own")
	}
	return private, nil
}

// sign returns the webhook-signature header: one signature per key, separated
// by spaces, each of
//
//	id "." timestamp "." body
//
// as v1 with HMAC-SHA256, or as v1a with ed25519. Source: Standard Webhooks,
// "Signature scheme".
func sign(keys []key, id, timestamp string, body []byte) string {
	var room [256]byte
	signed := append(append(append(append(room[:0], id...), '.'), timestamp...), '.')
	head := len(signed)
	header := make([]byte, 0, 96*len(keys))
	for i := range keys {
		if i > 0 {
			header = append(header, ' ')
		}
		if k := &keys[i]; k.macs != nil {
			mac := k.macs.Get().(hash.Hash)
			mac.Reset()
			mac.Write(signed[:head])
			mac.Write(body)
			var sum [sha256.Size]byte
			header = base64.StdEncoding.AppendEncode(append(header, "v1,"...), mac.Sum(sum[:0]))
			k.macs.Put(mac)
		} else {
			signed = append(signed[:head], body...)
			header = base64.StdEncoding.AppendEncode(append(header, "v1a,"...), ed25519.Sign(k.private, signed))
		}
	}
	return string(header)
}

// maxMessageID bounds webhook-id: some receivers keep it in a column of 255.
const maxMessageID = 255

// messageID returns the webhook-id of an event: its id, if that can be one. A
// full stop would make the signed text ambiguous, and other characters cannot
// be in a header; such an id is replaced by a hash of it, which is as stable
// over attempts. The body holds the event's own id in both cases.
func messageID(eventID string) string {
	usable := eventID != "" && len(eventID) <= maxMessageID
	for i := 0; usable && i < len(eventID); i++ {
		usable = eventID[i] > ' ' && eventID[i] < 0x7f && eventID[i] != '.'
	}
	if usable {
		return eventID
	}
	sum := sha256.Sum256([]byte(eventID))
	return "sha256_" + hex.EncodeToString(sum[:])
}
