package ga4

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/measurement"
	"github.com/eventsluice/sluice/internal/connector/settings"
)

// Config are the settings of a Google Analytics destination, as they stand in
// the destinations file.
type Config struct {
	// MeasurementID names a web stream, FirebaseAppID an app stream: one of them is
	// required.
	MeasurementID string `json:"measurement_id" doc:"the web stream, such as G-XXXXXXXXXX; this or firebase_app_id is required"`
	FirebaseAppID string `json:"firebase_app_id" doc:"the app stream, such as 1:1234567890:android:321abc456def7890"`
	// APISecret is made under Admin, Data Streams, Measurement Protocol. A secret.
	APISecret string `json:"api_secret" validate:"required" doc:"made under Admin, Data Streams, your stream, Measurement Protocol API secrets; a secret"`
	// Region is where events are collected: "global" or "eu". Default "global".
	Region string `json:"region" validate:"oneof=global eu" doc:"where events are collected: global or eu"`
	// Endpoint takes the place of Google's address.
	Endpoint string `json:"endpoint" doc:"takes the place of Google's address: a proxy or a simulator"`
	// EventIDParameter is the parameter that gets our event id. Default "event_id".
	EventIDParameter string `json:"event_id_parameter" doc:"the parameter that gets the event's id, by which repetitions are found in BigQuery; empty for none"`
	// Consent holds for events that have none of their own. Default: nothing is said.
	Consent measurement.Consent `json:"consent" doc:"ad_user_data and ad_personalization, each granted or denied, for events without context.consent"`
	// Currency is that of values of events that name none. Default: none.
	Currency string `json:"currency" doc:"of values of events that name none, such as EUR"`
	// Ecommerce maps the common e-commerce vocabulary. Default true.
	Ecommerce bool `json:"ecommerce" doc:"events such as Order Completed become those that Google Analytics knows, such as purchase"`
	// UserData sends hashes of email address and telephone number. Default false.
	UserData bool `json:"user_data" doc:"sends hashes of email address and telephone number with events that have a user_id"`
	// Analytics360 allows values of 500 characters. Default false.
	Analytics360 bool `json:"analytics_360" doc:"the property is of Google Analytics 360: values may have 500 characters"`
	// WithoutIdentity is what becomes of events of nobody. Default "dead".
	WithoutIdentity string `json:"without_identity" validate:"oneof=dead event" doc:"events of nobody: dead makes dead letters, event makes each a user of its own"`
	// RetryRefused tries again what was answered with 429 or 5xx. Default true.
	RetryRefused bool             `json:"retry_refused" doc:"tries again after 429 and 5xx; Google advises not to, and what was refused is a dead letter then"`
	Mapping      mapping.Settings `json:"mapping" doc:"changes names, identities, parameters and user properties"`
}

// DefaultConfig returns the settings that hold where none are given.
func DefaultConfig() Config {
	return Config{
		Region: "global", EventIDParameter: "event_id", Ecommerce: true,
		WithoutIdentity: measurement.Dead, RetryRefused: true,
	}
}

// regions are the addresses of the protocol. Source: Google, Measurement
// Protocol reference, "Transport" (read 2026-11).
var regions = map[string]string{
	"global": "https://www.google-analytics.com",
	"eu":     "https://region1.google-analytics.com",
}

// New makes a connector from its settings. It does not connect.
func New(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	cfg := DefaultConfig()
	faults := []error{settings.Decode(raw, &cfg)}
	switch {
	case cfg.MeasurementID == "" && cfg.FirebaseAppID == "":
		faults = append(faults, errors.New("measurement_id: is required, or firebase_app_id for an app"))
	case cfg.MeasurementID != "" && cfg.FirebaseAppID != "":
		faults = append(faults, errors.New("firebase_app_id: there is a measurement_id too, and a stream is of one kind"))
	}
	for _, s := range []struct{ name, id string }{{"measurement_id", cfg.MeasurementID}, {"firebase_app_id", cfg.FirebaseAppID}} {
		if !isStreamID(s.id) {
			faults = append(faults, errors.New(s.name+": may have letters, digits, hyphens and colons"))
		}
	}
	planner, err := measurement.New(measurement.Options{
		Mapping: cfg.Mapping, App: cfg.FirebaseAppID != "", EventIDParameter: cfg.EventIDParameter, Consent: cfg.Consent,
		Currency: cfg.Currency, Ecommerce: cfg.Ecommerce, UserData: cfg.UserData, Analytics360: cfg.Analytics360,
		WithoutIdentity: cfg.WithoutIdentity,
	})
	faults = append(faults, err)
	secret := url.QueryEscape(cfg.APISecret)
	api, err := httpcall.NewAPI(httpcall.APIConfig{ //nolint:gosec // names of settings are no credentials
		Base: cmp.Or(regions[cfg.Region], regions["global"]), Endpoint: cfg.Endpoint,
		Header:  http.Header{"Content-Type": {"application/json"}},
		Secrets: []string{cfg.APISecret, secret}, Credentials: "measurement_id, firebase_app_id, api_secret and endpoint",
		Dial: env.Dial,
	})
	faults = append(faults, err)
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	// The colons of a Firebase id stay as they are.
	stream := "measurement_id=" + cfg.MeasurementID
	if cfg.FirebaseAppID != "" {
		stream = "firebase_app_id=" + cfg.FirebaseAppID
	}
	return &Connector{
		Vendor: httpcall.Vendor{Name: Kind, Mapping: version, API: api, Allows: connector.Limits{MaxEvents: maxEvents}},
		cfg:    cfg, planner: planner, query: stream + "&api_secret=" + secret,
	}, nil
}

// isStreamID reports whether a text can stand in an address as it is.
func isStreamID(id string) bool {
	for i := range len(id) {
		c := id[i]
		if c != '-' && c != ':' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}
