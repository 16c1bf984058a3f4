package source

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Signature is how requests of a key must be signed: as Standard Webhooks says.
// A request carries three headers,
//
//	webhook-id:        msg_2KWPBgLlAfxdpx2AI54pPJ85f4W
//	webhook-timestamp: 1795476633                        seconds of Unix time
//	webhook-signature: v1,BASE64 v1,BASE64 …             one for each secret
//
// and each signature is HMAC-SHA256(secret, id "." timestamp "." body), over
// the body as it was sent, before decompression. One that fits is enough. What
// the body does not hold is not signed: the query, and the ce- headers of
// CloudEvents in binary mode.
//
// A secret is changed with overlap: first the key has both, then senders change,
// then the old one leaves.
type Signature struct {
	// Secret is one secret, or several that are in force together, at most 10.
	Secret Secrets `json:"secret"`
	// Tolerance is how far the timestamp may be from the gateway's clock, both
	// ways. Default 5m, at most 1h.
	Tolerance string `json:"tolerance,omitempty"`
}

const (
	defaultTolerance = 5 * time.Minute
	maxTolerance     = time.Hour
	maxSecrets       = 10
	// Bounds of the headers: an id is some 30 characters, a signature 47.
	maxSignatureID = 256
	maxSignatures  = 16
)

// Signed is the headers of a signed request, as they came.
type Signed struct {
	ID, Timestamp, Signature string
}

// signer checks the signatures of one key.
type signer struct {
	tolerance time.Duration
	refs      Secrets
	// secrets are nil until they have been looked up, see Keys.Resolve.
	secrets [][]byte
	window  *window
}

// Signs reports whether requests of the key must be signed.
func (k *Key) Signs() bool { return k.signer != nil }

// CheckSigned finds out what is wrong with a signature as far as that can be
// known before the body has come. Nil: nothing yet.
func (k *Key) CheckSigned(s Signed, now time.Time) *Refusal {
	_, refusal := k.signer.timestamp(s, now)
	return refusal
}

func (s *signer) timestamp(h Signed, now time.Time) (int64, *Refusal) {
	switch {
	case h.Signature == "" || h.ID == "" || h.Timestamp == "":
		return 0, &Refusal{Reason: MissingSignature, Detail: "the key must be signed with: send webhook-id, webhook-timestamp and webhook-signature"}
	case len(h.ID) > maxSignatureID:
		return 0, &Refusal{Reason: InvalidSignature, Detail: fmt.Sprintf("webhook-id has more than %d bytes", maxSignatureID)}
	}
	at, err := strconv.ParseInt(h.Timestamp, 10, 64)
	if err != nil || h.Timestamp[0] == '+' {
		return 0, &Refusal{Reason: InvalidSignature, Detail: "webhook-timestamp must be seconds of Unix time"}
	}
	// Seconds, since a time that is far away has no nanoseconds.
	if most, apart := int64(s.tolerance/time.Second), now.Unix()-at; apart > most || apart < -most {
		return 0, &Refusal{Reason: StaleSignature, Detail: fmt.Sprintf("webhook-timestamp is more than %s from the gateway's clock: sign the request anew", s.tolerance)}
	}
	return at, nil
}

// Verify checks the signature of a request. A good one is remembered: the same
// request again is Undecided until the first one is settled, then, if that was
// answered 2xx, a ReplayedSignature for as long as its timestamp is within the
// tolerance. The caller must settle the receipt when it has answered.
//
// The memory is this process's, of at most 500,000 requests (10 to 20 MB), each
// kept as long as the longest tolerance of the document; with it full the
// answer is Undecided. After a restart, at another gateway, and after a
// tolerance was raised, a request can be accepted once more: what keeps it from
// being stored twice then are the ids of its events.
func (k *Key) Verify(h Signed, body []byte, now time.Time) (*Receipt, *Refusal) {
	s := k.signer
	at, refusal := s.timestamp(h, now)
	if refusal != nil {
		return nil, refusal
	}
	if s.secrets == nil {
		return nil, &Refusal{Reason: Undecided, Detail: "the gateway has no secret for the key yet", RetryAfter: 5 * time.Second}
	}
	if refusal := s.fits(h, body); refusal != nil {
		return nil, refusal
	}
	return s.window.begin(at, k.identity(h, body), now)
}

// fits finds a signature of the header that is one of the body.
func (s *signer) fits(h Signed, body []byte) *Refusal {
	var sent [maxSignatures][sha256.Size]byte
	n, broken, others := 0, false, false
	for part := range strings.SplitSeq(h.Signature, " ") {
		version, encoded, _ := strings.Cut(part, ",")
		switch {
		case part == "":
			continue
		case version != "v1":
			others = true // a scheme that is to come, or v1a, of public keys
			continue
		case n == maxSignatures:
			return &Refusal{Reason: InvalidSignature, Detail: fmt.Sprintf("webhook-signature has more than %d signatures", maxSignatures)}
		}
		var decoded [sha256.Size + 2]byte
		if len(encoded) != base64.StdEncoding.EncodedLen(sha256.Size) {
			broken = true
			continue
		}
		if size, err := base64.StdEncoding.Decode(decoded[:], []byte(encoded)); err != nil || size != sha256.Size {
			broken = true
			continue
		}
		sent[n] = [sha256.Size]byte(decoded[:sha256.Size])
		n++
	}
	good := false
	for _, secret := range s.secrets {
		if n == 0 {
			break
		}
		mac := hmac.New(sha256.New, secret)
		writeSigned(mac, h, body)
		var sum [sha256.Size]byte
		mac.Sum(sum[:0])
		for i := range n {
			// hmac.Equal takes the same time whatever is equal, and none of
			// the others is left out for one that fits.
			good = hmac.Equal(sum[:], sent[i][:]) || good
		}
	}
	switch {
	case good:
		return nil
	case n > 0:
		return &Refusal{Reason: InvalidSignature, Detail: "no signature is of this id, timestamp and body with a secret of the key; sign the body as it is sent, compressed if it is"}
	case broken:
		return &Refusal{Reason: InvalidSignature, Detail: "webhook-signature must be v1, and base64 of 32 bytes"}
	case others:
		return &Refusal{Reason: InvalidSignature, Detail: "webhook-signature has no signature of version v1"}
	}
	return &Refusal{Reason: MissingSignature, Detail: "webhook-signature is empty"}
}

func writeSigned(to interface{ Write([]byte) (int, error) }, h Signed, body []byte) {
	// Writing to a hash does not fail.
	_, _ = to.Write([]byte(h.ID))
	_, _ = to.Write([]byte{'.'})
	_, _ = to.Write([]byte(h.Timestamp))
	_, _ = to.Write([]byte{'.'})
	_, _ = to.Write(body)
}

// signatureID is what a signed request is known by: the key and what was
// signed, not the signatures of it, of which there may be several.
type signatureID [16]byte

func (k *Key) identity(h Signed, body []byte) signatureID {
	sum := sha256.New()
	_, _ = sum.Write([]byte(k.ID))
	_, _ = sum.Write([]byte{0})
	writeSigned(sum, h, body)
	var out [sha256.Size]byte
	return signatureID(sum.Sum(out[:0])[:16])
}

const (
	// slotSeconds is how many seconds of timestamps share a map: they are
	// forgotten together.
	slotSeconds = 16
	// maxRemembered is how many signed requests are remembered, 20 to 40 bytes
	// each.
	maxRemembered = 500_000
)

// window remembers signed requests for as long as their timestamp may be
// within the tolerance of any key.
type window struct {
	tolerance atomic.Int64 // the longest of the table in force, in seconds

	mu    sync.Mutex
	count int
	// slots are by timestamp. The value is whether the request was answered
	// 2xx; one that is there without is being worked on.
	slots map[int64]map[signatureID]bool
	swept int64 // the first slot that is left
}

func newWindow() *window { return &window{slots: map[int64]map[signatureID]bool{}} }

// Receipt is one signed request that was let in.
type Receipt struct {
	window *window
	slot   int64
	id     signatureID
}

func (w *window) begin(at int64, id signatureID, now time.Time) (*Receipt, *Refusal) {
	slot := floorDiv(at, slotSeconds)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sweep(now)
	answered, known := w.slots[slot][id]
	switch {
	case known && answered:
		return nil, &Refusal{Reason: ReplayedSignature, Detail: "a request with this signature was accepted already; sign a new one"}
	case known:
		return nil, &Refusal{Reason: Undecided, Detail: "the same request is being worked on", RetryAfter: time.Second}
	case w.count >= maxRemembered:
		return nil, &Refusal{Reason: Undecided, Detail: "the gateway cannot remember more signatures now", RetryAfter: slotSeconds * time.Second}
	}
	if w.slots[slot] == nil {
		w.slots[slot] = map[signatureID]bool{}
	}
	w.slots[slot][id] = false
	w.count++
	return &Receipt{w, slot, id}, nil
}

// sweep forgets what is stale. It needs mu.
func (w *window) sweep(now time.Time) {
	first := floorDiv(now.Unix()-w.tolerance.Load(), slotSeconds)
	if first <= w.swept {
		return
	}
	w.swept = first
	for slot, ids := range w.slots {
		if slot < first {
			w.count -= len(ids)
			delete(w.slots, slot)
		}
	}
}

// Settle says how the request ended: whether it was answered 2xx. If it was not
// it may come again as it is. It must be called once.
func (r *Receipt) Settle(accepted bool) {
	w := r.window
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := w.slots[r.slot]
	if _, known := ids[r.id]; !known {
		return // it took longer than the tolerance
	}
	if accepted {
		ids[r.id] = true
		return
	}
	delete(ids, r.id)
	w.count--
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
