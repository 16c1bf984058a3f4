// Package amplitude delivers events to Amplitude by its HTTP V2 API. Settings,
// mapping, limits and outcomes are described in README.md.
package amplitude

import (
	"context"
	"encoding/json"
	"errors"
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
	path    = "/2/httpapi"
	maxBody = 999_999          // "Keep request sizes under 1 MB with fewer than 2000 events"
	pause   = 30 * time.Second // "pause sending events for that user / device for a period of 30 seconds"
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
	// nobody are ids that a call is refused for ("Invalid IDs"), in lower case.
	nobody = []string{"", "anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown", `""`, "{}", "lmy47d", "0", "-1", "00000000-0000-0000-0000-000000000000"}
	// defaults: Extra are members of an event that stand beside its properties.
	defaults = mapping.Defaults{Page: "Viewed %s Page", Screen: "Viewed %s Screen", Extra: []mapping.Field{
		{Name: "app_version", Sources: []string{"/context/app/version"}}, {Name: "platform", Sources: []string{"/context/device/type"}},
		{Name: "os_name", Sources: []string{"/context/os/name"}}, {Name: "os_version", Sources: []string{"/context/os/version"}},
		{Name: "device_model", Sources: []string{"/context/device/model"}}, {Name: "language", Sources: []string{"/context/locale"}},
	}}
)

// Connector delivers to one project.
type Connector struct {
	httpcall.Vendor
	mapper *mapping.Mapper
	body   mapping.Body
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
		Secrets: []string{cfg.APIKey}, Credentials: "api_key (and region and endpoint, if it is right)", MaxAnswer: 1 << 20, Dial: env.Dial,
	})
	// Without the option Amplitude refuses ids shorter than five characters.
	head := append(mapping.AppendText([]byte{'{'}, "api_key", cfg.APIKey), `,"options":{"min_id_length":1},"events":[`...)
	return &Connector{
		httpcall.Vendor{Name: Kind, Mapping: "1", Allows: connector.Limits{MaxEvents: cfg.BatchSize, Dedups: true}, API: api},
		mapper, mapping.Body{Head: string(head), Tail: "]}", Max: maxBody},
	}, err
}

// Plan implements connector.Connector.
func (c *Connector) Plan(events []connector.Delivery) connector.Plan {
	return c.mapper.Pack(events, c.body, encode)
}

// encode appends an event of the API, or says why there is none.
func encode(dst []byte, r *mapping.Record) ([]byte, *connector.Result) {
	dst = append(dst, '{')
	for _, id := range [...]struct{ name, text string }{{"user_id", r.UserID}, {"device_id", r.AnonymousID}} {
		if !slices.Contains(nobody, strings.ToLower(id.text)) {
			dst = mapping.AppendText(dst, id.name, id.text)
		}
	}
	switch kind := r.Event.Type; {
	case kind == event.TypeGroup || kind == event.TypeAlias:
		return dst, mapping.Drop(kind, "the HTTP V2 API has nothing for events of this type that every plan has")
	case len(dst) == len("{"):
		return dst, mapping.Refuse("no_identity", "user_id", "Amplitude needs a user_id or an anonymous_id that stands for somebody")
	case kind == event.TypeIdentify && len(r.Traits) == 0:
		return dst, mapping.Drop("no_traits", "there is nothing to set")
	case kind == event.TypeIdentify:
		r.Name = "$identify"
	}
	dst = mapping.AppendText(dst, "event_type", r.Name)
	dst = mapping.AppendText(dst, "insert_id", r.Event.ID)
	if !r.Time.IsZero() {
		dst = strconv.AppendInt(mapping.AppendMember(dst, "time", nil), r.Time.UnixMilli(), 10)
	}
	if r.IP != "" {
		dst = mapping.AppendText(dst, "ip", r.IP)
	}
	for _, p := range r.Extra {
		if len(p.Value) > 0 && p.Value[0] == '"' {
			dst = mapping.AppendMember(dst, p.Name, p.Value)
		}
	}
	dst = mapping.AppendObject(dst, "event_properties", r.Properties)
	return append(mapping.AppendObject(dst, "user_properties", r.Traits), '}'), nil
}

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	return outcome(c.API.Do(ctx, httpcall.Request{Path: path, Body: call.Payload.([]byte)}), len(call.Events))
}

// Check implements connector.Checker. It makes a call without events.
func (c *Connector) Check(ctx context.Context) connector.Result {
	x := c.API.Do(ctx, httpcall.Request{Path: path, Body: []byte(c.body.Head + c.body.Tail)})
	if result := outcome(x, 1)[0]; x.Status != http.StatusBadRequest || result.Class == connector.Auth {
		return result
	}
	return x.Result(connector.Delivered, "", "Amplitude did not refuse the api_key; that it is the right project's only an event can show.")
}

// outcome returns the result of each of the n events of a call. Amplitude takes
// a call whole or not at all: of one that it did not take, the events that it
// names are refused, or wait by themselves, and the others are sent again at
// once, in halves. That is class too_large, which costs no attempt.
func outcome(x *httpcall.Exchange, n int) []connector.Result {
	var said struct {
		Code         int              `json:"code"`
		Error        string           `json:"error"`
		MissingField string           `json:"missing_field"`
		Missing      map[string][]int `json:"events_with_missing_fields"`
		Invalid      map[string][]int `json:"events_with_invalid_fields"`
		Lengths      map[string][]int `json:"events_with_invalid_id_lengths"`
		Silenced     []int            `json:"silenced_events"`
		Throttled    []int            `json:"throttled_events"`
	}
	_ = json.Unmarshal(x.Body, &said) // what cannot be read has said nothing
	results, rest := make([]connector.Result, n), x.Result(x.Class(), "", said.Error)
	name := func(indexes []int, result connector.Result) {
		for _, i := range indexes {
			if i >= 0 && i < n && results[i].Code == "" {
				results[i] = result
			}
		}
	}
	switch {
	case strings.HasPrefix(said.Error, "Invalid API key"), said.MissingField == "api_key", said.Error == "Invalid request path", x.Status == http.StatusNotFound:
		rest = x.Result(connector.Auth, "", said.Error)
	case x.Status == http.StatusBadRequest || x.Status == http.StatusTooManyRequests:
		for _, fields := range []map[string][]int{said.Missing, said.Invalid, said.Lengths} {
			for _, field := range slices.Sorted(maps.Keys(fields)) {
				name(fields[field], x.Result(connector.Permanent, field, field+": "+said.Error))
			}
		}
		name(said.Silenced, x.Result(connector.Permanent, "silenced", "Amplitude has silenced the device of this event"))
		slow := x.Result(connector.Retryable, "user_throttled", "the user or device of this event sends too much")
		slow.RetryAfter = max(slow.RetryAfter, pause)
		name(said.Throttled, slow)
		named := slices.ContainsFunc(results, func(r connector.Result) bool { return r.Code != "" })
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
