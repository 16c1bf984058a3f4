package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/eventsluice/sluice/internal/testenv"
)

// pages is a web site, at another origin than the gateway's. /page/NAME has
// the bundle NAME in it, /snippet/ our snippet and /empty/ nothing.
type pages struct {
	*httptest.Server
	origin string
	// insecure is the same site where browsers do not trust the network.
	insecure string

	mu      sync.Mutex
	bundles map[string][]byte
}

func newPages(t *testing.T) *pages {
	t.Helper()
	testenv.NodeModules(t, "node")
	p := &pages{bundles: map[string][]byte{}}
	p.Server = httptest.NewServer(p)
	// Of another site than 127.0.0.1 is, and safe to a browser all the same.
	p.origin = strings.Replace(p.URL, "127.0.0.1", "localhost", 1)
	p.insecure = strings.Replace(p.URL, "127.0.0.1", "shop.example", 1)
	t.Cleanup(p.Close)
	return p
}

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	folder, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch folder {
	case "bundle":
		p.mu.Lock()
		text := p.bundles[strings.TrimSuffix(name, ".js")]
		p.mu.Unlock()
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(text)
	case "page":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><html lang="en"><title>Shop</title><link rel="icon" href="data:,"><script src="/bundle/%s.js"></script><p>Hello`, name)
	case "snippet":
		// As the documents say, with calls before the script has come.
		q := r.URL.Query()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if policy := q.Get("policy"); policy != "" {
			w.Header().Set("Content-Security-Policy", policy)
		}
		fmt.Fprintf(w, `<!doctype html><html lang="en"><title>Shop</title><link rel="icon" href="data:,">
<script nonce="n">window.sluice = window.sluice || function () { (sluice.q = sluice.q || []).push(arguments) }
%s</script><script async src="%s/sluice.js"></script><p>Hello`, q.Get("calls"), q.Get("gateway"))
	case "empty":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><html lang="en"><title>Empty</title><link rel="icon" href="data:,"><p>Nothing`)
	default:
		http.NotFound(w, r)
	}
}

// bundle makes the bundle of an adapter of the folder browser and returns the
// path of its page. instead names packages that take the place of others, such
// as an older version.
func (p *pages) bundle(t *testing.T, adapter string, instead map[string]string) (path string) {
	t.Helper()
	name := adapter
	modules, err := filepath.Abs(filepath.Join("node", "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	folder, err := filepath.Abs("browser")
	if err != nil {
		t.Fatal(err)
	}
	alias := map[string]string{}
	for of, with := range instead {
		alias[of] = filepath.Join(modules, with)
		name += "-" + with
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bundles[name] != nil {
		return "/page/" + name
	}
	out := api.Build(api.BuildOptions{
		Stdin: &api.StdinOptions{
			Contents:   fmt.Sprintf(`import { open } from "./%s.mjs"; import { runWith, openAtOnce } from "./run.mjs"; window.run = runWith(open); openAtOnce(open)`, adapter),
			ResolveDir: folder,
		},
		Bundle: true, Write: false, Format: api.FormatIIFE, Platform: api.PlatformBrowser, Target: api.ES2020, LogLevel: api.LogLevelSilent,
		NodePaths: []string{modules}, Alias: alias,
		Define: map[string]string{"process.env.NODE_ENV": `"production"`},
	})
	for _, m := range out.Errors {
		t.Errorf("%s: %s", adapter, m.Text)
	}
	if len(out.OutputFiles) != 1 {
		t.Fatalf("%s: there is no bundle", adapter)
	}
	p.bundles[name] = out.OutputFiles[0].Contents
	return "/page/" + name
}

// sdkPage is an SDK in a page.
type sdkPage struct {
	p       *pages
	c       *chromium
	adapter string
	instead map[string]string // packages that take the place of others
	options string            // for the adapter, members of a JSON object
}

func (s sdkPage) run(t *testing.T, calls []call, runs []*sdkRun) {
	t.Helper()
	path := s.p.bundle(t, s.adapter, s.instead)
	tabs := make([]*tab, len(runs))
	for i, r := range runs {
		tabs[i] = s.c.visitor(t).open(s.p.origin + path)
		config := fmt.Sprintf(`{"host":%q,"key":%q%s}`, r.URL, r.key, s.options)
		tabs[i].eval("window.result = run("+config+","+js(t, calls)+"), 0", nil)
	}
	for i, r := range runs {
		tabs[i].eval("window.result", &r.belief)
	}
}

// rawSenders are the ways of browser/raw.mjs to send without an SDK.
var rawSenders = []string{
	"fetch JSON", "fetch with Authorization", "fetch with credentials", "fetch keepalive", "fetch no-cors", "fetch gzip", "XHR",
	"beacon string", "beacon Blob text", "beacon Blob JSON", "pixel", "form",
}

// testRawSenders sends one event in each of the ways, from one page.
func testRawSenders(t *testing.T, g *sdkGateway, p *pages, c *chromium) {
	tb := c.visitor(t).open(p.origin + p.bundle(t, "raw", nil))
	for _, how := range rawSenders {
		t.Run(how, func(t *testing.T) {
			r := g.newRun(t, true)
			calls := numbered([]call{{Call: "track", UserID: "ü-1", Event: how, Properties: map[string]any{"emoji": "👩‍👩‍👧‍👦"}}})
			tb.eval(fmt.Sprintf(`run({"host":%q,"key":%q,"how":%q},%s)`, r.URL, r.key, how, js(t, calls)), &r.belief)
			wantCalls(t, calls, g.wantInWarehouse(t, r.wire, r.source, func() int { return 1 }), 0)
			if len(r.belief.Delivered) != 1 {
				t.Errorf("the page believes %+v", r.belief)
			}
		})
	}
}

// sdksInPages are the SDKs from npm for pages.
func sdksInPages(p *pages, c *chromium) []unmodifiedSDK {
	page := func(adapter, options string, instead ...string) sdkPage {
		s := sdkPage{p: p, c: c, adapter: adapter, options: options, instead: map[string]string{}}
		for i := 0; i < len(instead); i += 2 {
			s.instead[instead[i]] = instead[i+1]
		}
		return s
	}
	return []unmodifiedSDK{
		{name: "segment analytics-next, single", inPage: true, runner: page("segment", ""), after: thorough},
		{name: "segment analytics-next, batching", inPage: true, silent: true, runner: page("segment", `,"strategy":"batching"`), after: thorough},
		{
			name: "segment analytics-next 1.70", inPage: true, silent: true, deaf: true, after: thorough,
			runner: page("segment", "", "@segment/analytics-next", "segment-next-1-70"),
		},
		{
			name: "segment analytics-next 1.55", inPage: true, silent: true, deaf: true, after: thorough,
			runner: page("segment", "", "@segment/analytics-next", "segment-next-1-55"),
		},
		{name: "rudderstack analytics-js, single", inPage: true, runner: page("rudder", ""), lacks: is("screen"), silent: true, after: thorough},
		{
			name: "rudderstack analytics-js, batches", inPage: true, runner: page("rudder", `,"queueOptions":{"batch":{"enabled":true,"maxItems":4,"flushInterval":500}}`), lacks: is("screen"), silent: true,
			after: thorough,
		},
		{ // it sees no answer
			name: "rudderstack analytics-js, beacons", inPage: true, runner: page("rudder", `,"useBeacon":true,"beaconQueueOptions":{"maxItems":4,"flushQueueInterval":500}`), lacks: is("screen"), silent: true,
			after: carelessInPage,
		},
		{name: "jitsu js in a page", inPage: true, runner: page("jitsu", ""), lacks: is("screen", "alias"), after: carelessInPage},
	}
}
