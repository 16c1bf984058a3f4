package kinesistest

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
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
	config Config
	addr   string
	cert   *certificate // nil without TLS

	faults faults
	stats  stats

	mu      sync.Mutex // guards streams
	streams map[string]*kstream

	// running is held for reading by a call that touches streams, so that
	// after a Stop no call that began before it does.
	running sync.RWMutex
	session *session // nil while stopped
}

// session is the time between a start and a stop.
type session struct {
	http    *http.Server
	pipes   *pipes        // nil unless in memory
	ended   chan struct{} // closed by the stop
	drained chan struct{} // closed when nothing is accepted any more
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
	s := &Server{config: c, addr: cmp.Or(c.Addr, "127.0.0.1:0"), streams: map[string]*kstream{}}
	for _, stream := range c.Streams {
		if err := s.CreateStream(stream); err != nil {
			return nil, fmt.Errorf("create stream %q: %w", stream.Name, err)
		}
	}
	if c.TLS {
		var err error
		if s.cert, err = newCertificate(); err != nil {
			return nil, err
		}
	}
	if err := s.start(0); err != nil {
		return nil, err
	}
	return s, nil
}

// Start opens the address again after a Stop. What was stored is there, and
// faults that were not switched off are in force.
func (s *Server) Start() error { return s.start(5 * time.Second) }

func (s *Server) start(patience time.Duration) error {
	s.running.Lock()
	defer s.running.Unlock()
	if s.session != nil {
		return nil
	}
	ss := &session{ended: make(chan struct{}), drained: make(chan struct{})}
	var l net.Listener
	if s.config.InMemory {
		ss.pipes = newPipes()
		l = ss.pipes
	} else {
		var err error
		if l, err = listen(s.addr, patience); err != nil {
			return err
		}
	}
	if addr := l.Addr().String(); addr != s.addr { // only at the first start
		s.addr = addr
	}
	if s.cert != nil {
		l = tls.NewListener(l, s.cert.config())
	}
	ss.http = &http.Server{
		Handler:           &handler{Server: s, session: ss},
		ReadHeaderTimeout: time.Minute,
	}
	s.session = ss
	go func() {
		defer close(ss.drained)
		_ = ss.http.Serve(l) // ends with the stop, and says nothing else
	}()
	return nil
}

// Stop closes the address and every connection: calls that run end without an
// answer, and those that have not stored their records never will. It may be
// called from a fault.
func (s *Server) Stop() {
	s.running.Lock()
	ss := s.session
	s.session = nil
	s.running.Unlock()
	if ss == nil {
		return
	}
	close(ss.ended)
	_ = ss.http.Close()
	<-ss.drained
}

// Addr returns the host and port, the same after a stop and a start.
func (s *Server) Addr() string { return s.addr }

// URL returns the endpoint, for AWS_ENDPOINT_URL_KINESIS.
func (s *Server) URL() string {
	if s.cert != nil {
		return "https://" + s.addr
	}
	return "http://" + s.addr
}

// Env returns the environment with which an AWS SDK calls this server. With TLS
// the certificate is to be added: see Certificate.
func (s *Server) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL_KINESIS=" + s.URL(),
		"AWS_REGION=" + s.region(),
		"AWS_ACCESS_KEY_ID=AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY=example",
		"AWS_EC2_METADATA_DISABLED=true",
	}
}

func (s *Server) region() string { return cmp.Or(s.config.Region, "us-east-1") }

// CreateStream adds a stream.
func (s *Server) CreateStream(c Stream) error {
	if err := s.createStream(c); err != nil {
		return err // a nil *Error in an error would not be nil
	}
	return nil
}

func (s *Server) createStream(c Stream) *Error {
	now := time.Now()
	st, err := newStream(c, "arn:aws:kinesis:"+s.region()+":"+account+":stream/"+c.Name, now)
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

// wait waits for d, or for ever if d is negative. It ends early when stop is
// closed, and fails when ctx is done or the session has ended.
func (ss *session) wait(ctx context.Context, d time.Duration, stop <-chan struct{}) error {
	var timer <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
		return nil
	case <-stop:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-ss.ended:
		return http.ErrServerClosed
	}
}
