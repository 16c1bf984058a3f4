package mailchimp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
)

// sendEvent sends an event. A person who is not in the audience is put there, if
// the settings want it.
func (c *Connector) sendEvent(ctx context.Context, h *happening) connector.Result {
	request := httpcall.Request{Path: h.member.path(c.list) + "/events", Body: h.body}
	x := c.API.Do(ctx, request)
	if !isMissing(x) {
		return c.judge(x)
	}
	if !c.cfg.UpsertBeforeEvent {
		return c.missing(ctx, x)
	}
	if result := c.put(ctx, &h.member, false); result.Class != connector.Delivered {
		return result
	}
	if x = c.API.Do(ctx, request); isMissing(x) {
		return x.Result(connector.Retryable, "no_member", "Mailchimp has taken the person and does not find them yet")
	}
	return c.judge(x)
}

// foundFor is how long an audience is believed to exist after it was found.
const foundFor = time.Minute

// missing tells what it is that Mailchimp has not found: the person or the
// audience.
func (c *Connector) missing(ctx context.Context, x *httpcall.Exchange) connector.Result {
	if time.Since(time.Unix(0, c.seen.Load())) > foundFor {
		list := c.API.Do(ctx, httpcall.Request{Method: http.MethodGet, Path: c.list})
		if isMissing(list) {
			return noList(list)
		}
		if result := c.judge(list); result.Class != connector.Delivered {
			return harmless(result)
		}
	}
	return x.Result(connector.Permanent, "no_member", "the person is not in the audience; identify them first, or set upsert_before_event")
}

// noList says that the audience does not exist.
func noList(x *httpcall.Exchange) connector.Result {
	return x.Result(connector.Auth, "no_list", "the account has no such audience; check the setting list_id")
}

// put writes a member, and its tags if that is wanted.
func (c *Connector) put(ctx context.Context, m *member, withTags bool) connector.Result {
	path := m.path(c.list)
	x := c.API.Do(ctx, httpcall.Request{Method: http.MethodPut, Path: path, Query: c.query, Body: m.put()})
	if isMissing(x) {
		return noList(x)
	}
	result := c.judge(x)
	if result.Class == connector.Delivered && withTags && len(m.tags) > 0 {
		result = c.judge(c.API.Do(ctx, httpcall.Request{Path: path + "/tags", Body: m.putTags(c.cfg.IsSyncing)}))
	}
	return harmless(result)
}

// harmless makes an outcome that is not known one that is tried again: a member
// that is written twice is the same as one that is written once, and so are its
// tags.
func harmless(r connector.Result) connector.Result {
	if r.Class == connector.Ambiguous {
		r.Class = connector.Retryable
		r.Message = httpcall.Cut(r.Message+"; writing a person again does no harm", httpcall.MaxMessage)
	}
	return r
}

// sendPeople writes members and returns a result for each. Many are first sent
// together: those who are new are added, and those who are not are named, so that
// each is written by itself. (Sent together, those who are not new would have to
// be given a status, and people who have left would be subscribed again.)
func (c *Connector) sendPeople(ctx context.Context, members []member) []connector.Result {
	results := make([]connector.Result, len(members))
	var left, grouped []int
	for i := range members {
		if c.mayGroup(&members[i]) {
			grouped = append(grouped, i)
		} else {
			left = append(left, i)
		}
	}
	if len(grouped) >= minMembers {
		x := c.API.Do(ctx, httpcall.Request{Path: c.list, Query: c.query, Body: together(members, grouped)})
		switch {
		case isMissing(x):
			return connector.All(len(members), noList(x))
		case x.Status/100 == 2 && !x.Foreign():
			c.found()
			grouped = added(x, members, grouped, results)
		case x.Status == http.StatusBadRequest, x.Status == http.StatusRequestEntityTooLarge, x.Status == http.StatusUnprocessableEntity:
			// One of them is to blame; alone it will be named.
		default:
			return connector.All(len(members), harmless(c.judge(x)))
		}
	}
	left = append(left, grouped...)
	slices.Sort(left)
	for n, i := range left {
		results[i] = c.put(ctx, &members[i], true)
		switch results[i].Class {
		case connector.Delivered, connector.Permanent, connector.TooLarge:
			continue
		case connector.Retryable:
			if results[i].Code == codeManyLists {
				continue // which is about this person
			}
		}
		// The others would fare the same. What was sent is not theirs.
		for _, other := range left[n+1:] {
			results[other] = results[i]
			results[other].Request = ""
		}
		break
	}
	return results
}

// mayGroup reports whether a member may be added together with others. Then a
// status goes with it that Mailchimp may give to people who were archived too:
// nobody is to be subscribed by that, or asked to subscribe. And its tags start
// automations.
func (c *Connector) mayGroup(m *member) bool {
	return m.status != subscribed && m.status != pending && (len(m.tags) == 0 || !c.cfg.IsSyncing)
}

// added reads the answer to many members. It sets the results of those that were
// added or refused and returns the others.
func added(x *httpcall.Exchange, members []member, grouped []int, results []connector.Result) (left []int) {
	var answer struct {
		New []struct {
			Email string `json:"email_address"`
		} `json:"new_members"`
		Updated []struct {
			Email string `json:"email_address"`
		} `json:"updated_members"`
		Errors []struct {
			Email   string `json:"email_address"`
			Error   string `json:"error"`
			Code    string `json:"error_code"`
			Field   string `json:"field"`
			Message string `json:"field_message"`
		} `json:"errors"`
	}
	err := json.Unmarshal(x.Body, &answer)
	if _, mistyped := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !mistyped {
		answer.New, answer.Updated, answer.Errors = nil, nil, nil
	}
	outcomes := make(map[string]connector.Result, len(members))
	for _, list := range [...][]struct {
		Email string `json:"email_address"`
	}{answer.New, answer.Updated} {
		for _, m := range list {
			outcomes[strings.ToLower(m.Email)] = x.Outcome()
		}
	}
	for _, e := range answer.Errors {
		if text := strings.ToLower(e.Error); e.Code == "ERROR_CONTACT_EXISTS" ||
			strings.Contains(text, "already a list member") || strings.Contains(text, inCompliance) {
			continue // they can be changed, if not subscribed
		}
		p := problem{Title: "Invalid Resource", Detail: e.Error}
		if e.Field != "" || e.Message != "" {
			p.Errors = append(p.Errors, fieldError{e.Field, e.Message})
		}
		outcomes[strings.ToLower(e.Email)] = p.result(x)
	}
	for _, i := range grouped {
		result, ok := outcomes[members[i].email]
		if !ok {
			left = append(left, i)
			continue
		}
		results[i] = result
	}
	return left
}

// found notes that the audience exists.
func (c *Connector) found() { c.seen.Store(time.Now().UnixNano()) }
