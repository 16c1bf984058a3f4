package edge

import (
	"net/http"
	"strconv"
	"time"

	"github.com/eventsluice/sluice/internal/event"
)

// code names what is wrong with a whole request. Its name is part of the
// contract: clients branch on it, and it is a label of metrics.
type code uint8

const (
	codeNone code = iota
	codeEmptyBody
	codeInvalidJSON
	codeInvalidEncoding
	codeIncompleteBody
	codeConflictingKeys
	codeKeyMissing
	codeKeyUnknown
	codeKeyDisabled
	codeKeyExpired
	codeTokenInvalid
	codeTokenExpired
	codeTokenMissing
	codeSignatureMissing
	codeSignatureInvalid
	codeSignatureStale
	codeSignatureReplayed
	codeOriginForbidden
	codeAddressForbidden
	codeSecretInBrowser
	codeEventForbidden
	codeNotFound
	codeMethodNotAllowed
	codeBodyTimeout
	codeBodyTooLarge
	codeTooManyEvents
	codeEventTooLarge
	codeUnknownEncoding
	codeNoEvents
	codeInvalidEvents
	codeKeyRate
	codeAddressRate
	codeUserRate
	codeEventRate
	codeInternal
	codeOverloaded
	codeUnavailable
	codes
)

// problems is what each code means, to programs (status, name) and to people
// (title).
var problems = [codes]struct {
	status      int
	name, title string
}{
	codeEmptyBody:         {http.StatusBadRequest, "empty_body", "The body is empty"},
	codeInvalidJSON:       {http.StatusBadRequest, "invalid_json", "The body is not JSON"},
	codeInvalidEncoding:   {http.StatusBadRequest, "invalid_encoding", "The body is not what Content-Encoding says"},
	codeIncompleteBody:    {http.StatusBadRequest, "incomplete_body", "The body ended early"},
	codeConflictingKeys:   {http.StatusBadRequest, "conflicting_keys", "The request carries two different keys"},
	codeKeyMissing:        {http.StatusUnauthorized, "missing_key", "The request carries no key"},
	codeKeyUnknown:        {http.StatusUnauthorized, "unknown_key", "Invalid write key"},
	codeKeyDisabled:       {http.StatusUnauthorized, "disabled_key", "The key is disabled"},
	codeKeyExpired:        {http.StatusUnauthorized, "expired_key", "The key has expired"},
	codeTokenInvalid:      {http.StatusUnauthorized, "invalid_token", "The token is not valid"},
	codeTokenExpired:      {http.StatusUnauthorized, "expired_token", "The token has expired"},
	codeTokenMissing:      {http.StatusUnauthorized, "missing_token", "The request carries no token"},
	codeSignatureMissing:  {http.StatusUnauthorized, "missing_signature", "The request is not signed"},
	codeSignatureInvalid:  {http.StatusUnauthorized, "invalid_signature", "The signature is not valid"},
	codeSignatureStale:    {http.StatusUnauthorized, "stale_signature", "The signature is too old, or of the future"},
	codeSignatureReplayed: {http.StatusUnauthorized, "replayed_signature", "The signed request was accepted before"},
	codeOriginForbidden:   {http.StatusForbidden, "origin_forbidden", "The key may not be used from this origin"},
	codeAddressForbidden:  {http.StatusForbidden, "address_forbidden", "The key may not be used from this address"},
	codeSecretInBrowser:   {http.StatusForbidden, "secret_key_in_browser", "A secret key must not be used in a browser"},
	codeEventForbidden:    {http.StatusForbidden, "forbidden", "The key may not send these events"},
	codeNotFound:          {http.StatusNotFound, "not_found", "There is nothing at this path"},
	codeMethodNotAllowed:  {http.StatusMethodNotAllowed, "method_not_allowed", "The path does not take this method"},
	codeBodyTimeout:       {http.StatusRequestTimeout, "body_timeout", "The body arrived too slowly"},
	codeBodyTooLarge:      {http.StatusRequestEntityTooLarge, "body_too_large", "The body is too large"},
	codeTooManyEvents:     {http.StatusRequestEntityTooLarge, "too_many_events", "The request has too many events"},
	codeEventTooLarge:     {http.StatusRequestEntityTooLarge, "too_large", "The event is too large"},
	codeUnknownEncoding:   {http.StatusUnsupportedMediaType, "unknown_encoding", "The Content-Encoding is not known"},
	codeNoEvents:          {http.StatusUnprocessableEntity, "no_events", "The request has no events"},
	codeInvalidEvents:     {http.StatusUnprocessableEntity, "invalid", "No event of the request is valid"},
	codeKeyRate:           {http.StatusTooManyRequests, "rate_limited", "The key sends too many events"},
	codeAddressRate:       {http.StatusTooManyRequests, "address_rate_limited", "The address sends too many requests"},
	codeUserRate:          {http.StatusTooManyRequests, "user_rate_limited", "The user sends too many events"},
	codeEventRate:         {http.StatusTooManyRequests, "event_rate_limited", "Too many events have this name"},
	codeInternal:          {http.StatusInternalServerError, "internal", "The gateway has failed"},
	codeOverloaded:        {http.StatusServiceUnavailable, "overloaded", "The gateway has no room for the request"},
	codeUnavailable:       {http.StatusServiceUnavailable, "unavailable", "The events could not be stored"},
}

func (c code) String() string { return problems[c].name }

// problemType begins the type URI of problem documents. It is a name and not
// an address: a gateway on a private network has no page to show.
const problemType = "urn:sluice:problem:"

var (
	jsonType    = []string{"application/json"}
	problemJSON = []string{"application/problem+json"}
	noSniff     = []string{"nosniff"}
	closeIt     = []string{"close"}
	bearer      = []string{`Bearer realm="sluice"`}
	badBearer   = []string{`Bearer realm="sluice", error="invalid_token"`} // RFC 6750, section 3.1
)

// fail answers with a problem document. It returns false, for the caller to
// return it.
//
// The document is RFC 9457 with four more members, which SDKs read: Segment's
// Python library takes an answer without code and message for a passing fault,
// and its Ruby library prints error.
func (x *exchange) fail(c code, detail string) bool {
	x.problem(c, detail, 0, false)
	return false
}

// failAfter is fail with a Retry-After.
func (x *exchange) failAfter(c code, detail string, wait time.Duration) bool {
	x.problem(c, detail, wait, false)
	return false
}

func (x *exchange) problem(c code, detail string, wait time.Duration, withErrors bool) {
	p := problems[c]
	x.code = c
	if p.status == http.StatusTooManyRequests && x.sdkRoute != nil && x.sdkRoute.no429 {
		// posthog-js drops what is answered 4xx, 429 as well, and sends it again
		// after a 5xx. Source: retry-queue.ts of posthog-js 1.449.2.
		p.status = http.StatusServiceUnavailable
	}
	if p.status == http.StatusTooManyRequests || p.status == http.StatusServiceUnavailable {
		x.failForTheDeaf()
	}
	out := x.out[:0]
	out = append(out, `{"type":"`+problemType...)
	out = append(out, p.name...)
	out = append(out, `","title":`...)
	out = event.AppendString(out, p.title)
	out = append(out, `,"status":`...)
	out = strconv.AppendInt(out, int64(p.status), 10)
	out = append(out, `,"detail":`...)
	out = event.AppendString(out, detail)
	out = append(out, `,"success":false,"error":`...)
	out = event.AppendString(out, p.title)
	out = append(out, `,"code":"`...)
	out = append(out, p.name...)
	out = append(out, `","message":`...)
	out = event.AppendString(out, detail)
	if withErrors {
		out = append(out, `,"accepted":0,"rejected":`...)
		out = strconv.AppendInt(out, int64(len(x.rejects)), 10)
		out = append(out, ',')
		out = x.appendErrors(out)
	}
	x.out = append(out, '}')

	h := x.Header()
	h["X-Content-Type-Options"] = noSniff
	if p.status == http.StatusUnauthorized {
		// Only Bearer: a Basic challenge makes browsers ask people for a name.
		h["Www-Authenticate"] = bearer
		if c == codeTokenInvalid || c == codeTokenExpired {
			h["Www-Authenticate"] = badBearer
		}
	}
	if wait > 0 {
		h["Retry-After"] = []string{strconv.FormatInt(retrySeconds(wait), 10)}
	}
	x.reply(p.status, problemJSON, x.out)
}

// retrySeconds is a wait as Retry-After says it: whole seconds, rounded up,
// one at least (SDKs parse an integer and take 0 for none).
func retrySeconds(d time.Duration) int64 {
	return max(1, int64((d+time.Second-1)/time.Second))
}
