package invoke_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/invoke"
	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/router/fanout"
)

// patience bounds what must happen soon; only a failing test waits for it.
const patience = 20 * time.Second

// open returns a client and an account with the function crm:prod, which counts
// what it gets.
func open(t *testing.T) (*cloudtest.AWS, *invoke.Client, func() int) {
	t.Helper()
	a := cloudtest.New(t, cloudtest.Config{Queues: []sqstest.Queue{{Name: "plain"}, {Name: "mail.fifo"}}})
	var mu sync.Mutex
	n := 0
	err := a.Lambda.CreateFunction(lambdatest.Function{Name: "crm", Aliases: map[string]string{"prod": "1"}, Handler: func(context.Context, []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		n++
		return nil, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return a, invoke.New(a.SDK()), func() int {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := a.Lambda.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

func TestWhatAnInvocationComesTo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault   *lambdatest.Fault
		arn     string
		payload string
		want    string
		ran     int
	}{
		"accepted":               {want: "accepted", ran: 1},
		"no such function":       {arn: "arn:aws:lambda:us-east-1:123456789012:function:gone:prod", want: "not_found"},
		"no such alias":          {arn: "arn:aws:lambda:us-east-1:123456789012:function:crm:beta", want: "not_found"},
		"no function at all":     {arn: "arn:aws:sns:us-east-1:123456789012:topic", want: "not_found"},
		"not allowed":            {fault: new(lambdatest.Calls(lambdatest.AccessDenied)), want: "forbidden"},
		"throttled":              {fault: new(lambdatest.Calls(lambdatest.CallerThrottled)), want: "throttled"},
		"a failure of Lambda":    {fault: new(lambdatest.Calls(lambdatest.ServiceFailure)), want: "ambiguous"},
		"a failure that lies":    {fault: new(lambdatest.Calls(lambdatest.ServiceFailure).Stored()), want: "ambiguous", ran: 1},
		"the answer is lost":     {fault: new(lambdatest.LostAnswer()), want: "ambiguous", ran: 1},
		"the call is lost":       {fault: new(lambdatest.Disconnect(lambdatest.BeforeAccepting)), want: "ambiguous"},
		"too large":              {payload: `"` + strings.Repeat("x", invoke.MaxPayload-1) + `"`, want: "too_large"},
		"as large as can be":     {payload: `"` + strings.Repeat("x", invoke.MaxPayload-2) + `"`, want: "accepted", ran: 1},
		"a payload that is none": {payload: `{`, want: "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, client, ran := open(t)
			if c.fault != nil {
				a.Lambda.Fail(*c.fault)
			}
			if c.arn == "" {
				c.arn = a.Lambda.ARN("crm", "prod")
			}
			if c.payload == "" {
				c.payload = `{"id":"e1"}`
			}
			err := client.Send(t.Context(), c.arn, fanout.Message{Payload: []byte(c.payload), Key: "u1", ID: "e1"})
			got := "accepted"
			if err != nil {
				got = fault.KindOf(err).String()
			}
			if got != c.want {
				t.Errorf("%s, want %s: %v", got, c.want, err)
			}
			if n := ran(); n != c.ran {
				t.Errorf("it ran %d times, want %d", n, c.ran)
			}
		})
	}
}

// Many senders at once share calls, and each learns what became of its own
// message.
func TestMessagesForAQueueShareCalls(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"plain", "mail.fifo"} {
		a, client, _ := open(t)
		a.Queues.Fail(sqstest.Entries(1, awstest.Internal).When(func(call int) bool { return call%3 == 0 }))
		a.Queues.Fail(awstest.Delay(2 * time.Millisecond))
		const keys, each = 20, 10
		var senders sync.WaitGroup
		for k := range keys {
			senders.Go(func() {
				for n := range each {
					m := fanout.Message{Payload: fmt.Appendf(nil, `{"key":%d,"n":%02d}`, k, n), Key: fmt.Sprint("u", k), ID: fmt.Sprint(k, " ", n)}
					for client.Send(t.Context(), a.Queues.ARN(name), m) != nil {
					}
				}
			})
		}
		senders.Wait()
		messages := a.Queues.Messages(name)
		if len(messages) != keys*each {
			t.Errorf("%s: %d messages, want %d", name, len(messages), keys*each)
		}
		last := map[string]string{}
		for _, m := range messages {
			key, n, _ := strings.Cut(m.Body, `,"n":`)
			if n < last[key] {
				t.Errorf("%s: %s after %s", name, m.Body, last[key])
			}
			last[key] = n
		}
		if calls := a.Queues.Traffic().Calls["SendMessageBatch"]; calls > keys*each/2 {
			t.Errorf("%s: %d calls for %d messages", name, calls, keys*each)
		}
	}
}

func TestTheSameMessageSentTwiceToAFIFOQueueIsStoredOnce(t *testing.T) {
	t.Parallel()
	a, client, _ := open(t)
	m := fanout.Message{Payload: []byte(`{"id":"e1"}`), Key: "u1", ID: "e1 mail"}
	a.Queues.Fail(awstest.Disconnect(awstest.AfterStoring).Times(1))
	if err := client.Send(t.Context(), a.Queues.ARN("mail.fifo"), m); fault.KindOf(err) != fault.Ambiguous {
		t.Fatal(err)
	}
	if err := client.Send(t.Context(), a.Queues.ARN("mail.fifo"), m); err != nil {
		t.Fatal(err)
	}
	if messages := a.Queues.Messages("mail.fifo"); len(messages) != 1 || messages[0].GroupID != invoke.Group("u1") {
		t.Errorf("%+v", messages)
	}
}

// A sender whose time is over knows whether its message may be stored; the
// others go on.
func TestASenderWhoseTimeIsOverHoldsUpNobody(t *testing.T) {
	t.Parallel()
	a, client, _ := open(t)
	struck := make(chan struct{})
	a.Queues.Fail(awstest.Do(func() { close(struck) }).Times(1))
	a.Queues.Fail(awstest.Hang(awstest.BeforeStoring).Times(1))
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 3)
	send := func(ctx context.Context, n int) {
		errs <- client.Send(ctx, a.Queues.ARN("plain"), fanout.Message{Payload: fmt.Append(nil, n), Key: "k", ID: fmt.Sprint(n)})
	}
	go send(ctx, 1)
	<-struck
	for n := 2; n <= 3; n++ {
		go send(t.Context(), n)
	}
	cancel()
	if err := <-errs; fault.KindOf(err) != fault.Ambiguous {
		t.Error(err)
	}
	for range 2 {
		select {
		case err := <-errs:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("the others are held up")
		}
	}
	var got []string
	for _, m := range a.Queues.Messages("plain") {
		got = append(got, m.Body)
	}
	if slices.Sort(got); !slices.Equal(got, []string{"2", "3"}) {
		t.Errorf("stored %v", got)
	}
}
