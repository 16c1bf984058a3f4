package router

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/eventsluice/sluice/internal/event"
)

// Table is a compiled rules document. It does not change, apart from its
// counters; all methods are safe for concurrent use.
type Table struct {
	rules  []*rule
	routes map[string]*Route
}

// rule is one compiled rule.
type rule struct {
	index       int
	name        string // ruleName
	destination string
	arn         string
	placeholder bool // the ARN has "region" or "account-id" in it
	enabled     bool
	// enabledEvents and disabledEvents are as written, names and except
	// compiled.
	enabledEvents, disabledEvents []string
	names, except                 patterns
	patternCount                  int
	when                          *condition // nil: always
	sample                        float64
	transform                     *transform // nil: none
	maxBatch                      int

	matched, whenFalse, whenFailed, sampledOut, failed atomic.Uint64
}

// selects reports whether the rule wants events of a name, the other
// conditions apart.
func (r *rule) selects(name string) bool {
	if !r.enabled {
		return false
	}
	if _, ok := r.names.match(name); !ok {
		return false
	}
	_, excluded := r.except.match(name)
	return !excluded
}

// unconditional reports whether the rule wants every event that it selects.
func (r *rule) unconditional() bool { return r.when == nil && r.sample >= 1 }

// Rule describes one rule of a Table.
type Rule struct {
	// Name is how Apply names the rule: "rules[2] crm".
	Name string
	// Index counts from 0 in the document.
	Index       int
	Destination string
	// ARN may be empty.
	ARN     string
	Enabled bool
	// MaxBatch is the most events of one invocation, at least 1.
	MaxBatch int
}

// RuleStats counts what a rule did since its Table was made.
type RuleStats struct {
	Rule
	// Matched events were wanted by the rule.
	Matched uint64
	// WhenFalse events had the right name but not what when asks for.
	WhenFalse uint64
	// WhenFailed events had the right name, but when had no value: a member
	// was missing, of another type, or the evaluation cost too much.
	WhenFailed uint64
	// SampledOut events are not in the sample.
	SampledOut uint64
	// Failed events were wanted but could not be transformed.
	Failed uint64
}

// RouteStats counts what a destination was asked since the Table was made.
// Seen = Filtered + Unreadable + Matched and Failed of its rules.
type RouteStats struct {
	Destination string
	Seen        uint64
	// Filtered events were wanted by no rule.
	Filtered uint64
	// Unreadable events are not valid stored events.
	Unreadable uint64
}

func newTable(rules []*rule) *Table {
	t := &Table{rules: rules, routes: map[string]*Route{}}
	for _, r := range rules {
		route := t.routes[r.destination]
		if route == nil {
			route = &Route{destination: r.destination}
			t.routes[r.destination] = route
		}
		route.rules = append(route.rules, r)
	}
	for _, route := range t.routes {
		route.index = newNameIndex(route.rules)
	}
	return t
}

// Destinations returns the destinations that rules name, in the order in which
// they first do, also those whose rules are all disabled.
func (t *Table) Destinations() []string {
	var names []string
	for _, r := range t.rules {
		if !slices.Contains(names, r.destination) {
			names = append(names, r.destination)
		}
	}
	return names
}

// Rules returns all rules in order.
func (t *Table) Rules() []Rule {
	rules := make([]Rule, len(t.rules))
	for i, r := range t.rules {
		rules[i] = r.describe()
	}
	return rules
}

func (r *rule) describe() Rule {
	return Rule{
		Name: r.name, Index: r.index, Destination: r.destination, ARN: r.arn, Enabled: r.enabled, MaxBatch: r.maxBatch,
	}
}

// RequireARNs returns Faults if a rule in use cannot be used on AWS, because its
// destination_arn is missing or still has the words of an example in it.
func (t *Table) RequireARNs() error {
	c := &collector{}
	for _, r := range t.rules {
		c.rule, c.destination = r.index, r.destination
		switch {
		case !r.enabled:
		case r.arn == "":
			c.add("/destination_arn", "is missing, and AWS needs it", arnForms)
		case r.placeholder:
			c.add("/destination_arn", quote(r.arn)+" still has the words of an example in it", "fill in region and account")
		}
	}
	return c.err()
}

// Stats returns the counters of all rules, in order.
func (t *Table) Stats() []RuleStats {
	stats := make([]RuleStats, len(t.rules))
	for i, r := range t.rules {
		stats[i] = RuleStats{
			Rule:    r.describe(),
			Matched: r.matched.Load(), WhenFalse: r.whenFalse.Load(), WhenFailed: r.whenFailed.Load(),
			SampledOut: r.sampledOut.Load(), Failed: r.failed.Load(),
		}
	}
	return stats
}

// Route returns what the rules say of a destination. It is nil, and wants
// nothing, if no rule names it.
func (t *Table) Route(destination string) *Route {
	if t == nil {
		return nil
	}
	return t.routes[destination]
}

// Route is what the rules say of one destination. A nil Route wants nothing.
// All methods are safe for concurrent use.
type Route struct {
	destination string
	rules       []*rule
	index       nameIndex

	seen, filtered, unreadable atomic.Uint64
}

// Stats returns the counters of the destination.
func (r *Route) Stats() RouteStats {
	if r == nil {
		return RouteStats{}
	}
	return RouteStats{
		Destination: r.destination,
		Seen:        r.seen.Load(), Filtered: r.filtered.Load(), Unreadable: r.unreadable.Load(),
	}
}

// Apply decides about one stored event. If wanted, out is what to send: raw
// itself if the rule does not transform, else new memory.
//
// rule names the rule that decided, for the dead letter: its place and its
// destination, such as "rules[2] crm". It is empty if no rule did.
//
// An error is for the dead letter: the event cannot be read, or not be
// transformed. It is never filtered. What no rule needs is not read: an event
// whose name no rule selects is filtered whatever else is in it.
func (r *Route) Apply(raw []byte) (out []byte, rule string, wanted bool, err error) {
	if r == nil {
		return nil, "", false, nil
	}
	r.seen.Add(1)
	name, ok := event.Name(raw)
	if !ok {
		return r.read(raw)
	}
	rules := r.index.lookup(name)
	if len(rules) == 0 {
		r.filtered.Add(1)
		return nil, "", false, nil
	}
	if first := rules[0]; first.unconditional() && first.transform == nil {
		first.matched.Add(1)
		return raw, first.name, true, nil
	}
	d := readings.Get().(*reading)
	defer d.release()
	return r.decide(rules, raw, d)
}

// read is Apply for an event whose name is not where it is expected.
func (r *Route) read(raw []byte) (out []byte, rule string, wanted bool, err error) {
	d := readings.Get().(*reading)
	defer d.release()
	if err := d.parse(raw); err != nil {
		r.unreadable.Add(1)
		return nil, "", false, err
	}
	return r.decide(r.index.lookup(d.event.Name), raw, d)
}

// decide asks the rules that select the name of an event, in order.
func (r *Route) decide(rules []*rule, raw []byte, d *reading) (out []byte, rule string, wanted bool, err error) {
	for _, candidate := range rules {
		v, err := candidate.decide(raw, d)
		if err != nil {
			r.unreadable.Add(1)
			return nil, "", false, err
		}
		if v.count(candidate); v.outcome != matched {
			continue
		}
		if out, err = candidate.output(raw, d); err != nil {
			candidate.failed.Add(1)
			return nil, candidate.name, false, err
		}
		candidate.matched.Add(1)
		return out, candidate.name, true, nil
	}
	r.filtered.Add(1)
	return nil, "", false, nil
}

// reading is an event as far as it has been read.
type reading struct {
	event   event.Event
	parsed  bool
	binding binding
}

// readings are kept for the next event: nothing that Apply returns shares their
// memory.
var readings = sync.Pool{New: func() any { return new(reading) }}

// release gives the reading back, without what it holds of the event.
func (d *reading) release() {
	d.event, d.parsed = event.Event{}, false
	d.binding.reset(nil)
	readings.Put(d)
}

// parse reads the event whole, once.
func (d *reading) parse(raw []byte) error {
	if d.parsed {
		return nil
	}
	e, err := event.ParseStored(raw)
	if err == nil && len(e.Extra) > 0 {
		// Members that the vocabulary does not know belong below
		// context.extra; rules shall find them there.
		e, err = event.ParseStored(e.Append(nil))
	}
	if err != nil {
		return fmt.Errorf("the event cannot be read: %w", err)
	}
	d.event, d.parsed = e, true
	return nil
}

// bind shows the event to expressions.
func (d *reading) bind() *binding {
	if d.binding.event == nil {
		d.binding.reset(&d.event)
	}
	return &d.binding
}

// outcome is what a rule says of an event whose name it selects.
type outcome uint8

const (
	matched outcome = iota
	whenFalse
	whenFailed
	sampledOut
)

type verdict struct {
	outcome outcome
	failure error   // of when
	at      float64 // position in the sample
}

// count counts a verdict, except for a match: whether that one counts is known
// when the event has been transformed.
func (v verdict) count(r *rule) {
	switch v.outcome {
	case whenFalse:
		r.whenFalse.Add(1)
	case whenFailed:
		r.whenFailed.Add(1)
	case sampledOut:
		r.sampledOut.Add(1)
	}
}

// decide asks the conditions of a rule that come after the name. An error says
// that the event cannot be read.
func (r *rule) decide(raw []byte, d *reading) (verdict, error) {
	if r.unconditional() {
		return verdict{}, nil
	}
	if err := d.parse(raw); err != nil {
		return verdict{}, err
	}
	var v verdict
	// The sample first: it is the cheaper one.
	if r.sample < 1 {
		if v.at = samplePosition(d.event.PartitionKey()); v.at >= r.sample {
			v.outcome = sampledOut
			return v, nil
		}
	}
	if r.when != nil {
		ok, err := r.when.eval(d.bind(), len(raw))
		switch {
		case err != nil:
			v.outcome, v.failure = whenFailed, err
		case !ok:
			v.outcome = whenFalse
		}
	}
	return v, nil
}

// output returns what the rule sends of an event.
func (r *rule) output(raw []byte, d *reading) ([]byte, error) {
	if r.transform == nil {
		return raw, nil
	}
	if err := d.parse(raw); err != nil {
		return nil, err
	}
	e := d.event
	return r.transform.apply(make([]byte, 0, len(raw)+128), &e)
}

// samplePosition places a partition key between 0 and 1, 1 excluded. The hash
// is mixed once more: buckets and lanes are cut from the hash itself, and a
// sample shall take some of each, not all of a few.
func samplePosition(partitionKey string) float64 {
	h := event.Hash(partitionKey) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	return float64(h>>11) / (1 << 53)
}
