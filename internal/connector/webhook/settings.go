package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/settings"
)

// Config are the settings of a webhook destination, as they stand in the
// destinations file. Only URL is required.
type Config struct {
	// URL is where events are posted to: https, or http too if AllowHTTP or
	// AllowPrivate is set. It may hold a user name and password.
	URL string `json:"url" validate:"required" doc:"where events are posted to; may hold user:password@, sent as Basic authentication"`
	// Secret signs each call: whsec_ and base64 of 24 to 64 random bytes, or whsk_
	// and base64 of an ed25519 key. Empty: calls are not signed.
	Secret string `json:"secret" doc:"signs each call: whsec_ and base64 of 24 to 64 random bytes, or whsk_ and base64 of an ed25519 key"`
	// SecretPrevious signs too, while receivers move to a new Secret. It may be of
	// the other kind.
	SecretPrevious string `json:"secret_previous" doc:"signs too, while receivers move to a new secret; may be of the other kind"`
	// Headers are sent with each call. Their values count as secrets.
	Headers map[string]string `json:"headers" doc:"sent with each call; their values count as secrets"`
	// Timeout bounds one call, from the connection to the answer. Default 15s.
	Timeout settings.Duration `json:"timeout" validate:"min=100ms,max=5m" doc:"for one call, from the connection to the answer; 100ms to 5m"`
	// AllowPrivate lets the URL lead to private addresses. Default false.
	AllowPrivate bool `json:"allow_private" doc:"lets the URL lead to private addresses"`
	// AllowHTTP lets the URL be http, that is, readable on the way. Default false.
	AllowHTTP bool `json:"allow_http" doc:"lets the URL be http, that is, readable and changeable on the way"`
	// Body is what is posted: "event" (the stored event, byte for byte) or
	// "standard" ({"type","timestamp","data"}). Default "event".
	Body string `json:"body" validate:"oneof=event standard" doc:"event: the event as it is stored; standard: type, timestamp and data"`
	// RetryAmbiguous says that the receiver ignores a webhook-id it has seen,
	// as Standard Webhooks asks of it, so that a call whose answer was lost is
	// made again. Default true.
	RetryAmbiguous bool `json:"retry_ambiguous" doc:"the receiver ignores a webhook-id it has seen, so a call whose answer was lost may be made again"`
	// Privacy is applied before all else.
	Privacy mapping.Privacy `json:"privacy" doc:"what is removed from events or hashed first: drop, hash, salt, ip; see mapping"`
}

// DefaultConfig returns the settings that hold where none are given.
func DefaultConfig() Config {
	return Config{Timeout: settings.Duration(15 * time.Second), Body: bodyEvent, RetryAmbiguous: true}
}

// Values of Config.Body.
const (
	bodyEvent    = "event"
	bodyStandard = "standard"
)

// ownHeaders are not for Config.Headers: this package or net/http sets them,
// or they belong to the connection and not to the call.
var ownHeaders = []string{
	"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Host", "Content-Length",
	"Connection", "Transfer-Encoding", "Te", "Trailer", "Upgrade", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Expect",
}

// endpoint is a Config that has been checked.
type endpoint struct {
	privacy *mapping.Filter
	url     *url.URL
	keys    []key
	header  http.Header // its values are never changed
	secrets []string
}

func parseConfig(raw json.RawMessage) (Config, endpoint, error) {
	cfg := DefaultConfig()
	var e endpoint
	faults := []error{settings.Decode(raw, &cfg)}
	var err error
	if e.privacy, err = mapping.NewFilter(cfg.Privacy); err != nil {
		faults = append(faults, err)
	}
	if cfg.URL != "" {
		u, err := cfg.parseURL()
		if err != nil {
			faults = append(faults, err)
		} else {
			e.url = u
			e.secrets = append(e.secrets, httpcall.URLSecrets(u)...)
		}
	}
	for _, s := range []struct{ name, text string }{{"secret", cfg.Secret}, {"secret_previous", cfg.SecretPrevious}} {
		if s.text == "" {
			continue
		}
		key, raw, err := parseKey(s.text)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", s.name, err))
			continue
		}
		e.keys = append(e.keys, key)
		_, encoded, _ := strings.Cut(s.text, "_")
		e.secrets = append(e.secrets, s.text, encoded, string(raw))
	}
	if cfg.Secret == "" && cfg.SecretPrevious != "" {
		faults = append(faults, errors.New("secret_previous: is of no use without secret"))
	}
	e.header = make(http.Header, len(cfg.Headers)+5)
	e.header.Set("Content-Type", "application/json")
	e.header.Set("User-Agent", "Sluice-Webhook/"+version)
	given := make(map[string]bool, len(cfg.Headers))
	for _, name := range slices.Sorted(maps.Keys(cfg.Headers)) {
		value := cfg.Headers[name]
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !validHeaderName(name):
			faults = append(faults, fmt.Errorf("headers: %q is not the name of a header", name))
		case slices.Contains(ownHeaders, canonical):
			faults = append(faults, fmt.Errorf("headers: %s cannot be set", name))
		case given[canonical]:
			faults = append(faults, fmt.Errorf("headers: %s is given twice", canonical))
		case !validHeaderValue(value):
			faults = append(faults, fmt.Errorf("headers: the value of %s has characters that a header cannot have", name))
		}
		given[canonical] = true
		e.header.Set(canonical, value)
		if canonical != "Content-Type" && canonical != "User-Agent" {
			e.secrets = append(e.secrets, headerSecrets(value)...)
		}
	}
	if e.url != nil && e.url.User != nil {
		if e.header["Authorization"] == nil {
			password, _ := e.url.User.Password()
			e.header.Set("Authorization", basicAuth(e.url.User.Username(), password))
		}
		e.url.User = nil
	}
	return cfg, e, errors.Join(faults...)
}

// parseURL checks the address. Errors do not repeat it: it may hold secrets.
func (c *Config) parseURL() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return nil, errors.New("url: is not an address such as https://example.com/events")
	case u.Scheme == "http" && !c.AllowHTTP && !c.AllowPrivate:
		return nil, errors.New("url: must be https, unless allow_http or allow_private is set")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("url: must be https")
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && !c.AllowPrivate && httpcall.Private(addr) {
		return nil, errors.New("url: leads to a private address; set allow_private if that is meant")
	}
	u.Fragment = ""
	return u, nil
}

// headerSecrets returns a value and, of a value such as "Bearer TOKEN", the
// part that is the secret.
func headerSecrets(value string) []string {
	if _, token, ok := strings.Cut(value, " "); ok {
		return []string{value, token}
	}
	return []string{value}
}

// validHeaderName reports whether s is a token (RFC 9110 section 5.6.2).
func validHeaderName(s string) bool {
	for i := range len(s) {
		c := s[i]
		alphanumeric := c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !alphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// validHeaderValue reports whether s has no control characters but tabs (RFC
// 9110 section 5.5).
func validHeaderValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
