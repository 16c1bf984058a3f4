package lambdatest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
)

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
const memoryAddr = "lambda.test"

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.incoming <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Client returns a client that reaches the server, also one in memory. Its idle
// connections are the caller's to close; Close closes them too.
func (s *Server) Client() *http.Client {
	transport := &http.Transport{}
	if s.pipes != nil {
		transport.DialContext = s.pipes.dial
	}
	return &http.Client{Transport: transport}
}

// connections are those of an http.Server, which itself does not wait for them.
// Wait is for when it serves no more.
type connections struct{ sync.WaitGroup }

func (c *connections) state(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		c.Add(1)
	case http.StateClosed, http.StateHijacked:
		c.Done()
	}
}
