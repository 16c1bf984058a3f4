package sqstest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// sendTen sends a batch of ten, whose ids are digits.
func sendTen(c *client) answer {
	var entries []fields
	for i := range 10 {
		entries = append(entries, fields{"Id": fmt.Sprint(i), "MessageBody": fmt.Sprint(i)})
	}
	return c.do(c.request("SendMessageBatch", fields{"QueueUrl": "events", "Entries": entries}))
}

func TestFaultsOfEntries(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault              sqstest.Fault
		successful, failed string // ids of three calls
		stored             string
		code               string
		sendersFault       bool
	}{
		"three of ten": {sqstest.Entries(3, sqstest.Throttled).Times(1), "0124578" + "0123456789" + "0123456789", "369", "0 1 2 4 5 7 8", "RequestThrottled", true},
		"all": {
			sqstest.Entries(10, awstest.Internal).Times(1), "" + "0123456789" + "0123456789", "0123456789", "", "InternalFailure", false,
		},
		"stored all the same": {
			sqstest.Entries(1, awstest.Internal).Stored().Times(1), "012345678" + "0123456789" + "0123456789", "9", "0 1 2 3 4 5 6 7 8 9", "InternalFailure", false,
		},
		"by content": {
			sqstest.EntriesWhere(func(call, _ int, e sqstest.Entry) bool { return call == 1 && e.Message.Body > "5" }, sqstest.KMSAccessDenied),
			"012345" + "0123456789" + "0123456789", "6789", "0 1 2 3 4 5", "KMS.AccessDeniedException", true,
		},
		"by place, in the second call": {
			sqstest.EntriesWhere(func(_, i int, _ sqstest.Entry) bool { return i == 0 }, sqstest.Throttled).After(1).Times(1),
			"0123456789" + "123456789" + "0123456789", "0", "0 1 2 3 4 5 6 7 8 9", "RequestThrottled", true,
		},
		"no answer": {sqstest.Unanswered(2).Times(1), "01235678" + "0123456789" + "0123456789", "", "0 1 2 3 5 6 7 8", "", false},
		"no answer, and stored": {
			sqstest.Unanswered(2).Stored().Times(1), "01235678" + "0123456789" + "0123456789", "", "0 1 2 3 4 5 6 7 8 9", "", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c := start(t, sqstest.Config{})
			s.Fail(test.fault)
			var successful, failed, stored string
			for call := range 3 {
				a := sendTen(c)
				var out batchOutput
				decode(t, a, &out)
				ok, no := out.ids()
				successful, failed = successful+ok, failed+no
				for _, e := range out.Failed {
					if e.Code != test.code || e.SenderFault != test.sendersFault || e.Message == "" {
						t.Errorf("failed: %+v", e)
					}
				}
				if call == 0 {
					stored = bodies(s.Messages("events"))
				}
			}
			if successful != test.successful || failed != test.failed || stored != test.stored {
				t.Errorf("succeeded %s, failed %s, stored %s at first", successful, failed, stored)
			}
		})
	}
}

func decode(t *testing.T, a answer, out any) {
	t.Helper()
	if a.err != nil || a.status != 200 {
		t.Fatalf("%d %s %v", a.status, a.body, a.err)
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
}

func TestFaultsOfEntriesAreForOtherBatchesToo(t *testing.T) {
	t.Parallel()
	s, c := start(t, sqstest.Config{})
	send(t, s, "events", "a", "b")
	got := s.Receive("events", 2, time.Hour)
	entries := []fields{{"Id": "a", "ReceiptHandle": got[0].Receipt, "VisibilityTimeout": 0}, {"Id": "b", "ReceiptHandle": got[1].Receipt, "VisibilityTimeout": 0}}
	pick := func(_, _ int, e sqstest.Entry) bool { return e.Receipt == got[1].Receipt }
	s.Fail(sqstest.EntriesWhere(pick, sqstest.Throttled).On("DeleteMessageBatch", "ChangeMessageVisibilityBatch"))
	s.Fail(sqstest.Entries(1, awstest.Internal).On("DeleteMessage", "ChangeMessageVisibility", "SendMessage"))
	for _, operation := range []string{"ChangeMessageVisibilityBatch", "DeleteMessageBatch"} {
		out := ok[batchOutput](c, operation, fields{"QueueUrl": "events", "Entries": entries})
		if successful, failed := out.ids(); successful != "a" || failed != "b" {
			t.Errorf("%s: %+v", operation, out)
		}
	}
	for _, operation := range []string{"ChangeMessageVisibility", "DeleteMessage", "SendMessage"} {
		a := c.call(operation, fields{"QueueUrl": "events", "ReceiptHandle": got[1].Receipt, "VisibilityTimeout": 0, "MessageBody": "c"})
		if a.status != 500 || a.header.Get("X-Amzn-Query-Error") != "InternalFailure;Receiver" {
			t.Errorf("%s: %d %s", operation, a.status, a.body)
		}
	}
	if left := s.Messages("events"); bodies(left) != "b" || left[0].State != sqstest.InFlight {
		t.Errorf("there is %+v", left)
	}
}

// What a sender sees and what is stored are two things.
func TestFaultsOfCalls(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  sqstest.Fault
		sees   string
		stored int
	}{
		"throttled":                       {awstest.Calls(sqstest.Throttled), "403 RequestThrottled;Sender", 0},
		"throttled, as other services do": {awstest.Calls(awstest.Throttling), "400 ThrottlingException;Sender", 0},
		"unavailable":                     {awstest.Calls(awstest.Unavailable), "503 ServiceUnavailable;Receiver", 0},
		"an error, and stored":            {awstest.Calls(awstest.Internal).Stored(), "500 InternalFailure;Receiver", 10},
		"expired credentials":             {awstest.Calls(awstest.ExpiredToken), "400 ExpiredTokenException;Sender", 0},
		"a clock that is wrong":           {awstest.Skew(time.Hour), "400 InvalidSignatureException;Sender", 0},
		"cut off before it is read":       {awstest.Disconnect(awstest.BeforeReading), "nothing", 0},
		"cut off before it is stored":     {awstest.Disconnect(awstest.BeforeStoring), "nothing", 0},
		"cut off after it is stored":      {awstest.Disconnect(awstest.AfterStoring), "nothing", 10},
		"cut off in the answer":           {awstest.CutAnswer(), "nothing", 10},
		"no answer before it is stored":   {awstest.Hang(awstest.BeforeStoring), "nothing", 0},
		"no answer after it is stored":    {awstest.Hang(awstest.AfterStoring), "nothing", 10},
		"too late":                        {awstest.Delay(time.Minute), "nothing", 10},
		"in time":                         {awstest.Delay(time.Second), "200", 10},
		"the page of a proxy":             {awstest.Rubbish(awstest.HTML), "200", 0},
		"an empty object":                 {awstest.Rubbish(awstest.EmptyObject), "200", 0},
		"half of the answer":              {awstest.Rubbish(awstest.HalfJSON), "200", 10},
		"on another operation":            {awstest.Calls(awstest.Internal).On("ReceiveMessage"), "200", 10},
		"in another call":                 {awstest.Calls(awstest.Internal).When(func(call int) bool { return call == 2 }), "200", 10},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, c *client) {
				s.Fail(test.fault)
				c.http.Timeout = 10 * time.Second
				a := sendTen(c)
				sees := fmt.Sprint(a.status)
				if a.err != nil {
					sees = "nothing"
				} else if query := a.header.Get("X-Amzn-Query-Error"); query != "" {
					sees += " " + query
				}
				time.Sleep(time.Hour)
				if stored := len(s.Messages("events")); sees != test.sees || stored != test.stored {
					t.Errorf("the sender sees %s, and %d are stored", sees, stored)
				}
				s.Heal()
			})
		})
	}
}

func TestAQuotaIsOfEverySecond(t *testing.T) {
	inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, c *client) {
		s.Fail(awstest.CallQuota(2, sqstest.Throttled).On("SendMessageBatch"))
		var got []int
		for range 3 {
			for range 3 {
				got = append(got, sendTen(c).status)
			}
			time.Sleep(time.Second)
		}
		if fmt.Sprint(got) != "[200 200 403 200 200 403 200 200 403]" {
			t.Errorf("answers %v", got)
		}
	})
}

func TestAgainDeliversTwice(t *testing.T) {
	t.Parallel()
	s, c := start(t, sqstest.Config{})
	send(t, s, "events", "a")
	trouble := s.Fail(sqstest.Again().Times(1))
	var got [3]string
	for i := range got {
		got[i] = ok[received](c, "ReceiveMessage", fields{"QueueUrl": "events", "VisibilityTimeout": 60}).bodies()
	}
	if fmt.Sprint(got) != "[a a ]" || trouble.Hits() != 1 {
		t.Errorf("received %q with %d hits", got, trouble.Hits())
	}
}

func TestAFaultMayStopTheServer(t *testing.T) {
	inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, c *client) {
		s.Fail(awstest.Do(s.Stop).Times(1))
		if a := sendTen(c); a.err == nil {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := sendTen(c); a.err == nil {
			t.Errorf("%d %s from a server that is stopped", a.status, a.body)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if n := len(s.Messages("events")); n != 0 {
			t.Errorf("%d were stored", n)
		}
		if a := sendTen(c); a.status != 200 {
			t.Errorf("%d %s %v after the start", a.status, a.body, a.err)
		}
	})
}

func TestCallsAreCounted(t *testing.T) {
	inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, c *client) {
		s.Fail(awstest.Calls(awstest.Internal).On("SendMessageBatch").Times(1))
		sendTen(c)
		sendTen(c)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			resp, err := c.http.Do(c.request("ReceiveMessage", fields{"QueueUrl": "failed", "WaitTimeSeconds": 20}).WithContext(ctx))
			if err == nil {
				err = errors.Join(errors.New("it was answered"), resp.Body.Close())
			}
			done <- err
		}()
		synctest.Wait()
		if got := fmt.Sprint(s.Traffic()); got != "{map[ReceiveMessage:1 SendMessageBatch:2] map[AKIDEXAMPLE:map[ReceiveMessage:1 SendMessageBatch:2]] map[ReceiveMessage:1 SendMessageBatch:2] 1 1}" {
			t.Errorf("traffic %s", got)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		synctest.Wait()
		if n := s.Traffic().InFlight; n != 0 {
			t.Errorf("%d calls in flight", n)
		}
	})
}

func TestAServerIsReachedAsTheEnvironmentSays(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config sqstest.Config
		want   string
	}{
		"plain":     {sqstest.Config{}, "http://127.0.0.1:"},
		"TLS":       {sqstest.Config{TLS: true}, "https://127.0.0.1:"},
		"in memory": {sqstest.Config{InMemory: true}, "http://sqs.test"},
	} {
		s, c := start(t, test.config)
		if a := sendTen(c); a.status != 200 {
			t.Errorf("%s: %d %s %v", name, a.status, a.body, a.err)
		}
		env := strings.Join(s.Env(), " ")
		if !strings.Contains(env, "AWS_ENDPOINT_URL_SQS="+test.want) || !strings.HasPrefix(s.QueueURL("events"), test.want) {
			t.Errorf("%s: %s, %s", name, env, s.QueueURL("events"))
		}
	}
}
