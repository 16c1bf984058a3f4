package httpcall

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
)

func TestWaitsAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		status      int
		name, value string
		want        time.Duration
	}{
		{429, "Retry-After", "120", 2 * time.Minute},
		{503, "Retry-After", " 5 ", 5 * time.Second},
		{429, "Retry-After", "1.5", 1500 * time.Millisecond},
		{429, "Retry-After", "0", 0},
		{429, "Retry-After", "-3", 0},
		{429, "Retry-After", "Mon, 23 Nov 2026 10:01:00 GMT", time.Minute},
		{429, "Retry-After", "Mon Nov 23 10:00:30 2026", 30 * time.Second}, // ANSI C, which RFC 9110 asks to read
		{429, "Retry-After", "Mon, 23 Nov 2026 09:00:00 GMT", 0},
		{429, "Retry-After", "Mon, 23 Nov 2126 09:00:00 GMT", MaxRetryAfter},
		{429, "Retry-After", "99999999999999999999", MaxRetryAfter},
		{429, "Retry-After", "NaN", 0},
		{429, "Retry-After", "+Inf", MaxRetryAfter},
		{429, "Retry-After", "soon", 0},
		{429, "X-RateLimit-Retry-After", "7", 7 * time.Second},
		{429, "RateLimit-Reset", "50", 50 * time.Second},
		{429, "X-RateLimit-Reset", "50", 50 * time.Second},
		{429, "X-RateLimit-Reset", "1795428060", time.Minute},
		{429, "X-RateLimit-Reset", "1795428060000", time.Minute},
		{429, "X-RateLimit-Reset", "1795420000", 0},
		{503, "X-RateLimit-Reset", "50", 0}, // a budget that is not used up
		{200, "RateLimit-Reset", "50", 0},
		{429, "Date", "50", 0},
	} {
		header := http.Header{}
		header.Set(c.name, c.value)
		if got := RetryAfter(c.status, header, now); got != c.want {
			t.Errorf("%d %s: %s: %s, want %s", c.status, c.name, c.value, got, c.want)
		}
	}
	header := http.Header{}
	header.Set("Retry-After", "1")
	header.Set("X-RateLimit-Reset", "60")
	if got := RetryAfter(429, header, now); got != time.Second {
		t.Errorf("Retry-After does not come first: %s", got)
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120", "1795428060000")
	f.Add("Mon, 23 Nov 2026 10:01:00 GMT", "-1e309")
	f.Fuzz(func(t *testing.T, after, reset string) {
		header := http.Header{"Retry-After": {after}, "X-Ratelimit-Reset": {reset}}
		if got := RetryAfter(429, header, time.Now()); got < 0 || got > MaxRetryAfter {
			t.Errorf("%s", got)
		}
	})
}

func TestPrivateAddresses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"127.0.0.1": true, "127.255.0.1": true, "0.0.0.0": true, "10.1.2.3": true, "172.16.0.1": true, "172.31.255.255": true,
		"192.168.1.1": true, "169.254.169.254": true, "100.64.0.1": true, "100.100.100.200": true, "255.255.255.255": true,
		"224.0.0.1": true, "168.63.129.16": true, "192.0.0.192": true, "198.18.0.1": true,
		"::": true, "::1": true, "fe80::1": true, "fe80::1%eth0": true, "fc00::1": true, "fd00:ec2::254": true, "ff02::1": true,
		"::ffff:127.0.0.1": true, "::ffff:10.0.0.1": true, "::127.0.0.1": true, "::ffff:0:10.0.0.1": true,
		"64:ff9b::7f00:1": true, "64:ff9b::a9fe:a9fe": true, "64:ff9b:1::1": true, "2002:a00:1::1": true, "2001::1": true,
		"8.8.8.8": false, "172.15.0.1": false, "172.32.0.1": false, "100.63.255.255": false, "100.128.0.1": false, "168.63.129.17": false,
		"::ffff:8.8.8.8": false, "64:ff9b::808:808": false, "2002:808:808::1": false, "2606:4700:4700::1111": false, "2a00:1450::1": false,
	} {
		if got := Private(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %t, want %t", text, got, want)
		}
	}
	for _, address := range []string{"", "localhost:80", "1.2.3.4", "[fe80::1%eth0]:443"} {
		if err := RefusePrivate("tcp", address, nil); !errors.Is(err, ErrPrivate) {
			t.Errorf("%q: %v", address, err)
		}
	}
	if err := RefusePrivate("tcp", "8.8.8.8:443", nil); err != nil {
		t.Error(err)
	}
}

func TestMaskerRemovesSecretsInEveryForm(t *testing.T) {
	t.Parallel()
	m := NewMasker("topsecret", "topsecret-and-more", `quo"ted\`, "abc")
	for text, want := range map[string]string{
		"a topsecret b topsecret":       "a *** b ***",
		"topsecret-and-more":            "***",
		`{"echo":"quo\"ted\\"}`:         `{"echo":"***"}`,
		"abc is too short to be hidden": "abc is too short to be hidden",
		"invalid \xff":                  "invalid \ufffd",
	} {
		if got := m.Text(text, 1000); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	// The cut does not leave half a secret.
	if got := m.Text("123456 topsecret", 12); strings.Contains(got, "top") || len(got) > 12 {
		t.Errorf("%q", got)
	}
	u, err := url.Parse("https://some-user:pass%20word@example.com/services/T000/B000/very-secret-path?key=query%2Bvalue")
	if err != nil {
		t.Fatal(err)
	}
	m = NewMasker(URLSecrets(u)...)
	text := m.Text(u.String()+" pass word query+value /services/T000/B000/very-secret-path c29tZS11c2VyOnBhc3Mgd29yZA==", 1000)
	for _, secret := range []string{"some-user", "pass", "query", "T000", "c29t"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in %s", secret, text)
		}
	}
	if got := (Masker{}).Text("anything", 100); got != "anything" {
		t.Errorf("%q", got)
	}
}

// Wherever a secret lies across the cut, nothing of it is seen, and neither if
// what stands before it gets shorter when it is masked.
func TestSecretsAcrossTheCutAreMasked(t *testing.T) {
	t.Parallel()
	const secret = "S3CRET-S3CRET-abcdefghij"
	m := NewMasker(secret, "xyxyxy")
	for before := range 3 * MaxExcerpt / len(secret) {
		for _, lead := range []string{"", strings.Repeat(".", before%len(secret))} {
			text := lead + strings.Repeat(secret, before) + "é" + secret + strings.Repeat("z", MaxExcerpt)
			got := m.Text(text, MaxExcerpt)
			if len(got) > MaxExcerpt || !utf8.ValidString(got) || !strings.HasSuffix(got, cutMark) || strings.ContainsAny(got, "S3CRET") {
				t.Fatalf("%d before: %d bytes, %q", before, len(got), got[max(0, len(got)-100):])
			}
		}
	}
	for n := range 40 { // of which each could be the beginning of the next
		text := strings.Repeat("a", MaxExcerpt-20+n) + strings.Repeat("xy", 100)
		if got := m.Text(text, MaxExcerpt); strings.Contains(got, "xyxyxy") || len(got) > MaxExcerpt {
			t.Errorf("%d: %q", n, got[MaxExcerpt-30:])
		}
	}
}

// A dead letter has the beginning of a body of megabytes, and costs no more than
// that.
func TestExcerptsOfLargeBodiesAreShortAndCheap(t *testing.T) {
	t.Parallel()
	const secret = `a"b<token>`
	m := NewMasker(secret)
	quoted := event.AppendString(nil, secret)
	body := append(bytes.Repeat(quoted, 1+MaxExcerpt/len(quoted)), bytes.Repeat([]byte("0123456789"), 1<<18)...)
	req := httptest.NewRequest(http.MethodPost, "https://vendor.example/secret-path", nil)
	answer := Answer{Status: http.StatusBadRequest, Body: body}
	if n := len(m.beginning(body)); n > MaxExcerpt+100 {
		t.Errorf("looks at %d bytes", n)
	}
	for name, excerpt := range map[string]func() string{
		"request": func() string { return RequestExcerpt(m, req, body) },
		"answer":  func() string { return answer.Excerpt(m) },
	} {
		got := excerpt()
		if len(got) > MaxExcerpt || strings.Contains(got, "token") || !strings.HasSuffix(got, cutMark) || !strings.Contains(got, `"***"`) {
			t.Errorf("%s: %d bytes, %q", name, len(got), got)
		}
	}
}

func FuzzMasker(f *testing.F) {
	f.Add("secretsecret", 20, "before ", 3)
	f.Add("abab-abab", 9, "ab", 2)
	f.Fuzz(func(t *testing.T, secret string, limit int, between string, n int) {
		if len(secret) < minSecret || strings.Contains(secret, "*") || limit < 3 || limit > 100 || n < 0 || n > 30 || len(secret)+len(between) > 100 || !utf8.ValidString(secret) {
			return
		}
		m, text := NewMasker(secret), strings.Repeat(between+secret, n)+between
		whole := Cut(strings.ToValidUTF8(m.replacer.Replace(text), "\ufffd"), limit)
		got := m.Text(text, limit)
		if len(got) > limit || strings.Contains(got, secret) {
			t.Errorf("%q of %q", got, text)
		}
		// What is seen is what masking the whole text would show, or less of it.
		if seen := strings.TrimSuffix(got, cutMark); utf8.ValidString(between) && !strings.HasPrefix(strings.TrimSuffix(whole, cutMark), seen) && !strings.HasPrefix(seen, strings.TrimSuffix(whole, cutMark)) {
			t.Errorf("%q, and of the whole text %q", got, whole)
		}
	})
}

func FuzzCut(f *testing.F) {
	f.Add("größe 😀", 7)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < len(cutMark) || limit > 1000 || !utf8.ValidString(s) {
			return
		}
		if got := Cut(s, limit); len(got) > limit || !utf8.ValidString(got) {
			t.Errorf("%q cut to %d: %q", s, limit, got)
		}
	})
}

// raw answers each connection with one function of what was read from it.
func raw(t *testing.T, answer func(conn net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				answer(conn)
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

func post(ctx context.Context, t *testing.T, url string, body []byte) Answer {
	t.Helper()
	client := NewClient(Config{AllowPrivate: true})
	defer client.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return client.Do(req)
}

func readRequest(conn net.Conn) {
	buffer := make([]byte, 64<<10)
	_, _ = conn.Read(buffer)
}

func TestMalformedAnswersAreAmbiguous(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"none":              "",
		"not HTTP":          "SSH-2.0-OpenSSH_9.6\r\n",
		"a status line cut": "HTTP/1.1 20",
		"no status":         "HTTP/1.1 abc OK\r\n\r\n",
		"endless headers":   "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := post(t.Context(), t, raw(t, func(conn net.Conn) {
				readRequest(conn)
				_, _ = io.WriteString(conn, answer)
			}), []byte("{}"))
			if a.Err == nil || a.Class() != connector.Ambiguous {
				t.Errorf("%s: status %d, %v", a.Class(), a.Status, a.Err)
			}
		})
	}
}

func TestStatusCountsThoughTheBodyIsLost(t *testing.T) {
	t.Parallel()
	a := post(t.Context(), t, raw(t, func(conn net.Conn) {
		readRequest(conn)
		_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\nbecause")
	}), []byte("{}"))
	if a.Class() != connector.Permanent || string(a.Body) != "because" {
		t.Errorf("%s, body %q, %v", a.Class(), a.Body, a.Err)
	}
}

func TestTimeoutAfterTheRequestIsAmbiguousAndBeforeItRetryable(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	a := post(ctx, t, raw(t, func(conn net.Conn) {
		readRequest(conn)
		cancel()
		readRequest(conn)
	}), []byte("{}"))
	if a.Class() != connector.Ambiguous || ErrorCode(a.Err) != "canceled" {
		t.Errorf("after: %s, %v", a.Class(), a.Err)
	}
	a = post(ctx, t, raw(t, func(net.Conn) { t.Error("connected") }), []byte("{}"))
	if a.Class() != connector.Retryable {
		t.Errorf("before: %s, %v", a.Class(), a.Err)
	}
	// The TLS handshake does not end: nothing of the request was written.
	ctx, cancel = context.WithCancel(t.Context())
	a = post(ctx, t, strings.Replace(raw(t, func(conn net.Conn) {
		readRequest(conn)
		cancel()
		readRequest(conn)
	}), "http:", "https:", 1), []byte("{}"))
	if a.Class() != connector.Retryable {
		t.Errorf("in the handshake: %s, %v", a.Class(), a.Err)
	}
}

func TestErrorsDoNotQuoteTheAddress(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(nil)
	closed.Close()
	a := post(t.Context(), t, closed.URL+"/secret-path?token=secret-query", nil)
	if a.Err == nil || strings.Contains(a.Err.Error(), "secret") {
		t.Errorf("%v", a.Err)
	}
}

func TestMetadataAddressIsNeverConnectedTo(t *testing.T) {
	t.Parallel()
	client := NewClient(Config{})
	for _, address := range []string{"http://169.254.169.254/", "http://[::ffff:169.254.169.254]/", "http://[64:ff9b::a9fe:a9fe]/", "http://0/", "http://127.1:1/"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		a := client.Do(req)
		if a.Err == nil || a.Written || (a.Class() != connector.Auth && ErrorCode(a.Err) != "dns") {
			t.Errorf("%s: %s, %v", address, a.Class(), a.Err)
		}
	}
}
