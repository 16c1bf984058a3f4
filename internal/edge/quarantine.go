package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/edge/protocol/cloudevents"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/schema"
	"github.com/eventsluice/sluice/internal/stream"
)

// QuarantineName is the destination of letters in the quarantine.
const QuarantineName = "quarantine"

// CodeStreamLimit is the code of letters whose event was accepted, and which
// the stream behind a spool turned out not to take: its id counts as stored.
const CodeStreamLimit = "stream_limit"

// keptOfLarge is how much is kept of an event that is too large.
const keptOfLarge = 64 << 10

// keepRejects writes the rejected events of the request to the quarantine, and
// reports whether they are there.
func (x *exchange) keepRejects() bool {
	return x.keep(x.rejects)
}

func (x *exchange) keep(rejects []reject) bool {
	letters := make([]deadletter.Letter, 0, len(rejects)) // of none, no memory
	for i := range rejects {
		if r := &rejects[i]; !r.again {
			letters = append(letters, x.letter(r))
		}
	}
	if len(letters) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), x.edge.cfg.StoreTimeout)
	defer cancel()
	err := x.edge.quarantine.Put(ctx, letters)
	if err == nil {
		return true
	}
	x.edge.stats.quarantineFailed.Add(uint64(len(letters)))
	x.edge.log.LogAttrs(ctx, slog.LevelError, "rejected events could not be quarantined",
		slog.String("key", x.key.ID), slog.Int("events", len(letters)), slog.Any("error", err))
	x.cause = err
	return false
}

// letter is what the quarantine keeps of a rejected event. Its memory is its
// own, since the queue may outlive the request.
func (x *exchange) letter(r *reject) deadletter.Letter {
	l := deadletter.Letter{
		ID: event.NewID(), Destination: QuarantineName, EventID: r.id, EventName: r.name, Source: x.key.Source,
		Attempts: 1, FirstSeen: x.start.UTC(), LastTry: x.start.UTC(),
		Class: r.reason.String(), Code: r.code, Message: strings.TrimPrefix(r.pointer+": "+r.detail, ": "),
		Request: x.req.Method + " " + x.req.URL.Path, // the form of the event follows from it
	}
	if r.broken != nil {
		l.Message, l.Event, l.Kept = r.message, r.raw, r.broken.Mode == schema.Quarantine
		return l
	}
	if x.route == routeEvents && x.decoder != nil {
		l.Request += " " + cloudevents.MediaType
	}
	if r.stored {
		l.Request = ""
		if ev, err := event.ParseStored(r.raw); err == nil {
			l.EventID, l.EventName = strings.Clone(ev.ID), strings.Clone(ev.Name)
		}
	}
	if x.key.Mode(source.RestrictToken) != source.Off {
		l.User = strings.Clone(x.user)
	}
	raw := r.raw
	if r.reason == ledger.TooLarge && !r.stored {
		raw = raw[:min(len(raw), keptOfLarge)]
	}
	if raw = bytes.Clone(raw); json.Valid(raw) {
		l.Event = raw
	} else {
		l.Raw = raw
	}
	return l
}

// Readmit validates quarantined events again, by the limits, keys and schemas of
// now, and puts the good ones on the stream. It returns one error per letter: nil
// means that its event is durable there, a fault.Invalid, TooLarge or
// Forbidden that it is refused still, anything else that it may be tried again.
//
// An event without an id of its own gets that of its letter, so that a letter
// that is readmitted twice makes one event. Where duplicates are kept from the
// stream, one that is stored already is as good as readmitted. An event that was
// forbidden needs a key of its source that allows it now; another one needs no
// key. An event that came with a token is still its user's. The ledger counts a
// readmitted event as received once more.
func (e *Edge) Readmit(ctx context.Context, letters []deadletter.Letter) []error {
	results := make([]error, len(letters))
	var batch stream.Batch
	var owner []int // of each event of the batch
	for i := range letters {
		ev, err := e.revalidate(&letters[i])
		if err != nil {
			results[i] = err
			continue
		}
		if item := batch.Add(&ev); letters[i].Code != CodeStreamLimit {
			// It was never stored, unless its sender has sent it again, or the
			// letter was readmitted before: then once is enough.
			batch.MarkOwnID(item)
		}
		owner = append(owner, i)
	}
	if len(owner) == 0 {
		return results
	}
	e.intake.Received(len(owner))
	err := e.stream.Put(ctx, &batch)
	if err == nil {
		return results
	}
	blamed := false
	for item, i := range owner {
		results[i] = batch.Err(item)
		blamed = blamed || results[i] != nil
	}
	if !blamed {
		for _, i := range owner {
			results[i] = err
		}
	}
	return results
}

func (e *Edge) revalidate(l *deadletter.Letter) (event.Event, error) {
	raw := []byte(l.Event)
	if len(raw) == 0 {
		raw = l.Raw
	}
	var ev event.Event
	var invalid *event.Invalid
	if l.Request == "" || l.Class == ledger.Schema.String() {
		// The event as it would be on the stream.
		ev, err := event.ParseStored(raw)
		if err != nil {
			return ev, fault.New(fault.Invalid, "%s", protocol.AsInvalid(err).Error())
		}
		return ev, e.recheck(&ev)
	}
	received := string(protocol.AppendTime(nil, l.FirstSeen))
	if path, rt := routeOf(l); rt != nil {
		request := protocol.Request{Path: path, Type: rt.typ, Received: l.FirstSeen, Limits: e.cfg.Limits}
		invalid = newDecoder[rt.protocol]().Event(&request, raw, &ev)
	} else {
		var err error
		if ev, err = event.ParseSent(raw, e.cfg.Limits); err != nil {
			invalid = protocol.AsInvalid(err)
		}
	}
	if invalid != nil {
		kind := fault.Invalid
		if invalid.Code == event.CodeTooLarge {
			kind = fault.TooLarge
		}
		return ev, fault.New(kind, "%s", invalid.Error())
	}
	if l.Class == ledger.Forbidden.String() && !e.allowedBySource(l.Source, ev.Name) {
		return ev, fault.New(fault.Forbidden, "no key of the source %s may send events of this name", l.Source)
	}
	switch {
	case l.User == "" || ev.UserID == l.User:
	case ev.UserID == "":
		ev.UserID = l.User
	case !e.anyUserBySource(l.Source):
		return ev, fault.New(fault.Forbidden, "it is not the user that the sender's token named")
	}
	if ev.ID == "" {
		ev.ID = l.ID
	}
	if ev.Timestamp == "" {
		ev.Timestamp = received
	}
	ev.ReceivedAt, ev.Source = received, l.Source
	return ev, e.recheck(&ev)
}

// routeOf returns the route that an event came by, and its path; nil if the
// event is in our own form. The setting that switches it does not count: what
// is in the quarantine was sent while it was on.
func routeOf(l *deadletter.Letter) (path string, rt *sdkRoute) {
	_, path, _ = strings.Cut(l.Request, " ")
	path, form, _ := strings.Cut(path, " ")
	path = strings.TrimSuffix(path, "/")
	if form == cloudevents.MediaType {
		return path, &cloudEvents
	}
	if found, ok := sdkRoutes[path]; ok {
		return path, &found
	}
	return path, nil
}

func (e *Edge) allowedBySource(name, event string) bool {
	return e.anyKeyOf(name, func(k *source.Key) bool { return k.AllowsEvent(event) })
}

// anyUserBySource reports whether some key of a source may now send events of
// any user, whatever a token names.
func (e *Edge) anyUserBySource(name string) bool {
	return e.anyKeyOf(name, func(k *source.Key) bool {
		return !k.NamesUser() || k.Mode(source.RestrictToken) != source.Enforce
	})
}

// anyKeyOf reports whether some key of a source that is active now is as asked
// for.
func (e *Edge) anyKeyOf(name string, is func(*source.Key) bool) bool {
	keys := e.keys()
	return keys != nil && slices.ContainsFunc(keys.OfSource(name, time.Now()), is)
}
