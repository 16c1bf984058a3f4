package lambdatest

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// QueueSource is a mapping from an SQS queue to a function. Its settings are
// those of CreateEventSourceMapping. The queue is one of Config.Queues.
type QueueSource struct {
	// Function is its name, with a qualifier if there is one, or its ARN.
	Function string
	// Queue is its name or ARN.
	Queue string
	// BatchSize is the most messages of an invocation. Default 10, at most
	// 10,000, and more than ten only with a batching window and not of a FIFO
	// queue. An event has at most 6 MiB, whatever it says.
	BatchSize int
	// MaximumBatchingWindow is how long the first message of a batch waits for
	// others. Default 0, at most 5 minutes, not for a FIFO queue.
	MaximumBatchingWindow time.Duration
	// MaximumConcurrency is how many batches are under way at once. Default the
	// function's. (AWS takes no less than 2; a test may.)
	MaximumConcurrency int
	// ReportBatchItemFailures reads the function's answer: messages that are not
	// named there are done.
	ReportBatchItemFailures bool
}

func (c *QueueSource) settle(s *Server) error {
	c.BatchSize = cmp.Or(c.BatchSize, maxSmallBatch)
	fifo := strings.HasSuffix(c.Queue, ".fifo")
	switch {
	case s.config.Queues == nil:
		return fmt.Errorf("there is no queue %q", c.Queue)
	case c.BatchSize < 1 || c.BatchSize > maxQueueBatch || fifo && c.BatchSize > maxFIFOBatch:
		return fmt.Errorf("a batch size of %d is not 1 to %d, or to %d of a FIFO queue", c.BatchSize, maxQueueBatch, maxFIFOBatch)
	case c.BatchSize > maxSmallBatch && c.MaximumBatchingWindow == 0:
		return fmt.Errorf("a batch size of %d needs a batching window", c.BatchSize)
	case c.MaximumBatchingWindow < 0 || c.MaximumBatchingWindow > maxWindow || fifo && c.MaximumBatchingWindow != 0:
		return fmt.Errorf("a batching window of %s is not within %s, or not for a FIFO queue", c.MaximumBatchingWindow, maxWindow)
	case c.MaximumConcurrency < 0 || c.MaximumConcurrency > maxConcurrency:
		return fmt.Errorf("a concurrency of %d is not 1 to %d", c.MaximumConcurrency, maxConcurrency)
	}
	return nil
}

// MapQueue starts to invoke a function with the messages of a queue.
func (s *Server) MapQueue(c QueueSource) (*Mapping, error) {
	if err := c.settle(s); err != nil {
		return nil, err
	}
	m, err := s.newMapping(c.Function)
	if err != nil {
		return nil, err
	}
	p := &poller{Mapping: m, target: m.target, QueueSource: c, queues: s.config.Queues}
	p.arn = p.queues.ARN(c.Queue)
	p.slots = make(chan struct{}, cmp.Or(c.MaximumConcurrency, m.target.Concurrency))
	return m, m.start(p.idle, p.run)
}

// poller reads a queue.
type poller struct {
	*Mapping
	target
	QueueSource
	queues *sqstest.Server
	arn    string
	slots  chan struct{} // of batches that are under way

	mu     sync.Mutex // guards what follows
	parked bool       // it waits for messages
	active int        // batches
}

func (p *poller) run() {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case p.slots <- struct{}{}:
		case <-p.ctx.Done():
			return
		}
		batch, err := p.gather()
		if err != nil {
			return // it was stopped, or the queue is gone
		}
		p.change(func() { p.active++ })
		running.Go(func() {
			p.deliver(batch)
			<-p.slots
			p.change(func() { p.active-- })
		})
	}
}

func (p *poller) change(what func()) {
	p.mu.Lock()
	what()
	p.mu.Unlock()
	p.server.note(0)
}

func (p *poller) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.parked && p.active == 0 && len(p.queues.Messages(p.Queue)) == 0
}

// gather waits for a batch.
func (p *poller) gather() (batch []sqstest.Received, err error) {
	for len(batch) == 0 {
		p.change(func() { p.parked = true })
		err := p.queues.Wait(p.ctx, p.Queue)
		p.change(func() { p.parked = false })
		if err != nil {
			return nil, err
		}
		batch = p.queues.Receive(p.Queue, p.BatchSize, 0) // another may have been faster
	}
	if p.MaximumBatchingWindow == 0 {
		return batch, nil
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.MaximumBatchingWindow)
	defer cancel()
	for len(batch) < p.BatchSize && p.queues.Wait(ctx, p.Queue) == nil {
		batch = append(batch, p.queues.Receive(p.Queue, p.BatchSize-len(batch), 0)...)
	}
	return batch, nil
}

// deliver invokes the function with a batch: once, or several times if it does
// not fit into one event. What is not done stays in the queue, and comes back
// when it is visible again.
func (p *poller) deliver(batch []sqstest.Received) {
	for len(batch) > 0 && p.ctx.Err() == nil {
		n, payload := p.event(batch)
		done := p.try(batch[:n], payload)
		if done < n && strings.HasSuffix(p.Queue, ".fifo") {
			return // what follows may be of the same group
		}
		batch = batch[n:]
	}
}

// try invokes the function, deletes the messages that are done, and returns how
// many those are. While it is throttled it tries again, as long as the messages
// are its own.
func (p *poller) try(batch []sqstest.Received, payload []byte) (done int) {
	until := batch[0].VisibleAt
	for refusals := 1; ; refusals++ {
		r, no := p.invoke(p.qualifier, uuid(), payload)
		if no == nil {
			return p.conclude(batch, r)
		}
		wait := backoff(minBackoff, maxBackoff, refusals)
		if !time.Now().Add(p.server.scaled(wait)).Before(until) || p.pause(wait) != nil {
			return 0
		}
	}
}

// conclude deletes what a function has done.
func (p *poller) conclude(batch []sqstest.Received, r Response) (done int) {
	if r.FunctionError != "" {
		return 0
	}
	failed := map[string]bool{}
	if p.ReportBatchItemFailures {
		ids, err := itemFailures(r.Payload)
		if err != nil {
			return 0
		}
		for _, id := range ids {
			failed[id] = true
		}
	}
	known := 0
	for _, m := range batch {
		if failed[m.ID] {
			known++
		}
	}
	if known < len(failed) {
		return 0 // it names a message that there is not
	}
	for _, m := range batch {
		if !failed[m.ID] {
			// If it is not its own any more, somebody has it again: twice.
			_ = p.queues.Delete(p.Queue, m.Receipt)
			done++
		}
	}
	return done
}

// message is one as it stands in an event. Source: developer guide, "Using
// Lambda with Amazon SQS"; aws-lambda-go, events.SQSMessage.
type message struct {
	ID              string               `json:"messageId"`
	Receipt         string               `json:"receiptHandle"`
	Body            string               `json:"body"`
	System          map[string]string    `json:"attributes"`
	Attributes      map[string]attribute `json:"messageAttributes"`
	MD5OfBody       string               `json:"md5OfBody"`
	MD5OfAttributes string               `json:"md5OfMessageAttributes,omitempty"`
	Source          string               `json:"eventSource"`
	SourceARN       string               `json:"eventSourceARN"`
	Region          string               `json:"awsRegion"`
}

type attribute struct {
	String   string   `json:"stringValue,omitempty"`
	Binary   string   `json:"binaryValue,omitempty"` // base64
	Strings  []string `json:"stringListValues"`      // never any
	Binaries []string `json:"binaryListValues"`      // never any
	Type     string   `json:"dataType"`
}

// event returns the event of the first messages, at least one, that fit.
func (p *poller) event(batch []sqstest.Received) (n int, payload []byte) {
	payload = []byte(eventHead)
	for _, r := range batch {
		m := message{
			ID: r.ID, Receipt: r.Receipt, Body: r.Body, System: r.SystemAttributes(),
			Attributes: map[string]attribute{}, MD5OfBody: r.MD5OfBody, MD5OfAttributes: r.MD5OfAttributes,
			Source: "aws:sqs", SourceARN: p.arn, Region: p.server.Region(),
		}
		for name, a := range r.Attributes {
			m.Attributes[name] = attribute{
				String: a.StringValue, Binary: base64.StdEncoding.EncodeToString(a.BinaryValue),
				Strings: []string{}, Binaries: []string{}, Type: a.DataType,
			}
		}
		b, _ := json.Marshal(m) // strings only
		if n > 0 && len(payload)+1+len(b)+len(eventTail) > maxSyncBytes {
			break
		}
		if n++; n > 1 {
			payload = append(payload, ',')
		}
		payload = append(payload, b...)
	}
	return n, append(payload, eventTail...)
}
