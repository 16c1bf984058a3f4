package simulator

import (
	"errors"
	"fmt"
)

// Validate checks a body against one of the schemas that the vendors hold
// requests to, such as "mixpanel.import.request": tests of those who make
// requests use the same. The error names the first field that is wrong, and the
// rule. It panics if there is no such schema.
func Validate(schema string, body []byte) error {
	doc, err := decode(body)
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	if f := check(schema, doc); f != nil {
		return errors.New(f.String())
	}
	return nil
}
