// Package deadletter is about events that could not be delivered: the letter
// that keeps one with all that is known about its failure, the queue of
// letters, and the ways out of it (backup, replay, purge).
//
// Events that wait for another attempt are letters too, in a queue of their
// own: the two differ in what happens next, not in what is known.
package deadletter

import (
	"context"
	"encoding/json"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/event"
)

// Letter is one event that a destination does not have yet.
type Letter struct {
	// ID is unique in its queue. For an event of the stream it is its place
	// there, position.record.event, so that writing it twice changes nothing.
	ID string `json:"id"`
	// Destination is the destination that does not have the event.
	Destination string `json:"destination"`
	// ARN is what was invoked for the destination, or the queue that feeds it;
	// empty off AWS.
	ARN string `json:"destination_arn,omitempty"`
	// Event is the whole event, as the destination should have got it (after
	// the rule's transform). Raw holds the bytes instead if they are not JSON.
	Event json.RawMessage `json:"event,omitempty"`
	Raw   []byte          `json:"raw,omitempty"`
	// Claim says where the event is if it was too large to be in the letter.
	Claim *event.Claim `json:"claim,omitempty"`
	// EventID and EventName are the event's own, for filters and lists.
	EventID   string `json:"event_id,omitempty"`
	EventName string `json:"event_name,omitempty"`
	// PartitionKey orders letters: those of one key are delivered in order.
	PartitionKey string `json:"partition_key,omitempty"`
	// Position is where the event stands on the stream; zero if it never got
	// there.
	Position uint64 `json:"position,omitempty"`
	// Attempts were made so far; NotBefore is when the next may be.
	Attempts  int       `json:"attempts"`
	FirstSeen time.Time `json:"first_seen,omitzero"`
	LastTry   time.Time `json:"last_try,omitzero"`
	NotBefore time.Time `json:"not_before,omitzero"`
	// Tries are the attempts that failed, oldest first: of many, the first and
	// the newest, mostTries together.
	Tries []Try `json:"tries,omitempty"`
	// Class, Code, Message and Status are those of the last attempt: what
	// kind of failure, what the destination objected to, its HTTP status.
	Class   string `json:"class"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	Status  int    `json:"status,omitempty"`
	// Request and Response are excerpts of the last call, secrets masked.
	Request  string `json:"request,omitempty"`
	Response string `json:"response,omitempty"`
	// Rule wanted the event; Connector is kind and version, "webhook@1".
	Rule      string `json:"rule,omitempty"`
	Connector string `json:"connector,omitempty"`
	// Source is the source of the key, for quarantined events.
	Source string `json:"source,omitempty"`
	// User is whom the token of the request named, for quarantined events.
	User string `json:"user,omitempty"`
	// Kept says that somebody was told that the event is safe: a queue that is
	// full never pushes it out to make room. It does not change while the letter
	// exists.
	Kept bool `json:"kept,omitempty"`
}

// size is about how much memory the letter takes.
func (l *Letter) size() int {
	return 1<<10 + len(l.Event) + len(l.Raw) + len(l.Request) + len(l.Response)
}

// Try is one attempt that failed; its fields are those of Letter.
type Try struct {
	At      time.Time `json:"at"`
	Class   string    `json:"class"`
	Code    string    `json:"code,omitempty"`
	Status  int       `json:"status,omitempty"`
	Message string    `json:"message,omitempty"`
}

// mostTries bounds the tries that a letter remembers.
const mostTries = 10

// AppendTry returns tries with one more. It does not change the slice given.
func AppendTry(tries []Try, t Try) []Try {
	if len(tries) >= mostTries {
		tries = slices.Delete(slices.Clone(tries), 1, len(tries)-mostTries+2)
	}
	return append(slices.Clip(tries), t)
}

// Filter selects letters. Zero fields select everything.
type Filter struct {
	// Class and EventName are compared whole; EventName may end in * .
	Class     string `json:"class,omitempty"`
	EventName string `json:"event_name,omitempty"`
	EventID   string `json:"event_id,omitempty"`
	// Since and Until bound LastTry: since ≤ LastTry < until.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// IDs, if not empty, selects these letters only.
	IDs []string `json:"ids,omitempty"`
}

// Queue keeps letters. Its methods are safe for concurrent use.
type Queue interface {
	// Put writes letters; when it returns nil all are durable. A letter whose
	// ID is in the queue already replaces it. After an error any of them may
	// have been written: putting them again is safe.
	Put(ctx context.Context, letters []Letter) error
	// Scan calls yield for the letters in the order in which they were put,
	// after the letter with the cursor (from the start if it is zero), until
	// yield returns false. The cursor of a letter is stable while it exists.
	Scan(ctx context.Context, after uint64, yield func(cursor uint64, l Letter) bool) error
	// Get returns the letter with an ID, or a fault.NotFound.
	Get(ctx context.Context, id string) (Letter, error)
	// Delete removes letters; those that are not there are ignored.
	Delete(ctx context.Context, ids []string) error
	// Count returns how many letters the queue holds.
	Count(ctx context.Context) (uint64, error)
}

// Clip returns at most n bytes of a text, cut between characters: what a letter
// holds of what others wrote is bounded.
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
