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
)

// accept sends an event for later.
func (r *rig) accept(function, payload string) (requestID string) {
	r.t.Helper()
	id, err := r.InvokeAsync(function, []byte(payload))
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// one is a configuration with one function, f.
func one(f lambdatest.Function) lambdatest.Config {
	f.Name = "f"
	f.Aliases = map[string]string{"prod": "7"}
	return lambdatest.Config{Functions: []lambdatest.Function{f}}
}

func TestAnEventThatFailsIsTriedAgainAfterOneAndTwoMinutes(t *testing.T) {
	for retries, want := range map[*int][]time.Duration{
		nil:    {0, time.Minute, 3 * time.Minute},
		new(2): {0, time.Minute, 3 * time.Minute},
		new(1): {0, time.Minute},
		new(0): {0},
	} {
		name := "default"
		if retries != nil {
			name = fmt.Sprint(*retries)
		}
		t.Run(name, func(t *testing.T) {
			var c calls
			inBubble(t, one(lambdatest.Function{Handler: c.handler(fails), Async: lambdatest.Async{MaximumRetryAttempts: retries, DeadLetterQueue: "dead"}}), func(t *testing.T, r *rig) {
				id := r.accept("f:prod", `{"a":1}`)
				r.drain()
				if !slices.Equal(c.when, want) {
					t.Errorf("tried at %v", c.when)
				}
				if slices.ContainsFunc(c.ids, func(other string) bool { return other != id }) {
					t.Errorf("accepted as %s, tried as %v", id, c.ids)
				}
				stats := r.Stats("f")
				if stats.AsyncEventsReceived != 1 || stats.AsyncEventsDropped != 1 || stats.Errors != len(want) || len(r.queues.Messages("dead")) != 1 {
					t.Errorf("%+v", stats)
				}
			})
		})
	}
}

func TestAnEventThatSucceedsAtLastIsNoDeadLetter(t *testing.T) {
	var c calls
	do := c.handler(func(n int, _ string) (string, error) {
		if n < 3 {
			return "", errBroken
		}
		return "null", nil
	})
	config := one(lambdatest.Function{Handler: do, Async: lambdatest.Async{DeadLetterQueue: "dead", OnFailure: "failed"}})
	config.TimeScale = 1.0 / 60
	inBubble(t, config, func(t *testing.T, r *rig) {
		r.accept("f", `{"a":1}`)
		r.drain()
		if want := []time.Duration{0, time.Second, 3 * time.Second}; !slices.Equal(c.when, want) {
			t.Errorf("tried at %v, want %v: the scale is a sixtieth", c.when, want)
		}
		if stats := r.Stats("f"); stats.AsyncEventsDropped != 0 || len(r.queues.Messages("dead"))+len(r.queues.Messages("failed")) != 0 {
			t.Errorf("%+v", stats)
		}
		if age := r.Stats("f").AsyncEventAge; age != 3*time.Second {
			t.Errorf("age %s", age)
		}
	})
}

func TestADeadLetterIsTheEventWithItsError(t *testing.T) {
	for _, test := range []struct {
		name, message, code string
		do                  func(int, string) (string, error)
		fault               *lambdatest.Fault
	}{
		{"a function error", "the sink is broken", "200", fails, nil},
		{"a long one", strings.Repeat("é", 512), "200", func(int, string) (string, error) { return "", fmt.Errorf("%s", strings.Repeat("é", 600)) }, nil},
		{"one that says nothing", "Unhandled", "200", func(int, string) (string, error) { return "", fmt.Errorf("") }, nil},
		{"a character that SQS refuses", "a b", "200", func(int, string) (string, error) { return "", fmt.Errorf("a\x00b") }, nil},
		{"throttled until it was too old", "Rate Exceeded.", "429", succeeds, new(lambdatest.Calls(lambdatest.Throttled))},
	} {
		t.Run(test.name, func(t *testing.T) {
			var c calls
			inBubble(t, one(lambdatest.Function{Handler: c.handler(test.do), Async: lambdatest.Async{DeadLetterQueue: "arn:aws:sqs:us-east-1:123456789012:dead"}}), func(t *testing.T, r *rig) {
				if test.fault != nil {
					r.FailRuns(*test.fault)
				}
				id := r.accept("f", `{ "a": "<b>" }`)
				r.drain()
				letters := r.queues.Messages("dead")
				if len(letters) != 1 {
					t.Fatalf("%d dead letters", len(letters))
				}
				m := letters[0]
				if m.Body != `{ "a": "<b>" }` || len(m.Attributes) != 3 {
					t.Errorf("%+v", m)
				}
				for name, want := range map[string]string{"RequestID": "String " + id, "ErrorCode": "Number " + test.code, "ErrorMessage": "String " + test.message} {
					if a := m.Attributes[name]; a.DataType+" "+a.StringValue != want {
						t.Errorf("%s: %s %q", name, a.DataType, a.StringValue)
					}
				}
			})
		})
	}
}

func TestAnOnFailureRecordHasTheEventAndItsError(t *testing.T) {
	const arn = "arn:aws:lambda:us-east-1:123456789012:function:f:"
	for _, test := range []struct {
		name, function string
		fault          *lambdatest.Fault
		want           string
	}{
		{"retried", "f:prod", nil, `{
			"version":"1.0","timestamp":"2000-01-01T00:03:00.000Z",
			"requestContext":{"requestId":"ID","functionArn":"` + arn + `prod","condition":"RetriesExhausted","approximateInvokeCount":3},
			"requestPayload":{"a":1},
			"responseContext":{"statusCode":200,"executedVersion":"7","functionError":"Unhandled"},
			"responsePayload":{"errorMessage":"the sink is broken","errorType":"*errors.errorString"}}`},
		// Throttled a minute later, and 1, 2, 4 ... 256 seconds after that. The next
		// try, five minutes on, finds it too old.
		{"too old", "f", new(lambdatest.Calls(lambdatest.Throttled).After(1)), `{
			"version":"1.0","timestamp":"2000-01-01T00:14:31.000Z",
			"requestContext":{"requestId":"ID","functionArn":"` + arn + `$LATEST","condition":"EventAgeExceeded","approximateInvokeCount":1},
			"requestPayload":{"a":1},
			"responseContext":{"statusCode":429,"executedVersion":"$LATEST"}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var c calls
			config := one(lambdatest.Function{Handler: c.handler(fails), Async: lambdatest.Async{OnFailure: "failed", MaximumEventAge: 10 * time.Minute}})
			inBubble(t, config, func(t *testing.T, r *rig) {
				if test.fault != nil {
					r.FailRuns(*test.fault)
				}
				id := r.accept(test.function, `{"a":1}`)
				r.drain()
				records := r.queues.Messages("failed")
				if len(records) != 1 {
					t.Fatalf("%d records", len(records))
				}
				if got, want := compact(t, strings.ReplaceAll(records[0].Body, id, "ID")), compact(t, test.want); got != want {
					t.Errorf("%s\nwant %s", got, want)
				}
			})
		})
	}
}

// compact writes JSON with sorted names.
func compact(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err, text)
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func TestAThrottledEventGoesBackUntilItIsTooOld(t *testing.T) {
	var c calls
	config := one(lambdatest.Function{Handler: c.handler(succeeds), Async: lambdatest.Async{DeadLetterQueue: "dead", MaximumEventAge: time.Hour}})
	inBubble(t, config, func(t *testing.T, r *rig) {
		// 1 + 2 + 4 + ... + 256 s, then 5 minutes each.
		trouble := r.FailRuns(lambdatest.Calls(lambdatest.Throttled).Times(10))
		began := time.Now()
		r.accept("f", "{}")
		r.drain()
		if took := time.Since(began); took != 511*time.Second+5*time.Minute || len(c.all()) != 1 {
			t.Errorf("ran %d times after %s", len(c.all()), took)
		}
		trouble.Off()
		trouble = r.FailRuns(lambdatest.Calls(lambdatest.ServiceFailure))
		r.accept("f", "{}")
		r.drain()
		// 9 waits that double, and of 3600-511 s another 11 waits of 5 minutes.
		if trouble.Hits() != 1+9+10 || len(c.all()) != 1 || len(r.queues.Messages("dead")) != 1 {
			t.Errorf("%d hits, %d runs, %d letters", trouble.Hits(), len(c.all()), len(r.queues.Messages("dead")))
		}
		if stats := r.Stats("f"); stats.Throttles != 10 || stats.Refused != 20 || stats.AsyncEventsDropped != 1 || stats.Invocations != 1 {
			t.Errorf("%+v", stats)
		}
	})
}

func TestRefusalsDoNotUseUpTheRetries(t *testing.T) {
	var c calls
	inBubble(t, one(lambdatest.Function{Handler: c.handler(fails)}), func(t *testing.T, r *rig) {
		r.FailRuns(lambdatest.Calls(lambdatest.Throttled).When(func(n int) bool { return n%2 == 1 }))
		r.accept("f", "{}")
		r.drain()
		// Each attempt is throttled once, which costs a second.
		if want := []time.Duration{0, 61 * time.Second, 182 * time.Second}; !slices.Equal(c.when, want) {
			t.Errorf("ran at %v, want %v", c.when, want)
		}
	})
}

func TestWhatCannotBeWrittenDownIsLostAndCounted(t *testing.T) {
	var c calls
	config := one(lambdatest.Function{Handler: c.handler(fails), Async: lambdatest.Async{DeadLetterQueue: "none", OnFailure: "none", MaximumRetryAttempts: new(0)}})
	inBubble(t, config, func(t *testing.T, r *rig) {
		r.accept("f", "{}")
		r.drain()
		if stats := r.Stats("f"); stats.DeadLetterErrors != 1 || stats.DestinationDeliveryFailures != 1 || stats.AsyncEventsDropped != 1 {
			t.Errorf("%+v", stats)
		}
	})
	// 1 MiB is an event, and with its attributes no message.
	config = one(lambdatest.Function{Handler: c.handler(fails), Async: lambdatest.Async{DeadLetterQueue: "dead", MaximumRetryAttempts: new(0)}})
	t.Run("too large", func(t *testing.T) {
		inBubble(t, config, func(t *testing.T, r *rig) {
			r.accept("f", `"`+strings.Repeat("x", 1<<20-2)+`"`)
			r.drain()
			if stats := r.Stats("f"); stats.DeadLetterErrors != 1 {
				t.Errorf("%+v", stats)
			}
		})
	})
}

func TestEventsAreRunInOrderOnlyOneAtATime(t *testing.T) {
	sent := numbered("%d", 200)
	run := func(t *testing.T, a lambdatest.Async, check func(seen []string)) {
		t.Run(fmt.Sprintf("%+v", a), func(t *testing.T) {
			var c calls
			inBubble(t, one(lambdatest.Function{Handler: c.handler(succeeds), Async: a}), func(t *testing.T, r *rig) {
				r.FailRuns(lambdatest.Calls(lambdatest.Throttled).Times(1)) // the first comes back a second later
				for _, payload := range sent {
					r.accept("f", payload)
				}
				r.drain()
				check(c.all())
			})
		})
	}
	run(t, lambdatest.Async{Concurrency: 1}, func(seen []string) {
		if want := append(slices.Clone(sent[1:]), "0"); !slices.Equal(seen, want) {
			t.Errorf("ran %v", seen)
		}
	})
	run(t, lambdatest.Async{Concurrency: 1, Shuffle: true}, func(seen []string) {
		moved := 0
		for i := range seen[:len(seen)-1] {
			if seen[i] > seen[i+1] {
				moved++
			}
		}
		if slices.Sort(seen); moved < len(sent)/4 || len(slices.Compact(seen)) != len(sent) {
			t.Errorf("%d steps back in %d", moved, len(seen))
		}
	})
	run(t, lambdatest.Async{DuplicateEvery: 4}, func(seen []string) {
		slices.Sort(seen)
		if len(seen) != 250 || len(slices.Compact(seen)) != len(sent) {
			t.Errorf("%d runs", len(seen))
		}
	})
}

func TestADuplicateHasTheRequestIDOfItsTwin(t *testing.T) {
	var c calls
	inBubble(t, one(lambdatest.Function{Handler: c.handler(succeeds), Async: lambdatest.Async{DuplicateEvery: 1}}), func(t *testing.T, r *rig) {
		id := r.accept("f", "{}")
		r.drain()
		if !slices.Equal(c.ids, []string{id, id}) || r.Stats("f").AsyncEventsReceived != 1 {
			t.Errorf("accepted %s, ran %v", id, c.ids)
		}
	})
}

func TestTheQueueRunsNoMoreThanItsConcurrency(t *testing.T) {
	var mu sync.Mutex
	running, most, total := 0, 0, 0
	do := func(context.Context, []byte) ([]byte, error) {
		mu.Lock()
		running++
		total++
		most = max(most, running)
		mu.Unlock()
		time.Sleep(time.Second)
		mu.Lock()
		running--
		mu.Unlock()
		return nil, nil
	}
	inBubble(t, one(lambdatest.Function{Handler: do, Concurrency: 8, Async: lambdatest.Async{Concurrency: 3}}), func(t *testing.T, r *rig) {
		began := time.Now()
		for range 30 {
			r.accept("f", "{}")
		}
		r.drain()
		if took := time.Since(began); most != 3 || total != 30 || took != 10*time.Second {
			t.Errorf("%d in all, %d at once, in %s", total, most, took)
		}
		if stats := r.Stats("f"); stats.MostConcurrent != 3 || stats.ColdStarts != 3 || stats.Throttles != 0 {
			t.Errorf("%+v", stats)
		}
	})
}

// An environment that dies under its event, before it or with the answer: the
// queue cannot know, and tries again.
func TestAnEventWhoseEnvironmentDiesIsTriedAgain(t *testing.T) {
	for at, ran := range map[lambdatest.Stage]int{lambdatest.BeforeRunning: 1, lambdatest.AfterRunning: 2} {
		t.Run(fmt.Sprint(ran), func(t *testing.T) {
			var c calls
			inBubble(t, one(lambdatest.Function{Handler: c.handler(succeeds)}), func(t *testing.T, r *rig) {
				r.FailRuns(lambdatest.Crash(at).On("f").Times(1))
				r.accept("f", "{}")
				r.drain()
				stats := r.Stats("f")
				if len(c.all()) != ran || stats.Invocations != 2 || stats.Errors != 1 || stats.AsyncEventsDropped != 0 || stats.ColdStarts != 2 {
					t.Errorf("it ran %d times, %+v", len(c.all()), stats)
				}
			})
		})
	}
}

func TestWhatWasAcceptedRunsWhileTheEndpointIsDown(t *testing.T) {
	var c calls
	inBubble(t, one(lambdatest.Function{Handler: c.handler(func(n int, _ string) (string, error) {
		if n == 1 {
			return "", errBroken
		}
		return "null", nil
	})}), func(t *testing.T, r *rig) {
		if a := r.call(invocationsOf("f"), "Event", "{}"); a.status != 202 {
			t.Fatal(a)
		}
		r.Stop()
		if a := r.call(invocationsOf("f"), "Event", "{}"); a.err == nil {
			t.Errorf("%d while it is down", a.status)
		}
		r.drain()
		if len(c.all()) != 2 {
			t.Errorf("ran %d times", len(c.all()))
		}
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		if a := r.call(invocationsOf("f"), "Event", "{}"); a.status != 202 {
			t.Error(a)
		}
		r.drain()
		if calls := r.Traffic().Calls["f"]; len(c.all()) != 3 || calls != 2 {
			t.Errorf("ran %d times after %d calls", len(c.all()), calls)
		}
	})
}
