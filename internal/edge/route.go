package edge

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/eventsluice/sluice/internal/event"
)

// route names a group of paths in metrics and logs.
type route uint8

const (
	routeUnknown route = iota
	routePreflight
	routeEvents
	routeSDK
	routeSettings
	routeSnippet
	routeDocs
	routeHealth
	routes
)

var routeNames = [routes]string{
	routeUnknown: "unknown", routePreflight: "preflight", routeEvents: "events", routeSDK: "sdk",
	routeSettings: "settings", routeSnippet: "snippet", routeDocs: "docs", routeHealth: "health",
}

func (r route) String() string { return routeNames[r] }

// sdkRoute is a path that an SDK sends events to.
type sdkRoute struct {
	methods  []string
	protocol protocolID
	// typ is the type of its events; "" where they say it themselves.
	typ string
	// succeed answers when everything is durable.
	succeed func(*exchange)
	// of names the setting that switches it, see Config.Protocols; "" if it is
	// always on.
	of string
	// query is whether all the fields of a query are an event, and not one of
	// them what would be the body.
	query bool
	// unlabelled is whether a body that is gzip and does not say so is expected.
	unlabelled bool
	// no429 is whether the SDK drops what is answered 429.
	no429 bool
}

// eventTypes are the calls of Segment's family, by the names and letters that
// stand in paths.
var eventTypes = map[string]string{
	"track": event.TypeTrack, "t": event.TypeTrack,
	"identify": event.TypeIdentify, "i": event.TypeIdentify,
	"page": event.TypePage, "p": event.TypePage,
	"screen": event.TypeScreen, "s": event.TypeScreen,
	"group": event.TypeGroup, "g": event.TypeGroup,
	"alias": event.TypeAlias, "a": event.TypeAlias,
}

// sdkRoutes are the routes of the SDKs by their paths.
var sdkRoutes = func() map[string]sdkRoute {
	routes := map[string]sdkRoute{}
	segment := func(path, typ, of string) {
		routes[path] = sdkRoute{methods: post, typ: typ, succeed: (*exchange).success, of: of}
	}
	for _, path := range []string{"/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch"} {
		segment(path, "", "")
	}
	for name, typ := range eventTypes {
		segment("/v1/"+name, typ, "")
		if len(name) > 1 {
			segment("/api/s/"+name, typ, Jitsu)     // from pages
			segment("/api/s/s2s/"+name, typ, Jitsu) // from servers
			routes["/v1/pixel/"+name] = sdkRoute{methods: get, typ: typ, succeed: (*exchange).pixel}
		}
	}
	addProtocols(routes)
	return routes
}()

func (e *Edge) routes() *chi.Mux {
	mux := chi.NewRouter()
	// A path and the same with a slash at its end are one: a redirect would
	// turn a POST into a GET, or be taken for success.
	both := func(method, path string, h http.HandlerFunc) {
		mux.MethodFunc(method, path, h)
		mux.MethodFunc(method, path+"/", h)
	}
	both(http.MethodPost, "/v1/events", on(routeEvents, (*exchange).events))
	for path, rt := range sdkRoutes {
		if !e.cfg.speaks(rt.of) {
			continue
		}
		for _, method := range rt.methods {
			both(method, path, on(routeSDK, func(x *exchange) { x.sdk(&rt) }))
		}
	}
	if e.cfg.speaks(PostHog) {
		both(http.MethodGet, "/array/{key}/config", on(routeSettings, (*exchange).posthogConfig))
		both(http.MethodGet, "/array/{key}/config.js", on(routeSettings, (*exchange).posthogScript))
		both(http.MethodPost, "/flags", on(routeSettings, (*exchange).posthogFlags))
		both(http.MethodPost, "/decide", on(routeSettings, (*exchange).posthogFlags))
	}
	both(http.MethodGet, "/v1/projects/{key}/settings", on(routeSettings, (*exchange).settings))
	both(http.MethodGet, "/sourceConfig", on(routeSettings, (*exchange).sourceConfig))
	for _, f := range files {
		h := on(f.route, func(x *exchange) { x.file(f) })
		both(http.MethodGet, f.path, h)
		both(http.MethodHead, f.path, h)
	}
	for path, h := range map[string]func(*exchange){"/livez": (*exchange).livez, "/readyz": (*exchange).readyz} {
		both(http.MethodGet, path, on(routeHealth, h))
		both(http.MethodHead, path, on(routeHealth, h))
	}
	mux.NotFound(on(routeUnknown, func(x *exchange) {
		x.corsAnyKey()
		x.fail(codeNotFound, "there is nothing at "+x.req.URL.Path+"; events go to POST /v1/events")
	}))
	mux.MethodNotAllowed(on(routeUnknown, func(x *exchange) {
		allowed := strings.Join(e.methods(x.req.URL.Path), ", ")
		x.Header().Set("Allow", allowed)
		x.corsAnyKey()
		x.fail(codeMethodNotAllowed, x.req.URL.Path+" takes "+allowed)
	}))
	return mux
}

// on adapts a method of exchange to chi. The response writer that routes see
// is the exchange itself, see ServeHTTP.
func on(rt route, h func(*exchange)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := w.(*exchange)
		x.route = rt
		if rt == routeEvents || rt == routeSDK {
			x.trace()
		}
		h(x)
	}
}

// methods returns the methods that a path takes; a path that is not there takes
// OPTIONS all the same.
func (e *Edge) methods(path string) []string {
	var methods []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		if e.mux.Match(chi.NewRouteContext(), m, path) {
			methods = append(methods, m)
		}
	}
	return append(methods, http.MethodOptions)
}

func (x *exchange) livez() { x.reply(http.StatusOK, jsonType, []byte(`{"status":"ok"}`)) }

// readyz says whether the gateway should get traffic, and if not, why.
func (x *exchange) readyz() {
	var reasons []string
	if x.keys == nil {
		reasons = append(reasons, "keys: no document was loaded yet")
	}
	if ready := x.edge.cfg.Ready; ready != nil {
		reasons = append(reasons, ready(x.req.Context())...)
	}
	if len(reasons) == 0 {
		x.reply(http.StatusOK, jsonType, []byte(`{"status":"ready","reasons":[]}`))
		return
	}
	out := append(x.out[:0], `{"status":"not ready","reasons":[`...)
	for i, reason := range reasons {
		if i > 0 {
			out = append(out, ',')
		}
		out = event.AppendString(out, reason)
	}
	x.out = append(out, "]}"...)
	x.reply(http.StatusServiceUnavailable, jsonType, x.out)
}
