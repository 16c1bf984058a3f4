package edge

import (
	"net/http"
	"strings"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/event"
)

// sdk answers a route of the SDKs.
//
// The answer is 200 and one body when everything is durable: the good events on
// the stream and the bad ones in the quarantine. A 4xx for one bad event would
// make some SDKs drop its neighbours, and others send it for ever.
func (x *exchange) sdk(rt *sdkRoute) {
	if x.sdkRoute = rt; x.req.Method == http.MethodGet {
		x.Header()["Cache-Control"] = noStore // nor is what went wrong kept
		if x.origin == "" {
			x.origin = originOf(x.req.Header["Referer"])
		}
	}
	if !x.enter() {
		return
	}
	limit := x.edge.cfg.MaxUnauthenticatedBody
	if x.presentHeaders(); x.key != nil {
		if limit = x.edge.cfg.MaxBody; !x.admit() || !x.withinRate() {
			return
		}
	}
	if !x.readRequest(rt, limit) || !x.keepSent() || !x.open(rt) || !x.admit() || !x.withinRate() || !x.signed() || !x.readEvents() || !x.count() {
		return
	}
	_, failed, why := x.store()
	switch {
	case failed > 0:
		x.unavailable(why)
	case !x.keepRejects():
		x.unavailable(x.cause)
	default:
		rt.succeed(x)
	}
}

// originOf returns the origin of a Referer, "" if there is none. It stands in
// for Origin, which browsers do not send when they ask for an image.
func originOf(referer []string) string {
	if len(referer) == 0 {
		return ""
	}
	scheme, rest, ok := strings.Cut(referer[0], "://")
	if !ok {
		return ""
	}
	host, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + host
}

// readRequest reads what the route takes its events from: the body, or the
// query, which an image cannot do without: the field data, as the form that it
// is, or all of it.
func (x *exchange) readRequest(rt *sdkRoute, limit int64) bool {
	if x.req.Method != http.MethodGet {
		return x.readBody(limit) && (!rt.unlabelled || x.gunzipUnlabelled(limit))
	}
	if !x.reserve(perRequest) {
		return x.overloaded()
	}
	for query := x.req.URL.RawQuery; query != ""; {
		pair := query
		if !rt.query {
			pair, query, _ = strings.Cut(query, "&")
		}
		if rt.query || strings.HasPrefix(pair, "data=") {
			x.body = append(x.body[:0], pair...)
			break
		}
	}
	return true
}

// open hands the request to the decoder of its route, which finds the keys in
// it. It answers if the body cannot be read as a whole.
func (x *exchange) open(rt *sdkRoute) bool {
	x.decoder = x.decoderOf(rt.protocol)
	x.request = protocol.Request{
		Method: x.req.Method, Path: strings.TrimSuffix(x.req.URL.Path, "/"), Query: x.req.URL.RawQuery,
		Header: x.req.Header, Body: x.body, Type: rt.typ, Received: x.start, Limits: x.edge.cfg.Limits,
	}
	if err := x.decoder.Open(&x.request, x.onKey); err != nil {
		return x.unreadable(err)
	}
	return true
}

// decoderOf returns the exchange's decoder of a protocol.
func (x *exchange) decoderOf(p protocolID) protocol.Decoder {
	if x.decoders[p] == nil {
		x.decoders[p] = newDecoder[p]()
	}
	return x.decoders[p]
}

// readEvents takes the request apart into the batch and the rejects.
func (x *exchange) readEvents() bool {
	x.stamp()
	err := x.decoder.Events(x.onEvent)
	switch {
	case x.starved:
		return x.overloaded()
	case err != nil:
		return x.unreadable(err)
	case x.tooMany:
		return x.tooManyEvents()
	}
	return true
}

// takeNext takes the next event of the decoder, and reports whether there is
// room for another.
func (x *exchange) takeNext(ev *event.Event, invalid *event.Invalid, raw []byte) bool {
	if x.tooMany = len(x.slots) == x.edge.cfg.MaxEvents; x.tooMany {
		return false
	}
	x.take(ev, invalid, raw)
	return !x.starved
}

// unreadable answers that the body as a whole cannot be read.
func (x *exchange) unreadable(err error) bool {
	invalid := protocol.AsInvalid(err)
	detail := invalid.Detail
	if invalid.Pointer != "" {
		detail = invalid.Pointer + ": " + detail
	}
	switch invalid.Code {
	case protocol.CodeEmpty:
		return x.fail(codeEmptyBody, detail)
	case protocol.CodeConflict:
		return x.fail(codeConflictingKeys, detail)
	case protocol.CodeEncoding:
		return x.fail(codeInvalidEncoding, detail)
	}
	return x.fail(codeInvalidJSON, detail+"; nothing of this request is stored")
}

// The answers of the SDK routes to requests of which everything is durable.

// success answers what Segment does. Several SDKs want exactly 200, and a JSON
// object.
func (x *exchange) success() { x.reply(http.StatusOK, jsonType, successJSON) }

var successJSON = []byte(`{"success":true}`)

// pixel answers with an image of one transparent point, which a page or a mail
// has asked for and nobody sees.
func (x *exchange) pixel() {
	x.reply(http.StatusOK, gifType, transparentGIF)
}

var (
	gifType = []string{"image/gif"}
	noStore = []string{"no-store"}
	// transparentGIF is the smallest that every browser shows: GIF 89a, one
	// point, two colours of which the first is transparent.
	transparentGIF = []byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00" +
		"!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;")
)
