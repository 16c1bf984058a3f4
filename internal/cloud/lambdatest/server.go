package lambdatest

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

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
	// Region is that of all functions, in their ARNs. Default us-east-1.
	Region string
	// TimeScale is what waits of Lambda itself are multiplied by: those before
	// retries (one and two minutes) and those after it was throttled (one second
	// to five minutes). Limits of age, timeouts and batching windows are not
	// scaled. Default 1.
	TimeScale float64
}

// Server is a Lambda of one account and region. It is safe for concurrent use.
type Server struct {
	config Config
	addr   string
	http   *http.Server
	pipes  *pipes // nil unless in memory
	faults faults

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

	tasks sync.WaitGroup // all goroutines but those of connections; see spawn
	conns connections
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
	for _, f := range c.Functions {
		if err := s.CreateFunction(f); err != nil {
			return nil, err
		}
	}
	var l net.Listener
	if c.InMemory {
		s.pipes = newPipes()
		l = s.pipes
	} else {
		var err error
		if l, err = net.Listen("tcp", cmp.Or(c.Addr, "127.0.0.1:0")); err != nil {
			return nil, err
		}
	}
	s.addr = l.Addr().String()
	s.http = &http.Server{Handler: endpoint{s}, ReadHeaderTimeout: time.Minute, ConnState: s.conns.state}
	s.spawn(func() { _ = s.http.Serve(l) }) // ends with the server, and says nothing else
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
	_ = s.http.Close()
	s.tasks.Wait()
	s.conns.Wait()
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
	arn := "arn:aws:lambda:" + s.region() + ":" + account + ":function:" + function
	if qualifier != "" {
		arn += ":" + qualifier
	}
	return arn
}

// Addr returns the host and port.
func (s *Server) Addr() string { return s.addr }

// URL returns the endpoint, for AWS_ENDPOINT_URL_LAMBDA.
func (s *Server) URL() string { return "http://" + s.addr }

// Env returns the environment with which an AWS SDK calls this server. Processes
// of functions have it too.
func (s *Server) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL_LAMBDA=" + s.URL(),
		"AWS_REGION=" + s.region(),
		"AWS_ACCESS_KEY_ID=AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY=example",
		"AWS_EC2_METADATA_DISABLED=true",
	}
}

func (s *Server) region() string { return cmp.Or(s.config.Region, "us-east-1") }

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

// sleep waits, unless the server ends.
func (s *Server) sleep(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// uuid makes one of version 4.
func uuid() string {
	a, b := rand.Uint64(), rand.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0x3fff|0x8000, b&0xffffffffffff)
}
