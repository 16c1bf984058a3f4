package simulator

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Credentials that the simulated Google Analytics knows: a web stream and an app
// stream of one property.
const (
	ga4Measurement = "G-SIMULATED1"
	ga4Firebase    = "1:1234567890:android:51a1b2c3d4e5f60718293a"
	ga4Secret      = "simulated-ga4-secret" //nolint:gosec // a secret of nobody
)

// Limits that are not in the schema. Source: Google Analytics, Measurement
// Protocol, reference and sending events (read 2026-11).
const (
	ga4Request = 130_000 // "must be smaller than 130 kB"
	ga4Age     = 72 * time.Hour
)

// ga4 is the Measurement Protocol of Google Analytics 4. It says 204 to whatever
// it gets, and what it cannot use is gone: Dropped tells.
type ga4 struct{ shelf *shelf }

func newGA4(s *shelf) *ga4 { return &ga4{s} }

func (*ga4) settings(baseURL string) any {
	return struct {
		MeasurementID string `json:"measurement_id"`
		APISecret     string `json:"api_secret"`
		Endpoint      string `json:"endpoint"`
	}{ga4Measurement, ga4Secret, baseURL}
}

// denied is no different from anything else; see credentials.
func (g *ga4) denied(c *call) answer { return g.serve(c) }

// throttled is what Google's load balancer says: the protocol publishes no
// limit of requests.
func (*ga4) throttled(*call, time.Duration) answer { return edge(http.StatusTooManyRequests) }

func (*ga4) status(_ *call, code int) answer { return edge(code) }

func (g *ga4) serve(c *call) answer {
	switch {
	case c.is(http.MethodPost, "/mp/collect"):
		if reason := g.credentials(c); reason != "" {
			g.shelf.drop(reason, c.raw)
		} else {
			collect(c)
		}
		return bare(http.StatusNoContent)
	case c.is(http.MethodPost, "/debug/mp/collect"):
		return g.debug(c)
	}
	return edge(http.StatusNotFound)
}

// credentials returns what is wrong with those of a call, "" if nothing is.
func (*ga4) credentials(c *call) string {
	app := c.query("firebase_app_id")
	switch {
	case c.trouble.Denied, c.query("api_secret") != ga4Secret:
		return "api_secret is of no stream"
	case app != "" && strings.Contains(strings.ToLower(c.r.URL.RawQuery), "%3a"):
		return "firebase_app_id has colons that are escaped"
	case app != "" && app != ga4Firebase:
		return "firebase_app_id is of no stream"
	case app == "" && c.query("measurement_id") != ga4Measurement:
		return "measurement_id is of no stream"
	}
	return ""
}

// collected is one thing that is wrong with a request: the event it is about,
// or -1 for all.
type collected struct {
	event int
	flaw  *flaw
}

// measured reads a request and returns its body, decoded, and all that is wrong
// with it.
func measured(c *call) (doc any, wrong []collected) {
	whole := func(rule string, path ...string) {
		wrong = append(wrong, collected{-1, &flaw{path: path, rule: rule}})
	}
	body, err := c.body(ga4Request-1, false)
	if err == nil {
		doc, err = decode(body)
	}
	switch {
	case err == errTooLarge:
		whole("must be smaller than 130 kB")
		return nil, wrong
	case err != nil:
		whole("is not JSON")
		return nil, wrong
	}
	for _, f := range checkAll("ga4.mp-collect.request", doc) {
		event := -1
		if len(f.path) > 1 && f.path[0] == "events" {
			event, _ = strconv.Atoi(f.path[1])
		}
		wrong = append(wrong, collected{event, f})
	}
	if c.query("firebase_app_id") != "" && text(doc, "client_id") != "" {
		whole("is for web streams", "client_id")
	}
	if c.query("measurement_id") != "" && text(doc, "app_instance_id") != "" {
		whole("is for app streams", "app_instance_id")
	}
	events, _ := member(doc, "events").([]any)
	for i, event := range events {
		path := []string{"events", strconv.Itoa(i), "timestamp_micros"}
		micros, ok := number(member(event, "timestamp_micros"))
		if !ok {
			path = path[2:]
			micros, ok = number(member(doc, "timestamp_micros"))
		}
		if !ok {
			continue // now
		}
		switch at := time.UnixMicro(micros); {
		case at.After(c.now):
			wrong = append(wrong, collected{i, &flaw{path: path, rule: "is in the future", key: "minimum"}})
		case c.now.Sub(at) > ga4Age:
			wrong = append(wrong, collected{i, &flaw{path: path, rule: "is more than 72 hours ago", key: "minimum"}})
		}
	}
	return doc, wrong
}

// collect takes what can be used of a request and drops the rest.
func collect(c *call) {
	doc, wrong := measured(c)
	if i := slices.IndexFunc(wrong, func(w collected) bool { return w.event < 0 }); i >= 0 {
		c.shelf.drop(wrong[i].flaw.String(), c.raw)
		return
	}
	user := text(doc, "user_id")
	for _, name := range []string{"client_id", "app_instance_id"} {
		if user == "" {
			user = text(doc, name)
		}
	}
	events, _ := member(doc, "events").([]any)
	for n, event := range events {
		item := Item{
			ID: text(member(event, "params"), "event_id"), Kind: "event",
			Name: text(event, "name"), User: user, Body: raw(event),
		}
		i := slices.IndexFunc(wrong, func(w collected) bool { return w.event == n })
		switch {
		case i >= 0:
			c.shelf.drop(wrong[i].flaw.String(), item.Body)
		case c.refuses(item):
			c.shelf.drop("the simulator was told to refuse this event", item.Body)
		default:
			c.shelf.take(item)
		}
	}
}

// debug says what is wrong with a request, whose credentials it does not look
// at, and keeps nothing.
func (g *ga4) debug(c *call) answer {
	type message struct {
		FieldPath      string `json:"fieldPath,omitempty"`
		Description    string `json:"description"`
		ValidationCode string `json:"validationCode"`
	}
	messages := []message{}
	_, wrong := measured(c)
	for _, w := range wrong {
		m := message{Description: w.flaw.String(), ValidationCode: w.flaw.ga4Code()}
		var path []string // without the numbers of events
		for _, part := range w.flaw.path {
			if _, err := strconv.Atoi(part); err != nil {
				path = append(path, part)
			}
		}
		m.FieldPath = strings.Join(path, ".")
		if w.event >= 0 {
			m.Description = fmt.Sprintf("Event at index: [%d]: %s.", w.event, w.flaw)
		}
		messages = append(messages, m)
	}
	return asJSON(http.StatusOK, map[string]any{"validationMessages": messages})
}

// ga4Code is the validation code of a flaw.
func (f *flaw) ga4Code() string {
	name := f.ofName || len(f.path) == 3 && f.path[0] == "events" && f.path[2] == "name"
	switch {
	case f.key == "required", f.key == "dependentRequired":
		return "VALUE_REQUIRED"
	case name && f.key == "not":
		return "NAME_RESERVED"
	case name:
		return "NAME_INVALID"
	case f.key == "maxItems", f.key == "maxProperties":
		return "EXCEEDED_MAX_ENTITIES"
	case f.key == "minimum", f.key == "maxLength":
		return "VALUE_OUT_OF_BOUNDS"
	}
	return "VALUE_INVALID"
}
