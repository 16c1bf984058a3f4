package gtm

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/measurement"
	"github.com/eventsluice/sluice/internal/connector/settings"
)

// Config are the settings of a server container of Google Tag Manager, as they
// stand in the destinations file. Only URL is required.
type Config struct {
	// URL is the tagging server, such as https://tags.example.com.
	URL string `json:"url" validate:"required" doc:"the tagging server, such as https://tags.example.com; http on this machine alone"`
	// Client is the kind of client that claims the requests: "measurement_protocol"
	// or "data". Default "measurement_protocol".
	Client string `json:"client" validate:"oneof=measurement_protocol data" doc:"what claims the requests: the measurement_protocol client of Google or the data client of Stape"`
	// Path is what the client listens to. Default /mp/collect, or /data.
	Path string `json:"path" doc:"what the client listens to; /mp/collect or /data if it is empty"`
	// PreviewHeader shows the requests in a preview session. A secret.
	PreviewHeader string `json:"preview_header" doc:"value of X-Gtm-Server-Preview, which shows the requests in a preview session; a secret, and not for production"`
	// MeasurementID and APISecret are sent if the client asks for them.
	MeasurementID string `json:"measurement_id" doc:"sent along, for measurement_protocol clients that ask for it"`
	APISecret     string `json:"api_secret" doc:"sent along, for measurement_protocol clients that ask for it; a secret"`
	// EventIDParameter is the parameter that gets our event id, by which tags leave
	// out what they have seen. Default "event_id".
	EventIDParameter string `json:"event_id_parameter" doc:"the parameter that gets the event's id; empty for none (the data client always gets event_id)"`
	// The others are those of the connector ga4.
	Consent         measurement.Consent `json:"consent" doc:"ad_user_data and ad_personalization, each granted or denied, for events without context.consent"`
	Currency        string              `json:"currency" doc:"of values of events that name none, such as EUR (measurement_protocol)"`
	Ecommerce       bool                `json:"ecommerce" doc:"events such as Order Completed become those that Google Analytics knows, such as purchase (measurement_protocol)"`
	UserData        bool                `json:"user_data" doc:"sends email address and telephone number: hashed (measurement_protocol) or in the clear (data)"`
	Analytics360    bool                `json:"analytics_360" doc:"values may have 500 characters (measurement_protocol)"`
	WithoutIdentity string              `json:"without_identity" validate:"oneof=dead event" doc:"events of nobody: dead makes dead letters, event makes each a user of its own"`
	Mapping         mapping.Settings    `json:"mapping" doc:"changes names, identities, parameters and user properties"`
}

// Values of Config.Client.
const (
	clientProtocol = "measurement_protocol"
	clientData     = "data"
)

// DefaultConfig returns the settings that hold where none are given.
func DefaultConfig() Config {
	return Config{Client: clientProtocol, EventIDParameter: "event_id", Ecommerce: true, WithoutIdentity: measurement.Dead}
}

// paths are where the clients listen. Sources: Google, Measurement Protocol
// client of server containers; Stape, Data Client, template.js (read 2026-11).
var paths = map[string]string{clientProtocol: "/mp/collect", clientData: "/data"}

// New makes a connector from its settings. It does not connect.
func New(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	cfg := DefaultConfig()
	faults := []error{settings.Decode(raw, &cfg)}
	path := cmp.Or(cfg.Path, paths[cfg.Client])
	if cfg.Path != "" && !isPath(cfg.Path) {
		faults = append(faults, errors.New("path: must begin with a slash, and have no query, fragment and white space"))
	}
	if strings.ContainsFunc(cfg.PreviewHeader, func(r rune) bool { return r < ' ' || r > '~' }) {
		faults = append(faults, errors.New("preview_header: has characters that a header cannot have"))
	}
	if cfg.Client == clientData && cfg.MeasurementID+cfg.APISecret != "" {
		faults = append(faults, errors.New("measurement_id, api_secret: are of no use to the data client"))
	}
	c := &Connector{path: path, Vendor: httpcall.Vendor{Name: Kind, Mapping: version, Allows: connector.Limits{MaxEvents: maxEvents}}}
	var err error
	if cfg.Client == clientData {
		c.data, err = newDataPlanner(&cfg)
	} else {
		c.protocol, err = measurement.New(measurement.Options{
			Mapping: cfg.Mapping, EventIDParameter: cfg.EventIDParameter, Consent: cfg.Consent, Currency: cfg.Currency,
			Ecommerce: cfg.Ecommerce, UserData: cfg.UserData, Analytics360: cfg.Analytics360, WithoutIdentity: cfg.WithoutIdentity,
		})
	}
	faults = append(faults, err)
	c.query = query(&cfg)
	if cfg.URL != "" {
		header := http.Header{"Content-Type": {"application/json"}}
		if cfg.PreviewHeader != "" {
			header["X-Gtm-Server-Preview"] = []string{cfg.PreviewHeader}
		}
		c.API, err = httpcall.NewAPI(httpcall.APIConfig{ //nolint:gosec // names of settings are no credentials
			Endpoint: cfg.URL, Address: "url", Header: header,
			Secrets:     []string{cfg.APISecret, url.QueryEscape(cfg.APISecret), cfg.PreviewHeader},
			Credentials: "url, path, measurement_id, api_secret and preview_header",
			Dial:        env.Dial,
		})
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return c, nil
}

func query(cfg *Config) string {
	var parts []string
	if cfg.MeasurementID != "" {
		parts = append(parts, "measurement_id="+url.QueryEscape(cfg.MeasurementID))
	}
	if cfg.APISecret != "" {
		parts = append(parts, "api_secret="+url.QueryEscape(cfg.APISecret))
	}
	return strings.Join(parts, "&")
}

// isPath reports whether a text can stand in an address as it is.
func isPath(path string) bool {
	u, err := url.Parse(path)
	return err == nil && path[0] == '/' && !strings.ContainsAny(path, "?#\\") && u.Host == "" && u.EscapedPath() == path
}
