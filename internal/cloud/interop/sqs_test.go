package interop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/eventsluice/sluice/internal/cloud/sqstest"
	"github.com/eventsluice/sluice/internal/testenv"
)

// queues is an SQS, as the SDK sees it.
type queues struct {
	client *sqs.Client
	// ours is set for our double. Some of what AWS documents another one does not
	// do: those checks are for ours only.
	ours bool
}

func newQueues(t testing.TB, url string, h *http.Client, ours bool) queues {
	t.Cleanup(h.CloseIdleConnections)
	return queues{ours: ours, client: sqs.New(sqs.Options{
		BaseEndpoint: aws.String(url),
		Region:       "us-east-1",
		HTTPClient:   h,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
	})}
}

// create makes a queue and returns its URL.
func (q queues) create(t *testing.T, name string, attributes map[string]string) *string {
	t.Helper()
	if strings.HasSuffix(name, ".fifo") {
		if attributes == nil {
			attributes = map[string]string{}
		}
		attributes["FifoQueue"] = "true"
	}
	out, err := q.client.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(name), Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	return out.QueueUrl
}

// send sends a message of each body; in a FIFO queue the group is what stands
// before a dash.
func (q queues) send(t *testing.T, url *string, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		in := &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String(body)}
		if strings.HasSuffix(*url, ".fifo") {
			group, _, _ := strings.Cut(body, "-")
			in.MessageGroupId, in.MessageDeduplicationId = aws.String(group), aws.String(body)
		}
		if _, err := q.client.SendMessage(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
}

// receive returns up to ten messages; wait is in seconds, and so is hidden, for
// how long others do not see them.
func (q queues) receive(t *testing.T, url *string, wait, hidden int32) []types.Message {
	t.Helper()
	out, err := q.client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: url, MaxNumberOfMessages: 10, WaitTimeSeconds: wait, VisibilityTimeout: hidden,
		MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Messages
}

func bodiesOf(messages []types.Message) string {
	var all []string
	for _, m := range messages {
		all = append(all, *m.Body)
	}
	return strings.Join(all, " ")
}

func (q queues) delete(t *testing.T, url *string, m types.Message) {
	t.Helper()
	if _, err := q.client.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: url, ReceiptHandle: m.ReceiptHandle}); err != nil {
		t.Fatal(err)
	}
}

func (q queues) setVisibility(t *testing.T, url *string, m types.Message, seconds int32) {
	t.Helper()
	if _, err := q.client.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: url, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: seconds}); err != nil {
		t.Fatal(err)
	}
}

func (q queues) attributes(t *testing.T, url *string, names ...types.QueueAttributeName) map[string]string {
	t.Helper()
	out, err := q.client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: url, AttributeNames: names})
	if err != nil {
		t.Fatal(err)
	}
	return out.Attributes
}

// TestOurSQSBehavesAsTheSDKExpects runs the behaviours of SQS against our double.
func TestOurSQSBehavesAsTheSDKExpects(t *testing.T) {
	t.Parallel()
	server := sqstest.New(t, sqstest.Config{})
	testSQS(t, newQueues(t, server.URL(), server.Client(), true))
}

// TestAnotherSQSBehavesAsOurs runs the same behaviours against moto, so that they
// are more than our opinion.
func TestAnotherSQSBehavesAsOurs(t *testing.T) {
	t.Parallel()
	testSQS(t, newQueues(t, moto(t), &http.Client{Transport: &http.Transport{}}, false))
}

// moto starts moto's server on a port from the system and returns its address.
func moto(t *testing.T) string {
	t.Helper()
	python := testenv.Python(t, "testdata/moto/requirements.txt")
	cmd := exec.CommandContext(t.Context(), python, filepath.Join(filepath.Dir(python), "moto_server"), "-H", "127.0.0.1", "-p", "0")
	cmd.Env = environment("NO_COLOR=1", "PYTHONUNBUFFERED=1")
	output, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has nothing to keep
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(output)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		if _, url, ok := strings.Cut(lines.Text(), "Running on "); ok {
			go func() { // it logs every call, and must not wait for a reader
				for lines.Scan() {
				}
			}()
			return strings.TrimSpace(url)
		}
	}
	t.Fatalf("moto did not start:\n%s", strings.Join(said, "\n"))
	return ""
}

// testSQS runs the behaviours in which doubles of SQS agree with AWS.
func testSQS(t *testing.T, q queues) {
	for name, test := range map[string]func(*testing.T, queues){
		"a message comes as it went":                   testRoundTrip,
		"ten messages go at once":                      testBatch,
		"errors have their types":                      testErrors,
		"a message in flight comes back":               testVisibility,
		"a message waits for its delay":                testDelay,
		"a message received too often is moved":        testDeadLetters,
		"a group is in order and in one hand":          testGroups,
		"duplicates are accepted once":                 testDuplicates,
		"a long poll ends when a message comes":        testLongPoll,
		"queues have settings, counts, tags and names": testQueues,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, q)
		})
	}
}

func testRoundTrip(t *testing.T, q queues) {
	url := q.create(t, "round-trip", nil)
	body := `{"name":"gekauft","who":"Änn 😀","text":"<&>` + "\t\r\n" + `"}`
	sent, err := q.client.SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: url, MessageBody: aws.String(body),
		MessageAttributes: map[string]types.MessageAttributeValue{
			"RequestID":    {DataType: aws.String("String"), StringValue: aws.String("r-1")},
			"ErrorCode":    {DataType: aws.String("Number"), StringValue: aws.String("200")},
			"ErrorMessage": {DataType: aws.String("Binary"), BinaryValue: []byte{0, 0xff, 'x'}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := q.receive(t, url, 0, 30)
	if len(got) != 1 {
		t.Fatalf("received %d messages", len(got))
	}
	m := got[0]
	if *m.Body != body || *m.MessageId != *sent.MessageId || *m.MD5OfBody != *sent.MD5OfMessageBody || *m.MD5OfMessageAttributes != *sent.MD5OfMessageAttributes {
		t.Errorf("sent %+v, received %+v", sent, m)
	}
	if a := m.MessageAttributes; *a["RequestID"].StringValue != "r-1" || *a["ErrorCode"].DataType != "Number" || string(a["ErrorMessage"].BinaryValue) != "\x00\xffx" {
		t.Errorf("attributes %+v", m.MessageAttributes)
	}
	if m.Attributes["ApproximateReceiveCount"] != "1" || m.Attributes["SentTimestamp"] == "" || m.Attributes["ApproximateFirstReceiveTimestamp"] == "" || m.Attributes["SenderId"] == "" {
		t.Errorf("system attributes %v", m.Attributes)
	}
	q.delete(t, url, m)
	q.delete(t, url, m) // does no harm
	if n := q.attributes(t, url, "All")["ApproximateNumberOfMessagesNotVisible"]; n != "0" {
		t.Errorf("%s messages are in flight", n)
	}
}

func testBatch(t *testing.T, q queues) {
	url := q.create(t, "batch", nil)
	var entries []types.SendMessageBatchRequestEntry
	for i := range 10 {
		entries = append(entries, types.SendMessageBatchRequestEntry{
			Id: aws.String(fmt.Sprint("e", i)), MessageBody: aws.String(fmt.Sprint(i)),
			MessageAttributes: map[string]types.MessageAttributeValue{"N": {DataType: aws.String("Number"), StringValue: aws.String(fmt.Sprint(i))}},
		})
	}
	sent, err := q.client.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: url, Entries: entries})
	if err != nil || len(sent.Successful) != 10 || len(sent.Failed) != 0 {
		t.Fatalf("%+v %v", sent, err)
	}
	ids := map[string]string{}
	for _, e := range sent.Successful {
		ids[*e.MessageId] = *e.Id
	}
	var deletes []types.DeleteMessageBatchRequestEntry
	for _, m := range q.receive(t, url, 0, 30) {
		if ids[*m.MessageId] != "e"+*m.Body || *m.MessageAttributes["N"].StringValue != *m.Body {
			t.Errorf("received %+v", m)
		}
		deletes = append(deletes, types.DeleteMessageBatchRequestEntry{Id: aws.String("d" + *m.Body), ReceiptHandle: m.ReceiptHandle})
	}
	if len(deletes) != 10 {
		t.Fatalf("received %d", len(deletes))
	}
	deletes[3].ReceiptHandle = aws.String("not-a-receipt")
	deleted, err := q.client.DeleteMessageBatch(t.Context(), &sqs.DeleteMessageBatchInput{QueueUrl: url, Entries: deletes})
	if err != nil || len(deleted.Successful) != 9 || len(deleted.Failed) != 1 {
		t.Fatalf("%+v %v", deleted, err)
	}
	if f := deleted.Failed[0]; *f.Code != "ReceiptHandleIsInvalid" || !f.SenderFault || *f.Id != *deletes[3].Id {
		t.Errorf("failed %+v", f)
	}
}

// as reports whether err is of a type of the SDK.
func as[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func codeOf(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func testErrors(t *testing.T, q queues) {
	url := q.create(t, "errors", nil)
	none := aws.String(strings.Replace(*url, "/errors", "/none", 1))
	entry := func(id, body string) types.SendMessageBatchRequestEntry {
		return types.SendMessageBatchRequestEntry{Id: aws.String(id), MessageBody: aws.String(body)}
	}
	batch := func(entries ...types.SendMessageBatchRequestEntry) error {
		_, err := q.client.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: url, Entries: entries})
		return err
	}
	var eleven []types.SendMessageBatchRequestEntry
	for i := range 11 {
		eleven = append(eleven, entry(fmt.Sprint(i), "a"))
	}
	if err := batch([]types.SendMessageBatchRequestEntry{}...); !as[*types.EmptyBatchRequest](err) || codeOf(err) != "AWS.SimpleQueueService.EmptyBatchRequest" {
		t.Errorf("no entries: %v", err)
	}
	if err := batch(eleven...); !as[*types.TooManyEntriesInBatchRequest](err) || codeOf(err) != "AWS.SimpleQueueService.TooManyEntriesInBatchRequest" {
		t.Errorf("eleven entries: %v", err)
	}
	if err := batch(entry("a", "a"), entry("a", "b")); !as[*types.BatchEntryIdsNotDistinct](err) {
		t.Errorf("an id twice: %v", err)
	}
	if err := batch(entry("a b", "a")); !as[*types.InvalidBatchEntryId](err) {
		t.Errorf("an id with a space: %v", err)
	}
	if err := batch(entry("a", strings.Repeat("x", 600_000)), entry("b", strings.Repeat("x", 600_000))); !as[*types.BatchRequestTooLong](err) {
		t.Errorf("too long together: %v", err)
	}
	_, err := q.client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: none, MessageBody: aws.String("a")})
	if !as[*types.QueueDoesNotExist](err) || codeOf(err) != "AWS.SimpleQueueService.NonExistentQueue" {
		t.Errorf("no such queue: %v", err)
	}
	_, err = q.client.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("none")})
	if !as[*types.QueueDoesNotExist](err) {
		t.Errorf("no queue of that name: %v", err)
	}
	_, err = q.client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String("a\x00")})
	if q.ours && !as[*types.InvalidMessageContents](err) {
		t.Errorf("a zero byte: %v", err)
	}
	_, err = q.client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String(strings.Repeat("x", 1<<20+1))})
	if codeOf(err) != "InvalidParameterValue" {
		t.Errorf("too large: %v", err)
	}
	_, err = q.client.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: url, ReceiptHandle: aws.String("x")})
	if !as[*types.ReceiptHandleIsInvalid](err) {
		t.Errorf("a receipt that is none: %v", err)
	}
	for _, n := range []int32{-1, 11} {
		if _, err := q.client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url, MaxNumberOfMessages: n}); codeOf(err) != "InvalidParameterValue" {
			t.Errorf("receive %d: %v", n, err)
		}
	}
	_, err = q.client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: url, AttributeNames: []types.QueueAttributeName{"Colour"}})
	if !as[*types.InvalidAttributeName](err) {
		t.Errorf("no such attribute: %v", err)
	}
}

func testVisibility(t *testing.T, q queues) {
	url := q.create(t, "visibility", nil)
	q.send(t, url, "a")
	if got := q.receive(t, url, 0, 1); bodiesOf(got) != "a" {
		t.Fatalf("received %v", got)
	}
	if got := q.receive(t, url, 0, 1); len(got) > 0 {
		t.Errorf("received %v while it is in flight", got)
	}
	got := q.receive(t, url, 20, 3600) // it comes back within the wait
	if bodiesOf(got) != "a" || got[0].Attributes["ApproximateReceiveCount"] != "2" {
		t.Fatalf("received %+v when it is visible again", got)
	}
	q.setVisibility(t, url, got[0], 0)
	got = q.receive(t, url, 0, 3600)
	if bodiesOf(got) != "a" || got[0].Attributes["ApproximateReceiveCount"] != "3" {
		t.Fatalf("received %+v after a change to 0", got)
	}
	_, err := q.client.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{QueueUrl: url, ReceiptHandle: got[0].ReceiptHandle, VisibilityTimeout: 43201})
	if codeOf(err) != "InvalidParameterValue" {
		t.Errorf("hidden for more than 12 hours: %v", err)
	}
}

func testDelay(t *testing.T, q queues) {
	url := q.create(t, "delay", nil)
	if _, err := q.client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String("a"), DelaySeconds: 2}); err != nil {
		t.Fatal(err)
	}
	if got := q.receive(t, url, 0, 30); len(got) > 0 {
		t.Errorf("received %v at once", got)
	}
	if n := q.attributes(t, url, "All")["ApproximateNumberOfMessagesDelayed"]; n != "1" {
		t.Errorf("%s messages are delayed", n)
	}
	if got := q.receive(t, url, 20, 30); bodiesOf(got) != "a" {
		t.Errorf("received %v after the delay", got)
	}
}

func testDeadLetters(t *testing.T, q queues) {
	failed := q.create(t, "failed", nil)
	arn := q.attributes(t, failed, "QueueArn")["QueueArn"]
	url := q.create(t, "work", map[string]string{"RedrivePolicy": `{"deadLetterTargetArn":"` + arn + `","maxReceiveCount":"2"}`})
	q.send(t, url, "a")
	var id string
	for range 2 {
		got := q.receive(t, url, 0, 3600)
		if bodiesOf(got) != "a" {
			t.Fatalf("received %v", got)
		}
		id = *got[0].MessageId
		q.setVisibility(t, url, got[0], 0)
	}
	if got := q.receive(t, url, 0, 3600); len(got) > 0 {
		t.Errorf("received %v a third time", got)
	}
	got := q.receive(t, failed, 0, 3600)
	if bodiesOf(got) != "a" || *got[0].MessageId != id || got[0].Attributes["ApproximateReceiveCount"] != "3" {
		t.Fatalf("dead letter %+v", got)
	}
	if source := got[0].Attributes["DeadLetterQueueSourceArn"]; q.ours && source != q.attributes(t, url, "QueueArn")["QueueArn"] {
		t.Errorf("the dead letter is of %q", source)
	}
}

func testGroups(t *testing.T, q queues) {
	url := q.create(t, "groups.fifo", nil)
	q.send(t, url, "a-1", "a-2", "a-3")
	first, err := q.client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url, MaxNumberOfMessages: 1, VisibilityTimeout: 3600})
	if err != nil || bodiesOf(first.Messages) != "a-1" {
		t.Fatalf("received %+v %v", first, err)
	}
	q.send(t, url, "b-1")
	other := q.receive(t, url, 0, 3600)
	if bodiesOf(other) != "b-1" || other[0].Attributes["MessageGroupId"] != "b" || other[0].Attributes["SequenceNumber"] == "" {
		t.Errorf("received %+v while the group is in flight", other)
	}
	q.delete(t, url, first.Messages[0])
	if got := q.receive(t, url, 0, 3600); bodiesOf(got) != "a-2 a-3" {
		t.Errorf("received %q when it is free", bodiesOf(got))
	}
}

func testDuplicates(t *testing.T, q queues) {
	for queue, dedup := range map[string]*string{"ids.fifo": aws.String("d"), "content.fifo": nil} {
		url := q.create(t, queue, map[string]string{"ContentBasedDeduplication": fmt.Sprint(dedup == nil)})
		send := func(group, body string) string {
			out, err := q.client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String(body), MessageGroupId: aws.String(group), MessageDeduplicationId: dedup})
			if err != nil {
				t.Fatal(err)
			}
			return *out.MessageId
		}
		id := send("g", "a")
		if got := send("g", "a"); q.ours && got != id {
			t.Errorf("%s: a duplicate has another id", queue)
		}
		got := q.receive(t, url, 0, 3600)
		if bodiesOf(got) != "a" || got[0].Attributes["MessageDeduplicationId"] == "" {
			t.Fatalf("%s: received %+v", queue, got)
		}
		q.delete(t, url, got[0])
		send("g", "a")
		if got := q.receive(t, url, 0, 3600); q.ours && len(got) > 0 {
			t.Errorf("%s: received %v: a duplicate of what was deleted", queue, got)
		}
	}
}

func testLongPoll(t *testing.T, q queues) {
	url := q.create(t, "long-poll", nil)
	got := make(chan string, 1)
	go func() {
		out, err := q.client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url, WaitTimeSeconds: 20})
		if err != nil {
			got <- err.Error()
			return
		}
		got <- bodiesOf(out.Messages)
	}()
	q.send(t, url, "a")
	if m := <-got; m != "a" {
		t.Errorf("received %q", m)
	}
}

func testQueues(t *testing.T, q queues) {
	url := q.create(t, "settings", map[string]string{"VisibilityTimeout": "7", "DelaySeconds": "3", "MessageRetentionPeriod": "1209600"})
	if again := q.create(t, "settings", map[string]string{"VisibilityTimeout": "7", "DelaySeconds": "3", "MessageRetentionPeriod": "1209600"}); *again != *url {
		t.Errorf("created again it is %s", *again)
	}
	if _, err := q.client.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("settings"), Attributes: map[string]string{"VisibilityTimeout": "8"}}); !as[*types.QueueNameExists](err) {
		t.Errorf("created otherwise: %v", err)
	}
	if _, err := q.client.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: url, Attributes: map[string]string{"DelaySeconds": "0"}}); err != nil {
		t.Fatal(err)
	}
	q.send(t, url, "a", "b", "c")
	got, err := q.client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url})
	if err != nil || len(got.Messages) != 1 {
		t.Fatalf("received %+v %v", got, err)
	}
	for name, want := range map[string]string{
		"VisibilityTimeout": "7", "DelaySeconds": "0", "MessageRetentionPeriod": "1209600", "MaximumMessageSize": "1048576",
		"ApproximateNumberOfMessages": "2", "ApproximateNumberOfMessagesNotVisible": "1", "ApproximateNumberOfMessagesDelayed": "0",
		"QueueArn": "arn:aws:sqs:us-east-1:123456789012:settings",
	} {
		if got := q.attributes(t, url, "All")[name]; got != want {
			t.Errorf("%s is %q, want %s", name, got, want)
		}
	}
	found, err := q.client.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("settings")})
	if err != nil || *found.QueueUrl != *url {
		t.Errorf("found %+v %v", found, err)
	}
	listed, err := q.client.ListQueues(t.Context(), &sqs.ListQueuesInput{QueueNamePrefix: aws.String("setti")})
	if err != nil || len(listed.QueueUrls) != 1 || listed.QueueUrls[0] != *url {
		t.Errorf("listed %+v %v", listed, err)
	}
	if _, err := q.client.TagQueue(t.Context(), &sqs.TagQueueInput{QueueUrl: url, Tags: map[string]string{"env": "dev"}}); err != nil {
		t.Error(err)
	}
	tags, err := q.client.ListQueueTags(t.Context(), &sqs.ListQueueTagsInput{QueueUrl: url})
	if err != nil || tags.Tags["env"] != "dev" {
		t.Errorf("tags %+v %v", tags, err)
	}
	if _, err := q.client.PurgeQueue(t.Context(), &sqs.PurgeQueueInput{QueueUrl: url}); err != nil {
		t.Error(err)
	}
	if n := q.attributes(t, url, "All")["ApproximateNumberOfMessages"]; n != "0" {
		t.Errorf("a purge left %s", n)
	}
}

// TestAnOperatorWorksOnADeadLetterQueueWithBoto3 runs what the command line of
// AWS does, for it has the same client.
func TestAnOperatorWorksOnADeadLetterQueueWithBoto3(t *testing.T) {
	t.Parallel()
	server := sqstest.New(t, sqstest.Config{Queues: []sqstest.Queue{{Name: "failed"}}})
	cmd := command(t, testenv.Python(t, "testdata/python/requirements.txt"), "testdata/python/sqs.py", "failed")
	cmd.Env = environment(append(server.Env(), "AWS_DEFAULT_REGION=us-east-1")...) // boto3 reads no AWS_REGION
	if said := talk(t, cmd, nil); said != "done" {
		t.Errorf("it said %q", said)
	}
}
