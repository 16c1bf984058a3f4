package apitest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/api"
)

func load(t *testing.T) *Contract {
	t.Helper()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryComponentIsUsed(t *testing.T) {
	c := load(t)
	text := string(api.YAML())
	used := func(kind, name string) {
		// This one is for paths, and not for operations.
		if !strings.Contains(text, "'#/components/"+kind+"/"+name+"'") && name != "MethodNotAllowed" {
			t.Errorf("nothing refers to the component %s/%s", kind, name)
		}
	}
	for name := range c.Doc.Components.Schemas {
		used("schemas", name)
	}
	for name := range c.Doc.Components.Responses {
		used("responses", name)
	}
	for name := range c.Doc.Components.Headers {
		used("headers", name)
	}
	for name := range c.Doc.Components.RequestBodies {
		used("requestBodies", name)
	}
	for name := range c.Doc.Components.Examples {
		used("examples", name)
	}
	for name := range c.Doc.Components.Parameters {
		used("parameters", name)
	}
}

// TestEveryBodyHasAnExample: that each fits its schema is checked by Load.
func TestEveryBodyHasAnExample(t *testing.T) {
	c := load(t)
	for path, item := range c.Doc.Paths.Map() {
		for method, op := range item.Operations() {
			if op.RequestBody != nil {
				for name, content := range op.RequestBody.Value.Content {
					if content.Example == nil && len(content.Examples) == 0 {
						t.Errorf("%s %s: the body as %s has no example", method, path, name)
					}
				}
			}
			for status, ref := range op.Responses.Map() {
				for name, content := range ref.Value.Content {
					if content.Example == nil && len(content.Examples) == 0 && name != "image/gif" {
						t.Errorf("%s %s: the answer %s as %s has no example", method, path, status, name)
					}
				}
			}
		}
	}
}

const (
	accepted = `{"accepted":1,"rejected":0,"ids":["a"],"ack":"stream"}`
	problem  = `{"type":"t","title":"t","status":401,"detail":"d","success":false,"error":"t","code":"unknown_key","message":"d"}`
)

var (
	jsonHeader    = http.Header{"Content-Type": {"application/json"}}
	problemHeader = http.Header{"Content-Type": {"application/problem+json"}, "X-Content-Type-Options": {"nosniff"}, "Www-Authenticate": {"Bearer"}}
)

func with(h http.Header, name, value string) http.Header {
	h = h.Clone()
	if value == "" {
		h.Del(name)
	} else {
		h.Set(name, value)
	}
	return h
}

func TestAnswersAreHeldToTheContract(t *testing.T) {
	c := load(t)
	for _, tt := range []struct {
		name, method, path string
		status             int
		header             http.Header
		body               string
		want               string // in the error; "" is none
	}{
		{"as documented", "POST", "/v1/events", 202, jsonHeader, accepted, ""},
		{"with a slash at the end", "POST", "/v1/events/", 202, jsonHeader, accepted, ""},
		{"with what HTTP brings", "POST", "/v1/events", 202, with(with(jsonHeader, "Date", "now"), "Content-Length", "9"), accepted, ""},
		{"another status", "POST", "/v1/events", 200, jsonHeader, accepted, "status 200"},
		{"another header", "POST", "/v1/events", 202, with(jsonHeader, "X-New", "1"), accepted, "header X-New is not"},
		{"another content type", "POST", "/v1/events", 202, with(jsonHeader, "Content-Type", "text/html"), accepted, `content type "text/html"`},
		{"no content type", "POST", "/v1/events", 202, nil, accepted, `content type ""`},
		{"a member too few", "POST", "/v1/events", 202, jsonHeader, `{"accepted":1,"rejected":0,"ids":["a"]}`, `"ack" is missing`},
		{"a member too many", "POST", "/v1/events", 202, jsonHeader, `{"accepted":1,"rejected":0,"ids":["a"],"ack":"stream","new":1}`, "member /new"},
		{"a member of a member too many", "POST", "/v1/events", 207, jsonHeader,
			`{"accepted":1,"rejected":1,"ids":["a",null],"ack":"stream","errors":[{"index":1,"pointer":"","code":"required","detail":"d","line":3}]}`, "member /errors/0/line"},
		{"another value", "POST", "/v1/events", 202, jsonHeader, `{"accepted":1,"rejected":0,"ids":["a"],"ack":"memory"}`, "allowed values"},
		{"another code", "POST", "/v1/events", 401, problemHeader, strings.Replace(problem, "unknown_key", "odd", 1), "allowed values"},
		{"no JSON", "POST", "/v1/events", 202, jsonHeader, "ok", "invalid character"},
		{"a problem", "POST", "/v1/events", 401, problemHeader, problem, ""},
		{"a problem without its header", "POST", "/v1/events", 401, with(problemHeader, "Www-Authenticate", ""), problem, "WWW-Authenticate is missing"},
		{"Retry-After as a date", "POST", "/v1/events", 429, with(with(problemHeader, "Www-Authenticate", ""), "Retry-After", "Mon, 02 Jan 2026 15:04:05 GMT"), problem, "not a whole number"},
		{"Retry-After of 0", "POST", "/v1/events", 429, with(with(problemHeader, "Www-Authenticate", ""), "Retry-After", "0"), problem, "Retry-After"},
		{"an unknown path", "POST", "/v2/events", 404, with(problemHeader, "Www-Authenticate", ""), problem, ""},
		{"an unknown path that is there", "POST", "/v2/events", 202, jsonHeader, accepted, "status 202"},
		{"an unknown method", "GET", "/v1/events", 405, with(with(problemHeader, "Www-Authenticate", ""), "Allow", "POST"), problem, ""},
		{"an unknown method without Allow", "GET", "/v1/events", 405, with(problemHeader, "Www-Authenticate", ""), problem, "Allow is missing"},
		{"a preflight", "OPTIONS", "/anything", 204, http.Header{"Allow": {"POST"}, "Vary": {"Origin"}}, "", ""},
		{"a preflight with a body", "OPTIONS", "/anything", 204, http.Header{"Allow": {"POST"}}, "x", "there is a body"},
		{"a variable", "GET", "/v1/projects/wk_1/settings", 200, jsonHeader, `{"integrations":{},"new":1}`, ""},
		{"HEAD of a file", "HEAD", "/livez", 200, jsonHeader, "", ""},
		{"HEAD with a body", "HEAD", "/livez", 200, jsonHeader, "{}", "no body"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := &Exchange{
				Request:  httptest.NewRequest(tt.method, tt.path, nil),
				Response: &http.Response{StatusCode: tt.status, Header: tt.header}, Received: []byte(tt.body),
			}
			wantError(t, c.Check(x), tt.want)
		})
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestRequestsThatWereTakenAreHeldToTheContract(t *testing.T) {
	c := load(t)
	const success = `{"success":true}`
	for _, tt := range []struct {
		name, method, path, contentType, body string
		want                                  string
	}{
		{"an event", "POST", "/v1/events", "application/json", `{"name":"a","more":1}`, ""},
		{"an array", "POST", "/v1/events", "application/json", `[{"name":"a"},{"name":"b"}]`, ""},
		{"an object with events", "POST", "/v1/events", "application/json", `{"events":[{"name":"a"}]}`, ""},
		{"no name", "POST", "/v1/events", "application/json", `{"data":{}}`, "the request"},
		{"a name of another type", "POST", "/v1/events", "application/json; charset=utf-8", `[{"name":1}]`, "the request"},
		{"text", "POST", "/v1/events", "text/plain", `{"name":"a"}`, ""},
		{"text without a name", "POST", "/v1/events", "text/plain", `{"nam":"a"}`, "the request"},
		{"lines", "POST", "/v1/events", "application/x-ndjson", "{\"name\":\"a\"}\n{\"name\":\"b\"}\n", ""},
		{"a line without a name", "POST", "/v1/events", "application/x-ndjson", "{\"name\":\"a\"}\n{}\n", "line 2"},
		{"a form", "POST", "/v1/events", "application/x-www-form-urlencoded", "data=eyJuYW1lIjoiYSJ9", ""},
		{"a form without a name", "POST", "/v1/events", "application/x-www-form-urlencoded", "data=%7B%7D", "the request"},
		{"a CloudEvent", "POST", "/v1/events", "application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/a","type":"t"}`, ""},
		{"a CloudEvent without a type", "POST", "/v1/events", "application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/a"}`, `"type" is missing`},
		{"nothing", "POST", "/v1/events", "application/json", "", "there is none"},
		{"an SDK's batch", "POST", "/v1/batch", "application/x-www-form-urlencoded", `{"batch":[{"type":"track","event":"a","userId":null}]}`, ""},
		{"an SDK's batch that is none", "POST", "/v1/batch", "text/plain", `{"batch":{}}`, "array"},
		{"a type that is none", "GET", "/v1/pixel/tracks?data=e30", "", "", "parameter type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := httptest.NewRequest(tt.method, tt.path, nil)
			req.Header.Set("Content-Type", tt.contentType)
			x := &Exchange{
				Request: req, Sent: []byte(tt.body), Good: true,
				Response: &http.Response{StatusCode: 202, Header: jsonHeader}, Received: []byte(accepted),
			}
			switch {
			case tt.method == "GET":
				x.Response = &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"image/gif"}, "Cache-Control": {"no-store"}}}
			case tt.path != "/v1/events":
				x.Response.StatusCode, x.Received = 200, []byte(success)
			}
			wantError(t, c.Check(x), tt.want)
			var packed bytes.Buffer
			w := gzip.NewWriter(&packed)
			_, _ = io.WriteString(w, tt.body)
			_ = w.Close()
			x.Sent = packed.Bytes()
			req.Header.Set("Content-Encoding", "gzip")
			wantError(t, c.Check(x), tt.want)
			x.Good = false
			wantError(t, c.Check(x), "")
		})
	}
}

func TestTheTransportChecksWhatItIsTold(t *testing.T) {
	answer := accepted
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(BadOnPurpose) != "" {
			t.Error("the mark was sent")
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, answer)
	}))
	defer gateway.Close()
	var reported []error
	transport := &Transport{Contract: load(t), Base: gateway.Client().Transport, Report: func(err error) { reported = append(reported, err) }}
	client := &http.Client{Transport: transport}
	post := func(body string, header http.Header) error {
		t.Helper()
		reported = nil
		req, err := http.NewRequest(http.MethodPost, gateway.URL+"/v1/events", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header.Clone()
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(got) != answer {
			t.Errorf("read %s, %v", got, err)
		}
		return errors.Join(reported...)
	}
	bad := jsonHeader.Clone()
	bad.Set(BadOnPurpose, "yes")

	wantError(t, post(`{}`, jsonHeader), "") // nobody watches
	transport.Watch(gateway.URL)
	wantError(t, post(`{"name":"a"}`, jsonHeader), "")
	wantError(t, post(`{}`, jsonHeader), "the request")
	wantError(t, post(`{}`, bad), "")
	answer = `{}`
	wantError(t, post(`{"name":"a"}`, jsonHeader), "> POST /v1/events")
	wantError(t, post(`{}`, bad), "the answer")
	transport.PassOn = true
	wantError(t, post(`{"name":"a"}`, jsonHeader), "the answer")
}
