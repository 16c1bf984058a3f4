package limit

import (
	"time"
)

// Request is one request before the limits. It is filled with Gate, Share and
// Event, judged by Limiter.Judge, and then asked. Reset empties it and keeps
// its memory. The zero value is empty. It is not safe for concurrent use.
type Request struct {
	gates   []gate
	address Bucket
	rules   [2]*Rule // of the events: by user, by name
	events  []entry

	refused  *Rule
	wait     time.Duration
	overs    int
	observed [kinds]int
}

// gate is a bucket that admits all events of the request or none.
type gate struct {
	Bucket
	n     int
	lacks bool // it does not have them
}

// entry is an event and the buckets that judge it.
type entry struct {
	ids   [2]ID
	has   [2]bool // whether there is such a bucket
	lacks [2]bool
}

// Gate asks a bucket for n events, all or none.
func (r *Request) Gate(b Bucket, n int) {
	if b.rule != nil && n > 0 {
		r.gates = append(r.gates, gate{Bucket: b, n: n})
	}
}

// Share lets the request, which this gateway has taken from the bucket of its
// address already, be taken from the one of all gateways too.
func (r *Request) Share(b Bucket) { r.address = b }

// Event adds an event that the buckets of its user and its name judge; either
// may be none. Those of one request are of the same rules.
func (r *Request) Event(user, name Bucket) {
	e := entry{ids: [2]ID{user.id, name.id}, has: [2]bool{user.rule != nil, name.rule != nil}}
	if user.rule != nil {
		r.rules[0] = user.rule
	}
	if name.rule != nil {
		r.rules[1] = name.rule
	}
	r.events = append(r.events, e)
}

// limited reports whether there is any bucket to ask.
func (r *Request) limited() bool {
	return len(r.gates) > 0 || len(r.events) > 0 || r.address.rule != nil
}

// begin forgets an earlier judgement.
func (r *Request) begin() {
	r.refused, r.wait, r.overs, r.observed = nil, 0, 0, [kinds]int{}
	for i := range r.gates {
		r.gates[i].lacks = false
	}
	for i := range r.events {
		r.events[i].lacks = [2]bool{}
	}
}

// refuse notes why the request is refused: the first rule, the longest wait.
func (r *Request) refuse(rule *Rule, wait time.Duration) {
	if r.refused == nil {
		r.refused = rule
	}
	r.wait = max(r.wait, min(wait, maxWait))
}

func (r *Request) over(e *entry) bool {
	for side, rule := range r.rules {
		if e.lacks[side] && !rule.observe {
			return true
		}
	}
	return false
}

// Refused returns the rule by which the request is refused as a whole, nil if
// it is not.
func (r *Request) Refused() *Rule { return r.refused }

// Over returns the rule that event i, the i-th that was added, is over; nil if
// it is admitted.
func (r *Request) Over(i int) *Rule {
	for side, rule := range r.rules {
		if r.events[i].lacks[side] && !rule.observe {
			return rule
		}
	}
	return nil
}

// Overs returns how many events are over a rule, of a request that is not
// refused.
func (r *Request) Overs() int { return r.overs }

// Wait returns after how long what was refused would be admitted, all of it
// together (as much of it as the burst lets in) and if nothing comes before it.
func (r *Request) Wait() time.Duration { return r.wait }

// Observed returns how many events a rule that only observes would have
// refused.
func (r *Request) Observed(k Kind) int { return r.observed[k] }

// Reset empties the request and keeps its memory.
func (r *Request) Reset() {
	*r = Request{gates: r.gates[:0], events: r.events[:0]}
}
