package sqstest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

func TestCallsThatAreNoneAreRefused(t *testing.T) {
	t.Parallel()
	_, c := start(t, sqstest.Config{})
	for name, test := range map[string]struct {
		change func(r *http.Request)
		status int
		code   string
	}{
		"another method":          {func(r *http.Request) { r.Method = http.MethodGet }, 404, "UnknownOperationException"},
		"no operation":            {func(r *http.Request) { r.Header.Del("X-Amz-Target") }, 404, "UnknownOperationException"},
		"an unknown operation":    {func(r *http.Request) { r.Header.Set("X-Amz-Target", "AmazonSQS.StartMessageMoveTask") }, 404, "UnknownOperationException"},
		"another service":         {func(r *http.Request) { r.Header.Set("X-Amz-Target", "Kinesis_20131202.PutRecords") }, 404, "UnknownOperationException"},
		"the older protocol":      {func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 400, "SerializationException"},
		"no signature":            {func(r *http.Request) { r.Header.Del("Authorization") }, 400, "MissingAuthenticationTokenException"},
		"signed for another":      {func(r *http.Request) { awstest.Sign(r, "kinesis", "us-east-1") }, 400, "InvalidSignatureException"},
		"signed half an hour ago": {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20260101T000000Z") }, 400, "InvalidSignatureException"},
		"no JSON":                 {func(r *http.Request) { r.Body, r.ContentLength = http.NoBody, 0 }, 400, "MissingParameter"},
	} {
		r := c.request("SendMessage", fields{"QueueUrl": "events", "MessageBody": "a"})
		test.change(r)
		a := c.do(r)
		if query := a.header.Get("X-Amzn-Query-Error"); a.status != test.status || query != test.code+";Sender" {
			t.Errorf("%s: %d %s %s", name, a.status, query, a.body)
		}
	}
}

// Codes, types and statuses are those of the API model and of answers that were
// recorded from AWS.
func TestErrorsAreTypedForBothProtocols(t *testing.T) {
	inBubble(t, sqstest.Config{Queues: []sqstest.Queue{{Name: "small", MaxMessageBytes: 1024}}}, func(t *testing.T, s *sqstest.Server, c *client) {
		text := func(kind, value string) fields {
			return fields{"QueueUrl": "events", "MessageBody": "a", "MessageAttributes": fields{"n": fields{"DataType": kind, "StringValue": value}}}
		}
		named := func(name string) fields {
			return fields{"QueueUrl": "events", "MessageBody": "a", "MessageAttributes": fields{name: fields{"DataType": "String", "StringValue": "v"}}}
		}
		eleven := fields{}
		for i := range 11 {
			eleven[fmt.Sprint("n", i)] = fields{"DataType": "String", "StringValue": "v"}
		}
		entries := func(operation string, ids ...string) fields {
			var all []fields
			for _, id := range ids {
				all = append(all, fields{"Id": id, "MessageBody": "a", "ReceiptHandle": "r", "VisibilityTimeout": 0})
			}
			return fields{"QueueUrl": "events", "Entries": all}
		}
		big := strings.Repeat("x", 1<<20)
		for _, test := range []struct {
			operation string
			in        fields
			status    int
			kind      string // after the # of the type
			query     string // empty if it is the same
		}{
			{"SendMessage", fields{"QueueUrl": "none", "MessageBody": "a"}, 400, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"},
			{"SendMessage", fields{"QueueUrl": "https://sqs.us-east-1.amazonaws.com/999999999999/events", "MessageBody": "a"}, 400, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"},
			{"SendMessage", fields{"QueueUrl": "/events", "MessageBody": "a"}, 404, "InvalidAddress", ""},
			{"SendMessage", fields{"MessageBody": "a"}, 400, "MissingRequiredParameterException", "MissingParameter"},
			{"SendMessage", fields{"QueueUrl": "events"}, 400, "MissingRequiredParameterException", "MissingParameter"},
			{"SendMessage", fields{"QueueUrl": "events", "MessageBody": "\x00"}, 400, "InvalidMessageContents", ""},
			{"SendMessage", fields{"QueueUrl": "events", "MessageBody": "\ufffe"}, 400, "InvalidMessageContents", ""},
			{"SendMessage", fields{"QueueUrl": "events", "MessageBody": big + "x"}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", fields{"QueueUrl": "small", "MessageBody": big[:1025]}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", fields{"QueueUrl": "events", "MessageBody": "a", "DelaySeconds": 901}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", fields{"QueueUrl": "events", "MessageBody": "a", "DelaySeconds": -1}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", fields{"QueueUrl": "events", "MessageBody": "a", "MessageDeduplicationId": "d"}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", fields{"QueueUrl": "orders.fifo", "MessageBody": "a", "MessageDeduplicationId": "d"}, 400, "MissingRequiredParameterException", "MissingParameter"},
			{"SendMessage", fields{"QueueUrl": "orders.fifo", "MessageBody": "a", "MessageGroupId": "g"}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", fields{"QueueUrl": "orders.fifo", "MessageBody": "a", "MessageGroupId": "a b", "MessageDeduplicationId": "d"}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", fields{"QueueUrl": "orders.fifo", "MessageBody": "a", "MessageGroupId": big[:129], "MessageDeduplicationId": "d"}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", fields{"QueueUrl": "events", "MessageBody": "a", "MessageAttributes": eleven}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", text("", "v"), 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", text("Text", "v"), 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", text("Binary", "v"), 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", text("String", ""), 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", text("String", "\x01"), 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", text("Number", "one"), 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", named("AWS.n"), 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", named("a..b"), 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", named("a b"), 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SendMessage", fields{"QueueUrl": "events", "MessageBody": "a", "MessageSystemAttributes": fields{"SenderId": fields{"DataType": "String", "StringValue": "me"}}}, 400, "InvalidParameterValueException", "InvalidParameterValue"},

			{"SendMessageBatch", entries("SendMessageBatch"), 400, "EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest"},
			{"SendMessageBatch", entries("SendMessageBatch", "a", "b", "a"), 400, "BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"},
			{"SendMessageBatch", entries("SendMessageBatch", "a", "b!"), 400, "InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId"},
			{"DeleteMessageBatch", entries("DeleteMessageBatch", big[:81]), 400, "InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId"},
			{"ChangeMessageVisibilityBatch", entries("", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"), 400, "TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"},
			{"SendMessageBatch", fields{"QueueUrl": "events", "Entries": []fields{{"Id": "a", "MessageBody": big[1:]}, {"Id": "b", "MessageBody": "xx"}}}, 400, "BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong"},

			{"ReceiveMessage", fields{"QueueUrl": "events", "MaxNumberOfMessages": 0}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"ReceiveMessage", fields{"QueueUrl": "events", "MaxNumberOfMessages": 11}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"ReceiveMessage", fields{"QueueUrl": "events", "WaitTimeSeconds": 21}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"ReceiveMessage", fields{"QueueUrl": "events", "VisibilityTimeout": 43201}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"ReceiveMessage", fields{"QueueUrl": "events", "AttributeNames": []string{"Colour"}}, 400, "InvalidAttributeName", ""},
			{"DeleteMessage", fields{"QueueUrl": "events", "ReceiptHandle": "r"}, 404, "ReceiptHandleIsInvalid", ""},
			{"DeleteMessage", fields{"QueueUrl": "events"}, 400, "MissingRequiredParameterException", "MissingParameter"},
			{"ChangeMessageVisibility", fields{"QueueUrl": "events", "ReceiptHandle": "r"}, 400, "MissingRequiredParameterException", "MissingParameter"},
			{"ChangeMessageVisibility", fields{"QueueUrl": "events", "ReceiptHandle": "r", "VisibilityTimeout": 43201}, 400, "InvalidParameterValueException", "InvalidParameterValue"},

			{"CreateQueue", fields{"QueueName": "a b"}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"CreateQueue", fields{"QueueName": ".fifo", "Attributes": fields{"FifoQueue": "true"}}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"CreateQueue", fields{"QueueName": "a.fifo"}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"CreateQueue", fields{"QueueName": "a", "Attributes": fields{"FifoQueue": "true"}}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"CreateQueue", fields{"QueueName": big[:81]}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"CreateQueue", fields{"QueueName": "a", "Attributes": fields{"Colour": "red"}}, 400, "InvalidAttributeName", ""},
			{"CreateQueue", fields{"QueueName": "a", "Attributes": fields{"ContentBasedDeduplication": "true"}}, 400, "InvalidAttributeName", ""},
			{"CreateQueue", fields{"QueueName": "events", "Attributes": fields{"DelaySeconds": "1"}}, 400, "QueueNameExists", "QueueAlreadyExists"},
			{"SetQueueAttributes", fields{"QueueUrl": "events", "Attributes": fields{"VisibilityTimeout": "43201"}}, 400, "InvalidAttributeValue", ""},
			{"SetQueueAttributes", fields{"QueueUrl": "events", "Attributes": fields{"VisibilityTimeout": "long"}}, 400, "InvalidAttributeValue", ""},
			{"SetQueueAttributes", fields{"QueueUrl": "events", "Attributes": fields{"MessageRetentionPeriod": "59"}}, 400, "InvalidAttributeValue", ""},
			{"SetQueueAttributes", fields{"QueueUrl": "events", "Attributes": fields{"MaximumMessageSize": "1048577"}}, 400, "InvalidAttributeValue", ""},
			{"SetQueueAttributes", fields{"QueueUrl": "events", "Attributes": fields{"RedrivePolicy": "{}"}}, 400, "InvalidAttributeValue", ""},
			{"SetQueueAttributes", fields{"QueueUrl": "events", "Attributes": fields{"RedrivePolicy": `{"deadLetterTargetArn":"` + s.ARN("none") + `"}`}}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SetQueueAttributes", fields{"QueueUrl": "events", "Attributes": fields{"RedrivePolicy": `{"deadLetterTargetArn":"` + s.ARN("orders.fifo") + `"}`}}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SetQueueAttributes", fields{"QueueUrl": "events", "Attributes": fields{"RedrivePolicy": `{"deadLetterTargetArn":"` + s.ARN("events") + `"}`}}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
			{"SetQueueAttributes", fields{"QueueUrl": "orders.fifo", "Attributes": fields{"FifoQueue": "false"}}, 400, "InvalidAttributeName", ""},
			{"SetQueueAttributes", fields{"QueueUrl": "orders.fifo", "Attributes": fields{"FifoThroughputLimit": "perMessageGroupId"}}, 400, "InvalidAttributeValue", ""},
			{"GetQueueAttributes", fields{"QueueUrl": "events", "AttributeNames": []string{"Colour"}}, 400, "InvalidAttributeName", ""},
			{"GetQueueUrl", fields{"QueueName": "none"}, 400, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"},
			{"ListQueues", fields{"MaxResults": 0}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
		} {
			name := fmt.Sprintf("%s %.100s", test.operation, fmt.Sprint(test.in))
			a := c.call(test.operation, test.in)
			kind, message := a.refused()
			_, short, _ := strings.Cut(kind, "#")
			if query := a.header.Get("X-Amzn-Query-Error"); a.status != test.status || short != test.kind || query != cmpOr(test.query, test.kind)+";Sender" || message == "" {
				t.Errorf("%s:\n\t%d %s %s", name, a.status, query, a.body)
			}
		}
		for _, queue := range []string{"events", "small", "orders.fifo"} {
			if left := s.Messages(queue); len(left) > 0 {
				t.Errorf("a call that was refused stored %v in %s", left, queue)
			}
		}
	})
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func TestABatchTellsWhichEntriesFailed(t *testing.T) {
	t.Parallel()
	s, c := start(t, sqstest.Config{Queues: []sqstest.Queue{{Name: "small", MaxMessageBytes: 1024}}})
	out := ok[batchOutput](c, "SendMessageBatch", fields{"QueueUrl": "small", "Entries": []fields{
		{"Id": "a", "MessageBody": strings.Repeat("x", 1024)},
		{"Id": "b", "MessageBody": strings.Repeat("x", 1025)},
		{"Id": "c", "MessageBody": "\x00"},
		{"Id": "d", "MessageBody": "fine"},
	}})
	successful, failed := out.ids()
	if successful != "ad" || failed != "bc" || len(s.Messages("small")) != 2 {
		t.Fatalf("%+v, stored %d", out, len(s.Messages("small")))
	}
	if e := out.Failed[0]; e.Code != "InvalidParameterValue" || !e.SenderFault || e.Message == "" {
		t.Errorf("%+v", e)
	}

	got := ok[received](c, "ReceiveMessage", fields{"QueueUrl": "small", "MaxNumberOfMessages": 2})
	receipt := func(i int) string { return got.Messages[i].ReceiptHandle }
	out = ok[batchOutput](c, "ChangeMessageVisibilityBatch", fields{"QueueUrl": "small", "Entries": []fields{
		{"Id": "a", "ReceiptHandle": receipt(0), "VisibilityTimeout": 0}, {"Id": "b", "ReceiptHandle": "x", "VisibilityTimeout": 0}, {"Id": "c", "ReceiptHandle": receipt(1)},
	}})
	if successful, failed := out.ids(); successful != "a" || failed != "bc" || out.Failed[0].Code != "ReceiptHandleIsInvalid" {
		t.Errorf("%+v", out)
	}
	if states := fmt.Sprint(s.Messages("small")[0].State, s.Messages("small")[1].State); states != "waiting in flight" {
		t.Errorf("the messages are %s", states)
	}
	out = ok[batchOutput](c, "DeleteMessageBatch", fields{"QueueUrl": "small", "Entries": []fields{
		{"Id": "a", "ReceiptHandle": "x"}, {"Id": "b", "ReceiptHandle": receipt(1)},
	}})
	if successful, failed := out.ids(); successful != "b" || failed != "a" || len(s.Messages("small")) != 1 {
		t.Errorf("%+v, left %v", out, s.Messages("small"))
	}
}

func TestAMessageOfOneMebibyteFitsWithItsAttributes(t *testing.T) {
	t.Parallel()
	_, c := start(t, sqstest.Config{})
	with := func(n int) int {
		return c.call("SendMessage", fields{
			"QueueUrl": "events", "MessageBody": strings.Repeat("\n", n), // two bytes each in JSON
			"MessageAttributes": fields{"name": fields{"DataType": "Binary", "BinaryValue": make([]byte, 90)}},
		}).status
	}
	if a, b := with(1<<20-100), with(1<<20-99); a != 200 || b != 400 {
		t.Errorf("answers %d and %d, want 200 and 400", a, b)
	}
}

// Digests are those that AWS answered with, as others have recorded them.
func TestDigestsAreThoseOfAWS(t *testing.T) {
	t.Parallel()
	_, c := start(t, sqstest.Config{})
	text := func(value string) fields { return fields{"DataType": "String", "StringValue": value} }
	attributes := fields{"Help.Me": text("Me"), "Hello": text("There"), "General": text("Kenobi")}
	sent := ok[struct{ MD5OfMessageBody, MD5OfMessageAttributes string }](c, "SendMessage", fields{"QueueUrl": "events", "MessageBody": "msg", "MessageAttributes": attributes})
	if sent.MD5OfMessageBody != "6e2baaf3b97dbeef01c0043275f9a0e7" || sent.MD5OfMessageAttributes != "4c360f3fdafd970e05fae2f149d997f5" {
		t.Errorf("%+v", sent)
	}
	for _, test := range []struct {
		asked []string
		md5   string // of what is told
		told  int
	}{
		{nil, "", 0},
		{[]string{"All"}, "4c360f3fdafd970e05fae2f149d997f5", 3},
		{[]string{".*"}, "4c360f3fdafd970e05fae2f149d997f5", 3},
		{[]string{"Foo", "Help"}, "", 0},
		{[]string{"Hello", "General"}, "fca026605781cb4126a1e9044df24232", 2},
		{[]string{"Hello", "Bar"}, "a311262e065454b75da111d535b8dacd", 1},
		{[]string{"Hel.*"}, "83fee93c1bcd8b9a5a923ffacdc636c7", 2},
	} {
		got := ok[received](c, "ReceiveMessage", fields{"QueueUrl": "events", "VisibilityTimeout": 0, "MessageAttributeNames": test.asked}).Messages[0]
		if got.MD5OfMessageAttributes != test.md5 || len(got.MessageAttributes) != test.told || got.MD5OfBody != "6e2baaf3b97dbeef01c0043275f9a0e7" {
			t.Errorf("asked for %v: %+v", test.asked, got)
		}
	}
	binary := ok[struct{ MD5OfMessageAttributes string }](c, "SendMessage", fields{"QueueUrl": "events", "MessageBody": "test", "MessageAttributes": fields{
		"attr1": fields{"DataType": "Binary", "BinaryValue": []byte("traceparent\x1e00-774062d6c37081a5a0b9b5b88e30627c-2d2482211f6489da-01")},
	}})
	if binary.MD5OfMessageAttributes != "8cbe4db156db8a94db8b801b7addb984" {
		t.Errorf("of a binary attribute: %s", binary.MD5OfMessageAttributes)
	}
}

func TestSystemAttributesAreThoseThatWereAskedFor(t *testing.T) {
	inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, c *client) {
		sentAt := fmt.Sprint(time.Now().UnixMilli())
		ok[any](c, "SendMessage", fields{"QueueUrl": "orders.fifo", "MessageBody": "a", "MessageGroupId": "g", "MessageDeduplicationId": "d",
			"MessageSystemAttributes": fields{"AWSTraceHeader": fields{"DataType": "String", "StringValue": "Root=1"}}})
		time.Sleep(time.Second)
		receivedAt := fmt.Sprint(time.Now().UnixMilli())
		receive := func(in fields) map[string]string {
			in["QueueUrl"], in["VisibilityTimeout"] = "orders.fifo", 0
			return ok[received](c, "ReceiveMessage", in).Messages[0].Attributes
		}
		if got := receive(fields{}); got != nil {
			t.Errorf("asked for none: %v", got)
		}
		if got := receive(fields{"AttributeNames": []string{"SentTimestamp"}}); fmt.Sprint(got) != "map[SentTimestamp:"+sentAt+"]" {
			t.Errorf("asked for one: %v", got)
		}
		want := map[string]string{
			"SenderId": "AIDAEXAMPLE", "SentTimestamp": sentAt, "ApproximateReceiveCount": "3", "ApproximateFirstReceiveTimestamp": receivedAt,
			"SequenceNumber": s.Messages("orders.fifo")[0].SequenceNumber, "MessageDeduplicationId": "d", "MessageGroupId": "g", "AWSTraceHeader": "Root=1",
		}
		if got := receive(fields{"MessageSystemAttributeNames": []string{"All"}}); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("asked for all: %v, want %v", got, want)
		}
	})
}

func TestALongPollEndsWithTheFirstMessageOrItsTime(t *testing.T) {
	inBubble(t, sqstest.Config{Queues: []sqstest.Queue{{Name: "patient", ReceiveWait: 5 * time.Second}}}, func(t *testing.T, s *sqstest.Server, c *client) {
		for _, test := range []struct {
			in   fields
			want time.Duration
		}{
			{fields{"QueueUrl": "events"}, 0},
			{fields{"QueueUrl": "events", "WaitTimeSeconds": 20}, 20 * time.Second},
			{fields{"QueueUrl": "patient"}, 5 * time.Second},
			{fields{"QueueUrl": "patient", "WaitTimeSeconds": 0}, 0},
		} {
			began := time.Now()
			if got := ok[received](c, "ReceiveMessage", test.in); len(got.Messages) > 0 || time.Since(began) != test.want {
				t.Errorf("%v: received %v after %v", test.in, got, time.Since(began))
			}
		}
		began := time.Now()
		got := make(chan received, 2)
		for range 2 {
			go func() {
				got <- ok[received](c, "ReceiveMessage", fields{"QueueUrl": "events", "WaitTimeSeconds": 20, "VisibilityTimeout": 3})
			}()
		}
		time.Sleep(7 * time.Second)
		send(t, s, "events", "a")
		if m := <-got; m.bodies() != "a" || time.Since(began) != 7*time.Second {
			t.Errorf("received %q after %v", m.bodies(), time.Since(began))
		}
		if m := <-got; m.bodies() != "a" || time.Since(began) != 10*time.Second { // when it is visible again
			t.Errorf("received %q after %v", m.bodies(), time.Since(began))
		}
	})
}

func TestAStopEndsLongPolls(t *testing.T) {
	inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, c *client) {
		done := make(chan answer)
		go func() { done <- c.do(c.request("ReceiveMessage", fields{"QueueUrl": "events", "WaitTimeSeconds": 20})) }()
		synctest.Wait()
		began := time.Now()
		s.Stop()
		if a := <-done; a.err == nil || time.Since(began) > 0 {
			t.Errorf("%d %s after %v", a.status, a.body, time.Since(began))
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		send(t, s, "events", "a")
		if got := ok[received](c, "ReceiveMessage", fields{"QueueUrl": "events"}); got.bodies() != "a" {
			t.Errorf("received %q after the start", got.bodies())
		}
	})
}

func TestWhoLeavesALongPollTakesNothing(t *testing.T) {
	inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, c *client) {
		c.http.Timeout = time.Second
		if a := c.do(c.request("ReceiveMessage", fields{"QueueUrl": "events", "WaitTimeSeconds": 20})); a.err == nil {
			t.Fatalf("%d %s", a.status, a.body)
		}
		synctest.Wait()
		send(t, s, "events", "a")
		synctest.Wait()
		if m := s.Messages("events")[0]; m.State != sqstest.Waiting {
			t.Errorf("the message is %v", m.State)
		}
	})
}

func TestQueuesAreManagedOverTheWire(t *testing.T) {
	inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, c *client) {
		type attributes struct{ Attributes map[string]string }
		type urls struct {
			QueueUrl, NextToken string
			QueueUrls           []string
		}
		policy := `{"deadLetterTargetArn":"` + s.ARN("failed") + `","maxReceiveCount":"3"}` // as templates write it
		in := fields{"QueueName": "work", "Attributes": fields{"VisibilityTimeout": "60", "RedrivePolicy": policy}, "tags": fields{"team": "data"}}
		created := ok[urls](c, "CreateQueue", in)
		if created.QueueUrl != s.QueueURL("work") || ok[urls](c, "CreateQueue", in).QueueUrl != created.QueueUrl || ok[urls](c, "CreateQueue", fields{"QueueName": "work"}).QueueUrl != created.QueueUrl {
			t.Errorf("created %+v", created)
		}
		if got := ok[urls](c, "GetQueueUrl", fields{"QueueName": "work"}); got.QueueUrl != created.QueueUrl {
			t.Errorf("found %+v", got)
		}
		send(t, s, "work", "a", "b", "c")
		s.Receive("work", 1, 0)
		if _, err := s.Send("work", sqstest.Message{Body: "d", Delay: time.Minute}); err != nil {
			t.Fatal(err)
		}
		now := fmt.Sprint(time.Now().Unix())
		time.Sleep(10 * time.Second)
		ok[any](c, "SetQueueAttributes", fields{"QueueUrl": "work", "Attributes": fields{"DelaySeconds": "1", "Policy": "{}"}})
		want := map[string]string{
			"QueueArn": s.ARN("work"), "VisibilityTimeout": "60", "DelaySeconds": "1", "MessageRetentionPeriod": "345600",
			"ReceiveMessageWaitTimeSeconds": "0", "MaximumMessageSize": "1048576", "SqsManagedSseEnabled": "true", "Policy": "{}",
			"RedrivePolicy":               `{"deadLetterTargetArn":"` + s.ARN("failed") + `","maxReceiveCount":3}`,
			"ApproximateNumberOfMessages": "2", "ApproximateNumberOfMessagesNotVisible": "1", "ApproximateNumberOfMessagesDelayed": "1",
			"CreatedTimestamp": now, "LastModifiedTimestamp": fmt.Sprint(time.Now().Unix()),
		}
		if got := ok[attributes](c, "GetQueueAttributes", fields{"QueueUrl": "work", "AttributeNames": []string{"All"}}); fmt.Sprint(got.Attributes) != fmt.Sprint(want) {
			t.Errorf("attributes %v,\nwant %v", got.Attributes, want)
		}
		if got := ok[attributes](c, "GetQueueAttributes", fields{"QueueUrl": "work", "AttributeNames": []string{"QueueArn", "KmsMasterKeyId"}}); fmt.Sprint(got.Attributes) != "map[QueueArn:"+s.ARN("work")+"]" {
			t.Errorf("one attribute: %v", got.Attributes)
		}
		if got := ok[attributes](c, "GetQueueAttributes", fields{"QueueUrl": "orders.fifo", "AttributeNames": []string{"FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"}}); fmt.Sprint(got.Attributes) !=
			"map[ContentBasedDeduplication:false DeduplicationScope:queue FifoQueue:true FifoThroughputLimit:perQueue]" {
			t.Errorf("attributes of a FIFO queue: %v", got.Attributes)
		}
		if got := ok[struct {
			QueueUrls []string `json:"queueUrls"`
		}](c, "ListDeadLetterSourceQueues", fields{"QueueUrl": "failed"}); fmt.Sprint(got.QueueUrls) != "["+created.QueueUrl+"]" {
			t.Errorf("sources of dead letters: %v", got)
		}

		ok[any](c, "TagQueue", fields{"QueueUrl": "work", "Tags": fields{"env": "dev"}})
		ok[any](c, "UntagQueue", fields{"QueueUrl": "work", "TagKeys": []string{"team"}})
		if got := ok[struct{ Tags map[string]string }](c, "ListQueueTags", fields{"QueueUrl": "work"}); fmt.Sprint(got.Tags) != "map[env:dev]" {
			t.Errorf("tags %v", got.Tags)
		}

		page := ok[urls](c, "ListQueues", fields{"MaxResults": 3})
		rest := ok[urls](c, "ListQueues", fields{"MaxResults": 3, "NextToken": page.NextToken})
		if len(page.QueueUrls) != 3 || fmt.Sprint(rest.QueueUrls) != "["+created.QueueUrl+"]" || rest.NextToken != "" {
			t.Errorf("pages %v and %v", page, rest)
		}
		if got := ok[urls](c, "ListQueues", fields{"QueueNamePrefix": "ord"}); fmt.Sprint(got.QueueUrls) != "["+s.QueueURL("orders.fifo")+"]" {
			t.Errorf("by prefix: %v", got)
		}

		ok[any](c, "PurgeQueue", fields{"QueueUrl": "work"})
		if left := s.Messages("work"); len(left) > 0 {
			t.Errorf("a purge left %v", left)
		}
		time.Sleep(time.Minute - 1)
		if a := c.call("PurgeQueue", fields{"QueueUrl": "work"}); a.status != 403 || a.header.Get("X-Amzn-Query-Error") != "AWS.SimpleQueueService.PurgeQueueInProgress;Sender" {
			t.Errorf("another purge: %d %s", a.status, a.body)
		}
		time.Sleep(time.Nanosecond)
		ok[any](c, "PurgeQueue", fields{"QueueUrl": "work"})

		ok[any](c, "DeleteQueue", fields{"QueueUrl": "work"})
		if a := c.call("CreateQueue", fields{"QueueName": "work"}); a.header.Get("X-Amzn-Query-Error") != "AWS.SimpleQueueService.QueueDeletedRecently;Sender" {
			t.Errorf("created soon after: %d %s", a.status, a.body)
		}
		time.Sleep(time.Minute)
		ok[any](c, "CreateQueue", fields{"QueueName": "work"})
	})
}

func TestAQueueIsNamedByItsURLItsARNOrItself(t *testing.T) {
	t.Parallel()
	s, _ := start(t, sqstest.Config{Region: "eu-west-1"})
	for _, queue := range []string{"events", s.QueueURL("events"), s.ARN("events"), "https://sqs.eu-west-1.amazonaws.com/123456789012/events"} {
		send(t, s, queue, "a")
	}
	if n := len(s.Messages("events")); n != 4 || s.ARN("events") != "arn:aws:sqs:eu-west-1:123456789012:events" {
		t.Errorf("%d messages in %s", n, s.ARN("events"))
	}
	if err := s.CreateQueue(sqstest.Queue{Name: "events", Delay: time.Second}); code(err) != "QueueNameExists" {
		t.Errorf("created again, otherwise: %v", err)
	}
	if err := s.CreateQueue(sqstest.Queue{Name: "events"}); err != nil {
		t.Errorf("created again: %v", err)
	}
	if _, err := s.Send("none", sqstest.Message{Body: "a"}); code(err) != "QueueDoesNotExist" {
		t.Errorf("sent to none: %v", err)
	}
	if err := s.Delete("none", "r"); code(err) != "QueueDoesNotExist" {
		t.Errorf("deleted from none: %v", err)
	}
	if err := s.SetVisibility("none", "r", 0); code(err) != "QueueDoesNotExist" {
		t.Errorf("changed in none: %v", err)
	}
	if err := s.Wait(t.Context(), "none"); code(err) != "QueueDoesNotExist" {
		t.Errorf("waited for none: %v", err)
	}
	if len(s.Receive("none", 1, 0))+len(s.Messages("none")) > 0 {
		t.Error("there are messages in none")
	}
}

func TestAConfigurationThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	for name, q := range map[string]sqstest.Queue{
		"a name that is none":         {Name: "a b"},
		"dead letters that are not":   {Name: "a", DeadLetterQueue: "none"},
		"a visibility beyond 12 h":    {Name: "a", VisibilityTimeout: 13 * time.Hour},
		"a delay beyond 15 min":       {Name: "a", Delay: time.Hour},
		"a retention below a minute":  {Name: "a", Retention: time.Second},
		"too many receives":           {Name: "a", MaxReceives: 1001, DeadLetterQueue: "failed"},
		"messages beyond a mebibyte":  {Name: "a", MaxMessageBytes: 1<<20 + 1},
		"a wait of more than 20 s":    {Name: "a", ReceiveWait: time.Minute},
		"deduplication of a standard": {Name: "a", ContentDeduplication: true},
	} {
		if s, err := sqstest.Open(sqstest.Config{Queues: []sqstest.Queue{{Name: "failed"}, q}}); err == nil {
			s.Stop()
			t.Errorf("%s: taken", name)
		}
	}
}

// FuzzEveryCallIsAnswered sends bodies that no SDK would.
func FuzzEveryCallIsAnswered(f *testing.F) {
	const url = `"QueueUrl":"http://x/123456789012/events"`
	operations := []string{
		"SendMessage", "SendMessageBatch", "ReceiveMessage", "DeleteMessage", "DeleteMessageBatch", "ChangeMessageVisibility",
		"ChangeMessageVisibilityBatch", "CreateQueue", "SetQueueAttributes", "GetQueueAttributes", "ListQueues", "UntagQueue",
	}
	for i, body := range []string{
		`{` + url + `,"MessageBody":"a","MessageAttributes":{"a":{"DataType":"Binary","BinaryValue":"AA=="},"b":null}}`,
		`{` + url + `,"Entries":[{"Id":"a","MessageBody":"a","DelaySeconds":900},{"Id":"b"}]}`,
		`{` + url + `,"MaxNumberOfMessages":10,"VisibilityTimeout":0,"MessageAttributeNames":[".*",""]}`,
		`{` + url + `,"ReceiptHandle":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`,
		`{` + url + `,"Entries":[{"Id":"a","ReceiptHandle":"a"},{}]}`,
		`{` + url + `,"ReceiptHandle":"=","VisibilityTimeout":-1}`,
		`{` + url + `,"Entries":null}`,
		`{"QueueName":"a","Attributes":{"RedrivePolicy":"{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:123456789012:failed\",\"maxReceiveCount\":\"1\"}"},"tags":{"a":"b"}}`,
		`{` + url + `,"Attributes":{"RedrivePolicy":"","KmsMasterKeyId":"k","DelaySeconds":"1"}}`,
		`{` + url + `,"AttributeNames":["All",""]}`,
		`{"MaxResults":1,"NextToken":"events"}`,
		`[{"QueueUrl":":"}]`,
	} {
		f.Add(i, []byte(body))
	}
	_, shared := start(f, sqstest.Config{InMemory: true})
	shared.http.Timeout = time.Minute // a long poll may last
	f.Fuzz(func(t *testing.T, operation int, body []byte) {
		c := &client{t, shared.url, shared.http}
		r := c.request(operations[uint(operation)%uint(len(operations))], nil)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		a := c.do(r)
		switch {
		case a.err != nil:
			t.Fatal(a.err)
		case a.status == http.StatusOK && len(a.body) > 0 && !json.Valid(a.body):
			t.Errorf("answer %s", a.body)
		case a.status != http.StatusOK && (a.status >= 500 || a.header.Get("X-Amzn-Query-Error") == ""):
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}
