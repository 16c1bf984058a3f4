package kinesistest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// listen opens an address. While a server is stopped the system may lend its
// port to an outgoing connection: patience is how long to wait for its return.
func listen(addr string, patience time.Duration) (net.Listener, error) {
	deadline := time.Now().Add(patience)
	for {
		l, err := net.Listen("tcp", addr)
		if !errors.Is(err, syscall.EADDRINUSE) || !time.Now().Before(deadline) {
			return l, err
		}
		<-time.After(20 * time.Millisecond)
	}
}

// pipes is a listener without an address: its connections are pipes in memory.
type pipes struct {
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func newPipes() *pipes { return &pipes{incoming: make(chan net.Conn), closed: make(chan struct{})} }

// Accept waits for a connection.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.incoming:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the accepting.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr is no place.
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: memoryAddr, Net: "pipe"} }

// memoryAddr stands in URLs for a server without an address.
const memoryAddr = "kinesis.test"

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.incoming <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, refusedConnection()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func refusedConnection() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// Client returns a client that reaches the server, also one in memory, and
// trusts its certificate. Its idle connections are the caller's to close; a
// Stop closes them too.
func (s *Server) Client() *http.Client {
	transport := &http.Transport{}
	if s.config.InMemory {
		transport.DialContext = s.dial
	}
	if s.cert != nil {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(s.cert.pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport}
}

func (s *Server) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	s.running.RLock()
	ss := s.session
	s.running.RUnlock()
	if ss == nil {
		return nil, refusedConnection()
	}
	return ss.pipes.dial(ctx)
}
