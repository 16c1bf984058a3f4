package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// server is an HTTP server as a stage: it listens from New on, so that its
// address is known, and serves in Run.
type server struct {
	listener net.Listener
	http     *http.Server
	timeout  time.Duration
	cert     *certificate // nil without TLS
}

func listen(addr string, h *http.Server, timeout time.Duration) (*server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &server{listener: l, http: h, timeout: timeout}, nil
}

// url returns the address as a URL that works on this machine.
func (s *server) url() string {
	scheme := "http"
	if s.cert != nil {
		scheme = "https"
	}
	addr := s.listener.Addr().(*net.TCPAddr)
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, fmt.Sprint(addr.Port))
}

// Run serves until ctx is done and then lets the requests that have begun
// finish.
func (s *server) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	var serving sync.WaitGroup
	serving.Go(func() {
		var err error
		if s.cert != nil {
			s.http.TLSConfig = s.cert.config()
			err = s.http.ServeTLS(s.listener, "", "")
		} else {
			err = s.http.Serve(s.listener)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	})
	defer serving.Wait()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	if err := s.http.Shutdown(deadline); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}
