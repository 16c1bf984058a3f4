// Package api is the contract with clients: openapi.yaml, which stands at the
// root of the repository, in the forms in which the gateway serves it.
//
// Below it are the Go client that is generated from it (client), JSON Schemas of
// the documents that operators write (schemas), and what holds traffic to it in
// tests (apitest).
//
// openapi.yaml and openapi.json in this folder are made of the one at the root:
//
//	go generate ./api
package api

import _ "embed"

//go:generate go run ./generate

//go:embed openapi.yaml
var yamlText []byte

//go:embed openapi.json
var jsonText []byte

// YAML returns the document in YAML, with its comments. It must not be changed.
func YAML() []byte { return yamlText }

// JSON returns the document in JSON. It must not be changed.
func JSON() []byte { return jsonText }
