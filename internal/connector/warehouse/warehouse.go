// Package warehouse is what the connectors to databases have in common: the
// columns of the table events, and how events are cut into calls.
package warehouse

import (
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/event"
)

// Columns of the table events, in the order in which every warehouse has them.
var Columns = [...]string{
	"id", "type", "name", "user_id", "anonymous_id", "timestamp", "received_at", "source", "data", "context",
}

// MaxBytes bounds what is in the rows of one call, unless one row is larger.
const MaxBytes = 8 << 20

// Plan makes calls whose payload is a []Row of at most maxRows rows and
// MaxBytes, of events as privacy leaves them. makeRow maps an event, or returns
// the result of an event that the warehouse cannot have.
func Plan[Row any](privacy *mapping.Filter, events []connector.Delivery, maxRows int, makeRow func(*event.Event) (Row, *connector.Result)) connector.Plan {
	return privacy.Plan(events, func(events []connector.Delivery) connector.Plan { return plan(events, maxRows, makeRow) })
}

func plan[Row any](events []connector.Delivery, maxRows int, makeRow func(*event.Event) (Row, *connector.Result)) connector.Plan {
	var (
		plan    connector.Plan
		rows    []Row
		indexes []int
		size    int
	)
	flush := func() {
		if len(rows) > 0 {
			plan.Calls = append(plan.Calls, connector.Call{Events: indexes, Payload: rows})
			rows, indexes, size = nil, nil, 0
		}
	}
	for i := range events {
		e := &events[i].Event
		row, refused := makeRow(e)
		if refused != nil {
			plan.Done = append(plan.Done, connector.Done{Event: i, Result: *refused})
			continue
		}
		n := len(e.ID) + len(e.Name) + len(e.UserID) + len(e.AnonymousID) + len(e.Data) + len(e.Context) + len(e.Extra)
		if len(rows) == maxRows || size+n > MaxBytes {
			flush()
		}
		if rows == nil {
			left := min(maxRows, len(events)-i)
			rows, indexes = make([]Row, 0, left), make([]int, 0, left)
		}
		rows, indexes, size = append(rows, row), append(indexes, i), size+n
	}
	flush()
	return plan
}

// Data returns the data of an event, "{}" if it has none.
func Data(e *event.Event) []byte { return orEmpty(e.Data) }

// Context returns the context of an event as it is stored, with the members of
// the sent object that Event does not know under "extra".
func Context(e *event.Event) []byte {
	if len(e.Extra) == 0 {
		return orEmpty(e.Context)
	}
	// Append alone knows how the two are joined; context is its last member.
	stored := (&event.Event{Context: e.Context, Extra: e.Extra}).Append(nil)
	before := len((&event.Event{}).Append(nil)) - len("{}}")
	return stored[before : len(stored)-len("}")]
}

// Time reads the time of a column, RFC 3339. What is none is refused for good.
func Time(column, text string) (time.Time, *connector.Result) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, &connector.Result{Class: connector.Permanent, Code: column, Message: column + ": is not a time by RFC 3339"}
	}
	return t, nil
}

func orEmpty(object []byte) []byte {
	if len(object) == 0 {
		return []byte("{}")
	}
	return object
}
