package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Claim stands for a payload that is too large for the way it goes: the payload
// is an object in a bucket, and the claim says which.
type Claim struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	// Bytes and SHA256 (hexadecimal) are those of the payload.
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// NewClaim returns the claim of a payload that is to be put into a bucket.
func NewClaim(bucket, key string, payload []byte) Claim {
	sum := sha256.Sum256(payload)
	return Claim{Bucket: bucket, Key: key, Bytes: len(payload), SHA256: hex.EncodeToString(sum[:])}
}

// claimed is the JSON of a payload that is a claim.
type claimed struct {
	Claim *Claim `json:"claim"`
}

// Payload returns what goes instead of the claimed payload: {"claim":{…}}.
func (c Claim) Payload() []byte {
	b, _ := json.Marshal(claimed{&c}) // strings and a number always marshal
	return b
}

// maxClaim bounds the JSON of a claim: bucket and key have at most 63 and 1024
// bytes, escaped.
const maxClaim = 16 << 10

// ParseClaim returns the claim that a payload is; ok is false if it is none.
// An event is none: it has a name.
func ParseClaim(payload []byte) (c Claim, ok bool) {
	if len(payload) > maxClaim || !bytes.Contains(payload, []byte(`"claim"`)) {
		return c, false
	}
	var p claimed
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if d.Decode(&p) != nil || d.More() || p.Claim == nil || p.Claim.Bucket == "" || p.Claim.Key == "" {
		return c, false
	}
	return *p.Claim, true
}

// Check reports what is wrong with an object that should be the payload.
func (c Claim) Check(payload []byte) error {
	sum := sha256.Sum256(payload)
	if len(payload) != c.Bytes || hex.EncodeToString(sum[:]) != c.SHA256 {
		return fmt.Errorf("object %s in bucket %s is not what was claimed: it has %d bytes, %d were put there", c.Key, c.Bucket, len(payload), c.Bytes)
	}
	return nil
}
