package edge

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/eventsluice/sluice/api"
	"github.com/eventsluice/sluice/api/browser"
)

func TestFilesAreServedToEveryPageAndCached(t *testing.T) {
	t.Parallel()
	for path, c := range map[string]struct {
		contentType string
		body        []byte
		most        int // bytes of gzip
	}{
		"/sluice.js":    {"text/javascript; charset=utf-8", browser.Snippet, 2000},
		"/openapi.yaml": {"application/yaml", api.YAML(), 20_000},
		"/openapi.json": {"application/json", api.JSON(), 20_000},
		"/docs":         {"text/html; charset=utf-8", nil, 25_000},
	} {
		t.Run(path[1:], func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			get := func(method string, header ...string) answer {
				w := httptest.NewRecorder()
				r.edge.ServeHTTP(w, newRequest(method, path, "", "", append(header, "Origin: https://anyone.example")...))
				return answer{status: w.Code, header: w.Header(), body: w.Body.String()}
			}
			plain := get(http.MethodGet)
			if plain.status != 200 || c.body != nil && plain.body != string(c.body) {
				t.Fatalf("answered %d with %d bytes", plain.status, len(plain.body))
			}
			packed := get(http.MethodGet, "Accept-Encoding: br, gzip;q=0.9")
			zr, err := gzip.NewReader(strings.NewReader(packed.body))
			if err != nil {
				t.Fatal(err)
			}
			if text, err := io.ReadAll(zr); err != nil || string(text) != plain.body || len(packed.body) >= c.most {
				t.Errorf("%d bytes of gzip, %v", len(packed.body), err)
			}
			for name, a := range map[string]answer{"plain": plain, "gzip": packed} {
				tag := a.header.Get("ETag")
				if a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Content-Type") != c.contentType ||
					!strings.Contains(a.header.Get("Cache-Control"), "max-age") || a.header.Get("Vary") != "Accept-Encoding" || len(tag) < 10 {
					t.Errorf("%s: %v", name, a.header)
				}
				encoding := "Accept-Encoding: " + a.header.Get("Content-Encoding")
				if again := get(http.MethodGet, encoding, "If-None-Match: "+tag); again.status != 304 || again.body != "" || again.header.Get("ETag") != tag {
					t.Errorf("%s: asked again, answered %d with %d bytes", name, again.status, len(again.body))
				}
				if other := get(http.MethodGet, encoding, `If-None-Match: "0123456789abcdef"`); other.status != 200 {
					t.Errorf("%s: asked with another tag, answered %d", name, other.status)
				}
			}
			if plain.header.Get("ETag") == packed.header.Get("ETag") {
				t.Error("two forms have one tag")
			}
			if a := get(http.MethodGet, "Accept-Encoding: gzip; q=0"); a.header.Get("Content-Encoding") != "" {
				t.Error("gzip is sent to who refuses it")
			}
			if a := get(http.MethodHead); a.status != 200 || a.body != "" {
				t.Errorf("HEAD: %d %q", a.status, a.body)
			}
			if a := get(http.MethodPost); a.status != 405 {
				t.Errorf("POST: %d", a.status)
			}
		})
	}
}

func TestThePageOfTheDocumentMayLoadNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{})
	w := httptest.NewRecorder()
	r.edge.ServeHTTP(w, newRequest(http.MethodGet, "/docs", "", ""))
	policy := w.Header().Get("Content-Security-Policy")
	_, style, _ := strings.Cut(w.Body.String(), "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	if want := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; style == "" || !strings.Contains(policy, want) {
		t.Errorf("the policy %q does not allow the style of the page: want %s", policy, want)
	}
	if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
		t.Errorf("the policy is %q", policy)
	}
}
