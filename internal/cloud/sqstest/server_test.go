package sqstest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// client calls a server with plain net/http: what the AWS SDK makes of the
// answers is tested where the SDK is used.
type client struct {
	t    testing.TB
	url  string
	http *http.Client
}

// start returns a server with the queues events, orders.fifo and failed, and a
// client of it.
func start(t testing.TB, c sqstest.Config) (*sqstest.Server, *client) {
	t.Helper()
	c.Queues = append([]sqstest.Queue{{Name: "failed"}, {Name: "events"}, {Name: "orders.fifo"}}, c.Queues...)
	server := sqstest.New(t, c)
	h := server.Client()
	t.Cleanup(h.CloseIdleConnections)
	return server, &client{t, server.URL(), h}
}

// inBubble runs a test whose time is synctest's, with a server in memory.
func inBubble(t *testing.T, c sqstest.Config, test func(*testing.T, *sqstest.Server, *client)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c.InMemory = true
		server, c := start(t, c)
		test(t, server, c)
	})
}

// fields are an input.
type fields map[string]any

// request makes a call that is signed, in form. A queue is named by its name.
func (c *client) request(operation string, in fields) *http.Request {
	c.t.Helper()
	if name, ok := in["QueueUrl"].(string); ok && !strings.Contains(name, "/") {
		in["QueueUrl"] = "https://sqs.us-east-1.amazonaws.com/123456789012/" + name
	}
	body, err := json.Marshal(in)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+"/", bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "AmazonSQS."+operation)
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	awstest.Sign(r, "sqs", "us-east-1")
	return r
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error // of the call, or of reading the body
}

func (c *client) do(r *http.Request) answer {
	resp, err := c.http.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, body, err}
}

// call makes a call that has to be answered.
func (c *client) call(operation string, in fields) answer {
	c.t.Helper()
	a := c.do(c.request(operation, in))
	if a.err != nil {
		c.t.Fatalf("%s: %v", operation, a.err)
	}
	return a
}

// ok makes a call that has to succeed, and reads its output.
func ok[Out any](c *client, operation string, in fields) Out {
	c.t.Helper()
	a := c.call(operation, in)
	var out Out
	if a.status != http.StatusOK {
		c.t.Fatalf("%s: %d %s", operation, a.status, a.body)
	}
	if len(a.body) > 0 {
		if err := json.Unmarshal(a.body, &out); err != nil {
			c.t.Fatalf("%s: %v in %s", operation, err, a.body)
		}
	}
	return out
}

// refused returns the type and message of an answer.
func (a answer) refused() (string, string) {
	var e struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(a.body, &e)
	return e.Type, e.Message
}

// batchOutput is the answer to a batch.
type batchOutput struct {
	Successful []struct{ Id, MessageId, MD5OfMessageBody string }
	Failed     []struct {
		Id, Code, Message string
		SenderFault       bool
	}
}

// ids returns those that succeeded and those that failed.
func (b batchOutput) ids() (successful, failed string) {
	for _, e := range b.Successful {
		successful += e.Id
	}
	for _, e := range b.Failed {
		failed += e.Id
	}
	return successful, failed
}

// received is the answer to a receive.
type received struct {
	Messages []struct {
		MessageId, ReceiptHandle, Body, MD5OfBody, MD5OfMessageAttributes string
		Attributes                                                        map[string]string
		MessageAttributes                                                 map[string]struct {
			DataType, StringValue string
			BinaryValue           []byte
		}
	}
}

func (r received) bodies() string {
	var all []string
	for _, m := range r.Messages {
		all = append(all, m.Body)
	}
	return strings.Join(all, " ")
}

// bodies returns those of messages, with a space between.
func bodies(messages []sqstest.Received) string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Body)
	}
	return strings.Join(all, " ")
}

// send sends a message of each body, which has to work; in a FIFO queue the
// group is what stands before a dash.
func send(t testing.TB, s *sqstest.Server, queue string, all ...string) {
	t.Helper()
	for _, body := range all {
		m := sqstest.Message{Body: body}
		if strings.HasSuffix(queue, ".fifo") {
			m.GroupID, _, _ = strings.Cut(body, "-")
			m.DeduplicationID = body
		}
		if _, err := s.Send(queue, m); err != nil {
			t.Fatal(err)
		}
	}
}
