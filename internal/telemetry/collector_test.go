package telemetry_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// collector takes OTLP, by HTTP and by gRPC on one address. It keeps bodies as
// they came: text stands in them as it is.
type collector struct {
	t      *testing.T
	server *httptest.Server
	mu     sync.Mutex
	bodies map[string][]byte // by path, one after another
	header http.Header       // of the last request
	// wait, if not nil, holds up every answer until it is closed.
	wait chan struct{}
}

func newCollector(t *testing.T) *collector {
	c := &collector{t: t, bodies: map[string][]byte{}}
	c.server = httptest.NewUnstartedServer(c)
	c.server.Config.Protocols = new(http.Protocols)
	c.server.Config.Protocols.SetHTTP1(true)
	c.server.Config.Protocols.SetUnencryptedHTTP2(true) // gRPC without TLS
	c.server.Start()
	t.Cleanup(c.server.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // it did not wait for the answer
	}
	c.mu.Lock()
	c.bodies[r.URL.Path] = append(c.bodies[r.URL.Path], body...)
	c.header = r.Header
	wait := c.wait
	c.mu.Unlock()
	if wait != nil {
		<-wait
	}
	if r.Header.Get("Content-Type") == "application/grpc" {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write(make([]byte, 5)) // a message without fields: all was taken
		w.Header().Set("Grpc-Status", "0")
	}
}

// got reports whether a path was sent something that has all the texts in it.
func (c *collector) got(path string, texts ...string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, text := range texts {
		if !bytes.Contains(c.bodies[path], []byte(text)) {
			return false
		}
	}
	return true
}

func (c *collector) want(path string, texts ...string) {
	c.t.Helper()
	for _, text := range texts {
		if !c.got(path, text) {
			c.t.Errorf("%s was not sent %q", path, text)
		}
	}
}
