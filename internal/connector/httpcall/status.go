package httpcall

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
)

// MaxRetryAfter bounds the wait that a destination may ask for. A longer one
// is more often a mistake in its clock than a plan.
const MaxRetryAfter = 24 * time.Hour

// Classify returns what a status means where the destination's documentation
// says nothing else. A connector that knows better (a partial success, a 200
// that carries errors) decides for itself.
//
//	2xx                      Delivered
//	3xx                      Auth: the address is wrong; redirects are not followed
//	401, 402, 403, 407, 410  Auth: nothing will be accepted until a person acts
//	413                      TooLarge
//	408, 421, 425            Retryable
//	429                      Throttled
//	other 4xx, 501, 505      Permanent
//	other 5xx                Retryable; Throttled if the answer says how long to wait
//	anything else            Retryable
//
// Source: RFC 9110 section 15; Standard Webhooks for 3xx and 410.
func Classify(status int, retryAfter time.Duration) connector.Class {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden,
		http.StatusProxyAuthRequired, http.StatusGone:
		return connector.Auth
	case http.StatusRequestEntityTooLarge:
		return connector.TooLarge
	case http.StatusRequestTimeout, http.StatusMisdirectedRequest, http.StatusTooEarly:
		return connector.Retryable
	case http.StatusTooManyRequests:
		return connector.Throttled
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return connector.Permanent
	}
	switch status / 100 {
	case 2:
		return connector.Delivered
	case 3:
		return connector.Auth
	case 4:
		return connector.Permanent
	case 5:
		if retryAfter > 0 {
			return connector.Throttled
		}
	}
	return connector.Retryable
}

// RetryAfter returns how long an answer asks to wait, at most MaxRetryAfter,
// and zero if it does not. It reads, in this order, Retry-After (seconds or a
// date, RFC 9110 section 10.2.3), X-RateLimit-Retry-After (seconds; Braze) and,
// for a 429 alone, the time at which a window ends: RateLimit-Reset (seconds;
// IETF draft-ietf-httpapi-ratelimit-headers) and X-RateLimit-Reset (seconds,
// or a Unix time in seconds or milliseconds; Segment, GitHub and others). A
// reset header on any other answer tells of a budget that is not used up.
func RetryAfter(status int, header http.Header, now time.Time) time.Duration {
	for _, name := range [...]string{"Retry-After", "X-RateLimit-Retry-After"} {
		if wait, ok := parseWait(header.Get(name), now); ok {
			return wait
		}
	}
	if status != http.StatusTooManyRequests {
		return 0
	}
	for _, name := range [...]string{"RateLimit-Reset", "X-RateLimit-Reset"} {
		if wait, ok := parseReset(header.Get(name), now); ok {
			return wait
		}
	}
	return 0
}

func parseWait(value string, now time.Time) (time.Duration, bool) {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		return fromSeconds(seconds)
	}
	if at, err := http.ParseTime(value); err == nil {
		return bound(at.Sub(now)), true
	}
	return 0, false
}

func parseReset(value string, now time.Time) (time.Duration, bool) {
	number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	switch {
	case err != nil:
		return parseWait(value, now)
	case number > 1e12: // milliseconds since 1970
		return bound(time.UnixMilli(int64(min(number, 1e15))).Sub(now)), true
	case number > 1e9: // seconds since 1970: as a wait it would be 31 years
		return bound(time.Unix(int64(number), 0).Sub(now)), true
	}
	return fromSeconds(number)
}

func fromSeconds(seconds float64) (time.Duration, bool) {
	if math.IsNaN(seconds) {
		return 0, false
	}
	seconds = max(0, min(seconds, MaxRetryAfter.Seconds()))
	return time.Duration(seconds * float64(time.Second)), true
}

func bound(wait time.Duration) time.Duration { return max(0, min(wait, MaxRetryAfter)) }
