// Package api is the contract with clients: openapi.yaml, which stands at the
// root of the repository, in the forms in which the gateway serves it.
//
// Below it are the Go client that is generated from it (client), JSON Schemas of
// the documents that operators write (schemas), and what holds traffic to it in
// tests (apitest).
//
// What is embedded here is made of the document at the root, and a test fails
// when it is not:
//
//	go generate ./api
package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
)

//go:generate go run ./generate

var (
	//go:embed openapi.yaml
	yamlText []byte
	//go:embed openapi.json
	jsonText []byte
	//go:embed docs.html
	page []byte
)

// YAML returns the document in YAML, with its comments. It must not be changed.
func YAML() []byte { return yamlText }

// JSON returns the document in JSON. It must not be changed.
func JSON() []byte { return jsonText }

// File is something that the gateway serves to everybody, with nothing secret
// in it.
type File struct {
	// Path is where it is served, such as "/docs".
	Path string
	// ContentType is what it is, as the header says it.
	ContentType string
	// Policy is the Content-Security-Policy of a page; "" for what is none.
	Policy string
	// Body must not be changed.
	Body []byte
}

// Files returns the document in YAML and JSON, and the page for people.
func Files() []File {
	return []File{
		{Path: "/openapi.yaml", ContentType: "application/yaml", Body: yamlText}, // Source: RFC 9512
		{Path: "/openapi.json", ContentType: "application/json", Body: jsonText},
		{Path: "/docs", ContentType: "text/html; charset=utf-8", Policy: policy(page), Body: page},
	}
}

// policy allows a page its own style and nothing else: no script, no other
// host, no frame around it.
func policy(page []byte) string {
	_, style, _ := bytes.Cut(page, []byte("<style>"))
	style, _, _ = bytes.Cut(style, []byte("</style>"))
	sum := sha256.Sum256(style)
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
