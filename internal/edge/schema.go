package edge

import (
	"strconv"
	"strings"

	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/schema"
)

// codeSchema is the code of an event that is not what its schema says.
const codeSchema = "schema"

// mostMessage is the most bytes of the violations that a letter lists.
const mostMessage = 2 << 10

// breaksContract checks an event, complete and with the place s, against its
// schema. It returns true if the event is not to go on the stream: then it is
// among the rejects, or put aside.
func (x *exchange) breaksContract(ev *event.Event, s slot) bool {
	contracts := x.edge.cfg.Contracts
	if contracts == nil {
		return false
	}
	mode, ok := contracts.Check(ev, x.start, &x.report)
	if ok || mode == schema.Observe {
		return false
	}
	base := x.dataPointer(ev)
	first := x.report.Violations[0]
	r := reject{
		reason: ledger.Schema, code: codeSchema, pointer: first.PointerIn(base), detail: first.Detail(),
		// The stored form: a replay makes the very event that its sender sent,
		// with its id, its time of receipt and what the request added to it.
		raw: ev.Append(nil), id: strings.Clone(ev.ID), name: strings.Clone(ev.Name),
		broken: x.report.Entry, violation: first, message: x.report.Text(base, mostMessage),
	}
	if more := len(x.report.Violations) - 1; more > 0 {
		r.detail += " (and " + strconv.Itoa(more) + " more)"
	}
	if !x.reserve(int64(len(r.raw) + len(r.message))) {
		x.starved = true
	}
	if mode == schema.Reject {
		x.reject(r)
		return true
	}
	s.item = putAside
	r.index = len(x.slots)
	x.place(s)
	x.aside = append(x.aside, r)
	if len(x.aside)%eventStep == 0 && !x.reserve(perRejects) {
		x.starved = true
	}
	return true
}

// dataPointer is where the sender of an event has put what we call data.
func (x *exchange) dataPointer(ev *event.Event) string {
	if !x.bySegment() {
		return "/data"
	}
	switch ev.Type {
	case event.TypeTrack, event.TypePage, event.TypeScreen:
		return "/properties"
	}
	return "/traits"
}

// keepAside writes what was put aside to the quarantine, where no newer letter
// pushes it out, and reports whether it is there: before anything is on the
// stream, so that "not stored" is true of the whole request if it is not.
func (x *exchange) keepAside() bool {
	if !x.keep(x.aside) {
		return false
	}
	x.accepted = len(x.aside)
	return true
}

// appendViolation appends the members of an error that only schemas have.
func appendViolation(dst []byte, r *reject) []byte {
	for _, member := range [...]struct{ name, value string }{
		{`,"rule":`, r.violation.Rule},
		{`,"expected":`, r.violation.Expected},
		{`,"got":`, r.violation.Got},
		{`,"schema":`, r.broken.Label()},
	} {
		dst = event.AppendString(append(dst, member.name...), member.value)
	}
	return dst
}

// recheck returns what is wrong with an event by the schemas of now.
func (e *Edge) recheck(ev *event.Event) error {
	if e.cfg.Contracts == nil {
		return nil
	}
	var r schema.Report
	mode, ok := e.cfg.Contracts.Recheck(ev, &r)
	if ok || mode == schema.Observe {
		return nil
	}
	return fault.New(fault.Invalid, "schema %s: %s", r.Entry.Label(), r.Text("/data", mostMessage))
}
