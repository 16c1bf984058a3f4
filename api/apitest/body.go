package apitest

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/url"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/klauspost/compress/zstd"
)

// checkRequest checks the parameters and the body of a request.
func (c *Contract) checkRequest(op *openapi3.Operation, values map[string]string, x *Exchange) error {
	var faults []error
	query := x.Request.URL.Query()
	for _, ref := range op.Parameters {
		p := ref.Value
		var value string
		var there bool
		switch p.In {
		case openapi3.ParameterInPath:
			value, there = values[p.Name]
		case openapi3.ParameterInQuery:
			value, there = query.Get(p.Name), query.Has(p.Name)
		case openapi3.ParameterInHeader:
			value = x.Request.Header.Get(p.Name)
			there = value != ""
		}
		if !there {
			if p.Required {
				faults = append(faults, fmt.Errorf("the parameter %s is missing", p.Name))
			}
			continue
		}
		if err := checkText(p.Schema, value); err != nil {
			faults = append(faults, fmt.Errorf("the parameter %s: %w", p.Name, err))
		}
	}
	if op.RequestBody != nil {
		if err := c.checkSent(op.RequestBody.Value, x); err != nil {
			faults = append(faults, fmt.Errorf("the body: %w", err))
		}
	}
	return errors.Join(faults...)
}

// checkSent checks the body of a request as the gateway reads it: by its
// content type if the operation names that, and else by what it looks like.
// What a form or a text holds has to fit as well.
func (c *Contract) checkSent(want *openapi3.RequestBody, x *Exchange) error {
	encoding := x.Request.Header.Get("Content-Encoding")
	if encoding == "" && bytes.HasPrefix(x.Sent, []byte("\x1f\x8b")) {
		encoding = "gzip" // PostHog's SDK compresses in the page, and does not say so in a header
	}
	body, err := decompress(encoding, x.Sent)
	if err != nil {
		return err
	}
	if len(body) == 0 {
		if want.Required {
			return errors.New("there is none")
		}
		return nil
	}
	if x.Request.Header.Get("Ce-Specversion") != "" {
		return nil // the data of a CloudEvent may be anything
	}
	mediaType, _, _ := mime.ParseMediaType(x.Request.Header.Get("Content-Type"))
	if content := want.Content[mediaType]; content != nil && mediaType != "application/json" && isJSON(mediaType) {
		return checkJSON(content.Schema, body, openapi3.VisitAsRequest())
	}
	document := want.Content["application/json"]
	if body, err = unform(body); err != nil {
		return err
	}
	if want.Content["application/x-ndjson"] != nil && !json.Valid(body) {
		for i, line := range bytes.Split(body, []byte("\n")) {
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			if err := checkJSON(c.Doc.Components.Schemas["Event"], line, openapi3.VisitAsRequest()); err != nil {
				return fmt.Errorf("line %d: %w", i+1, err)
			}
		}
		return nil
	}
	// Two things are said in words only, since generators cannot have them.
	if document.Schema.Ref == "#/components/schemas/MixpanelMessages" && bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		body = slices.Concat([]byte("["), body, []byte("]"))
	}
	if err := checkJSON(document.Schema, body, openapi3.VisitAsRequest()); err != nil {
		return err
	}
	if document.Schema.Ref == "#/components/schemas/Events" && bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		// What EventList says of its elements.
		body = slices.Concat([]byte(`{"events":`), body, []byte("}"))
		return checkJSON(c.Doc.Components.Schemas["EventBatch"], body, openapi3.VisitAsRequest())
	}
	return nil
}

// unform returns what the field data of a form holds, JSON or base64 of it.
// What is no such form is returned as it is.
func unform(body []byte) ([]byte, error) {
	if !bytes.HasPrefix(body, []byte("data=")) {
		return body, nil
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	text := values.Get("data")
	if strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") {
		return []byte(text), nil
	}
	text = strings.NewReplacer(" ", "+", "-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	return base64.RawStdEncoding.DecodeString(text)
}

func decompress(encoding string, body []byte) ([]byte, error) {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case "zstd":
		r, err := zstd.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	return nil, fmt.Errorf("the content encoding %q is not in the document", encoding)
}

func checkJSON(schema *openapi3.SchemaRef, text []byte, as openapi3.SchemaValidationOption) error {
	value, err := parse(text)
	if err != nil {
		return err
	}
	return schema.Value.VisitJSON(value, as, openapi3.MultiErrors())
}

func parse(text []byte) (any, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return nil, fmt.Errorf("%w in %.200q", err, text)
	}
	return value, nil
}

// undeclared says which members of a document its schema does not name. Without
// additionalProperties a schema allows all, for the sake of clients that are
// older than the gateway; what the gateway says today is named.
func undeclared(schema *openapi3.SchemaRef, text []byte) error {
	value, err := parse(text)
	if err != nil {
		return err
	}
	var faults []error
	walk(schema, value, "", &faults)
	return errors.Join(faults...)
}

func walk(schema *openapi3.SchemaRef, value any, at string, faults *[]error) {
	if schema == nil {
		return
	}
	s := schema.Value
	switch v := value.(type) {
	case map[string]any:
		open := s.AdditionalProperties.Has != nil && *s.AdditionalProperties.Has || s.AdditionalProperties.Schema != nil
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			if property := s.Properties[name]; property != nil {
				walk(property, v[name], at+"/"+name, faults)
			} else if !open {
				*faults = append(*faults, fmt.Errorf("the member %s is not in the document", at+"/"+name))
			}
		}
	case []any:
		for i, item := range v {
			walk(s.Items, item, fmt.Sprint(at, "/", i), faults)
		}
	}
}
