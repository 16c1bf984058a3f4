package edge

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

func basic(user string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user))
}

func TestKeysArePresentedInManyPlaces(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		path   string // of POST /v1/events, or of the SDK routes
		body   string
		header []string
		status int
		code   string
	}{
		{"bearer", "/v1/events", good, []string{"Authorization: Bearer wk_web"}, 202, ""},
		{"bearer in lower case", "/v1/events", good, []string{"Authorization: bearer  wk_web "}, 202, ""},
		{"basic", "/v1/events", good, []string{basic("wk_web:")}, 202, ""},
		{"basic with a password", "/v1/events", good, []string{basic("wk_web:password")}, 202, ""},
		{"basic without a colon", "/v1/events", good, []string{basic("wk_web")}, 202, ""},
		{"basic without padding", "/v1/events", good, []string{strings.TrimRight(basic("wk_web:"), "=")}, 202, ""},
		{"X-Write-Key", "/v1/events", good, []string{"X-Write-Key: wk_web"}, 202, ""},
		{"X-Write-Key with a secret", "/v1/events", good, []string{"X-Write-Key: wk_web:secret"}, 202, ""},
		{"query", "/v1/events?write_key=wk_web", good, []string{"Content-Type: text/plain"}, 202, ""},
		{"query of RudderStack", "/v1/t?x=1&writeKey=wk%5Fweb&y", `{"event":"a"}`, nil, 200, ""},
		{"body of an SDK, last", "/v1/b", `{"batch":[],"writeKey":"wk_web"}`, nil, 200, ""},
		{"body of one event", "/v1/t", `{"writeKey":"wk_web","event":"a"}`, nil, 200, ""},
		{"the same key twice", "/v1/t?writeKey=wk_web", `{"writeKey":"wk_web","event":"a"}`, []string{basic("wk_web:")}, 200, ""},
		{"a masked key in the body", "/v1/t", `{"writeKey":"wk_w***","event":"a"}`, []string{"X-Write-Key: wk_web:s"}, 200, ""},
		{"a proxy's own name", "/v1/t", `{"writeKey":"wk_web","event":"a"}`, []string{basic("proxy:secret")}, 200, ""},
		{"a body key is not for /v1/events", "/v1/events", `{"writeKey":"wk_web","name":"a"}`, nil, 401, "missing_key"},

		{"two different keys", "/v1/events?write_key=wk_ip", good, []string{"Authorization: Bearer wk_web"}, 400, "conflicting_keys"},
		{"two different keys, one in the body", "/v1/t", `{"writeKey":"wk_ip","event":"a"}`, []string{basic("wk_web:")}, 400, "conflicting_keys"},

		{"none", "/v1/events", good, nil, 401, "missing_key"},
		{"none at an SDK route", "/v1/t", `{"event":"a"}`, nil, 401, "missing_key"},
		{"an empty one", "/v1/events", good, []string{"Authorization: Bearer "}, 401, "missing_key"},
		{"empty in the body", "/v1/t", `{"writeKey":"","event":"a"}`, nil, 401, "missing_key"},
		{"null in the body", "/v1/t", `{"writeKey":null,"event":"a"}`, nil, 401, "missing_key"},
		{"another scheme", "/v1/events", good, []string{"Authorization: Digest x"}, 401, "missing_key"},
		{"unknown", "/v1/events", good, []string{"Authorization: Bearer wk_nobody"}, 401, "unknown_key"},
		{"unknown in the body", "/v1/t", `{"writeKey":"wk_nobody","event":"a"}`, nil, 401, "unknown_key"},
		{"broken base64", "/v1/events", good, []string{"Authorization: Basic !!!"}, 401, "unknown_key"},
		{"endless", "/v1/events", good, []string{"Authorization: Bearer " + strings.Repeat("x", 5000)}, 401, "unknown_key"},
		{"endless basic", "/v1/events", good, []string{basic(strings.Repeat("x", 5000))}, 401, "unknown_key"},
		{"longest basic", "/v1/events", good, []string{basic(strings.Repeat("x", maxKey))}, 401, "unknown_key"},
		{"the hash is not the key", "/v1/events", good, []string{"Authorization: Bearer " + strings.Repeat("0", 64)}, 401, "unknown_key"},
		{"disabled", "/v1/events", good, []string{"Authorization: Bearer wk_off"}, 401, "disabled_key"},
		{"expired", "/v1/events", good, []string{"Authorization: Bearer wk_old"}, 401, "expired_key"},
		{"expired, and a good one behind it", "/v1/events?write_key=wk_web", good, []string{"Authorization: Bearer wk_old"}, 202, ""},

		{"the right origin", "/v1/events", good, []string{"X-Write-Key: wk_shop", "Origin: https://shop.example"}, 202, ""},
		{"a subdomain", "/v1/events", good, []string{"X-Write-Key: wk_shop", "Origin: https://a.b.shop.example"}, 202, ""},
		{"another origin", "/v1/events", good, []string{"X-Write-Key: wk_shop", "Origin: https://evil.example"}, 403, "origin_forbidden"},
		{"no origin for a key of origins", "/v1/events", good, []string{"X-Write-Key: wk_shop"}, 403, "origin_forbidden"},
		{"another origin at an SDK route", "/v1/t", `{"writeKey":"wk_shop","event":"a"}`, []string{"Origin: null"}, 403, "origin_forbidden"},
		{"any origin", "/v1/events", good, []string{"X-Write-Key: wk_web", "Origin: https://evil.example"}, 202, ""},
		{"a secret key of a back end", "/v1/events", good, []string{"X-Write-Key: wk_backend"}, 202, ""},
		{"a secret key in a browser", "/v1/events", good, []string{"X-Write-Key: wk_backend", "Origin: https://shop.example"}, 403, "secret_key_in_browser"},
		{"a secret key at its origin", "/v1/events", good, []string{"X-Write-Key: wk_ops", "Origin: https://ops.example"}, 202, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			a := r.post(tt.path, "", tt.body, tt.header...).want(tt.status, tt.code)
			if tt.status >= 400 {
				r.wantLedger(0, nil)
				if len(r.events())+len(r.letters()) != 0 {
					t.Error("something is kept for a sender who may not send")
				}
			}
			// RudderStack's mobile SDKs stop at this phrase until the app is
			// started again.
			if strings.Contains(strings.ToLower(a.body), "invalid write key") != (tt.code == "unknown_key") {
				t.Errorf("%s", a.body)
			}
		})
	}
}

func TestCORSFollowsTheKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{MaxBody: 10_000})
	for _, tt := range []struct {
		name, key, origin string
		body              string
		status            int
		readable          bool
	}{
		{"accepted", "wk_shop", "https://shop.example", good, 202, true},
		{"refused by the key", "wk_shop", "https://evil.example", good, 403, false},
		{"secret key", "wk_backend", "https://evil.example", good, 403, false},
		{"bad body", "wk_shop", "https://shop.example", "{", 400, true},
		{"large body", "wk_shop", "https://shop.example", strings.Repeat(" ", 10_001), 413, true},
		{"unknown key", "wk_nobody", "https://evil.example", good, 401, true},
		{"no origin", "wk_web", "", good, 202, false},
	} {
		header := []string{}
		if tt.origin != "" {
			header = append(header, "Origin: "+tt.origin)
		}
		a := r.post("/v1/events", tt.key, tt.body, header...)
		want := ""
		if tt.readable {
			want = tt.origin
		}
		h := a.header
		if a.status != tt.status || h.Get("Access-Control-Allow-Origin") != want ||
			(want != "") != (h.Get("Access-Control-Allow-Credentials") == "true") ||
			(want != "") != (h.Get("Access-Control-Expose-Headers") == "Retry-After") ||
			(tt.origin != "") != (h.Get("Vary") == "Origin") {
			t.Errorf("%s: %d %v", tt.name, a.status, h)
		}
	}
}

func TestPreflights(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	ask := func(path, origin, headers string) answer {
		req := newRequest(http.MethodOptions, path, "", "", "Access-Control-Request-Method: POST")
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		if headers != "" {
			req.Header.Set("Access-Control-Request-Headers", headers)
		}
		return r.do(req).want(204, "")
	}
	a := ask("/v1/events", "https://any.example", "content-type,X-Custom, bad header,x-retry-count,sent,é")
	if a.header.Get("Access-Control-Allow-Origin") != "https://any.example" || a.header.Get("Access-Control-Max-Age") != "7200" {
		t.Errorf("%v", a.header)
	}
	allowed := a.header.Get("Access-Control-Allow-Headers")
	for _, name := range []string{"authorization", "x-retry-count", "rsa-recovered", "x-custom", "sent", "traceparent"} {
		if !strings.Contains(", "+allowed+",", ", "+name+",") {
			t.Errorf("%s is not allowed: %s", name, allowed)
		}
	}
	if strings.Contains(allowed, "bad header") || strings.Contains(allowed, "é") {
		t.Errorf("what is no header name is echoed: %s", allowed)
	}
	if got := a.header.Get("Vary"); !strings.Contains(got, "Origin") || !strings.Contains(got, "Access-Control-Request-Headers") {
		t.Errorf("Vary is %s", got)
	}
	if n := len(ask("/v1/t", "https://a.example", strings.Repeat("x-a,", 10_000)).header.Get("Access-Control-Allow-Headers")); n > 5000 {
		t.Errorf("%d bytes of headers are echoed", n)
	}
	// A key in the query decides.
	if got := ask("/v1/events?write_key=wk_shop", "https://evil.example", "").header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("allowed %s", got)
	}
	if got := ask("/v1/events?write_key=wk_shop", "https://www.shop.example", "").header.Get("Access-Control-Allow-Origin"); got == "" {
		t.Error("the key's own origin is refused")
	}
	for path, want := range map[string]string{"/v1/events": "POST, OPTIONS", "/livez/": "GET, HEAD, OPTIONS", "/nothing": "OPTIONS"} {
		if got := ask(path, "https://a.example", "").header.Get("Allow"); got != want {
			t.Errorf("%s allows %q, want %q", path, got, want)
		}
	}
	if h := ask("/v1/events", "", "").header; h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without an origin: %v", h)
	}
}
