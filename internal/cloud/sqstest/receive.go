package sqstest

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

func (c call) receiveMessage(in *receiveInput) (any, *Error) {
	n, ok := within(in.MaxNumberOfMessages, 1, 1, maxBatch)
	if !ok {
		return nil, badValue("Value %d for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and %d, if provided.", n, maxBatch)
	}
	if v, ok := within(in.VisibilityTimeout, 0, 0, int(maxVisibility/time.Second)); !ok {
		return nil, badValue("Value %d for parameter VisibilityTimeout is invalid. Reason: Must be >= 0 and <= %s, if provided.", v, seconds(maxVisibility))
	}
	if w, ok := within(in.WaitTimeSeconds, 0, 0, int(maxWait/time.Second)); !ok {
		return nil, badValue("Value %d for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= %s, if provided.", w, seconds(maxWait))
	}
	for _, name := range slices.Concat(in.AttributeNames, in.MessageSystemAttributeNames) {
		if !slices.Contains(systemAttributes, name) {
			return nil, refuse("InvalidAttributeName", "Unknown Attribute %s.", name)
		}
	}
	began := time.Now()
	for {
		var out receiveOutput
		var changed <-chan struct{}
		var next time.Time
		err := c.with(in.QueueUrl, func(q *queue) *Error {
			now := time.Now()
			if !q.fifo && q.inFlight >= q.limit {
				return OverLimit
			}
			visibility := q.visibility
			if in.VisibilityTimeout != nil {
				visibility = time.Duration(*in.VisibilityTimeout) * time.Second
			}
			if len(awstest.Details[again](c.Plan)) > 0 {
				visibility = 0
			}
			for _, m := range c.take(q, n, visibility, now) {
				out.Messages = append(out.Messages, in.shape(m.received()))
			}
			wait := q.wait
			if in.WaitTimeSeconds != nil {
				wait = time.Duration(*in.WaitTimeSeconds) * time.Second
			}
			if end := began.Add(wait); len(out.Messages) == 0 && now.Before(end) {
				changed, next = q.watch(), q.next()
				if next.IsZero() || next.After(end) {
					next = end
				}
			}
			return nil
		})
		if err != nil || changed == nil {
			return out, err
		}
		if until(c.Request.Context(), changed, next, c.Ended()) != nil {
			panic(http.ErrAbortHandler) // nobody is there to be answered
		}
	}
}

// within returns a parameter, or what it is by default, and whether it is within
// its bounds.
func within(value *int, standard, least, most int) (int, bool) {
	if value == nil {
		return standard, true
	}
	return *value, *value >= least && *value <= most
}

const traceHeader = "AWSTraceHeader"

// systemAttributes are those that can be asked for.
var systemAttributes = []string{
	"All", "SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp",
	"SequenceNumber", "MessageDeduplicationId", "MessageGroupId", traceHeader, "DeadLetterQueueSourceArn",
}

// shape is a message with the attributes that were asked for.
func (in *receiveInput) shape(r Received) messageShape {
	s := messageShape{Body: r.Body, MD5OfBody: r.MD5OfBody, MessageId: r.ID, ReceiptHandle: r.Receipt}
	if len(in.AttributeNames)+len(in.MessageSystemAttributeNames) > 0 {
		s.Attributes = r.SystemAttributes()
		for name := range s.Attributes {
			if !asked(in.AttributeNames, name) && !asked(in.MessageSystemAttributeNames, name) {
				delete(s.Attributes, name)
			}
		}
	}
	wanted := map[string]Attribute{}
	for name, a := range r.Attributes {
		if asked(in.MessageAttributeNames, name) {
			wanted[name] = a
		}
	}
	if len(wanted) > 0 {
		s.MessageAttributes = map[string]attributeShape{}
		for name, a := range wanted {
			s.MessageAttributes[name] = attributeShape{a.BinaryValue, a.DataType, a.StringValue}
		}
		s.MD5OfMessageAttributes = md5OfAttributes(wanted) // of those that are told
	}
	return s
}

// asked reports whether names ask for one: by itself, by a prefix (foo.*), or
// all.
func asked(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		prefix, ok := strings.CutSuffix(n, ".*")
		return n == name || n == "All" || ok && strings.HasPrefix(name, prefix)
	})
}

func (c call) deleteMessage(in *receiptInput) (any, *Error) {
	if in.ReceiptHandle == "" {
		return nil, missing("ReceiptHandle")
	}
	return nil, c.with(in.QueueUrl, func(q *queue) *Error {
		no, stored := c.refuses(0, 1, Entry{Receipt: in.ReceiptHandle})
		if no != nil && !stored {
			return no
		}
		if err := q.delete(in.ReceiptHandle); err != nil {
			return err
		}
		return no
	})
}

func (c call) deleteMessageBatch(in *batchInput[receiptEntry]) (any, *Error) {
	return receipts(c, in, func(q *queue, e receiptEntry) *Error { return q.delete(e.ReceiptHandle) })
}

func (c call) changeMessageVisibility(in *receiptInput) (any, *Error) {
	switch {
	case in.ReceiptHandle == "":
		return nil, missing("ReceiptHandle")
	case in.VisibilityTimeout == nil:
		return nil, missing("VisibilityTimeout")
	}
	return nil, c.with(in.QueueUrl, func(q *queue) *Error {
		no, stored := c.refuses(0, 1, Entry{Receipt: in.ReceiptHandle})
		if no != nil && !stored {
			return no
		}
		if err := q.setVisibility(in.ReceiptHandle, time.Duration(*in.VisibilityTimeout)*time.Second, time.Now()); err != nil {
			return err
		}
		return no
	})
}

func (c call) changeMessageVisibilityBatch(in *batchInput[receiptEntry]) (any, *Error) {
	return receipts(c, in, func(q *queue, e receiptEntry) *Error {
		if e.VisibilityTimeout == nil {
			return missing("VisibilityTimeout")
		}
		return q.setVisibility(e.ReceiptHandle, time.Duration(*e.VisibilityTimeout)*time.Second, time.Now())
	})
}

// receipts does something for every entry of a batch.
func receipts(c call, in *batchInput[receiptEntry], do func(q *queue, e receiptEntry) *Error) (any, *Error) {
	if err := checkBatch(in.Entries, func(e receiptEntry) string { return e.Id }); err != nil {
		return nil, err
	}
	return batch(c, in.QueueUrl, in.Entries, func(q *queue, i int) (idResult, *Error) {
		return idResult{in.Entries[i].Id}, do(q, in.Entries[i])
	}, func(i int) Entry { return Entry{ID: in.Entries[i].Id, Receipt: in.Entries[i].ReceiptHandle} })
}
