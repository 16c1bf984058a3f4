package simulator

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Dial serves h over connections in memory and returns what makes them, in the
// form of net.Dialer.DialContext; the address that is asked for does not
// matter. It ends with ctx: open connections are cut. All of it may live in a
// synctest bubble, if Dial is called in the bubble with a context that ends
// there.
//
// The clock of a bubble starts in the year 2000, and vendors look at the clock:
// a test whose events bear later times has to sleep until then first.
func Dial(ctx context.Context, h http.Handler) func(ctx context.Context, network, address string) (net.Conn, error) {
	l := &memory{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: time.Minute,
		ErrorLog: log.New(io.Discard, "", 0), // of connections that the client cuts
	}
	go func() { _ = server.Serve(l) }() // always ends with an error: closed
	context.AfterFunc(ctx, func() { server.Close() })
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		client, served := net.Pipe()
		select {
		case l.conns <- served:
			return client, nil
		case <-l.closed:
			return nil, &net.OpError{Op: "dial", Net: network, Err: net.ErrClosed}
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
		}
	}
}

// memory is a listener whose connections are pipes.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *memory) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memory) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memory) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }
