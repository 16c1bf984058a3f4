package edge

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/eventsluice/sluice/api/browser"
)

var (
	scriptType   = []string{"text/javascript; charset=utf-8"}
	anyOrigin    = []string{"*"}
	crossOrigin  = []string{"cross-origin"}
	gzipEncoding = []string{"gzip"}
	varyEncoding = []string{"Accept-Encoding"}
	cacheSnippet = []string{"public, max-age=3600"}
	snippetTag   = tagOf(browser.Snippet)
	gzippedTag   = strings.TrimSuffix(snippetTag, `"`) + `-gzip"`
	gzippedOnce  = sync.OnceValue(gzipSnippet)
)

func tagOf(file []byte) string {
	sum := sha256.Sum256(file)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

func gzipSnippet() []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		panic(err) // a fault of the level
	}
	_, _ = w.Write(browser.Snippet) // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// snippet answers GET /sluice.js. The file has nothing of a key in it: it is
// the same for every page of every origin, also for those that load it with
// crossorigin or isolate themselves.
func (x *exchange) snippet() {
	h := x.Header()
	h["Access-Control-Allow-Origin"] = anyOrigin
	h["Cross-Origin-Resource-Policy"] = crossOrigin
	h["Cache-Control"] = cacheSnippet
	h["Vary"] = varyEncoding
	h["X-Content-Type-Options"] = noSniff
	body, tag := browser.Snippet, snippetTag
	if acceptsGzip(x.req.Header["Accept-Encoding"]) {
		body, tag = gzippedOnce(), gzippedTag
		h["Content-Encoding"] = gzipEncoding
	}
	h["Etag"] = []string{tag}
	for _, known := range x.req.Header["If-None-Match"] {
		if strings.Contains(known, tag) {
			delete(h, "Content-Encoding")
			x.reply(http.StatusNotModified, nil, nil)
			return
		}
	}
	if x.req.Method == http.MethodHead {
		body = nil
	}
	x.reply(http.StatusOK, scriptType, body)
}

// acceptsGzip reports whether gzip is among the encodings of a request.
func acceptsGzip(header []string) bool {
	for _, line := range header {
		for part := range strings.SplitSeq(line, ",") {
			name, quality, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") {
				return strings.ReplaceAll(quality, " ", "") != "q=0"
			}
		}
	}
	return false
}
