// Package schemastest checks documents of operators against their schemas.
package schemastest

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/eventsluice/sluice/api/schemas"
)

// Checker checks documents of one name, such as "keys".
type Checker struct{ schema *jsonschema.Schema }

// New returns the checker of a document of this name.
func New(name string) (*Checker, error) {
	text := schemas.Of(name)
	if text == nil {
		return nil, fmt.Errorf("there is no schema of the document %q", name)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name+".schema.json", doc); err != nil {
		return nil, err
	}
	schema, err := c.Compile(name + ".schema.json")
	return &Checker{schema}, err
}

// Check returns what the schema has against a document, or nil.
func (c *Checker) Check(document []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return errors.Join(errors.New("it is not JSON"), err)
	}
	return c.schema.Validate(value)
}
