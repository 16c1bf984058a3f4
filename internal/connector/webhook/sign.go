package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Sizes of a secret in bytes. Source: Standard Webhooks, "Signature scheme".
const (
	minSecretBytes = 24
	maxSecretBytes = 64
)

// secretPrefix marks a symmetric secret.
const secretPrefix = "whsec_"

// parseSecret reads whsec_ and the base64 of 24 to 64 random bytes. The error
// does not repeat the secret.
func parseSecret(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return nil, errors.New("must begin with " + secretPrefix)
	}
	// Some generators leave the padding off.
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return nil, errors.New("is not base64 after " + secretPrefix)
	}
	if len(key) < minSecretBytes || len(key) > maxSecretBytes {
		return nil, fmt.Errorf("has %d bytes, must have %d to %d", len(key), minSecretBytes, maxSecretBytes)
	}
	return key, nil
}

// sign returns the webhook-signature header: one signature per key, separated
// by spaces, each of
//
//	id "." timestamp "." body
//
// with HMAC-SHA256. Source: Standard Webhooks, "Signature scheme".
func sign(keys [][]byte, id string, timestamp int64, body []byte) string {
	var header strings.Builder
	for i, key := range keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + strconv.FormatInt(timestamp, 10) + "."))
		mac.Write(body)
		if i > 0 {
			header.WriteByte(' ')
		}
		header.WriteString("v1,")
		header.WriteString(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return header.String()
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
