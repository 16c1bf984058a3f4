package edge

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/eventsluice/sluice/internal/edge/source"
)

// CORS as browsers need it from a gateway: the exact origin and not *, since
// some SDKs send credentials; Retry-After exposed, or SDKs do not see it; the
// same headers on errors, or a page cannot tell a refusal from a dead network;
// and every header a page asks for, since a retry header that is refused turns
// each retry into a lost event.

var (
	yes         = []string{"true"}
	exposed     = []string{"Retry-After"}
	maxAge      = []string{"7200"} // what Chromium caps it to
	corsMethods = []string{"GET, HEAD, POST, OPTIONS"}
	varyOrigin  = []string{"Origin"}
	varyAll     = []string{"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}
)

// allowHeaders are allowed in any case; what a preflight asks for is allowed
// besides. They are those that SDKs and pages are known to send.
var allowHeaders = []string{
	"authorization", "content-type", "content-encoding", "x-write-key", "x-retry-count",
	"anonymousid", "sentat", "rsa-retry-attempt", "rsa-retry-reason", "rsa-since-last-attempt",
	"rsa-since-first-attempt", "rsa-recovered", "x-enable-debug", "x-ip-policy", "sp-anonymous",
	"traceparent", "tracestate",
}

// allowOrigin lets the page at the request's origin read the answer.
func (x *exchange) allowOrigin() {
	h := x.Header()
	h["Access-Control-Allow-Origin"] = []string{x.origin}
	h["Access-Control-Allow-Credentials"] = yes
	h["Access-Control-Expose-Headers"] = exposed
}

// corsAnyKey lets the page read the answer if some key allows its origin: for
// answers that are given before the key is known.
func (x *exchange) corsAnyKey() {
	if x.origin == "" {
		return
	}
	x.Header()["Vary"] = varyOrigin
	if x.keys != nil && x.keys.AllowsOrigin(x.origin) {
		x.allowOrigin()
	}
}

// corsForKey replaces what corsAnyKey has decided, now that the key is known.
func (x *exchange) corsForKey(k *source.Key) {
	if x.origin == "" {
		return
	}
	if k.AllowsOrigin(x.origin) {
		x.allowOrigin()
		return
	}
	x.disallowOrigin()
}

// disallowOrigin keeps the answer from the page, to which it is as good as a
// dead network.
func (x *exchange) disallowOrigin() {
	h := x.Header()
	delete(h, "Access-Control-Allow-Origin")
	delete(h, "Access-Control-Allow-Credentials")
	delete(h, "Access-Control-Expose-Headers")
}

// failForTheDeaf keeps an answer after which events are to be sent again from a
// page whose SDK does not look at the status, but sends again after what the
// browser calls a failure.
func (x *exchange) failForTheDeaf() {
	if rt := x.sdkRoute; x.origin != "" && rt != nil && rt.protocol == segmentProtocol && deafToStatus(x.body) {
		x.disallowOrigin()
	}
}

// deafToStatus reports whether a body is of analytics-next before 1.71, which
// says in its events what it is. Source: fetch-dispatcher.js and env-enrichment
// of @segment/analytics-next 1.55.0 and 1.70.0.
func deafToStatus(body []byte) bool {
	for _, mark := range deafSDKs {
		_, minor, found := bytes.Cut(body, mark)
		digits := 0
		for digits < len(minor) && minor[digits] >= '0' && minor[digits] <= '9' {
			digits++
		}
		if n, err := strconv.Atoi(string(minor[:digits])); found && err == nil && n < 71 {
			return true
		}
	}
	return false
}

// The versions of analytics-next as npm and as Segment's CDN have it, up to the
// minor one.
var deafSDKs = [][]byte{[]byte(`"npm:next-1.`), []byte(`"next-1.`)}

// preflight answers OPTIONS, on every path and without a key, which preflights
// do not carry. If the key is in the query, it decides.
func (x *exchange) preflight() {
	x.route = routePreflight
	h := x.Header()
	h["Vary"] = varyAll
	h["Allow"] = []string{strings.Join(x.edge.methods(x.req.URL.Path), ", ")}
	if x.origin != "" && x.keys != nil && x.preflightAllowed() {
		x.allowOrigin()
		h["Access-Control-Allow-Methods"] = corsMethods
		h["Access-Control-Allow-Headers"] = []string{allowedHeaders(x.req.Header["Access-Control-Request-Headers"])}
		h["Access-Control-Max-Age"] = maxAge
	}
	x.reply(http.StatusNoContent, nil, nil)
}

func (x *exchange) preflightAllowed() bool {
	if x.presentQuery(); x.key != nil {
		return x.key.AllowsOrigin(x.origin)
	}
	return x.keys.AllowsOrigin(x.origin)
}

// allowedHeaders echoes the headers that were asked for, those that are header
// names, and adds the list.
func allowedHeaders(asked []string) string {
	const most = 4 << 10 // a page needs no more, and a forger gets no more
	var b strings.Builder
	b.WriteString(strings.Join(allowHeaders, ", "))
	for _, line := range asked {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if isToken(name) && b.Len()+len(name) < most && !slices.Contains(allowHeaders, name) {
				b.WriteString(", ")
				b.WriteString(name)
			}
		}
	}
	return b.String()
}

// isToken reports whether s is a token of RFC 9110, in lower case.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}
