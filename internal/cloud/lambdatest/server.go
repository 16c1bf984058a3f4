package lambdatest

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// Config is how a server is.
type Config struct {
	// Functions are there from the start.
	Functions []Function
	// Queues is where dead letters and on-failure records go, and what MapQueue
	// reads. It is needed by a function or mapping that names a queue.
	Queues *sqstest.Server
	// Addr is where it listens. Default 127.0.0.1 and a port from the system.
	Addr string
	// InMemory makes it listen nowhere: only Client reaches it, through pipes,
	// so that it may run with its caller in a synctest bubble. Functions are
	// handlers then.
	InMemory bool
	// Region is that of all functions, in their ARNs; calls signed for another
	// one are refused. Default us-east-1 and calls from any region.
	Region string
	// TLS serves HTTPS, with a certificate made at the start: see
	// Server.Certificate.
	TLS bool
	// TimeScale is what waits of Lambda itself are multiplied by: those before
	// retries (one and two minutes) and those after it was throttled (one second
	// to five minutes). Limits of age, timeouts and batching windows are not
	// scaled. Default 1.
	TimeScale float64
}

// Server is a Lambda of one account and region: its Host is the Invoke endpoint,
// and what it does beside that goes on while the endpoint is stopped. It is safe
// for concurrent use.
type Server struct {
	*awstest.Host
	config Config
	runs   awstest.Faults // those of calls are the host's

	// ctx ends with the server, and all that runs with it.
	ctx context.Context
	end context.CancelFunc

	mu        sync.Mutex // guards what follows
	functions map[string]*function
	mappings  []*Mapping
	closed    bool
	pending   int           // events and invocations that are under way
	work      uint64        // counts what Drain has to know of
	changed   chan struct{} // closed at the next of these; nil while nobody asks

	tasks sync.WaitGroup // all goroutines; see spawn
}

// New starts a server that is gone when the test ends.
func New(t testing.TB, c Config) *Server {
	t.Helper()
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Open starts a server. Close ends it.
func Open(c Config) (*Server, error) {
	c.TimeScale = cmp.Or(c.TimeScale, 1)
	s := &Server{config: c, functions: map[string]*function{}}
	s.ctx, s.end = context.WithCancel(context.Background())
	var err error
	s.Host, err = awstest.NewHost(awstest.Config{
		Service: "lambda",
		Has:     func(name string) bool { return s.function(name) != nil },
		Route:   s.route,
		MaxBody: maxSyncBytes,
		Addr:    c.Addr, InMemory: c.InMemory, Region: c.Region, TLS: c.TLS,
	})
	if err != nil {
		return nil, err
	}
	for _, f := range c.Functions {
		if err := s.CreateFunction(f); err != nil {
			return nil, err
		}
	}
	if err := s.Start(); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends everything: the endpoint, the mappings, all that waits and all that
// runs. It returns when no process and no goroutine is left; a Handler that does
// not heed its context holds it up, and neither a Handler nor a fault calls it.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	for _, f := range s.functions { // nobody adds one any more
		f.queue.stop()
	}
	s.Stop()
	s.tasks.Wait()
}

// spawn starts a goroutine that Close waits for, unless it is too late.
func (s *Server) spawn(task func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.tasks.Go(task)
	return true
}

// enter begins an invocation that Close waits for, unless it is too late.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.tasks.Add(1)
	s.noteLocked(1)
	return true
}

func (s *Server) leave() {
	s.note(-1)
	s.tasks.Done()
}

// CreateFunction adds a function.
func (s *Server) CreateFunction(c Function) error {
	if err := c.settle(); err != nil {
		return err
	}
	f := &function{Function: c, server: s, arn: s.ARN(c.Name, ""), pools: map[string]*pool{}}
	var err error
	if f.queue, err = newEventQueue(f); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return closing
	}
	if s.functions[c.Name] != nil {
		return fmt.Errorf("function %s exists", c.Name)
	}
	s.functions[c.Name] = f
	return nil
}

// function returns a function by its name, nil if there is none.
func (s *Server) function(name string) *function {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.functions[name]
}

// ARN returns the ARN of a function, with a qualifier unless that is empty. The
// function need not exist.
func (s *Server) ARN(function, qualifier string) string {
	arn := "arn:aws:lambda:" + s.Region() + ":" + awstest.Account + ":function:" + function
	if qualifier != "" {
		arn += ":" + qualifier
	}
	return arn
}

// Invoke runs a function and returns what became of it, as a synchronous Invoke
// call does, without the endpoint and its faults. The function is named as in a
// call: NAME, NAME:QUALIFIER or an ARN. An error is an *Error: it did not run.
func (s *Server) Invoke(function string, payload []byte) (Response, error) {
	t, err := s.resolve(function, "")
	if err == nil {
		err = check(payload, maxSyncBytes)
	}
	if err != nil {
		return Response{}, err
	}
	r, err := t.invoke(t.qualifier, uuid(), payload)
	if err != nil {
		return Response{}, err
	}
	return r, nil
}

// InvokeAsync accepts an event for a function, as an asynchronous Invoke call
// does, and returns its request id.
func (s *Server) InvokeAsync(function string, payload []byte) (string, error) {
	t, err := s.resolve(function, "")
	if err == nil {
		err = check(payload, maxAsyncBytes)
	}
	if err != nil {
		return "", err
	}
	id := uuid()
	t.queue.accept(t.qualifier, id, payload)
	return id, nil
}

// scaled is a wait of Lambda itself.
func (s *Server) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * s.config.TimeScale)
}

// hold waits for d, unless ctx is done.
func hold(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func uuid() string { return awstest.UUID() }
