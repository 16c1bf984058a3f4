package lambdatest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// Async is what is done with a function's asynchronous invocations: DeadLetter-
// Config and EventInvokeConfig, and what AWS does not let one choose.
type Async struct {
	// MaximumRetryAttempts is how often an event is tried again after a function
	// error, 0 to 2: after one minute and then after two. Nil is 2. Throttled
	// and refused runs do not count.
	MaximumRetryAttempts *int
	// MaximumEventAge is how long an event is kept. Default and most 6 hours.
	// AWS takes no less than a minute; a test may.
	MaximumEventAge time.Duration
	// DeadLetterQueue is the name or ARN of a standard queue for events that are
	// given up: the event as it was, with RequestID, ErrorCode and ErrorMessage
	// as attributes. Default none.
	DeadLetterQueue string
	// OnFailure is the name or ARN of a standard queue for a record of the event
	// and of what failed. Default none.
	OnFailure string

	// Concurrency is the most events that are tried at once. Default the
	// function's: then the queue alone is never throttled.
	Concurrency int
	// Shuffle takes events from the queue in any order, which AWS may do;
	// without it they are taken in theirs.
	Shuffle bool
	// DuplicateEvery delivers each so manieth event twice, as AWS may, with the
	// same request id. Default never.
	DuplicateEvery int
}

// Waits of the queue. Source: developer guide, "How Lambda handles errors and
// retries with asynchronous invocation".
var afterError = []time.Duration{time.Minute, 2 * time.Minute}

const (
	maxEventAge       = 6 * time.Hour
	minBackoff        = time.Second // after the first refusal; it doubles
	maxBackoff        = 5 * time.Minute
	maxErrorAttribute = 1024 // bytes of ErrorMessage
)

func (a *Async) settle(f *Function) error {
	retries := len(afterError)
	if a.MaximumRetryAttempts != nil {
		retries = *a.MaximumRetryAttempts
	}
	a.MaximumRetryAttempts = &retries
	a.MaximumEventAge = cmp.Or(a.MaximumEventAge, maxEventAge)
	a.Concurrency = cmp.Or(a.Concurrency, f.Concurrency)
	switch {
	case retries < 0 || retries > len(afterError):
		return fmt.Errorf("function %s: %d retries are not 0 to %d", f.Name, retries, len(afterError))
	case a.MaximumEventAge < 0 || a.MaximumEventAge > maxEventAge:
		return fmt.Errorf("function %s: an event age of %s is not within 6 hours", f.Name, a.MaximumEventAge)
	case a.Concurrency < 0 || a.DuplicateEvery < 0:
		return fmt.Errorf("function %s: concurrency %d, duplicate every %d", f.Name, a.Concurrency, a.DuplicateEvery)
	}
	for _, queue := range []string{a.DeadLetterQueue, a.OnFailure} {
		if strings.HasSuffix(queue, ".fifo") {
			return fmt.Errorf("function %s: %s is no standard queue", f.Name, queue)
		}
	}
	return nil
}

// event is one that was accepted for later.
type event struct {
	qualifier, id string
	payload       []byte
	at            time.Time // it was accepted
	runs          int       // that ended in an error
	refusals      int       // since the last run
	response      Response  // of the last run
	refusal       *Error    // of the last try, if it did not run
}

// eventQueue is the queue of a function's asynchronous events.
type eventQueue struct {
	*function
	random *rand.Rand

	mu       sync.Mutex // guards what follows
	ready    []*event
	head     int // of ready
	waiting  map[*event]*time.Timer
	workers  int
	accepted int
}

func newEventQueue(f *function) (*eventQueue, error) {
	if f.server.config.Queues == nil && f.Async.DeadLetterQueue+f.Async.OnFailure != "" {
		return nil, fmt.Errorf("function %s names a queue, and there are no Queues", f.Name)
	}
	return &eventQueue{function: f, random: rand.New(rand.NewPCG(1, 2)), waiting: map[*event]*time.Timer{}}, nil
}

// accept takes an event over.
func (q *eventQueue) accept(qualifier, id string, payload []byte) {
	q.count(func(s *Stats) { s.AsyncEventsReceived++ })
	q.mu.Lock()
	defer q.mu.Unlock()
	q.accepted++
	times := 1
	if n := q.Async.DuplicateEvery; n > 0 && q.accepted%n == 0 {
		times = 2
	}
	q.server.note(times)
	for range times {
		q.push(&event{qualifier: qualifier, id: id, payload: payload, at: time.Now()})
	}
}

// push makes an event ready, and has somebody run it. q.mu is held.
func (q *eventQueue) push(e *event) {
	q.ready = append(q.ready, e)
	if q.workers < q.Async.Concurrency && q.server.spawn(q.work) {
		q.workers++
	}
}

// pop takes the next event, nil if there is none: then the worker ends.
func (q *eventQueue) pop() *event {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.ready) - q.head
	if n == 0 || q.server.ctx.Err() != nil {
		q.workers--
		return nil
	}
	if q.Async.Shuffle {
		at := q.head + q.random.IntN(n)
		q.ready[q.head], q.ready[at] = q.ready[at], q.ready[q.head]
	}
	e := q.ready[q.head]
	q.ready[q.head] = nil
	if q.head++; q.head > len(q.ready)/2 {
		q.ready = q.ready[:copy(q.ready, q.ready[q.head:])]
		q.head = 0
	}
	return e
}

// wait makes an event ready later.
func (q *eventQueue) wait(e *event, d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting[e] = time.AfterFunc(q.server.scaled(d), func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.waiting, e)
		q.push(e)
	})
}

// stop ends all waiting.
func (q *eventQueue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, timer := range q.waiting {
		timer.Stop()
	}
}

// work runs events until there are none.
func (q *eventQueue) work() {
	for e := q.pop(); e != nil; e = q.pop() {
		if q.try(e) {
			q.server.note(-1)
		}
	}
}

// try runs an event, and reports whether that was the end of it.
func (q *eventQueue) try(e *event) (over bool) {
	age := time.Since(e.at)
	if age >= q.Async.MaximumEventAge {
		q.drop(e, "EventAgeExceeded")
		return true
	}
	q.count(func(s *Stats) { s.AsyncEventAge = max(s.AsyncEventAge, age) })
	e.response, e.refusal = q.invoke(e.qualifier, e.id, e.payload)
	switch {
	case e.refusal == closing:
		return true
	case e.refusal != nil:
		e.refusals++
		q.wait(e, backoff(minBackoff, maxBackoff, e.refusals))
		return false
	case e.response.FunctionError == "":
		return true
	}
	e.runs++
	e.refusals = 0
	if e.runs > *q.Async.MaximumRetryAttempts {
		q.drop(e, "RetriesExhausted")
		return true
	}
	q.wait(e, afterError[e.runs-1])
	return false
}

// backoff is the n-th of waits that double, from a first to a last.
func backoff(first, last time.Duration, n int) time.Duration {
	for ; n > 1 && first < last; n-- {
		first *= 2
	}
	return min(first, last)
}

// drop gives an event up: what is written nowhere is lost.
func (q *eventQueue) drop(e *event, condition string) {
	q.count(func(s *Stats) { s.AsyncEventsDropped++ })
	if queue := q.Async.DeadLetterQueue; queue != "" {
		if _, err := q.server.config.Queues.Send(queue, e.deadLetter()); err != nil {
			q.count(func(s *Stats) { s.DeadLetterErrors++ })
		}
	}
	if queue := q.Async.OnFailure; queue != "" {
		if err := q.server.send(queue, q.record(e, condition)); err != nil {
			q.count(func(s *Stats) { s.DestinationDeliveryFailures++ })
		}
	}
}
