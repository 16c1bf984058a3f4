package awstest

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Config is where a host is, and what it is a host of.
type Config struct {
	// Service is its name in signatures and in names of environment variables,
	// such as "kinesis".
	Service string
	// Has reports whether there is an operation of a name.
	Has func(operation string) bool
	// Route finds out what a request is about. The answer is for one that is
	// about nothing; otherwise it is nil.
	Route func(r *http.Request) (*Route, *Answer)
	// MaxBody is the most bytes that a request has.
	MaxBody int64

	// Addr is where it listens. Default 127.0.0.1 and a port from the system.
	Addr string
	// InMemory makes it listen nowhere: only Client reaches it, through pipes.
	InMemory bool
	// Region is that for which calls have to be signed. Default us-east-1, and
	// calls for any region.
	Region string
	// TLS serves HTTPS, with a certificate made at the start.
	TLS bool
}

// Host is an endpoint of AWS. It is safe for concurrent use.
type Host struct {
	config Config
	addr   string
	cert   *certificate // nil without TLS
	opened bool         // once; guarded by running

	faults  Faults
	traffic counters

	// running is held for reading by a call that touches what is stored, so
	// that after a Stop no call that began before it does.
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

// NewHost returns a host that has not started.
func NewHost(c Config) (*Host, error) {
	h := &Host{config: c, addr: cmp.Or(c.Addr, "127.0.0.1:0")}
	if c.TLS {
		var err error
		if h.cert, err = newCertificate(h.memoryAddr()); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// memoryAddr stands in URLs for a host without an address.
func (h *Host) memoryAddr() string { return h.config.Service + ".test" }

// Start opens the address, also after a Stop: then it is the same again. What
// was stored is there, and faults that were not switched off are in force.
func (h *Host) Start() error {
	h.running.Lock()
	defer h.running.Unlock()
	if h.session != nil {
		return nil
	}
	ss := &session{ended: make(chan struct{}), drained: make(chan struct{})}
	var l net.Listener
	if h.config.InMemory {
		ss.pipes = newPipes(h.memoryAddr())
		l = ss.pipes
	} else {
		var err error
		if l, err = listen(h.addr, !h.opened); err != nil {
			return err
		}
	}
	if addr := l.Addr().String(); addr != h.addr { // only at the first start
		h.addr = addr
	}
	if h.cert != nil {
		l = tls.NewListener(l, h.cert.config())
	}
	ss.http = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, ss) }),
		ReadHeaderTimeout: time.Minute,
	}
	h.session, h.opened = ss, true
	go func() {
		defer close(ss.drained)
		_ = ss.http.Serve(l) // ends with the stop, and says nothing else
	}()
	return nil
}

// Stop closes the address and every connection: calls that run end without an
// answer, and those that have not stored anything never will. It may be called
// from a fault.
func (h *Host) Stop() {
	h.running.Lock()
	ss := h.session
	h.session = nil
	h.running.Unlock()
	if ss == nil {
		return
	}
	close(ss.ended)
	_ = ss.http.Close()
	<-ss.drained
}

// Addr returns the host and port, the same after a stop and a start.
func (h *Host) Addr() string { return h.addr }

// URL returns the endpoint, for AWS_ENDPOINT_URL_… .
func (h *Host) URL() string {
	if h.cert != nil {
		return "https://" + h.addr
	}
	return "http://" + h.addr
}

// Region returns the region of all that is in the double.
func (h *Host) Region() string { return cmp.Or(h.config.Region, "us-east-1") }

// Env returns the environment with which an AWS SDK calls this host. With TLS
// the certificate is to be added: see Certificate.
func (h *Host) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL_" + strings.ToUpper(h.config.Service) + "=" + h.URL(),
		"AWS_REGION=" + h.Region(),
		"AWS_ACCESS_KEY_ID=AKIDEXAMPLE",
		"AWS_SECRET_ACCESS_KEY=example",
		"AWS_EC2_METADATA_DISABLED=true",
	}
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
