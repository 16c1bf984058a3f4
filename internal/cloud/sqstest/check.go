package sqstest

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of messages. Source: API reference, SendMessage; developer guide,
// "Amazon SQS message attributes".
const (
	maxAttributes    = 10
	maxAttributeName = 256
	maxToken         = 128 // of a group or deduplication id
)

// size is what counts for the limits: body and attributes.
func (m *Message) size() int {
	n := len(m.Body)
	for name, a := range m.Attributes {
		n += len(name) + len(a.DataType) + len(a.StringValue) + len(a.BinaryValue)
	}
	return n
}

// check finds what is wrong with a message for the queue. In a FIFO queue it
// gives it a deduplication id if it can.
func (q *queue) check(m *Message, delay *time.Duration) *Error {
	if err := m.check(); err != nil {
		return err
	}
	if m.size() > q.maxBytes {
		return badValue("One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", q.maxBytes)
	}
	if delay != nil && (*delay < 0 || *delay > maxDelay) {
		return badValue("Value %s for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900.", seconds(*delay))
	}
	for name, token := range map[string]string{"MessageGroupId": m.GroupID, "MessageDeduplicationId": m.DeduplicationID} {
		if !validToken(token) {
			return badValue("Value %s for parameter %s is invalid. Reason: %[2]s can only include alphanumeric and punctuation characters. 1 to 128 in length.", token, name)
		}
	}
	switch {
	case !q.fifo && m.DeduplicationID != "":
		return badValue("Value %s for parameter MessageDeduplicationId is invalid. Reason: The request includes a parameter that is not valid for this queue type.", m.DeduplicationID)
	case !q.fifo:
		return nil
	case delay != nil && *delay > 0:
		return badValue("Value %s for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for this queue type.", seconds(*delay))
	case m.GroupID == "":
		return refuse("MissingParameter", "The request must contain the parameter MessageGroupId.")
	}
	if m.DeduplicationID == "" {
		if !q.contentDedup {
			return badValue("The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly")
		}
		sum := sha256.Sum256([]byte(m.Body))
		m.DeduplicationID = hex.EncodeToString(sum[:])
	}
	return nil
}

// check finds what is wrong with a message for any queue.
func (m *Message) check() *Error {
	if m.Body == "" {
		return refuse("MissingParameter", "The request must contain the parameter MessageBody.")
	}
	if !validText(m.Body) {
		return refuse("InvalidMessageContents", "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF.")
	}
	if n := len(m.Attributes); n > maxAttributes {
		return badValue("Number of message attributes [%d] exceeds the allowed maximum [%d].", n, maxAttributes)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Attributes)) {
		if err := m.Attributes[name].check(name); err != nil {
			return err
		}
	}
	return nil
}

func (a Attribute) check(name string) *Error {
	kind, _, _ := strings.Cut(a.DataType, ".")
	_, notNumber := strconv.ParseFloat(a.StringValue, 64)
	lower := strings.ToLower(name)
	switch {
	case name == "" || len(name) > maxAttributeName || !validAttributeName(name):
		return badValue("Can only include alphanumeric characters, hyphens, underscores, or dots. 1 to 256 in length. The name %q is invalid.", name)
	case strings.HasPrefix(lower, "aws.") || strings.HasPrefix(lower, "amazon."):
		return badValue("You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. The name %q is invalid.", name)
	case a.DataType == "":
		return badValue("The message attribute '%s' must contain non-empty message attribute type.", name)
	case kind != "String" && kind != "Number" && kind != "Binary" || len(a.DataType) > maxAttributeName:
		return badValue("The message attribute '%s' has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String.", name)
	case kind == "Binary" && (len(a.BinaryValue) == 0 || a.StringValue != ""),
		kind != "Binary" && (a.StringValue == "" || len(a.BinaryValue) > 0):
		return badValue("The message attribute '%s' must contain non-empty message attribute value for message attribute type '%s'.", name, a.DataType)
	case kind == "Number" && notNumber != nil:
		return badValue("Can't cast the value of message attribute '%s' to a number.", name)
	case !validText(a.StringValue):
		return badValue("Invalid characters found in the value of message attribute '%s'.", name)
	}
	return nil
}

func validAttributeName(name string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
	return strings.Trim(name, allowed) == "" && name[0] != '.' && name[len(name)-1] != '.' && !strings.Contains(name, "..")
}

// validText reports whether a text has only characters that XML allows. Source:
// API reference, SendMessage.
func validText(text string) bool {
	for i, r := range text {
		switch {
		case r >= 0x20 && r <= 0xd7ff, r == '\t', r == '\n', r == '\r', r >= 0xe000 && r < utf8.RuneError, r >= 0x10000:
		case r == utf8.RuneError && strings.HasPrefix(text[i:], "\uFFFD"):
		default:
			return false
		}
	}
	return true
}

// validToken reports whether a group or deduplication id may be: letters,
// digits and punctuation of ASCII.
func validToken(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return len(token) <= maxToken
}
