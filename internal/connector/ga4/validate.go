package ga4

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/measurement"
)

// strict is the validation that finds everything that Google would like to have
// otherwise.
const strict = "ENFORCE_RECOMMENDATIONS"

// Test implements connector.Tester: it posts the event to Google's validation,
// which keeps nothing.
func (c *Connector) Test(ctx context.Context, d connector.Delivery) connector.Result {
	plan := c.planner.Plan([]connector.Delivery{d})
	if len(plan.Done) > 0 {
		return plan.Done[0].Result
	}
	body, results := plan.Calls[0].Payload.(*measurement.Batch).Body(time.Now(), strict)
	if body == nil {
		return results[0]
	}
	x := c.API.Do(ctx, httpcall.Request{Path: pathValidate, RawQuery: c.query, Body: body})
	if result := c.outcome(x, 1); result.Class != connector.Delivered {
		return result
	}
	complaints, ok := decodeComplaints(x.Body)
	switch {
	case !ok:
		return x.Result(connector.Permanent, "answer", "the answer is not that of Google's validation")
	case len(complaints) > 0:
		return x.Result(connector.Permanent, complaints[0].Code, "Google's validation complains: "+explain(complaints))
	}
	text := "Google's validation has no complaint. It does not look at api_secret, and neither does it say whether the stream exists: see whether events arrive, in Realtime"
	if note := results[0].Message; note != "" {
		text += ". Of this event was " + note
	}
	return x.Result(connector.Delivered, "", text)
}

// complaint is what Google's validation has against a request. Source: Google,
// "Validating events" (read 2026-11).
type complaint struct {
	Field       string `json:"fieldPath"`
	Description string `json:"description"`
	Code        string `json:"validationCode"`
}

// decodeComplaints reads the answer of the validation.
func decodeComplaints(answer []byte) (list []complaint, ok bool) {
	var body struct {
		Messages *[]complaint `json:"validationMessages"`
	}
	if json.Unmarshal(answer, &body) != nil || body.Messages == nil {
		return nil, false
	}
	return *body.Messages, true
}

// meanings say in words what a code means.
var meanings = map[string]string{
	"VALUE_INVALID":         "has a value that is not allowed",
	"VALUE_REQUIRED":        "is missing",
	"NAME_INVALID":          "has a name that is not allowed",
	"NAME_RESERVED":         "has a name that Google keeps for itself",
	"VALUE_OUT_OF_BOUNDS":   "is too large or too small",
	"EXCEEDED_MAX_ENTITIES": "has too many parts",
	"NAME_DUPLICATED":       "is there twice",
}

func explain(list []complaint) string {
	parts := make([]string, len(list))
	for i, at := range list {
		field, meaning := at.Field, meanings[at.Code]
		if field == "" {
			field = "the request"
		}
		if meaning == "" {
			meaning = at.Code
		}
		parts[i] = fmt.Sprintf("%s %s (%s)", field, meaning, strings.TrimSpace(at.Description))
	}
	return strings.Join(parts, "; ")
}
