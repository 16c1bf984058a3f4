package edge

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/edge/protocol"
	"github.com/eventsluice/sluice/internal/edge/protocol/cloudevents"
	"github.com/eventsluice/sluice/internal/edge/protocol/segment"
	"github.com/eventsluice/sluice/internal/edge/source"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/schema"
)

// reject is one event that was turned away.
type reject struct {
	index  int // among the events of the request
	reason ledger.Reason
	// pointer, code and detail are what the sender is told.
	pointer, code, detail string
	// raw is the event as sent; it shares the memory of the body.
	raw []byte
	// id and name are the event's, where they could be read.
	id, name string
	// stored says that raw is the stored form, since the event is valid.
	stored bool
	// broken is the schema that the event is not right for, violation the first
	// thing in which it is not, and message all of them, for the letter. raw is
	// the stored form then, and memory of its own.
	broken    *schema.Entry
	violation schema.Violation
	message   string
	// again says that the sender is told to send it again: the quarantine does
	// not keep it.
	again bool
}

// events answers POST /v1/events.
func (x *exchange) events() {
	if x.enter() && x.authenticate() && x.withinRate() && x.readBody(x.edge.cfg.MaxBody) && x.signed() && x.readSent() && x.count() {
		x.answer(x.store())
	}
}

// enter does what comes first for every request that carries events.
func (x *exchange) enter() bool {
	x.corsAnyKey()
	if x.keys == nil {
		return x.failAfter(codeUnavailable, "the gateway has not read its keys yet", 5*time.Second)
	}
	return x.withinAddressRate()
}

// authenticate admits the request by the key in its header or query.
func (x *exchange) authenticate() bool {
	x.presentHeaders()
	return x.admit()
}

// readSent takes the body apart into the batch and the rejects.
func (x *exchange) readSent() bool {
	if cloudevents.Is(x.req.Header) {
		return x.open(&cloudEvents) && x.readEvents()
	}
	if len(x.body) == 0 {
		return x.fail(codeEmptyBody, "send an event, an array of events, {\"events\":[…]}, or one event a line (application/x-ndjson)")
	}
	body, err := protocol.Unform(x.body)
	if err != nil {
		return x.unreadable(err)
	}
	x.body = body
	x.stamp()
	x.sent.Reset(x.body, formOf(x.req.Header["Content-Type"], x.body), x.edge.cfg.Limits)
	for {
		ok, invalid, raw := x.sent.Next(&x.event)
		if !ok {
			break
		}
		if len(x.slots) == x.edge.cfg.MaxEvents {
			return x.tooManyEvents()
		}
		if x.take(&x.event, invalid, raw); x.starved {
			return x.overloaded()
		}
	}
	if err := x.sent.Err(); err != nil {
		return x.unreadable(err)
	}
	return true
}

func (x *exchange) tooManyEvents() bool {
	return x.fail(codeTooManyEvents, "a request may have "+strconv.Itoa(x.edge.cfg.MaxEvents)+" events; nothing of this one is stored")
}

// formOf chooses by Content-Type if that is one it knows, and otherwise by the
// body: pages can send only text/plain when they unload, and libraries label
// JSON as all kinds of things.
func formOf(contentType []string, body []byte) event.Form {
	if len(contentType) > 0 && contentType[0] == "application/json" {
		return event.JSON
	}
	if len(contentType) > 0 {
		mediaType, _, _ := strings.Cut(contentType[0], ";")
		switch strings.ToLower(strings.TrimSpace(mediaType)) {
		case "application/json", "application/vnd.sluice.events+json":
			return event.JSON
		case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines":
			return event.NDJSON
		}
	}
	return event.FormOf(body)
}

// stamp fixes the time of receipt of all events of the request.
func (x *exchange) stamp() { x.received = protocol.View(protocol.AppendTime(x.clock[:0], x.start)) }

// take puts one event into the batch, or among the rejects.
func (x *exchange) take(ev *event.Event, invalid *event.Invalid, raw []byte) {
	if invalid != nil {
		reason := ledger.Invalid
		if invalid.Code == event.CodeTooLarge {
			reason = ledger.TooLarge
		}
		x.reject(reject{reason: reason, pointer: invalid.Pointer, code: invalid.Code, detail: invalid.Detail, raw: raw})
		return
	}
	if !x.key.EventListed(ev.Name) && x.enforces(source.RestrictEvents, "the key may not send events of the name "+clip(ev.Name)) {
		x.reject(reject{
			reason: ledger.Forbidden, pointer: "/name", code: codeEventForbidden.String(),
			detail: "the key " + x.key.ID + " may not send events of this name", raw: raw,
			id: strings.Clone(ev.ID), name: strings.Clone(ev.Name),
		})
		return
	}
	if !x.ofUser(&ev.UserID) {
		x.reject(reject{
			reason: ledger.Forbidden, pointer: x.userPointer(), code: codeUserForbidden, detail: detailUserForbidden, raw: raw,
			id: strings.Clone(ev.ID), name: strings.Clone(ev.Name),
		})
		return
	}
	s := slot{from: len(x.ids)}
	ownID := ev.ID != ""
	if !ownID {
		x.ids = append(event.AppendID(append(x.ids, '"')), '"')
		ev.ID = protocol.View(x.ids[s.from+1 : len(x.ids)-1])
	} else {
		x.ids = event.AppendString(x.ids, ev.ID)
	}
	s.to = len(x.ids)
	if ev.Timestamp == "" {
		ev.Timestamp = x.received
	}
	ev.ReceivedAt = x.received
	ev.Source, ev.Traceparent = x.key.Source, x.traceparent
	if x.key.IP && x.req.Header["Sp-Anonymous"] == nil { // Snowplow's word for: forget who sends
		if addr := x.address(); addr.IsValid() {
			ev.IP = addr.String()
		}
	}
	if x.breaksContract(ev, s) {
		return
	}
	if rules := x.key.Limits(); rules.PerEvent() {
		x.ask(rules, ev)
	}
	s.item = x.batch.Add(ev)
	if ownID {
		x.batch.MarkOwnID(s.item)
	}
	x.place(s)
}

// userPointer is where the sender of an event has put its user.
func (x *exchange) userPointer() string {
	if x.bySegment() {
		return "/userId"
	}
	return "/user_id"
}

// bySegment reports whether the sender speaks the language of Segment's family.
// What is wrong with events of other protocols is told in ours.
func (x *exchange) bySegment() bool {
	_, ok := x.decoder.(*segment.Decoder)
	return ok
}

// place adds the next event to those of the request.
func (x *exchange) place(s slot) {
	x.slots = append(x.slots, s)
	if len(x.slots)%eventStep == 0 && !x.reserve(perEvents) {
		x.starved = true
	}
}

// reject notes an event that is turned away, the next of the request.
func (x *exchange) reject(r reject) {
	r.index = len(x.slots)
	x.place(slot{item: notStored})
	x.rejects = append(x.rejects, r)
	if len(x.rejects)%eventStep == 0 && !x.reserve(perRejects) {
		x.starved = true
	}
}

// sortRejects puts those that were found late where they belong: in the order
// of the request.
func (x *exchange) sortRejects() {
	slices.SortFunc(x.rejects, func(a, b reject) int { return a.index - b.index })
}

// countRejects takes the rejects into the ledger.
func (x *exchange) countRejects() {
	for i := range x.rejects {
		x.edge.intake.Rejected(x.rejects[i].reason, 1)
	}
}

// count takes the events off the limits and into the ledger. From here on each
// event is accepted or rejected, once.
func (x *exchange) count() bool {
	x.edge.intake.Received(len(x.slots))
	if !x.withinLimits() {
		return false
	}
	x.countRejects()
	x.edge.intake.Rejected(ledger.Schema, len(x.aside))
	return true
}

// store puts the events on the stream and returns how many are there, how many
// are not, and why the first of those is not. Events that the stream can never
// take join the rejects, and those that a schema puts aside are in the
// quarantine first, or nothing is stored; they are in neither number.
//
// The sender's own context does not count: a page that unloads hangs up at
// once and means its events all the same.
func (x *exchange) store() (accepted, failed int, why error) {
	n := x.batch.Len()
	if !x.keepAside() {
		// The producer has not seen them, so that they are counted here.
		x.edge.intake.Rejected(ledger.Unavailable, n)
		return 0, n + len(x.aside), x.cause
	}
	if n == 0 {
		return 0, 0, nil
	}
	if x.span != nil {
		x.batch.Span = x.span.SpanContext()
	}
	err := x.edge.stream.Put(x.edge.storeContext(), &x.batch)
	if err == nil {
		x.accepted += n
		return n, 0, nil
	}
	x.cause = err
	accepted = n
	for i := range x.slots {
		s := &x.slots[i]
		if s.item < 0 {
			continue
		}
		e := x.batch.Err(s.item)
		if e == nil {
			continue
		}
		accepted--
		switch kind := fault.KindOf(e); kind {
		case fault.TooLarge, fault.Invalid:
			// Counted as rejected by who found it out.
			x.rejects = append(x.rejects, reject{
				index: i, reason: ledger.TooLarge, code: kind.String(),
				detail: "the stream cannot take this event", raw: x.batch.Event(s.item), stored: true,
			})
			s.item = notStored
		default:
			if failed++; why == nil {
				why = e
			}
		}
	}
	if accepted == n {
		// Put has failed and blames no event: then it answers for none.
		return 0, n, err
	}
	x.sortRejects()
	x.accepted += accepted
	return accepted, failed, why
}

// patience is a context that the requests of a short while share: a timer of
// its own would cost a request as much as reading its event.
type patience struct {
	ctx   context.Context
	until time.Time // no request that begins later may use it
}

// patienceStep is how much longer than StoreTimeout a request may wait at most.
const patienceStep = 50 * time.Millisecond

// storeContext returns a context that ends after StoreTimeout, or up to
// patienceStep later.
func (e *Edge) storeContext() context.Context {
	now := time.Now()
	if p := e.patience.Load(); p != nil && now.Before(p.until) {
		return p.ctx
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.cfg.StoreTimeout+patienceStep)
	context.AfterFunc(ctx, cancel) // it ends by itself, and nobody else ends it
	e.patience.Store(&patience{ctx: ctx, until: now.Add(patienceStep)})
	return ctx
}

// answer tells the sender of POST /v1/events what became of each event.
func (x *exchange) answer(accepted, failed int, why error) {
	if failed > 0 && accepted == 0 {
		// All is to be sent again, the rejects too: they are not quarantined.
		x.unavailable(why)
		return
	}
	x.keepRejects() // the sender is told of them in any case
	if accepted+len(x.aside) == 0 {
		x.refuseAll()
		return
	}
	status := http.StatusAccepted
	if len(x.rejects)+failed > 0 {
		status = http.StatusMultiStatus
	}
	wait := x.overWait
	if failed > 0 {
		x.listFailed()
		wait = max(wait, waitOf(why))
	}
	if wait > 0 {
		x.Header()["Retry-After"] = []string{strconv.FormatInt(retrySeconds(wait), 10)}
	}
	out := append(x.out[:0], `{"accepted":`...)
	out = strconv.AppendInt(out, int64(accepted+len(x.aside)), 10)
	out = append(out, `,"rejected":`...)
	out = strconv.AppendInt(out, int64(len(x.rejects)), 10)
	if n := x.batch.Duplicates(); n > 0 {
		out = append(out, `,"duplicates":`...)
		out = strconv.AppendInt(out, int64(n), 10)
	}
	out = append(out, `,"ids":[`...)
	for i, s := range x.slots {
		if i > 0 {
			out = append(out, ',')
		}
		if s.item == notStored {
			out = append(out, "null"...)
		} else {
			out = append(out, x.ids[s.from:s.to]...)
		}
	}
	out = append(out, `],`...)
	if status == http.StatusMultiStatus {
		out = append(x.appendErrors(out), ',')
	}
	if len(x.aside) > 0 {
		out = append(out, `"quarantined":`...)
		out = append(strconv.AppendInt(out, int64(len(x.aside)), 10), ',')
	}
	switch {
	case accepted == 0:
		out = append(out, `"ack":"quarantine"}`...)
	case x.batch.Spooled():
		out = append(out, `"ack":"spool"}`...)
	default:
		out = append(out, `"ack":"stream"}`...)
	}
	x.out = out
	x.reply(status, jsonType, x.out)
}

// refuseAll answers a request of which no event is good.
func (x *exchange) refuseAll() {
	switch {
	case len(x.slots) == 0:
		x.fail(codeNoEvents, "the document is well formed and has no events")
	case x.overRule != nil: // and the stream has refused the others
		x.overLimit()
	case len(x.slots) == 1 && x.rejects[0].reason == ledger.TooLarge:
		x.problem(codeEventTooLarge, x.rejects[0].detail, 0, true)
	case !slices.ContainsFunc(x.rejects, func(r reject) bool { return r.reason != ledger.Forbidden }):
		x.problem(codeEventForbidden, x.rejects[0].detail, 0, true)
	default:
		x.problem(codeInvalidEvents, summary(x.rejects), 0, true)
	}
}

// listFailed adds the events that the stream did not take to the errors of the
// answer. To the ledger they are no rejects: the producer has counted them.
func (x *exchange) listFailed() {
	for i := range x.slots {
		s := &x.slots[i]
		if s.item >= 0 && x.batch.Err(s.item) != nil {
			x.rejects = append(x.rejects, reject{
				index: i, code: codeUnavailable.String(), detail: "the event could not be stored; send it again",
			})
			s.item = notStored
		}
	}
	x.sortRejects()
}

// unavailable answers that nothing was stored, as far as is known.
func (x *exchange) unavailable(why error) {
	if x.cause == nil {
		x.cause = why
	}
	detail := "the events were not stored; send them again"
	if fault.KindOf(why) == fault.Ambiguous {
		detail = "it is not known whether the events were stored; send them again with the same ids"
	}
	x.failAfter(codeUnavailable, detail, waitOf(why))
}

// waitOf is the Retry-After of a failure to store.
func waitOf(err error) time.Duration {
	if d := fault.RetryAfter(err); d > 0 {
		return d
	}
	return 5 * time.Second
}

// appendErrors appends the errors member of an answer.
func (x *exchange) appendErrors(dst []byte) []byte {
	dst = append(dst, `"errors":[`...)
	for i := range x.rejects {
		r := &x.rejects[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"index":`...)
		dst = strconv.AppendInt(dst, int64(r.index), 10)
		dst = append(dst, `,"pointer":`...)
		dst = event.AppendString(dst, r.pointer)
		dst = append(dst, `,"code":`...)
		dst = event.AppendString(dst, r.code)
		dst = append(dst, `,"detail":`...)
		dst = event.AppendString(dst, r.detail)
		if r.broken != nil {
			dst = appendViolation(dst, r)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// summary says of several rejects what a person needs first.
func summary(rejects []reject) string {
	r := rejects[0]
	where := r.pointer
	if where == "" {
		where = "the event"
	}
	text := where + ": " + r.detail
	if len(rejects) > 1 {
		text = strconv.Itoa(len(rejects)) + " events are invalid; the first: " + text
	}
	return text
}
