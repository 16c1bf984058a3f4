// Package ga4 delivers events to Google Analytics 4 by the Measurement
// Protocol. Settings, mapping, limits and outcomes are described in README.md.
package ga4

import (
	"context"
	"net/http"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/measurement"
)

// Kind is the connector's name in the destinations file.
const Kind = "ga4"

// version changes when the mapping of an event to a call changes.
const version = "1"

// Paths of the protocol. What is posted to the second is checked and not kept.
const (
	pathCollect  = "/mp/collect"
	pathValidate = "/debug/mp/collect"
)

// Spec describes the connector.
func Spec() connector.Spec {
	return connector.Spec{
		Kind: Kind, Summary: "Google Analytics 4, by the Measurement Protocol", Settings: DefaultConfig(),
		Dedup:  "none: what is sent twice counts twice; the parameter event_id tells in BigQuery",
		Order:  "kept for each user",
		Limits: "25 events of one user and 130 kB a call, 25 parameters an event, nothing older than 72 hours; no rate is published",
		New:    New,
	}
}

// Connector sends events to one stream.
type Connector struct {
	httpcall.Vendor
	cfg     Config
	planner *measurement.Planner
	query   string
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Tester    = (*Connector)(nil)
	_ connector.Factory   = New
)

// maxEvents is how many events are planned at once: those of one user among them
// share a call.
const maxEvents = 250

// Plan implements connector.Connector.
func (c *Connector) Plan(events []connector.Delivery) connector.Plan { return c.planner.Plan(events) }

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	body, results := call.Payload.(*measurement.Batch).Body(time.Now(), "")
	if body == nil {
		return results
	}
	x := c.API.Do(ctx, httpcall.Request{Path: pathCollect, RawQuery: c.query, Body: body})
	measurement.Settle(results, c.outcome(x, len(results)))
	return results
}

// outcome returns what an answer means for all n events of a call. Google answers
// 2xx to whatever it has received, and says of no other status what it means.
// Source: Google, Measurement Protocol reference, "Transport" (read 2026-11).
func (c *Connector) outcome(x *httpcall.Exchange, n int) connector.Result {
	class := x.Class()
	switch {
	case x.Err != nil:
	case x.Status == http.StatusNotFound || x.Status == http.StatusMethodNotAllowed:
		return x.Result(connector.Auth, "", "this is not the address of the Measurement Protocol")
	case x.Status == http.StatusGatewayTimeout:
		class = connector.Ambiguous // it went on to somebody who did not answer
	case !c.cfg.RetryRefused && (class == connector.Throttled || class == connector.Retryable):
		return x.Result(connector.Permanent, "", "refused with "+http.StatusText(x.Status)+", and retry_refused is off")
	case class == connector.Permanent && x.Status/100 == 4 && n > 1:
		class = connector.TooLarge // one of them is at fault: they are halved until it is alone
	}
	return x.Result(class, "", "")
}
