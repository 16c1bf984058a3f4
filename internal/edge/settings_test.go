package edge

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func TestSDKsGetTheDocumentsWithoutWhichTheySendNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path, key string
		status          int
		code            string
		want            func(doc map[string]any) bool
	}{
		{"Segment", "/v1/projects/wk_web/settings", "", 200, "", func(doc map[string]any) bool {
			own, _ := doc["integrations"].(map[string]any)["Segment.io"].(map[string]any)
			_, host := own["apiHost"]
			http, _ := own["httpConfig"].(map[string]any)
			return own["apiKey"] == "wk_web" && !host && http["rateLimitConfig"] != nil && http["backoffConfig"] != nil
		}},
		{"Segment, slash at the end", "/v1/projects/wk_web/settings/", "", 200, "", nil},
		{"Segment, unknown key", "/v1/projects/wk_nobody/settings", "", 401, "unknown_key", nil},
		{"Segment, disabled key", "/v1/projects/wk_off/settings", "", 401, "disabled_key", nil},
		{"Segment, expired key", "/v1/projects/wk_old/settings", "", 401, "expired_key", nil},
		{"RudderStack for pages", "/sourceConfig/?p=npm&v=3.34.1&build=modern&writeKey=wk_web", "", 200, "", func(doc map[string]any) bool {
			source := doc["source"].(map[string]any)
			_, planes := doc["dataplanes"]
			return source["enabled"] == true && source["config"] != nil && source["destinations"] != nil && !planes
		}},
		{"RudderStack for apps", "/sourceConfig?p=ios&v=1.31.0", "wk_web", 200, "", nil},
		{"RudderStack, no key", "/sourceConfig?p=ios", "", 401, "missing_key", nil},
		{"RudderStack, unknown key", "/sourceConfig", "wk_nobody", 401, "unknown_key", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			header := []string{"Origin: https://shop.example"}
			if tt.key != "" {
				header = append(header, "Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte(tt.key+":")))
			}
			a := r.do(newRequest(http.MethodGet, tt.path, "", "", header...))
			a.want(tt.status, tt.code)
			if tt.status != 200 {
				return
			}
			if a.header.Get("Access-Control-Allow-Origin") != "https://shop.example" || !strings.Contains(a.header.Get("Cache-Control"), "max-age") {
				t.Errorf("header %v", a.header)
			}
			var doc map[string]any
			if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
				t.Fatal(err)
			}
			if tt.want != nil && !tt.want(doc) {
				t.Errorf("%s", a.body)
			}
		})
	}
}

func TestAPixelCarriesAnEvent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path, query, referer string
		status                     int
		code                       string
		stored, letters            int
	}{
		{"base64 with the key in it", "/v1/pixel/track", "data=" + base64.URLEncoding.EncodeToString([]byte(`{"event":"Opened","writeKey":"wk_web"}`)), "", 200, "", 1, 0},
		{"plain JSON, escaped", "/v1/pixel/page/", "data=%7B%22name%22%3A%22Home%22%7D&writeKey=wk_web", "", 200, "", 1, 0},
		{"an event without a name", "/v1/pixel/track", "data=%7B%7D&writeKey=wk_web", "", 200, "", 0, 1},
		{"no base64", "/v1/pixel/track", "data=!!&writeKey=wk_web", "", 400, "invalid_encoding", 0, 0},
		{"no data", "/v1/pixel/track", "writeKey=wk_web", "", 400, "empty_body", 0, 0},
		{"no key", "/v1/pixel/track", "data=%7B%22event%22%3A%22a%22%7D", "", 401, "missing_key", 0, 0},
		// Images are asked for without an Origin, and with a Referer.
		{"from a page of the key's origin", "/v1/pixel/track", "data=%7B%22event%22%3A%22a%22%7D&writeKey=wk_shop", "https://shop.example/cart?x=1", 200, "", 1, 0},
		{"from the origin itself", "/v1/pixel/track", "data=%7B%22event%22%3A%22a%22%7D&writeKey=wk_shop", "https://shop.example", 200, "", 1, 0},
		{"from a page of another origin", "/v1/pixel/track", "data=%7B%22event%22%3A%22a%22%7D&writeKey=wk_shop", "https://evil.example/https://shop.example/", 403, "origin_forbidden", 0, 0},
		{"from nowhere, with a key that is for origins", "/v1/pixel/track", "data=%7B%22event%22%3A%22a%22%7D&writeKey=wk_shop", "", 403, "origin_forbidden", 0, 0},
		{"a Referer that is no URL", "/v1/pixel/track", "data=%7B%22event%22%3A%22a%22%7D&writeKey=wk_shop", "shop.example", 403, "origin_forbidden", 0, 0},
		{"a secret key in a page", "/v1/pixel/track", "data=%7B%22event%22%3A%22a%22%7D&writeKey=wk_backend", "https://shop.example/", 403, "secret_key_in_browser", 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{})
			var header []string
			if tt.referer != "" {
				header = append(header, "Referer: "+tt.referer)
			}
			a := r.do(newRequest(http.MethodGet, tt.path+"?"+tt.query, "", "", header...))
			a.want(tt.status, tt.code)
			if got := a.header.Get("Content-Type"); tt.status == 200 && (got != "image/gif" || !strings.HasPrefix(a.body, "GIF89a") || a.header.Get("Cache-Control") != "no-store") {
				t.Errorf("answered %q %v", a.body, a.header)
			}
			if len(r.events()) != tt.stored || len(r.letters()) != tt.letters {
				t.Errorf("%d events, %d letters", len(r.events()), len(r.letters()))
			}
		})
	}
}
