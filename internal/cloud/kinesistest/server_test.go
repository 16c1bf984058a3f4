package kinesistest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

// client calls a server with plain net/http: what the AWS SDK makes of the
// answers is tested where the SDK is used.
type client struct {
	t    testing.TB
	url  string
	http *http.Client
}

// start returns a server with one stream, events, and a client of it.
func start(t *testing.T, shards int) (*kinesistest.Server, *client) {
	t.Helper()
	return startWith(t, kinesistest.Config{Streams: []kinesistest.Stream{{Name: "events", Shards: shards}}})
}

func startWith(t *testing.T, c kinesistest.Config) (*kinesistest.Server, *client) {
	t.Helper()
	server := kinesistest.New(t, c)
	h := server.Client()
	t.Cleanup(h.CloseIdleConnections)
	return server, &client{t, server.URL(), h}
}

// inBubble runs a test whose time is synctest's, with a server in memory that
// has the stream events.
func inBubble(t *testing.T, c kinesistest.Config, test func(*testing.T, *kinesistest.Server, *client)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c.InMemory = true
		c.Streams = append(c.Streams, kinesistest.Stream{Name: "events", Shards: 2})
		server, c := startWith(t, c)
		test(t, server, c)
	})
}

// request makes a call that is signed, in form.
func (c *client) request(operation, body string) *http.Request {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+"/", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "Kinesis_20131202."+operation)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	awstest.Sign(r, "kinesis", "us-east-1")
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
func (c *client) call(operation, body string) answer {
	c.t.Helper()
	a := c.do(c.request(operation, body))
	if a.err != nil {
		c.t.Fatalf("%s: %v", operation, a.err)
	}
	return a
}

// ok makes a call that has to succeed, and reads its output.
func (c *client) ok(operation, body string, out any) {
	c.t.Helper()
	a := c.call(operation, body)
	if a.status != http.StatusOK {
		c.t.Fatalf("%s: %d %s", operation, a.status, a.body)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		c.t.Fatalf("%s: %v in %s", operation, err, a.body)
	}
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

// putOutput is the answer to PutRecords.
type putOutput struct {
	FailedRecordCount int
	Records           []struct{ SequenceNumber, ShardId, ErrorCode, ErrorMessage string }
}

// entries is a PutRecords input with one record of each key, whose data is the
// key too.
func entries(keys ...string) string {
	var b strings.Builder
	b.WriteString(`{"StreamName":"events","Records":[`)
	for i, key := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		data, _ := json.Marshal([]byte(key))
		b.WriteString(`{"Data":` + string(data) + `,"PartitionKey":"` + key + `"}`)
	}
	b.WriteString("]}")
	return b.String()
}

// put puts one record of each key, and all of them have to be stored.
func (c *client) put(keys ...string) putOutput {
	c.t.Helper()
	var out putOutput
	c.ok("PutRecords", entries(keys...), &out)
	if out.FailedRecordCount != 0 {
		c.t.Fatalf("put %v: %+v", keys, out)
	}
	return out
}

// stored returns the keys of the records that the stream events holds.
func stored(s *kinesistest.Server) []string {
	keys := []string{}
	for _, r := range s.Records("events") {
		keys = append(keys, r.PartitionKey)
	}
	return keys
}
