package letters

import "unicode/utf8"

// Attributes of our messages that Lambda has too, and of those of Lambda alone.
// Source: Lambda developer guide, "Adding a dead-letter queue" (read 2026-11).
const (
	attrError     = "ErrorMessage"
	attrRequestID = "RequestID"
	attrErrorCode = "ErrorCode"
)

// Sizes of what people read, in bytes.
const (
	maxText    = 1 << 10
	maxExcerpt = 4 << 10
)

// clip returns at most n bytes of s, cut between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
