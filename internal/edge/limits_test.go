package edge

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/eventsluice/sluice/internal/edge/limit"
)

// endless is a body that has no end, and counts what is read of it.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	clear(p)
	e.read += len(p)
	return len(p), nil
}

func TestALargeBodyIsRefusedBeforeItIsRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	for _, path := range []string{"/v1/events", "/v1/batch"} {
		body := &endless{}
		req := newRequest(http.MethodPost, path, "wk_web", "")
		req.Body, req.ContentLength = io.NopCloser(body), 200<<20
		a := r.do(req).want(413, "body_too_large")
		if body.read > 0 || a.header.Get("Connection") != "close" || !strings.Contains(a.problem().Detail, "10 MiB") {
			t.Errorf("%s: %d bytes read, %v, %s", path, body.read, a.header, a.body)
		}
	}
}

func TestABodyWithoutAnEndIsReadToTheLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	for path, limit := range map[string]int{"/v1/events": 10 << 20, "/v1/batch": 2 << 20} {
		body := &endless{}
		key := "wk_web"
		if path == "/v1/batch" {
			key = "" // it could be in the body
		}
		req := newRequest(http.MethodPost, path, key, "")
		req.Body, req.ContentLength = io.NopCloser(body), -1
		r.do(req).want(413, "body_too_large")
		if body.read > limit+1 {
			t.Errorf("%s: %d bytes read, the limit is %d", path, body.read, limit)
		}
	}
}

func TestABodyOfExactlyTheLimitIsRead(t *testing.T) {
	t.Parallel()
	const limit = 50_000
	body := func(n int) string { return good + strings.Repeat(" ", n-len(good)) }
	for _, chunked := range []bool{false, true} {
		for _, encoding := range []string{"identity", "gzip", "zstd"} {
			for n, status := range map[int]int{limit: 202, limit + 1: 413} {
				r := newRig(t, Config{MaxBody: limit})
				sent := body(n)
				switch encoding {
				case "gzip":
					sent = gzipOf(sent)
				case "zstd":
					sent = zstdOf(sent)
				}
				req := newRequest(http.MethodPost, "/v1/events", "wk_web", sent, "Content-Encoding: "+encoding)
				if chunked {
					req.ContentLength = -1
				}
				if a := r.do(req); a.status != status {
					t.Errorf("%d bytes, %s, chunked %v: %d %s", n, encoding, chunked, a.status, a.body)
				}
			}
		}
	}
}

func bomb(t *testing.T, encoding string, size int) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	if encoding == "gzip" {
		w, _ = gzip.NewWriterLevel(&b, gzip.BestSpeed)
	} else {
		w, _ = zstd.NewWriter(&b, zstd.WithWindowSize(8<<20), zstd.WithEncoderConcurrency(1))
	}
	if _, err := io.CopyN(w, &endless{}, int64(size)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.String()
}

func TestADecompressionBombIsRefusedInBoundedMemory(t *testing.T) {
	for _, encoding := range []string{"gzip", "zstd"} {
		body := bomb(t, encoding, 100<<20)
		r := newRig(t, Config{})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r.post("/v1/events", "wk_web", body, "Content-Encoding: "+encoding).want(413, "body_too_large")
		runtime.ReadMemStats(&after)
		// The room doubles up to 10 MiB: 20 in all, and the windows of zstd.
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 48<<20 {
			t.Errorf("%s: %d bytes allocated for a body of %d", encoding, allocated, len(body))
		}
	}
}

func TestTheRatioOfDecompressionIsBounded(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"gzip", "zstd"} {
		r := newRig(t, Config{MaxRatio: 2})
		body := good + strings.Repeat(" ", 3<<20)
		packed := gzipOf(body)
		if encoding == "zstd" {
			packed = zstdOf(body)
		}
		r.post("/v1/events", "wk_web", packed, "Content-Encoding: "+encoding).want(413, "body_too_large")
		// Small bodies may be as repetitive as they like.
		small := good + strings.Repeat(" ", 900<<10)
		if packed = gzipOf(small); encoding == "zstd" {
			packed = zstdOf(small)
		}
		r.post("/v1/events", "wk_web", packed, "Content-Encoding: "+encoding).want(202, "")
	}
}

func TestAZstdFrameThatClaimsAGigabyteGetsNone(t *testing.T) {
	t.Parallel()
	// A frame header with a content size of 1 GiB and a window of 1 GiB, and
	// one raw block of one byte.
	for name, frame := range map[string]string{
		"content size": "\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x40\x09\x00\x00{",
		"window":       "\x28\xb5\x2f\xfd\x00\xa0\x09\x00\x00{",
	} {
		r := newRig(t, Config{})
		a := r.post("/v1/events", "wk_web", frame, "Content-Encoding: zstd")
		if a.status != 413 && a.status != 400 {
			t.Errorf("%s: %d", name, a.status)
		}
	}
}

func TestTheBudgetOfBytesInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testBudget)
}

func testBudget(t *testing.T) {
	r := newRig(t, Config{MaxBody: 50_000, MaxInFlight: 250_000})
	r.stream.wait = make(chan struct{})
	body := good + strings.Repeat(" ", 49_000)
	first := make(chan answer)
	go func() {
		req := newRequest(http.MethodPost, "/v1/events", "wk_web", body)
		w := httptest.NewRecorder()
		r.edge.ServeHTTP(w, req)
		first <- answer{t: t, status: w.Code}
	}()
	synctest.Wait() // it waits for the stream
	held := r.edge.InFlight()
	unread := &endless{}
	req := newRequest(http.MethodPost, "/v1/events", "wk_web", "")
	req.Body, req.ContentLength = io.NopCloser(unread), 49_000
	w := httptest.NewRecorder()
	r.edge.ServeHTTP(w, req)
	a := answer{t: t, status: w.Code, header: w.Header(), body: w.Body.String()}
	a.check()
	a.want(503, "overloaded")
	if unread.read != 0 {
		t.Error("the body was read before there was room for it")
	}
	if got := r.edge.InFlight(); got != held {
		t.Errorf("%d bytes in flight after a refusal, %d before", got, held)
	}
	close(r.stream.wait)
	if a := <-first; a.status != 202 {
		t.Errorf("the first request got %d", a.status)
	}
	if r.edge.InFlight() != 0 {
		t.Error("the budget is not given back")
	}
	r.post("/v1/events", "wk_web", body).want(202, "")
}

// Ten thousand events in three bytes each cost more than their bytes.
func TestSmallEventsAreCountedInTheBudget(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ path, body string }{
		{"/v1/events", "[" + strings.Repeat("{},", 9999) + "{}]"},
		{"/v1/batch", "[" + strings.Repeat("{},", 9999) + "{}]"},
		{"/v1/events", "[" + strings.Repeat(`{"name":"a"},`, 9999) + `{"name":"a"}]`},
	} {
		r := newRig(t, Config{MaxBody: 200_000, MaxInFlight: 3 << 20})
		if a := r.post(tt.path, "wk_web", tt.body); a.status == 503 {
			t.Error("a request that is alone is refused for room")
		}
		r = newRig(t, Config{MaxBody: 200_000, MaxInFlight: 3 << 20})
		r.edge.inFlight.Add(1) // it is not alone
		w := httptest.NewRecorder()
		r.edge.ServeHTTP(w, newRequest(http.MethodPost, tt.path, "wk_web", tt.body))
		if w.Code != 503 || !strings.Contains(w.Body.String(), "overloaded") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		r.wantLedger(0, nil)
		if len(r.events())+len(r.letters()) != 0 {
			t.Error("something was kept")
		}
	}
}

func TestTheRateOfAKeyIsCountedInEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	batch := func(n int) string { return "[" + strings.Repeat(good+",", n-1) + good + "]" }
	r.post("/v1/events", "wk_slow", batch(9)).want(202, "")
	r.post("/v1/events", "wk_slow", batch(2)).want(429, "rate_limited")
	r.wantLedger(9, map[string]uint64{"rate_limited": 2})
	if a := r.post("/v1/batch", "", `{"writeKey":"wk_slow","batch":[{"type":"page"}]}`); a.status != 200 {
		t.Errorf("the last event of the burst: %d %s", a.status, a.body)
	}
	// Now the bucket is empty: refused before the body is read.
	unread := &endless{}
	req := newRequest(http.MethodPost, "/v1/events", "wk_slow", "")
	req.Body, req.ContentLength = io.NopCloser(unread), 1000
	a := r.do(req).want(429, "rate_limited")
	if unread.read != 0 {
		t.Error("the body was read")
	}
	if got := a.header.Get("Retry-After"); got != "1000" && got != "999" {
		t.Errorf("Retry-After is %s, want 1000 s for one event at 0.001/s", got)
	}
	r.post("/v1/events", "wk_web", good).want(202, "")
}

func TestTheRateOfAnAddressIsCountedInRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{
		AddressRate:    limit.Rate{PerSecond: 0.001, Burst: 2},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	})
	from := func(peer string, forwarded ...string) answer {
		req := newRequest(http.MethodPost, "/v1/events", "wk_web", good)
		req.RemoteAddr = peer
		for _, f := range forwarded {
			req.Header.Add("X-Forwarded-For", f)
		}
		return r.do(req)
	}
	for i, tt := range []struct {
		peer      string
		forwarded []string
		status    int
	}{
		{"192.0.2.1:1", nil, 202},
		{"192.0.2.1:2", nil, 202},
		{"192.0.2.1:3", nil, 429},
		{"[::ffff:192.0.2.1]:3", nil, 429},
		{"192.0.2.1:3", []string{"198.51.100.7"}, 429}, // not a trusted proxy
		{"192.0.2.2:1", nil, 202},
		{"10.0.0.1:1", []string{"192.0.2.1"}, 429},
		{"10.0.0.1:1", []string{"203.0.113.9, 192.0.2.1, 10.1.1.1"}, 429},
		{"10.0.0.1:1", []string{"203.0.113.9", "192.0.2.1"}, 429},
		{"10.0.0.1:1", []string{"203.0.113.9"}, 202},
		{"[2001:db8:1:2::1]:1", nil, 202},
		{"[2001:db8:1:2::2]:1", nil, 202},
		{"[2001:db8:1:2:ffff::3]:1", nil, 429}, // the same /64
		{"[2001:db8:1:3::1]:1", nil, 202},
	} {
		if a := from(tt.peer, tt.forwarded...); a.status != tt.status {
			t.Errorf("%d: from %s %v: %d, want %d", i, tt.peer, tt.forwarded, a.status, tt.status)
		} else if a.status == 429 {
			a.want(429, "address_rate_limited")
		}
	}
}

func TestForwardedAddressesComeFromTrustedProxiesOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}})
	for _, tt := range []struct{ peer, forwarded, want string }{
		{"192.0.2.1:1", "6.6.6.6", "192.0.2.1"},
		{"10.0.0.1:1", "", "10.0.0.1"},
		{"10.0.0.1:1", "203.0.113.9", "203.0.113.9"},
		{"10.0.0.1:1", "6.6.6.6, 203.0.113.9", "203.0.113.9"},
		{"10.0.0.1:1", "203.0.113.9, 10.2.2.2,fd00::1", "203.0.113.9"},
		{"10.0.0.1:1", "10.9.9.9, 10.2.2.2", "10.9.9.9"},
		{"10.0.0.1:1", "203.0.113.9:4711", "203.0.113.9"},
		{"10.0.0.1:1", "[2001:db8::1]:4711", "2001:db8::1"},
		{"10.0.0.1:1", "203.0.113.9, unknown", "10.0.0.1"},
		{"10.0.0.1:1", "203.0.113.9, ", "10.0.0.1"},
		{"[fd00::2]:1", "2001:db8::1%eth0", "2001:db8::1"},
	} {
		x := &exchange{edge: r.edge, req: newRequest("POST", "/", "", "")}
		x.req.RemoteAddr = tt.peer
		if tt.forwarded != "" {
			x.req.Header.Set("X-Forwarded-For", tt.forwarded)
		}
		if got := x.address().String(); got != tt.want {
			t.Errorf("%s for %q is %s, want %s", tt.peer, tt.forwarded, got, tt.want)
		}
	}
}

func TestConfigNamesEveryFault(t *testing.T) {
	t.Parallel()
	err := Config{MaxBody: -1, BodyTimeout: -1, MaxEvents: -1, AddressRate: limit.Rate{PerSecond: -1}}.Validate()
	for _, want := range []string{"MaxBody", "BodyTimeout", "MaxEvents", "AddressRate.PerSecond"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named: %v", want, err)
		}
	}
	if err := (Config{MaxInFlight: 1}).Validate(); err == nil {
		t.Error("a budget that no body fits in is accepted")
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
	if _, err := New(nil, nil, nil, nil, Config{}); err == nil {
		t.Error("a gateway without a stream")
	}
}
