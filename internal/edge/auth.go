package edge

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/edge/protocol"
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
//
// A token (a JWT) comes as Bearer only. It stands for a key of kind token, or
// comes beside a key that wants one.

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
	case x.key == nil || x.key == x.byToken:
		x.key = k
	case x.key.ID != k.ID: // an older value of a key is the same key
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
			if rest = strings.TrimSpace(rest); x.keys.LooksLikeToken(rest) {
				x.presentToken(rest)
			} else {
				x.presentText(rest)
			}
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

// presentToken verifies a token. It may wait for the keys of its issuer.
func (x *exchange) presentToken(token string) {
	x.presented = true
	k, user, refusal := x.keys.VerifyToken(token, x.start)
	switch {
	case refusal != nil:
		if x.badToken == nil || refusal.Reason == source.Undecided {
			x.badToken = refusal
		}
	case k.State(x.start) != source.Active:
		if x.inactive == nil {
			x.inactive = k
		}
	case x.byToken == nil:
		if x.byToken, x.user = k, user; x.key == nil {
			x.key = k
		}
	case x.byToken != k || x.user != user:
		x.conflict = true
	}
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
	protocol.Fields(x.req.URL.RawQuery, func(name, value string) bool {
		if name == "write_key" || name == "writeKey" {
			if strings.ContainsAny(value, "%+") {
				value, _ = url.QueryUnescape(value)
			}
			x.presentText(value)
		}
		return true
	})
}

// admit ends authentication: it answers if there is no key in force, or if the
// key may not be used by who sends the request and from where. It is called
// again when there may be a key in the body too.
func (x *exchange) admit() bool {
	if x.byToken != nil && x.key != x.byToken && x.key.Token != x.byToken.ID {
		x.conflict = true
	}
	if x.conflict || x.key == nil {
		return x.refuseKey()
	}
	if x.admitted == x.key {
		return true
	}
	x.corsForKey(x.key)
	if !x.fromOrigin() || !x.fromAddress() || !x.byUser() || !x.signedInTime() {
		return false
	}
	x.admitted = x.key
	return true
}

// meets reports whether the request may go on though it does not meet a
// restriction of its key: in modes observe, which counts it, and off. In mode
// enforce it answers.
func (x *exchange) meets(r source.Restriction, c code, detail string) bool {
	if x.enforces(r, detail) {
		return x.fail(c, detail)
	}
	return true
}

// enforces reports whether a restriction of the key, which the request or one
// of its events does not meet, is to be enforced. In mode observe it counts,
// and logs within bounds.
func (x *exchange) enforces(r source.Restriction, detail string) bool {
	switch x.key.Mode(r) {
	case source.Enforce:
		return true
	case source.Observe:
		if count, log := x.key.WouldRefuse(r, x.start); log {
			x.edge.log.LogAttrs(context.Background(), slog.LevelInfo, "a restriction that is observed would refuse",
				slog.String("key", x.key.ID), slog.String("restriction", r.String()), slog.String("reason", detail), slog.Uint64("so_far", count))
		}
	}
	return false
}

func (x *exchange) fromOrigin() bool {
	k := x.key
	switch {
	case k.OriginListed(x.origin):
		return true
	case x.origin == "":
		return x.meets(source.RestrictOrigins, codeOriginForbidden, "the key "+k.ID+" is for certain origins only, and the request has no Origin header")
	case k.Kind == source.Secret && len(k.Origins) == 0:
		return x.fail(codeSecretInBrowser, "the request has an Origin header, so it comes from a browser, where "+k.ID+
			", a secret key, can be read by anyone: replace it, and use a write key in pages")
	}
	return x.meets(source.RestrictOrigins, codeOriginForbidden, "the key "+k.ID+" may not be used from "+clip(x.origin))
}

func (x *exchange) fromAddress() bool {
	if len(x.key.IPs) == 0 || x.key.AddressListed(x.address()) {
		return true
	}
	from := "an unknown address"
	if a := x.address(); a.IsValid() {
		from = a.String()
	}
	return x.meets(source.RestrictIPs, codeAddressForbidden, "the key "+x.key.ID+" may not be used from "+from)
}

// byUser makes sure that a key whose events are a user's comes with a token that
// names one. In mode off the user of the token counts for nothing.
func (x *exchange) byUser() bool {
	k := x.key
	if !k.NamesUser() {
		return true
	}
	switch {
	case k.Mode(source.RestrictToken) == source.Off:
		return true
	case x.byToken != nil && x.user != "":
		return true
	case x.byToken != nil:
		return x.meets(source.RestrictToken, codeTokenInvalid, "the token names no user, whose the events of the key "+k.ID+" are to be")
	case x.badToken != nil:
		if x.enforces(source.RestrictToken, x.badToken.Detail) {
			return x.refuse(x.badToken)
		}
		return true
	}
	return x.meets(source.RestrictToken, codeTokenMissing, "the key "+k.ID+" is used with a token of its user: send it as Authorization: Bearer TOKEN, and the key elsewhere")
}

// ofUser reports whether an event is of the user that the token names, whom it
// gets if it names nobody.
func (x *exchange) ofUser(user *string) bool {
	switch {
	case x.user == "" || *user == x.user || x.key.Mode(source.RestrictToken) == source.Off:
		return true
	case *user == "":
		*user = x.user
		return true
	}
	return !x.enforces(source.RestrictToken, detailUserForbidden)
}

const detailUserForbidden = "it is not the user that the token names; leave it out, or send a token of this user"

// codeUserForbidden is what the sender is told of an event of another user.
const codeUserForbidden = "user_forbidden"

// signature returns the headers of a signed request. Of two with one name the
// first counts, and a signature that is made over another does not fit.
func (x *exchange) signature() source.Signed {
	h := x.req.Header
	return source.Signed{ID: h.Get("Webhook-Id"), Timestamp: h.Get("Webhook-Timestamp"), Signature: h.Get("Webhook-Signature")}
}

// wantsSignature reports whether it matters how requests of the key are signed.
func (x *exchange) wantsSignature() bool {
	return x.key.Signs() && x.key.Mode(source.RestrictSignature) != source.Off
}

// signedInTime refuses a request that is not signed as its key wants it, as far
// as that is known before the body has come.
func (x *exchange) signedInTime() bool {
	if !x.wantsSignature() {
		return true
	}
	refusal := x.key.CheckSigned(x.signature(), x.start)
	if x.req.Method != http.MethodPost {
		refusal = &source.Refusal{Reason: source.MissingSignature, Detail: "what a query holds cannot be signed: use POST"}
	}
	if refusal == nil {
		return true
	}
	if x.enforces(source.RestrictSignature, refusal.Detail) {
		return x.refuse(refusal)
	}
	x.unsigned = true
	return true
}

// keepSent keeps the body as it was sent, if it is signed: who reads it may
// write over it before the key is known.
func (x *exchange) keepSent() bool {
	if len(x.wire) > 0 || len(x.body) == 0 || x.req.Header["Webhook-Signature"] == nil {
		return true
	}
	if !x.reserve(int64(len(x.body))) {
		return x.overloaded()
	}
	x.wire = append(x.wire, x.body...)
	return true
}

// signed refuses a request whose signature does not fit its body. It is called
// when the request is admitted and its body is there.
func (x *exchange) signed() bool {
	if x.unsigned || !x.wantsSignature() {
		return true
	}
	body := x.body
	if len(x.wire) > 0 {
		body = x.wire // what x.body was made of
	}
	receipt, refusal := x.key.Verify(x.signature(), body, x.start)
	x.receipt = receipt
	if refusal != nil && x.enforces(source.RestrictSignature, refusal.Detail) {
		return x.refuse(refusal)
	}
	return true
}

// settle ends what the request held of the memory for signatures: one that was
// answered 2xx must not come again, any other may.
func (x *exchange) settle() {
	if x.receipt != nil {
		x.receipt.Settle(x.status >= 200 && x.status < 300)
		x.receipt = nil
	}
}

// refusals are the codes of what package source refuses.
var refusals = [source.Reasons]code{
	source.Undecided: codeUnavailable, source.InvalidToken: codeTokenInvalid, source.ExpiredToken: codeTokenExpired,
	source.MissingToken: codeTokenMissing, source.MissingSignature: codeSignatureMissing, source.InvalidSignature: codeSignatureInvalid,
	source.StaleSignature: codeSignatureStale, source.ReplayedSignature: codeSignatureReplayed,
}

// refuse answers with what package source says is wrong.
func (x *exchange) refuse(r *source.Refusal) bool {
	if r.Err != nil {
		x.cause = r.Err
	}
	return x.failAfter(refusals[r.Reason], r.Detail, r.RetryAfter)
}

// refuseKey answers that there is not one key in force.
func (x *exchange) refuseKey() bool {
	switch {
	case x.conflict:
		return x.fail(codeConflictingKeys, "the request carries two different keys that are both in force; send one")
	case x.badToken != nil && x.badToken.Reason == source.Undecided:
		return x.refuse(x.badToken) // before anything that is final
	case x.inactive != nil && x.inactive.State(x.start) == source.Disabled:
		return x.fail(codeKeyDisabled, "the key "+x.inactive.ID+" is disabled")
	case x.inactive != nil && x.inactive.Replaced():
		return x.fail(codeKeyExpired, "this value of the key "+x.inactive.ID+" was replaced, and ended at "+x.inactive.ExpiresAt.UTC().Format(time.RFC3339))
	case x.inactive != nil:
		return x.fail(codeKeyExpired, "the key "+x.inactive.ID+" expired at "+x.inactive.ExpiresAt.UTC().Format(time.RFC3339))
	case x.badToken != nil:
		return x.refuse(x.badToken)
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
