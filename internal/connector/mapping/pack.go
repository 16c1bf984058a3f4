package mapping

import (
	"fmt"

	"github.com/eventsluice/sluice/internal/connector"
)

// Body is what a call's body looks like at a vendor that takes many events at
// once: Head, the events with commas between them, and Tail. It has at most Max
// bytes.
type Body struct {
	Head, Tail string
	Max        int
}

// Pack plans calls for such a vendor; the payload of each is its body, a []byte.
// Events are in the order in which they are given, in as few calls as Max allows.
// encode appends what an event becomes to dst, or says why nothing is sent of it.
func (m *Mapper) Pack(events []connector.Delivery, b Body, encode func(dst []byte, r *Record) ([]byte, *connector.Result)) (plan connector.Plan) {
	var record Record
	var item, body []byte
	var call []int
	seal := func() {
		if len(call) > 0 {
			plan.Calls = append(plan.Calls, connector.Call{Events: call, Payload: append(body, b.Tail...)})
		}
	}
	for i := range events {
		refused := m.Map(&events[i].Event, &record)
		if refused == nil {
			item, refused = encode(item[:0], &record)
		}
		if size := len(b.Head) + len(item) + len(b.Tail); refused == nil && size > b.Max {
			refused = Refuse("too_large", "event", fmt.Sprintf("makes a call of %d bytes, and at most %d are allowed", size, b.Max))
		}
		switch {
		case refused != nil:
			plan.Done = append(plan.Done, connector.Done{Event: i, Result: *refused})
			continue
		case len(call) > 0 && len(body)+len(",")+len(item)+len(b.Tail) <= b.Max:
			body = append(body, ',')
		default:
			seal()
			// Room for the rest, if it is like this one.
			left := len(events) - i
			body = append(make([]byte, 0, min(b.Max, len(b.Head)+len(b.Tail)+left*(len(item)+len(item)/8+1))), b.Head...)
			call = make([]int, 0, min(left, b.Max/(len(item)+1)+1))
		}
		body, call = append(body, item...), append(call, i)
	}
	seal()
	return plan
}
