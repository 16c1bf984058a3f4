package sqstest

import (
	"strings"
	"time"
)

func (c call) sendMessage(in *sendInput) (any, *Error) {
	p, delay, err := in.prepare()
	if err != nil {
		return nil, err
	}
	var out sendResult
	err = c.with(in.QueueUrl, func(q *queue) *Error {
		no, stored := c.refuses(0, 1, Entry{Message: p.Message})
		if no != nil && !stored {
			return no
		}
		m, err := c.send(q, p, delay)
		if err != nil {
			return err
		}
		out = resultOf(in.sendEntry, m)
		return no
	})
	return out, err
}

func (c call) sendMessageBatch(in *batchInput[sendEntry]) (any, *Error) {
	if err := checkBatch(in.Entries, func(e sendEntry) string { return e.Id }); err != nil {
		return nil, err
	}
	prepared := make([]prepared, len(in.Entries))
	delays := make([]*time.Duration, len(in.Entries))
	total := 0
	for i, e := range in.Entries {
		var err *Error
		if prepared[i], delays[i], err = e.prepare(); err != nil {
			return nil, err
		}
		total += prepared[i].size()
	}
	if total > maxBytes {
		return nil, refuse("BatchRequestTooLong", "Batch requests cannot be longer than %d bytes. You have sent %d bytes.", maxBytes, total)
	}
	return batch(c, in.QueueUrl, in.Entries, func(q *queue, i int) (sendResult, *Error) {
		m, err := c.send(q, prepared[i], delays[i])
		if err != nil {
			return sendResult{}, err
		}
		return resultOf(in.Entries[i], m), nil
	}, func(i int) Entry { return Entry{ID: in.Entries[i].Id, Message: prepared[i].Message} })
}

// prepare turns what was sent into a message, and its delay, nil if it has none.
func (e sendEntry) prepare() (prepared, *time.Duration, *Error) {
	m := Message{Body: e.MessageBody, GroupID: e.MessageGroupId, DeduplicationID: e.MessageDeduplicationId}
	for name, a := range e.MessageSystemAttributes {
		if name != traceHeader || a.DataType != "String" {
			return prepared{}, nil, badValue("Message system attribute name '%s' is invalid, or its type is.", name)
		}
		m.TraceHeader = a.StringValue
	}
	if len(e.MessageAttributes) > 0 {
		m.Attributes = make(map[string]Attribute, len(e.MessageAttributes))
		for name, a := range e.MessageAttributes {
			m.Attributes[name] = Attribute{a.DataType, a.StringValue, a.BinaryValue}
		}
	}
	var delay *time.Duration
	if e.DelaySeconds != nil {
		delay = new(time.Duration)
		*delay = time.Duration(*e.DelaySeconds) * time.Second
		m.Delay = *delay
	}
	return prepare(m), delay, nil
}

func resultOf(e sendEntry, m *message) sendResult {
	r := sendResult{
		Id:                     e.Id,
		MD5OfMessageAttributes: m.attributesMD5,
		MD5OfMessageBody:       m.bodyMD5,
		MessageId:              m.id,
		SequenceNumber:         m.sequence,
	}
	if m.TraceHeader != "" {
		r.MD5OfMessageSystemAttributes = md5OfAttributes(map[string]Attribute{traceHeader: {DataType: "String", StringValue: m.TraceHeader}})
	}
	return r
}

const maxEntryID = 80

// checkBatch finds what is wrong with the entries of a batch as such.
func checkBatch[E any](entries []E, id func(E) string) *Error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	switch n := len(entries); {
	case n == 0:
		return refuse("EmptyBatchRequest", "There should be at least one entry in the request.")
	case n > maxBatch:
		return refuse("TooManyEntriesInBatchRequest", "Maximum number of entries per request are %d. You have sent %d.", maxBatch, n)
	}
	seen := map[string]bool{}
	for _, e := range entries {
		switch id := id(e); {
		case id == "" || len(id) > maxEntryID || strings.Trim(id, allowed) != "":
			return refuse("InvalidBatchEntryId", "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most %d letters long.", maxEntryID)
		case seen[id]:
			return refuse("BatchEntryIdsNotDistinct", "Id %s repeated.", id)
		default:
			seen[id] = true
		}
	}
	return nil
}

// batch does something for every entry, unless a fault is about it, and tells
// the results.
func batch[E, Result any](c call, url string, entries []E, do func(q *queue, i int) (Result, *Error), entry func(i int) Entry) (any, *Error) {
	out := batchOutput[Result]{Failed: []failedEntry{}, Successful: []Result{}}
	err := c.with(url, func(q *queue) *Error {
		for i := range entries {
			e := entry(i)
			no, stored := c.refuses(i, len(entries), e)
			var result Result
			if no == nil || stored {
				var err *Error
				if result, err = do(q, i); err != nil {
					no = err
				}
			}
			switch {
			case no == nil:
				out.Successful = append(out.Successful, result)
			case no != untold:
				out.Failed = append(out.Failed, failedEntry{Code: queryCode(no.Code), Id: e.ID, Message: no.Message, SenderFault: no.Status < 500})
			}
		}
		return nil
	})
	return out, err
}
