package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// exampleKey is the write key in the examples of openapi.yaml.
const exampleKey = "wk_0123456789"

// TestEveryExampleOfTheContractIsTaken sends the examples of all operations to a
// gateway that has the key of the examples: each is a success, and what is
// answered fits, as everywhere in these tests.
func TestEveryExampleOfTheContractIsTaken(t *testing.T) {
	t.Parallel()
	docs := everythingToWarehouse
	docs.keys = `{"keys":[{"id":"examples","kind":"write","sha256":"` + hash(exampleKey) + `"}]}`
	p := start(t, dataFolder(t, docs), "SLUICE_PROTOCOLS=jitsu,snowplow,posthog,mixpanel")
	sent := 0
	for path, item := range contract.Contract.Doc.Paths.Map() {
		for method, op := range item.Operations() {
			bodies := map[string]any{"": nil}
			if op.RequestBody != nil {
				bodies = exampleBodies(op.RequestBody.Value)
			}
			for name, body := range bodies {
				contentType, _, _ := strings.Cut(name, " ")
				status, answer := p.sendExample(method, path, op, contentType, body)
				if status/100 != 2 {
					t.Errorf("%s %s, %s: %d %s", method, path, name, status, answer)
				}
				sent++
			}
		}
	}
	if sent < 100 {
		t.Errorf("%d examples were sent", sent)
	}
	if l := p.settle(); l.Rejected != 0 || l.Stored == 0 || l.Residual != 0 {
		t.Errorf("%d examples, %+v", sent, l)
	}
	p.stop()
}

// exampleBodies returns the examples of a body by content type and name.
func exampleBodies(body *openapi3.RequestBody) map[string]any {
	all := map[string]any{}
	for contentType, content := range body.Content {
		if content.Example != nil {
			all[contentType] = content.Example
		}
		for name, example := range content.Examples {
			all[contentType+" "+name] = example.Value.Value
		}
	}
	return all
}

func (p *process) sendExample(method, path string, op *openapi3.Operation, contentType string, body any) (int, string) {
	p.t.Helper()
	query := url.Values{}
	if path == "/i" {
		query.Set("e", "pv") // no parameter of the document: generators cannot have one of this name
	}
	header := http.Header{"Authorization": {"Bearer " + exampleKey}}
	for _, ref := range op.Parameters {
		value := fmt.Sprint(ref.Value.Example)
		switch ref.Value.In {
		case "path":
			path = strings.ReplaceAll(path, "{"+ref.Value.Name+"}", url.PathEscape(value))
		case "query":
			query.Set(ref.Value.Name, value)
		case "header":
			header.Set(ref.Value.Name, value)
		}
	}
	var text []byte
	switch v := body.(type) {
	case nil:
	case string:
		text = []byte(v)
	case map[string]any:
		if contentType == "application/x-www-form-urlencoded" {
			text = []byte(url.Values{"data": {fmt.Sprint(v["data"])}}.Encode())
			break
		}
		text = toJSON(p.t, v)
	default:
		text = toJSON(p.t, v)
	}
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.gateway+path+"?"+query.Encode(), bytes.NewReader(text))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Error(err)
	}
	return resp.StatusCode, string(answer)
}

func toJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
