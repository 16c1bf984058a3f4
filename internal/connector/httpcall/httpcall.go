// Package httpcall makes one HTTP call for a connector and says what became of
// it: an answer, or an error that is known to have come before the request was
// written, or one that came after, when nobody knows what the destination did.
//
// It holds what all HTTP destinations share: the meaning of a status, the wait
// that an answer asks for, excerpts without secrets, and the guard against
// private addresses. It follows no redirect, uses no proxy and retries nothing.
package httpcall

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
)

// MaxAnswer bounds how much of an answer is read, unless Config says otherwise.
const MaxAnswer = 64 << 10

// bodyWait bounds the reading of an answer's body once its status is known.
// The status decides; the body is for a person to read.
const bodyWait = 5 * time.Second

// Config is how a Client connects.
type Config struct {
	// AllowPrivate lets the Client connect to private addresses (see Private).
	// Default false.
	AllowPrivate bool
	// MaxConns is the most connections to one host, idle ones included.
	// Default 64.
	MaxConns int
	// DialTimeout bounds making a connection, and again its TLS handshake.
	// Default 10s.
	DialTimeout time.Duration
	// MaxAnswer bounds how many bytes of an answer's body are read, for vendors
	// that say there what became of each item. Default MaxAnswer.
	MaxAnswer int
	// TLS overrides what is trusted. Default: the system's authorities.
	TLS *tls.Config
	// Dial, if it is set, makes the connections: see connector.Env.
	Dial connector.Dial
}

// Client makes calls. It is safe for concurrent use.
type Client struct {
	transport *http.Transport
	maxAnswer int64
}

// NewClient returns a Client that keeps connections open between calls.
func NewClient(cfg Config) *Client {
	dialTimeout := cmp.Or(cfg.DialTimeout, 10*time.Second)
	maxConns := cmp.Or(cfg.MaxConns, 64)
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	if !cfg.AllowPrivate {
		dialer.Control = RefusePrivate
	}
	dial := cfg.Dial
	if dial == nil {
		dial = dialer.DialContext
	}
	return &Client{maxAnswer: int64(cmp.Or(cfg.MaxAnswer, MaxAnswer)), transport: &http.Transport{
		// No proxy: it would resolve the name, and the guard would look at the
		// address of the proxy.
		Proxy:                  nil,
		DialContext:            dial,
		TLSClientConfig:        cfg.TLS,
		TLSHandshakeTimeout:    dialTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // an answer is short, and must not unpack to more
		MaxConnsPerHost:        maxConns,
		MaxIdleConnsPerHost:    maxConns,
		MaxIdleConns:           4 * maxConns,
		MaxResponseHeaderBytes: MaxAnswer,
		// Shorter than most servers keep a connection: a request written on one
		// that the server is just closing has an unknown fate.
		IdleConnTimeout: 30 * time.Second,
	}}
}

// Close closes idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Answer is what became of a call.
type Answer struct {
	// Status is zero if there was no answer; then Err says why.
	Status int
	Header http.Header
	// Body is at most Config.MaxAnswer bytes of the answer, and may be less if the
	// destination was slow to send it.
	Body []byte
	// RetryAfter is the wait that the answer asks for.
	RetryAfter time.Duration
	// Err is why there was no answer. It does not quote the address.
	Err error
	// Written says that the destination may have got the whole request.
	Written bool
}

// Do makes a call. The request's body must be a bytes.Reader, bytes.Buffer or
// strings.Reader, or have GetBody: then a connection that turns out to be dead
// before anything was written is replaced by a new one.
func (c *Client) Do(req *http.Request) Answer {
	if err := context.Cause(req.Context()); err != nil {
		return Answer{Err: err}
	}
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	var fate fate
	req = req.WithContext(httptrace.WithClientTrace(ctx, fate.trace()))
	resp, err := c.transport.RoundTrip(req) // a Client would follow redirects and rewrite errors
	if err != nil {
		if cause := context.Cause(req.Context()); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return Answer{Err: withoutAddress(err), Written: fate.maybeWritten()}
	}
	defer resp.Body.Close()
	slow := time.AfterFunc(bodyWait, cancel)
	defer slow.Stop()
	// An error here leaves what was read so far, which is good enough.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, c.maxAnswer))
	return Answer{
		Status: resp.StatusCode, Header: resp.Header, Body: body, Written: true,
		RetryAfter: RetryAfter(resp.StatusCode, resp.Header, time.Now()),
	}
}

// Class returns what the answer, or the lack of one, means.
func (a *Answer) Class() connector.Class {
	switch {
	case a.Err == nil:
		return Classify(a.Status, a.RetryAfter)
	case errors.Is(a.Err, ErrPrivate):
		return connector.Auth
	case a.Written:
		return connector.Ambiguous
	}
	return connector.Retryable
}

// fate follows a request onto the wire. The Transport may try several
// connections, and may return before its own writing goroutine has: a request
// is unwritten only if no connection was handed out, or if the last one failed
// while writing. All else counts as written.
type fate struct{ writing atomic.Bool }

func (f *fate) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { f.writing.Store(true) },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err != nil {
				f.writing.Store(false)
			}
		},
	}
}

func (f *fate) maybeWritten() bool { return f.writing.Load() }

// withoutAddress takes off the wrappers that quote the address.
func withoutAddress(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// ErrorCode names an error of a call in one word, for metrics and filters.
func ErrorCode(err error) string {
	var (
		dns  *net.DNSError
		cert *tls.CertificateVerificationError
		rec  tls.RecordHeaderError
		op   *net.OpError
		to   interface{ Timeout() bool }
	)
	switch {
	case errors.Is(err, ErrPrivate):
		return "private_address"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &dns):
		return "dns"
	case errors.As(err, &cert), errors.As(err, &rec):
		return "tls"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &to) && to.Timeout():
		return "timeout"
	case errors.As(err, &op) && op.Op == "dial":
		return "connect"
	}
	return "connection"
}
