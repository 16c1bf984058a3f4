package simulator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strings"
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

// summary is what programs get in place of the page.
type summary struct {
	Kind   string `json:"vendor"`
	Counts Counts `json:"counts"`
	// ByName is how many of the items that are kept have a kind and a name, Newest
	// is the last one of each.
	ByName []named `json:"by_name"`
}

type named struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Items  int    `json:"items"`
	Newest Item   `json:"newest"`
}

// summarize counts what has arrived.
func (v *Vendor) summarize() summary {
	s := summary{Kind: v.kind, Counts: v.Counts()}
	places := map[[2]string]int{}
	for _, item := range v.Received() {
		key := [2]string{item.Kind, item.Name}
		place, known := places[key]
		if !known {
			place = len(s.ByName)
			places[key] = place
			s.ByName = append(s.ByName, named{Kind: item.Kind, Name: item.Name})
		}
		s.ByName[place].Items++
		s.ByName[place].Newest = item
	}
	slices.SortStableFunc(s.ByName, func(a, b named) int { return cmp.Compare(b.Items, a.Items) })
	return s
}

// page shows people what has arrived, and programs that ask for JSON how much.
func (v *Vendor) page(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Vary", "Accept")
	if strings.HasPrefix(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v.summarize()) // the reader may be gone
		return
	}
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
