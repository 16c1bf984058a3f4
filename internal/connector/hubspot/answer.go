package hubspot

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
)

// Waits, where HubSpot names none. It does so only while an account moves
// (status 477).
const (
	// waitDaily follows the end of the day's calls. The day ends at midnight where
	// the account is; the answer does not say when that is.
	waitDaily = time.Hour
	// waitShort is the longest window of the other limits. Source: HubSpot, API
	// usage guidelines (read 2026-11).
	waitShort = 10 * time.Second
	// waitLocked is how long a lock lasts. Source: HubSpot, Error handling (read
	// 2026-11).
	waitLocked    = 2 * time.Second
	waitMigrating = time.Hour
)

// statusMigrating is HubSpot's own.
const statusMigrating = 477

// answer is what HubSpot says. Every field of an error may be missing. Source:
// HubSpot, Error handling (read 2026-11).
type answer struct {
	problem
	Results []struct {
		TraceID string `json:"objectWriteTraceId"`
	} `json:"results"`
	Errors []problem `json:"errors"`
	// ErrorType and PolicyName are those of a 429.
	ErrorType  string `json:"errorType"`
	PolicyName string `json:"policyName"`

	readable bool // it is JSON
}

// problem is what is wrong with a call or an input.
type problem struct {
	Category    string         `json:"category"`
	SubCategory any            `json:"subCategory"`
	Message     string         `json:"message"`
	Context     map[string]any `json:"context"`
}

// read decodes a body. What has an unexpected type is left out.
func read(body []byte) answer {
	var a answer
	err := json.Unmarshal(body, &a)
	_, mistyped := errors.AsType[*json.UnmarshalTypeError](err)
	a.readable = err == nil || mistyped
	return a
}

// events returns the result of each event of a call. alone says that the call has
// one event.
func events(x *httpcall.Exchange, ids []string, alone bool) []connector.Result {
	if result, ok := whole(x, scopeEvents); ok {
		return connector.All(len(ids), result)
	}
	a := read(x.Body)
	if x.Status/100 == 2 && len(a.Errors) == 0 {
		return connector.All(len(ids), x.Outcome())
	}
	named, unnamed := a.blame(x, ids)
	rest := x.Result(connector.Delivered, "", "")
	if x.Status/100 != 2 || len(unnamed) > 0 {
		rest = a.rest(x, alone, true)
	}
	return a.results(x, ids, named, rest, true)
}

// contacts returns the result of each contact of a call.
func contacts(x *httpcall.Exchange, ids []string, alone bool) []connector.Result {
	if result, ok := whole(x, scopeContacts); ok {
		return connector.All(len(ids), result)
	}
	a := read(x.Body)
	named, unnamed := a.blame(x, ids)
	switch {
	case x.Status/100 != 2 || len(unnamed) > 0:
		return a.results(x, ids, named, a.rest(x, alone, false), false)
	case !a.readable && x.Status == http.StatusMultiStatus:
		// Some were refused, and who is not known. Writing a contact twice does no
		// harm.
		return connector.All(len(ids), apart(x, alone, x.Result(connector.Retryable, "answer_unreadable", "HubSpot refuses some of the contacts, and its answer cannot be read")))
	case !a.readable:
		return connector.All(len(ids), x.Outcome())
	}
	// A success that names neither a result nor an error of a contact wrote
	// nothing, and would again. Source: RudderStack's connector for HubSpot, which
	// calls it a silent failure (read 2026-11).
	silent := func() connector.Result {
		return apart(x, alone, x.Result(connector.Permanent, "silent_failure", "HubSpot answers with success and has written nothing"))
	}
	if len(a.Results) == 0 {
		return a.results(x, ids, named, silent(), false)
	}
	written := make(map[string]bool, len(a.Results))
	traced := true
	for _, result := range a.Results {
		written[strings.ToLower(result.TraceID)] = true
		traced = traced && result.TraceID != ""
	}
	results := a.results(x, ids, named, x.Result(connector.Delivered, "", ""), false)
	for i, id := range ids {
		if _, ok := named[id]; !ok && (traced && !written[id] || len(a.Results)+len(named) < len(ids) && !traced) {
			results[i] = silent()
		}
	}
	return results
}

// Scopes of the private app.
const (
	scopeEvents   = "analytics.behavioral_events.send"
	scopeContacts = "crm.objects.contacts.write"
)

// whole returns the result of an answer that is about the call as a whole; ok is
// false if it is about what the call holds.
func whole(x *httpcall.Exchange, scope string) (_ connector.Result, ok bool) {
	a := read(x.Body)
	switch {
	case x.Err != nil:
		return x.Outcome(), true
	case x.Status == http.StatusUnauthorized:
		return x.Result(connector.Auth, code(a.Category, "unauthorized"), "HubSpot does not accept the token"+quoted(a.Message)), true
	case x.Status == http.StatusForbidden:
		message := "HubSpot does not allow this to the app of the token, which needs the scope " + scope
		if scope == scopeEvents {
			message += ", in an account with an Enterprise subscription"
		}
		return x.Result(connector.Auth, code(a.Category, "forbidden"), message+quoted(a.Message)), true
	case x.Status == http.StatusLocked:
		return x.After(x.Result(connector.Retryable, "locked", a.Message), waitLocked), true
	case x.Status == statusMigrating:
		return x.After(x.Result(connector.Throttled, "migration", "the account is moving to another data centre"+quoted(a.Message)), waitMigrating), true
	case x.Status == http.StatusTooManyRequests:
		wait := waitShort
		if strings.Contains(strings.ToUpper(a.PolicyName), "DAILY") {
			wait = waitDaily
		}
		return x.After(x.Result(connector.Throttled, code(a.PolicyName, "rate_limit"), a.Message), wait), true
	case x.Status == http.StatusNotFound && (!a.readable || a.Category == "" && a.Message == ""), x.Status/100 == 2 && x.Foreign():
		// HubSpot says what it did not find, and has no page that says that all is
		// well; somebody else answers here.
		return notHubSpot(x), true
	case x.Status == http.StatusRequestURITooLong:
		return x.Result(connector.Permanent, "", ""), true
	case x.Status/100 == 2, x.Status == http.StatusBadRequest, x.Status == http.StatusNotFound, x.Status == http.StatusConflict, x.Status == http.StatusUnprocessableEntity:
		return connector.Result{}, false
	}
	return x.Outcome(), true
}

func notHubSpot(x *httpcall.Exchange) connector.Result {
	return x.Result(connector.Auth, "not_hubspot", "what answers at this address is not HubSpot; check the setting endpoint")
}

// quoted returns HubSpot's own words, to follow ours.
func quoted(message string) string {
	if message == "" {
		return ""
	}
	return ": " + message
}

// code returns one of HubSpot's words as the code of a result.
func code(word, otherwise string) string {
	if word == "" {
		return otherwise
	}
	return strings.ToLower(word)
}

// blame returns the problems of the inputs that the answer names, by id, and
// those that name none. All our ids are UUIDs, so that one in a message is no
// coincidence.
func (a *answer) blame(x *httpcall.Exchange, ids []string) (named map[string]problem, unnamed []problem) {
	named = make(map[string]problem)
	ours := make(map[string]bool, len(ids))
	for _, id := range ids {
		ours[id] = true
	}
	problems := a.Errors
	if len(problems) == 0 && x.Status/100 != 2 {
		problems = []problem{a.problem}
	}
	for _, p := range problems {
		var found []string
		look := func(text string) {
			for i := 0; i+36 <= len(text); i++ {
				if text[i+8] != '-' {
					continue
				}
				if id := strings.ToLower(text[i : i+36]); ours[id] {
					found = append(found, id)
				}
			}
		}
		for _, value := range p.Context {
			switch value := value.(type) {
			case string:
				look(value)
			case []any:
				for _, one := range value {
					if text, ok := one.(string); ok {
						look(text)
					}
				}
			}
		}
		if len(found) == 0 {
			// Words that repeat what was sent name those that are not to blame too.
			if look(p.Message); len(slices.Compact(found)) > 1 {
				found = nil
			}
		}
		for _, id := range found {
			named[id] = p
		}
		if len(found) == 0 {
			unnamed = append(unnamed, p)
		}
	}
	return named, unnamed
}

// results returns the result of each input: that of its problem, or rest.
func (a *answer) results(x *httpcall.Exchange, ids []string, named map[string]problem, rest connector.Result, isEvent bool) []connector.Result {
	results := connector.All(len(ids), rest)
	for i, id := range ids {
		if p, ok := named[id]; ok {
			results[i] = p.result(x, isEvent)
		}
	}
	return results
}

// rest returns the result of the inputs that a refused call does not name. If
// there is but one event, it is to blame.
func (a *answer) rest(x *httpcall.Exchange, alone, isEvent bool) connector.Result {
	p := a.problem
	if len(a.Errors) > 0 && (p.Message == "" || x.Status/100 == 2) {
		p = a.Errors[0]
	}
	own := p.result(x, isEvent)
	if own.Class == connector.Retryable {
		return own
	}
	return apart(x, alone, own)
}

// apart returns the result of an event that is alone; of several, of which
// nobody knows who is to blame, that they are to be sent in smaller calls. That
// counts as no attempt, and ends after as many calls as the number of events can
// be halved.
func apart(x *httpcall.Exchange, alone bool, own connector.Result) connector.Result {
	if alone {
		return own
	}
	return x.Result(connector.TooLarge, "refused_together", "HubSpot refuses the call because of some of its events, and this may be one"+quoted(own.Message))
}

// result returns what a problem means for an input.
func (p *problem) result(x *httpcall.Exchange, isEvent bool) connector.Result {
	switch {
	case isEvent && p.isDuplicate(x.Status):
		return x.Result(connector.Duplicate, "duplicate", p.Message)
	case p.isTransient(), !isEvent && p.isRace():
		return x.Result(connector.Retryable, code(p.Category, "error"), p.Message)
	}
	message := p.Message
	if strings.Contains(message, "PROPERTY_DOESNT_EXIST") || strings.Contains(message, "does not exist") {
		if isEvent {
			message += "; define it at HubSpot, or name the properties to send in the setting properties"
		} else {
			message += "; create the property, leave it out in mapping.traits, or set unknown_properties to drop"
		}
	}
	return x.Result(connector.Permanent, code(p.Category, "refused"), message)
}

// isDuplicate reports whether HubSpot has an event of this uuid. How it says so
// is not documented: this is what it can be taken from.
func (p *problem) isDuplicate(status int) bool {
	words := strings.ToLower(fmt.Sprint(p.Category, " ", p.SubCategory, " ", p.Message))
	has := func(word string) bool { return strings.Contains(words, word) }
	return has("uuid") && (status == http.StatusConflict || has("duplicate") || has("already") || has("unique")) ||
		status == http.StatusConflict && (has("duplicate") || has("already exists"))
}

// isRace reports whether somebody else was creating the contact at the same time:
// the next time it is there, and is changed. Source:
// github.com/segment-boneyard/segment-docs, pull request 6244 (read 2026-11).
func (p *problem) isRace() bool {
	return strings.Contains(strings.ToLower(p.Message), "contact already exists")
}

// isTransient reports whether an input failed for a reason of HubSpot's own.
func (p *problem) isTransient() bool {
	switch strings.ToUpper(p.Category) {
	case "RATE_LIMITS", "RATE_LIMIT", "INTERNAL_ERROR", "SERVER_ERROR", "TIMEOUT":
		return true
	}
	return false
}
