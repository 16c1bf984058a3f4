package edge

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/eventsluice/sluice/api"
	"github.com/eventsluice/sluice/api/browser"
)

// file is something that the gateway serves as it is, to everybody: there is
// nothing of a key in it, and so it is the same for every page of every origin,
// also for those that load it with crossorigin or isolate themselves.
type file struct {
	route route
	path  string
	body  []byte
	// headers are those of the file itself, the same in every answer.
	headers        http.Header
	tag, zippedTag []string
	zipped         func() []byte
}

// files are all that are served.
var files = func() []*file {
	all := []*file{newFile(routeSnippet, api.File{
		Path: "/sluice.js", ContentType: "text/javascript; charset=utf-8", Body: browser.Snippet,
	})}
	for _, f := range api.Files() {
		all = append(all, newFile(routeDocs, f))
	}
	return all
}()

func newFile(rt route, f api.File) *file {
	sum := sha256.Sum256(f.Body)
	tag := hex.EncodeToString(sum[:8])
	headers := http.Header{
		"Access-Control-Allow-Origin":  {"*"},
		"Cache-Control":                {"public, max-age=3600"},
		"Content-Type":                 {f.ContentType},
		"Cross-Origin-Resource-Policy": {"cross-origin"},
		"Vary":                         {"Accept-Encoding"},
		"X-Content-Type-Options":       noSniff,
	}
	if f.Policy != "" {
		headers["Content-Security-Policy"] = []string{f.Policy}
		headers["Referrer-Policy"] = []string{"no-referrer"}
	}
	return &file{
		route: rt, path: f.Path, body: f.Body, headers: headers,
		tag: []string{`"` + tag + `"`}, zippedTag: []string{`"` + tag + `-gzip"`},
		zipped: sync.OnceValue(func() []byte { return zip(f.Body) }),
	}
}

func zip(text []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		panic(err) // a fault of the level
	}
	_, _ = w.Write(text) // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

var gzipEncoding = []string{"gzip"}

// file answers GET and HEAD of a file.
func (x *exchange) file(f *file) {
	h := x.Header()
	for name, values := range f.headers {
		h[name] = values
	}
	body, tag := f.body, f.tag
	zipped := acceptsGzip(x.req.Header["Accept-Encoding"])
	if zipped {
		body, tag = f.zipped(), f.zippedTag
	}
	h["Etag"] = tag
	for _, known := range x.req.Header["If-None-Match"] {
		if strings.Contains(known, tag[0]) {
			delete(h, "Content-Type")
			x.reply(http.StatusNotModified, nil, nil)
			return
		}
	}
	if zipped {
		h["Content-Encoding"] = gzipEncoding
	}
	if x.req.Method == http.MethodHead {
		body = nil
	}
	x.reply(http.StatusOK, nil, body)
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
