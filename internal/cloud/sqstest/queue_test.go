package sqstest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

func TestAMessageIsHiddenUntilItsVisibilityTimeoutEnds(t *testing.T) {
	inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, _ *client) {
		send(t, s, "events", "a")
		first := s.Receive("events", 10, 0) // 30 s is the default
		if bodies(first) != "a" {
			t.Fatalf("received %v", first)
		}
		time.Sleep(30*time.Second - 1)
		if again := s.Receive("events", 10, 0); len(again) > 0 {
			t.Fatalf("received %v before the timeout", again)
		}
		time.Sleep(time.Nanosecond)
		again := s.Receive("events", 10, time.Minute)
		if bodies(again) != "a" || again[0].ReceiveCount != 2 || again[0].Receipt == first[0].Receipt {
			t.Fatalf("received %+v at the timeout", again)
		}
		if !again[0].FirstReceivedAt.Equal(first[0].FirstReceivedAt) {
			t.Errorf("first received at %v, then at %v", first[0].FirstReceivedAt, again[0].FirstReceivedAt)
		}
		time.Sleep(time.Minute)
		if last := s.Receive("events", 10, 0); bodies(last) != "a" {
			t.Errorf("received %v after a timeout of the receive", last)
		}
	})
}

func TestVisibilityIsChangedFromNowAndForTwelveHoursInAll(t *testing.T) {
	inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, _ *client) {
		send(t, s, "events", "a")
		receipt := s.Receive("events", 1, time.Minute)[0].Receipt
		time.Sleep(15 * time.Second)
		if err := s.SetVisibility("events", receipt, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Second - 1)
		if got := s.Receive("events", 1, 0); len(got) > 0 {
			t.Errorf("received %v before the new timeout", got)
		}
		if err := s.SetVisibility("events", receipt, 12*time.Hour); code(err) != "InvalidParameterValue" {
			t.Errorf("12 h and what has passed: %v", err)
		}
		if err := s.SetVisibility("events", receipt, 12*time.Hour-25*time.Second+1); err != nil {
			t.Errorf("12 h in all: %v", err)
		}
		if err := s.SetVisibility("events", receipt, 0); err != nil {
			t.Fatal(err)
		}
		if got := s.Receive("events", 1, time.Hour); bodies(got) != "a" {
			t.Errorf("received %v after a timeout of 0", got)
		}
		if err := s.SetVisibility("events", receipt, time.Minute); code(err) != "InvalidParameterValue" {
			t.Errorf("an old receipt: %v", err)
		}
	})
}

func TestDelaysAreOfAQueueAndInAStandardQueueOfAMessage(t *testing.T) {
	inBubble(t, sqstest.Config{Queues: []sqstest.Queue{{Name: "slow", Delay: time.Minute}, {Name: "slow.fifo", Delay: time.Minute}}},
		func(t *testing.T, s *sqstest.Server, c *client) {
			send(t, s, "slow", "a")
			send(t, s, "slow.fifo", "g-a")
			if _, err := s.Send("slow", sqstest.Message{Body: "b", Delay: 2 * time.Minute}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Send("slow.fifo", sqstest.Message{Body: "b", GroupID: "g", DeduplicationID: "b", Delay: time.Second}); code(err) != "InvalidParameterValue" {
				t.Errorf("a delay of a message in a FIFO queue: %v", err)
			}
			ok[any](c, "SendMessage", fields{"QueueUrl": "slow", "MessageBody": "now", "DelaySeconds": 0})
			if got := bodies(s.Receive("slow", 10, time.Hour)); got != "now" {
				t.Errorf("received %q at once", got)
			}
			time.Sleep(time.Minute - 1)
			if got := bodies(s.Receive("slow", 10, time.Hour)) + bodies(s.Receive("slow.fifo", 10, time.Hour)); got != "" {
				t.Errorf("received %q too early", got)
			}
			time.Sleep(time.Nanosecond)
			if got := bodies(s.Receive("slow", 10, time.Hour)) + " " + bodies(s.Receive("slow.fifo", 10, time.Hour)); got != "a g-a" {
				t.Errorf("received %q after the queues' delay", got)
			}
			time.Sleep(time.Minute)
			if got := bodies(s.Receive("slow", 10, time.Hour)); got != "b" {
				t.Errorf("received %q after the message's delay", got)
			}
		})
}

func TestANewDelayOfAQueueIsForWaitingMessagesOfAFIFOQueueOnly(t *testing.T) {
	inBubble(t, sqstest.Config{Queues: []sqstest.Queue{{Name: "slow", Delay: time.Minute}, {Name: "slow.fifo", Delay: time.Minute}}},
		func(t *testing.T, s *sqstest.Server, c *client) {
			send(t, s, "slow", "a")
			send(t, s, "slow.fifo", "g-a")
			time.Sleep(10 * time.Second)
			for _, queue := range []string{"slow", "slow.fifo"} {
				ok[any](c, "SetQueueAttributes", fields{"QueueUrl": queue, "Attributes": fields{"DelaySeconds": "11"}})
			}
			time.Sleep(time.Second)
			if got := bodies(s.Receive("slow.fifo", 10, 0)); got != "g-a" {
				t.Errorf("received %q from the FIFO queue", got)
			}
			if got := bodies(s.Receive("slow", 10, 0)); got != "" {
				t.Errorf("received %q from the standard queue", got)
			}
		})
}

func TestMessagesExpireWhereverTheyAre(t *testing.T) {
	inBubble(t, sqstest.Config{Queues: []sqstest.Queue{{Name: "short", Retention: time.Minute, DeadLetterQueue: "failed"}}},
		func(t *testing.T, s *sqstest.Server, _ *client) {
			send(t, s, "short", "waiting", "in-flight")
			if _, err := s.Send("short", sqstest.Message{Body: "delayed", Delay: 2 * time.Minute}); err != nil {
				t.Fatal(err)
			}
			receipt := s.Receive("short", 1, time.Hour)[0].Receipt
			time.Sleep(time.Minute - 1)
			if n := len(s.Messages("short")); n != 3 {
				t.Errorf("%d messages before the retention ends", n)
			}
			time.Sleep(time.Nanosecond)
			if left := s.Messages("short"); len(left) > 0 {
				t.Errorf("there is %v after it", left)
			}
			if err := s.Delete("short", receipt); err != nil {
				t.Errorf("delete of what has expired: %v", err)
			}
			if buried := s.Messages("failed"); len(buried) > 0 {
				t.Errorf("what expired is a dead letter: %v", buried)
			}
		})
}

func TestAMessageReceivedTooOftenBecomesADeadLetter(t *testing.T) {
	inBubble(t, sqstest.Config{Queues: []sqstest.Queue{
		{Name: "failed.fifo"},
		{Name: "work", MaxReceives: 2, DeadLetterQueue: "failed"},
		{Name: "work.fifo", MaxReceives: 2, DeadLetterQueue: "failed.fifo"},
	}}, func(t *testing.T, s *sqstest.Server, _ *client) {
		for _, test := range []struct{ queue, deadLetters, body string }{{"work", "failed", "a"}, {"work.fifo", "failed.fifo", "g-a"}} {
			send(t, s, test.queue, test.body)
			sent := s.Messages(test.queue)[0]
			for range 2 {
				if got := bodies(s.Receive(test.queue, 10, time.Second)); got != test.body {
					t.Fatalf("%s: received %q", test.queue, got)
				}
				time.Sleep(time.Second)
			}
			if got := s.Messages(test.deadLetters); len(got) > 0 {
				t.Errorf("%s: %v is a dead letter before anybody looks", test.queue, got)
			}
			if got := s.Receive(test.queue, 10, 0); len(got) > 0 {
				t.Errorf("%s: received %v a third time", test.queue, got)
			}
			got := s.Messages(test.deadLetters)
			if len(got) != 1 || len(s.Messages(test.queue)) > 0 {
				t.Fatalf("%s: dead letters %v, left %v", test.queue, got, s.Messages(test.queue))
			}
			// A FIFO queue gives it a new age. Source: developer guide.
			age := sent.SentAt
			if strings.HasSuffix(test.queue, ".fifo") {
				age = time.Now()
			}
			letter := got[0]
			if letter.ID != sent.ID || letter.Body != test.body || letter.ReceiveCount != 2 || letter.Source != s.ARN(test.queue) ||
				letter.GroupID != sent.GroupID || letter.Receipt != "" || !letter.SentAt.Equal(age) {
				t.Errorf("%s: dead letter %+v", test.queue, letter)
			}
			if got := s.Receive(test.deadLetters, 1, 0)[0].SystemAttributes(); got["DeadLetterQueueSourceArn"] != s.ARN(test.queue) || got["ApproximateReceiveCount"] != "3" {
				t.Errorf("%s: attributes of the dead letter %v", test.queue, got)
			}
		}
	})
}

func TestADeadLetterAsOldAsTheRetentionIsGone(t *testing.T) {
	inBubble(t, sqstest.Config{Queues: []sqstest.Queue{
		{Name: "dead", Retention: time.Minute},
		{Name: "work", MaxReceives: 1, DeadLetterQueue: "dead"},
	}}, func(t *testing.T, s *sqstest.Server, _ *client) {
		send(t, s, "work", "a")
		s.Receive("work", 1, 59*time.Second)
		time.Sleep(59 * time.Second)
		s.Receive("work", 1, 0)
		if got := s.Messages("dead"); len(got) != 1 {
			t.Fatalf("dead letters %v", got)
		}
		time.Sleep(time.Second)
		if got := s.Messages("dead"); len(got) > 0 {
			t.Errorf("%v is there a minute after it was sent", got)
		}
	})
}

func TestReceiptsOfAStandardQueue(t *testing.T) {
	inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, _ *client) {
		send(t, s, "events", "a")
		old := s.Receive("events", 1, time.Second)[0].Receipt
		time.Sleep(time.Minute)
		last := s.Receive("events", 1, time.Second)[0].Receipt
		if err := s.Delete("events", old); err != nil || len(s.Messages("events")) != 1 {
			t.Errorf("an old receipt: %v, left %v", err, s.Messages("events"))
		}
		for _, wrong := range []string{"", "a", "AAAA", last + "AAAA"} {
			if err := s.Delete("events", wrong); code(err) != "ReceiptHandleIsInvalid" {
				t.Errorf("receipt %q: %v", wrong, err)
			}
		}
		if err := s.Delete("failed", last); code(err) != "ReceiptHandleIsInvalid" {
			t.Errorf("a receipt of another queue: %v", err)
		}
		time.Sleep(time.Minute) // visible again, and nobody has received it
		for range 2 {
			if err := s.Delete("events", last); err != nil || len(s.Messages("events")) > 0 {
				t.Errorf("the last receipt: %v, left %v", err, s.Messages("events"))
			}
		}
		if err := s.SetVisibility("events", last, 0); code(err) != "InvalidParameterValue" {
			t.Errorf("visibility of what is deleted: %v", err)
		}
	})
}

func TestReceiptsOfAFIFOQueueEndWithTheVisibilityTimeout(t *testing.T) {
	inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, _ *client) {
		send(t, s, "orders.fifo", "g-a")
		receipt := s.Receive("orders.fifo", 1, time.Second)[0].Receipt
		time.Sleep(time.Second)
		if err := s.Delete("orders.fifo", receipt); code(err) != "InvalidParameterValue" || len(s.Messages("orders.fifo")) != 1 {
			t.Errorf("delete after the timeout: %v, left %v", err, s.Messages("orders.fifo"))
		}
		receipt = s.Receive("orders.fifo", 1, time.Second)[0].Receipt
		for range 2 {
			if err := s.Delete("orders.fifo", receipt); err != nil {
				t.Errorf("delete: %v", err)
			}
		}
	})
}

func TestAGroupIsReceivedInOrderAndByOneAtATime(t *testing.T) {
	inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, _ *client) {
		send(t, s, "orders.fifo", "a-1", "b-1", "a-2", "b-2", "a-3")
		first := s.Receive("orders.fifo", 2, time.Minute)
		if bodies(first) != "a-1 a-2" {
			t.Fatalf("received %q: of one group as many as there are come first", bodies(first))
		}
		if got := bodies(s.Receive("orders.fifo", 10, 30*time.Second)); got != "b-1 b-2" {
			t.Errorf("received %q, want the other group", got)
		}
		if got := bodies(s.Receive("orders.fifo", 10, 0)); got != "" {
			t.Errorf("received %q while both groups are in flight", got)
		}
		if err := s.Delete("orders.fifo", first[0].Receipt); err != nil {
			t.Fatal(err)
		}
		if got := bodies(s.Receive("orders.fifo", 10, 0)); got != "" {
			t.Errorf("received %q while a-2 is in flight", got)
		}
		if err := s.SetVisibility("orders.fifo", first[1].Receipt, 0); err != nil {
			t.Fatal(err)
		}
		if got := bodies(s.Receive("orders.fifo", 1, time.Minute)); got != "a-2" {
			t.Errorf("received %q, want the one that came back", got)
		}
		time.Sleep(30 * time.Second)
		if got := bodies(s.Receive("orders.fifo", 1, time.Minute)); got != "b-1" {
			t.Errorf("received %q after the timeout of the other group", got)
		}
	})
}

func TestAGroupWaitsForAllOfItThatIsInFlight(t *testing.T) {
	inBubble(t, sqstest.Config{}, func(t *testing.T, s *sqstest.Server, _ *client) {
		send(t, s, "orders.fifo", "a-1", "a-2", "a-3")
		got := s.Receive("orders.fifo", 2, time.Minute)
		if err := s.SetVisibility("orders.fifo", got[0].Receipt, 0); err != nil {
			t.Fatal(err)
		}
		if early := s.Receive("orders.fifo", 10, 0); len(early) > 0 {
			t.Errorf("received %v while a-2 is in flight", early)
		}
		if err := s.Delete("orders.fifo", got[1].Receipt); err != nil {
			t.Fatal(err)
		}
		if got := bodies(s.Receive("orders.fifo", 10, 0)); got != "a-1 a-3" {
			t.Errorf("received %q", got)
		}
	})
}

func TestDuplicatesWithinFiveMinutesAreAcceptedAndNotStored(t *testing.T) {
	inBubble(t, sqstest.Config{Queues: []sqstest.Queue{{Name: "content.fifo", ContentDeduplication: true}, {Name: "group.fifo", DeduplicationByGroup: true}}},
		func(t *testing.T, s *sqstest.Server, _ *client) {
			id := func(queue, group, dedup, body string) string {
				id, err := s.Send(queue, sqstest.Message{Body: body, GroupID: group, DeduplicationID: dedup})
				if err != nil {
					t.Fatalf("%s: %v", queue, err)
				}
				return id
			}
			first := id("orders.fifo", "g", "1", "a")
			content, group := id("content.fifo", "g", "", "a"), id("group.fifo", "g", "1", "a")
			for _, m := range s.Receive("orders.fifo", 10, 0) { // it is remembered when it is gone
				if err := s.Delete("orders.fifo", m.Receipt); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5*time.Minute - 1)
			if id("orders.fifo", "h", "1", "b") != first || len(s.Messages("orders.fifo")) > 0 {
				t.Errorf("another message with the same id in time: %v", s.Messages("orders.fifo"))
			}
			if id("content.fifo", "g", "", "a") != content || id("content.fifo", "g", "", "b") == content || id("content.fifo", "g", "x", "a") == content {
				t.Errorf("by content: %v", s.Messages("content.fifo"))
			}
			if id("group.fifo", "g", "1", "a") != group || id("group.fifo", "h", "1", "a") == group {
				t.Errorf("by group: %v", s.Messages("group.fifo"))
			}
			time.Sleep(time.Nanosecond)
			if id("orders.fifo", "g", "1", "a") == first || len(s.Messages("orders.fifo")) != 1 {
				t.Errorf("after five minutes: %v", s.Messages("orders.fifo"))
			}
			if _, err := s.Send("orders.fifo", sqstest.Message{Body: "a", GroupID: "g"}); code(err) != "InvalidParameterValue" {
				t.Errorf("no deduplication id: %v", err)
			}
			if _, err := s.Send("orders.fifo", sqstest.Message{Body: "a", DeduplicationID: "2"}); code(err) != "MissingParameter" {
				t.Errorf("no group: %v", err)
			}
		})
}

func TestSequenceNumbersGrowAndHaveTwentyDigits(t *testing.T) {
	t.Parallel()
	s, _ := start(t, sqstest.Config{})
	send(t, s, "orders.fifo", "a-1", "b-1", "a-2")
	last := ""
	for _, m := range s.Messages("orders.fifo") {
		if len(m.SequenceNumber) != 20 || m.SequenceNumber <= last {
			t.Errorf("%s has %q after %q", m.Body, m.SequenceNumber, last)
		}
		last = m.SequenceNumber
	}
}

func TestNoMoreThanTheLimitAreInFlight(t *testing.T) {
	inBubble(t, sqstest.Config{MaxInFlight: 3}, func(t *testing.T, s *sqstest.Server, c *client) {
		send(t, s, "events", "a", "b", "c", "d")
		send(t, s, "orders.fifo", "a-1", "b-1", "c-1", "d-1")
		for queue, want := range map[string]string{"events": "a b c", "orders.fifo": "a-1 b-1 c-1"} {
			if got := bodies(s.Receive(queue, 10, time.Minute)); got != want {
				t.Errorf("%s: received %q", queue, got)
			}
		}
		a := c.call("ReceiveMessage", fields{"QueueUrl": "events"})
		if name, _ := a.refused(); a.status != 403 || name != "com.amazonaws.sqs#OverLimit" {
			t.Errorf("a standard queue over its limit: %d %s", a.status, a.body)
		}
		if got := ok[received](c, "ReceiveMessage", fields{"QueueUrl": "orders.fifo"}); len(got.Messages) > 0 {
			t.Errorf("a FIFO queue over its limit: %v", got)
		}
		time.Sleep(time.Minute)
		if got := ok[received](c, "ReceiveMessage", fields{"QueueUrl": "events", "MaxNumberOfMessages": 10}); got.bodies() != "a b c" {
			t.Errorf("received %q when they are visible again", got.bodies())
		}
	})
}

func TestWaitEndsWhenAMessageCanBeReceived(t *testing.T) {
	inBubble(t, sqstest.Config{Queues: []sqstest.Queue{{Name: "work", VisibilityTimeout: time.Minute}}}, func(t *testing.T, s *sqstest.Server, c *client) {
		waited := func(queue string, what func()) time.Duration {
			t.Helper()
			began := time.Now()
			done := make(chan error, 1)
			go func() { done <- s.Wait(t.Context(), queue) }()
			synctest.Wait()
			select {
			case err := <-done:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
			what()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		if d := waited("work", func() { send(t, s, "work", "a") }); d != 0 {
			t.Errorf("a message was sent, and it waited %v", d)
		}
		if err := s.Wait(t.Context(), s.ARN("work")); err != nil { // it is there
			t.Error(err)
		}
		var receipt string
		s.Receive("work", 1, 0)
		if d := waited("work", func() {}); d != time.Minute {
			t.Errorf("waited %v for a visibility timeout of a minute", d)
		}
		receipt = s.Receive("work", 1, 0)[0].Receipt
		if d := waited("work", func() { _ = s.SetVisibility("work", receipt, time.Second) }); d != time.Second {
			t.Errorf("waited %v for a visibility timeout that became a second", d)
		}
		s.Receive("work", 1, time.Hour)
		if d := waited("work", func() { _, _ = s.Send("work", sqstest.Message{Body: "b", Delay: 5 * time.Second}) }); d != 5*time.Second {
			t.Errorf("waited %v for a delay", d)
		}

		send(t, s, "orders.fifo", "a-1", "a-2")
		receipt = s.Receive("orders.fifo", 1, time.Hour)[0].Receipt
		if d := waited("orders.fifo", func() { _ = s.Delete("orders.fifo", receipt) }); d != 0 {
			t.Errorf("waited %v for a group that was freed", d)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := s.Wait(ctx, "events"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for nothing: %v", err)
		}
		gone := make(chan error, 1)
		go func() { gone <- s.Wait(t.Context(), "events") }()
		synctest.Wait()
		ok[any](c, "DeleteQueue", fields{"QueueUrl": "events"})
		if err := <-gone; code(err) != "QueueDoesNotExist" {
			t.Errorf("waiting for a queue that was deleted: %v", err)
		}
	})
}

// code returns the code of an error of ours, or what it is otherwise.
func code(err error) string {
	var e *sqstest.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err == nil {
		return "none"
	}
	return err.Error()
}
