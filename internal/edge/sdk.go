package edge

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"

	"github.com/eventsluice/sluice/internal/event"
)

// envelope is the body of an SDK's request: a batch of events, or one.
//
//	{"batch":[EVENT, …],"writeKey":"…","sentAt":"…","context":{…}}
//	EVENT, which may have writeKey and sentAt as well
type envelope struct {
	writeKey, batch, sentAt, context []byte
}

var success = []byte(`{"success":true}`)

// sdk answers the routes of the SDKs. typ is the type of the route's events;
// "" where they say it themselves.
//
// The answer is 200 and this one body when everything is durable: the good
// events on the stream and the bad ones in the quarantine. A 4xx for one bad
// event would make some SDKs drop its neighbours, and others send it for ever.
func (x *exchange) sdk(typ string) {
	if !x.enter() {
		return
	}
	limit := x.edge.cfg.MaxUnauthenticatedBody
	if x.presentHeaders(); x.key != nil {
		if limit = x.edge.cfg.MaxBody; !x.admit() || !x.withinRate() {
			return
		}
	}
	var env envelope
	if !x.readBody(limit) || !x.open(&env) || !x.admit() || !x.withinRate() || !x.readMapped(&env, typ) || !x.count() {
		return
	}
	_, failed, why := x.store()
	switch {
	case failed > 0:
		x.unavailable(why)
	case !x.keepRejects():
		x.unavailable(x.cause)
	default:
		x.reply(http.StatusOK, jsonType, success)
	}
}

// open finds the parts of the envelope, and the key in it. It answers if the
// body is not JSON.
func (x *exchange) open(env *envelope) bool {
	if !x.unwrapForm() {
		return false
	}
	body := bytes.TrimPrefix(x.body, []byte("\xef\xbb\xbf"))
	switch body = bytes.TrimLeft(body, " \t\r\n"); {
	case len(body) == 0:
		return x.fail(codeEmptyBody, "send an event, or a batch of events")
	case body[0] == '[':
		env.batch = body
		return true
	}
	err := event.Members(body, func(name string, value []byte) bool {
		switch name {
		case "writeKey":
			env.writeKey = value
		case "batch":
			env.batch = value
		case "sentAt":
			env.sentAt = value
		case "context":
			env.context = value
		}
		return true
	})
	if err != nil {
		return x.notJSON(err)
	}
	if env.batch == nil {
		env.batch = body // one event: readMapped sees the brace
		env.context = nil
	} else if env.batch[0] != '[' {
		return x.fail(codeInvalidJSON, "/batch: it must be an array of events")
	}
	if len(env.writeKey) > 0 && env.writeKey[0] == '"' {
		if key, err := event.Unquote(env.writeKey); err == nil {
			x.presentText(key)
		}
	}
	return true
}

// unwrapForm replaces the body by what its form field data holds, JSON or
// base64 of it, as pages without fetch send it.
func (x *exchange) unwrapForm() bool {
	field, ok := bytes.CutPrefix(x.body, []byte("data="))
	if !ok {
		return true
	}
	field, _, _ = bytes.Cut(field, []byte("&"))
	text, err := url.QueryUnescape(string(field))
	if err == nil && text != "" && text[0] != '{' && text[0] != '[' {
		text, err = fromBase64(text)
	}
	if err != nil {
		x.cause = err
		return x.fail(codeInvalidEncoding, "the form field data is neither JSON nor base64 of it")
	}
	x.body = append(x.body[:0], text...)
	return true
}

func fromBase64(s string) (string, error) {
	// A plus that was not escaped has become a space.
	b := bytes.ReplaceAll([]byte(s), []byte(" "), []byte("+"))
	b = bytes.TrimRight(b, "=")
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if out, err := enc.DecodeString(string(b)); err == nil {
			return string(out), nil
		}
	}
	return "", errors.New("not base64")
}

// readMapped takes the envelope apart into the batch and the rejects.
func (x *exchange) readMapped(env *envelope, typ string) bool {
	x.stamp()
	m := &x.mapping
	m.begin(env, typ, x.start, x.edge.cfg.Limits)
	if env.batch[0] != '[' {
		x.take(&x.event, m.event(env.batch, &x.event), env.batch)
		return true
	}
	tooMany := false
	err := event.Elements(env.batch, func(raw []byte) bool {
		if tooMany = len(x.slots) == x.edge.cfg.MaxEvents; tooMany {
			return false
		}
		x.take(&x.event, m.event(raw, &x.event), raw)
		return !x.starved
	})
	switch {
	case x.starved:
		return x.overloaded()
	case err != nil:
		return x.notJSON(err)
	case tooMany:
		return x.tooManyEvents()
	}
	return true
}
