package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	bits "encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/uuid"
)

// The protocols that are none of Segment's family. What becomes of each field
// of an event is tested in internal/edge, with requests of these SDKs; here the
// events that they send are found again, with their ids, names and data.

// cloudEventsOf reads CloudEvents in their three modes.
func cloudEventsOf(t testing.TB, r passage) []wanted {
	t.Helper()
	contentType := r.header.Get("Content-Type")
	var events []json.RawMessage
	switch {
	case strings.HasPrefix(contentType, "application/cloudevents-batch"):
		unmarshal(t, string(r.body), &events)
	case strings.HasPrefix(contentType, "application/cloudevents"):
		events = []json.RawMessage{r.body}
	default:
		e := map[string]any{"data": json.RawMessage(r.body), "datacontenttype": contentType}
		for name, values := range r.header {
			if attribute, ok := strings.CutPrefix(strings.ToLower(name), "ce-"); ok {
				value, err := url.PathUnescape(values[0])
				if err != nil {
					t.Fatal(err)
				}
				e[attribute] = value
			}
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		events = []json.RawMessage{text}
	}
	var all []wanted
	for _, raw := range events {
		e := members(raw)
		w := wanted{
			id: namedID(e.text("source"), e.text("id")), kind: "track", name: e.text("type"), userID: e.text("userid"),
			timestamp: timeOf(t, e.text("time")), data: value(t, e["data"], map[string]any{}),
		}
		attributes := map[string]any{}
		for name, raw := range e {
			switch name {
			case "type", "time", "userid", "data":
			default:
				attributes[name] = value(t, raw, nil)
			}
		}
		w.context = map[string]any{"cloudevents": attributes}
		all = append(all, w)
	}
	return all
}

// namedID is the id of a CloudEvent: a UUIDv8 of its source and its id.
func namedID(source, id string) string {
	text := uuid.MustParse("c9a5f9f2-64a0-4d1b-8b0e-6d3f5d0c3f7e")
	b := bits.BigEndian.AppendUint64(text[:], uint64(len(source)))
	sum := sha256.Sum256(append(append(b, source...), id...))
	named := uuid.UUID(sum[:16])
	named[6], named[8] = named[6]&0x0f|0x80, named[8]&0x3f|0x80
	return named.String()
}

// snowplowEvents reads the self-describing events of Snowplow's trackers.
func snowplowEvents(t testing.TB, r passage) []wanted {
	t.Helper()
	var all []wanted
	var body struct{ Data []fields }
	unmarshal(t, string(r.body), &body)
	for _, e := range body.Data {
		packed, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(e.text("ue_px"), "="))
		if err != nil {
			t.Fatal(err)
		}
		if e.has("ue_pr") {
			packed = []byte(e.text("ue_pr"))
		}
		var outer struct {
			Data struct {
				Schema string
				Data   json.RawMessage
			}
		}
		unmarshal(t, string(packed), &outer)
		all = append(all, wanted{
			id: e.text("eid"), kind: "track", name: strings.Split(outer.Data.Schema, "/")[1], userID: e.text("uid"), anonymousID: e.text("duid"),
			timestamp: millis(t, e.text("dtm")), sentAt: millis(t, e.text("stm")), data: value(t, outer.Data.Data, nil), loose: true,
		})
	}
	return all
}

func millis(t testing.TB, text string) time.Time {
	t.Helper()
	if text == "" {
		return time.Time{}
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.UnixMilli(ms)
}

// posthogEvents reads what PostHog's SDKs send. Data of identify and group is
// taken from where they have it.
func posthogEvents(t testing.TB, r passage) []wanted {
	t.Helper()
	body := r.body
	if bytes.HasPrefix(body, []byte("\x1f\x8b")) { // compressed in the page
		zr, err := gzip.NewReader(bytes.NewReader(body))
		if err == nil {
			body, err = io.ReadAll(zr)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var events []json.RawMessage
	if envelope := members(body); envelope.has("batch") {
		unmarshal(t, string(envelope["batch"]), &events)
	} else if bytes.HasPrefix(body, []byte("[")) {
		unmarshal(t, string(body), &events)
	} else {
		events = []json.RawMessage{body}
	}
	var all []wanted
	for _, raw := range events {
		e := members(raw)
		w := wanted{id: e.text("uuid"), kind: "track", name: e.text("event"), loose: true}
		properties := members(e["properties"])
		switch w.name {
		case "$identify":
			w.kind, w.name = "identify", "identify"
		case "$groupidentify":
			w.kind, w.name = "group", "group"
		case "$create_alias":
			w.kind, w.name = "alias", "alias"
		}
		if w.id == "" {
			w.id = properties.text("$insert_id")
		}
		all = append(all, w)
	}
	return all
}

// joined replaces surrogate pairs of which each half is encoded by itself, as
// Mixpanel's SDK for pages does it: it decodes them as UTF-16.
func joined(text []byte) []byte {
	var units []uint16
	for i := 0; i < len(text); {
		if i+2 < len(text) && text[i] == 0xed && text[i+1] >= 0xa0 {
			units = append(units, 0xd000|uint16(text[i+1]&0x3f)<<6|uint16(text[i+2]&0x3f))
			i += 3
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		units = utf16.AppendRune(units, r)
		i += size
	}
	return []byte(string(utf16.Decode(units)))
}

// mixpanelEvents reads what Mixpanel's SDKs send.
func mixpanelEvents(t testing.TB, r passage) []wanted {
	t.Helper()
	text := r.query.Get("data")
	if r.method == http.MethodPost {
		form, err := url.ParseQuery(string(r.body))
		if err != nil {
			t.Fatal(err)
		}
		text = form.Get("data")
	}
	body := []byte(text)
	if body[0] != '{' && body[0] != '[' {
		var err error
		if body, err = base64.StdEncoding.DecodeString(text); err != nil {
			t.Fatal(err)
		}
	}
	body = joined(body)
	var events []json.RawMessage
	if body[0] == '[' {
		unmarshal(t, string(body), &events)
	} else {
		events = []json.RawMessage{body}
	}
	var all []wanted
	for _, raw := range events {
		e := members(raw)
		w := wanted{id: members(e["properties"]).text("$insert_id"), kind: "track", name: e.text("event"), loose: true}
		switch {
		case strings.HasPrefix(r.path, "/engage") || w.name == "$identify":
			w.kind, w.name = "identify", "identify"
		case strings.HasPrefix(r.path, "/groups"):
			w.kind, w.name = "group", "group"
		}
		all = append(all, w)
	}
	return all
}

func isASCII(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r > 126 }) }

// protocolSDKs are the SDKs of those protocols in Node.js.
func protocolSDKs() []unmodifiedSDK {
	track := func(c call) bool { return c.Call != "track" }
	return []unmodifiedSDK{
		{ // it does not encode what does not go into a header
			name: "cloudevents, binary", runner: node("cloudevents", `{"mode":"binary"}`),
			lacks: func(c call) bool { return track(c) || !isASCII(c.Event+c.UserID) },
		},
		{name: "cloudevents, structured", runner: node("cloudevents", `{"mode":"structured"}`), lacks: track},
		{name: "cloudevents, batched", runner: node("cloudevents", `{"mode":"batched"}`), lacks: track},
		{
			name: "snowplow node-tracker", runner: node("snowplow", ``), lacks: track,
			after: map[string]outcome{throttled.name: retries, unavailable.name: retries, reset.name: retries, refused.name: drops},
		},
		{
			name: "posthog-node", runner: node("posthog", ``), lacks: is("page", "screen"), silent: true,
			after: thorough,
		},
		{name: "mixpanel in Node", runner: node("mixpanel", ``), lacks: is("page", "screen", "alias"), after: careless},
	}
}

// protocolPages are the same in pages.
func protocolPages(p *pages, c *chromium) []unmodifiedSDK {
	page := func(adapter string) sdkPage { return sdkPage{p: p, c: c, adapter: adapter} }
	return []unmodifiedSDK{
		{
			name: "snowplow browser-tracker", inPage: true, runner: page("snowplow"), silent: true,
			lacks: func(c call) bool { return c.Call != "track" }, after: thorough,
		},
		{
			name: "posthog-js", inPage: true, runner: page("posthog"), silent: true,
			lacks: is("page", "screen", "group", "alias"),
		},
		{ // identify is an event as well, and where the visit began another
			name: "mixpanel-browser", more: 2, cut: 255, inPage: true, runner: page("mixpanel"), silent: true,
			lacks: is("page", "screen", "group", "alias"),
		},
	}
}
