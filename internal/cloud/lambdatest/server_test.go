package lambdatest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv("BOOTSTRAP"); kind != "" {
		bootstrap(kind) // this is a function now; it does not return
	}
	os.Exit(m.Run())
}

// rig is a Lambda with what stands around it, in a bubble.
type rig struct {
	*lambdatest.Server
	t       testing.TB
	queues  *sqstest.Server
	streams *kinesistest.Server
	http    *http.Client
}

// inBubble runs a test whose time is synctest's. There are the queues dead,
// failed, work and work.fifo, and the stream events of two shards.
func inBubble(t *testing.T, c lambdatest.Config, test func(t *testing.T, r *rig)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{
			t: t,
			queues: sqstest.New(t, sqstest.Config{InMemory: true, Queues: []sqstest.Queue{
				{Name: "dead"}, {Name: "failed"}, {Name: "work", MaxReceives: 3, DeadLetterQueue: "dead"},
				{Name: "work.fifo", ContentDeduplication: true},
			}}),
			streams: kinesistest.New(t, kinesistest.Config{InMemory: true, Streams: []kinesistest.Stream{{Name: "events", Shards: 2}}}),
		}
		c.InMemory = true
		c.Queues = r.queues
		r.Server = lambdatest.New(t, c)
		r.http = r.Client()
		t.Cleanup(r.http.CloseIdleConnections)
		test(t, r)
	})
}

// drain waits until there is nothing to do.
func (r *rig) drain() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 24*time.Hour)
	defer cancel()
	if err := r.Drain(ctx); err != nil {
		r.t.Fatal("drain:", err)
	}
}

// answer is what the Invoke endpoint said.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

// call calls the endpoint as the SDK does.
func (r *rig) call(path, kind, payload string) answer {
	return r.callWith(r.t.Context(), path, kind, payload)
}

func (r *rig) callWith(ctx context.Context, path, kind, payload string) answer {
	r.t.Helper()
	return post(ctx, r.t, r.http, r.URL()+path, kind, payload)
}

func post(ctx context.Context, t testing.TB, c *http.Client, url, kind, payload string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	sign(request, "lambda", "us-east-1", time.Now())
	if kind != "" {
		request.Header.Set("X-Amz-Invocation-Type", kind)
	}
	resp, err := c.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body), err}
}

func sign(r *http.Request, service, region string, at time.Time) {
	at = at.UTC()
	r.Header.Set("X-Amz-Date", at.Format("20060102T150405Z"))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"+at.Format("20060102")+"/"+region+"/"+service+
		"/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0a", 32))
}

// invocationsOf is the path of a function's Invoke.
func invocationsOf(name string) string { return "/2015-03-31/functions/" + name + "/invocations" }

// calls is a handler's memory of what it was called with.
type calls struct {
	mu    sync.Mutex
	began time.Time
	seen  []string
	when  []time.Duration // since began
	ids   []string
}

func (c *calls) add(ctx context.Context, payload string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began.IsZero() {
		c.began = time.Now()
	}
	c.seen = append(c.seen, payload)
	c.when = append(c.when, time.Since(c.began))
	c.ids = append(c.ids, lambdatest.InvocationOf(ctx).RequestID)
	return len(c.seen)
}

func (c *calls) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.seen)
}

// handler is one that remembers, and does what the test says.
func (c *calls) handler(do func(n int, payload string) (string, error)) lambdatest.Handler {
	return func(ctx context.Context, payload []byte) ([]byte, error) {
		out, err := do(c.add(ctx, string(payload)), string(payload))
		return []byte(out), err
	}
}

var errBroken = errors.New("the sink is broken")

func fails(int, string) (string, error)    { return "", errBroken }
func succeeds(int, string) (string, error) { return "null", nil }

func TestConfigurationsThatAreNone(t *testing.T) {
	t.Parallel()
	handler := func(context.Context, []byte) ([]byte, error) { return nil, nil }
	for name, f := range map[string]lambdatest.Function{
		"no name":                   {Handler: handler},
		"a name with a space":       {Name: "a b", Handler: handler},
		"nothing to run":            {Name: "f"},
		"two things to run":         {Name: "f", Handler: handler, Bootstrap: "/bin/true"},
		"a timeout of an hour":      {Name: "f", Handler: handler, Timeout: time.Hour},
		"a number for an alias":     {Name: "f", Handler: handler, Aliases: map[string]string{"7": "1"}},
		"an alias of no version":    {Name: "f", Handler: handler, Aliases: map[string]string{"prod": "beta"}},
		"concurrency below zero":    {Name: "f", Handler: handler, Concurrency: -1},
		"three retries":             {Name: "f", Handler: handler, Async: lambdatest.Async{MaximumRetryAttempts: new(3)}},
		"an event age of a day":     {Name: "f", Handler: handler, Async: lambdatest.Async{MaximumEventAge: 24 * time.Hour}},
		"a FIFO dead letter queue":  {Name: "f", Handler: handler, Async: lambdatest.Async{DeadLetterQueue: "work.fifo"}},
		"a queue without Queues":    {Name: "f", Handler: handler, Async: lambdatest.Async{OnFailure: "failed"}},
		"duplicates below zero":     {Name: "f", Handler: handler, Async: lambdatest.Async{DuplicateEvery: -1}},
		"fewer than no retries":     {Name: "f", Handler: handler, Async: lambdatest.Async{MaximumRetryAttempts: new(-1)}},
		"an event age of less than": {Name: "f", Handler: handler, Async: lambdatest.Async{MaximumEventAge: -1}},
	} {
		if s, err := lambdatest.Open(lambdatest.Config{InMemory: true, Functions: []lambdatest.Function{f}}); err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		}
	}
	f := lambdatest.Function{Name: "f", Handler: handler}
	if _, err := lambdatest.Open(lambdatest.Config{InMemory: true, Functions: []lambdatest.Function{f, f}}); err == nil {
		t.Error("the same function twice: no error")
	}
}

func TestMappingsThatAreNone(t *testing.T) {
	var c calls
	inBubble(t, lambdatest.Config{Functions: []lambdatest.Function{{Name: "f", Handler: c.handler(succeeds)}}}, func(t *testing.T, r *rig) {
		for name, change := range map[string]func(*lambdatest.KinesisSource){
			"no function":              func(k *lambdatest.KinesisSource) { k.Function = "g" },
			"no server":                func(k *lambdatest.KinesisSource) { k.Server = nil },
			"no stream":                func(k *lambdatest.KinesisSource) { k.Stream = "none" },
			"a batch of 10,001":        func(k *lambdatest.KinesisSource) { k.BatchSize = 10001 },
			"eleven at once":           func(k *lambdatest.KinesisSource) { k.ParallelizationFactor = 11 },
			"a window of ten minutes":  func(k *lambdatest.KinesisSource) { k.MaximumBatchingWindow = 10 * time.Minute },
			"10,001 retries":           func(k *lambdatest.KinesisSource) { k.MaximumRetryAttempts = new(10001) },
			"a FIFO queue for failure": func(k *lambdatest.KinesisSource) { k.OnFailure = "work.fifo" },
			"a position of none":       func(k *lambdatest.KinesisSource) { k.StartingPosition = "OLDEST" },
		} {
			k := lambdatest.KinesisSource{Function: "f", Server: r.streams, Stream: "events"}
			change(&k)
			if _, err := r.MapKinesis(k); err == nil {
				t.Errorf("a stream, %s: no error", name)
			}
		}
		for name, q := range map[string]lambdatest.QueueSource{
			"no function":              {Function: "g", Queue: "work"},
			"eleven without a window":  {Function: "f", Queue: "work", BatchSize: 11},
			"10,001":                   {Function: "f", Queue: "work", BatchSize: 10001, MaximumBatchingWindow: time.Second},
			"FIFO, eleven":             {Function: "f", Queue: "work.fifo", BatchSize: 11, MaximumBatchingWindow: time.Second},
			"FIFO, with a window":      {Function: "f", Queue: "work.fifo", MaximumBatchingWindow: time.Second},
			"a window of ten minutes":  {Function: "f", Queue: "work", MaximumBatchingWindow: 10 * time.Minute},
			"1,001 at once":            {Function: "f", Queue: "work", MaximumConcurrency: 1001},
			"a batch of fewer than no": {Function: "f", Queue: "work", BatchSize: -1},
		} {
			if _, err := r.MapQueue(q); err == nil {
				t.Errorf("a queue, %s: no error", name)
			}
		}
	})
}

func TestAFunctionIsFoundByEachOfItsNames(t *testing.T) {
	var c calls
	arns := lambdatest.Config{Functions: []lambdatest.Function{{
		Name: "router", Aliases: map[string]string{"prod": "7"},
		Handler: func(ctx context.Context, _ []byte) ([]byte, error) {
			c.add(ctx, lambdatest.InvocationOf(ctx).FunctionARN)
			return nil, nil
		},
	}}}
	inBubble(t, arns, func(t *testing.T, r *rig) {
		const arn = "arn:aws:lambda:us-east-1:123456789012:function:router"
		for name, want := range map[string]struct{ arn, version string }{
			"router":                            {arn, "$LATEST"},
			"router:$LATEST":                    {arn + ":$LATEST", "$LATEST"},
			"router:prod":                       {arn + ":prod", "7"},
			"router:7":                          {arn + ":7", "7"},
			arn:                                 {arn, "$LATEST"},
			arn + ":prod":                       {arn + ":prod", "7"},
			"123456789012:function:router:prod": {arn + ":prod", "7"},
		} {
			got, err := r.Invoke(name, nil)
			if err != nil {
				t.Fatal(name, err)
			}
			if seen := c.all(); got.Version != want.version || seen[len(seen)-1] != want.arn || string(got.Payload) != "null" {
				t.Errorf("%s: version %s as %s, payload %s", name, got.Version, seen[len(seen)-1], got.Payload)
			}
		}
		for _, name := range []string{
			"", "rooter", "router:", "router:beta", "router:8", "router:prod:7", arn + "s",
			"arn:aws:lambda:eu-west-1:123456789012:function:router", "arn:aws:lambda:us-east-1:210987654321:function:router",
		} {
			var no *lambdatest.Error
			if _, err := r.Invoke(name, nil); !errors.As(err, &no) || no.Code != "ResourceNotFoundException" || no.Status != 404 {
				t.Errorf("%q: %v", name, err)
			}
			if _, err := r.InvokeAsync(name, nil); !errors.As(err, &no) || no.Code != "ResourceNotFoundException" {
				t.Errorf("%q, asynchronously: %v", name, err)
			}
		}
		if r.Stats("rooter").Invocations != 0 || r.Log("rooter") != "" {
			t.Error("a function that there is not has done something")
		}
	})
}

func TestAFunctionErrorSaysWhatWentWrong(t *testing.T) {
	do := func(ctx context.Context, payload []byte) ([]byte, error) {
		switch string(payload) {
		case `"error"`:
			return nil, errBroken
		case `"panic"`:
			panic("no such table")
		case `"hang"`:
			<-ctx.Done()
			return nil, ctx.Err()
		case `"large"`:
			return make([]byte, 6<<20+1), nil
		}
		return payload, nil
	}
	inBubble(t, lambdatest.Config{Functions: []lambdatest.Function{{Name: "f", Timeout: 5 * time.Second, Handler: do}}}, func(t *testing.T, r *rig) {
		for payload, want := range map[string]string{
			`"error"`: `{"errorMessage":"the sink is broken","errorType":"*errors.errorString"}`,
			`"panic"`: `{"errorMessage":"no such table","errorType":"Runtime.Panic"}`,
			`"hang"`:  `{"errorMessage":"RequestId: ID Error: Task timed out after 5.00 seconds","errorType":"Sandbox.Timedout"}`,
			`"large"`: `{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291456 bytes).","errorType":"Function.ResponseSizeTooLarge"}`,
		} {
			got, err := r.Invoke("f", []byte(payload))
			if err != nil {
				t.Fatal(payload, err)
			}
			if text := strings.ReplaceAll(string(got.Payload), got.RequestID, "ID"); text != want || got.FunctionError != "Unhandled" {
				t.Errorf("%s: %s, %s", payload, text, got.FunctionError)
			}
		}
		if got, err := r.Invoke("f", []byte(`{"a":1}`)); err != nil || got.FunctionError != "" || string(got.Payload) != `{"a":1}` {
			t.Errorf("%+v, %v", got, err)
		}
		stats := r.Stats("f")
		if stats.Invocations != 5 || stats.Errors != 4 || stats.Timeouts != 1 {
			t.Errorf("%+v", stats)
		}
		// One after another: the panic and the timeout cost an environment each.
		if stats.ColdStarts < 2 || stats.ColdStarts > 3 {
			t.Errorf("%d cold starts", stats.ColdStarts)
		}
		if !strings.Contains(r.Log("f"), "panic: no such table") {
			t.Errorf("log: %s", r.Log("f"))
		}
	})
}

func TestMoreThanTheConcurrencyIsThrottled(t *testing.T) {
	release := make(chan struct{})
	var entered sync.WaitGroup
	do := func(context.Context, []byte) ([]byte, error) {
		entered.Done()
		<-release
		return nil, nil
	}
	c := lambdatest.Config{Functions: []lambdatest.Function{{Name: "f", Concurrency: 2, Timeout: time.Minute, Handler: do}}}
	t.Parallel()
	s := lambdatest.New(t, c)
	entered.Add(2)
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			if _, err := s.Invoke("f", nil); err != nil {
				t.Error(err)
			}
		})
	}
	entered.Wait()
	if _, err := s.Invoke("f", nil); !errors.Is(err, lambdatest.Throttled) {
		t.Errorf("a third: %v", err)
	}
	close(release)
	running.Wait()
	entered.Add(1)
	if _, err := s.Invoke("f", nil); err != nil {
		t.Error(err)
	}
	if stats := s.Stats("f"); stats.ColdStarts != 2 || stats.Throttles != 1 || stats.MostConcurrent != 2 || stats.Invocations != 3 {
		t.Errorf("%+v", stats)
	}
}

// What stands behind a Close: a hanging call, a hanging function, an event that
// waits for its second attempt, mappings that wait.
func TestCloseEndsEverything(t *testing.T) {
	do := func(ctx context.Context, payload []byte) ([]byte, error) {
		if string(payload) == `"fail"` {
			return nil, errBroken
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	inBubble(t, lambdatest.Config{Functions: []lambdatest.Function{{Name: "f", Timeout: time.Minute, Handler: do}}}, func(t *testing.T, r *rig) {
		for _, payload := range []string{`"fail"`, `"hang"`} {
			if _, err := r.InvokeAsync("f", []byte(payload)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.MapKinesis(lambdatest.KinesisSource{Function: "f", Server: r.streams, Stream: "events"}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.MapQueue(lambdatest.QueueSource{Function: "f", Queue: "work"}); err != nil {
			t.Fatal(err)
		}
		r.Fail(lambdatest.Hang(lambdatest.BeforeAccepting))
		var hanging sync.WaitGroup
		hanging.Go(func() {
			if a := r.call(invocationsOf("f"), "Event", "{}"); a.err == nil {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
		hanging.Go(func() {
			if err := r.Drain(t.Context()); err == nil {
				t.Error("drained")
			}
		})
		hanging.Go(func() {
			if _, err := r.Invoke("f", []byte(`"hang"`)); err == nil {
				t.Error("a function that was cut has a response")
			}
		})
		synctest.Wait()
		r.Close()
		hanging.Wait()
		if _, err := r.Invoke("f", nil); err == nil {
			t.Error("a function runs after Close")
		}
		if a := r.call(invocationsOf("f"), "Event", "{}"); a.err == nil {
			t.Errorf("%d %s", a.status, a.body)
		}
		if err := r.CreateFunction(lambdatest.Function{Name: "g", Handler: do}); err == nil {
			t.Error("a function was created after Close")
		}
		r.Close()
	})
}

func numbered(format string, n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf(format, i))
	}
	return out
}
