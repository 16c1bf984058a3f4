package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// node is a place in the document. It knows the order in which things stand
// there, which readers of OpenAPI forget. The zero value is a place with
// nothing in it.
type node struct {
	*yaml.Node
	root *yaml.Node
}

func parse(text []byte) (node, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(text, &n); err != nil {
		return node{}, err
	}
	return node{n.Content[0], n.Content[0]}, nil
}

// follow returns what an alias or a reference stands for.
func (n node) follow() node {
	for n.Node != nil {
		if n.Kind == yaml.AliasNode {
			n.Node = n.Alias
			continue
		}
		ref := n.ref()
		if ref == "" {
			return n
		}
		at := node{n.root, n.root}
		for name := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
			at = at.raw(strings.NewReplacer("~1", "/", "~0", "~").Replace(name))
		}
		n = at
	}
	return n
}

// ref returns what a reference refers to, or nothing.
func (n node) ref() string {
	if r := n.raw("$ref"); r.Node != nil {
		return r.Value
	}
	return ""
}

// raw returns a member as it stands there.
func (n node) raw(name string) node {
	if n.Node == nil {
		return n
	}
	at := n.Node
	if at.Kind == yaml.AliasNode {
		at = at.Alias
	}
	if at.Kind == yaml.MappingNode {
		for i := 0; i < len(at.Content); i += 2 {
			if at.Content[i].Value == name {
				return node{at.Content[i+1], n.root}
			}
		}
	}
	return node{nil, n.root}
}

// at returns the place that the names lead to, references followed.
func (n node) at(names ...string) node {
	n = n.follow()
	for _, name := range names {
		n = n.raw(name).follow()
	}
	return n
}

// text returns a scalar.
func (n node) text() string {
	if n.Node == nil {
		return ""
	}
	return n.Value
}

// pair is a member of a mapping.
type pair struct {
	name  string
	value node // not followed
}

func (n node) pairs() []pair {
	n = n.follow()
	if n.Node == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	var all []pair
	for i := 0; i < len(n.Content); i += 2 {
		all = append(all, pair{n.Content[i].Value, node{n.Content[i+1], n.root}})
	}
	return all
}

func (n node) items() []node {
	n = n.follow()
	if n.Node == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	var all []node
	for _, item := range n.Content {
		all = append(all, node{item, n.root})
	}
	return all
}

// json returns the place as JSON, with the members in their order. Aliases
// become what they stand for; references stay.
func (n node) json() ([]byte, error) {
	var out bytes.Buffer
	if err := appendNode(&out, n.Node); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func indented(text []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", " "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
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
