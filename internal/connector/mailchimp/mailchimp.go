// Package mailchimp keeps an audience of Mailchimp up to date: identify events
// become members and their tags, others events of members. Settings, mapping,
// limits and outcomes are described in README.md.
package mailchimp

import (
	"context"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// Kind is the connector's name in the destinations file.
const Kind = "mailchimp"

// version changes when the mapping of an event to a call changes.
const version = "1"

const (
	// maxConnections leaves two of the ten simultaneous connections of an account
	// to its other apps. Source: Mailchimp Marketing API, Fundamentals, Throttling
	// (read 2026-11).
	maxConnections = 8
	// timeout is Mailchimp's own. Source: as above.
	timeout = 120 * time.Second
	// maxMembers is the most people of a call. Mailchimp takes 500 (source: Batch
	// subscribe or unsubscribe, read 2026-11); those who are in the audience
	// already take a request each afterwards, and all have to fit into the timeout.
	maxMembers = 100
	// minMembers is how many people are worth a request for all of them.
	minMembers = 3
	// maxEvents is how many events are planned at once.
	maxEvents = 100
	// linger lets identify events share a call.
	linger = 500 * time.Millisecond
)

// Connector writes to one audience.
type Connector struct {
	httpcall.Vendor
	cfg    Settings
	mapper *mapping.Mapper
	list   string // path of the audience
	query  url.Values
	// fields are the merge fields that are filled without mapping.traits. sendsEmail
	// says that mapping.properties names the property email.
	fields     []field
	sendsEmail bool
	// seen is when the audience was last found to exist, in Unix nanoseconds.
	seen atomic.Int64
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Checker   = (*Connector)(nil)
	_ connector.Factory   = New
)

// people is the payload of a call that writes members.
type people struct {
	members []member
	// inputs is, for each event of the call, the index of the member that it became:
	// the events of one address are one member.
	inputs  []int
	byEmail map[string]int
}

// happening is the payload of a call with an event of a member.
type happening struct {
	member member
	body   []byte
}

// noIdentity is the code of an event of nobody.
const noIdentity = "no_identity"

// Plan implements connector.Connector. An identify event joins the last call of
// people, unless there is something of the same user after that.
func (c *Connector) Plan(events []connector.Delivery) connector.Plan {
	var (
		plan   connector.Plan
		record mapping.Record
		open   = -1                   // the last call of people
		last   = make(map[string]int) // the call of each user's last event
	)
	for i := range events {
		e := &events[i].Event
		if e.Type == event.TypeGroup || e.Type == event.TypeAlias {
			plan.Done = append(plan.Done, connector.Done{Event: i, Result: *mapping.Drop("no_counterpart", "type: Mailchimp has nothing that a "+e.Type+" event would be")})
			continue
		}
		var m member
		var body []byte
		result := c.mapper.Map(e, &record)
		if result == nil {
			m, result = c.member(&record)
		}
		isPeople := e.Type == event.TypeIdentify
		if result == nil && !isPeople {
			body, result = c.event(&record)
		}
		if result != nil {
			if result.Code == noIdentity && c.cfg.WithoutIdentity == drop {
				result.Class = connector.Dropped
			}
			plan.Done = append(plan.Done, connector.Done{Event: i, Result: *result})
			continue
		}
		key := e.PartitionKey()
		if !isPeople {
			last[key] = len(plan.Calls)
			plan.Calls = append(plan.Calls, connector.Call{Events: []int{i}, Payload: &happening{m, body}})
			continue
		}
		if before, ok := last[key]; open < 0 || ok && before > open || !plan.Calls[open].Payload.(*people).takes(&m) {
			open = len(plan.Calls)
			plan.Calls = append(plan.Calls, connector.Call{Payload: &people{byEmail: make(map[string]int)}})
		}
		call := &plan.Calls[open]
		call.Events = append(call.Events, i)
		call.Payload.(*people).add(m)
		last[key] = open
	}
	return plan
}

// takes reports whether there is room for a member.
func (p *people) takes(m *member) bool {
	_, again := p.byEmail[m.email]
	return again || len(p.members) < maxMembers
}

// add adds a member. If it is there already, they become one.
func (p *people) add(m member) {
	i, again := p.byEmail[m.email]
	if again {
		p.members[i].merge(&m)
	} else {
		i = len(p.members)
		p.byEmail[m.email] = i
		p.members = append(p.members, m)
	}
	p.inputs = append(p.inputs, i)
}

// Send implements connector.Connector. It makes one request at a time.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	if h, ok := call.Payload.(*happening); ok {
		return []connector.Result{c.sendEvent(ctx, h)}
	}
	p := call.Payload.(*people)
	return connector.Spread(p.inputs, c.sendPeople(ctx, p.members))
}
