package lambdatest

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// endpoint serves Invoke, as the SDK calls it.
type endpoint struct{ *Server }

// Paths of the API. Source: API reference, Invoke.
const (
	functionsPath   = "/2015-03-31/functions/"
	invocationsPath = "/invocations"
)

func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := uuid()
	w.Header()["X-Amzn-Requestid"] = []string{id}
	name, ok := strings.CutPrefix(r.URL.Path, functionsPath)
	name, invokes := strings.CutSuffix(name, invocationsPath)
	if !ok || !invokes || r.Method != http.MethodPost {
		write(w, refused("UnknownOperationException", http.StatusNotFound, "%s %s is not served here", r.Method, r.URL.Path))
		return
	}
	if err := checkSigned(r, e.region(), time.Now()); err != nil {
		write(w, err)
		return
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxSyncBytes+1)); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); !errors.As(err, &tooLarge) {
			panic(http.ErrAbortHandler) // the sender is gone
		}
		write(w, checkSize(maxSyncBytes+1, maxSyncBytes))
		return
	}
	c := call{endpoint: e, w: w, id: id, kind: r.Header.Get("X-Amz-Invocation-Type"), payload: body.Bytes()}
	if c.kind == "" {
		c.kind = "RequestResponse"
	}
	t, err := e.resolve(name, r.URL.Query().Get("Qualifier"))
	if err != nil {
		write(w, err)
		return
	}
	plan := e.faults.call(t.Name)
	if plan.do(BeforeAccepting, r.Context(), e.Server) != nil {
		panic(http.ErrAbortHandler)
	}
	if no := plan.refusal(); no != nil && !plan.accepted {
		write(w, no)
		return
	}
	answer := c.serve(t)
	if plan.do(AfterAccepting, r.Context(), e.Server) != nil {
		panic(http.ErrAbortHandler)
	}
	if no := plan.refusal(); no != nil {
		write(w, no)
		return
	}
	answer()
}

// call is one Invoke.
type call struct {
	endpoint
	w       http.ResponseWriter
	id      string
	kind    string
	payload []byte
}

// serve does what is asked, and returns how to answer.
func (c *call) serve(t target) (answer func()) {
	refuse := func(err *Error) func() { return func() { write(c.w, err) } }
	limit := maxSyncBytes
	if c.kind == "Event" {
		limit = maxAsyncBytes
	}
	if err := check(c.payload, limit); err != nil {
		return refuse(err)
	}
	if len(c.payload) == 0 {
		c.payload = []byte("{}")
	}
	switch c.kind {
	case "Event":
		t.queue.accept(t.qualifier, c.id, c.payload)
		return func() { c.w.WriteHeader(http.StatusAccepted) }
	case "DryRun":
		return func() { c.w.WriteHeader(http.StatusNoContent) }
	case "RequestResponse":
	default:
		return refuse(badParameter("1 validation error detected: Value '%s' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]", c.kind))
	}
	r, err := t.invoke(t.qualifier, c.id, c.payload)
	if err != nil {
		return refuse(err)
	}
	return func() {
		h := c.w.Header()
		h["Content-Type"] = []string{"application/json"}
		h["X-Amz-Executed-Version"] = []string{r.Version}
		if r.FunctionError != "" {
			h["X-Amz-Function-Error"] = []string{r.FunctionError}
		}
		h["Content-Length"] = []string{strconv.Itoa(len(r.Payload))}
		_, _ = c.w.Write(r.Payload)
	}
}

// check returns what is wrong with a payload.
func check(payload []byte, limit int) *Error {
	if err := checkSize(len(payload), limit); err != nil {
		return err
	}
	if len(payload) > 0 && !json.Valid(payload) {
		return refused("InvalidRequestContentException", http.StatusBadRequest, "Could not parse request body into json: Could not parse payload into json")
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
		return refused("RequestEntityTooLargeException", http.StatusRequestEntityTooLarge, "%d byte payload is too large for the Event invocation type (limit %d bytes)", n, limit)
	}
	return refused("RequestTooLargeException", http.StatusRequestEntityTooLarge, "Request must be smaller than %d bytes for the InvokeFunction operation", limit)
}

// write answers with an error.
func write(w http.ResponseWriter, err *Error) {
	body := err.body()
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	h["X-Amzn-Errortype"] = []string{err.Code}
	if err.RetryAfter > 0 {
		h["Retry-After"] = []string{strconv.Itoa(int(err.RetryAfter.Seconds()))}
	}
	w.WriteHeader(err.Status)
	_, _ = w.Write(body)
}

// maxSkew is how far a signature may be from the server's time.
const maxSkew = 5 * time.Minute

// checkSigned checks that a request has a signature of version 4 for Lambda, for
// this region and not made long ago. The signature itself is not verified.
func checkSigned(r *http.Request, region string, now time.Time) *Error {
	forbidden := func(code, message string) *Error { return refused(code, http.StatusForbidden, "%s", message) }
	authorization := r.Header.Get("Authorization")
	if authorization == "" {
		return forbidden("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	_, credential, ok := strings.Cut(authorization, "AWS4-HMAC-SHA256 Credential=")
	credential, rest, _ := strings.Cut(credential, ",")
	signedAt, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	// key / date / region / service / aws4_request
	scope := strings.Split(credential, "/")
	switch {
	case !ok || err != nil || len(scope) != 5 || scope[4] != "aws4_request" || !strings.Contains(rest, "SignedHeaders=") || !strings.Contains(rest, "Signature="):
		return forbidden("IncompleteSignatureException", "Authorization header requires 'Credential', 'Signature' and 'SignedHeaders' parameters, and existence of 'X-Amz-Date'.")
	case scope[3] != "lambda" || scope[2] != region:
		return forbidden("InvalidSignatureException", "Credential should be scoped to service 'lambda' and region '"+region+"'.")
	case now.Sub(signedAt).Abs() > maxSkew:
		return forbidden("InvalidSignatureException", "Signature expired or not yet current.")
	}
	return nil
}
