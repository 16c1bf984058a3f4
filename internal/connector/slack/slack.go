// Package slack posts events to a channel of Slack, one message each, through an
// incoming webhook. Settings, text, limits and outcomes are described in
// README.md.
package slack

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/settings"
)

// Kind is the connector's name in the destinations file.
const Kind = "slack"

// version changes when the text of a message does.
const version = "1"

const (
	// maxText: "the maximum length for the text" of a message is 40,000 characters,
	// the rest is cut. Source: Slack, chat.postMessage, "Truncating content" (read
	// 2026-11). It also says to stay below 4,000, which people can read.
	maxText = 4000
	// maxValue is what is shown of a property.
	maxValue = 300
)

// Config are the settings of a Slack destination.
type Config struct {
	URL     string           `json:"url" validate:"required" doc:"the incoming webhook: https://hooks.slack.com/services/…; all of it is secret"`
	Text    string           `json:"text" doc:"text of the message, a JSON pointer or a CEL expression; without it the name of the event, who it was, and its properties"`
	Mapping mapping.Settings `json:"mapping" doc:"changes names, identities and properties"`
}

// Connector posts to one channel.
type Connector struct {
	httpcall.Vendor
	mapper *mapping.Mapper
}

// Spec describes the connector.
func Spec() connector.Spec {
	return connector.Spec{
		Kind: Kind, Summary: "Slack: a message for each event, through an incoming webhook", Settings: Config{}, New: New,
		Dedup: "none", Order: "kept", Limits: "one message a second",
	}
}

// New makes a connector from its settings. It does not connect.
func New(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	var cfg Config
	faults := []error{settings.Decode(raw, &cfg)}
	defaults := mapping.Defaults{}
	if cfg.Text != "" {
		defaults.Extra = []mapping.Field{{Name: "text", Sources: []string{cfg.Text}}}
	}
	mapper, err := mapping.New(cfg.Mapping, defaults)
	faults = append(faults, err)
	var api *httpcall.API
	if cfg.URL != "" { // that it is required was said
		api, err = httpcall.NewAPI(httpcall.APIConfig{
			Base: cfg.URL, Address: "url", Credentials: "url",
			Secrets: []string{cfg.URL, cfg.URL[strings.LastIndexByte(cfg.URL, '/')+1:]}, // the token is at its end
			Header:  http.Header{"Content-Type": {"application/json"}}, Dial: env.Dial,
		})
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	// A channel is for people: one call at a time is more than they read.
	limits := connector.Limits{MaxEvents: 20, MaxConcurrency: 1}
	return &Connector{httpcall.Vendor{Name: Kind, Mapping: version, Allows: limits, API: api}, mapper}, nil
}

// Plan implements connector.Connector. The payload of a call is its body.
func (c *Connector) Plan(events []connector.Delivery) (plan connector.Plan) {
	var record mapping.Record
	for i := range events {
		if refused := c.mapper.Map(&events[i].Event, &record); refused != nil {
			plan.Done = append(plan.Done, connector.Done{Event: i, Result: *refused})
			continue
		}
		text := cut(words(&record))
		if strings.TrimSpace(text) == "" {
			refused := mapping.Refuse("no_text", "text", "a message needs some")
			plan.Done = append(plan.Done, connector.Done{Event: i, Result: *refused})
			continue
		}
		body := append(mapping.AppendText([]byte{'{'}, "text", text), '}')
		plan.Calls = append(plan.Calls, connector.Call{Events: []int{i}, Payload: body})
	}
	return plan
}

// escaper keeps what is in an event from mentioning people and making links.
// Source: Slack, Formatting text for app surfaces, "Escaping text" (read 2026-11).
var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// words returns the text of a message. What operators write themselves stays as
// it is, mentions and links included.
func words(r *mapping.Record) string {
	if len(r.Extra) > 0 {
		text, _ := mapping.Text(r.Extra[0].Value)
		return text
	}
	var b strings.Builder
	b.WriteString("*" + escaper.Replace(mapping.CutRunes(r.Name, maxValue)) + "*")
	for _, who := range []string{r.Email, r.UserID, r.AnonymousID} {
		if who != "" {
			b.WriteString(" · " + escaper.Replace(mapping.CutRunes(who, maxValue)))
			break
		}
	}
	for _, properties := range [][]mapping.Property{r.Properties, r.Traits} {
		for _, p := range properties {
			if b.Len() > maxText*utf8.UTFMax {
				return b.String() // the rest would be cut
			}
			text, _ := mapping.Text(p.Value)
			b.WriteString("\n" + escaper.Replace(mapping.CutRunes(p.Name, maxValue)+": "+mapping.CutRunes(text, maxValue)))
		}
	}
	return b.String()
}

// cut returns what a message holds of a text. It does not divide what escaper
// has written.
func cut(text string) string {
	short := mapping.CutRunes(text, maxText)
	if len(short) == len(text) {
		return text
	}
	if i := strings.LastIndexByte(short, '&'); i >= 0 && len(short)-i < len("&amp;") && !strings.Contains(short[i:], ";") {
		return short[:i]
	}
	return short
}

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	x := c.API.Do(ctx, httpcall.Request{Body: call.Payload.([]byte)})
	return connector.All(len(call.Events), outcome(x))
}

// outcome is the result of a message. Slack answers in words: 200 is only good
// with "ok", which a workflow says as JSON. Sources: Slack, Sending messages using
// incoming webhooks, "Handling errors", and Webhook triggers (read 2026-11).
func outcome(x *httpcall.Exchange) connector.Result {
	said := strings.TrimSpace(string(x.Body))
	var web struct {
		OK    *bool
		Error string
	}
	isWeb := json.Unmarshal(x.Body, &web) == nil && web.OK != nil
	if isWeb {
		said = web.Error
	}
	code := ""
	if isWord(said) {
		code = said
	}
	said = httpcall.Cut(said, maxValue)
	switch {
	case x.Err != nil || x.Status >= 500 || x.Status == http.StatusTooManyRequests:
		return x.Outcome()
	case x.Status == http.StatusOK && (said == "ok" || isWeb && *web.OK):
		return x.Outcome()
	case x.Status == http.StatusForbidden, x.Status == http.StatusNotFound, x.Status == http.StatusGone, isWeb && isGone[said]:
		return x.Result(connector.Auth, code, "Slack says "+said+": the webhook, or its channel, is not there any more")
	case x.Status == http.StatusOK && isWeb:
		class := connector.Permanent
		if isTransient[said] {
			class = connector.Retryable
		}
		return x.Result(class, code, "Slack says 200 and "+said)
	case x.Status == http.StatusOK && strings.HasPrefix(said, "<"):
		return x.Result(connector.Auth, "not_slack", "what answers is a page for people, and no webhook")
	case x.Status == http.StatusOK:
		return x.Result(connector.Ambiguous, code, "Slack says 200, and not ok but "+said)
	}
	return x.Result(x.Class(), code, "Slack says "+said)
}

// Errors that Slack's Web API says with 200: those that say that the webhook or
// its channel is not there, or not ours, and those that pass. Source: Slack,
// chat.postMessage, Errors (read 2026-11).
var (
	isGone = map[string]bool{
		"account_inactive": true, "action_prohibited": true, "channel_is_archived": true, "channel_not_found": true, "invalid_auth": true,
		"invalid_token": true, "is_archived": true, "no_service": true, "no_team": true, "not_authed": true, "not_in_channel": true,
		"team_not_found": true, "token_revoked": true,
	}
	isTransient = map[string]bool{
		"fatal_error": true, "internal_error": true, "ratelimited": true, "rate_limited": true, "request_timeout": true,
		"rollup_error": true, "service_unavailable": true,
	}
)

// isWord reports whether an answer is one of Slack's words for errors.
func isWord(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
