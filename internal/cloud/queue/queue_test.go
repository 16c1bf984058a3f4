package queue_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
	"github.com/eventsluice/sluice/internal/fault"
)

// open returns a client and the queue "dead", or "dead.fifo".
func open(t *testing.T, name string) (*cloudtest.AWS, *queue.Client, queue.Ref) {
	t.Helper()
	a := cloudtest.New(t, cloudtest.Config{Queues: []sqstest.Queue{{Name: name}}})
	c := queue.New(a.SDK())
	ref, err := c.Parse(a.Queues.ARN(name))
	if err != nil {
		t.Fatal(err)
	}
	return a, c, ref
}

func numbered(n int) []queue.Message {
	messages := make([]queue.Message, n)
	for i := range messages {
		messages[i] = queue.Message{Body: fmt.Sprintf(`{"n":%d}`, i), Group: "g", Dedup: fmt.Sprint(i)}
	}
	return messages
}

func bodies(messages []sqstest.Received) (all []string) {
	for _, m := range messages {
		all = append(all, m.Body)
	}
	return all
}

func kinds(errs []error) (all []string) {
	for _, err := range errs {
		if err == nil {
			all = append(all, "stored")
		} else {
			all = append(all, fault.KindOf(err).String())
		}
	}
	return all
}

func TestMessagesComeBackAsTheyWereSent(t *testing.T) {
	t.Parallel()
	a, c, ref := open(t, "dead")
	messages := numbered(23)
	messages[3].Attributes = map[string]string{"Class": "permanent", "Empty": ""}
	if errs, err := c.Put(t.Context(), ref, messages); err != nil {
		t.Fatal(errs)
	}
	if depth, err := c.Depth(t.Context(), ref); err != nil || depth.Waiting != 23 || depth.Total() != 23 {
		t.Errorf("%+v, %v", depth, err)
	}
	if n := a.Queues.Traffic().Calls["SendMessageBatch"]; n != 3 {
		t.Errorf("%d calls for 23 messages", n)
	}
	var got []string
	for range 3 {
		received, err := c.Receive(t.Context(), ref, 100, 0, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		var receipts []string
		for _, m := range received {
			if m.Receives != 1 || m.SentAt.IsZero() || m.ID == "" {
				t.Errorf("%+v", m)
			}
			if m.Body == messages[3].Body && (m.Attributes["Class"] != "permanent" || len(m.Attributes) != 1) {
				t.Errorf("%+v", m)
			}
			got = append(got, m.Body)
			receipts = append(receipts, m.Receipt)
		}
		for _, err := range c.Delete(t.Context(), ref, receipts) {
			if err != nil {
				t.Error(err)
			}
		}
	}
	if len(got) != 23 || len(a.Queues.Messages("dead")) != 0 {
		t.Errorf("received %d, %d are left", len(got), len(a.Queues.Messages("dead")))
	}
}

// Each entry of a batch has its own outcome, though the call is answered 200.
func TestEveryMessageHasItsOwnOutcome(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault sqstest.Fault
		want  []string
		kept  int
	}{
		"throttled as a whole":     {awstest.Calls(sqstest.Throttled), []string{"throttled", "throttled", "throttled"}, 0},
		"one entry refused":        {sqstest.Entries(1, awstest.Internal), []string{"unavailable", "stored", "stored"}, 2},
		"one entry not answered":   {sqstest.Unanswered(1), []string{"ambiguous", "stored", "stored"}, 2},
		"stored and not answered":  {sqstest.Unanswered(1).Stored(), []string{"ambiguous", "stored", "stored"}, 3},
		"the answer is lost":       {awstest.Disconnect(awstest.AfterStoring), []string{"ambiguous", "ambiguous", "ambiguous"}, 3},
		"the call is lost":         {awstest.Disconnect(awstest.BeforeStoring), []string{"ambiguous", "ambiguous", "ambiguous"}, 0},
		"refused by the service":   {awstest.Calls(awstest.Internal), []string{"ambiguous", "ambiguous", "ambiguous"}, 0},
		"an answer that is no SQS": {awstest.Rubbish(awstest.HTML), []string{"ambiguous", "ambiguous", "ambiguous"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, client, ref := open(t, "dead")
			a.Queues.Fail(c.fault)
			got := kinds(client.Send(t.Context(), ref, numbered(3)))
			if slices.Sort(got); !slices.Equal(got, sorted(c.want)) {
				t.Errorf("outcomes %v, want %v", got, c.want)
			}
			if kept := len(a.Queues.Messages("dead")); kept != c.kept {
				t.Errorf("%d messages are kept, want %d", kept, c.kept)
			}
		})
	}
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func TestPutTriesUntilEveryMessageIsStored(t *testing.T) {
	t.Parallel()
	a, c, ref := open(t, "dead")
	a.Queues.Fail(sqstest.Entries(4, awstest.Internal).Times(2))
	a.Queues.Fail(awstest.Calls(sqstest.Throttled).After(3).Times(1))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.Put(ctx, ref, numbered(25)); err != nil {
		t.Fatal(err)
	}
	got := sorted(bodies(a.Queues.Messages("dead")))
	if len(slices.Compact(got)) != 25 {
		t.Errorf("%d messages are kept", len(got))
	}
}

func TestPutGivesUpWhatCanNeverBeStored(t *testing.T) {
	t.Parallel()
	a, c, ref := open(t, "dead")
	messages := numbered(3)
	messages[1].Body = strings.Repeat("x", queue.MaxBytes+1)
	errs, err := c.Put(t.Context(), ref, messages)
	if err == nil || !slices.Equal(kinds(errs), []string{"stored", "too_large", "stored"}) || len(a.Queues.Messages("dead")) != 2 {
		t.Errorf("%v, %v", kinds(errs), err)
	}
	gone := ref
	gone.URL = strings.Replace(ref.URL, "dead", "gone", 1)
	gone.Name = "gone"
	if errs, _ := c.Put(t.Context(), gone, numbered(1)); fault.KindOf(errs[0]) != fault.NotFound || !strings.Contains(errs[0].Error(), `"gone" does not exist`) {
		t.Errorf("a queue that does not exist: %v", errs)
	}
}

func TestLargeMessagesAreDividedIntoCalls(t *testing.T) {
	t.Parallel()
	a, c, ref := open(t, "dead")
	messages := numbered(5)
	for i := range messages {
		messages[i].Body = strings.Repeat("x", 400<<10)
	}
	if _, err := c.Put(t.Context(), ref, messages); err != nil {
		t.Fatal(err)
	}
	if n := a.Queues.Traffic().Calls["SendMessageBatch"]; n != 3 {
		t.Errorf("%d calls for 5 messages of 400 KiB", n)
	}
}

func TestAPostponedMessageIsReceivableAgain(t *testing.T) {
	t.Parallel()
	_, c, ref := open(t, "dead")
	if _, err := c.Put(t.Context(), ref, numbered(1)); err != nil {
		t.Fatal(err)
	}
	receive := func() []queue.Received {
		t.Helper()
		received, err := c.Receive(t.Context(), ref, 1, 0, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return received
	}
	first := receive()
	if len(first) != 1 || len(receive()) != 0 {
		t.Fatalf("received %v, and again", first)
	}
	if errs := c.Postpone(t.Context(), ref, []string{first[0].Receipt}, 0); errs[0] != nil {
		t.Fatal(errs)
	}
	if again := receive(); len(again) != 1 || again[0].Receives != 2 {
		t.Errorf("received %v", again)
	}
	for i, err := range c.Delete(t.Context(), ref, []string{"no receipt"}) {
		if err == nil {
			t.Errorf("receipt %d was taken", i)
		}
	}
}

func TestOrderOfAGroup(t *testing.T) {
	t.Parallel()
	a, c, ref := open(t, "dead.fifo")
	if _, err := c.Put(t.Context(), ref, numbered(30)); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range numbered(30) {
		want = append(want, m.Body)
	}
	if got := bodies(a.Queues.Messages("dead.fifo")); !slices.Equal(got, want) {
		t.Errorf("in the order %v", got)
	}
}

func TestNamesOfQueues(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]queue.Ref{
		"arn:aws:sqs:eu-west-1:123456789012:dead":                    {URL: "https://sqs.eu-west-1.amazonaws.com/123456789012/dead", Name: "dead", Region: "eu-west-1"},
		"https://sqs.eu-west-1.amazonaws.com/123456789012/dead.fifo": {URL: "https://sqs.eu-west-1.amazonaws.com/123456789012/dead.fifo", Name: "dead.fifo", Region: "eu-west-1"},
		"http://127.0.0.1:4100/123456789012/dead":                    {URL: "http://127.0.0.1:4100/123456789012/dead", Name: "dead", Region: "eu-west-1"},
	} {
		if got, err := queue.ParseRef(text, "eu-west-1"); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, wrong := range []string{"", "dead", "arn:aws:sqs:us-east-1:123456789012:dead", "arn:aws:sns:eu-west-1:123456789012:dead", "arn:aws:sqs:eu-west-1::dead", "https://", "https://sqs.eu-west-1.amazonaws.com/", "ftp://a/b"} {
		if got, err := queue.ParseRef(wrong, "eu-west-1"); err == nil {
			t.Errorf("%q is %+v", wrong, got)
		}
	}
}

func TestCharactersThatSQSRefusesAreEscaped(t *testing.T) {
	t.Parallel()
	if got := queue.Body([]byte("{\"a\":\"\uFFFE\uFFFF\"}")); got != `{"a":"\ufffe\uffff"}` {
		t.Error(got)
	}
}
