package edge

import (
	"net/http"
	"slices"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/edge/protocol/cloudevents"
	"github.com/eventsluice/sluice/internal/edge/protocol/mixpanel"
	"github.com/eventsluice/sluice/internal/edge/protocol/posthog"
	"github.com/eventsluice/sluice/internal/edge/protocol/segment"
	"github.com/eventsluice/sluice/internal/edge/protocol/snowplow"
	"github.com/eventsluice/sluice/internal/event"
)

// Protocols that can be switched, see Config.Protocols. PostHog's and
// Mixpanel's paths are common words, such as /track and /batch, so that they
// are there only for those who ask for them.
const (
	Jitsu    = "jitsu"
	Snowplow = "snowplow"
	PostHog  = "posthog"
	Mixpanel = "mixpanel"
)

var (
	// Protocols are all that can be switched.
	Protocols = []string{Jitsu, Snowplow, PostHog, Mixpanel}
	// DefaultProtocols are those that are on unless somebody says otherwise.
	DefaultProtocols = []string{Jitsu, Snowplow}
)

// speaks reports whether a protocol is on; "" always is.
func (c *Config) speaks(name string) bool { return name == "" || slices.Contains(c.Protocols, name) }

// protocolID is one of the protocols of package protocol.
type protocolID uint8

const (
	segmentProtocol protocolID = iota
	cloudEventsProtocol
	snowplowProtocol
	posthogProtocol
	mixpanelProtocol
	protocols
)

// newDecoder makes the decoder of each protocol.
var newDecoder = [protocols]func() protocol.Decoder{
	segmentProtocol:     func() protocol.Decoder { return new(segment.Decoder) },
	cloudEventsProtocol: func() protocol.Decoder { return new(cloudevents.Decoder) },
	snowplowProtocol:    func() protocol.Decoder { return new(snowplow.Decoder) },
	posthogProtocol:     func() protocol.Decoder { return new(posthog.Decoder) },
	mixpanelProtocol:    func() protocol.Decoder { return new(mixpanel.Decoder) },
}

var (
	get  = []string{http.MethodGet}
	post = []string{http.MethodPost}
)

// cloudEvents stands for the form of POST /v1/events that is CloudEvents, which
// has no path of its own.
var cloudEvents = sdkRoute{protocol: cloudEventsProtocol}

// addProtocols adds the routes of the protocols that are none of Segment's
// family.
func addProtocols(routes map[string]sdkRoute) {
	routes["/com.snowplowanalytics.snowplow/tp2"] = sdkRoute{
		methods: post, protocol: snowplowProtocol, of: Snowplow, succeed: (*exchange).ok,
	}
	routes["/i"] = sdkRoute{methods: get, protocol: snowplowProtocol, of: Snowplow, succeed: (*exchange).pixel, query: true}
	for _, path := range []string{"/e", "/i/v0/e", "/batch", "/capture"} {
		routes[path] = sdkRoute{
			methods: post, protocol: posthogProtocol, of: PostHog, succeed: (*exchange).statusOne,
			unlabelled: true,
			no429:      path == "/e" || path == "/i/v0/e", // where pages send to
		}
	}
	for _, path := range []string{"/track", "/engage", "/groups"} {
		routes[path] = sdkRoute{
			methods: []string{http.MethodGet, http.MethodPost}, protocol: mixpanelProtocol, of: Mixpanel,
			succeed: (*exchange).mixpanel,
		}
	}
}

// The answers of these routes to requests of which everything is durable.

var (
	plainType  = []string{"text/plain; charset=UTF-8"}
	scriptType = []string{"text/javascript; charset=utf-8"}
)

// ok answers what Snowplow's collector does. Source: Service.scala of
// snowplow/stream-collector, buildUsualHttpResponse.
func (x *exchange) ok() { x.reply(http.StatusOK, plainType, []byte("ok")) }

// statusOne answers what PostHog does. Its SDK for pages wants exactly 200.
func (x *exchange) statusOne() { x.reply(http.StatusOK, jsonType, []byte(`{"status":1}`)) }

// mixpanel answers what the sender has asked for. Its library for Node.js takes
// every body but 1 for an error, its libraries for Python and Ruby ask for JSON.
func (x *exchange) mixpanel() {
	switch x.decoder.(*mixpanel.Decoder).Wants() {
	case mixpanel.Image:
		x.pixel()
	case mixpanel.JSON:
		x.reply(http.StatusOK, jsonType, []byte(`{"status":1,"error":null}`))
	default:
		x.reply(http.StatusOK, plainType, []byte("1"))
	}
}

// PostHog's SDKs ask for a document before they send, and for feature flags,
// of which there are none here. They send without either, and later than with.

// posthogSettings turns on what the gateway can do, and off what it has not. It
// says nothing of surveys: told that there are none, the SDK loads their script.
const posthogSettings = `{"supportedCompression":["gzip","gzip-js"],"hasFeatureFlags":false,"sessionRecording":false,` +
	`"heatmaps":false,"capturePerformance":false,"captureDeadClicks":false,"autocaptureExceptions":false,` +
	`"errorTracking":{"autocaptureExceptions":false},"siteApps":[],"isAuthenticated":false,"toolbarParams":{}}`

// posthogConfig answers GET /array/{key}/config.
func (x *exchange) posthogConfig() {
	if _, ok := x.showSettingsOf("/array/", "/config"); ok {
		x.reply(http.StatusOK, jsonType, []byte(posthogSettings))
	}
}

// posthogScript answers GET /array/{key}/config.js, the same for a page that
// can load scripts: the SDK asks for it first.
func (x *exchange) posthogScript() {
	key, ok := x.showSettingsOf("/array/", "/config.js")
	if !ok {
		return
	}
	out := append(x.out[:0], `(function(){var c=window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{};c[`...)
	out = event.AppendString(out, key)
	x.out = append(out, `]={config:`+posthogSettings+`,siteApps:[]}})();`...)
	x.Header()["X-Content-Type-Options"] = noSniff
	x.reply(http.StatusOK, scriptType, x.out)
}

// posthogFlags answers POST /flags and /decide. The answer is the same for
// everyone, so that the question need not be read.
func (x *exchange) posthogFlags() {
	if !x.enter() {
		return
	}
	x.Header()["Cache-Control"] = noStore
	x.reply(http.StatusOK, jsonType, []byte(`{"flags":{},"featureFlags":{},"featureFlagPayloads":{},`+
		`"errorsWhileComputingFlags":false,`+posthogSettings[1:]))
}
