package connector_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
	"github.com/eventsluice/sluice/internal/connector"
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
	t    testing.TB
	sqs  *sqstest.Server
	s3   http.Handler
	conn *deliverytest.Connector
	// secrets are those of Secrets Manager, by name; reads counts the calls.
	secrets map[string]string
	reads   int
	sent    int               // messages to FIFO queues
	made    []json.RawMessage // the settings of each connector that was made

	cfg     aws.Config
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
	r := &rig{
		t: t, conn: &deliverytest.Connector{}, secrets: map[string]string{}, log: &bytes.Buffer{}, metrics: &bytes.Buffer{},
		sqs: sqstest.New(t, sqstest.Config{InMemory: true, Queues: []sqstest.Queue{
			{Name: dead, Retention: twoWeeks}, {Name: retry, Retention: twoWeeks, VisibilityTimeout: visibility},
			{Name: source, Retention: twoWeeks, VisibilityTimeout: visibility}, {Name: fifo, Retention: twoWeeks, VisibilityTimeout: visibility},
		}}),
	}
	backend := s3mem.New()
	if err := backend.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	r.s3 = gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	client := r.sqs.Client()
	t.Cleanup(client.CloseIdleConnections)
	var err error
	r.cfg, err = sdk.Load(t.Context(), nil,
		config.WithRegion("us-east-1"), config.WithBaseEndpoint(r.sqs.URL()),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "SECRET", "")),
		config.WithSharedConfigFiles([]string{}), config.WithSharedCredentialsFiles([]string{}))
	if err != nil {
		t.Fatal(err)
	}
	// Not an option: the SDK would put the certificates of the environment into
	// it, and cannot.
	r.cfg.HTTPClient = &http.Client{Transport: network{r, client.Transport}}
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
	return function.Build(r.t.Context(), r.cfg, environ, map[string]connector.Factory{
		"double": func(settings json.RawMessage, _ connector.Env) (connector.Connector, error) {
			r.made = append(r.made, settings)
			if strings.Contains(string(settings), "bad") {
				return nil, fmt.Errorf("token: is not a token")
			}
			return r.conn, nil
		},
	}, slog.New(slog.NewJSONHandler(r.log, nil)), r.metrics)
}

// network takes each call to the double that it is for.
type network struct {
	r   *rig
	sqs http.RoundTripper
}

func (n network) RoundTrip(q *http.Request) (*http.Response, error) {
	target := q.Header.Get("X-Amz-Target")
	if strings.HasPrefix(target, "AmazonSQS.") {
		return n.sqs.RoundTrip(q)
	}
	if err := q.Context().Err(); err != nil {
		return nil, err
	}
	var body []byte
	if q.Body != nil {
		body, _ = io.ReadAll(q.Body)
		_ = q.Body.Close()
	}
	w := httptest.NewRecorder()
	if target != "" {
		n.r.secret(w, target, body)
	} else {
		q = q.Clone(q.Context())
		q.Header.Set("Content-Length", strconv.Itoa(len(body)))
		q.Body, q.RequestURI = io.NopCloser(bytes.NewReader(body)), q.URL.RequestURI()
		n.r.s3.ServeHTTP(w, q)
	}
	return w.Result(), nil
}

// secret is Secrets Manager.
func (r *rig) secret(w http.ResponseWriter, target string, body []byte) {
	r.reads++
	var in struct{ SecretId string }
	_ = json.Unmarshal(body, &in)
	value, ok := r.secrets[in.SecretId]
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if target != "secretsmanager.GetSecretValue" || !ok {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find the specified secret."}`)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"SecretString": value})
}

// put puts an object into the bucket.
func (r *rig) put(key string, body []byte) {
	r.t.Helper()
	w := httptest.NewRecorder()
	q := httptest.NewRequest(http.MethodPut, "/"+bucket+"/"+key, bytes.NewReader(body))
	q.Header.Set("Content-Length", strconv.Itoa(len(body)))
	r.s3.ServeHTTP(w, q)
	if w.Code != http.StatusOK {
		r.t.Fatalf("PUT %s: %d %s", key, w.Code, w.Body)
	}
}

// get returns an object of the bucket, nil if there is none.
func (r *rig) get(key string) []byte {
	w := httptest.NewRecorder()
	r.s3.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/"+bucket+"/"+key, nil))
	if w.Code != http.StatusOK {
		return nil
	}
	return w.Body.Bytes()
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

// unavailable is a service that is away.
type unavailable struct{}

func (unavailable) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusServiceUnavailable)
}

// stuck does not return before it is let go.
func stuck(until <-chan struct{}) deliverytest.Answer {
	return func(_ context.Context, events []connector.Delivery) []connector.Result {
		<-until
		return connector.All(len(events), delivered)
	}
}
