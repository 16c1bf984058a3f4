// Package invoke hands payloads to destinations: Lambda functions, invoked
// asynchronously, and SQS queues that feed them.
package invoke

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/router/fanout"
)

// MaxPayload is the most bytes of an asynchronous invocation. Source: Lambda API
// reference, Invoke (read 2026-11).
const MaxPayload = 1 << 20

var _ fanout.Sender = (*Client)(nil)

// Client calls Lambda and SQS. Its methods are safe for concurrent use.
type Client struct {
	lambda *lambda.Client
	queue  *queue.Client
	region string

	mu    sync.Mutex
	boxes map[string]*outbox // by ARN
}

// New returns a client. It makes no call.
func New(cfg aws.Config) *Client {
	return &Client{
		lambda: lambda.NewFromConfig(cfg, func(o *lambda.Options) { o.HTTPClient = sdk.Watched(o.HTTPClient) }),
		queue:  queue.New(cfg),
		region: cfg.Region,
		boxes:  map[string]*outbox{},
	}
}

// Send implements fanout.Sender: the ARN is that of a function, with its alias,
// or of a queue.
func (c *Client) Send(ctx context.Context, destination string, m fanout.Message) error {
	a, err := arn.Parse(destination)
	switch {
	case err == nil && a.Service == "lambda":
		return c.invoke(ctx, a, m.Payload)
	case err == nil && a.Service == "sqs":
		return c.enqueue(ctx, destination, queue.Message{Body: queue.Body(m.Payload), Group: Group(m.Key), Dedup: digest(m.ID)})
	}
	return fault.New(fault.NotFound, "%q is not the ARN of a function or of a queue", destination)
}

// Invoke invokes a function asynchronously: when it returns nil Lambda has the
// payload, and will try to have it handled for hours. The kinds of its error are
// those of fanout.Sender.
func (c *Client) Invoke(ctx context.Context, function string, payload []byte) error {
	a, err := arn.Parse(function)
	if err != nil || a.Service != "lambda" {
		return fault.New(fault.NotFound, "%q is not the ARN of a function", function)
	}
	return c.invoke(ctx, a, payload)
}

func (c *Client) invoke(ctx context.Context, a arn.ARN, payload []byte) error {
	function, qualifier := splitAlias(a)
	in := &lambda.InvokeInput{FunctionName: &function, InvocationType: types.InvocationTypeEvent, Payload: payload}
	if qualifier != "" {
		in.Qualifier = &qualifier
	}
	_, err := sdk.Call(ctx, c.subject(a), c.lambda.Invoke, in, func(o *lambda.Options) {
		o.Region = a.Region
		o.Retryer = aws.NopRetryer{}
	})
	return err
}

// splitAlias takes the alias or version off the ARN of a function.
func splitAlias(a arn.ARN) (function, qualifier string) {
	parts := strings.SplitN(a.Resource, ":", 3) // function:NAME:QUALIFIER
	if len(parts) == 3 {
		qualifier = parts[2]
		a.Resource = parts[0] + ":" + parts[1]
	}
	return a.String(), qualifier
}

func (c *Client) subject(a arn.ARN) sdk.Subject {
	name := strings.TrimPrefix(a.Resource, "function:")
	where := fmt.Sprintf("function %q in %s", name, a.Region)
	return sdk.Subject{Service: "lambda", Title: "Lambda", Name: fmt.Sprintf("function %q", name), Region: a.Region, Known: func(f *sdk.Failure, r sdk.Refusal) bool {
		switch r.Code {
		case "ResourceNotFoundException":
			f.Kind = fault.NotFound
			f.Act(r.Code, "%s does not exist: check the destination_arn in the rules, its alias included", where)
		case "AccessDeniedException":
			f.Kind = fault.Forbidden
			f.Act(r.Code, "the AWS credentials may not call lambda:InvokeFunction on %s: allow it in their policy", where)
		case "RequestTooLargeException", "RequestEntityTooLargeException":
			f.Kind = fault.TooLarge
			f.Text = where + " takes no payload of this size"
		case "InvalidRequestContentException", "InvalidParameterValueException", "UnsupportedMediaTypeException":
			f.Kind = fault.Invalid
			f.Text = fmt.Sprintf("%s: the payload is refused as invalid (%s)", where, r.Code)
		case "ResourceConflictException", "ResourceNotReadyException":
			f.Kind = fault.Unavailable
			f.Text = fmt.Sprintf("%s is not ready (%s)", where, r.Code)
		default:
			return false
		}
		return true
	}}
}

// Group returns the message group of a partition key. Groups have at most 128
// characters of a set that keys are not bound to.
func Group(partitionKey string) string {
	var b [8]byte
	h := event.Hash(partitionKey)
	for i := range b {
		b[i] = byte(h >> (8 * i))
	}
	return hex.EncodeToString(b[:])
}

// digest makes a deduplication id of at most 128 characters, which FIFO queues
// compare within five minutes.
func digest(id string) string {
	h := fnv.New128a()
	_, _ = h.Write([]byte(id)) // never fails
	return hex.EncodeToString(h.Sum(nil))
}
