package simulator

import (
	"fmt"
	"net/http"
	"time"
)

// gtm is a tagging server of Google Tag Manager with two clients in its
// container: the one for the Measurement Protocol, which claims /mp/collect and
// looks at no credentials, and the Data Client, which claims /data. What the
// tags make of an event, the caller never learns.
type gtm struct{ shelf *shelf }

func newGTM(s *shelf) *gtm { return &gtm{s} }

func (*gtm) settings(baseURL string) any {
	return struct {
		URL string `json:"url"`
	}{baseURL}
}

// denied is what a proxy in front of the server says: the container has no
// credentials of its own.
func (*gtm) denied(*call) answer { return edge(http.StatusForbidden) }

func (*gtm) throttled(_ *call, wait time.Duration) answer {
	a := edge(http.StatusTooManyRequests)
	if wait > 0 {
		a = a.with("Retry-After", seconds(wait, 0))
	}
	return a
}

func (*gtm) status(_ *call, code int) answer { return edge(code) }

func (g *gtm) serve(c *call) answer {
	switch {
	case c.is(http.MethodPost, "/mp/collect"):
		if body, err := c.body(ga4Request, false); err != nil {
			return bare(http.StatusBadRequest)
		} else if _, err := decode(body); err != nil {
			return bare(http.StatusBadRequest)
		}
		collect(c)
		return bare(http.StatusNoContent)
	case c.is(http.MethodPost, "/data"):
		return g.data(c)
	case c.is(http.MethodGet, "/healthy"):
		return asText(http.StatusOK, "ok")
	}
	return bare(http.StatusBadRequest) // no client claims it
}

// data is the Data Client: any object is an event; parameters of the URL become
// members of it.
func (g *gtm) data(c *call) answer {
	body, err := c.body(maxRequest, false)
	if err != nil {
		return bare(http.StatusBadRequest)
	}
	doc, err := decode(body)
	event, ok := doc.(map[string]any)
	if err != nil || !ok {
		return bare(http.StatusBadRequest)
	}
	for name, values := range c.r.URL.Query() {
		event[name] = values[0]
	}
	first := func(names ...string) string {
		for _, name := range names {
			if s := text(event, name); s != "" {
				return s
			}
		}
		return ""
	}
	item := Item{
		ID: text(event, "event_id"), Kind: "event", Name: first("event_name", "eventName", "event", "name"),
		User: first("user_id", "client_id"), Body: raw(event),
	}
	if c.refuses(item) {
		g.shelf.drop("a tag failed", item.Body)
	} else {
		g.shelf.take(item)
	}
	reply := struct {
		ClientID string `json:"client_id"`
		EventID  string `json:"event_id"`
	}{text(event, "client_id"), item.ID}
	if reply.ClientID == "" {
		reply.ClientID = fmt.Sprintf("dcid.1.%d.%d", c.now.UnixMilli(), c.n)
	}
	if reply.EventID == "" {
		reply.EventID = fmt.Sprintf("%d_%d", c.now.UnixMilli(), c.n)
	}
	return asJSON(http.StatusOK, reply)
}
