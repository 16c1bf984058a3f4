package edge

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/eventsluice/sluice/api/apitest"
	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
)

// contract is openapi.yaml, read once.
var contract = sync.OnceValues(apitest.Load)

// againstContract says what of an answer is not in openapi.yaml.
func againstContract(req *http.Request, w *httptest.ResponseRecorder) error {
	c, err := contract()
	if err != nil {
		return err
	}
	x := &apitest.Exchange{Request: req, Response: w.Result()}
	if req.Method != http.MethodHead { // net/http leaves it out
		x.Received = w.Body.Bytes()
	}
	if err := c.Check(x); err != nil {
		return fmt.Errorf("against openapi.yaml: %w\n%s", err, x)
	}
	return nil
}

// TestTheContractNamesEveryCode reads what the document says of each status: it
// names the codes that the gateway answers it with, and no others.
func TestTheContractNamesEveryCode(t *testing.T) {
	t.Parallel()
	c, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]string{} // codes by status
	for _, ref := range c.Doc.Components.Responses {
		for _, example := range ref.Value.Content {
			if doc, ok := example.Example.(map[string]any); ok && doc["code"] != nil {
				named[fmt.Sprint(doc["status"])] = *ref.Value.Description
			}
		}
	}
	var codes []string
	for _, p := range problems[codeNone+1:] {
		codes = append(codes, p.name)
		if !strings.Contains(named[strconv.Itoa(p.status)], "`"+p.name+"`") {
			t.Errorf("the document does not name %s at the status %d", p.name, p.status)
		}
	}
	wantEnum(t, c, "ProblemCode", codes...)
	wantEnum(t, c, "EventErrorCode",
		event.CodeInvalidJSON, event.CodeRequired, event.CodeInvalidType, event.CodeTooLong, event.CodeUnknownType,
		event.CodeInvalidTimestamp, event.CodeTooLarge, event.CodeTooDeep, event.CodeInvalidUTF8, event.CodeInvalidUnicode,
		event.CodeDuplicateKey, event.CodeNumberOutOfRange, protocol.CodeEncoding, protocol.CodeVersion,
		fault.TooLarge.String(), fault.Invalid.String(), codeEventForbidden.String(), codeUnavailable.String(),
		codeUserRate.String(), codeEventRate.String(), codeUserForbidden, codeSchema)
}

// wantEnum wants a schema of the document to have these values, and no others.
func wantEnum(t *testing.T, c *apitest.Contract, schema string, values ...string) {
	t.Helper()
	enum := c.Doc.Components.Schemas[schema].Value.Enum
	for _, value := range values {
		if !slices.Contains(enum, any(value)) {
			t.Errorf("%s does not have %s", schema, value)
		}
	}
	for _, value := range enum {
		if !slices.Contains(values, fmt.Sprint(value)) {
			t.Errorf("%s has %v, which the gateway never answers", schema, value)
		}
	}
}

// TestTheContractNamesEveryRoute asks for every route of the gateway, and for
// every path of the document.
func TestTheContractNamesEveryRoute(t *testing.T) {
	t.Parallel()
	c, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Config{Protocols: Protocols})
	err = chi.Walk(r.edge.mux, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		path := strings.ReplaceAll(route, "{key}", "wk_web")
		if !c.Knows(method, path) {
			t.Errorf("openapi.yaml has no %s %s", method, route)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range c.Doc.Paths.Map() {
		for method := range item.Operations() {
			one := strings.NewReplacer("{key}", "wk_web", "{type}", "track").Replace(path)
			if !r.edge.mux.Match(chi.NewRouteContext(), method, one) && method != http.MethodOptions {
				t.Errorf("the gateway has no %s %s", method, path)
			}
		}
	}
}
