// Package gtm delivers events to a server container of Google Tag Manager: to
// its Measurement Protocol client, as ga4 does, or to Stape's Data Client.
// Settings, mapping, limits and outcomes are described in README.md.
package gtm

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/measurement"
)

// Kind is the connector's name in the destinations file.
const Kind = "gtm"

// version changes when the mapping of an event to a call changes.
const version = "1"

// pathHealth answers "ok" at every tagging server. Source: Google, server-side
// tagging, "Manual setup guide" (read 2026-11).
const pathHealth = "/healthy"

// Spec describes the connector.
func Spec() connector.Spec {
	return connector.Spec{
		Kind: Kind, Summary: "a server container of Google Tag Manager", Settings: DefaultConfig(),
		Dedup:  "none in the container; its tags may leave out an event_id that they have seen",
		Order:  "kept for each user",
		Limits: "measurement_protocol: those of ga4; data: one event a call",
		New:    New,
	}
}

// Connector sends events to one container.
type Connector struct {
	httpcall.Vendor
	// protocol or data is set.
	protocol *measurement.Planner
	data     *dataPlanner
	path     string
	query    string
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Checker   = (*Connector)(nil)
	_ connector.Factory   = New
)

// maxEvents is how many events are planned at once.
const maxEvents = 250

// Plan implements connector.Connector.
func (c *Connector) Plan(events []connector.Delivery) connector.Plan {
	if c.data != nil {
		return c.data.plan(events)
	}
	return c.protocol.Plan(events)
}

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	if body, ok := call.Payload.([]byte); ok {
		return []connector.Result{c.post(ctx, body)}
	}
	body, results := call.Payload.(*measurement.Batch).Body(time.Now(), "")
	if body == nil {
		return results
	}
	measurement.Settle(results, c.post(ctx, body))
	return results
}

func (c *Connector) post(ctx context.Context, body []byte) connector.Result {
	x := c.API.Do(ctx, httpcall.Request{Path: c.path, RawQuery: c.query, Body: body})
	switch {
	case x.Err != nil:
	case x.Status == http.StatusBadRequest, x.Status == http.StatusNotFound, x.Status == http.StatusMethodNotAllowed:
		// A container answers 400 where no client claims a request.
		return x.Result(connector.Auth, "", "no client of the container claims the request: it listens to another path, or the container with it is not published")
	case x.Status == http.StatusGatewayTimeout:
		return x.Result(connector.Ambiguous, "", "")
	}
	return x.Outcome()
}

// Check implements connector.Checker.
func (c *Connector) Check(ctx context.Context) connector.Result {
	x := c.API.Do(ctx, httpcall.Request{Method: http.MethodGet, Path: pathHealth})
	switch class := x.Class(); {
	case class == connector.Delivered && strings.TrimSpace(string(x.Body)) == "ok":
		return x.Result(connector.Delivered, "", "the tagging server is up; whether a client claims "+c.path+" is seen with an event alone")
	case class == connector.Delivered, class == connector.Permanent:
		return x.Result(connector.Auth, "", "this is no tagging server: "+pathHealth+" does not say ok")
	}
	return x.Outcome()
}
