package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/eventsluice/sluice/api/apitest"
)

// contract checks every request of these tests to a gateway, and its answer,
// against openapi.yaml: TestMain puts it before http.DefaultTransport. What
// does not fit fails the request, and the whole run as well, for some tests
// are prepared for requests that fail.
var contract = &apitest.Transport{Base: http.DefaultTransport, Report: breaches.add}

// breaches are the exchanges that did not fit.
var breaches breachList

type breachList struct {
	mu   sync.Mutex
	list []error
}

func (b *breachList) add(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, err)
}

// say prints the first of them, and returns false if there are some.
func (b *breachList) say() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	const most = 20
	for _, err := range b.list[:min(most, len(b.list))] {
		fmt.Fprintln(os.Stderr, err)
	}
	if len(b.list) > 0 {
		fmt.Fprintf(os.Stderr, "%d exchanges were not as openapi.yaml says\n", len(b.list))
	}
	return len(b.list) == 0
}

// useContract makes the default client check what it does.
func useContract() error {
	c, err := apitest.Load()
	if err != nil {
		return errors.Join(errors.New("openapi.yaml"), err)
	}
	contract.Contract = c
	http.DefaultTransport = contract
	return nil
}

// contractProxy returns the address of a proxy to a gateway that checks what
// goes through it against openapi.yaml, for senders that are no Go program: SDKs
// and generated clients. Answers pass also if they do not fit; the test fails.
func contractProxy(t *testing.T, target string) string {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	base := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	transport := &apitest.Transport{
		Contract: contract.Contract, Base: base, All: true, PassOn: true, Report: func(err error) { t.Error(err) },
	}
	proxy := httptest.NewServer(apitest.Proxy(transport, func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}))
	t.Cleanup(func() {
		proxy.CloseClientConnections()
		proxy.Close() // waits for the last answers, so that nothing is reported after the test
		base.CloseIdleConnections()
	})
	return proxy.URL
}
