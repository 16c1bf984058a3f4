// Package amplitude delivers events to Amplitude by its HTTP V2 API. Settings,
// mapping, limits and outcomes are described in README.md.
package amplitude

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/settings"
	"github.com/eventsluice/sluice/internal/event"
)

// Kind is the connector's name in the destinations file.
const Kind = "amplitude"

// Source of all: Amplitude, HTTP V2 API (read 2026-11).
const (
	// maxBody: "Keep request sizes under 1 MB with fewer than 2000 events".
	maxBody = 999_999
	// pause: "pause sending events for that user / device for a period of 30
	// seconds".
	pause = 30 * time.Second
)

// Config are the settings of an Amplitude destination.
type Config struct {
	APIKey    string           `json:"api_key" validate:"required" doc:"API key of the project"`
	Region    string           `json:"region" validate:"oneof=us eu" doc:"where the project's data lives: us or eu"`
	Endpoint  string           `json:"endpoint" doc:"address that takes the place of the region's, such as that of a proxy"`
	BatchSize int              `json:"batch_size" validate:"min=1,max=1999" doc:"most events of a call; Amplitude advises 10 for its Starter plan"`
	Mapping   mapping.Settings `json:"mapping" doc:"changes names, identities and properties"`
}

var (
	hosts = map[string]string{"us": "https://api2.amplitude.com", "eu": "https://api.eu.amplitude.com"}
	// defaults: Extra are members of an event that stand beside its properties.
	defaults = mapping.Defaults{Page: "Viewed %s Page", Screen: "Viewed %s Screen", Extra: []mapping.Field{
		{Name: "app_version", Sources: []string{"/context/app/version"}}, {Name: "platform", Sources: []string{"/context/device/type"}},
		{Name: "os_name", Sources: []string{"/context/os/name"}}, {Name: "os_version", Sources: []string{"/context/os/version"}},
		{Name: "device_model", Sources: []string{"/context/device/model"}}, {Name: "language", Sources: []string{"/context/locale"}},
	}}
)

// Connector delivers to one project.
type Connector struct {
	cfg    Config
	mapper *mapping.Mapper
	api    *httpcall.API
	head   []byte // of a body, up to its events
}

// Spec describes the connector.
func Spec() connector.Spec {
	return connector.Spec{
		Kind: Kind, Summary: "Amplitude: events and user properties by the HTTP V2 API", Settings: DefaultConfig(), New: New,
		Dedup: "insert_id, which is the event's id, for 7 days", Order: "kept per user",
		Limits: "batch_size events and 1 MB a call, 30 events/s per user",
	}
}

// DefaultConfig returns the settings that hold where none are given.
func DefaultConfig() Config { return Config{Region: "us", BatchSize: 1000} }

// New makes a connector from its settings. It does not connect.
func New(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	cfg := DefaultConfig()
	faults := settings.Decode(raw, &cfg)
	mapper, err := mapping.New(cfg.Mapping, defaults)
	if err := errors.Join(faults, err); err != nil {
		return nil, err
	}
	api, err := httpcall.NewAPI(httpcall.APIConfig{ //nolint:gosec // it is the name of a setting
		Base: hosts[cfg.Region], Endpoint: cfg.Endpoint, Header: http.Header{"Content-Type": {"application/json"}},
		Secrets: []string{cfg.APIKey}, Credentials: "api_key (and region, if it is right)", MaxAnswer: 1 << 20, Dial: env.Dial,
	})
	// Without the option Amplitude refuses ids shorter than five characters.
	head := append(mapping.AppendText([]byte{'{'}, "api_key", cfg.APIKey), `,"options":{"min_id_length":1},"events":[`...)
	return &Connector{cfg, mapper, api, head}, err
}

// Kind implements connector.Connector.
func (c *Connector) Kind() string { return Kind }

// Version implements connector.Connector. It changes when the mapping does.
func (c *Connector) Version() string { return "1" }

// Limits implements connector.Connector.
func (c *Connector) Limits() connector.Limits {
	return connector.Limits{MaxEvents: c.cfg.BatchSize, Dedups: true}
}

// Close implements connector.Connector.
func (c *Connector) Close() error {
	c.api.Close()
	return nil
}

// Plan implements connector.Connector. The payload of a call is its body.
func (c *Connector) Plan(events []connector.Delivery) (plan connector.Plan) {
	var record mapping.Record
	var item, body []byte
	var call []int
	flush := func() {
		if len(call) > 0 {
			plan.Calls = append(plan.Calls, connector.Call{Events: call, Payload: append(body[:len(body)-1], "]}"...)})
		}
		call, body = nil, append(make([]byte, 0, min(maxBody, 1024*len(events))), c.head...)
	}
	flush()
	for i := range events {
		done := c.mapper.Map(&events[i].Event, &record)
		if done == nil {
			item, done = c.encode(item[:0], &record)
		}
		if done != nil {
			plan.Done = append(plan.Done, connector.Done{Event: i, Result: *done})
			continue
		}
		if len(body)+len(item)+len("]}") > maxBody || len(call) == c.cfg.BatchSize {
			flush()
		}
		call, body = append(call, i), append(append(body, item...), ',')
	}
	flush()
	return plan
}

// encode appends an event of the API, or says why there is none.
func (c *Connector) encode(dst []byte, r *mapping.Record) ([]byte, *connector.Result) {
	switch kind := r.Event.Type; {
	case kind == event.TypeGroup || kind == event.TypeAlias:
		return dst, mapping.Drop(kind, "the HTTP V2 API has nothing for events of this type that every plan has")
	case r.UserID == "" && r.AnonymousID == "":
		return dst, mapping.Refuse("no_identity", "user_id", "Amplitude needs a user_id or an anonymous_id")
	case kind == event.TypeIdentify && len(r.Traits) == 0:
		return dst, mapping.Drop("no_traits", "there is nothing to set")
	case kind == event.TypeIdentify:
		r.Name = "$identify"
	}
	dst = mapping.AppendText(append(dst, '{'), "event_type", r.Name)
	dst = mapping.AppendText(dst, "insert_id", r.Event.ID)
	dst = strconv.AppendInt(append(dst, `,"time":`...), r.Time.UnixMilli(), 10)
	for _, m := range [...]struct{ name, text string }{{"user_id", r.UserID}, {"device_id", r.AnonymousID}, {"ip", r.IP}} {
		if m.text != "" {
			dst = mapping.AppendText(dst, m.name, m.text)
		}
	}
	for _, p := range r.Extra {
		if len(p.Value) > 0 && p.Value[0] == '"' {
			dst = mapping.AppendMember(dst, p.Name, p.Value)
		}
	}
	for _, object := range [...]struct {
		name       string
		properties []mapping.Property
	}{{"event_properties", r.Properties}, {"user_properties", r.Traits}} {
		dst = append(mapping.AppendMember(dst, object.name, nil), '{')
		for _, p := range object.properties {
			dst = mapping.AppendMember(dst, p.Name, p.Value)
		}
		dst = append(dst, '}')
	}
	return append(dst, '}'), nil
}

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	return outcome(c.api.Do(ctx, httpcall.Request{Path: "/2/httpapi", Body: call.Payload.([]byte)}), len(call.Events))
}

// Check implements connector.Checker. It makes a call without events.
func (c *Connector) Check(ctx context.Context) connector.Result {
	x := c.api.Do(ctx, httpcall.Request{Path: "/2/httpapi", Body: fmt.Appendf(nil, "%s]}", c.head)})
	if result := outcome(x, 1)[0]; x.Status != http.StatusBadRequest || result.Class == connector.Auth {
		return result
	}
	return x.Result(connector.Delivered, "", "Amplitude did not refuse the api_key; that it is the right project's only an event can show.")
}

// answer is what Amplitude says of a call. Source: Amplitude, HTTP V2 API,
// responses (read 2026-11).
type answer struct {
	Code         int              `json:"code"`
	Error        string           `json:"error"`
	MissingField string           `json:"missing_field"`
	Missing      map[string][]int `json:"events_with_missing_fields"`
	Invalid      map[string][]int `json:"events_with_invalid_fields"`
	Lengths      map[string][]int `json:"events_with_invalid_id_lengths"`
	Silenced     []int            `json:"silenced_events"`
	Throttled    []int            `json:"throttled_events"`
}

// outcome returns the result of each of the n events of a call. Amplitude takes
// a call whole or not at all: of one that it did not take, the events that it
// names are refused, or wait by themselves, and the others are sent again at
// once, in halves. That is class too_large, which costs no attempt.
func outcome(x *httpcall.Exchange, n int) []connector.Result {
	var said answer
	_ = json.Unmarshal(x.Body, &said) // what cannot be read has said nothing
	rest := x.Result(x.Class(), "", said.Error)
	results, named := make([]connector.Result, n), false
	name := func(indexes []int, class connector.Class, code, message string, wait time.Duration) {
		result := x.Result(class, code, message)
		result.RetryAfter = max(result.RetryAfter, wait)
		for _, i := range indexes {
			if i >= 0 && i < n && results[i].Code == "" {
				results[i], named = result, true
			}
		}
	}
	switch {
	case strings.HasPrefix(said.Error, "Invalid API key") || said.MissingField == "api_key":
		rest = x.Result(connector.Auth, "", said.Error)
	case x.Status == http.StatusBadRequest || x.Status == http.StatusTooManyRequests:
		for _, fields := range []map[string][]int{said.Missing, said.Invalid, said.Lengths} {
			for _, field := range slices.Sorted(maps.Keys(fields)) {
				name(fields[field], connector.Permanent, field, field+": "+said.Error, 0)
			}
		}
		name(said.Silenced, connector.Permanent, "silenced", "Amplitude has silenced the device of this event", 0)
		name(said.Throttled, connector.Retryable, "user_throttled", "the user or device of this event sends too much", pause)
		if n > 1 && (named || rest.Class == connector.Permanent) {
			rest = x.Result(connector.TooLarge, "batch_refused", said.Error)
		} else if rest.Class == connector.Throttled {
			rest.RetryAfter = max(rest.RetryAfter, pause)
		}
	case rest.Class == connector.Delivered && said.Code != http.StatusOK:
		rest = x.Result(connector.Ambiguous, "unreadable", "the body of the answer does not say that the call was taken")
	}
	for i := range results {
		if results[i].Code == "" {
			results[i] = rest
		}
	}
	return results
}
