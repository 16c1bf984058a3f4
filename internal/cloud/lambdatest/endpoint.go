package lambdatest

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// Paths of the API. Source: API reference, Invoke.
const (
	functionsPath   = "/2015-03-31/functions/"
	invocationsPath = "/invocations"
)

// route finds the function that a call is for; its name is the operation.
func (s *Server) route(r *http.Request) (*awstest.Route, *awstest.Answer) {
	name, ok := strings.CutPrefix(r.URL.Path, functionsPath)
	name, invokes := strings.CutSuffix(name, invocationsPath)
	if !ok || !invokes || r.Method != http.MethodPost {
		return nil, refused(refuse("UnknownOperationException", http.StatusNotFound, "%s %s is not served here", r.Method, r.URL.Path))
	}
	t, err := s.resolve(name, r.URL.Query().Get("Qualifier"))
	if err != nil {
		return nil, refused(err)
	}
	return &awstest.Route{
		Operation: t.Name,
		Refused:   refused,
		Run: func(c *awstest.Call) *awstest.Answer {
			id := uuid()
			a, err := s.serve(c, t, id)
			if err != nil {
				a = refused(err)
			}
			if a.Header == nil {
				a.Header = http.Header{}
			}
			a.Header["X-Amzn-Requestid"] = []string{id}
			return a
		},
	}, nil
}

// serve does what a call asks for.
func (s *Server) serve(c *awstest.Call, t target, id string) (*awstest.Answer, *Error) {
	kind := cmp.Or(c.Request.Header.Get("X-Amz-Invocation-Type"), "RequestResponse")
	limit := maxSyncBytes
	if kind == "Event" {
		limit = maxAsyncBytes
	}
	if err := check(c.Body, limit); err != nil {
		return nil, err
	}
	payload := slices.Clone(c.Body)
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	switch kind {
	case "Event":
		c.Work(func() { t.queue.accept(t.qualifier, id, payload) })
		return &awstest.Answer{Status: http.StatusAccepted}, nil
	case "DryRun":
		return &awstest.Answer{Status: http.StatusNoContent}, nil
	case "RequestResponse":
	default:
		return nil, badParameter("1 validation error detected: Value '%s' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]", kind)
	}
	r, err := t.invoke(t.qualifier, id, payload)
	if err != nil {
		return nil, err
	}
	a := &awstest.Answer{ContentType: "application/json", Body: r.Payload, Header: http.Header{"X-Amz-Executed-Version": {r.Version}}}
	if r.FunctionError != "" {
		a.Header["X-Amz-Function-Error"] = []string{r.FunctionError}
	}
	return a, nil
}

// check returns what is wrong with a payload.
func check(payload []byte, limit int) *Error {
	if err := checkSize(len(payload), limit); err != nil {
		return err
	}
	if len(payload) > 0 && !json.Valid(payload) {
		return refuse("InvalidRequestContentException", http.StatusBadRequest, "Could not parse request body into json: Could not parse payload into json")
	}
	return nil
}

// checkSize returns what is wrong with a size, by the limit of an invocation of
// its kind. Users report two names for it.
func checkSize(n, limit int) *Error {
	switch {
	case n <= limit:
		return nil
	case limit == maxAsyncBytes:
		return refuse("RequestEntityTooLargeException", http.StatusRequestEntityTooLarge, "%d byte payload is too large for the Event invocation type (limit %d bytes)", n, limit)
	}
	return refuse("RequestTooLargeException", http.StatusRequestEntityTooLarge, "Request must be smaller than %d bytes for the InvokeFunction operation", limit)
}
