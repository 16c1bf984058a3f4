// Command generate makes what is in package api of the openapi.yaml at the root
// of the repository: a copy, since a package embeds only what is below it, and
// the same in JSON. go generate ./api runs it.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

func main() {
	if err := generate("..", "."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// generate reads openapi.yaml in the folder root and writes into the folder api.
func generate(root, api string) error {
	text, err := os.ReadFile(filepath.Join(root, "openapi.yaml"))
	if err != nil {
		return err
	}
	inJSON, err := toJSON(text)
	if err != nil {
		return fmt.Errorf("openapi.yaml: %w", err)
	}
	for name, content := range map[string][]byte{"openapi.yaml": text, "openapi.json": inJSON} {
		if err := os.WriteFile(filepath.Join(api, name), content, 0o644); err != nil { //nolint:gosec // it is committed
			return err
		}
	}
	return nil
}

// toJSON turns a YAML document into JSON with the members in their order.
// Aliases become what they stand for.
func toJSON(text []byte) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := appendNode(&out, root.Content[0]); err != nil {
		return nil, err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, out.Bytes(), "", " "); err != nil {
		return nil, err
	}
	indented.WriteByte('\n')
	return indented.Bytes(), nil
}

func appendNode(out *bytes.Buffer, n *yaml.Node) error {
	switch n.Kind {
	case yaml.AliasNode:
		return appendNode(out, n.Alias)
	case yaml.MappingNode:
		out.WriteByte('{')
		for i := 0; i < len(n.Content); i += 2 {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := appendValue(out, n.Content[i].Value); err != nil {
				return err
			}
			out.WriteByte(':')
			if err := appendNode(out, n.Content[i+1]); err != nil {
				return err
			}
		}
		out.WriteByte('}')
	case yaml.SequenceNode:
		out.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := appendNode(out, item); err != nil {
				return err
			}
		}
		out.WriteByte(']')
	default:
		var v any
		if err := n.Decode(&v); err != nil {
			return fmt.Errorf("line %d: %w", n.Line, err)
		}
		return appendValue(out, v)
	}
	return nil
}

// appendValue appends a scalar. Angle brackets stay readable: nothing here goes
// into a page as it is.
func appendValue(out *bytes.Buffer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	out.Truncate(out.Len() - 1) // the line break of Encode
	return nil
}
