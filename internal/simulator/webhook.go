package simulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// webhookSecret is what the simulated receiver's sender signs with.
const webhookSecret = "whsec_c2ltdWxhdGVkLXdlYmhvb2stc2VjcmV0LTAwMDE=" //nolint:gosec // a secret of nobody

// Limits of the receiver.
const (
	// webhookSkew is how far webhook-timestamp may be from now: what the
	// libraries of Standard Webhooks tolerate (read 2026-11).
	webhookSkew = 5 * time.Minute
	// webhookRequest is ours; the specification advises less than 20 kB.
	webhookRequest = 10 << 20
)

// webhook is an endpoint that verifies calls as the specification Standard
// Webhooks says and takes each webhook-id once.
type webhook struct {
	shelf *shelf
	seen  *seen
	key   []byte
}

func newWebhook(s *shelf) *webhook {
	return &webhook{shelf: s, seen: newSeen(0), key: webhookKey(webhookSecret)}
}

// webhookKey reads a secret, "whsec_" and base64; nil if it is none.
func webhookKey(secret string) []byte {
	encoded, ok := strings.CutPrefix(secret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil {
		return nil
	}
	return key
}

func (*webhook) settings(baseURL string) any {
	return struct {
		URL          string `json:"url"`
		Secret       string `json:"secret"`
		AllowPrivate bool   `json:"allow_private"`
	}{baseURL + "/events", webhookSecret, true}
}

func webhookSays(status int, message string) answer {
	return asJSON(status, map[string]string{"error": message})
}

func (*webhook) denied(*call) answer {
	return webhookSays(http.StatusUnauthorized, "no signature matches")
}

func (*webhook) throttled(_ *call, wait time.Duration) answer {
	return webhookSays(http.StatusTooManyRequests, "too many requests").with("Retry-After", seconds(wait, time.Second))
}

func (w *webhook) status(c *call, code int) answer {
	switch {
	case code == http.StatusUnauthorized:
		return w.denied(c)
	case code == http.StatusTooManyRequests:
		return w.throttled(c, c.trouble.Wait)
	case code >= 300 && code < 400:
		return bare(code).with("Location", "/moved")
	case code >= 500:
		a := edge(code)
		if c.trouble.Wait > 0 {
			a = a.with("Retry-After", seconds(c.trouble.Wait, 0))
		}
		return a
	}
	return webhookSays(code, strings.ToLower(http.StatusText(code)))
}

func (w *webhook) serve(c *call) answer {
	if c.r.Method != http.MethodPost {
		return webhookSays(http.StatusMethodNotAllowed, "POST only").with("Allow", http.MethodPost)
	}
	body, err := c.body(webhookRequest, true)
	switch {
	case err == errTooLarge:
		return webhookSays(http.StatusRequestEntityTooLarge, "the body is too large")
	case err != nil:
		return webhookSays(http.StatusBadRequest, err.Error())
	}
	id := c.r.Header.Get("webhook-id")
	stamp, err := strconv.ParseInt(c.r.Header.Get("webhook-timestamp"), 10, 64)
	at := time.Unix(stamp, 0)
	switch {
	case id == "" || strings.Contains(id, "."):
		return webhookSays(http.StatusBadRequest, "webhook-id is missing or has a full stop")
	case err != nil:
		return webhookSays(http.StatusBadRequest, "webhook-timestamp is not in seconds")
	case at.Before(c.now.Add(-webhookSkew)) || at.After(c.now.Add(webhookSkew)):
		return webhookSays(http.StatusBadRequest, "webhook-timestamp is not now")
	case !verified(w.key, id, stamp, c.raw, c.r.Header.Get("webhook-signature")):
		return w.denied(c)
	}
	doc, err := decode(body)
	if err != nil {
		w.shelf.refuse(1)
		return webhookSays(http.StatusBadRequest, "the body is not JSON")
	}
	item := Item{ID: id, Kind: "event", Name: text(doc, "name"), User: text(doc, "user_id"), Body: body}
	if item.Name == "" {
		item.Name = text(doc, "type")
	}
	if c.refuses(item) {
		w.shelf.refuse(1)
		return webhookSays(http.StatusUnprocessableEntity, "the simulator was told to refuse this event")
	}
	if w.seen.add(c.now, id) {
		w.shelf.take(item)
	} else {
		w.shelf.duplicate()
	}
	return asJSON(http.StatusOK, map[string]bool{"received": true})
}

// verified reports whether one of the signatures is of id, time and body, as
// they were sent. Source: Standard Webhooks, Signature scheme (read 2026-11).
// Signatures of other schemes than v1 are for other receivers.
func verified(key []byte, id string, stamp int64, body []byte, signatures string) bool {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + strconv.FormatInt(stamp, 10) + "."))
	mac.Write(body)
	want := mac.Sum(nil)
	for signature := range strings.SplitSeq(signatures, " ") {
		encoded, ok := strings.CutPrefix(signature, "v1,")
		got, err := base64.StdEncoding.DecodeString(encoded)
		if ok && err == nil && hmac.Equal(got, want) {
			return true
		}
	}
	return false
}
