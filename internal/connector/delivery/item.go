package delivery

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/guard"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
)

// place is where an event stands on the stream. Its text is the id of the
// event's letter.
type place struct {
	position uint64
	record   uint32
	sub      uint32
}

func (p place) String() string {
	b := make([]byte, 0, 32)
	b = strconv.AppendUint(b, p.position, 10)
	b = strconv.AppendUint(append(b, '.'), uint64(p.record), 10)
	b = strconv.AppendUint(append(b, '.'), uint64(p.sub), 10)
	return string(b)
}

func parsePlace(id string) (p place, err error) {
	a, rest, _ := strings.Cut(id, ".")
	b, c, _ := strings.Cut(rest, ".")
	position, err1 := strconv.ParseUint(a, 10, 64)
	record, err2 := strconv.ParseUint(b, 10, 32)
	sub, err3 := strconv.ParseUint(c, 10, 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return place{}, fmt.Errorf("%q is not the id of a letter: position.record.event", id)
	}
	return place{position: position, record: uint32(record), sub: uint32(sub)}, nil
}

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.position, o.position), cmp.Compare(p.record, o.record), cmp.Compare(p.sub, o.sub))
}

// item is one event on its way to the destination.
type item struct {
	id    place
	event event.Event
	raw   []byte
	rule  string
	key   string // partition key
	// unreadable is why the event cannot be delivered at all.
	unreadable error
	firstSeen  time.Time
	attempts   int
	// tries are those that failed, as far as its letter remembers them.
	tries []deadletter.Try
	// span is where the event is accounted for while it has not left memory;
	// nil once it is a letter of the parked queue.
	span *span
	// hold is where the letter waits, if it is one.
	hold *hold
}

// read parses the event of the item, or says why it cannot be.
func (it *item) read() {
	ev, err := event.ParseStored(it.raw)
	if err != nil {
		it.unreadable = err
		it.key = it.id.String()
		return
	}
	if ev.ID == "" {
		// It came straight to the stream. A second reading gives the same id.
		ev.ID = it.id.String()
	}
	it.event, it.key = ev, ev.PartitionKey()
}

func (it *item) delivery() connector.Delivery {
	return connector.Delivery{Event: it.event, Raw: it.raw, Rule: it.rule, Attempt: it.attempts + 1}
}

// letter returns the letter of the item after a result.
func (r *Runner) letter(it *item, res connector.Result, notBefore time.Time) deadletter.Letter {
	l := r.behind(it)
	guard.Record(&l, res, it.attempts > 0, notBefore)
	it.tries = l.Tries
	return l
}

// behind returns the letter of an item that has not been tried.
func (r *Runner) behind(it *item) deadletter.Letter {
	l := deadletter.Letter{
		ID: it.id.String(), Destination: r.cfg.Destination,
		EventID: it.event.ID, EventName: it.event.Name, PartitionKey: it.key,
		Position: it.id.position, Attempts: it.attempts, FirstSeen: it.firstSeen,
		Tries: it.tries, Class: guard.Held, Rule: it.rule, Connector: r.connectorName,
	}
	if it.unreadable != nil {
		l.Raw = it.raw
	} else {
		l.Event = it.raw
	}
	return l
}
