package simulator

import (
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// slackPath is the address of the webhook, which is its secret.
const slackPath = "/services/T0SIMULATED/B0SIMULATED/simulated"

// Limits. Source: Slack, Incoming webhooks, Rate limits and Block Kit reference
// (read 2026-11).
const (
	slackText        = 40_000 // characters; the rest is cut
	slackBlocks      = 50
	slackSection     = 3000
	slackHeader      = 150
	slackAttachments = 100
	slackRequest     = 1 << 20 // ours
	// "1 per second", with short bursts: here ten in ten seconds.
	slackBurst  = 10
	slackWindow = 10 * time.Second
)

// slack is an incoming webhook of a Slack workspace. It answers in plain text.
type slack struct {
	shelf *shelf
	rate  quota
}

func newSlack(s *shelf) *slack {
	return &slack{shelf: s, rate: quota{limit: slackBurst, window: slackWindow}}
}

func (*slack) settings(baseURL string) any {
	return struct {
		URL string `json:"url"`
	}{baseURL + slackPath}
}

func slackSays(status int, message string) answer { return asText(status, message) }

func (*slack) denied(*call) answer { return slackSays(http.StatusForbidden, "invalid_token") }

func (*slack) throttled(_ *call, wait time.Duration) answer {
	return slackSays(http.StatusTooManyRequests, "rate_limited").with("Retry-After", seconds(wait, time.Second))
}

func (s *slack) status(c *call, code int) answer {
	switch code {
	case http.StatusOK:
		// The Web API's way of saying no.
		return asJSON(code, map[string]any{"ok": false, "error": "internal_error"})
	case http.StatusBadRequest:
		return slackSays(code, "invalid_payload")
	case http.StatusForbidden:
		return slackSays(code, "action_prohibited")
	case http.StatusNotFound:
		return slackSays(code, "no_service")
	case http.StatusGone:
		return slackSays(code, "channel_is_archived")
	case http.StatusTooManyRequests:
		return s.throttled(c, c.trouble.Wait)
	case http.StatusInternalServerError:
		return slackSays(code, "rollup_error")
	}
	return edge(code)
}

func (s *slack) serve(c *call) answer {
	switch {
	case c.r.URL.Path != slackPath:
		return slackSays(http.StatusNotFound, "no_service")
	case c.r.Method != http.MethodPost:
		return slackSays(http.StatusMethodNotAllowed, "method_not_allowed").with("Allow", http.MethodPost)
	}
	if _, reset, ok := s.rate.take(c, 1); !ok {
		return c.tooMany(s, reset)
	}
	refused := func(message string) answer {
		s.shelf.refuse(1)
		return slackSays(http.StatusBadRequest, message)
	}
	body, err := c.body(slackRequest, false)
	if err != nil {
		return refused("invalid_payload")
	}
	if c.mediaType() == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return refused("invalid_payload")
		}
		body = []byte(form.Get("payload"))
	}
	doc, err := decode(body)
	message, ok := doc.(map[string]any)
	if err != nil || !ok {
		return refused("invalid_payload")
	}
	words, isText := message["text"].(string)
	attachments, _ := message["attachments"].([]any)
	switch {
	case message["text"] != nil && !isText:
		return refused("invalid_payload")
	case message["blocks"] != nil && !slackBlocksValid(message["blocks"]):
		return refused("invalid_blocks")
	case len(attachments) > slackAttachments:
		return refused("too_many_attachments")
	case words == "" && message["blocks"] == nil && len(attachments) == 0:
		return refused("no_text")
	}
	if runes := []rune(words); len(runes) > slackText {
		words = string(runes[:slackText])
	}
	item := Item{Kind: "message", Name: words, Body: body}
	if c.refuses(item) {
		return refused("invalid_payload")
	}
	s.shelf.take(item)
	return slackSays(http.StatusOK, "ok")
}

// slackBlocksValid looks at the kinds and lengths of blocks.
func slackBlocksValid(value any) bool {
	blocks, ok := value.([]any)
	if !ok || len(blocks) == 0 || len(blocks) > slackBlocks {
		return false
	}
	for _, block := range blocks {
		words := text(member(block, "text"), "text")
		length := utf8.RuneCountInString(words)
		switch text(block, "type") {
		case "":
			return false
		case "section":
			if member(block, "text") != nil && (length == 0 || length > slackSection) || member(block, "text") == nil && member(block, "fields") == nil {
				return false
			}
		case "header":
			if strings.TrimSpace(words) == "" || length > slackHeader || text(member(block, "text"), "type") != "plain_text" {
				return false
			}
		}
	}
	return true
}
