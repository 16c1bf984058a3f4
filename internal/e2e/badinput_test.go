package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestBadInputIsRefusedAndHarmsNobody sends over a real connection what no
// gateway wants, with good events beside it: each gets its status and a
// problem document, the process lives, and every good event is stored.
func TestBadInputIsRefusedAndHarmsNobody(t *testing.T) {
	t.Parallel()
	const scoped, disabled, expired = "wk_scoped_0123456789abcdefghijklmnop", "wk_disabled_0123456789abcdefghijklm", "wk_expired_0123456789abcdefghijklmn"
	docs := everythingToWarehouse
	docs.keys = strings.TrimSuffix(docs.keys, "]}") +
		`,{"id":"scoped","kind":"write","sha256":"` + hash(scoped) + `","origins":["https://shop.example"],"events":["order_*"]}` +
		`,{"id":"off","kind":"write","sha256":"` + hash(disabled) + `","disabled":true}` +
		`,{"id":"old","kind":"write","sha256":"` + hash(expired) + `","expires_at":"2020-01-01T00:00:00Z"}]}`
	p := start(t, dataFolder(t, docs))

	const good = `{"name":"good"}`
	deep := strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)
	large := `{"name":"large","data":{"padding":"` + strings.Repeat("x", 2<<20) + `"}}`
	gzipped := http.Header{"Content-Encoding": {"gzip"}}
	key := func(k string) http.Header { return http.Header{"Authorization": {"Bearer " + k}} }
	from := func(k, origin string) http.Header {
		return http.Header{"Authorization": {"Bearer " + k}, "Origin": {origin}}
	}
	stored := 0
	for _, c := range []struct {
		name   string
		body   string
		header http.Header
		status int
		code   string // of the problem, or of the first error of a partial answer
		stored int    // good neighbours in the same request
	}{
		{"not JSON", "name=hello", nil, 400, "invalid_json", 0},
		{"JSON cut short", `{"name":"hel`, nil, 400, "invalid_json", 0},
		{"nothing", "", nil, 400, "empty_body", 0},
		{"truncated gzip", compress(good)[:20], gzipped, 400, "invalid_encoding", 0},
		{"not gzip", good, gzipped, 400, "invalid_encoding", 0},
		{"unknown encoding", good, http.Header{"Content-Encoding": {"br"}}, 415, "unknown_encoding", 0},
		{"bomb", compress(`{"name":"` + strings.Repeat("x", 64<<20) + `"}`), gzipped, 413, "body_too_large", 0},
		{"10,000 deep, alone", `{"name":"deep","data":` + deep + `}`, nil, 422, "too_deep", 0},
		{"10,000 deep among good ones", `[` + good + `,{"name":"deep","data":` + deep + `},` + good + `]`, nil, 207, "too_deep", 2},
		{"invalid UTF-8", "[" + good + ",{\"name\":\"caf\xe9\"}]", nil, 207, "invalid_utf8", 1},
		{"duplicate keys", `[` + good + `,{"name":"a","name":"b"}]`, nil, 207, "duplicate_key", 1},
		{"over the size of an event", `[` + good + `,` + large + `,` + good + `]`, nil, 207, "too_large", 2},
		{"wrong type", `[{"name":7},` + good + `]`, nil, 207, "invalid_type", 1},
		{"no name", `[{"data":{}},` + good + `]`, nil, 207, "required", 1},
		{"a number beyond float64", `[{"name":"far","data":{"n":1e999}},` + good + `]`, nil, 207, "number_out_of_range", 1},
		{"none valid", `[{"data":{}},{"name":""}]`, nil, 422, "invalid", 0},
		{"wrong key", good, key("wk_wrong"), 401, "unknown_key", 0},
		{"no key", good, http.Header{"Authorization": nil}, 401, "missing_key", 0},
		{"disabled key", good, key(disabled), 401, "disabled_key", 0},
		{"expired key", good, key(expired), 401, "expired_key", 0},
		{"wrong origin", `{"name":"order_placed"}`, from(scoped, "https://evil.example"), 403, "origin_forbidden", 0},
		{"outside its scope", good, from(scoped, "https://shop.example"), 403, "forbidden", 0},
		{"within its scope", `{"name":"order_placed"}`, from(scoped, "https://shop.example"), 202, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := p.send("/v1/events", c.body, c.header)
			code := a.Code
			if a.status == http.StatusMultiStatus && len(a.Errors) > 0 {
				code = a.Errors[0].Code
			}
			if a.status != c.status {
				t.Errorf("answered %d, want %d: %.300s", a.status, c.status, a.body)
			}
			if code != c.code && !(a.status == 422 && len(a.Errors) > 0 && a.Errors[0].Code == c.code) {
				t.Errorf("the code is %q, want %q: %.300s", code, c.code, a.body)
			}
			if kind := a.header.Get("Content-Type"); a.status >= 400 && kind != "application/problem+json" {
				t.Errorf("the answer is %s", kind)
			}
			if a.status/100 == 2 && a.Accepted != c.stored {
				t.Errorf("%d events were accepted, want %d: %.300s", a.Accepted, c.stored, a.body)
			}
			if neighbour := p.post(good); neighbour.status != 202 {
				t.Errorf("the next request: %d %s", neighbour.status, neighbour.body)
			}
		})
		stored += c.stored + 1
	}

	// What float64 can hold only in part arrives whole: data is not decoded.
	const precise = `{"n":1.10,"m":123456789012345678901234567890}`
	if a := p.post(`{"id":"precise","name":"good","data":` + precise + `}`); a.status != 202 {
		t.Errorf("%d %s", a.status, a.body)
	}
	stored++

	p.alive()
	l := p.settle()
	if l.Stored != uint64(stored) {
		t.Errorf("%d events are stored, want %d", l.Stored, stored)
	}
	rows := warehouse(t, p.dir)
	if len(rows) != stored {
		t.Errorf("the warehouse holds %d rows, want %d", len(rows), stored)
	}
	if i := slices.IndexFunc(rows, func(r row) bool { return r.id == "precise" }); i < 0 || rows[i].data != precise {
		t.Error("numbers are not in the warehouse as they came")
	}
	p.stop()
}

func compress(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

// TestAHugeBodyIsNotRead announces or streams 200 MB: the answer is 413 before
// much of it was sent, or the connection is closed, and memory does not grow
// with it.
func TestAHugeBodyIsNotRead(t *testing.T) {
	t.Parallel()
	p := start(t, dataFolder(t, everythingToWarehouse))
	const size = 200 << 20
	for _, framing := range []string{"Content-Length: " + fmt.Sprint(size), "Transfer-Encoding: chunked"} {
		t.Run(framing[:17], func(t *testing.T) {
			conn := p.dial()
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			fmt.Fprintf(conn, "POST /v1/events HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\n%s\r\n\r\n", writeKey, framing)
			sent := make(chan int, 1)
			go func() {
				block := bytes.Repeat([]byte("["), 64<<10)
				if strings.HasPrefix(framing, "Transfer") {
					block = append(fmt.Appendf(nil, "%x\r\n", len(block)), append(block, "\r\n"...)...)
				}
				n := 0
				for n < size {
					m, err := conn.Write(block)
					n += m
					if err != nil {
						break
					}
				}
				sent <- n
			}()
			head := make([]byte, 12)
			_, err := io.ReadFull(conn, head)
			_ = conn.Close()
			n := <-sent
			if err == nil && string(head) != "HTTP/1.1 413" {
				t.Errorf("answered %q", head)
			}
			if n > 64<<20 {
				t.Errorf("%d MB were taken before the refusal (%v)", n>>20, err)
			}
		})
	}
	p.alive()
	if a := p.post(`{"name":"good"}`); a.status != 202 {
		t.Errorf("%d %s", a.status, a.body)
	}
	p.settle()
	p.stop()
}

// TestASlowSenderIsCutOff sends a header, or a body, one byte at a time.
func TestASlowSenderIsCutOff(t *testing.T) {
	t.Parallel()
	p := start(t, dataFolder(t, everythingToWarehouse))
	t.Run("senders", func(t *testing.T) {
		for _, c := range []struct{ name, atOnce, slowly, want string }{
			{"header", "POST /v1/events HTTP/1.1\r\nHost: gateway\r\n", "X-Slow: " + strings.Repeat("x", 1000), ""},
			{"body", "POST /v1/events HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer " + writeKey +
				"\r\nContent-Length: 1000\r\n\r\n", `{"name":"` + strings.Repeat("x", 990), "HTTP/1.1 408"},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				conn := p.dial()
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(patience))
				_, _ = io.WriteString(conn, c.atOnce)
				began := time.Now()
				go func() {
					for i := range len(c.slowly) {
						if _, err := conn.Write([]byte{c.slowly[i]}); err != nil {
							return
						}
						wait(100 * time.Millisecond)
					}
				}()
				answer, err := io.ReadAll(conn)
				if took := time.Since(began); took > 30*time.Second {
					t.Errorf("cut off after %v", took)
				}
				if len(answer) > 0 && !strings.HasPrefix(string(answer), c.want) || len(answer) == 0 && c.want != "" {
					t.Errorf("answered %q, %v", answer, err)
				}
			})
		}
	})
	// Neighbours do not notice.
	for range 10 {
		if a := p.post(`{"name":"good"}`); a.status != 202 {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if l := p.settle(); l.Stored != 10 {
		t.Errorf("%+v", l)
	}
	p.stop()
}

// dial opens a connection to the gateway.
func (p *process) dial() net.Conn {
	p.t.Helper()
	u, err := url.Parse(p.gateway)
	if err != nil {
		p.t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		p.t.Fatal(err)
	}
	return conn
}
