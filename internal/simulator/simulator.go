package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// api is what one vendor does differently from the others. Its methods are safe
// for concurrent use.
type api interface {
	// settings returns the settings of a destination that leads here.
	settings(baseURL string) any
	// serve carries a call out.
	serve(c *call) answer
	// denied refuses the call's credentials, and throttled the call as one too
	// many; wait is what a vendor that says so asks for, zero its default.
	denied(c *call) answer
	throttled(c *call, wait time.Duration) answer
	// status is the answer with this status, as the vendor says it.
	status(c *call, code int) answer
}

var kinds = map[string]func(*shelf) api{
	"amplitude":  func(s *shelf) api { return newAmplitude(s) },
	"clickhouse": func(s *shelf) api { return newClickhouse(s) },
	"ga4":        func(s *shelf) api { return newGA4(s) },
	"gtm":        func(s *shelf) api { return newGTM(s) },
	"hubspot":    func(s *shelf) api { return newHubspot(s) },
	"mailchimp":  func(s *shelf) api { return newMailchimp(s) },
	"mixpanel":   func(s *shelf) api { return newMixpanel(s) },
	"slack":      func(s *shelf) api { return newSlack(s) },
	"webhook":    func(s *shelf) api { return newWebhook(s) },
}

// Kinds returns the names of the vendors, sorted.
func Kinds() []string {
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Vendor is one simulated vendor: an http.Handler that serves the vendor's API
// and, at "/", a page for people that shows what has arrived. Its methods are
// safe for concurrent use, also while it serves.
type Vendor struct {
	kind  string
	api   api
	shelf *shelf
	mood  atomic.Pointer[mood]
	open  atomic.Int64 // calls being served
}

// New returns a vendor that behaves well and has received nothing. The error
// says that there is none of this kind (see Kinds).
func New(kind string) (*Vendor, error) {
	make, ok := kinds[kind]
	if !ok {
		return nil, fmt.Errorf("no simulated vendor %q: there are %s", kind, strings.Join(Kinds(), ", "))
	}
	s := newShelf()
	v := &Vendor{kind: kind, api: make(s), shelf: s}
	v.Trouble(Trouble{})
	return v, nil
}

// Kind returns the vendor's name.
func (v *Vendor) Kind() string { return v.kind }

// Settings returns the settings of a destination of the same kind that leads to
// the vendor at baseURL, such as "http://127.0.0.1:9001", and has credentials
// that it accepts.
func (v *Vendor) Settings(baseURL string) json.RawMessage {
	settings, err := json.Marshal(v.api.settings(strings.TrimSuffix(baseURL, "/")))
	if err != nil {
		panic(err) // they are structs of strings
	}
	return settings
}

// Trouble says how the vendor misbehaves from now on. Shares of calls are
// counted from here.
func (v *Vendor) Trouble(t Trouble) {
	if t.Status < 200 || t.Status > 999 {
		t.Status = 0 // no answer can have it
	}
	v.mood.Store(&mood{Trouble: t})
}

// Define makes names the only ones that exist in the vendor's account, for a
// vendor that wants them to be defined. HubSpot: names of custom events, such as
// "pe123456_signed_up", and of properties of contacts; if there are none of these,
// all exist. For another vendor it does nothing. Before, every name of the right
// form exists.
func (v *Vendor) Define(names ...string) {
	if a, ok := v.api.(interface{ define(names []string) }); ok {
		a.define(names)
	}
}

// Unlimited lifts the limits of how much may be sent in a time, such as Slack's
// message a second: for tests that send in a moment what takes an hour. Sizes of
// calls, and calls at once, stay limited.
func (v *Vendor) Unlimited() { v.shelf.unlimited.Store(true) }

// Keep sets how many of the latest items Received returns, and Dropped of the
// latest drops. Default 100,000.
func (v *Vendor) Keep(n int) { v.shelf.keep(n) }

// Received returns what the vendor has taken, in order: the latest items, as
// far as Keep and 256 MiB of bodies allow.
func (v *Vendor) Received() []Item { return v.shelf.received() }

// Dropped returns what the vendor said yes to and then threw away without a
// word, in order, within the bounds of Received. Only some vendors do so.
func (v *Vendor) Dropped() []Drop { return v.shelf.dropped() }

// Counts returns how much the vendor has seen since New.
func (v *Vendor) Counts() Counts { return v.shelf.counts() }

// ServeHTTP serves the vendor's API. It panics with http.ErrAbortHandler where
// an answer is to be lost, which cuts the connection.
func (v *Vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && (r.URL.Path == "/" || r.URL.Path == "") {
		v.page(w, r)
		return
	}
	mood := v.mood.Load()
	c := &call{
		r: r, n: mood.calls.Add(1), trouble: mood.Trouble, shelf: v.shelf,
		open: v.open.Add(1), now: time.Now(),
	}
	defer v.open.Add(-1)
	v.shelf.count(func(n *Counts) { n.Calls++ })
	if err := c.read(w); err != nil {
		panic(http.ErrAbortHandler) // the client went away while it was sending
	}
	a := v.answer(c)
	a.write(w)
}

// answer decides what becomes of a call.
func (v *Vendor) answer(c *call) answer {
	t := &c.trouble
	if t.Hang {
		<-c.r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	if t.Delay > 0 {
		timer := time.NewTimer(t.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	switch {
	case t.Away:
		return v.api.status(c, http.StatusServiceUnavailable)
	case t.Status != 0:
		return v.api.status(c, t.Status)
	case t.Denied:
		return v.api.denied(c)
	case c.share(throttleShare) < t.Throttle:
		return c.tooMany(v.api, t.Wait)
	}
	a := v.api.serve(c)
	if c.share(loseShare) < t.Lose {
		v.shelf.count(func(n *Counts) { n.Lost++ })
		panic(http.ErrAbortHandler)
	}
	return a
}
