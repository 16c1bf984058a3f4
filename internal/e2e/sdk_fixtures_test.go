package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fixtureKey is the key in the recorded requests. The gateway has it, so that
// they are sent as they were recorded, byte by byte.
const fixtureKey = "WK_fixture"

// sdkFixture is a request as an SDK has sent it.
type sdkFixture struct {
	Request struct {
		Method, Path string
		Query        map[string]string
		Headers      [][2]string
		Body         json.RawMessage
		BodyBase64   []byte
		BodyText     string
	}
	Events []struct{ ID, Name, Type string }
}

// sdkFixtures are the recorded requests by the names of their files.
func sdkFixtures(t *testing.T) map[string]sdkFixture {
	t.Helper()
	found := map[string]sdkFixture{}
	for _, folder := range []string{filepath.Join("..", "edge", "testdata", "sdk"), filepath.Join("testdata", "sdk")} {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".json" {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			var f sdkFixture
			unmarshal(t, string(text), &f)
			found[filepath.Base(filepath.Dir(path))+" "+strings.TrimSuffix(filepath.Base(path), ".json")] = f
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(found) < 45 {
		t.Fatalf("there are only %d fixtures", len(found))
	}
	return found
}

// replay sends the request, and returns the answer and its body.
func (f sdkFixture) replay(t *testing.T, address string) (*http.Response, string) {
	t.Helper()
	body := []byte(f.Request.Body)
	switch {
	case f.Request.BodyBase64 != nil:
		body = f.Request.BodyBase64
	case f.Request.BodyText != "":
		body = []byte(f.Request.BodyText)
	}
	query := url.Values{}
	for name, value := range f.Request.Query {
		query.Set(name, value)
	}
	req, err := http.NewRequestWithContext(t.Context(), f.Request.Method, address+f.Request.Path+"?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range f.Request.Headers {
		switch http.CanonicalHeaderKey(h[0]) {
		case "Content-Length", "Transfer-Encoding", "Accept-Encoding": // of the connection
		default:
			req.Header.Add(h[0], h[1])
		}
	}
	// The contract is checked on the way to the gateway, behind the wire.
	resp, err := new(http.Client).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// testFixtures replays what SDKs have sent: also those that do not run here,
// for iOS and Android.
func testFixtures(t *testing.T, g *sdkGateway) {
	w := newWire(t, g.gateway)
	events := 0
	named := map[string]struct{ ID, Name, Type string }{}
	for name, f := range sdkFixtures(t) {
		t.Run(name, func(t *testing.T) {
			resp, body := f.replay(t, w.URL)
			origin := ""
			for _, h := range f.Request.Headers {
				if h[0] == "Origin" {
					origin = h[1]
				}
			}
			if got := resp.Header.Get("Access-Control-Allow-Origin"); got != origin {
				t.Errorf("the origin %q is answered with %q", origin, got)
			}
			switch {
			case f.Request.Method == http.MethodOptions:
				wantProceed(t, f, resp)
			case strings.HasSuffix(f.Request.Path, "/settings") || strings.HasPrefix(f.Request.Path, "/sourceConfig"):
				if resp.StatusCode != http.StatusOK || !json.Valid([]byte(body)) {
					t.Errorf("answered %d %s", resp.StatusCode, body)
				}
			case f.Request.Method == http.MethodGet:
				if resp.StatusCode != http.StatusOK || !strings.HasPrefix(body, "GIF89a") {
					t.Errorf("answered %d %q", resp.StatusCode, body)
				}
			default:
				if resp.StatusCode != http.StatusOK || body != `{"success":true}` {
					t.Errorf("answered %d %s", resp.StatusCode, body)
				}
			}
			events += len(f.Events)
			for _, e := range f.Events {
				named[e.ID] = e
			}
		})
	}
	rows := g.wantInWarehouse(t, w, "fixture", func() int { return len(named) })
	for id, e := range named {
		if r := rows[id]; r.name != e.Name || r.kind != e.Type {
			t.Errorf("%s is %s %s, want %+v", id, r.kind, r.name, e)
		}
	}
	if len(named) < 30 || events < len(named) {
		t.Errorf("%d events in the fixtures", len(named))
	}
}

// wantProceed wants that a browser sends what it has asked for with a preflight.
func wantProceed(t *testing.T, f sdkFixture, resp *http.Response) {
	t.Helper()
	h := resp.Header
	if resp.StatusCode/100 != 2 || h.Get("Access-Control-Allow-Credentials") != "true" || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "Retry-After") {
		t.Errorf("answered %d %v", resp.StatusCode, h)
	}
	for _, asked := range f.Request.Headers {
		allowed := ""
		switch asked[0] {
		case "Access-Control-Request-Method":
			allowed = h.Get("Access-Control-Allow-Methods")
		case "Access-Control-Request-Headers":
			allowed = h.Get("Access-Control-Allow-Headers")
		default:
			continue
		}
		list := strings.Split(strings.ReplaceAll(allowed, " ", ""), ",")
		for name := range strings.SplitSeq(asked[1], ",") {
			if !containsFold(list, strings.TrimSpace(name)) {
				t.Errorf("%s is not in %q", name, allowed)
			}
		}
	}
}

func containsFold(list []string, s string) bool {
	for _, one := range list {
		if strings.EqualFold(one, s) {
			return true
		}
	}
	return false
}
