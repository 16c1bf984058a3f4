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

// awaited is what the document has and the gateway does not have yet: codes, and
// tags of operations.
var awaited = []string{"Snowplow", "PostHog", "Mixpanel"}

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
	enum := c.Doc.Components.Schemas["ProblemCode"].Value.Enum
	for code := codeNone + 1; code < codes; code++ {
		p := problems[code]
		if !slices.Contains(enum, any(p.name)) {
			t.Errorf("ProblemCode does not have %s", p.name)
		}
		if !strings.Contains(named[strconv.Itoa(p.status)], "`"+p.name+"`") {
			t.Errorf("the document does not name %s at the status %d", p.name, p.status)
		}
	}
	for _, name := range enum {
		if slices.Contains(awaited, fmt.Sprint(name)) {
			continue
		}
		if !slices.ContainsFunc(problems[:], func(p struct {
			status      int
			name, title string
		}) bool {
			return p.name == name
		}) {
			t.Errorf("ProblemCode has %v, which the gateway never answers", name)
		}
	}
	enum = c.Doc.Components.Schemas["EventErrorCode"].Value.Enum
	for _, name := range []string{
		event.CodeInvalidJSON, event.CodeRequired, event.CodeInvalidType, event.CodeTooLong, event.CodeUnknownType,
		event.CodeInvalidTimestamp, event.CodeTooLarge, event.CodeTooDeep, event.CodeInvalidUTF8, event.CodeInvalidUnicode,
		event.CodeDuplicateKey, event.CodeNumberOutOfRange, fault.TooLarge.String(), fault.Invalid.String(),
		codeEventForbidden.String(), codeUnavailable.String(), codeUserRate.String(), codeEventRate.String(),
	} {
		if !slices.Contains(enum, any(name)) {
			t.Errorf("EventErrorCode does not have %s", name)
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
	r := newRig(t, Config{})
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
			if slices.Contains(awaited, item.GetOperation(method).Tags[0]) {
				continue
			}
			one := strings.NewReplacer("{key}", "wk_web", "{type}", "track").Replace(path)
			if !r.edge.mux.Match(chi.NewRouteContext(), method, one) && method != http.MethodOptions {
				t.Errorf("the gateway has no %s %s", method, path)
			}
		}
	}
}
