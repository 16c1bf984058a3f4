package httpcall

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// shownHeaders are the headers of an answer that a person needs to find out
// what happened, or to ask the destination's support.
var shownHeaders = []string{
	"Content-Type", "Retry-After", "Location", "Server", "Date",
	"X-Request-Id", "X-Correlation-Id", "X-Trace-Id", "Request-Id", "Cf-Ray", "X-Amzn-Requestid",
}

// RequestExcerpt returns what was sent, for a dead letter: the method, the
// host, the headers (the values only of those named in show) and the beginning
// of the body. Path and query are left out: in many hosted webhooks they are
// the secret.
func RequestExcerpt(m Masker, req *http.Request, body []byte, show ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s://%s/%s\n", req.Method, req.URL.Scheme, req.URL.Host, masked)
	writeHeaders(&b, req.Header, func(name string) (string, bool) {
		for _, shown := range show {
			if http.CanonicalHeaderKey(shown) == name {
				return req.Header.Get(name), true
			}
		}
		return masked, true
	})
	b.WriteByte('\n')
	b.Write(m.beginning(body))
	return m.Text(b.String(), MaxExcerpt)
}

// Excerpt returns the answer, for a dead letter, or why there was none.
func (a *Answer) Excerpt(m Masker) string {
	if a.Err != nil {
		return m.Text(a.Err.Error(), MaxExcerpt)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s\n", a.Status, http.StatusText(a.Status))
	writeHeaders(&b, a.Header, func(name string) (string, bool) {
		for _, shown := range shownHeaders {
			if shown == name {
				return a.Header.Get(name), true
			}
		}
		return "", false
	})
	b.WriteByte('\n')
	b.Write(m.beginning(a.Body))
	return m.Text(b.String(), MaxExcerpt)
}

// beginning returns as much of a body as Text looks at, and a byte more, by which
// it sees that there was more.
func (m Masker) beginning(body []byte) []byte { return body[:min(len(body), MaxExcerpt+m.longest()+1)] }

func writeHeaders(b *strings.Builder, header http.Header, value func(name string) (string, bool)) {
	for _, name := range slices.Sorted(maps.Keys(header)) {
		if v, ok := value(name); ok {
			fmt.Fprintf(b, "%s: %s\n", strings.ToLower(name), v)
		}
	}
}
