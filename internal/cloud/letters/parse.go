package letters

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/lambdahost"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/stream"
)

// Classes of letters that no connector has classified.
const (
	// ClassInvocation: the invocation of a function failed, with all its
	// attempts; the letter's Code says how Lambda ended it.
	ClassInvocation = "invocation"
	// ClassUnknown: nobody says why it is here. With Raw, nobody knows what it
	// is either.
	ClassUnknown = "unknown"
	// ClassExpired: events that were on a stream and are not any more. There is
	// nothing to replay; Raw is the message that told of them.
	ClassExpired = "expired"
)

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

// Message is one of a dead letter queue, or an object that Lambda has put into a
// bucket.
type Message struct {
	// ID is that of the message, or the key of the object.
	ID         string
	Body       []byte
	Attributes map[string]string
	SentAt     time.Time
	// Receives counts how often it was received.
	Receives int
	// Queue is the name of the dead letter queue: letters that name no
	// destination are listed under it.
	Queue string
	// Source is the ARN of the queue that SQS has moved the message from, empty
	// if somebody has sent it.
	Source string
}

// Parse takes a message apart. It understands
//
//   - letters of ours (Encode);
//   - what a function was invoked with, as the dead letter queue of a function
//     gets it: an event, an array of events, a claim, or the event of an SQS or
//     Kinesis event source, with the attributes RequestID, ErrorCode and
//     ErrorMessage;
//   - the same in the envelope of an on-failure destination;
//   - the note of a Kinesis event source that has given up a batch of records,
//     with the records if it was put into a bucket: else it returns a Batch,
//     and the letters are those of its records;
//   - the lines of a backup (deadletter.AppendLine).
//
// All else is a letter of ClassUnknown with the bytes as they are. There is a
// letter, or a Batch. The ids of letters begin with the message's, and are the
// same whenever it is parsed. The letters may alias the body.
func Parse(m Message) ([]deadletter.Letter, *Batch) {
	base := deadletter.Letter{ID: m.ID, Destination: m.Queue, LastTry: m.SentAt.UTC(), Class: ClassUnknown}
	if m.Source != "" {
		base.Class, base.ARN, base.Destination = ClassInvocation, m.Source, lastPart(m.Source)
		base.Attempts = m.Receives
		base.Message = "it was received too often: SQS has moved it"
	}
	if id, code := m.Attributes[attrRequestID], m.Attributes[attrErrorCode]; id != "" || code != "" {
		base.Class = ClassInvocation
		base.Status, _ = strconv.Atoi(code)
		base.Message = deadletter.Clip(m.Attributes[attrError], maxText)
		base.Request = deadletter.Clip("RequestID: "+id, maxExcerpt)
	}
	body := bytes.TrimSpace(bytes.TrimPrefix(m.Body, []byte("\xef\xbb\xbf")))
	if letters := parseBackup(base, body); letters != nil {
		return letters, nil
	}
	letters, batch := parse(base, body, 0)
	if len(letters) == 0 && batch == nil { // aggregates of nothing
		letters = []deadletter.Letter{unknown(base, m.Body)}
	}
	return letters, batch
}

// maxNesting is how deep envelopes may stand in one another: that of a function,
// in it the event of a queue, in it a letter.
const maxNesting = 4

// parse takes what was sent apart. base is what is known of its failure.
func parse(base deadletter.Letter, body []byte, depth int) ([]deadletter.Letter, *Batch) {
	one := func(l deadletter.Letter) ([]deadletter.Letter, *Batch) { return []deadletter.Letter{l}, nil }
	if depth > maxNesting || len(body) == 0 {
		return one(unknown(base, body))
	}
	if body[0] == '[' {
		return parseArray(base, body), nil
	}
	if claim, ok := event.ParseClaim(body); ok {
		base.Claim = &claim
		return one(base)
	}
	var top map[string]json.RawMessage
	if body[0] != '{' || json.Unmarshal(body, &top) != nil {
		return one(unknown(base, body))
	}
	switch _, named := top["name"]; {
	case named:
	case isLetter(top):
		if l, ok := parseOurs(base, body); ok {
			return one(l)
		}
	case present(top["requestContext"]):
		if letters, batch := parseEnvelope(base, body, top, depth); letters != nil || batch != nil {
			return letters, batch
		}
	case present(top["Records"]):
		if letters := parseSource(base, body, depth); letters != nil {
			return letters, nil
		}
	}
	if l, ok := eventLetter(base, body); ok {
		return one(l)
	}
	return one(unknown(base, body))
}

func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// isLetter reports whether an object has what each letter has. Nothing else of
// ours has all of these, and no name.
func isLetter(top map[string]json.RawMessage) bool {
	for _, member := range []string{"id", "destination", "class", "attempts"} {
		if !present(top[member]) {
			return false
		}
	}
	return true
}

func parseOurs(base deadletter.Letter, body []byte) (deadletter.Letter, bool) {
	var l deadletter.Letter
	if json.Unmarshal(body, &l) != nil || !present(l.Event) && len(l.Raw) == 0 && l.Claim == nil {
		return l, false
	}
	return adopt(base, l), true
}

// adopt completes a letter of ours by what is known of its message. Its own id
// is that of the event; here messages are told apart, of which two may hold the
// same letter.
func adopt(base, l deadletter.Letter) deadletter.Letter {
	l.ID = base.ID
	l.Destination = cmp.Or(l.Destination, base.Destination)
	l.ARN = cmp.Or(l.ARN, base.ARN)
	l.Class = cmp.Or(l.Class, ClassUnknown)
	if l.LastTry.IsZero() {
		l.LastTry = base.LastTry
	}
	if !present(l.Event) {
		l.Event = nil
	}
	return l
}

// parseBackup reads the lines of a backup; nil if they are none.
func parseBackup(base deadletter.Letter, body []byte) (letters []deadletter.Letter) {
	if !bytes.HasPrefix(body, []byte(`{"attributes":`)) {
		return nil
	}
	for line := range bytes.Lines(body) {
		l, err := deadletter.ParseLine(line)
		if err != nil {
			return nil
		}
		if len(l.Raw) == 0 {
			l.Raw = nil
		}
		if !present(l.Event) && l.Raw == nil && l.Claim == nil {
			return nil
		}
		letters = append(letters, adopt(part(base, len(letters)), l))
	}
	return letters
}

// part returns the letter that a part of a message begins with.
func part(base deadletter.Letter, i int) deadletter.Letter {
	base.ID += "." + strconv.Itoa(i)
	return base
}

// parseArray reads the events of a rule with a max_batch.
func parseArray(base deadletter.Letter, body []byte) []deadletter.Letter {
	var elements []json.RawMessage
	if json.Unmarshal(body, &elements) != nil || len(elements) == 0 {
		return []deadletter.Letter{unknown(base, body)}
	}
	letters := make([]deadletter.Letter, len(elements))
	for i, element := range elements {
		l, ok := eventLetter(part(base, i), element)
		if !ok {
			l = unknown(part(base, i), element)
		}
		letters[i] = l
	}
	return letters
}

// eventLetter is the letter of an event as it was sent; ok is false if it is
// none.
func eventLetter(base deadletter.Letter, body []byte) (l deadletter.Letter, ok bool) {
	e, err := event.ParseStored(body)
	if err != nil {
		return l, false
	}
	base.Event = body
	return withEvent(base, &e), true
}

func withEvent(l deadletter.Letter, e *event.Event) deadletter.Letter {
	l.EventID, l.EventName, l.PartitionKey = strings.Clone(e.ID), strings.Clone(e.Name), strings.Clone(e.PartitionKey())
	return l
}

// unknown is the letter of what nobody understands.
func unknown(base deadletter.Letter, body []byte) deadletter.Letter {
	base.Class, base.Raw = ClassUnknown, body
	if len(body) == 0 {
		base.Raw = []byte{}
	}
	if base.Message == "" {
		base.Message = "it is no event and no message of Lambda's"
	}
	return base
}

// The envelope of an on-failure destination, and the note of an event source.
// Source: Lambda developer guide, "Capturing records of Lambda asynchronous
// invocations" and "Retain discarded batch records for a Kinesis Data Streams
// event source" (read 2026-11).
type (
	requestContext struct {
		RequestID   string `json:"requestId"`
		FunctionARN string `json:"functionArn"`
		Condition   string `json:"condition"`
		Invokes     int    `json:"approximateInvokeCount"`
	}
	responseContext struct {
		Status  int    `json:"statusCode"`
		Version string `json:"executedVersion"`
		Error   string `json:"functionError"`
	}
	responsePayload struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}
	batchInfo struct {
		Shard  string `json:"shardId"`
		Start  string `json:"startSequenceNumber"`
		End    string `json:"endSequenceNumber"`
		Size   int    `json:"batchSize"`
		Stream string `json:"streamArn"`
		First  string `json:"approximateArrivalOfFirstRecord"`
	}
)

// parseEnvelope reads what Lambda says of an invocation that failed; nothing if
// it holds nothing that was sent.
func parseEnvelope(base deadletter.Letter, body []byte, top map[string]json.RawMessage, depth int) ([]deadletter.Letter, *Batch) {
	var request requestContext
	if json.Unmarshal(top["requestContext"], &request) != nil {
		return nil, nil
	}
	var response responseContext
	_ = json.Unmarshal(top["responseContext"], &response) // it may be missing: the function was never invoked
	base.Class, base.Code, base.Attempts, base.Status = ClassInvocation, request.Condition, request.Invokes, response.Status
	base.ARN = request.FunctionARN
	base.Destination = cmp.Or(functionName(request.FunctionARN), base.Destination)
	base.Request = deadletter.Clip("RequestID: "+request.RequestID, maxExcerpt)
	base.Message = cmp.Or(response.Error, request.Condition)
	var at time.Time
	if json.Unmarshal(top["timestamp"], &at) == nil && !at.IsZero() {
		base.LastTry = at.UTC()
	}
	if payload := top["responsePayload"]; present(payload) {
		base.Response = deadletter.Clip(string(payload), maxExcerpt)
		var said responsePayload
		if json.Unmarshal(payload, &said) == nil && said.Message != "" {
			base.Message = deadletter.Clip(said.Message, maxText)
		}
	}
	switch {
	case present(top["KinesisBatchInfo"]):
		return parseNote(base, body, top)
	case present(top["requestPayload"]):
		return parse(base, top["requestPayload"], depth+1)
	}
	return nil, nil
}

// parseNote reads the note of a Kinesis event source.
func parseNote(base deadletter.Letter, body []byte, top map[string]json.RawMessage) ([]deadletter.Letter, *Batch) {
	var info batchInfo
	if json.Unmarshal(top["KinesisBatchInfo"], &info) != nil || info.Stream == "" || info.Shard == "" || !isSequence(info.Start) || !isSequence(info.End) {
		return nil, nil
	}
	// What the function was invoked with is a batch of records, and not an event
	// that another invocation could get.
	base.ARN = ""
	if payload := top["payload"]; present(payload) {
		var text string
		if json.Unmarshal(payload, &text) == nil {
			payload = json.RawMessage(text)
		}
		if records, err := lambdahost.ParseRecords(payload); err == nil {
			if letters := recordLetters(base, 0, records); len(letters) > 0 {
				return letters, nil
			}
		}
	}
	b := &Batch{Stream: info.Stream, Shard: info.Shard, Start: info.Start, End: info.End, Size: info.Size, base: base}
	b.base.Raw = body
	return nil, b
}

// parseSource reads the event of an event source.
func parseSource(base deadletter.Letter, body []byte, depth int) (letters []deadletter.Letter) {
	if records, err := lambdahost.ParseRecords(body); err == nil {
		base.ARN = "" // as for the note of an event source
		return recordLetters(base, 0, records)
	}
	messages, err := lambdahost.ParseMessages(body)
	if err != nil || len(messages) == 0 {
		return nil
	}
	for i := range messages {
		m := &messages[i]
		inner := part(base, i)
		if m.QueueARN != "" {
			inner.ARN, inner.Destination = m.QueueARN, lastPart(m.QueueARN)
		}
		some, batch := parse(inner, []byte(m.Body), depth+1)
		if batch != nil { // a queue of notes that a function was to read
			some = []deadletter.Letter{unknown(inner, []byte(m.Body))}
		}
		letters = append(letters, some...)
	}
	return letters
}

// recordLetters are the letters of records, of which the first is number first
// of its batch. Events that came to the stream without an id get the one that
// the router gives them, so that a replay is the same event.
func recordLetters(base deadletter.Letter, first int, records []lambdahost.Record) (letters []deadletter.Letter) {
	var parts []stream.UserRecord
	for i := range records {
		r := &records[i]
		parts = stream.AppendUserRecords(parts[:0], stream.Record{PartitionKey: r.PartitionKey, Data: r.Data})
		for _, p := range parts {
			l := base
			l.ID = fmt.Sprintf("%s.%d.%d", base.ID, first+i, p.SubSequence)
			l.FirstSeen = r.ArrivedAt
			l.Raw = nil
			e, err := event.ParseStored(p.Data)
			if err != nil {
				l.Raw, l.Code, l.PartitionKey = p.Data, "unreadable", p.PartitionKey
				if len(p.Data) == 0 {
					l.Raw = []byte{}
				}
				l.Message = deadletter.Clip(fmt.Sprintf("record %s of %s, event %d: %v", r.Sequence, r.Shard, p.SubSequence, err), maxText)
				letters = append(letters, l)
				continue
			}
			l.Event = bytes.TrimSpace(bytes.TrimPrefix(p.Data, []byte("\xef\xbb\xbf")))
			if e.ID == "" || len(e.Extra) > 0 {
				if e.ID == "" {
					e.ID = event.DeriveID(r.Shard, r.Sequence, p.SubSequence)
				}
				if e.ReceivedAt == "" && !r.ArrivedAt.IsZero() {
					e.ReceivedAt = r.ArrivedAt.UTC().Format(time.RFC3339Nano)
				}
				l.Event = e.Append(nil)
			}
			letters = append(letters, withEvent(l, &e))
		}
	}
	return letters
}

// functionName returns the name in the ARN of a function.
func functionName(arn string) string {
	parts := strings.Split(arn, ":")
	if len(parts) < 7 {
		return ""
	}
	return parts[6]
}

// lastPart returns what follows the last colon of an ARN.
func lastPart(arn string) string { return arn[strings.LastIndexByte(arn, ':')+1:] }

// isSequence reports whether s is a sequence number: decimal digits.
func isSequence(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
