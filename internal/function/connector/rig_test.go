package connector_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/catalog"
	"github.com/eventsluice/sluice/internal/connector/delivery/deliverytest"
	"github.com/eventsluice/sluice/internal/deadletter"
	function "github.com/eventsluice/sluice/internal/function/connector"
)

// Queues of every rig.
const (
	dead   = "crm-dead"
	retry  = "crm-retry"
	source = "crm"
	fifo   = "crm.fifo"
	bucket = "claims"
)

// visibility is that of the queues.
const visibility = 2 * time.Minute

// rig is a function between doubles of AWS, all in memory, so that it may run in
// a bubble.
type rig struct {
	t       testing.TB
	aws     *cloudtest.Memory
	sqs     *sqstest.Server
	conn    *deliverytest.Connector
	sent    int               // messages to FIFO queues
	made    []json.RawMessage // the settings of each connector that was made
	f       *function.Function
	log     *bytes.Buffer
	metrics *bytes.Buffer
}

// env is the environment of a rig, with more of it.
func env(more ...string) []string {
	return append([]string{
		"CONNECTOR=double", "DESTINATION=crm", "DEAD_LETTER_QUEUE=arn:aws:sqs:us-east-1:123456789012:" + dead,
		"RETRY_QUEUE=arn:aws:sqs:us-east-1:123456789012:" + retry, "CLAIM_BUCKET=" + bucket,
	}, more...)
}

// newRig makes a function of an environment.
func newRig(t testing.TB, environ ...string) *rig {
	t.Helper()
	r := openRig(t)
	r.start(environ...)
	return r
}

func openRig(t testing.TB) *rig {
	t.Helper()
	twoWeeks := 14 * 24 * time.Hour
	r := &rig{t: t, conn: &deliverytest.Connector{}, log: &bytes.Buffer{}, metrics: &bytes.Buffer{}}
	r.aws = cloudtest.NewMemory(t, []sqstest.Queue{
		{Name: dead, Retention: twoWeeks}, {Name: retry, Retention: twoWeeks, VisibilityTimeout: visibility},
		{Name: source, Retention: twoWeeks, VisibilityTimeout: visibility}, {Name: fifo, Retention: twoWeeks, VisibilityTimeout: visibility},
	}, bucket)
	r.sqs = r.aws.Queues
	return r
}

// start makes the function, as a new environment does.
func (r *rig) start(environ ...string) {
	r.t.Helper()
	f, err := r.make(environ...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.f = f
}

func (r *rig) make(environ ...string) (*function.Function, error) {
	return function.Build(r.t.Context(), r.aws.SDK(), environ, catalog.Of(connector.Spec{
		Kind: "double", New: func(settings json.RawMessage, _ connector.Env) (connector.Connector, error) {
			r.made = append(r.made, settings)
			if strings.Contains(string(settings), "bad") {
				return nil, fmt.Errorf("token: is not a token")
			}
			return r.conn, nil
		},
	}), slog.New(slog.NewJSONHandler(r.log, nil)), r.metrics)
}

// put puts an object into the bucket.
func (r *rig) put(key string, body []byte) {
	r.t.Helper()
	if err := r.aws.Put(bucket, key, body); err != nil {
		r.t.Fatal(err)
	}
}

// get returns an object of the bucket, nil if there is none.
func (r *rig) get(key string) []byte {
	body, err := r.aws.Get(bucket, key)
	if err != nil {
		return nil
	}
	return body
}

// timeout is that of the function.
const timeout = time.Minute

// invoke calls the function as Lambda does for an asynchronous invocation.
func (r *rig) invoke(payload string) (counts, error) {
	return r.invokeWithin(timeout, payload)
}

func (r *rig) invokeWithin(d time.Duration, payload string) (c counts, err error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), d)
	defer cancel()
	answer, err := r.f.Handle(ctx, []byte(payload))
	if deadline, _ := ctx.Deadline(); !time.Now().Before(deadline) {
		r.t.Errorf("it took longer than its timeout of %v", d)
	}
	if err == nil {
		if e := json.Unmarshal(answer, &c); e != nil {
			r.t.Errorf("answer %s: %v", answer, e)
		}
	}
	return c, err
}

type counts struct{ Events, Delivered, Dropped, Waiting, Dead, Failed int }

// poll is a round of an SQS event source: it receives a batch, invokes the
// function, and deletes what is not reported as failed. It returns how many
// messages it received and which were reported.
func (r *rig) poll(queue string, size int) (received int, reported []string) {
	r.t.Helper()
	messages := r.sqs.Receive(queue, size, visibility)
	if len(messages) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), timeout)
	defer cancel()
	answer, err := r.f.Handle(ctx, messageEvent(r.sqs.ARN(queue), messages))
	if err != nil {
		r.t.Errorf("invocation for messages: %v", err)
		return len(messages), nil
	}
	var failures struct {
		BatchItemFailures []struct{ ItemIdentifier string }
	}
	if err := json.Unmarshal(answer, &failures); err != nil {
		r.t.Fatalf("answer %s: %v", answer, err)
	}
	for _, f := range failures.BatchItemFailures {
		reported = append(reported, f.ItemIdentifier)
	}
	for _, m := range messages {
		if !slices.Contains(reported, m.ID) {
			if err := r.sqs.Delete(queue, m.Receipt); err != nil {
				r.t.Error(err)
			}
		}
	}
	return len(messages), reported
}

// messageEvent is the event of an SQS event source.
func messageEvent(arn string, messages []sqstest.Received) []byte {
	type record struct {
		MessageID      string            `json:"messageId"`
		ReceiptHandle  string            `json:"receiptHandle"`
		Body           string            `json:"body"`
		Attributes     map[string]string `json:"attributes"`
		EventSource    string            `json:"eventSource"`
		EventSourceARN string            `json:"eventSourceARN"`
	}
	var records []record
	for _, m := range messages {
		records = append(records, record{m.ID, m.Receipt, m.Body, m.SystemAttributes(), "aws:sqs", arn})
	}
	b, _ := json.Marshal(map[string]any{"Records": records})
	return b
}

// letters returns the letters in a queue.
func (r *rig) letters(queue string) []deadletter.Letter {
	r.t.Helper()
	var all []deadletter.Letter
	for _, m := range r.sqs.Messages(queue) {
		var l deadletter.Letter
		if err := json.Unmarshal([]byte(m.Body), &l); err != nil {
			r.t.Fatalf("%s holds what is no letter: %v: %.200s", queue, err, m.Body)
		}
		all = append(all, l)
	}
	return all
}

func (r *rig) send(queue, body, group string) {
	r.t.Helper()
	m := sqstest.Message{Body: body}
	if strings.HasSuffix(queue, ".fifo") {
		r.sent++
		m.GroupID, m.DeduplicationID = group, strconv.Itoa(r.sent)
	}
	if _, err := r.sqs.Send(queue, m); err != nil {
		r.t.Fatal(err)
	}
}

// one is an event, many an array of them.
func one(id, user string) string {
	return fmt.Sprintf(`{"id":%q,"name":"bought","user_id":%q,"data":{"n":1.50}}`, id, user)
}

func many(events ...string) string { return "[" + strings.Join(events, ",") + "]" }

// answers gives the results of an event by its id, one for each try and the last
// for ever. Others are delivered.
type answers map[string][]connector.Result

func (a answers) on(c *deliverytest.Connector) {
	var mu sync.Mutex
	tries := map[string]int{}
	c.Answer(func(_ context.Context, events []connector.Delivery) []connector.Result {
		mu.Lock()
		defer mu.Unlock()
		out := make([]connector.Result, len(events))
		for i, e := range events {
			lines := a[e.Event.ID]
			if out[i].Class = connector.Delivered; len(lines) > 0 {
				out[i] = lines[min(tries[e.Event.ID], len(lines)-1)]
			}
			tries[e.Event.ID]++
		}
		return out
	})
}

func result(class connector.Class, wait time.Duration) connector.Result {
	return connector.Result{Class: class, Code: "E7", Message: "because", Status: 503, RetryAfter: wait, Request: "POST /", Response: "busy"}
}

var delivered = connector.Result{Class: connector.Delivered}

// stuck does not return before it is let go.
func stuck(until <-chan struct{}) deliverytest.Answer {
	return func(_ context.Context, events []connector.Delivery) []connector.Result {
		<-until
		return connector.All(len(events), delivered)
	}
}
