package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/connectortest"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
)

// Two secrets of the tests.
const (
	secretA = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secretB = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

// receiver is an endpoint as Standard Webhooks wants it: it checks every
// signature and ignores a webhook-id that it has seen.
type receiver struct {
	server *httptest.Server
	secret string
	mode   atomic.Value // connectortest.State, "" for working
	done   chan struct{}

	mu       sync.Mutex
	arrived  []string // event ids
	seen     map[string]bool
	faults   []string // calls that were not as they should be
	requests []*http.Request
	bodies   [][]byte
}

func newReceiver(t *testing.T, secret string) *receiver {
	r := &receiver{secret: secret, seen: make(map[string]bool), done: make(chan struct{})}
	r.mode.Store(connectortest.State(""))
	r.server = httptest.NewUnstartedServer(r)
	r.server.Listener = &gate{r.server.Listener, r}
	r.server.EnableHTTP2 = true
	r.server.Config.ErrorLog = nil
	r.server.StartTLS()
	t.Cleanup(func() {
		close(r.done)
		r.server.CloseClientConnections()
		r.server.Close()
		for _, fault := range r.faults {
			t.Error(fault)
		}
	})
	return r
}

// gate closes new connections while the receiver is away, before the TLS
// handshake: nothing can have been sent.
type gate struct {
	net.Listener
	r *receiver
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil || g.r.mode.Load() != connectortest.Away {
			return conn, err
		}
		_ = conn.Close()
	}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	if err := verify(r.secret, req.Header, body, time.Now()); err != nil {
		r.mu.Lock()
		r.faults = append(r.faults, err.Error())
		r.mu.Unlock()
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	switch r.mode.Load() {
	case connectortest.Away:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case connectortest.Denied:
		// An answer that shows what it was sent, as some do.
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]any{"headers": req.Header, "url": req.URL.String()})
		return
	case connectortest.Throttling:
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case connectortest.Hanging:
		select {
		case <-req.Context().Done():
		case <-r.done:
		}
		return
	case connectortest.LostAnswer:
		r.take(req, body)
		panic(http.ErrAbortHandler)
	case connectortest.Fussy:
		if req.Header.Get("webhook-id") == connectortest.BadID {
			http.Error(w, "no such product", http.StatusUnprocessableEntity)
			return
		}
	}
	r.take(req, body)
	w.WriteHeader(http.StatusNoContent)
}

// take keeps an event, unless it is a repetition.
func (r *receiver) take(req *http.Request, body []byte) {
	var stored struct{ ID string }
	err := json.Unmarshal(body, &stored)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.faults = append(r.faults, err.Error())
	}
	r.requests, r.bodies = append(r.requests, req), append(r.bodies, body)
	if id := req.Header.Get("webhook-id"); !r.seen[id] {
		r.seen[id] = true
		r.arrived = append(r.arrived, stored.ID)
	}
}

func (r *receiver) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.arrived)
}

// trusting returns a factory whose connectors trust the receiver's certificate.
func (r *receiver) trusting(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	conn, err := New(raw, env)
	if err != nil {
		return nil, err
	}
	c := conn.(*Connector)
	c.client = httpcall.NewClient(httpcall.Config{
		AllowPrivate: c.cfg.AllowPrivate,
		TLS:          &tls.Config{RootCAs: r.server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs},
	})
	return c, nil
}

// verify is the receiving side of Standard Webhooks, written from the
// specification and not from sign.
func verify(secret string, header http.Header, body []byte, now time.Time) error {
	id, timestamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	if id == "" || strings.Contains(id, ".") {
		return fmt.Errorf("webhook-id is %q", id)
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return fmt.Errorf("webhook-timestamp is %q", timestamp)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if !slices.Contains(strings.Split(header.Get("webhook-signature"), " "), want) {
		return fmt.Errorf("webhook-signature is %q, want one that is %q", header.Get("webhook-signature"), want)
	}
	return nil
}
