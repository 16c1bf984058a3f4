package sqstest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// Config is how a server is.
type Config struct {
	// Queues are there from the start. A dead letter queue stands before those
	// that name it.
	Queues []Queue
	// Addr is where it listens. Default 127.0.0.1 and a port from the system.
	Addr string
	// InMemory makes it listen nowhere: only Client reaches it, through pipes,
	// so that it may run with its caller in a synctest bubble.
	InMemory bool
	// Region is the region of all queues, in their ARNs; calls signed for
	// another one are refused. Default us-east-1 and calls from any region.
	Region string
	// TLS serves HTTPS, with a certificate made at the start: see
	// Server.Certificate.
	TLS bool
	// MaxInFlight is how many messages of a queue may be in flight. Default
	// 120,000, as with AWS.
	MaxInFlight int
}

// Server is an SQS endpoint. It is safe for concurrent use.
type Server struct {
	*awstest.Host
	config Config

	mu       sync.Mutex // guards what follows, and all queues
	queues   map[string]*queue
	deleted  map[string]time.Time // queues, and when
	sequence uint64               // numbers given to messages of FIFO queues
}

// New starts a server that is gone when the test ends.
func New(t testing.TB, c Config) *Server {
	t.Helper()
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// Open starts a server. Stop ends it.
func Open(c Config) (*Server, error) {
	s := &Server{config: c, queues: map[string]*queue{}, deleted: map[string]time.Time{}}
	var err error
	s.Host, err = awstest.NewHost(awstest.Config{
		Service: "sqs",
		Has:     func(operation string) bool { return operations[operation] != nil },
		Route:   s.route,
		MaxBody: maxBody,
		Addr:    c.Addr, InMemory: c.InMemory, Region: c.Region, TLS: c.TLS,
	})
	if err != nil {
		return nil, err
	}
	for _, q := range c.Queues {
		if err := s.CreateQueue(q); err != nil {
			return nil, fmt.Errorf("create queue %q: %w", q.Name, err)
		}
	}
	if err := s.Start(); err != nil {
		return nil, err
	}
	return s, nil
}
