// Package queue is SQS: messages sent, received, put off and deleted.
//
// A queue is named by its URL or its ARN. Calls in batches are cut to what SQS
// takes, and each message has a result of its own, for SQS answers 200 also
// where some were refused.
package queue

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
)

// Limits of SQS. Source: SQS API reference, SendMessageBatch, ReceiveMessage,
// ChangeMessageVisibility (read 2026-11).
const (
	// MaxBytes is the most bytes of a message, attributes included, and of all
	// messages of a call together.
	MaxBytes = 1 << 20
	// MaxBatch is the most messages of a call.
	MaxBatch = 10
	// MaxDelay is the longest that a message can be sent to wait.
	MaxDelay = 15 * time.Minute
	// MaxVisibility is the longest that a received message can be kept from
	// others, from its receipt on.
	MaxVisibility = 12 * time.Hour
	// MaxWait is the longest that Receive waits for a message.
	MaxWait = 20 * time.Second
)

// Ref names a queue. The zero Ref names none.
type Ref struct {
	// URL is how calls name it.
	URL string
	// Name is its name, Region where it is.
	Name, Region string
}

// FIFO reports whether the queue keeps the order of each group.
func (r Ref) FIFO() bool { return strings.HasSuffix(r.Name, ".fifo") }

func (r Ref) String() string { return r.Name }

// ParseRef reads the URL or the ARN of a queue. region is that of the program:
// an ARN elsewhere is refused, for calls go to one region.
func ParseRef(text, region string) (Ref, error) {
	if arn.IsARN(text) {
		a, err := arn.Parse(text)
		if err != nil || a.Service != "sqs" || a.Resource == "" || a.AccountID == "" {
			return Ref{}, fmt.Errorf("%q is not the ARN of an SQS queue", text)
		}
		if a.Region != region {
			return Ref{}, fmt.Errorf("the queue %s is in %s, and the AWS region is %s", text, a.Region, region)
		}
		suffix := "amazonaws.com"
		if a.Partition == "aws-cn" {
			suffix = "amazonaws.com.cn"
		}
		// SQS takes the name of a queue from the path of the URL; where calls
		// go is the endpoint's.
		return Ref{URL: "https://sqs." + a.Region + "." + suffix + "/" + a.AccountID + "/" + a.Resource, Name: a.Resource, Region: region}, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return Ref{}, fmt.Errorf("%q is neither the URL nor the ARN of an SQS queue", text)
	}
	name := u.Path[strings.LastIndexByte(u.Path, '/')+1:]
	if name == "" {
		return Ref{}, fmt.Errorf("%q has no name of a queue at its end", text)
	}
	return Ref{URL: text, Name: name, Region: region}, nil
}

// Message is one to send.
type Message struct {
	Body string
	// Attributes are for people and filters. Empty ones are left out.
	Attributes map[string]string
	// Delay is how long it is kept from receivers, at most MaxDelay, in whole
	// seconds, rounded up. FIFO queues have none.
	Delay time.Duration
	// Group and Dedup are needed by FIFO queues: messages of a group are
	// received in order, and of those with the same Dedup within five minutes
	// the first alone is stored.
	Group, Dedup string
}

// Body makes JSON the body of a message. SQS refuses two characters that JSON
// may hold: they are escaped, which means the same. Source: SQS API reference,
// SendMessage, MessageBody (read 2026-11).
func Body(payload []byte) string { return refusedText.Replace(string(payload)) }

var refusedText = strings.NewReplacer("\uFFFE", `\ufffe`, "\uFFFF", `\uffff`)

func (m *Message) bytes() int {
	n := len(m.Body)
	for name, value := range m.Attributes {
		n += len(name) + len("String") + len(value)
	}
	return n
}

// Received is a message that was received.
type Received struct {
	ID, Receipt string
	Body        string
	Attributes  map[string]string
	SentAt      time.Time
	// Receives counts how often it was received, this time included.
	Receives int
	Group    string
	// Source is the ARN of the queue that SQS has moved it from, empty if it was
	// sent here.
	Source string
}

// Client calls SQS. Its methods are safe for concurrent use.
type Client struct {
	client *sqs.Client
	region string
}

// New returns a client. It makes no call.
func New(cfg aws.Config) *Client {
	return &Client{
		client: sqs.NewFromConfig(cfg, func(o *sqs.Options) { o.HTTPClient = sdk.Watched(o.HTTPClient) }),
		region: cfg.Region,
	}
}

// Parse is ParseRef for the region of the client.
func (c *Client) Parse(text string) (Ref, error) { return ParseRef(text, c.region) }

// Find returns the queue with a name in the account of the credentials.
func (c *Client) Find(ctx context.Context, name string) (Ref, error) {
	out, err := sdk.Call(ctx, c.subject(Ref{Name: name}), c.client.GetQueueUrl, &sqs.GetQueueUrlInput{QueueName: &name})
	if err != nil {
		return Ref{}, err
	}
	return c.Parse(aws.ToString(out.QueueUrl))
}

func once(o *sqs.Options) { o.Retryer = aws.NopRetryer{} }

func (c *Client) subject(r Ref) sdk.Subject {
	return sdk.Subject{Service: "sqs", Title: "SQS", Name: fmt.Sprintf("queue %q", r.Name), Region: c.region, Known: func(f *sdk.Failure, refusal sdk.Refusal) bool {
		code := refusal.Code[strings.LastIndexByte(refusal.Code, '.')+1:]
		switch code {
		case "QueueDoesNotExist", "NonExistentQueue":
			f.Kind = fault.NotFound
			f.Act("missing", "queue %q does not exist in %s: create it, or check AWS_REGION", r.Name, c.region)
		case "AccessDenied", "AccessDeniedException":
			f.Kind = fault.Forbidden
			f.Act("denied"+refusal.Operation, "the AWS credentials may not call sqs:%s on queue %q in %s: allow it in their policy", strings.TrimSuffix(refusal.Operation, "Batch"), r.Name, c.region)
		case "InvalidMessageContents", "InvalidParameterValue", "MissingParameter":
			f.Kind = fault.Invalid
			f.Text = fmt.Sprintf("queue %q in %s: %s is refused as invalid: %s", r.Name, c.region, refusal.Operation, sdk.OneLine(refusal.Message))
		case "OverLimit":
			f.Kind = fault.Unavailable
			f.Act("in flight", "queue %q in %s has as many messages in flight as SQS allows: delete some, or wait until they are visible again", r.Name, c.region)
		default:
			return false
		}
		return true
	}}
}

// batches calls do for parts of n things that SQS takes in one call, size giving
// the bytes of one.
func batches(n int, size func(int) int, do func(from, to int)) {
	for from := 0; from < n; {
		to, bytes := from, 0
		for to < n && to-from < MaxBatch && (to == from || bytes+size(to) <= MaxBytes) {
			bytes += size(to)
			to++
		}
		do(from, to)
		from = to
	}
}

// Send sends messages, each once, and returns an error for each that is not
// known to be stored, in order: fault.TooLarge and fault.Invalid will never be,
// fault.Ambiguous may have been.
func (c *Client) Send(ctx context.Context, to Ref, messages []Message) []error {
	errs := make([]error, len(messages))
	fit := make([]int, 0, len(messages))
	for i := range messages {
		if n := messages[i].bytes(); n > MaxBytes {
			errs[i] = fault.New(fault.TooLarge, "a message of %d bytes: SQS takes %d", n, MaxBytes)
			continue
		}
		fit = append(fit, i)
	}
	batches(len(fit), func(i int) int { return messages[fit[i]].bytes() }, func(from, till int) {
		c.sendBatch(ctx, to, messages, fit[from:till], errs)
	})
	return errs
}

func (c *Client) sendBatch(ctx context.Context, to Ref, messages []Message, which []int, errs []error) {
	in := &sqs.SendMessageBatchInput{QueueUrl: &to.URL}
	for n, i := range which {
		m := &messages[i]
		e := types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(n)), MessageBody: &m.Body}
		for name, value := range m.Attributes {
			if value == "" {
				continue
			}
			if e.MessageAttributes == nil {
				e.MessageAttributes = map[string]types.MessageAttributeValue{}
			}
			e.MessageAttributes[name] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
		}
		if to.FIFO() {
			e.MessageGroupId, e.MessageDeduplicationId = &m.Group, &m.Dedup
		} else if m.Delay > 0 {
			e.DelaySeconds = seconds(min(m.Delay, MaxDelay))
		}
		in.Entries = append(in.Entries, e)
	}
	out, err := sdk.Call(ctx, c.subject(to), c.client.SendMessageBatch, in, once)
	if err != nil {
		for _, i := range which {
			errs[i] = err
		}
		return
	}
	// What the answer does not name may have been stored.
	for _, i := range which {
		errs[i] = fault.New(fault.Ambiguous, "the answer of SQS does not say what became of the message")
	}
	for _, ok := range out.Successful {
		if n, err := strconv.Atoi(aws.ToString(ok.Id)); err == nil && n >= 0 && n < len(which) {
			errs[which[n]] = nil
		}
	}
	failures(out.Failed, which, errs)
}

// failures puts the failed entries of an answer into errs.
func failures(failed []types.BatchResultErrorEntry, which []int, errs []error) {
	for _, f := range failed {
		n, err := strconv.Atoi(aws.ToString(f.Id))
		if err != nil || n < 0 || n >= len(which) {
			continue
		}
		kind := fault.Unavailable
		switch code := aws.ToString(f.Code); {
		case strings.Contains(code, "Throttl"):
			kind = fault.Throttled
		case f.SenderFault:
			kind = fault.Invalid
		}
		errs[which[n]] = fault.New(kind, "SQS refused it: %s: %s", aws.ToString(f.Code), sdk.OneLine(aws.ToString(f.Message)))
	}
}

// patience is how Put waits between attempts.
var patience = retry.Policy{BaseDelay: 50 * time.Millisecond, MaxDelay: 2 * time.Second}

// Put sends messages until each is stored, can never be, or ctx is done. Of an
// ambiguous outcome a second message may come. The error joins those of the
// messages that are not stored; errs has them by message.
func (c *Client) Put(ctx context.Context, to Ref, messages []Message) (errs []error, err error) {
	errs = make([]error, len(messages))
	left := make([]int, len(messages))
	for i := range left {
		left[i] = i
	}
	for attempt := 1; ; attempt++ {
		some := make([]Message, len(left))
		for n, i := range left {
			some[n] = messages[i]
		}
		var again []int
		for n, err := range c.Send(ctx, to, some) {
			i := left[n]
			if errs[i] = err; err != nil && Passing(err) {
				again = append(again, i)
			}
		}
		left = again
		if len(left) == 0 || retry.Sleep(ctx, patience.Delay(attempt, 0)) != nil {
			return errs, errors.Join(errs...)
		}
	}
}

// Passing reports whether what failed may work later.
func Passing(err error) bool {
	switch fault.KindOf(err) {
	case fault.Invalid, fault.TooLarge, fault.NotFound, fault.Forbidden:
		return false
	}
	return true
}

// Receive receives at most max messages (1 to MaxBatch), and waits for the first
// at most MaxWait. They are kept from other receivers for the time of
// visibility.
func (c *Client) Receive(ctx context.Context, from Ref, most int, wait, visibility time.Duration) ([]Received, error) {
	out, err := sdk.Call(ctx, c.subject(from), c.client.ReceiveMessage, &sqs.ReceiveMessageInput{
		QueueUrl:                    &from.URL,
		MaxNumberOfMessages:         int32(min(max(most, 1), MaxBatch)),
		WaitTimeSeconds:             seconds(min(wait, MaxWait)),
		VisibilityTimeout:           seconds(min(visibility, MaxVisibility)),
		MessageAttributeNames:       []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	})
	if err != nil {
		return nil, err
	}
	received := make([]Received, len(out.Messages))
	for i := range out.Messages {
		m := &out.Messages[i]
		r := Received{ID: aws.ToString(m.MessageId), Receipt: aws.ToString(m.ReceiptHandle), Body: aws.ToString(m.Body), Group: m.Attributes["MessageGroupId"], Source: m.Attributes["DeadLetterQueueSourceArn"]}
		r.SentAt = millis(m.Attributes["SentTimestamp"])
		r.Receives, _ = strconv.Atoi(m.Attributes["ApproximateReceiveCount"])
		for name, value := range m.MessageAttributes {
			if value.StringValue == nil {
				continue
			}
			if r.Attributes == nil {
				r.Attributes = map[string]string{}
			}
			r.Attributes[name] = *value.StringValue
		}
		received[i] = r
	}
	return received, nil
}

// Delete deletes received messages, and returns an error for each that may not
// be deleted.
func (c *Client) Delete(ctx context.Context, from Ref, receipts []string) []error {
	return each(receipts, func(some []string) ([]types.BatchResultErrorEntry, error) {
		in := &sqs.DeleteMessageBatchInput{QueueUrl: &from.URL}
		for n := range some {
			in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(n)), ReceiptHandle: &some[n]})
		}
		out, err := sdk.Call(ctx, c.subject(from), c.client.DeleteMessageBatch, in)
		if err != nil {
			return nil, err
		}
		return out.Failed, nil
	})
}

// Postpone makes received messages receivable again after a time, which counts
// from now; zero is at once. It returns an error for each of which that is not
// known.
func (c *Client) Postpone(ctx context.Context, in Ref, receipts []string, d time.Duration) []error {
	return each(receipts, func(some []string) ([]types.BatchResultErrorEntry, error) {
		call := &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &in.URL}
		for n := range some {
			call.Entries = append(call.Entries, types.ChangeMessageVisibilityBatchRequestEntry{
				Id: aws.String(strconv.Itoa(n)), ReceiptHandle: &some[n], VisibilityTimeout: seconds(min(d, MaxVisibility)),
			})
		}
		out, err := sdk.Call(ctx, c.subject(in), c.client.ChangeMessageVisibilityBatch, call)
		if err != nil {
			return nil, err
		}
		return out.Failed, nil
	})
}

// each makes calls for as many receipts as one takes, and returns what became of
// each. The entries of a call have their index as id.
func each(receipts []string, call func(some []string) ([]types.BatchResultErrorEntry, error)) []error {
	errs := make([]error, len(receipts))
	batches(len(receipts), func(int) int { return 0 }, func(from, to int) {
		failed, err := call(receipts[from:to])
		which := make([]int, to-from)
		for n := range which {
			which[n] = from + n
			errs[from+n] = err
		}
		failures(failed, which, errs)
	})
	return errs
}

// Depth is how many messages a queue holds, approximately, as SQS says.
type Depth struct {
	// Waiting can be received, InFlight were and are kept from others, Delayed
	// are not receivable yet.
	Waiting, InFlight, Delayed uint64
}

// Total is all of them.
func (d Depth) Total() uint64 { return d.Waiting + d.InFlight + d.Delayed }

// Depth asks how many messages a queue holds.
func (c *Client) Depth(ctx context.Context, of Ref) (Depth, error) {
	out, err := sdk.Call(ctx, c.subject(of), c.client.GetQueueAttributes, &sqs.GetQueueAttributesInput{QueueUrl: &of.URL, AttributeNames: []types.QueueAttributeName{
		types.QueueAttributeNameApproximateNumberOfMessages,
		types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
		types.QueueAttributeNameApproximateNumberOfMessagesDelayed,
	}})
	if err != nil {
		return Depth{}, err
	}
	number := func(name types.QueueAttributeName) uint64 {
		n, _ := strconv.ParseUint(out.Attributes[string(name)], 10, 64)
		return n
	}
	return Depth{
		Waiting:  number(types.QueueAttributeNameApproximateNumberOfMessages),
		InFlight: number(types.QueueAttributeNameApproximateNumberOfMessagesNotVisible),
		Delayed:  number(types.QueueAttributeNameApproximateNumberOfMessagesDelayed),
	}, nil
}

// seconds rounds up, so that nothing comes early.
func seconds(d time.Duration) int32 { return int32((d + time.Second - 1) / time.Second) }

func millis(text string) time.Time {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(n)
}
