package mailchimp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
)

// sendEvent sends an event. A person who is not in the audience is put there, if
// the settings want it.
func (c *Connector) sendEvent(ctx context.Context, h *happening) connector.Result {
	request := httpcall.Request{Path: c.list + "/members/" + h.member.hash + "/events", Body: h.body}
	x := c.api.Do(ctx, request)
	if !isMissing(x) {
		return c.judge(x)
	}
	if !c.cfg.UpsertBeforeEvent {
		return c.missing(ctx, x)
	}
	if result := c.put(ctx, &h.member, false); result.Class != connector.Delivered {
		return result
	}
	if x = c.api.Do(ctx, request); isMissing(x) {
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
		list := c.api.Do(ctx, httpcall.Request{Method: http.MethodGet, Path: c.list})
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
	result := x.Result(connector.Permanent, "no_list", "the account has no such audience; check the setting list_id")
	result.Class = connector.Auth // a Result of that class would name the key too
	return result
}

// put writes a member, and its tags if that is wanted.
func (c *Connector) put(ctx context.Context, m *member, withTags bool) connector.Result {
	path := c.list + "/members/" + m.hash
	x := c.api.Do(ctx, httpcall.Request{Method: http.MethodPut, Path: path, Query: c.query, Body: m.put()})
	if isMissing(x) {
		return noList(x)
	}
	result := c.judge(x)
	if result.Class == connector.Delivered && withTags && len(m.tags) > 0 {
		result = c.judge(c.api.Do(ctx, httpcall.Request{Path: path + "/tags", Body: m.putTags(c.cfg.IsSyncing)}))
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
	left := make([]int, len(members))
	for i := range members {
		left[i] = i
	}
	if len(members) >= minMembers {
		x := c.api.Do(ctx, httpcall.Request{Path: c.list, Query: c.query, Body: together(members)})
		switch {
		case isMissing(x):
			return connector.All(len(members), noList(x))
		case x.Status/100 == 2:
			c.found()
			left = added(x, members, results)
		case x.Status == http.StatusBadRequest, x.Status == http.StatusRequestEntityTooLarge, x.Status == http.StatusUnprocessableEntity:
			// One of them is to blame; alone it will be named.
		default:
			return connector.All(len(members), harmless(c.judge(x)))
		}
	}
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
		// The others would fare the same.
		for _, other := range left[n+1:] {
			results[other] = results[i]
		}
		break
	}
	return results
}

// added reads the answer to many members. It sets the results of those that were
// added or refused and returns the others.
func added(x *httpcall.Exchange, members []member, results []connector.Result) (left []int) {
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
		if e.Code == "ERROR_CONTACT_EXISTS" {
			continue
		}
		p := problem{Title: "Invalid Resource", Detail: e.Error}
		if e.Field != "" || e.Message != "" {
			p.Errors = append(p.Errors, fieldError{e.Field, e.Message})
		}
		outcomes[strings.ToLower(e.Email)] = p.result(x)
	}
	for i := range members {
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
