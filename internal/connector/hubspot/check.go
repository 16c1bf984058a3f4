package hubspot

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
)

// Check implements connector.Checker. It asks whose account the token is of, and
// compares that with the names of events.
func (c *Connector) Check(ctx context.Context) connector.Result {
	x := c.API.Do(ctx, httpcall.Request{Method: http.MethodGet, Path: pathAccount})
	if result, ok := whole(x, "oauth"); ok {
		return result
	}
	var account struct {
		PortalID json.Number `json:"portalId"`
		Type     string      `json:"accountType"`
		Region   string      `json:"dataHostingLocation"`
	}
	if err := json.Unmarshal(x.Body, &account); x.Status != http.StatusOK || err != nil || account.PortalID == "" {
		return notHubSpot(x)
	}
	prefix := "pe" + account.PortalID.String() + "_"
	for _, name := range slices.Sorted(maps.Keys(c.cfg.Mapping.Events)) {
		if target := c.cfg.Mapping.Events[name]; target != nil && !strings.HasPrefix(*target, prefix) {
			return x.Result(connector.Auth, "other_account", fmt.Sprintf("the token is of account %s, but mapping.events gives %s the name of an event of another account: %s", account.PortalID, strconv.Quote(name), *target))
		}
	}
	found := fmt.Sprintf("the token is of account %s (%s, %s)", account.PortalID, account.Type, account.Region)
	if c.cfg.UnknownProperties == drop {
		known, trouble := c.known.get(ctx)
		if trouble != nil {
			return *trouble
		}
		found += fmt.Sprintf("; contacts have %d properties that can be written", len(known))
	}
	if len(c.cfg.Mapping.Events) == 0 {
		found += "; mapping.events is empty: no event is sent"
	}
	return x.Result(connector.Delivered, "", found+"; whether the scopes are enough is seen when something is sent")
}

// freshFor is how long the list of properties is used before it is asked for
// again.
const freshFor = 10 * time.Minute

// propertyList is the list of properties of contacts that can be written, kept
// for a while. It is safe for concurrent use.
type propertyList struct {
	api  *httpcall.API
	lock chan struct{} // held by who reads and changes what follows
	// names is never changed, only replaced.
	names map[string]bool
	until time.Time
}

func newPropertyList(api *httpcall.API) *propertyList {
	return &propertyList{api: api, lock: make(chan struct{}, 1)}
}

// get returns the names of the properties, or why they are not known. Nothing of
// an event was sent then.
func (l *propertyList) get(ctx context.Context) (map[string]bool, *connector.Result) {
	select {
	case l.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, &connector.Result{Class: connector.Retryable, Code: "timeout", Message: "the list of properties of contacts did not come in time"}
	}
	defer func() { <-l.lock }()
	if time.Now().Before(l.until) {
		return l.names, nil
	}
	x := l.api.Do(ctx, httpcall.Request{Method: http.MethodGet, Path: pathProperties})
	result, ok := whole(x, "crm.schemas.contacts.read")
	var list struct {
		Results []struct {
			Name     string `json:"name"`
			Metadata struct {
				ReadOnly bool `json:"readOnlyValue"`
			} `json:"modificationMetadata"`
		} `json:"results"`
	}
	switch {
	case ok:
	case x.Status/100 != 2:
		result = x.Outcome()
	case json.Unmarshal(x.Body, &list) != nil || len(list.Results) == 0:
		result = x.Result(connector.Retryable, "answer_unreadable", "the list of properties of contacts cannot be read")
	default:
		l.names = make(map[string]bool, len(list.Results))
		for _, p := range list.Results {
			if !p.Metadata.ReadOnly {
				l.names[p.Name] = true
			}
		}
		l.until = time.Now().Add(freshFor)
		return l.names, nil
	}
	if result.Class == connector.Ambiguous || result.Class == connector.Permanent || result.Class == connector.TooLarge {
		result.Class = connector.Retryable // it is not about the contact
	}
	return nil, &result
}
