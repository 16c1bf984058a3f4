// Command generate makes what package api embeds of the openapi.yaml at the
// root of the repository: a copy, since a package embeds only what is below it,
// the same in JSON, and a page for people. go generate ./api runs it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	made, err := generate(filepath.Join("..", "openapi.yaml"))
	for name, content := range made {
		if err == nil {
			err = os.WriteFile(name, content, 0o644) //nolint:gosec // it is committed
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// generate returns the files that are made of a document, by their names.
func generate(document string) (map[string][]byte, error) {
	text, err := os.ReadFile(document)
	if err != nil {
		return nil, err
	}
	doc, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", document, err)
	}
	inJSON, err := doc.json()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", document, err)
	}
	if inJSON, err = indented(inJSON); err != nil {
		return nil, err
	}
	page, err := render(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", document, err)
	}
	return map[string][]byte{"openapi.yaml": text, "openapi.json": inJSON, "docs.html": page}, nil
}
