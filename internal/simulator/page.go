package simulator

import (
	"bytes"
	"html/template"
	"net/http"
	"unicode/utf8"
)

// How much of what has arrived the page shows.
const (
	pageItems = 200
	pageBody  = 2000 // bytes of each
)

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Simulated {{.Kind}}</title></head>
<body>
<h1>Simulated {{.Kind}}</h1>
<p>{{with .Counts}}{{.Calls}} calls, {{.Throttled}} of them throttled and {{.Lost}} left without an answer.
{{.Taken}} items taken, {{.Duplicates}} duplicates ignored, {{.Refused}} refused, {{.Dropped}} dropped without a word.{{end}}</p>
{{if .Items}}<h2>Taken, the newest first</h2>
<table border="1" cellpadding="4">
<tr><th>kind</th><th>name</th><th>user</th><th>id</th><th>body</th></tr>
{{range .Items}}<tr><td>{{.Kind}}</td><td>{{.Name}}</td><td>{{.User}}</td><td>{{.ID}}</td><td><code>{{.Body}}</code></td></tr>
{{end}}</table>{{end}}
{{if .Drops}}<h2>Dropped without a word, the newest first</h2>
<table border="1" cellpadding="4">
<tr><th>reason</th><th>body</th></tr>
{{range .Drops}}<tr><td>{{.Reason}}</td><td><code>{{.Body}}</code></td></tr>
{{end}}</table>{{end}}
</body>
</html>
`))

// page shows people what has arrived.
func (v *Vendor) page(w http.ResponseWriter) {
	type row struct{ Kind, Name, User, ID, Reason, Body string }
	page := struct {
		Kind         string
		Counts       Counts
		Items, Drops []row
	}{Kind: v.kind, Counts: v.Counts()}
	for _, item := range v.shelf.latest(pageItems) {
		page.Items = append(page.Items, row{Kind: item.Kind, Name: item.Name, User: item.User, ID: item.ID, Body: beginning(item.Body)})
	}
	for _, drop := range v.shelf.latestDrops(pageItems) {
		page.Drops = append(page.Drops, row{Reason: drop.Reason, Body: beginning(drop.Body)})
	}
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, page); err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(out.Bytes()) // the reader may be gone
}

// beginning returns at most pageBody bytes of a body, whole characters.
func beginning(body []byte) string {
	if len(body) <= pageBody {
		return string(body)
	}
	end := pageBody
	for end > 0 && !utf8.RuneStart(body[end]) {
		end--
	}
	return string(body[:end]) + "…"
}
