package mailchimp

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/settings"
)

// Settings are those of a Mailchimp destination, as they stand in the
// destinations file. APIKey and ListID are required.
type Settings struct {
	// APIKey ends in a dash and the data centre of the account, such as -us19.
	APIKey string `json:"api_key" validate:"required" doc:"API key, with the data centre at its end, such as -us19"`
	// ListID is the audience.
	ListID string `json:"list_id" validate:"required" doc:"id of the audience"`
	// StatusIfNew is the status of people who are not in the audience yet; that of
	// others is never changed. Default "transactional", which is not subscribed:
	// only the operator knows who agreed to get mail.
	StatusIfNew string `json:"status_if_new" validate:"oneof=subscribed unsubscribed cleaned pending transactional" doc:"status of people who are new in the audience; nobody else's is changed"`
	// Tags are given to everybody who is identified.
	Tags []string `json:"tags" doc:"tags of everybody who is identified"`
	// SkipMergeValidation accepts people without the merge fields that the audience
	// requires. Default true.
	SkipMergeValidation bool `json:"skip_merge_validation" doc:"people without the merge fields that the audience requires are accepted"`
	// IsSyncing keeps events and tags from starting automations: for replays.
	IsSyncing bool `json:"is_syncing" doc:"events and tags start no automations: for replays"`
	// UpsertBeforeEvent puts a person into the audience who is not in it when
	// there is an event of them. Default true.
	UpsertBeforeEvent bool `json:"upsert_before_event" doc:"an event of a person who is not in the audience puts them there first"`
	// WithoutIdentity is what becomes of events of nobody, that is, without an
	// address: "dead" or "drop". Default "dead".
	WithoutIdentity string `json:"without_identity" validate:"oneof=dead drop" doc:"events without an address: dead makes dead letters, drop leaves them out"`
	// Endpoint takes the place of https://{data centre}.api.mailchimp.com.
	Endpoint string           `json:"endpoint" doc:"address that takes the place of https://{data centre}.api.mailchimp.com"`
	Mapping  mapping.Settings `json:"mapping" doc:"names, identities and properties; traits gives merge fields their values, and tags and status_if_new those of a person"`
}

func defaults() Settings {
	return Settings{StatusIfNew: "transactional", SkipMergeValidation: true, UpsertBeforeEvent: true, WithoutIdentity: dead}
}

// Values of Settings.WithoutIdentity.
const (
	dead = "dead"
	drop = "drop"
)

// Names in mapping.traits that are no merge fields.
const (
	traitTags   = "tags"
	traitStatus = "status_if_new"
)

// Statuses of a person who gets mail, or a mail that asks whether they want it.
const (
	subscribed = "subscribed"
	pending    = "pending"
)

// statuses are those that a person can be given.
// Source: Mailchimp Marketing API, Add or update list member (read 2026-11).
var statuses = []string{subscribed, "unsubscribed", "cleaned", pending, "transactional"}

// Spec describes the connector.
func Spec() connector.Spec {
	return connector.Spec{
		Kind: Kind, Summary: "Mailchimp: people of an audience, their tags and events", Settings: defaults(),
		Dedup:  "none for events; writing a person twice does no harm",
		Order:  "kept for each user",
		Limits: "8 connections of the 10 that all apps of an account share; one event a call, 100 people a call",
		New:    New,
	}
}

// maxAnswer bounds what is read of an answer: one to 100 people repeats all that
// is known of each.
const maxAnswer = 4 << 20

// parse checks settings. The error names every fault and repeats no secret.
func parse(raw json.RawMessage) (cfg Settings, base string, err error) {
	cfg = defaults()
	faults := []error{settings.Decode(raw, &cfg)}
	_, centre := cut(cfg.APIKey)
	base = "https://" + centre + ".api.mailchimp.com"
	if cfg.APIKey != "" && cfg.Endpoint == "" && !isCentre(centre) {
		faults = append(faults, errors.New("api_key: has no data centre at its end, such as -us19"))
		base = "https://api.mailchimp.com"
	}
	for i, tag := range cfg.Tags {
		if strings.TrimSpace(tag) == "" {
			faults = append(faults, fmt.Errorf("tags: number %d is empty", i+1))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Mapping.Traits)) {
		if cfg.Mapping.Traits[name] != nil && name != traitTags && name != traitStatus && !isMergeTag(name) {
			faults = append(faults, fmt.Errorf("mapping.traits.%s: must be a merge tag of at most %d of A to Z, 0 to 9 and _, or %s or %s", name, maxMergeTag, traitTags, traitStatus))
		}
	}
	return cfg, base, errors.Join(faults...)
}

// cut cuts a key before its data centre, which follows the last dash.
func cut(key string) (secret, centre string) {
	if i := strings.LastIndexByte(key, '-'); i >= 0 {
		return key[:i], key[i+1:]
	}
	return key, ""
}

// isCentre reports whether a text is the name of a data centre, such as us19.
func isCentre(s string) bool {
	letters := strings.TrimRight(s, "0123456789")
	return letters != "" && len(letters) < len(s) && strings.Trim(letters, "abcdefghijklmnopqrstuvwxyz") == ""
}

// New makes a connector from its settings. It does not connect.
func New(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	cfg, base, err := parse(raw)
	faults := []error{err}
	mapper, err := mapping.New(cfg.Mapping, mapping.Defaults{Page: "Viewed %s", Screen: "Viewed %s"})
	faults = append(faults, err)
	secret, _ := cut(cfg.APIKey)
	// Any user name will do. Source: Mailchimp Marketing API, Fundamentals (read
	// 2026-11).
	basic := base64.StdEncoding.EncodeToString([]byte("sluice:" + cfg.APIKey))
	api, err := httpcall.NewAPI(httpcall.APIConfig{
		Base: base, Endpoint: cfg.Endpoint,
		Header:  http.Header{"Authorization": {"Basic " + basic}, "Content-Type": {"application/json"}, "Accept": {"application/json, application/problem+json"}},
		Secrets: []string{cfg.APIKey, secret, basic}, Credentials: "api_key",
		Timeout: timeout, MaxConns: maxConnections, MaxAnswer: maxAnswer, Dial: env.Dial,
	})
	faults = append(faults, err)
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	limits := connector.Limits{MaxEvents: maxEvents, MaxConcurrency: maxConnections, Timeout: timeout, Linger: linger}
	c := &Connector{Vendor: httpcall.Vendor{Name: Kind, Mapping: version, Allows: limits, API: api}, cfg: cfg, mapper: mapper, list: "/3.0/lists/" + url.PathEscape(cfg.ListID)}
	if cfg.SkipMergeValidation {
		c.query = url.Values{"skip_merge_validation": {"true"}}
	}
	_, c.sendsEmail = cfg.Mapping.Properties["email"]
	for i, d := range defaultFields {
		if _, given := cfg.Mapping.Traits[d.tag]; !given {
			c.fields = append(c.fields, defaultFields[i])
		}
	}
	return c, nil
}
