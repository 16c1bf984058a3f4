package hubspot

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/settings"
)

// Settings are those of a HubSpot destination, as they stand in the destinations
// file. Only AccessToken is required, and mapping.events to send events.
type Settings struct {
	// AccessToken is that of a private app with the scopes named at the constants
	// scopeEvents and scopeContacts.
	AccessToken string `json:"access_token" validate:"required" doc:"token of a private app with the scopes analytics.behavioral_events.send and crm.objects.contacts.write"`
	// Properties are the properties of events that are sent, by HubSpot's names.
	// Empty: all of data.
	Properties []string `json:"properties" doc:"properties of events to send, by HubSpot's names; those of mapping.properties are sent too; default all of data"`
	// LongValues says what becomes of an event whose value is longer than HubSpot
	// takes: "cut" or "refuse". Default "cut".
	LongValues string `json:"long_values" validate:"oneof=cut refuse" doc:"what becomes of values of events that are longer than HubSpot takes"`
	// Contacts makes contacts of identify events. Default true.
	Contacts bool `json:"contacts" doc:"identify events create and change contacts"`
	// UnknownProperties says what becomes of traits that are no property of
	// contacts: "refuse" sends them, and HubSpot refuses the contact; "drop" leaves
	// them out. Default "refuse".
	UnknownProperties string `json:"unknown_properties" validate:"oneof=refuse drop" doc:"what becomes of traits that are no property of contacts; drop needs the scope crm.schemas.contacts.read"`
	// WithoutIdentity is what becomes of events of nobody, that is, without
	// address, record and cookie: "dead" or "drop". Default "dead".
	WithoutIdentity string `json:"without_identity" validate:"oneof=dead drop" doc:"events without address, record and cookie: dead makes dead letters, drop leaves them out"`
	// Endpoint takes the place of https://api.hubapi.com.
	Endpoint string           `json:"endpoint" doc:"address that takes the place of https://api.hubapi.com"`
	Mapping  mapping.Settings `json:"mapping" doc:"names, identities and properties; events gives each event its name at HubSpot, pe{HubID}_{name}"`
}

// Values of Settings.
const (
	cut    = "cut"
	refuse = "refuse"
	drop   = "drop"
	dead   = "dead"
)

func defaults() Settings {
	return Settings{LongValues: cut, Contacts: true, UnknownProperties: refuse, WithoutIdentity: dead}
}

// Spec describes the connector.
func Spec() connector.Spec {
	return connector.Spec{
		Kind: Kind, Summary: "HubSpot: custom events and contacts", Settings: defaults(),
		Dedup:  "by event id for a year; writing a contact twice does no harm",
		Order:  "kept for each user, across events and contacts",
		Limits: "500 events or 100 contacts a call; calls for contacts count towards the account's limits, from 100 in 10 seconds",
		New:    New,
	}
}

// apiBase is where HubSpot's API is. Source: HubSpot, API reference (read
// 2026-11).
const apiBase = "https://api.hubapi.com"

// maxAnswer bounds what is read of an answer: the list of all properties of
// contacts is the longest.
const maxAnswer = 4 << 20

// parse checks settings. The error names every fault and repeats no secret.
func parse(raw json.RawMessage) (Settings, error) {
	cfg := defaults()
	faults := []error{settings.Decode(raw, &cfg)}
	for _, name := range cfg.Properties {
		if !isProperty(name) {
			faults = append(faults, fmt.Errorf("properties: %q must begin with a letter and have at most %d of a to z, 0 to 9 and _", name, maxName))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Mapping.Events)) {
		if target := cfg.Mapping.Events[name]; target != nil && !isEventName(*target) {
			faults = append(faults, fmt.Errorf("mapping.events.%s: must be the name of an event at HubSpot, pe{HubID}_{name}, such as pe123456_signed_up", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Mapping.Properties)) {
		if cfg.Mapping.Properties[name] != nil && !isProperty(name) {
			faults = append(faults, fmt.Errorf("mapping.properties.%s: must begin with a letter and have at most %d of a to z, 0 to 9 and _", name, maxName))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Mapping.Traits)) {
		if cfg.Mapping.Traits[name] != nil && !isProperty(name) {
			faults = append(faults, fmt.Errorf("mapping.traits.%s: must be the name of a property of contacts, of a to z, 0 to 9 and _", name))
		}
	}
	return cfg, errors.Join(faults...)
}

// New makes a connector from its settings. It does not connect.
func New(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	cfg, err := parse(raw)
	faults := []error{err}
	mapper, err := mapping.New(cfg.Mapping, mapping.Defaults{
		Extra: []mapping.Field{
			{Name: "objectId", Sources: []string{"/context/hubspot/object_id"}},
			{Name: "utk", Sources: []string{"/context/hubspot/utk"}},
		},
		Unmapped: dead,
	})
	faults = append(faults, err)
	api, err := httpcall.NewAPI(httpcall.APIConfig{
		Base: apiBase, Endpoint: cfg.Endpoint,
		Header:  http.Header{"Authorization": {"Bearer " + cfg.AccessToken}, "Content-Type": {"application/json"}, "Accept": {"application/json"}},
		Secrets: []string{cfg.AccessToken}, Credentials: "access_token", MaxAnswer: maxAnswer, Dial: env.Dial,
	})
	faults = append(faults, err)
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	limits := connector.Limits{MaxEvents: maxEvents, Dedups: true, Linger: linger}
	c := &Connector{Vendor: httpcall.Vendor{Name: Kind, Mapping: version, Allows: limits, API: api}, cfg: cfg, mapper: mapper, known: newPropertyList(api)}
	if len(cfg.Properties) > 0 {
		c.listed = make(map[string]bool)
		for _, name := range slices.Concat(cfg.Properties, slices.Collect(maps.Keys(cfg.Mapping.Properties))) {
			c.listed[name] = true
		}
	}
	_, inProperties := cfg.Mapping.Properties["email"]
	c.sendsEmail = inProperties || c.listed["email"]
	return c, nil
}
