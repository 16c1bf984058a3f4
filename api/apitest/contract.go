// Package apitest holds traffic of the gateway to the contract in openapi.yaml:
// whatever the gateway answers, the document names its route, status, headers
// and content type, and the body fits its schema, with no member that the schema
// does not name. A request that the gateway has taken fits as well.
package apitest

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/eventsluice/sluice/api"
)

// Contract is the document. It is safe for concurrent use.
type Contract struct {
	Doc       *openapi3.T
	preflight *openapi3.Operation
}

// Load returns the contract. The error says what is wrong with the document,
// its examples included.
func Load() (*Contract, error) {
	doc, err := openapi3.NewLoader().LoadFromData(api.YAML())
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	c := &Contract{Doc: doc, preflight: doc.Paths.Value("/v1/events").Options}
	if c.preflight == nil || c.answer("NotFound") == nil || c.answer("MethodNotAllowed") == nil {
		return nil, errors.New("openapi.yaml: OPTIONS of /v1/events, NotFound and MethodNotAllowed say what every path answers")
	}
	return c, nil
}

// Exchange is a request and its answer, with their bodies as they were on the
// wire.
type Exchange struct {
	Request *http.Request
	Sent    []byte
	// Good says that the request is meant to be good, as far as the sender
	// knows: then it is checked too, if it was taken.
	Good     bool
	Response *http.Response
	Received []byte
}

// Check returns everything that the contract does not allow, or nil.
func (c *Contract) Check(x *Exchange) error {
	op, values, answers := c.find(x.Request)
	var faults []error
	if op != nil && x.Good && taken(x.Response.StatusCode) {
		if err := c.checkRequest(op, values, x); err != nil {
			faults = append(faults, fmt.Errorf("the request: %w", err))
		}
	}
	if err := checkResponse(answers, x); err != nil {
		faults = append(faults, fmt.Errorf("the answer: %w", err))
	}
	return errors.Join(faults...)
}

// Knows reports whether the document has an operation.
func (c *Contract) Knows(method, path string) bool {
	op, _, _ := c.find(&http.Request{Method: method, URL: &url.URL{Path: path}})
	return op != nil
}

// taken reports whether a status says that the whole request was good.
func taken(status int) bool {
	return status == http.StatusOK || status == http.StatusAccepted || status == http.StatusNoContent
}

// find returns the operation of a request, the values of the variables in its
// path, and what may be answered, by status. There is no operation for what
// the document says of all paths.
func (c *Contract) find(r *http.Request) (op *openapi3.Operation, values map[string]string, answers map[int]*openapi3.Response) {
	if r.Method == http.MethodOptions {
		return nil, nil, byStatus(c.preflight)
	}
	path := r.URL.EscapedPath()
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	item, values := c.item(path)
	if item == nil {
		return nil, nil, map[int]*openapi3.Response{http.StatusNotFound: c.answer("NotFound"), http.StatusInternalServerError: c.answer("Failed")}
	}
	switch r.Method {
	case http.MethodGet:
		op = item.Get
	case http.MethodHead:
		// Where nothing depends on a key, HEAD is GET without the body.
		if item.Get != nil && slices.Contains(item.Get.Tags, "Service") {
			op = item.Get
		}
	case http.MethodPost:
		op = item.Post
	}
	if op == nil {
		answers = map[int]*openapi3.Response{http.StatusMethodNotAllowed: c.answer("MethodNotAllowed")}
		for _, other := range item.Operations() {
			// A route that is switched off, or a variable that stands for
			// nothing, is a path that is not there.
			if ref := other.Responses.Status(http.StatusNotFound); ref != nil {
				answers[http.StatusNotFound] = ref.Value
			}
		}
		return nil, nil, answers
	}
	return op, values, byStatus(op)
}

func byStatus(op *openapi3.Operation) map[int]*openapi3.Response {
	answers := map[int]*openapi3.Response{}
	for status, ref := range op.Responses.Map() {
		if n, err := strconv.Atoi(status); err == nil {
			answers[n] = ref.Value
		}
	}
	return answers
}

func (c *Contract) answer(name string) *openapi3.Response {
	if ref := c.Doc.Components.Responses[name]; ref != nil {
		return ref.Value
	}
	return nil
}

// item returns the path of the document that a path is, and the values of its
// variables. One without variables comes first.
func (c *Contract) item(path string) (*openapi3.PathItem, map[string]string) {
	if item := c.Doc.Paths.Value(path); item != nil {
		return item, nil
	}
	for _, template := range c.Doc.Paths.InMatchingOrder() {
		if values, ok := match(template, path); ok {
			return c.Doc.Paths.Value(template), values
		}
	}
	return nil, nil
}

func match(template, path string) (map[string]string, bool) {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	values := map[string]string{}
	for i, segment := range want {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			value, err := url.PathUnescape(got[i])
			if err != nil || value == "" {
				return nil, false
			}
			values[strings.TrimSuffix(name, "}")] = value
		} else if segment != got[i] {
			return nil, false
		}
	}
	return values, true
}

// Headers that HTTP itself brings, or whoever stands between.
var ofHTTP = []string{"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Date", "Keep-Alive", "Transfer-Encoding"}

func checkResponse(answers map[int]*openapi3.Response, x *Exchange) error {
	status := x.Response.StatusCode
	want := answers[status]
	if want == nil {
		return fmt.Errorf("the status %d is not in the document", status)
	}
	var faults []error
	for name, values := range x.Response.Header {
		ref := header(want.Headers, name)
		switch {
		case slices.Contains(ofHTTP, name):
		case ref == nil:
			faults = append(faults, fmt.Errorf("the header %s is not in the document", name))
		case len(values) > 1:
			faults = append(faults, fmt.Errorf("the header %s is there %d times", name, len(values)))
		default:
			if err := checkText(ref.Value.Schema, values[0]); err != nil {
				faults = append(faults, fmt.Errorf("the header %s: %w", name, err))
			}
		}
	}
	for name, ref := range want.Headers {
		if ref.Value.Required && x.Response.Header.Get(name) == "" {
			faults = append(faults, fmt.Errorf("the header %s is missing", name))
		}
	}
	if x.Request.Method == http.MethodHead {
		if len(x.Received) > 0 {
			faults = append(faults, errors.New("an answer to HEAD has no body"))
		}
		return errors.Join(faults...)
	}
	if len(want.Content) == 0 {
		if len(x.Received) > 0 {
			faults = append(faults, fmt.Errorf("there is a body, %.200q", x.Received))
		}
		return errors.Join(faults...)
	}
	mediaType, _, err := mime.ParseMediaType(x.Response.Header.Get("Content-Type"))
	content := want.Content[mediaType]
	if err != nil || content == nil {
		return errors.Join(append(faults, fmt.Errorf("the content type %q is not in the document", x.Response.Header.Get("Content-Type")))...)
	}
	if isJSON(mediaType) {
		if err := checkJSON(content.Schema, x.Received, openapi3.VisitAsResponse()); err != nil {
			faults = append(faults, fmt.Errorf("the body: %w", err))
		} else if err := undeclared(content.Schema, x.Received); err != nil {
			faults = append(faults, fmt.Errorf("the body: %w", err))
		}
	}
	return errors.Join(faults...)
}

// header finds a header whatever its spelling.
func header(headers openapi3.Headers, name string) *openapi3.HeaderRef {
	for declared, ref := range headers {
		if strings.EqualFold(declared, name) {
			return ref
		}
	}
	return nil
}

func isJSON(mediaType string) bool {
	return mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")
}

// checkText checks a value that is sent as text: a header or a parameter.
func checkText(schema *openapi3.SchemaRef, text string) error {
	if schema == nil {
		return nil
	}
	var value any = text
	if schema.Value.Type.Is(openapi3.TypeInteger) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		value = float64(n)
	}
	return schema.Value.VisitJSON(value)
}
