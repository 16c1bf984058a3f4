// Package lambdahost is the ground that functions of ours stand on in AWS
// Lambda: the events that event sources hand over, the answers that these
// understand, and the start of the runtime.
package lambdahost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// Handler handles one invocation. An error fails it.
type Handler func(ctx context.Context, payload []byte) ([]byte, error)

// Invoke makes it a lambda.Handler, which gets the payload as it came.
func (h Handler) Invoke(ctx context.Context, payload []byte) ([]byte, error) { return h(ctx, payload) }

// Start serves invocations. It does not return: the environment ends with it.
func Start(h Handler) { lambda.StartWithOptions(h) }

// Invoked returns the ARN that was invoked, with its alias, and the id of the
// request; they are empty outside of Lambda.
func Invoked(ctx context.Context) (arn, requestID string) {
	if c, ok := lambdacontext.FromContext(ctx); ok {
		return c.InvokedFunctionArn, c.AwsRequestID
	}
	return "", ""
}

// FunctionName returns the name of the function; empty outside of Lambda.
func FunctionName() string { return lambdacontext.FunctionName }

// Record is a record that the event source of a Kinesis stream hands over.
type Record struct {
	Shard, Sequence string
	PartitionKey    string
	Data            []byte
	ArrivedAt       time.Time
	// Stream is the ARN of the stream.
	Stream string
}

// The event of a Kinesis event source. Source: Lambda developer guide, "Process
// Amazon Kinesis Data Streams records with Lambda" (read 2026-11).
type kinesisEvent struct {
	Records []struct {
		EventID     string `json:"eventID"`
		EventSource string `json:"eventSource"`
		Stream      string `json:"eventSourceARN"`
		Kinesis     struct {
			PartitionKey   string  `json:"partitionKey"`
			SequenceNumber string  `json:"sequenceNumber"`
			Data           []byte  `json:"data"`
			ArrivedAt      float64 `json:"approximateArrivalTimestamp"`
		} `json:"kinesis"`
	} `json:"Records"`
}

// ParseRecords reads the event of a Kinesis event source. A record without a
// sequence number makes the whole event an error, for its failure could not be
// reported.
func ParseRecords(payload []byte) ([]Record, error) {
	var e kinesisEvent
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, fmt.Errorf("not the event of a Kinesis event source: %w", err)
	}
	if len(e.Records) == 0 {
		return nil, errors.New("not the event of a Kinesis event source: it has no Records")
	}
	records := make([]Record, len(e.Records))
	for i := range e.Records {
		r := &e.Records[i]
		if r.EventSource != "aws:kinesis" || r.Kinesis.SequenceNumber == "" {
			return nil, fmt.Errorf("not the event of a Kinesis event source: Records[%d] is of %q, sequence number %q", i, r.EventSource, r.Kinesis.SequenceNumber)
		}
		// eventID is "shardId-000000000006:4959033827149025660855969253838157…".
		shard, _, _ := strings.Cut(r.EventID, ":")
		whole, part := math.Modf(r.Kinesis.ArrivedAt)
		records[i] = Record{
			Shard: shard, Sequence: r.Kinesis.SequenceNumber, PartitionKey: r.Kinesis.PartitionKey, Data: r.Kinesis.Data,
			ArrivedAt: time.Unix(int64(whole), int64(part*1e9)).UTC(), Stream: r.Stream,
		}
	}
	return records, nil
}

// Message is a message that the event source of an SQS queue hands over.
type Message struct {
	ID, Receipt string
	Body        string
	Attributes  map[string]string
	SentAt      time.Time
	// Receives counts how often it was received, this time included.
	Receives int
	// Group is that of a FIFO queue.
	Group string
	// QueueARN is where it comes from.
	QueueARN string
}

// The event of an SQS event source. Source: Lambda developer guide, "Using
// Lambda with Amazon SQS" (read 2026-11).
type sqsEvent struct {
	Records []struct {
		MessageID         string            `json:"messageId"`
		ReceiptHandle     string            `json:"receiptHandle"`
		Body              string            `json:"body"`
		Attributes        map[string]string `json:"attributes"`
		MessageAttributes map[string]struct {
			StringValue *string `json:"stringValue"`
		} `json:"messageAttributes"`
		EventSource    string `json:"eventSource"`
		EventSourceARN string `json:"eventSourceARN"`
	} `json:"Records"`
}

// IsMessages reports whether a payload is the event of an SQS event source and
// not an event of ours, which has no Records at its top.
func IsMessages(payload []byte) bool {
	trimmed := bytes.TrimLeft(payload, " \t\r\n")
	if len(trimmed) == 0 || trimmed[0] != '{' {
		return false
	}
	rest, ok := bytes.CutPrefix(bytes.TrimLeft(trimmed[1:], " \t\r\n"), []byte(`"Records"`))
	return ok && bytes.HasPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(":"))
}

// ParseMessages reads the event of an SQS event source.
func ParseMessages(payload []byte) ([]Message, error) {
	var e sqsEvent
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, fmt.Errorf("not the event of an SQS event source: %w", err)
	}
	messages := make([]Message, len(e.Records))
	for i := range e.Records {
		r := &e.Records[i]
		if r.EventSource != "aws:sqs" || r.MessageID == "" {
			return nil, fmt.Errorf("not the event of an SQS event source: Records[%d] is of %q, id %q", i, r.EventSource, r.MessageID)
		}
		m := Message{ID: r.MessageID, Receipt: r.ReceiptHandle, Body: r.Body, Group: r.Attributes["MessageGroupId"], QueueARN: r.EventSourceARN}
		m.Receives, _ = strconv.Atoi(r.Attributes["ApproximateReceiveCount"])
		if ms, err := strconv.ParseInt(r.Attributes["SentTimestamp"], 10, 64); err == nil {
			m.SentAt = time.UnixMilli(ms).UTC()
		}
		for name, value := range r.MessageAttributes {
			if value.StringValue == nil {
				continue
			}
			if m.Attributes == nil {
				m.Attributes = map[string]string{}
			}
			m.Attributes[name] = *value.StringValue
		}
		messages[i] = m
	}
	return messages, nil
}

// Failures is the answer that makes an event source try again: records from the
// lowest of these sequence numbers on, or the messages with these ids. Without
// any all is done. Source: Lambda developer guide, "Reporting batch item
// failures" (read 2026-11).
func Failures(ids ...string) []byte {
	type failure struct {
		ItemIdentifier string `json:"itemIdentifier"`
	}
	answer := struct {
		BatchItemFailures []failure `json:"batchItemFailures"`
	}{BatchItemFailures: []failure{}}
	for _, id := range ids {
		answer.BatchItemFailures = append(answer.BatchItemFailures, failure{id})
	}
	b, _ := json.Marshal(answer) // strings always marshal
	return b
}
