package mixpanel

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/settings"
	"github.com/eventsluice/sluice/internal/event"
)

// Config are the settings of a Mixpanel destination, as they stand in the
// destinations file. Either Token or a service account is required.
type Config struct {
	Token     string           `json:"token" doc:"token of the project; profiles and groups need it, events take it in place of a service account"`
	Username  string           `json:"username" doc:"user name of a service account; with secret and project_id"`
	Secret    string           `json:"secret" doc:"secret of the service account"`
	ProjectID string           `json:"project_id" doc:"id of the project that the service account imports into"`
	Region    string           `json:"region" validate:"oneof=us eu in" doc:"where the project's data lives: us, eu or in"`
	Endpoint  string           `json:"endpoint" doc:"address that takes the place of the region's, such as that of a proxy"`
	GroupKey  string           `json:"group_key" doc:"group key of the project that group events are about, such as company"`
	Mapping   mapping.Settings `json:"mapping" doc:"changes names, identities and properties"`
}

// DefaultConfig returns the settings that hold where none are given.
func DefaultConfig() Config { return Config{Region: "us"} }

// hosts of the regions. A project stays in the region that it was made in.
// Source: Mixpanel, EU and India data residency (read 2026-11).
var hosts = map[string]string{
	"us": "https://api.mixpanel.com",
	"eu": "https://api-eu.mixpanel.com",
	"in": "https://api-in.mixpanel.com",
}

// maxConcurrency is the most calls in flight: "We see the best results with
// 10-20 concurrent clients". Source: Mixpanel, Import Events (read 2026-11).
const maxConcurrency = 20

// maxAnswer is room for an answer that names 2,000 events.
const maxAnswer = 1 << 20

// New makes a connector from its settings. It does not connect.
func New(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	cfg := DefaultConfig()
	faults := []error{settings.Decode(raw, &cfg)}
	account := 0
	for _, text := range []string{cfg.Username, cfg.Secret, cfg.ProjectID} {
		if text != "" {
			account++
		}
	}
	switch {
	case account == 0 && cfg.Token == "":
		faults = append(faults, errors.New("token: is required, unless there are username, secret and project_id of a service account"))
	case account == 1 || account == 2:
		faults = append(faults, errors.New("username, secret, project_id: a service account needs all three"))
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Mapping.Properties)) {
		if reserved(name) {
			faults = append(faults, fmt.Errorf("mapping.properties.%s: is set by the connector", name))
		}
	}
	mapper, err := mapping.New(cfg.Mapping, defaults(cfg.GroupKey))
	faults = append(faults, err)
	user, password, credentials := cfg.Token, "", "token"
	query := url.Values{"strict": {"1"}}
	if account == 3 {
		user, password, credentials = cfg.Username, cfg.Secret, "username, secret and project_id, or token"
		query.Set("project_id", cfg.ProjectID)
	}
	login := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	api, err := httpcall.NewAPI(httpcall.APIConfig{
		Base: hosts[cfg.Region], Endpoint: cfg.Endpoint,
		Header: http.Header{
			"Authorization": {"Basic " + login}, "Content-Type": {"application/json"}, "Accept": {"application/json"},
		},
		Secrets:     []string{cfg.Token, cfg.Secret, login},
		Credentials: credentials + " (and region, if they are right)", Address: "endpoint",
		MaxConns: maxConcurrency, MaxAnswer: maxAnswer, Dial: env.Dial,
	})
	if err != nil && hosts[cfg.Region] != "" { // else it is the region that is wrong, and said so
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return &Connector{
		Vendor: httpcall.Vendor{Name: Kind, Mapping: version, API: api, Allows: connector.Limits{
			MaxEvents: maxEvents, MaxConcurrency: maxConcurrency, Dedups: true,
		}},
		cfg: cfg, mapper: mapper, token: event.AppendString(nil, cfg.Token), importQuery: query,
	}, nil
}
