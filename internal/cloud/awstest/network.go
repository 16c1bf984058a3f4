package awstest

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

// patience is how long to wait for an address: while a server is stopped the
// system may lend its port to an outgoing connection.
const patience = 5 * time.Second

func listen(addr string, first bool) (net.Listener, error) {
	deadline := time.Now()
	if !first {
		deadline = deadline.Add(patience)
	}
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
	addr     string
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func newPipes(addr string) *pipes {
	return &pipes{addr: addr, incoming: make(chan net.Conn), closed: make(chan struct{})}
}

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
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: p.addr, Net: "pipe"} }

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

// Client returns a client that reaches the host, also one in memory, and trusts
// its certificate. Its idle connections are the caller's to close; a Stop closes
// them too.
func (h *Host) Client() *http.Client {
	transport := &http.Transport{}
	if h.config.InMemory {
		transport.DialContext = h.dial
	}
	if h.cert != nil {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(h.cert.pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport}
}

func (h *Host) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	h.running.RLock()
	ss := h.session
	h.running.RUnlock()
	if ss == nil {
		return nil, refusedConnection()
	}
	return ss.pipes.dial(ctx)
}
