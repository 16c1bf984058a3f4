package letters

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/cloud/invoke"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/router/fanout"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

func newNonce() string { return rand.Text() }

func isJSON(b []byte) bool { return utf8.Valid(b) && json.Valid(b) }

// replay is one order to replay letters.
type replay struct {
	desk *Desk
	to   deadletter.Target

	arns   map[string]string
	arnErr error
	asked  bool // for arns
	target producer.Stream

	mu      sync.Mutex
	refused int
	reason  string
}

// refuse notes that a letter stays where it is, and why.
func (r *replay) refuse(l *deadletter.Letter, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused++; r.refused == 1 {
		r.reason = fmt.Sprintf("letter %s: %s", l.ID, why)
	}
}

func (r *replay) account(p deadletter.Progress) deadletter.Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.Refused, p.Reason = r.refused, r.reason
	return p
}

// send replays letters and returns the ids of those that were accepted. The
// letters of a partition key go one after another. An error says why it has
// ended before all were accepted or refused.
func (r *replay) send(ctx context.Context, letters []deadletter.Letter) (accepted []string, err error) {
	if r.to == deadletter.ToStream {
		return r.toStream(ctx, letters)
	}
	return r.toDestinations(ctx, letters)
}

// arn returns where a letter goes.
func (r *replay) arn(ctx context.Context, l *deadletter.Letter) (arn, why string) {
	switch {
	case r.to.IsARN():
		return string(r.to), ""
	case l.ARN != "":
		return l.ARN, ""
	}
	if !r.asked && r.desk.clients.ARNs != nil {
		r.asked = true
		r.arns, r.arnErr = r.desk.clients.ARNs(ctx)
	}
	if arn := r.arns[l.Destination]; arn != "" {
		return arn, ""
	}
	why = fmt.Sprintf("it does not say where it was to go, and the rules have no destination_arn for %q: name a function or a queue with --to ARN, or replay it to the stream", l.Destination)
	if r.arnErr != nil {
		why += fmt.Sprintf(" (%v)", r.arnErr)
	}
	return "", why
}

// payload returns what is sent for a letter.
func payload(l *deadletter.Letter) (body []byte, why string) {
	switch {
	case l.Class == ClassExpired:
		return nil, "there is nothing to send: " + l.Message
	case l.Claim != nil:
		return l.Claim.Payload(), ""
	case len(l.Event) > 0:
		return l.Event, ""
	case isJSON(l.Raw):
		return l.Raw, "" // whatever it is, a function was invoked with it
	}
	return nil, "it holds no JSON that a destination could be sent"
}

// callTime bounds one call that sends letters.
const callTime = 10 * time.Second

// once makes one call, which an interruption lets finish: of a call that is cut
// off nobody knows what it did, and its letters would be sent again.
func once(ctx context.Context, call func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	until := time.Now().Add(callTime)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(until) {
		until = deadline
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	return call(ctx)
}

// parcel is a letter on its way to a destination.
type parcel struct {
	letter *deadletter.Letter
	arn    string
	body   []byte
}

// lanes is how many letters are on their way at a time.
const lanes = 16

// refusals is how often a destination is asked that does not exist or does not
// let us, before that is believed: what was made just now takes moments until
// it is known everywhere.
const refusals = 3

func (r *replay) toDestinations(ctx context.Context, letters []deadletter.Letter) (accepted []string, err error) {
	var queues [lanes][]parcel
	for i := range letters {
		l := &letters[i]
		body, why := payload(l)
		if why == "" {
			var arn string
			if arn, why = r.arn(ctx, l); why == "" {
				lane := event.Hash(l.PartitionKey) % lanes
				if l.PartitionKey == "" {
					lane = event.Hash(l.ID) % lanes
				}
				queues[lane] = append(queues[lane], parcel{l, arn, body})
				continue
			}
		}
		r.refuse(l, why)
	}
	// What fails for one fails for all, more often than not: none is begun then.
	failed, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, q := range queues {
		if len(q) == 0 {
			continue
		}
		all.Go(func() {
			for _, p := range q {
				if failed.Err() != nil {
					return
				}
				taken, err := r.deliver(ctx, p)
				if err != nil {
					fail(fmt.Errorf("letter %s: %w", p.letter.ID, err))
					return
				}
				if taken {
					mu.Lock()
					accepted = append(accepted, p.letter.ID)
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return accepted, context.Cause(failed)
}

// deliver sends a letter until it is accepted, or refused: then it is not taken.
func (r *replay) deliver(ctx context.Context, p parcel) (taken bool, err error) {
	m := fanout.Message{Payload: []byte(queue.Body(p.body)), Key: p.letter.PartitionKey, ID: cmp.Or(p.letter.EventID, p.letter.ID) + " " + r.desk.nonce}
	for attempt, refused := 1, 0; ; attempt++ {
		err := once(ctx, func(ctx context.Context) error { return r.desk.clients.Sender.Send(ctx, p.arn, m) })
		switch fault.KindOf(err) {
		case fault.TooLarge, fault.Invalid:
			r.refuse(p.letter, err.Error())
			return false, nil
		case fault.NotFound, fault.Forbidden:
			if refused++; refused == refusals {
				return false, err
			}
		default:
			if err == nil {
				return true, nil
			}
			if patience.Exhausted(attempt) {
				return false, err
			}
		}
		if retry.Sleep(ctx, patience.Delay(attempt, fault.RetryAfter(err))) != nil {
			return false, errors.Join(ctx.Err(), err)
		}
	}
}

// streamed is an event on its way to the stream.
type streamed struct {
	letter int // index
	record stream.Record
}

// callBytes is the most that one call to the stream carries, so that it fits
// also in JSON and base64.
const callBytes = (cloud.MaxCallBytes - cloud.MaxCallRecords*128) / 4 * 3

func (r *replay) toStream(ctx context.Context, letters []deadletter.Letter) (accepted []string, err error) {
	if r.target == nil {
		if r.target, err = r.desk.clients.Target(ctx); err != nil {
			return nil, err
		}
	}
	left := make([]int, len(letters)) // events of each that are not on the stream
	var waiting []streamed
	for i := range letters {
		l := &letters[i]
		events, err := r.events(ctx, l)
		if fault.KindOf(err) == fault.Invalid {
			r.refuse(l, err.Error())
			left[i] = -1
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("letter %s: %w", l.ID, err)
		}
		left[i] = len(events)
		for _, e := range events {
			waiting = append(waiting, streamed{i, e})
		}
	}
	for attempt := 1; len(waiting) > 0; attempt++ {
		var sent int
		if waiting, sent, err = r.put(ctx, letters, left, waiting); sent > 0 {
			attempt = 0
		}
		if len(waiting) == 0 {
			break
		}
		if err != nil && (!passing(err) || patience.Exhausted(attempt)) {
			break
		}
		if err != nil && retry.Sleep(ctx, patience.Delay(max(1, attempt), fault.RetryAfter(err))) != nil {
			err = errors.Join(ctx.Err(), err)
			break
		}
	}
	if len(waiting) == 0 {
		err = nil
	}
	for i, n := range left {
		if n == 0 {
			accepted = append(accepted, letters[i].ID)
		}
	}
	return accepted, err
}

// put makes one call with what fits into it, and returns what is still waiting:
// of each partition key one event at a time, so that none overtakes another.
func (r *replay) put(ctx context.Context, letters []deadletter.Letter, left []int, waiting []streamed) (rest []streamed, sent int, err error) {
	var records []stream.Record
	var which []streamed
	busy := map[string]bool{}
	size := 0
	for _, s := range waiting {
		n := len(s.record.PartitionKey) + len(s.record.Data)
		switch {
		case left[s.letter] < 0: // refused for another of its events
		case busy[s.record.PartitionKey] || len(records) == cloud.MaxCallRecords || len(records) > 0 && size+n > callBytes:
			rest = append(rest, s)
			busy[s.record.PartitionKey] = true
		default:
			records, which = append(records, s.record), append(which, s)
			busy[s.record.PartitionKey] = true
			size += n
		}
	}
	if len(records) == 0 {
		return rest, 0, nil
	}
	var results []stream.Result
	err = once(ctx, func(ctx context.Context) (err error) {
		results, err = r.target.PutRecords(ctx, records)
		return err
	})
	if err != nil { // any of them may be stored: again, with the same ids
		return waiting, 0, err
	}
	var again []streamed
	for i, s := range which {
		switch why := results[i].Err; fault.KindOf(why) {
		case fault.TooLarge, fault.Invalid:
			if left[s.letter] >= 0 {
				r.refuse(&letters[s.letter], why.Error())
				left[s.letter] = -1
			}
			sent++
		default:
			if why != nil {
				again, err = append(again, s), why
				continue
			}
			if left[s.letter] > 0 {
				left[s.letter]--
			}
			sent++
		}
	}
	return append(again, rest...), sent, err
}

// noEvent begins what is said of a letter that the stream cannot take.
const noEvent = "it holds no event that the stream could take"

// events returns the records of the events of a letter. A fault.Invalid says
// that there are none.
func (r *replay) events(ctx context.Context, l *deadletter.Letter) ([]stream.Record, error) {
	body := []byte(l.Event)
	switch {
	case l.Class == ClassExpired:
		return nil, fault.New(fault.Invalid, "there is nothing to send: %s", l.Message)
	case len(body) == 0 && l.Claim != nil:
		payload, err := r.desk.clients.Objects.Redeem(ctx, *l.Claim)
		if unredeemable(payload, err) {
			return nil, fault.New(fault.Invalid, "its event cannot be had any more: %v", err)
		}
		if err != nil {
			return nil, err
		}
		body = payload
	case len(body) == 0:
		return nil, fault.New(fault.Invalid, noEvent)
	}
	elements := []json.RawMessage{body}
	if body = bytes.TrimSpace(body); len(body) > 0 && body[0] == '[' {
		if err := json.Unmarshal(body, &elements); err != nil {
			return nil, fault.New(fault.Invalid, "%s: %v", noEvent, err)
		}
	}
	var records []stream.Record
	for i, data := range elements {
		e, err := event.ParseStored(data)
		if err != nil {
			return nil, fault.New(fault.Invalid, "%s: %v", noEvent, err)
		}
		if e.ID == "" {
			e.ID = event.DeriveID("letter", l.ID, i)
			data = e.Append(nil)
		}
		records = append(records, stream.Record{PartitionKey: recordKey(e.PartitionKey()), Data: data, Events: 1})
	}
	if len(records) == 0 {
		return nil, fault.New(fault.Invalid, "%s: its array is empty", noEvent)
	}
	return records, nil
}

// maxKey is the most characters of a partition key on the stream. Source:
// Kinesis API reference, PutRecordsRequestEntry (read 2026-11).
const maxKey = 256

// recordKey returns the key of the record of an event.
func recordKey(partitionKey string) string {
	if partitionKey == "" || utf8.RuneCountInString(partitionKey) > maxKey {
		return invoke.Group(partitionKey)
	}
	return partitionKey
}
