package gtm

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/measurement"
	"github.com/eventsluice/sluice/internal/event"
)

// maxBody bounds a request to the Data Client: more than any tag reads.
const maxBody = 1 << 20

// dataPlanner makes the requests of the Data Client: one JSON object an event,
// whose members become what tags see of it.
type dataPlanner struct {
	mapper   *mapping.Mapper
	userData bool
	perEvent bool
	consent  measurement.Consent
	records  sync.Pool // *mapping.Record
}

// Indexes of the values in Record.Extra.
const (
	extraPhone = iota
	extraUserData
	extraPersonalization
)

func newDataPlanner(cfg *Config) (*dataPlanner, error) {
	d := mapping.Defaults{
		Fields: []mapping.Field{
			{Name: "page_location", Sources: []string{"/context/page/url"}},
			{Name: "page_referrer", Sources: []string{"/context/page/referrer"}},
			{Name: "page_title", Sources: []string{"/context/page/title"}},
			{Name: "language", Sources: []string{"/context/locale"}},
		},
		Extra: []mapping.Field{
			extraPhone:           {Name: "phone", Sources: []string{"/context/traits/phone", "/data/phone"}},
			extraUserData:        {Name: "ad_user_data", Sources: []string{"/context/consent/ad_user_data"}},
			extraPersonalization: {Name: "ad_personalization", Sources: []string{"/context/consent/ad_personalization"}},
		},
		AnonymousID: []string{"/context/ga/client_id", "/context/ga/cookie", "/anonymous_id"},
		Reserved:    notSpread,
	}
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(cfg.Mapping.Properties)) {
		if own(name) {
			faults = append(faults, fmt.Errorf("mapping.properties.%s: is set by the connector", name))
		}
	}
	mapper, err := mapping.New(cfg.Mapping, d)
	if err := errors.Join(append(faults, err)...); err != nil {
		return nil, err
	}
	return &dataPlanner{
		mapper: mapper, userData: cfg.UserData, perEvent: cfg.WithoutIdentity == measurement.PerEvent, consent: cfg.Consent,
		records: sync.Pool{New: func() any { return new(mapping.Record) }},
	}, nil
}

// own reports the members that mean something to the Data Client, which this
// package sets. Source: Stape, Data Client, template.js (read 2026-11).
func own(name string) bool {
	switch name {
	case "event_name", "event_id", "client_id", "user_id", "timestamp", "ip_override", "user_agent", "user_data", "user_properties", "group_properties", "consent",
		"data_tag", "data_tag_custom_data", "dtclid", "v", "request_data":
		return true
	}
	return false
}

// notSpread reports the members of data and traits that stay where they are: those
// that would take the place of ours, and those that hold what identifies a person.
func notSpread(name string) bool { return own(name) || measurement.Personal(name) }

func (p *dataPlanner) plan(events []connector.Delivery) connector.Plan {
	r := p.records.Get().(*mapping.Record)
	defer p.records.Put(r)
	plan := connector.Plan{Calls: make([]connector.Call, 0, len(events))}
	for i := range events {
		body, refused := p.body(r, &events[i].Event)
		if refused != nil {
			plan.Done = append(plan.Done, connector.Done{Event: i, Result: *refused})
			continue
		}
		plan.Calls = append(plan.Calls, connector.Call{Events: []int{i}, Payload: body})
	}
	return plan
}

func (p *dataPlanner) body(r *mapping.Record, e *event.Event) ([]byte, *connector.Result) {
	if refused := p.mapper.Map(e, r); refused != nil {
		return nil, refused
	}
	client := measurement.ClientID(r.AnonymousID, r.UserID)
	switch {
	case client == "" && p.perEvent:
		client = measurement.ClientID("", e.ID)
	case client == "":
		return nil, mapping.Refuse("no_identity", "anonymous_id", "an event of nobody: it needs anonymous_id, user_id or context.ga.client_id")
	}
	body := append(make([]byte, 0, len(e.Data)+512), '{')
	body = mapping.AppendText(body, "event_name", name(r))
	body = mapping.AppendText(body, "event_id", e.ID)
	body = mapping.AppendText(body, "client_id", client)
	if r.UserID != "" {
		body = mapping.AppendText(body, "user_id", r.UserID)
	}
	if at := r.Past(); !at.IsZero() {
		body = strconv.AppendInt(mapping.AppendMember(body, "timestamp", nil), at.Unix(), 10)
	}
	if r.IP != "" {
		body = mapping.AppendText(body, "ip_override", r.IP)
	}
	if r.UserAgent != "" {
		body = mapping.AppendText(body, "user_agent", r.UserAgent)
	}
	body = p.person(body, r)
	titled := false
	for _, property := range r.Properties {
		titled = titled || property.Name == "page_title" || property.Name == "screen_name"
		body = mapping.AppendMember(body, property.Name, property.Value)
	}
	switch { // whose name is not that of the event at the container
	case titled || !measurement.Named(e):
	case e.Type == event.TypePage:
		body = mapping.AppendText(body, "page_title", e.Name)
	case e.Type == event.TypeScreen:
		body = mapping.AppendText(body, "screen_name", e.Name)
	}
	if body = append(body, '}'); len(body) > maxBody {
		return nil, mapping.Refuse("too_large", "data", fmt.Sprintf("the event makes a request of %d bytes, and at most %d are sent", len(body), maxBody))
	}
	return body, nil
}

// name returns what triggers of the container select by.
func name(r *mapping.Record) string {
	switch {
	case r.Name != r.Event.Name:
	case r.Event.Type == event.TypePage:
		return "page_view"
	case r.Event.Type == event.TypeScreen:
		return "screen_view"
	}
	return cmp.Or(r.Name, r.Event.Type)
}

// person appends what is said of the user.
func (p *dataPlanner) person(body []byte, r *mapping.Record) []byte {
	if len(r.Traits) > 0 {
		whose := "user_properties"
		if r.Event.Type == event.TypeGroup {
			whose = "group_properties"
		}
		body = mapping.AppendObject(body, whose, r.Traits)
	}
	body = measurement.AppendConsent(body, p.consent, r.Extra[extraUserData].Value, r.Extra[extraPersonalization].Value)
	if !p.userData {
		return body
	}
	start, n := len(body), 0
	body = append(mapping.AppendMember(body, "user_data", nil), '{')
	if r.Email != "" {
		body = mapping.AppendText(body, "email_address", r.Email)
		n++
	}
	if text, ok := mapping.Text(r.Extra[extraPhone].Value); ok && text != "" {
		body = mapping.AppendText(body, "phone_number", text)
		n++
	}
	if n == 0 {
		return body[:start]
	}
	return append(body, '}')
}
