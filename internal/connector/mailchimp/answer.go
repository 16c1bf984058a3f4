package mailchimp

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
)

// Waits. Mailchimp names none.
const (
	// waitConnections follows more than ten connections at once: those of others
	// end soon.
	waitConnections = 5 * time.Second
	// waitVolume follows a refusal at the edge, without a word: "at very high
	// volume". Source: Mailchimp Marketing API, Fundamentals (read 2026-11).
	waitVolume = 30 * time.Second
	// waitManyLists follows "has signed up to a lot of lists very recently".
	waitManyLists = 6 * time.Hour
)

// inCompliance is how Mailchimp says that a person cannot be subscribed.
const inCompliance = "compliance state"

// codeManyLists is the code of a person who is to be tried again much later.
const codeManyLists = "many_lists"

// problem is what Mailchimp says is wrong, as RFC 9457 has it. Source: Mailchimp
// Marketing API, Errors (read 2026-11).
type problem struct {
	Title  string       `json:"title"`
	Detail string       `json:"detail"`
	Errors []fieldError `json:"errors"`
}

type fieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// problemOf reads an answer; ok is false if it is none of Mailchimp's own.
func problemOf(x *httpcall.Exchange) (p problem, ok bool) {
	err := json.Unmarshal(x.Body, &p)
	if _, mistyped := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !mistyped {
		return problem{}, false
	}
	return p, p.Title != ""
}

// isMissing reports whether Mailchimp says that it does not find what the path
// names.
func isMissing(x *httpcall.Exchange) bool {
	_, ok := problemOf(x)
	return x.Status == http.StatusNotFound && ok
}

// judge returns what an answer means for a call about one member.
func (c *Connector) judge(x *httpcall.Exchange) connector.Result {
	p, ok := problemOf(x)
	switch {
	case x.Err != nil:
		return x.Outcome()
	case x.Status/100 == 2 && x.Foreign():
		return notMailchimp(x) // which has no page that says that all is well
	case x.Status/100 == 2:
		c.found()
		return x.Outcome()
	case x.Status == http.StatusUnauthorized:
		return x.Result(connector.Auth, p.code("unauthorized"), "Mailchimp does not accept the key"+p.quoted())
	case x.Status == http.StatusForbidden && ok:
		return x.Result(connector.Auth, p.code("forbidden"), "Mailchimp does not allow this to the owner of the key"+p.quoted())
	case x.Status == http.StatusForbidden:
		return x.After(x.Result(connector.Throttled, "volume", "Mailchimp answers 403 without a word, as it does at very high volume"), waitVolume)
	case x.Status == http.StatusTooManyRequests && ok:
		return x.After(x.Result(connector.Throttled, p.code("too_many_requests"), "more than 10 connections of the account at once, with those of other apps"+p.quoted()), waitConnections)
	case x.Status == http.StatusTooManyRequests:
		return x.After(x.Result(connector.Throttled, "volume", "Mailchimp answers 429 without a word, as it does at very high volume"), waitVolume)
	case x.Status == http.StatusServiceUnavailable && !ok:
		// Its edge blocks requests in this way too.
		return x.After(x.Outcome(), waitVolume)
	case x.Status == http.StatusNotFound && !ok:
		return notMailchimp(x)
	case ok && x.Class() == connector.Permanent:
		return p.result(x)
	}
	return x.Outcome()
}

func notMailchimp(x *httpcall.Exchange) connector.Result {
	return x.Result(connector.Auth, "not_mailchimp", "what answers at this address is not Mailchimp; check the setting endpoint")
}

// code is the title in one word.
func (p *problem) code(otherwise string) string {
	if word := mapping.Snake(p.Title, 50); word != "" {
		return word
	}
	return otherwise
}

// quoted returns Mailchimp's own words, to follow ours.
func (p *problem) quoted() string {
	var b strings.Builder
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	for _, e := range p.Errors {
		b.WriteString("; " + strings.TrimPrefix(e.Field+": "+e.Message, ": "))
	}
	return b.String()
}

// result returns what a refusal means. Sources of the titles: Mailchimp Marketing
// API, Errors, and github.com/ibericode/mailchimp-for-wordpress, issues 771 and
// 798 (read 2026-11).
func (p *problem) result(x *httpcall.Exchange) connector.Result {
	detail := strings.ToLower(p.Detail)
	switch {
	case strings.Contains(detail, "signed up to a lot of lists"):
		return x.After(x.Result(connector.Retryable, codeManyLists, "Mailchimp asks to wait before this person is added"+p.quoted()), waitManyLists)
	case p.Title == "Member In Compliance State" || strings.Contains(detail, inCompliance):
		return x.Result(connector.Permanent, "compliance_state", "the person has unsubscribed, their mail bounced, or Mailchimp looks into it: only they can come back, which the status pending asks them"+p.quoted())
	case p.Title == "Forgotten Email Not Subscribed" || strings.Contains(detail, "permanently deleted"):
		return x.Result(connector.Permanent, "forgotten_email", "the person was deleted for good and can only sign up by a form of Mailchimp"+p.quoted())
	}
	return x.Result(connector.Permanent, p.code("refused"), p.Title+p.quoted())
}
