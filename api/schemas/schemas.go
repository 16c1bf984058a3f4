// Package schemas holds JSON Schemas (2020-12) of the documents that operators
// write: keys, rules, destinations and event schemas. They are for editors, and
// for whoever checks a document before it is deployed. The programs that read
// the documents refuse whatever these refuse, and more: a schema cannot compile
// an expression, look up another entry, or know the settings of a connector.
package schemas

import (
	"embed"
	"strings"
)

//go:embed *.schema.json
var files embed.FS

// Names are the documents that there are schemas of.
var Names = []string{"keys", "rules", "destinations", "schemas"}

// Of returns the schema of a document, nil if it is none of Names.
func Of(name string) []byte {
	text, err := files.ReadFile(strings.ToLower(name) + ".schema.json")
	if err != nil {
		return nil
	}
	return text
}
