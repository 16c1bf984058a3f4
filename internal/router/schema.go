package router

import _ "embed"

// Schema is the JSON Schema of a rules document (draft 2020-12), for editors.
// Parse refuses whatever the schema does, and more: a schema cannot compile
// expressions.
//
//go:embed rules.schema.json
var Schema []byte
