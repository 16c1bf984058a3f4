package connector

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/lambdahost"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/connector/attempt"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
)

// parcel is what comes in one piece: the payload of an invocation, or a message.
// It is settled, or comes again, as a whole.
type parcel struct {
	// id names it among all, arn is what it came to. The invocation's are those
	// of its request.
	id, arn string
	body    []byte
	// message is nil for the payload of an invocation.
	message *lambdahost.Message
	// inPlace: what waits of it waits where it is, in its queue.
	inPlace bool
	// failed is why it must come again as it is.
	failed error
	// wait is how long it waits in its queue; it does if waits.
	waits bool
	wait  time.Duration
}

// group is what keeps the order of messages in a FIFO queue, "" elsewhere.
func (p *parcel) group() string {
	if p.message == nil {
		return ""
	}
	return p.message.Group
}

// entry is one event of a parcel.
type entry struct {
	letter deadletter.Letter
	parcel *parcel
	fate   attempt.Fate
	// decided: its fate is known without the destination.
	decided bool
	// early is when the letter may be tried, if it came before; tries how many
	// attempts it came with.
	early time.Time
	tries int
}

// oldest is how old a message of a queue may get: SQS deletes it at 14 days at
// the latest. Source: SQS API reference, SetQueueAttributes,
// MessageRetentionPeriod (read 2026-11).
const oldest = 13 * 24 * time.Hour

func (p *parcel) old(now time.Time) bool {
	return p.message != nil && !p.message.SentAt.IsZero() && now.Sub(p.message.SentAt) > oldest
}

// codeClaim is the Code of letters whose event is not in the bucket any more.
const codeClaim = "claim"

// open returns the events of a parcel. An error says that they cannot be known
// now, and the parcel has to come again.
func (f *Function) open(ctx context.Context, p *parcel) ([]entry, error) {
	base := deadletter.Letter{ARN: p.arn, FirstSeen: time.Now()}
	if p.message != nil && !p.message.SentAt.IsZero() {
		base.FirstSeen = p.message.SentAt
	}
	body := p.body
	if claim, ok := event.ParseClaim(body); ok {
		payload, lost, err := f.redeem(ctx, claim)
		switch {
		case err != nil:
			return nil, err
		case lost != nil:
			return []entry{f.lost(base, p, claim, lost)}, nil
		}
		body = payload
	}
	letters := decode(body, base, p.id)
	entries := make([]entry, len(letters))
	for i := range letters {
		e := &entries[i]
		e.parcel, e.letter = p, letters[i]
		if err := f.complete(ctx, e); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// complete makes the event of a letter that has waited ready for delivery.
func (f *Function) complete(ctx context.Context, e *entry) error {
	l, p := &e.letter, e.parcel
	if l.Claim != nil {
		claim := *l.Claim
		payload, lost, err := f.redeem(ctx, claim)
		switch {
		case err != nil:
			return err
		case lost != nil:
			*e = f.lost(*l, p, claim, lost)
			return nil
		}
		l.Event, l.Claim = payload, nil
	}
	if l.Destination != "" && l.Destination != f.settings.Destination {
		l.Class, l.Code, l.NotBefore = "permanent", "destination", time.Time{}
		l.Message = fmt.Sprintf("the letter is for destination %q and came to %q: check RETRY_QUEUE and DESTINATION", l.Destination, f.settings.Destination)
		e.decided, e.fate = true, attempt.Dead
		return nil
	}
	if p.inPlace && p.message.Receives > 1 {
		// Nobody can write into a message that waits in its queue, so that its
		// receives stand for attempts. That is too many where it was not tried
		// when it came: it was early, or behind another.
		l.Attempts += p.message.Receives - 1
	}
	e.tries = l.Attempts
	if l.NotBefore.After(time.Now()) {
		e.early = l.NotBefore
	}
	return nil
}

// redeem returns the payload of a claim. lost says that it will never be had.
func (f *Function) redeem(ctx context.Context, c event.Claim) (payload []byte, lost, err error) {
	payload, err = f.objects.Redeem(ctx, c)
	if err != nil && (payload != nil || !queue.Passing(err)) {
		return nil, err, nil // it is not what was claimed, or not there
	}
	return payload, nil, err
}

func (f *Function) lost(l deadletter.Letter, p *parcel, c event.Claim, why error) entry {
	if l.ID == "" {
		l.ID = placeID(p.id, 0)
	}
	l.Destination, l.Claim, l.Event, l.Raw = f.settings.Destination, &c, nil, nil
	l.Class, l.Code, l.Message, l.NotBefore = "permanent", codeClaim, why.Error(), time.Time{}
	return entry{letter: l, parcel: p, fate: attempt.Dead, decided: true}
}

// decode returns the letters of a payload: of an event, an array of events, or a
// letter that has waited. What is none of these is a letter with its bytes. base
// is what they have in common, id what tells the events without an id apart from
// others.
func decode(body []byte, base deadletter.Letter, id string) []deadletter.Letter {
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		var elements []json.RawMessage
		if json.Unmarshal(body, &elements) == nil {
			letters := make([]deadletter.Letter, len(elements))
			for i, element := range elements {
				letters[i] = one(element, base, placeID(id, i))
			}
			return letters
		}
	}
	return []deadletter.Letter{one(body, base, placeID(id, 0))}
}

// one returns the letter of an event, the letter that it is, or one of bytes that
// are neither.
func one(body []byte, base deadletter.Letter, id string) deadletter.Letter {
	e, err := event.ParseStored(body)
	if err == nil {
		base.ID, base.EventID, base.Event = id, id, body
		if e.ID != "" {
			base.ID, base.EventID = e.ID, e.ID
		}
		return base
	}
	// A letter is no event: it has no name.
	var l deadletter.Letter
	if json.Unmarshal(body, &l) == nil && l.ID != "" && l.Destination != "" && l.Class != "" && (len(l.Event) > 0 || len(l.Raw) > 0 || l.Claim != nil) {
		if l.ARN == "" {
			l.ARN = base.ARN
		}
		return l
	}
	base.ID, base.Raw = id, body
	return base
}

// placeID returns the id of an event that came without one: the same whenever
// Lambda or the queue delivers it again.
func placeID(id string, i int) string {
	if id == "" {
		return event.NewID() // not from Lambda
	}
	return event.DeriveID("", id, i)
}
