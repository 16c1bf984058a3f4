// Package hubspot sends events to HubSpot as occurrences of custom events, and
// writes contacts for identify events. Settings, mapping, limits and outcomes
// are described in README.md.
package hubspot

import (
	"context"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// noIdentity is the code of an event of nobody.
const noIdentity = "no_identity"

// Kind is the connector's name in the destinations file.
const Kind = "hubspot"

// version changes when the mapping of an event to a call changes.
const version = "1"

// Paths of the API. Those of version 3 are the last ones without a date in them,
// which work in all accounts.
const (
	pathEvents     = "/events/v3/send/batch"
	pathContacts   = "/crm/v3/objects/contacts/batch/upsert"
	pathProperties = "/crm/v3/properties/contacts"
	pathAccount    = "/account-info/v3/details"
)

const (
	// maxEvents is the most events of a call. Source: HubSpot, Send custom event
	// occurrences, Limits (read 2026-11).
	maxEvents = 500
	// maxContacts is the most contacts of a call. Source: HubSpot, Contacts, Create
	// or update a batch of contacts by unique property values (read 2026-11).
	maxContacts = 100
)

// linger lets identify events of a second share a call: an account may make as
// few as 250,000 calls a day, which is not three in a second. Source: HubSpot
// changelog, increasing our API limits (read 2026-11).
const linger = time.Second

// Connector sends to one HubSpot account.
type Connector struct {
	httpcall.Vendor
	cfg    Settings
	mapper *mapping.Mapper
	// listed are the properties of events that are sent, nil if all are. sendsEmail
	// says that the settings name email among them.
	listed     map[string]bool
	sendsEmail bool
	known      *propertyList
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Checker   = (*Connector)(nil)
	_ connector.Factory   = New
)

// batch is the payload of a call: either events or contacts.
type batch struct {
	// ids are what HubSpot knows each input by: the uuid of an event, the trace id
	// of a contact.
	ids []string
	// inputs is, for each event of the call, the index of the input that it became.
	// Events of one id, and identify events of one address, share an input.
	inputs []int
	// body is the request of a call of events, contacts the inputs of the other.
	body     []byte
	contacts []contact
}

// results returns the result of each event from those of the inputs. Of events
// that share one because they have the same id, the first is delivered and the
// others are duplicates.
func (b *batch) results(byInput []connector.Result) []connector.Result {
	if b.contacts != nil {
		return connector.Spread(b.inputs, byInput)
	}
	results := make([]connector.Result, len(b.inputs))
	seen := make([]bool, len(byInput))
	for i, input := range b.inputs {
		results[i] = byInput[input]
		if seen[input] && results[i].Class == connector.Delivered {
			results[i].Class = connector.Duplicate
		}
		seen[input] = true
	}
	return results
}

// draft is a call that is being planned.
type draft struct {
	batch
	events []int
	// byKey finds the input of an id or an address.
	byKey map[string]int
}

// Plan implements connector.Connector. Calls are made in turns: contacts,
// events, contacts and so on. An event goes into the first turn of its kind that
// does not come before the one with the event before it of the same user, so
// that order is kept and most plans have two turns.
func (c *Connector) Plan(events []connector.Delivery) connector.Plan {
	var (
		plan   connector.Plan
		record mapping.Record
		turns  [][]*draft
		last   = make(map[string]int) // the turn of each user's last event
	)
	for i := range events {
		e := &events[i].Event
		isContact := e.Type == event.TypeIdentify
		result := c.dropped(e)
		if result == nil {
			result = c.mapper.Map(e, &record)
		}
		if result == nil {
			key := e.PartitionKey()
			turn, known := last[key]
			if !known && !isContact || known && (turn%2 == 0) != isContact {
				turn++
			}
			for len(turns) <= turn {
				turns = append(turns, nil)
			}
			if isContact {
				turns[turn], result = c.addContact(turns[turn], i, &record)
			} else {
				turns[turn], result = c.addEvent(turns[turn], i, &record, len(events)-i)
			}
			if result == nil {
				last[key] = turn
			}
		}
		if result != nil {
			if result.Code == noIdentity && c.cfg.WithoutIdentity == drop {
				result.Class = connector.Dropped
			}
			plan.Done = append(plan.Done, connector.Done{Event: i, Result: *result})
		}
	}
	for _, drafts := range turns {
		for _, d := range drafts {
			if len(d.events) == 0 {
				continue
			}
			if d.contacts == nil {
				d.body = append(d.body, `]}`...)
			}
			plan.Calls = append(plan.Calls, connector.Call{Events: d.events, Payload: &d.batch})
		}
	}
	return plan
}

// dropped returns the result of events that have no counterpart at HubSpot.
func (c *Connector) dropped(e *event.Event) *connector.Result {
	switch {
	case e.Type == event.TypeGroup || e.Type == event.TypeAlias:
		return mapping.Drop("no_counterpart", "type: HubSpot has nothing that a "+e.Type+" event would be")
	case e.Type == event.TypeIdentify && !c.cfg.Contacts:
		return mapping.Drop("contacts_off", "type: identify events are left out, as the setting contacts is false")
	}
	return nil
}

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	b := call.Payload.(*batch)
	alone := len(call.Events) == 1
	if b.contacts == nil {
		x := c.API.Do(ctx, httpcall.Request{Path: pathEvents, Body: b.body})
		return b.results(events(x, b.ids, alone))
	}
	var known map[string]bool
	if c.cfg.UnknownProperties == drop {
		var trouble *connector.Result
		if known, trouble = c.known.get(ctx); trouble != nil {
			return connector.All(len(call.Events), *trouble)
		}
	}
	body, without := appendContacts(nil, b, known)
	x := c.API.Do(ctx, httpcall.Request{Path: pathContacts, Body: body})
	results := contacts(x, b.ids, alone)
	for i, names := range without {
		if names != "" && results[i].Class == connector.Delivered {
			results[i].Code, results[i].Message = "properties_dropped", httpcall.Cut("HubSpot has no such properties of contacts: "+names, httpcall.MaxMessage)
		}
	}
	return b.results(results)
}
