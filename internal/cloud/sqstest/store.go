package sqstest

import (
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// prepared is a message with what can be computed without its queue.
type prepared struct {
	Message
	bodyMD5, attributesMD5 string
}

func prepare(m Message) prepared {
	return prepared{m, md5OfBody(m.Body), md5OfAttributes(m.Attributes)}
}

// send stores a message and returns it, or what it is a duplicate of. Delay is
// nil if the sender did not give one.
func (s *Server) send(q *queue, p prepared, delay *time.Duration) (*message, *Error) {
	now := time.Now()
	m := &message{Message: p.Message, id: awstest.UUID(), bodyMD5: p.bodyMD5, attributesMD5: p.attributesMD5, sentAt: now}
	wait := q.delay
	if delay != nil {
		wait = *delay
	}
	if err := q.check(&m.Message, delay); err != nil {
		return nil, err
	}
	if q.fifo {
		key := m.DeduplicationID
		if q.dedupByGroup {
			key = m.GroupID + "\x00" + key
		}
		if earlier := q.dedup[key]; earlier != nil {
			m.id, m.sequence = earlier.id, earlier.sequence
			return m, nil
		}
		m.sequence = s.nextSequence()
		stored := &sent{key, now, m.id, m.sequence}
		q.dedup[key] = stored
		q.dedupAges = append(q.dedupAges, stored)
	}
	q.add(m, now.Add(wait), now)
	return m, nil
}

// take receives up to n messages. Those that have been received too often go to
// the dead letter queue instead. The caller holds s.mu.
func (s *Server) take(q *queue, n int, visibility time.Duration, now time.Time) []*message {
	var taken []*message
	deadLetters := s.queues[nameOf(q.deadLetters)]
	n = min(n, q.limit-q.inFlight)
	for ready := q.nextReady(nil); ready != nil && len(taken) < n; ready = q.nextReady(ready) {
		m := ready.first()
		if deadLetters != nil && m.receives >= q.maxReceives {
			q.remove(m)
			s.bury(m, q, deadLetters, now)
			continue
		}
		q.leave(m)
		taken = append(taken, m)
	}
	for _, m := range taken {
		m.receives++
		m.receivedAt, m.visibleAt, m.receipt = now, now.Add(visibility), q.newReceipt(m)
		if m.firstReceivedAt.IsZero() {
			m.firstReceivedAt = now
		}
		q.enter(m, InFlight)
	}
	return taken
}

// nextReady returns messages of which the first can be received: those of the
// same group as before as long as there are some. Nil is none.
func (q *queue) nextReady(before *pile[*message]) *pile[*message] {
	switch {
	case before != nil && before.Len() > 0:
		return before
	case q.ready.Len() > 0:
		return &q.ready
	case q.available.Len() > 0:
		return &q.available.first().ready
	}
	return nil
}

// bury moves a message to a dead letter queue. In a standard queue it keeps its
// age. Source: developer guide, "Using dead-letter queues in Amazon SQS".
func (s *Server) bury(m *message, from, to *queue, now time.Time) {
	m.source, m.receipt = from.arn, ""
	if to.fifo {
		m.sentAt, m.sequence = now, s.nextSequence()
	}
	to.add(m, now, now)
}

// A receipt is base64 of three numbers:
//
//	queue u64 | number of the message u64 | random u64
const receiptBytes = 24

func (q *queue) newReceipt(m *message) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, receiptBytes), q.id)
	b = binary.BigEndian.AppendUint64(b, m.number)
	b = binary.BigEndian.AppendUint64(b, rand.Uint64())
	return base64.StdEncoding.EncodeToString(b)
}

// holder returns the message that a receipt is of; nil if it is gone.
func (q *queue) holder(receipt string) (*message, *Error) {
	b, err := base64.StdEncoding.DecodeString(receipt)
	if err != nil || len(b) != receiptBytes || binary.BigEndian.Uint64(b) != q.id {
		return nil, BadReceipt.With("The input receipt handle \"" + receipt + "\" is not a valid receipt handle.")
	}
	return q.messages[binary.BigEndian.Uint64(b[8:])], nil
}

// delete deletes a message, unless it has been received again: then the receipt
// is an old one, and a standard queue says nothing. Source: API reference,
// DeleteMessage.
func (q *queue) delete(receipt string) *Error {
	m, err := q.holder(receipt)
	switch {
	case err != nil:
		return err
	case m == nil:
		return nil
	case q.fifo && (m.state != InFlight || m.receipt != receipt):
		return badValue("Value %s for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.", receipt)
	case m.receipt == receipt:
		q.remove(m)
		q.signal()
	}
	return nil
}

func (q *queue) setVisibility(receipt string, d time.Duration, now time.Time) *Error {
	if d < 0 || d > maxVisibility {
		return badValue("Value %s for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200.", seconds(d))
	}
	m, err := q.holder(receipt)
	switch {
	case err != nil:
		return err
	case m == nil || m.state != InFlight || m.receipt != receipt:
		return badValue("Value %s for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change.", receipt)
	case now.Add(d).Sub(m.receivedAt) > maxVisibility:
		return badValue("Value %s for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds].", seconds(d))
	}
	q.leave(m)
	m.visibleAt = now.Add(d)
	q.enter(m, InFlight)
	q.advance(now)
	q.signal()
	return nil
}
