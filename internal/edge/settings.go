package edge

import (
	"net/http"
	"strings"

	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/event"
)

// SDKs for pages and apps ask for a document before they send anything, and
// some send nothing without it. The documents depend on the keys alone, so that
// they can be had while nothing can be stored.

// cacheSettings keeps a document for some minutes: a key that is revoked is
// refused in any case.
var cacheSettings = []string{"private, max-age=300"}

// settings answers GET /v1/projects/{key}/settings, for the SDKs of Segment.
//
// apiKey is what makes Analytics.js send to us, and not to Segment, with the
// key; apiHost is left out, since the one that the page has set must stay.
// httpConfig switches Swift from 1.9.4 and Kotlin from 1.24.1 on to retries
// that obey Retry-After and keep events at 408, 410, 429 and 460. A sample rate
// of 0 keeps the SDK from sending metrics of itself.
func (x *exchange) settings() {
	key, ok := x.showSettingsOf("/v1/projects/", "/settings")
	if !ok {
		return
	}
	out := append(x.out[:0], `{"integrations":{"Segment.io":{"apiKey":`...)
	out = event.AppendString(out, key)
	x.out = append(out, `,"httpConfig":{"rateLimitConfig":{"enabled":true},"backoffConfig":{"enabled":true}}}},`+
		`"plan":{},"edgeFunction":{},"middlewareSettings":{},"enabledMiddleware":{},"metrics":{"sampleRate":0},`+
		`"remotePlugins":[],"legacyVideoPluginsEnabled":false,"analyticsNextEnabled":true}`...)
	x.reply(http.StatusOK, jsonType, x.out)
}

// sourceConfig answers GET /sourceConfig, for the SDKs of RudderStack. They
// send nothing unless the source is enabled; a list of data planes, which is
// left out, would take the place of the address that the page has set, and
// statsCollection off keeps them from sending errors and metrics of themselves.
func (x *exchange) sourceConfig() {
	if x.enter() {
		x.presentHeaders()
	}
	if !x.showSettings() {
		return
	}
	out := append(x.out[:0], `{"source":{"id":`...)
	out = event.AppendString(out, x.key.ID)
	out = append(out, `,"name":`...)
	out = event.AppendString(out, x.key.Source)
	x.out = append(out, `,"enabled":true,"config":{"statsCollection":{"errors":{"enabled":false},"metrics":{"enabled":false}}},`+
		`"destinations":[]}}`...)
	x.reply(http.StatusOK, jsonType, x.out)
}

// showSettingsOf is showSettings for a document whose path has the key between
// start and end. It returns the key.
func (x *exchange) showSettingsOf(start, end string) (key string, ok bool) {
	key = strings.TrimSuffix(strings.TrimPrefix(x.req.URL.Path, start), "/")
	key = strings.TrimSuffix(key, end)
	if x.enter() {
		x.presentText(key)
	}
	return key, x.showSettings()
}

// showSettings reports whether the document may be shown, or answers why not.
// It has nothing secret in it: a page of another origin than the key's gets it
// without the header that would let it read it.
func (x *exchange) showSettings() bool {
	if x.status != 0 {
		return false
	}
	if x.key == nil || x.key.State(x.start) != source.Active {
		return x.refuseKey()
	}
	x.corsForKey(x.key)
	x.Header()["Cache-Control"] = cacheSettings
	return true
}
