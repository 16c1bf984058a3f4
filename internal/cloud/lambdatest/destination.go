package lambdatest

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// timestamp is how Lambda writes times in its records.
const timestamp = "2006-01-02T15:04:05.000Z"

func stamp(t time.Time) string { return t.UTC().Format(timestamp) }

// requestContext and responseContext are the same in all records of failures.
type requestContext struct {
	RequestID   string `json:"requestId"`
	FunctionARN string `json:"functionArn"`
	Condition   string `json:"condition"`
	InvokeCount int    `json:"approximateInvokeCount"`
}

type responseContext struct {
	Status        int    `json:"statusCode"`
	Version       string `json:"executedVersion"`
	FunctionError string `json:"functionError,omitempty"`
}

// eventRecord is what an on-failure destination gets of an asynchronous event.
// Source: developer guide, "Capturing records of Lambda asynchronous
// invocations".
type eventRecord struct {
	Version         string          `json:"version"`
	Timestamp       string          `json:"timestamp"`
	RequestContext  requestContext  `json:"requestContext"`
	RequestPayload  json.RawMessage `json:"requestPayload"`
	ResponseContext responseContext `json:"responseContext"`
	ResponsePayload json.RawMessage `json:"responsePayload,omitempty"`
}

func (q *eventQueue) record(e *event, condition string) eventRecord {
	r := eventRecord{
		Version: "1.0", Timestamp: stamp(time.Now()),
		RequestContext:  requestContext{e.id, q.asked(e.qualifier), condition, e.runs},
		RequestPayload:  e.payload,
		ResponseContext: responseContext{200, q.version(e.qualifier), e.response.FunctionError},
	}
	// The guide has no example of an event that was never run: no functionError
	// and no responsePayload is our guess.
	if e.refusal != nil {
		r.ResponseContext = responseContext{Status: e.refusal.Status, Version: q.version(e.qualifier)}
		return r
	}
	if r.ResponsePayload = e.response.Payload; !json.Valid(r.ResponsePayload) {
		r.ResponsePayload, _ = json.Marshal(string(e.response.Payload))
	}
	return r
}

// asked is the ARN in records: with $LATEST if there was no qualifier.
func (f *function) asked(qualifier string) string {
	if qualifier == "" {
		qualifier = latest
	}
	return f.qualified(qualifier)
}

// deadLetter is what a dead letter queue gets of an event. Source: developer
// guide, "Adding a dead-letter queue".
func (e *event) deadLetter() sqstest.Message {
	status, message := 200, e.response.message()
	if e.refusal != nil {
		status, message = e.refusal.Status, e.refusal.Message
	}
	return sqstest.Message{Body: string(e.payload), Attributes: map[string]sqstest.Attribute{
		"RequestID":    {DataType: "String", StringValue: e.id},
		"ErrorCode":    {DataType: "Number", StringValue: strconv.Itoa(status)},
		"ErrorMessage": {DataType: "String", StringValue: attributeText(message)},
	}}
}

// attributeText makes a text one that a message attribute may have: not empty, not
// over 1 KB, and without characters that SQS refuses.
func attributeText(text string) string {
	if len(text) > maxErrorAttribute {
		text = text[:maxErrorAttribute] // perhaps within a character, which is dropped
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	if text == "" {
		return "Unhandled"
	}
	return text
}

// batchRecord is what an on-failure destination gets of records from Kinesis.
// Payload is there in S3 only: the whole event of the invocation, as a string.
// Source: developer guide, "Retain discarded batch records for a Kinesis Data
// Streams event source in Lambda".
type batchRecord struct {
	RequestContext  requestContext  `json:"requestContext"`
	ResponseContext responseContext `json:"responseContext"`
	Version         string          `json:"version"`
	Timestamp       string          `json:"timestamp"`
	Batch           batchInfo       `json:"KinesisBatchInfo"`
	Payload         *string         `json:"payload,omitempty"`
}

type batchInfo struct {
	Shard     string `json:"shardId"`
	Start     string `json:"startSequenceNumber"`
	End       string `json:"endSequenceNumber"`
	Arrived   string `json:"approximateArrivalOfFirstRecord"`
	Last      string `json:"approximateArrivalOfLastRecord"`
	BatchSize int    `json:"batchSize"`
	Stream    string `json:"streamArn"`
}

// send writes a record to a queue.
func (s *Server) send(queue string, record any) error {
	body, err := json.Marshal(record)
	if err != nil {
		return err
	}
	_, err = s.config.Queues.Send(queue, sqstest.Message{Body: string(body)})
	return err
}
