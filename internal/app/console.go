package app

import (
	_ "embed"
	"net/http"
)

//go:embed console.html
var consoleHTML []byte

//go:embed console.js
var consoleJS []byte

// console is a page that shows the admin API to a person. It loads nothing
// from elsewhere and runs no script but its own.
func (p *program) console(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	page, kind := consoleHTML, "text/html; charset=utf-8"
	if r.URL.Path == "/console.js" {
		page, kind = consoleJS, "text/javascript; charset=utf-8"
	}
	h.Set("Content-Type", kind)
	_, _ = w.Write(page) // a browser that has gone needs no page
}
