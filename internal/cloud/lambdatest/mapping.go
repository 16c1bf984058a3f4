package lambdatest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Mapping is an event source mapping: it reads a stream or a queue and invokes a
// function, until it or its server is stopped.
type Mapping struct {
	// UUID is its id.
	UUID string

	server *Server
	target target
	ctx    context.Context
	end    context.CancelFunc
	done   chan struct{} // closed when it has ended
	idle   func() bool   // whether it has nothing to do

	mu        sync.Mutex
	discarded int
}

// Limits of mappings. Source: API reference, CreateEventSourceMapping.
const (
	maxKinesisBatch = 10000
	maxParallel     = 10
	maxQueueBatch   = 10000
	maxFIFOBatch    = 10
	maxSmallBatch   = 10 // of a standard queue without a batching window
	maxWindow       = 300 * time.Second
	maxConcurrency  = 1000
)

// newMapping returns one that is not started.
func (s *Server) newMapping(function string) (*Mapping, error) {
	t, err := s.resolve(function, "")
	if err != nil {
		return nil, err
	}
	m := &Mapping{UUID: uuid(), server: s, target: t, done: make(chan struct{})}
	m.ctx, m.end = context.WithCancel(s.ctx)
	return m, nil
}

// start starts it.
func (m *Mapping) start(idle func() bool, run func()) error {
	m.idle = idle
	if !m.server.spawn(func() {
		defer close(m.done)
		run()
	}) {
		return closing
	}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	m.server.mappings = append(m.server.mappings, m)
	return nil
}

// Stop ends it, when what it has begun has ended: a batch that failed is not
// tried again. Where it was in its stream is forgotten.
func (m *Mapping) Stop() {
	m.end()
	<-m.done
	s := m.server
	s.mu.Lock()
	for i := range s.mappings {
		if s.mappings[i] == m {
			s.mappings = append(s.mappings[:i:i], s.mappings[i+1:]...)
			break
		}
	}
	s.mu.Unlock()
	s.note(0)
}

// Discarded returns how many records of a stream were given up, whether or not
// an on-failure destination took them.
func (m *Mapping) Discarded() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.discarded
}

// pause waits for a wait of Lambda itself, unless the mapping is stopped.
func (m *Mapping) pause(d time.Duration) error {
	return hold(m.ctx, m.server.scaled(d))
}

// errAllFailed says that an answer fails its whole batch.
var errAllFailed = errors.New("the answer fails the whole batch")

// itemFailures reads the answer of a function that reports failures of single
// items, and returns their identifiers. An empty answer, null, {} and an empty
// list report none. Anything else that is not as it should be fails the batch,
// as far as the developer guide says so ("Configuring partial batch response
// with Kinesis Data Streams and Lambda", "Handling errors for an SQS event
// source"); that what is no object does too is our guess. Names are compared
// with their case, which encoding/json would not do.
func itemFailures(payload []byte) ([]string, error) {
	payload = bytes.Trim(payload, " \t\r\n") // what JSON takes for white space
	if len(payload) == 0 {
		return nil, nil
	}
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(payload, &answer); err != nil {
		return nil, fmt.Errorf("%w: %w", errAllFailed, err)
	}
	list, ok := answer["batchItemFailures"]
	if !ok {
		return nil, nil
	}
	var items []map[string]json.RawMessage
	if err := json.Unmarshal(list, &items); err != nil {
		return nil, fmt.Errorf("%w: %w", errAllFailed, err)
	}
	var failed []string
	for _, item := range items {
		var id *string
		if err := json.Unmarshal(item["itemIdentifier"], &id); err != nil || id == nil || *id == "" {
			return nil, errAllFailed
		}
		failed = append(failed, *id)
	}
	return failed, nil
}
