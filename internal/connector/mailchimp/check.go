package mailchimp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
)

// Check implements connector.Checker. It tries the key and looks for the
// audience.
func (c *Connector) Check(ctx context.Context) connector.Result {
	x := c.API.Do(ctx, httpcall.Request{Method: http.MethodGet, Path: "/3.0/ping"})
	if result := harmless(c.judge(x)); result.Class != connector.Delivered {
		return result
	}
	x = c.API.Do(ctx, httpcall.Request{Method: http.MethodGet, Path: c.list})
	if isMissing(x) {
		return noList(x)
	}
	if result := harmless(c.judge(x)); result.Class != connector.Delivered {
		return result
	}
	var list struct {
		Name        string `json:"name"`
		DoubleOptin bool   `json:"double_optin"`
		Stats       struct {
			Members int `json:"member_count"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(x.Body, &list); err != nil || list.Name == "" {
		return x.Result(connector.Retryable, "answer_unreadable", "what Mailchimp says of the audience cannot be read")
	}
	found := fmt.Sprintf("the audience is %q, of %d subscribers; people who are new in it become %s", list.Name, list.Stats.Members, c.cfg.StatusIfNew)
	if list.DoubleOptin && c.cfg.StatusIfNew == subscribed {
		found += ", though it asks people to confirm: set status_if_new to pending for that"
	}
	return x.Result(connector.Delivered, "", found)
}
