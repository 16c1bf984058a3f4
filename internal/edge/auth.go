package edge

import (
	"encoding/base64"
	"net/url"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/edge/source"
)

// maxKey is the most bytes of a key as presented.
const maxKey = 512

// Keys arrive in many places, and often in two at once. They are looked at in
// this order: Basic (the key is the user name), Bearer, X-Write-Key, query,
// body. The first that is a key in force counts. One that is not does not
// shadow a later one: Jitsu masks the key in the body, and a proxy may ask for
// a name of its own. Two different keys in force are a mistake of the sender
// that the gateway must not decide.

// present looks up one key.
func (x *exchange) present(presented []byte) {
	if len(presented) == 0 {
		return
	}
	x.presented = true
	k := x.keys.Find(presented)
	switch {
	case k == nil:
	case k.State(x.start) != source.Active:
		if x.inactive == nil {
			x.inactive = k
		}
	case x.key == nil:
		x.key = k
	case x.key != k:
		x.conflict = true
	}
}

// presentText is present for a string.
func (x *exchange) presentText(s string) {
	if len(s) <= maxKey {
		x.present(x.secret[:copy(x.secret[:], s)])
	} else {
		x.presented = true
	}
}

// presentHeaders looks up the keys in header and query.
func (x *exchange) presentHeaders() {
	for _, v := range x.req.Header["Authorization"] {
		scheme, rest, _ := strings.Cut(v, " ")
		switch {
		case strings.EqualFold(scheme, "Bearer"):
			x.presentText(strings.TrimSpace(rest))
		case strings.EqualFold(scheme, "Basic"):
			x.presentBasic(strings.TrimSpace(rest))
		}
	}
	for _, v := range x.req.Header["X-Write-Key"] {
		v, _, _ = strings.Cut(strings.TrimSpace(v), ":") // Jitsu: key:secret
		x.presentText(v)
	}
	x.presentQuery()
}

func (x *exchange) presentBasic(credentials string) {
	if len(credentials) > base64.StdEncoding.EncodedLen(maxKey) {
		x.presented = true
		return
	}
	var encoded [4 * (maxKey + 2) / 3]byte
	var decoded [maxKey + 2]byte
	n, err := base64.RawStdEncoding.Decode(decoded[:], encoded[:copy(encoded[:], strings.TrimRight(credentials, "="))])
	user, _, _ := strings.Cut(string(decoded[:n]), ":")
	if err != nil || user == "" {
		x.presented = true
		return
	}
	x.presentText(user)
}

func (x *exchange) presentQuery() {
	for query := x.req.URL.RawQuery; query != ""; {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		if name != "write_key" && name != "writeKey" {
			continue
		}
		if strings.ContainsAny(value, "%+") {
			value, _ = url.QueryUnescape(value)
		}
		x.presentText(value)
	}
}

// admit ends authentication: it answers if there is no key in force, or if the
// key may not be used from where the request comes.
func (x *exchange) admit() bool {
	if x.conflict || x.key == nil {
		return x.refuseKey()
	}
	x.corsForKey(x.key)
	if x.key.AllowsOrigin(x.origin) {
		return true
	}
	if x.origin == "" {
		return x.fail(codeOriginForbidden, "the key "+x.key.ID+" is for certain origins only, and the request has no Origin header")
	}
	if x.key.Kind == source.Secret && len(x.key.Origins) == 0 {
		return x.fail(codeSecretInBrowser, "the request has an Origin header, so it comes from a browser, where "+x.key.ID+
			", a secret key, can be read by anyone: replace it, and use a write key in pages")
	}
	return x.fail(codeOriginForbidden, "the key "+x.key.ID+" may not be used from "+clip(x.origin))
}

// refuseKey answers that there is not one key in force.
func (x *exchange) refuseKey() bool {
	switch {
	case x.conflict:
		return x.fail(codeConflictingKeys, "the request carries two different keys that are both in force; send one")
	case x.inactive != nil && x.inactive.State(x.start) == source.Disabled:
		return x.fail(codeKeyDisabled, "the key "+x.inactive.ID+" is disabled")
	case x.inactive != nil:
		return x.fail(codeKeyExpired, "the key "+x.inactive.ID+" expired at "+x.inactive.ExpiresAt.UTC().Format(time.RFC3339))
	case x.presented:
		// Mobile SDKs of RudderStack look for "invalid write key" in the body
		// and then stop until the app starts again. It is in the title of this
		// problem and of no other: the key is in no document, so that it will
		// not become right by waiting.
		return x.fail(codeKeyUnknown, "there is no such key")
	default:
		return x.fail(codeKeyMissing, "send the key as Authorization: Bearer KEY, as the user name of Basic, as X-Write-Key, or as write_key in the query")
	}
}

// withinRate refuses a key that is over its rate already, before its body is
// read. The events are taken off the rate when they have been counted.
func (x *exchange) withinRate() bool {
	if wait := x.key.Limit().Wait(x.start); wait > 0 {
		return x.rateLimited(wait)
	}
	return true
}

func (x *exchange) rateLimited(wait time.Duration) bool {
	return x.failAfter(codeKeyRate, "the key "+x.key.ID+" is over its rate; nothing of this request is stored", wait)
}
