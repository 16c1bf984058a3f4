// Package measurement makes the bodies of the GA4 Measurement Protocol of
// events: who did it, what happened, within the limits that Google Analytics
// keeps without a word. What it throws away silently is shortened or left out
// here, and named; an event that it would throw away whole is refused.
//
// It is what the connectors ga4 and gtm share. It makes no call.
package measurement

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// Limits of the protocol. Source: Google, Measurement Protocol, "Sending
// events" and "Reference", and Analytics Help, "Event collection limits" (read
// 2026-11).
const (
	// MaxEvents is the most events of one request.
	MaxEvents = 25
	// MaxBody is below 130 kB, which a request may not reach.
	MaxBody = 129_000
	// MaxParams is the most parameters of an event, and MaxName the characters of
	// its name and of theirs.
	MaxParams = 25
	MaxName   = 40
	// MaxValue is the characters of a parameter's value, MaxValue360 those of a
	// property of Google Analytics 360.
	MaxValue    = 100
	MaxValue360 = 500
	// MaxProperties is the most user properties.
	MaxProperties    = 25
	MaxPropertyName  = 24
	MaxPropertyValue = 36
	// MaxItems is the most items of an event. The number is second-hand: Google's
	// own pages do not say one.
	MaxItems = 200
	// MaxUserID is the characters of a user_id.
	MaxUserID = 256
	// MaxAge is how old an event may be when it arrives.
	MaxAge = 72 * time.Hour
)

// margin is left of MaxAge for the call itself.
const margin = time.Minute

// Values of Options.WithoutIdentity.
const (
	Dead     = "dead"
	PerEvent = "event"
)

// Consent is what a user has agreed to: "granted", "denied", or "" if nothing is
// to be said of it.
type Consent struct {
	AdUserData        string `json:"ad_user_data" validate:"omitempty,oneof=granted denied"`
	AdPersonalization string `json:"ad_personalization" validate:"omitempty,oneof=granted denied"`
}

// Options say how events are mapped.
type Options struct {
	Mapping mapping.Settings
	// App says that the events are of an app's stream, whose users have an
	// app_instance_id. Otherwise it is that of a web site.
	App bool
	// EventIDParameter is the parameter that gets the event's id, none if it is
	// empty.
	EventIDParameter string
	// Consent holds where an event has none of its own.
	Consent Consent
	// Currency is that of values of events that name none. Three capital letters,
	// or empty.
	Currency string
	// Ecommerce gives the events of the common e-commerce vocabulary the names
	// that Google Analytics has for them, and their products those of its items.
	Ecommerce bool
	// UserData sends hashes of the email address and telephone number, for events
	// that have a user id.
	UserData bool
	// Analytics360 allows values of MaxValue360 characters.
	Analytics360 bool
	// WithoutIdentity is what becomes of an event of nobody: Dead makes a dead
	// letter of it, PerEvent a user of its own.
	WithoutIdentity string
}

// Planner maps events into requests. It is safe for concurrent use.
type Planner struct {
	o        Options
	mapper   *mapping.Mapper
	maxValue int
	scratch  sync.Pool // *scratch
}

// New returns a Planner. The error joins every fault, each with the name of the
// setting.
func New(o Options) (*Planner, error) {
	var faults []error
	mapper, err := mapping.New(o.Mapping, defaults(o.App))
	if err != nil {
		faults = append(faults, err)
	}
	switch name := o.EventIDParameter; {
	case name == "":
	case mapping.Snake(name, MaxName) != name || reserved.param(name):
		faults = append(faults, errors.New("event_id_parameter: must be small letters, digits and underscores, at most 40, the first a letter, and not reserved"))
	case isRuled(name):
		faults = append(faults, errors.New("event_id_parameter: Google Analytics knows this parameter, it holds something else"))
	}
	if o.Currency != "" && !isCurrency(o.Currency) {
		faults = append(faults, errors.New("currency: must be three capital letters, such as EUR"))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	p := &Planner{o: o, mapper: mapper, maxValue: MaxValue}
	if o.Analytics360 {
		p.maxValue = MaxValue360
	}
	p.scratch.New = func() any { return new(scratch) }
	return p, nil
}

// Batch is one request: events of one user with the same properties, consent
// and device. Its bytes are never changed.
type Batch struct {
	// head is the beginning of the body, all that is said of the user.
	head   string
	events []entry
}

// entry is one event of a Batch.
type entry struct {
	// body is the event up to its time.
	body []byte
	// at is when it happened, the zero time if that is not known.
	at time.Time
	// note says what was left out or shortened.
	note string
}

// Body returns the request at a time. What has become too old by then is not in
// it: results holds for each event what came of it, Delivered with the note of
// what was cut for those that are in the body. A body without events is nil.
// The validation is that of the protocol: RELAXED if it is empty.
func (b *Batch) Body(now time.Time, validation string) (body []byte, results []connector.Result) {
	size := len(b.head) + frameSize
	for i := range b.events {
		size += len(b.events[i].body) + stampSize
	}
	results = make([]connector.Result, len(b.events))
	body = append(make([]byte, 0, size), b.head...)
	if validation != "" {
		body = mapping.AppendText(body, "validation_behavior", validation)
	}
	body = append(body, `,"events":[`...)
	n := 0
	for i := range b.events {
		e := &b.events[i]
		if !e.at.IsZero() && now.Sub(e.at) > MaxAge-margin {
			results[i] = *mapping.Refuse("too_old", "timestamp", "Google Analytics takes no event that happened more than 72 hours ago, and this one has waited until then")
			continue
		}
		results[i].Class = connector.Delivered
		if e.note != "" {
			results[i].Code, results[i].Message = "shortened", e.note
		}
		if n++; n > 1 {
			body = append(body, ',')
		}
		body = appendStamp(append(body, e.body...), e.at, now)
	}
	if n == 0 {
		return nil, results
	}
	return append(body, "]}"...), results
}

// frameSize is room for what a request has besides its head and its events, and
// stampSize for the time of an event and a comma.
const (
	frameSize = len(`,"validation_behavior":"ENFORCE_RECOMMENDATIONS","events":[]}`)
	stampSize = len(`,"timestamp_micros":-9223372036854775808},`)
)

// appendStamp appends when an event happened, which is never in the future: the
// clock of the sender, or of the gateway, may be fast.
func appendStamp(dst []byte, at, now time.Time) []byte {
	if !at.IsZero() {
		if at.After(now) {
			at = now
		}
		dst = append(dst, `,"timestamp_micros":`...)
		dst = strconv.AppendInt(dst, at.UnixMicro(), 10)
	}
	return append(dst, '}')
}

// Settle gives the result of a call to those of its events that were in its
// body: the results are those of Body. What was cut stays named.
func Settle(results []connector.Result, result connector.Result) {
	for i := range results {
		note := results[i]
		if note.Class != connector.Delivered {
			continue // too old
		}
		results[i] = result
		if result.Class == connector.Delivered {
			results[i].Code, results[i].Message = note.Code, note.Message
		}
	}
}

// Plan implements connector.Connector for those that send a Batch: it is the
// payload of the calls. Events of one partition key stay in their order.
func (p *Planner) Plan(events []connector.Delivery) connector.Plan {
	s := p.scratch.Get().(*scratch)
	defer p.scratch.Put(s)
	var plan connector.Plan
	var batches []*Batch
	var sizes []int
	open := make(map[string]int, len(events)) // the last call of a head
	last := make(map[string]int, len(events)) // the last call of a partition key
	for i := range events {
		at, refused := p.event(s, &events[i].Event)
		if refused != nil {
			plan.Done = append(plan.Done, connector.Done{Event: i, Result: *refused})
			continue
		}
		key := events[i].Event.PartitionKey()
		c, ok := open[string(s.head)]
		// An event joins only a call that is not before the last of its key.
		if !ok || len(batches[c].events) == MaxEvents || sizes[c]+len(s.body)+stampSize > MaxBody || last[key] > c {
			c = len(batches)
			b := &Batch{head: string(s.head)}
			batches, sizes = append(batches, b), append(sizes, len(b.head)+frameSize)
			plan.Calls = append(plan.Calls, connector.Call{Payload: b})
			open[b.head] = c
		}
		last[key] = c
		batches[c].events = append(batches[c].events, entry{bytes.Clone(s.body), at, s.note()})
		sizes[c] += len(s.body) + stampSize
		plan.Calls[c].Events = append(plan.Calls[c].Events, i)
	}
	return plan
}

// event maps one event into the scratch, or says why it is not sent.
func (p *Planner) event(s *scratch, e *event.Event) (at time.Time, refused *connector.Result) {
	s.left, s.cut = s.left[:0], s.cut[:0]
	r := &s.record
	if refused := p.mapper.Map(e, r); refused != nil {
		return at, refused
	}
	if at, refused = clock(r); refused != nil {
		return at, refused
	}
	if refused := p.user(s, r); refused != nil {
		return at, refused
	}
	if refused := p.what(s, r); refused != nil {
		return at, refused
	}
	if size := len(s.head) + frameSize + len(s.body) + stampSize; size > MaxBody {
		return at, mapping.Refuse("too_large", "data", fmt.Sprintf("the event makes a request of %d bytes, and less than 130,000 are allowed", size))
	}
	return at, nil
}

// clock returns when the event happened, no later than it was received: the past
// alone is allowed.
func clock(r *mapping.Record) (at time.Time, refused *connector.Result) {
	received, err := time.Parse(time.RFC3339Nano, r.Event.ReceivedAt)
	switch {
	case r.Time.IsZero() || err != nil:
		return r.Time, nil
	case received.Sub(r.Time) > MaxAge:
		return at, mapping.Refuse("too_old", "timestamp", "Google Analytics takes no event that happened more than 72 hours ago, and this one had when it was received")
	case r.Time.After(received):
		return received.UTC(), nil
	}
	return r.Time, nil
}
