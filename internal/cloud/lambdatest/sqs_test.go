package lambdatest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// send puts messages into a queue; in a FIFO queue the group is what stands
// before a colon.
func (r *rig) send(queue string, bodies ...string) {
	r.t.Helper()
	for _, body := range bodies {
		m := sqstest.Message{Body: body}
		if strings.HasSuffix(queue, ".fifo") {
			m.GroupID, _, _ = strings.Cut(body, ":")
		}
		if _, err := r.queues.Send(queue, m); err != nil {
			r.t.Fatal(err)
		}
	}
}

// polled starts a mapping from a queue to f.
func (r *rig) polled(q lambdatest.QueueSource) *lambdatest.Mapping {
	r.t.Helper()
	q.Function = "f:prod"
	m, err := r.MapQueue(q)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// messages is an event as a function reads it.
type messages struct {
	Records []struct{ MessageID, Body string }
}

func readMessages(payload string) (m messages) {
	if err := json.Unmarshal([]byte(payload), &m); err != nil {
		panic(err)
	}
	return m
}

func (m messages) bodies() string {
	var out []string
	for _, one := range m.Records {
		out = append(out, one.Body)
	}
	return strings.Join(out, " ")
}

// report is an answer that names the messages with these bodies.
func (m messages) report(bodies ...string) string {
	items := []map[string]string{}
	for _, one := range m.Records {
		if slices.Contains(bodies, one.Body) {
			items = append(items, map[string]string{"itemIdentifier": one.MessageID})
		}
	}
	b, _ := json.Marshal(map[string]any{"batchItemFailures": items})
	return string(b)
}

// bodies are those of each invocation.
func (c *calls) bodies() []string {
	var out []string
	for _, payload := range c.all() {
		out = append(out, readMessages(payload).bodies())
	}
	return out
}

func TestAMessageOfSQSInItsEvent(t *testing.T) {
	var c calls
	inBubble(t, one(lambdatest.Function{Handler: c.handler(succeeds)}), func(t *testing.T, r *rig) {
		id, err := r.queues.Send("work", sqstest.Message{Body: `{"a":"<b>"}`, Attributes: map[string]sqstest.Attribute{
			"Class": {DataType: "String", StringValue: "poison"},
			"N":     {DataType: "Number", StringValue: "7"},
			"Raw":   {DataType: "Binary", BinaryValue: []byte{1, 2}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		stored := r.queues.Messages("work")[0]
		time.Sleep(time.Second)
		r.polled(lambdatest.QueueSource{Queue: "work"})
		r.drain()
		var event struct {
			Records []struct{ ReceiptHandle string }
		}
		if err := json.Unmarshal([]byte(c.all()[0]), &event); err != nil || len(event.Records) != 1 || event.Records[0].ReceiptHandle == "" {
			t.Fatal(c.all()[0], err)
		}
		want := compact(t, `{"Records":[{
			"messageId":"`+id+`","receiptHandle":"`+event.Records[0].ReceiptHandle+`","body":"{\"a\":\"<b>\"}",
			"attributes":{"ApproximateReceiveCount":"1","SentTimestamp":"946684800000","SenderId":"AIDAEXAMPLE","ApproximateFirstReceiveTimestamp":"946684801000"},
			"messageAttributes":{
				"Class":{"stringValue":"poison","stringListValues":[],"binaryListValues":[],"dataType":"String"},
				"N":{"stringValue":"7","stringListValues":[],"binaryListValues":[],"dataType":"Number"},
				"Raw":{"binaryValue":"AQI=","stringListValues":[],"binaryListValues":[],"dataType":"Binary"}},
			"md5OfBody":"`+stored.MD5OfBody+`","md5OfMessageAttributes":"`+stored.MD5OfAttributes+`",
			"eventSource":"aws:sqs","eventSourceARN":"arn:aws:sqs:us-east-1:123456789012:work","awsRegion":"us-east-1"}]}`)
		if got := compact(t, c.all()[0]); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		if len(r.queues.Messages("work")) != 0 {
			t.Error("it was not deleted")
		}
	})
}

func TestBatchesOfSQS(t *testing.T) {
	for name, test := range map[string]struct {
		q    lambdatest.QueueSource
		do   func(r *rig)
		want []string
	}{
		"up to ten": {lambdatest.QueueSource{Queue: "work", MaximumConcurrency: 1}, func(r *rig) { r.send("work", numbered("%d", 12)...) },
			[]string{"0 1 2 3 4 5 6 7 8 9", "10 11"}},
		"one by one": {lambdatest.QueueSource{Queue: "work", BatchSize: 1, MaximumConcurrency: 1}, func(r *rig) { r.send("work", numbered("%d", 3)...) },
			[]string{"0", "1", "2"}},
		"more than ten": {lambdatest.QueueSource{Queue: "work", BatchSize: 100, MaximumBatchingWindow: time.Second, MaximumConcurrency: 1}, func(r *rig) { r.send("work", numbered("%d", 12)...) },
			[]string{"0 1 2 3 4 5 6 7 8 9 10 11"}},
		"a window gathers": {lambdatest.QueueSource{Queue: "work", MaximumBatchingWindow: 10 * time.Second},
			func(r *rig) {
				for _, body := range numbered("%d", 6) {
					time.Sleep(3 * time.Second)
					r.send("work", body)
				}
			},
			[]string{"0 1 2 3", "4 5"}},
		"a full batch does not wait": {lambdatest.QueueSource{Queue: "work", BatchSize: 2, MaximumBatchingWindow: time.Minute},
			func(r *rig) {
				for _, body := range numbered("%d", 4) {
					time.Sleep(3 * time.Second)
					r.send("work", body)
				}
			},
			[]string{"0 1", "2 3"}},
	} {
		t.Run(name, func(t *testing.T) {
			var c calls
			inBubble(t, one(lambdatest.Function{Handler: c.handler(succeeds)}), func(t *testing.T, r *rig) {
				began := time.Now()
				if name != "a window gathers" && name != "a full batch does not wait" {
					test.do(r) // all is there before the first look
					r.polled(test.q)
				} else {
					r.polled(test.q)
					test.do(r)
				}
				r.drain()
				if got := c.bodies(); !slices.Equal(got, test.want) || time.Since(began) > 30*time.Second {
					t.Errorf("%q, after %s", got, time.Since(began))
				}
			})
		})
	}
}

func TestMessagesThatDoNotFitIntoOneEvent(t *testing.T) {
	for queue, want := range map[string]int{"work": 2, "work.fifo": 2} {
		t.Run(queue, func(t *testing.T) {
			var sizes []int
			do := func(_ context.Context, payload []byte) ([]byte, error) {
				sizes = append(sizes, len(payload))
				return nil, nil
			}
			inBubble(t, one(lambdatest.Function{Handler: do}), func(t *testing.T, r *rig) {
				r.send(queue, numbered("a:%d"+strings.Repeat("x", 900_000), 8)...)
				r.polled(lambdatest.QueueSource{Queue: queue})
				r.drain()
				if len(sizes) != want || slices.Max(sizes) > 6<<20 || slices.Max(sizes) < 5<<20 {
					t.Errorf("events of %v bytes", sizes)
				}
			})
		})
	}
}

// Each way in which a batch can fail, with all its invocations.
func TestHowABatchOfSQSComesBack(t *testing.T) {
	const all = "0 1 2"
	reporting := func(bodies ...string) func(int, messages) (string, error) {
		return func(_ int, m messages) (string, error) { return m.report(bodies...), nil }
	}
	answering := func(answer string) func(int, messages) (string, error) {
		return func(int, messages) (string, error) { return answer, nil }
	}
	report := lambdatest.QueueSource{Queue: "work", ReportBatchItemFailures: true}
	plain := lambdatest.QueueSource{Queue: "work"}
	thrice := []string{all, all, all}
	for _, test := range []struct {
		name string
		q    lambdatest.QueueSource
		do   func(n int, m messages) (string, error)
		want []string
		dead string
	}{
		{"an error", plain, func(int, messages) (string, error) { return "", errBroken }, thrice, all},
		{"an error, once", plain, func(n int, _ messages) (string, error) {
			if n == 1 {
				return "", errBroken
			}
			return "", nil
		}, []string{all, all}, ""},
		{"failures that nobody asked for", plain, reporting("1"), []string{all}, ""},
		{"one failure", report, reporting("1"), []string{all, "1", "1"}, "1"},
		{"two failures, with an error", report, func(n int, m messages) (string, error) {
			if n == 2 {
				return "", errBroken
			}
			return m.report("0", "2"), nil
		}, []string{all, "0 2", "0 2"}, "0 2"},
		{"nothing", report, answering(""), []string{all}, ""},
		{"null", report, answering("null"), []string{all}, ""},
		{"an empty object", report, answering("{}"), []string{all}, ""},
		{"an empty list", report, answering(`{"batchItemFailures":[]}`), []string{all}, ""},
		{"a list that is null", report, answering(`{"batchItemFailures":null}`), []string{all}, ""},
		{"no JSON", report, answering(`ok`), thrice, all},
		{"an empty identifier", report, answering(`{"batchItemFailures":[{"itemIdentifier":""}]}`), thrice, all},
		{"one that is null", report, answering(`{"batchItemFailures":[{"itemIdentifier":null}]}`), thrice, all},
		{"one under another name", report, answering(`{"batchItemFailures":[{"id":"1"}]}`), thrice, all},
		{"one of no message", report, answering(`{"batchItemFailures":[{"itemIdentifier":"1"}]}`), thrice, all},
	} {
		t.Run(test.name, func(t *testing.T) {
			var c calls
			config := one(lambdatest.Function{Handler: c.handler(func(n int, payload string) (string, error) { return test.do(n, readMessages(payload)) })})
			inBubble(t, config, func(t *testing.T, r *rig) {
				r.send("work", "0", "1", "2")
				began := time.Now()
				r.polled(test.q)
				r.drain()
				if got := c.bodies(); !slices.Equal(got, test.want) {
					t.Errorf("invoked with %q, want %q", got, test.want)
				}
				// A message comes back when it is visible again, each 30 s; after
				// three times it is a dead letter.
				tries := len(test.want)
				if test.dead != "" {
					tries++
				}
				if took := time.Since(began); took != time.Duration(tries-1)*30*time.Second {
					t.Errorf("took %s", took)
				}
				var dead []string
				for _, m := range r.queues.Messages("dead") {
					dead = append(dead, m.Body)
				}
				if got := strings.Join(dead, " "); got != test.dead {
					t.Errorf("dead letters %q, want %q", got, test.dead)
				}
			})
		})
	}
}

func TestAFunctionMayChangeWhenItsMessageComesBack(t *testing.T) {
	var c calls
	var queues *sqstest.Server
	do := c.handler(func(n int, payload string) (string, error) {
		if n > 1 {
			return "", nil
		}
		var event struct {
			Records []struct{ ReceiptHandle string }
		}
		if err := json.Unmarshal([]byte(payload), &event); err != nil {
			return "", err
		}
		if err := queues.SetVisibility("work", event.Records[0].ReceiptHandle, 5*time.Minute); err != nil {
			return "", err
		}
		return readMessages(payload).report("later"), nil
	})
	inBubble(t, one(lambdatest.Function{Handler: do}), func(t *testing.T, r *rig) {
		queues = r.queues
		r.send("work", "later")
		r.polled(lambdatest.QueueSource{Queue: "work", ReportBatchItemFailures: true})
		r.drain()
		if !slices.Equal(c.when, []time.Duration{0, 5 * time.Minute}) {
			t.Errorf("invoked at %v", c.when)
		}
	})
}

func TestAThrottledBatchOfSQSWaitsAsLongAsItsMessagesAreItsOwn(t *testing.T) {
	var c calls
	inBubble(t, one(lambdatest.Function{Handler: c.handler(succeeds)}), func(t *testing.T, r *rig) {
		trouble := r.FailRuns(lambdatest.Calls(lambdatest.Throttled))
		r.send("work", "1")
		r.polled(lambdatest.QueueSource{Queue: "work"})
		time.Sleep(29 * time.Second)
		if trouble.Hits() != 5 { // at 0, 1, 3, 7 and 15 s; 31 s is too late
			t.Errorf("%d tries", trouble.Hits())
		}
		time.Sleep(1500 * time.Millisecond) // at 30 s they are visible again
		trouble.Off()
		r.drain()
		if got := c.bodies(); !slices.Equal(got, []string{"1"}) || trouble.Hits() != 6 {
			t.Errorf("%q after %d hits", got, trouble.Hits())
		}
		if !strings.Contains(c.all()[0], `"ApproximateReceiveCount":"2"`) {
			t.Error(c.all()[0])
		}
	})
}

func TestAGroupOfAFIFOQueueIsInOneBatchAtATime(t *testing.T) {
	var mu sync.Mutex
	running := map[string]bool{}
	seen := map[string][]string{}
	failed := map[string]bool{}
	do := func(_ context.Context, payload []byte) ([]byte, error) {
		m := readMessages(string(payload))
		mu.Lock()
		mine := map[string]bool{}
		for _, one := range m.Records {
			group, _, _ := strings.Cut(one.Body, ":")
			if running[group] && !mine[group] {
				t.Errorf("%s runs twice at once", group)
			}
			running[group], mine[group] = true, true
		}
		mu.Unlock()
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		broken := map[string]bool{} // a group stops at its first failure, as a function should
		var report []string
		for _, one := range m.Records {
			group, n, _ := strings.Cut(one.Body, ":")
			if broken[group] || n[1] == '3' && !failed[one.Body] {
				broken[group], failed[one.Body] = true, true
				report = append(report, one.Body)
				continue
			}
			seen[group] = append(seen[group], n)
		}
		for group := range mine {
			delete(running, group)
		}
		return []byte(m.report(report...)), nil
	}
	inBubble(t, one(lambdatest.Function{Handler: do}), func(t *testing.T, r *rig) {
		for n := range 20 {
			for _, group := range []string{"a", "b", "c"} {
				r.send("work.fifo", fmt.Sprintf("%s:%02d", group, n))
			}
		}
		r.polled(lambdatest.QueueSource{Queue: "work.fifo", BatchSize: 4, ReportBatchItemFailures: true})
		r.drain()
		for _, group := range []string{"a", "b", "c"} {
			if !slices.IsSorted(seen[group]) || len(seen[group]) != 20 {
				t.Errorf("%s: %v", group, seen[group])
			}
		}
		if stats := r.Stats("f"); stats.MostConcurrent < 2 || stats.MostConcurrent > 3 {
			t.Errorf("%d at once, of three groups", stats.MostConcurrent)
		}
	})
}

// Of a group that does not fit into one event, nothing is tried behind what
// failed.
func TestAFIFOBatchOfTwoEventsEndsWithTheFirstFailure(t *testing.T) {
	var order []string
	do := func(_ context.Context, payload []byte) ([]byte, error) {
		order = append(order, readMessages(string(payload)).Records[0].Body[:3])
		if len(order) == 1 {
			return nil, errBroken
		}
		return nil, nil
	}
	inBubble(t, one(lambdatest.Function{Handler: do}), func(t *testing.T, r *rig) {
		r.send("work.fifo", numbered("a:%d"+strings.Repeat("x", 900_000), 8)...)
		r.polled(lambdatest.QueueSource{Queue: "work.fifo"})
		r.drain()
		if !slices.Equal(order, []string{"a:0", "a:0", "a:6"}) {
			t.Errorf("%v", order)
		}
	})
}

func TestNoMoreBatchesThanTheMaximumConcurrency(t *testing.T) {
	do := func(context.Context, []byte) ([]byte, error) { time.Sleep(time.Second); return nil, nil }
	inBubble(t, one(lambdatest.Function{Handler: do}), func(t *testing.T, r *rig) {
		r.send("work", numbered("%d", 30)...)
		began := time.Now()
		m := r.polled(lambdatest.QueueSource{Queue: "work", BatchSize: 1, MaximumConcurrency: 3})
		r.drain()
		if stats := r.Stats("f"); stats.MostConcurrent != 3 || stats.Invocations != 30 || time.Since(began) != 10*time.Second {
			t.Errorf("%+v in %s", stats, time.Since(began))
		}
		m.Stop()
		r.send("work", "x")
		time.Sleep(time.Minute)
		r.drain() // which does not look at the queue any more
		if stats := r.Stats("f"); stats.Invocations != 30 {
			t.Errorf("%+v after Stop", stats)
		}
	})
}
