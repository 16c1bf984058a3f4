package kinesistest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// Config is how a server is.
type Config struct {
	// Streams are there from the start.
	Streams []Stream
	// Addr is where it listens. Default 127.0.0.1 and a port from the system.
	Addr string
	// InMemory makes it listen nowhere: only Client reaches it, through pipes,
	// so that it may run with its caller in a synctest bubble.
	InMemory bool
	// Region is the region of all streams, in their ARNs; calls signed for
	// another one are refused. Default us-east-1 and calls from any region.
	Region string
	// TLS serves HTTPS, with a certificate made at the start: see
	// Server.Certificate.
	TLS bool
	// Discard counts records, places them and numbers them, and does not keep
	// them: for load.
	Discard bool
	// Transition is how long a stream is CREATING, UPDATING and DELETING.
	// Default: no time at all.
	Transition time.Duration
}

// Server is a Kinesis endpoint. It is safe for concurrent use.
type Server struct {
	*awstest.Host
	config Config
	stats  stats

	mu      sync.Mutex // guards streams
	streams map[string]*kstream
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
	s := &Server{config: c, streams: map[string]*kstream{}}
	var err error
	s.Host, err = awstest.NewHost(awstest.Config{
		Service: "kinesis",
		Has:     func(operation string) bool { return operations[operation] != nil },
		Route:   s.route,
		MaxBody: maxBody,
		Addr:    c.Addr, InMemory: c.InMemory, Region: c.Region, TLS: c.TLS,
	})
	if err != nil {
		return nil, err
	}
	for _, stream := range c.Streams {
		if err := s.CreateStream(stream); err != nil {
			return nil, fmt.Errorf("create stream %q: %w", stream.Name, err)
		}
	}
	if err := s.Start(); err != nil {
		return nil, err
	}
	return s, nil
}

// CreateStream adds a stream.
func (s *Server) CreateStream(c Stream) error {
	if err := s.createStream(c); err != nil {
		return err // a nil *Error in an error would not be nil
	}
	return nil
}

func (s *Server) createStream(c Stream) *Error {
	now := time.Now()
	st, err := newStream(c, "arn:aws:kinesis:"+s.Region()+":"+account+":stream/"+c.Name, now)
	if err != nil {
		return err
	}
	st.change, st.until = creating, now.Add(s.config.Transition)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.streams[c.Name]; old != nil && !old.gone(now) {
		return inUse("Stream " + c.Name + " under account " + account + " already exists.")
	}
	s.streams[c.Name] = st
	return nil
}

// lookup returns a stream; nil if there is none.
func (s *Server) lookup(name string) *kstream {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[name]
	if st != nil && st.gone(time.Now()) {
		delete(s.streams, name)
		return nil
	}
	return st
}
