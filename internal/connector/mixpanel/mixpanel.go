// Package mixpanel delivers events to Mixpanel: track, page and screen events
// through Import Events, identify events as user profiles and group events as
// group profiles. Settings, mapping, limits and outcomes are described in
// README.md.
package mixpanel

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// Kind is the connector's name in the destinations file.
const Kind = "mixpanel"

// version changes when the mapping of an event to a call changes.
const version = "1"

// What one call carries. Source: Mixpanel, Import Events (read 2026-11): "up to
// 2000 events and 10MB uncompressed per request"; its OpenAPI file has a 413
// that says "request exceeds max limit of 2097152 bytes", and 2 MB are right
// with both. For profiles there is no number in what was read.
const (
	maxEvents = 2000
	maxBody   = 2_000_000
)

// Connector delivers to one project.
type Connector struct {
	httpcall.Vendor
	cfg         Config
	mapper      *mapping.Mapper
	token       []byte // in JSON
	importQuery url.Values
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Checker   = (*Connector)(nil)
	_ connector.Factory   = New
)

// Spec describes the connector.
func Spec() connector.Spec {
	return connector.Spec{
		Kind: Kind, Summary: "Mixpanel: events by Import Events, profiles of users and groups", Settings: DefaultConfig(),
		Dedup:  "event, time, distinct_id and $insert_id, which is the event's id; profiles are set, which may be repeated",
		Order:  "kept per user, profiles and events alike",
		Limits: "2,000 events and 2 MB a call, 20 calls at once, about 30,000 events/s per project",
		New:    New,
	}
}

// resource is what a call is made to.
type resource uint8

const (
	events resource = iota
	profiles
	groups
)

var paths = [...]string{events: "/import", profiles: "/engage", groups: "/groups"}

// batch is the payload of a call: a JSON array with an element for each event.
type batch struct {
	to   resource
	body []byte
	// notes say what a person should know of events that were sent all the same.
	notes []note
}

type note struct {
	element    int
	code, text string
}

// Plan implements connector.Connector.
func (c *Connector) Plan(deliveries []connector.Delivery) connector.Plan {
	p := planner{deliveries: deliveries}
	var (
		record mapping.Record
		item   []byte
	)
	for i := range deliveries {
		to, done := c.route(&deliveries[i].Event)
		if done == nil {
			done = c.mapper.Map(&deliveries[i].Event, &record)
		}
		var said note
		if done == nil {
			item, said, done = c.encode(item[:0], to, &record)
		}
		if done != nil {
			p.done = append(p.done, connector.Done{Event: i, Result: *done})
			continue
		}
		p.put(i, to, item, said)
	}
	return p.plan()
}

// route says where events of a type go, or why they go nowhere.
func (c *Connector) route(e *event.Event) (resource, *connector.Result) {
	switch e.Type {
	case event.TypeIdentify:
		if c.cfg.Token == "" {
			return 0, mapping.Drop("no_token", "profiles need the setting token, the service account alone will not do")
		}
		return profiles, nil
	case event.TypeGroup:
		switch {
		case c.cfg.GroupKey == "":
			return 0, mapping.Drop("no_group_key", "the setting group_key does not say which group key of the project is meant")
		case c.cfg.Token == "":
			return 0, mapping.Drop("no_token", "groups need the setting token, the service account alone will not do")
		}
		return groups, nil
	case event.TypeAlias:
		return 0, mapping.Drop("alias", "Mixpanel joins user_id and anonymous_id by the first event that has both (Simplified ID Merge)")
	}
	return events, nil
}

// planner puts events into calls. Each goes into the first call of its resource
// that has room and does not stand before the last one of its key: that keeps
// the order of each user, and makes a call more only where a user needs it.
type planner struct {
	deliveries []connector.Delivery
	calls      []call
	// last is the index of the last call of each key; made with the second call.
	last map[string]int
	done []connector.Done
}

type call struct {
	batch  *batch
	events []int
}

func (p *planner) put(i int, to resource, item []byte, said note) {
	first, key := 0, ""
	if p.last != nil {
		key = p.deliveries[i].Event.PartitionKey()
		first = p.last[key]
	}
	at := first
	for at < len(p.calls) && !p.calls[at].takes(to, len(item)) {
		at++
	}
	if at == len(p.calls) {
		p.open(to, len(p.deliveries)-i, len(item))
		key = p.deliveries[i].Event.PartitionKey()
	}
	if p.last != nil {
		p.last[key] = at
	}
	c := &p.calls[at]
	if said.code != "" {
		said.element = len(c.events)
		c.batch.notes = append(c.batch.notes, said)
	}
	c.events = append(c.events, i)
	separator := byte(',')
	if len(c.batch.body) == 0 {
		separator = '['
	}
	c.batch.body = append(append(c.batch.body, separator), item...)
}

// open begins a call. left is how many events there are to come, size that of
// the first.
func (p *planner) open(to resource, left, size int) {
	if len(p.calls) == 1 {
		p.last = make(map[string]int)
		for _, i := range p.calls[0].events {
			p.last[p.deliveries[i].Event.PartitionKey()] = 0
		}
	}
	c := call{batch: &batch{to: to}}
	if to == events && len(p.calls) == 0 { // most of what comes, as a rule in one call
		c.events = make([]int, 0, left)
		c.batch.body = make([]byte, 0, min(maxBody, left*(size+size/8)+2))
	}
	p.calls = append(p.calls, c)
}

// takes reports whether there is room for an item, a comma and the bracket at
// the end.
func (c *call) takes(to resource, size int) bool {
	return c.batch.to == to && len(c.events) < maxEvents && len(c.batch.body)+size+2 <= maxBody
}

func (p *planner) plan() connector.Plan {
	plan := connector.Plan{Done: p.done}
	if len(p.calls) > 0 {
		plan.Calls = make([]connector.Call, len(p.calls))
	}
	for i, c := range p.calls {
		c.batch.body = append(c.batch.body, ']')
		plan.Calls[i] = connector.Call{Events: c.events, Payload: c.batch}
	}
	return plan
}

// profileQuery asks for an answer that says what is wrong with which update.
// ip=0 keeps Mixpanel from taking our address for the user's.
var profileQuery = url.Values{"ip": {"0"}, "strict": {"1"}, "verbose": {"1"}}

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	b := call.Payload.(*batch)
	query := profileQuery
	if b.to == events {
		query = c.importQuery
	}
	x := c.API.Do(ctx, httpcall.Request{Path: paths[b.to], Query: query, Body: b.body, Gzip: true})
	results := outcome(x, b, len(call.Events))
	for _, n := range b.notes {
		if r := &results[n.element]; r.Class == connector.Delivered {
			r.Code, r.Message = n.code, n.text
		}
	}
	return results
}

// Check implements connector.Checker. It imports an empty batch.
func (c *Connector) Check(ctx context.Context) connector.Result {
	x := c.API.Do(ctx, httpcall.Request{Path: paths[events], Query: c.importQuery, Body: []byte("[]")})
	switch {
	case x.Err == nil && (x.Status == http.StatusOK || x.Status == http.StatusBadRequest):
		text := fmt.Sprintf("Mixpanel takes the credentials for events: it answered an empty batch with %d", x.Status)
		if said := decode(x.Body); said.Error != "" {
			text += " (" + said.Error + ")"
		}
		text += ". Nothing was imported."
		if c.cfg.Token != "" {
			text += " It says nothing about profiles and groups: /engage and /groups answer yes to any token."
		}
		return x.Result(connector.Delivered, "", text)
	default:
		return outcome(x, &batch{}, 1)[0]
	}
}
