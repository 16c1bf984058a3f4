package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"strings"
)

//go:embed page.html
var pageTemplate string

//go:embed page.css
var pageStyle string

// page is what the template shows. It is a page of our own, and not one of the
// well-known bundles, for those are a megabyte and more of script, and this is
// read without any.
type page struct {
	Title, Version string
	About          template.HTML
	Style          template.CSS
	Schemes        []entry
	Tags           []tag
	Answers        []answer
	Schemas        []schema
}

// entry is a name and what there is to say about it.
type entry struct {
	Name, Note string
	About      template.HTML
}

type tag struct {
	Name, ID   string
	About      template.HTML
	Operations []operation
}

type operation struct {
	ID, Method, Path, Summary string
	About, BodyAbout          template.HTML
	Parameters                []entry
	Bodies                    []body
	Curl                      string
	Answers                   []answer
}

// body is a body in one content type.
type body struct {
	Type     string
	Schema   template.HTML
	Examples []example
}

type example struct{ Title, Text string }

// answer is one that stands among the components, or, with its bodies, one that
// only its operation gives.
type answer struct {
	Status, Name string
	About        template.HTML
	Headers      []entry
	Bodies       []body
}

type schema struct {
	Name       string
	About      template.HTML
	Type       template.HTML
	Values     []string
	Properties []entry
}

func render(doc node) ([]byte, error) {
	p := page{
		Title: doc.at("info", "title").text(), Version: doc.at("info", "version").text(),
		About: markdown(doc.at("info", "description").text()),
		Style: template.CSS(pageStyle), //nolint:gosec // it is ours
	}
	for _, scheme := range doc.at("components", "securitySchemes").pairs() {
		s := scheme.value
		note := strings.TrimSpace(s.at("scheme").text() + " " + s.at("in").text())
		if s.at("name").Node != nil {
			note += " " + s.at("name").text()
		} else {
			note = "Authorization: " + note
		}
		p.Schemes = append(p.Schemes, entry{scheme.name, note, markdown(s.at("description").text())})
	}
	for _, t := range doc.at("tags").items() {
		name := t.at("name").text()
		p.Tags = append(p.Tags, tag{Name: name, ID: "tag-" + anchor(name), About: markdown(t.at("description").text())})
	}
	var err error
	for _, path := range doc.at("paths").pairs() {
		for _, method := range path.value.pairs() {
			name := method.value.at("tags").items()[0].text()
			for i := range p.Tags {
				if p.Tags[i].Name == name {
					var o operation
					if o, err = newOperation(path.name, method.name, method.value); err != nil {
						return nil, fmt.Errorf("%s %s: %w", method.name, path.name, err)
					}
					p.Tags[i].Operations = append(p.Tags[i].Operations, o)
				}
			}
		}
	}
	for _, a := range doc.at("components", "responses").pairs() {
		one, err := newAnswer("", a.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		one.Name = a.name
		p.Answers = append(p.Answers, one)
	}
	for _, s := range doc.at("components", "schemas").pairs() {
		p.Schemas = append(p.Schemas, newSchema(s.name, s.value))
	}
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, p); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func newOperation(path, method string, n node) (operation, error) {
	o := operation{
		ID: n.at("operationId").text(), Method: strings.ToUpper(method), Path: path,
		Summary: n.at("summary").text(), About: markdown(n.at("description").text()),
		BodyAbout: markdown(n.at("requestBody", "description").text()),
	}
	for _, p := range n.at("parameters").items() {
		note := p.at("in").text()
		if p.at("required").text() == "true" {
			note += ", required"
		}
		if values := texts(p.at("schema", "enum")); len(values) > 0 {
			note += ": " + strings.Join(values, ", ")
		}
		o.Parameters = append(o.Parameters, entry{p.at("name").text(), note, markdown(p.at("description").text())})
	}
	var err error
	if o.Bodies, err = bodies(n.at("requestBody", "content")); err != nil {
		return o, err
	}
	o.Curl = curl(&o, n)
	for _, a := range n.at("responses").pairs() {
		one := answer{Status: a.name, Name: component(a.value), About: markdown(a.value.at("description").text())}
		if one.Name == "" {
			if one, err = newAnswer(a.name, a.value); err != nil {
				return o, err
			}
		}
		o.Answers = append(o.Answers, one)
	}
	return o, nil
}

// component returns the last name of a reference, or nothing.
func component(n node) string {
	ref := n.ref()
	return ref[strings.LastIndexByte(ref, '/')+1:]
}

func newAnswer(status string, n node) (answer, error) {
	a := answer{Status: status, About: markdown(n.at("description").text())}
	for _, h := range n.at("headers").pairs() {
		a.Headers = append(a.Headers, entry{h.name, h.value.at("example").text(), markdown(h.value.at("description").text())})
	}
	var err error
	a.Bodies, err = bodies(n.at("content"))
	return a, err
}

func bodies(content node) ([]body, error) {
	var all []body
	for _, c := range content.pairs() {
		b := body{Type: c.name, Schema: typeOf(c.value.raw("schema"))}
		if one := c.value.raw("example"); one.Node != nil {
			text, err := shown(one)
			if err != nil {
				return nil, err
			}
			b.Examples = append(b.Examples, example{"", text})
		}
		for _, e := range c.value.at("examples").pairs() {
			text, err := shown(e.value.at("value"))
			if err != nil {
				return nil, err
			}
			title := e.value.at("summary").text()
			if title == "" {
				title = e.name
			}
			b.Examples = append(b.Examples, example{title, text})
		}
		all = append(all, b)
	}
	return all, nil
}

// shown is an example as it is read: a string as it is, a document as JSON.
func shown(n node) (string, error) {
	if n.Tag == "!!str" {
		return strings.TrimSpace(n.Value), nil
	}
	text, err := n.json()
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = json.Indent(&out, text, "", "  ")
	return out.String(), err
}

func texts(n node) []string {
	var all []string
	for _, item := range n.items() {
		all = append(all, item.text())
	}
	return all
}

// curl is a line that makes the request. The address and the key come from the
// reader's environment, as the page says at its top.
func curl(o *operation, n node) string {
	path, query := o.Path, ""
	for _, p := range n.at("parameters").items() {
		value := p.at("example").text()
		switch p.at("in").text() {
		case "path":
			if p.at("name").text() == "key" {
				value = "$SLUICE_KEY"
			}
			path = strings.ReplaceAll(path, "{"+p.at("name").text()+"}", value)
		case "query":
			query += "&" + p.at("name").text() + "=" + value
		}
	}
	if query != "" {
		path += "?" + query[1:]
	}
	line := "curl "
	if o.Method == "OPTIONS" {
		line += "-i -X OPTIONS -H 'Origin: https://shop.example' -H 'Access-Control-Request-Method: POST' "
	}
	if takesKey(n) && o.Method != "OPTIONS" {
		line += `-H "Authorization: Bearer $SLUICE_KEY" `
	}
	if len(o.Bodies) > 0 {
		b := o.Bodies[0]
		for _, other := range o.Bodies {
			if other.Type == "application/json" { // what people write
				b = other
			}
		}
		line += "-H 'Content-Type: " + b.Type + "' \\\n  -d '"
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(b.Examples[0].Text)) == nil {
			line += strings.ReplaceAll(compact.String(), "'", `'\''`)
		}
		line += "' \\\n  "
	}
	return line + `"$SLUICE_URL` + path + `"`
}

func takesKey(n node) bool {
	for _, alternative := range n.at("security").items() {
		if len(alternative.pairs()) > 0 {
			return true
		}
	}
	return false
}

func newSchema(name string, n node) schema {
	s := schema{Name: name, About: markdown(n.at("description").text()), Values: texts(n.at("enum"))}
	required := texts(n.at("required"))
	for _, p := range n.at("properties").pairs() {
		note := "optional"
		for _, r := range required {
			if r == p.name {
				note = "required"
			}
		}
		about := markdown(p.value.at("description").text())
		if p.value.ref() != "" {
			about = ""
		}
		s.Properties = append(s.Properties, entry{p.name, note, "<p>" + typeOf(p.value) + "</p>" + about})
	}
	if len(s.Properties) == 0 {
		s.Type = typeOf(node{n.follow().Node, n.root})
	}
	return s
}

// typeOf says in words what a schema allows.
func typeOf(n node) template.HTML {
	if name := component(n); name != "" {
		return template.HTML(`<a href="#schema-` + name + `">` + name + `</a>`) //nolint:gosec // a name of the document
	}
	n = n.follow()
	var words []string
	switch kind := n.at("type").text(); kind {
	case "":
		for _, one := range n.at("oneOf").items() {
			words = append(words, string(typeOf(one)))
		}
		if len(words) == 0 {
			return "any value"
		}
		return template.HTML(strings.Join(words, " or ")) //nolint:gosec // made of the same
	case "array":
		words = append(words, "array of "+string(typeOf(n.raw("items"))))
	default:
		words = append(words, kind)
	}
	if f := n.at("format").text(); f != "" {
		words = append(words, f)
	}
	for _, limit := range []struct{ name, text string }{
		{"minLength", "at least %s characters"}, {"maxLength", "at most %s characters"},
		{"minimum", "at least %s"}, {"maxItems", "at most %s"},
	} {
		if v := n.at(limit.name).text(); v != "" {
			words = append(words, fmt.Sprintf(limit.text, v))
		}
	}
	if values := texts(n.at("enum")); len(values) > 0 {
		words = append(words, template.HTMLEscapeString(strings.Join(values, ", ")))
	}
	if n.at("nullable").text() == "true" {
		words = append(words, "or null")
	}
	return template.HTML(strings.Join(words, ", ")) //nolint:gosec // words of the document's vocabulary
}
