// Package fault is the vocabulary of failure: what kind of thing went wrong,
// what may be said about it to the sender, and when to try again.
//
// An error is classified where the knowledge is (the store, the HTTP client,
// the decoder), gains context on the way up by wrapping, and is translated
// once at the edge. The Kind is also the label in metrics and dead letters.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what went wrong, in the few categories that callers act on.
type Kind uint8

const (
	// Internal is a fault of ours or one that nobody has classified. It is
	// treated as retryable: an unknown failure must never lose an event.
	Internal Kind = iota
	// Invalid is input that can never succeed as it is.
	Invalid
	// TooLarge is input over a limit of size.
	TooLarge
	// Unauthenticated is a missing, wrong, disabled or expired key.
	Unauthenticated
	// Forbidden is a known key used outside its scope.
	Forbidden
	// Throttled is a limit on the caller: slow down and try again.
	Throttled
	// Unavailable is a write that was not stored, through no fault of the
	// caller: the stream is away, full or over its capacity.
	Unavailable
	// Ambiguous is a write whose fate is unknown: it may have been stored.
	Ambiguous
	// NotFound is a thing that does not exist.
	NotFound
	// Conflict is a change that another change has overtaken.
	Conflict
)

var names = [...]string{
	Internal: "internal", Invalid: "invalid", TooLarge: "too_large",
	Unauthenticated: "unauthenticated", Forbidden: "forbidden",
	Throttled: "throttled", Unavailable: "unavailable", Ambiguous: "ambiguous",
	NotFound: "not_found", Conflict: "conflict",
}

// String returns the name used in logs, metrics, problem documents and dead
// letters.
func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Error is a classified failure.
type Error struct {
	Kind Kind
	// Detail may be shown to a sender: it holds no secret, no address of the
	// inside and nothing of other senders' events.
	Detail string
	// RetryAfter is how long to wait before trying again; zero if unknown.
	RetryAfter time.Duration
	// Err is the cause, for the log only.
	Err error
}

func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.Kind.String() + ": " + e.Detail
	case e.Detail == "":
		return e.Kind.String() + ": " + e.Err.Error()
	}
	return e.Kind.String() + ": " + e.Detail + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// New returns an Error of a kind whose detail may be shown to a sender.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// KindOf returns the kind of the first Error in err's chain, and Internal for
// any other error.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// RetryAfter returns the wait that the first Error in err's chain asks for,
// zero if none does.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}
