package apitest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
)

// BadOnPurpose is a header that says of a request that it is not meant to fit
// the contract. It is not sent.
const BadOnPurpose = "Contract-Bad-On-Purpose"

// most is how many bytes of a request are kept to be checked. A longer one is
// meant to be too long.
const most = 64 << 20

// Transport checks what it carries. What does not fit is reported and comes
// back as an error besides, so that the test that has sent it fails where it
// stands.
type Transport struct {
	Contract *Contract
	// Base carries the requests.
	Base http.RoundTripper
	// Report is told of each exchange that does not fit. It may be called by
	// several goroutines at once.
	Report func(error)
	// All checks every request; without it only those to hosts that Watch has
	// named.
	All bool
	// PassOn hands the answer on also if it does not fit.
	PassOn bool

	mu    sync.Mutex
	hosts map[string]bool
}

// Watch makes the transport check what goes to a gateway, "http://host:port".
func (t *Transport) Watch(gateway string) { t.watch(gateway, true) }

// Ignore ends that: the port of a gateway that has ended may be the next one
// of something else.
func (t *Transport) Ignore(address string) { t.watch(address, false) }

func (t *Transport) watch(address string, watch bool) {
	_, host, _ := strings.Cut(address, "://")
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hosts == nil {
		t.hosts = map[string]bool{}
	}
	t.hosts[strings.TrimSuffix(host, "/")] = watch
}

func (t *Transport) watches(host string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.All || t.hosts[host]
}

// RoundTrip is the method of http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !t.watches(r.URL.Host) {
		return t.Base.RoundTrip(r)
	}
	good := r.Header.Get(BadOnPurpose) == ""
	out := r.Clone(r.Context())
	out.Header.Del(BadOnPurpose)
	var sent *copied
	if r.Body != nil && r.Body != http.NoBody {
		sent = &copied{ReadCloser: r.Body}
		out.Body = sent
		// What is sent a second time must be copied from the start again.
		if get := r.GetBody; get != nil {
			out.GetBody = func() (io.ReadCloser, error) {
				body, err := get()
				return sent.again(body), err
			}
		}
	}
	resp, err := t.Base.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	received, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		// The gateway was killed in the middle of its answer, as some tests do.
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(received), failing{err}))
		return resp, nil //nolint:nilerr // the body ends with it, as it would have
	}
	resp.Body = io.NopCloser(bytes.NewReader(received))
	x := &Exchange{Request: out, Response: resp, Received: received, Good: good}
	if sent != nil {
		var whole bool
		x.Sent, whole = sent.bytes()
		x.Good = good && whole
	}
	if err := t.Contract.Check(x); err != nil {
		err = fmt.Errorf("against openapi.yaml: %w\n%s", err, x)
		t.Report(err)
		if !t.PassOn {
			return nil, err
		}
	}
	return resp, nil
}

// copied keeps what is read of a body.
type copied struct {
	io.ReadCloser
	mu   sync.Mutex
	text bytes.Buffer
	end  bool
}

func (c *copied) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.text.Len() <= most {
		c.text.Write(p[:n])
	}
	c.end = c.end || errors.Is(err, io.EOF)
	return n, err
}

func (c *copied) again(body io.ReadCloser) io.ReadCloser {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ReadCloser, c.end = body, false
	c.text.Reset()
	return c
}

// bytes returns what was read, and whether that is all.
func (c *copied) bytes() ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.text.Bytes()), c.end && c.text.Len() <= most
}

// failing is a reader of nothing but an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// String shows the exchange to whoever has to mend it.
func (x *Exchange) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "> %s %s\n", x.Request.Method, x.Request.URL.RequestURI())
	writeMessage(&b, "> ", x.Request.Header, x.Sent)
	fmt.Fprintf(&b, "< %d\n", x.Response.StatusCode)
	writeMessage(&b, "< ", x.Response.Header, x.Received)
	return b.String()
}

func writeMessage(b *strings.Builder, prefix string, header http.Header, body []byte) {
	var head strings.Builder
	_ = header.Write(&head)
	for line := range strings.SplitSeq(strings.TrimSpace(head.String()), "\r\n") {
		if line != "" {
			b.WriteString(prefix + line + "\n")
		}
	}
	const shown = 2 << 10
	if len(body) > 0 {
		fmt.Fprintf(b, "%s\n%s%.*q\n", prefix, prefix, shown, body)
	}
}

// Proxy returns a reverse proxy to a gateway that checks what goes through it,
// for senders that take no Go transport. Requests and answers pass as they are;
// a connection that breaks behind it breaks before it.
func Proxy(t *Transport, target func(*httputil.ProxyRequest)) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:   target,
		Transport: t,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler)
		},
	}
}
