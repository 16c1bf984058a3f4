package awstest

import (
	"slices"
	"sync"
	"time"
)

// Fault is what a host can be made to do wrong, by Host.Fail. It is a value: the
// methods return a narrower one.
//
//	server.Fail(awstest.Calls(awstest.Unavailable).On("PutRecords").After(10).Times(2))
type Fault struct {
	operations []string
	after      int
	times      int
	period     time.Duration
	when       func(call int) bool
	stored     bool
	effect     func(p *Plan, s Strike)
}

// Strike is a fault that has met a call.
type Strike struct {
	// Call is the number of the call, from 1, among those that the fault is
	// about.
	Call int
	// Stored says that what is refused is stored all the same.
	Stored bool

	off <-chan struct{} // closed when the fault is switched off
}

// Effect makes a fault of what it does to a call that it strikes. It is not
// called concurrently.
func Effect(effect func(p *Plan, s Strike)) Fault { return Fault{effect: effect} }

// On makes the fault strike these operations only. Without it a fault that is
// about what a call stores strikes those that write, any other fault every
// operation.
func (f Fault) On(names ...string) Fault {
	f.operations = names
	return f
}

// After leaves the first calls alone.
func (f Fault) After(calls int) Fault {
	f.after = calls
	return f
}

// Times ends the fault after it struck so many calls.
func (f Fault) Times(calls int) Fault {
	f.times = calls
	return f
}

// For ends the fault that long after it was switched on.
func (f Fault) For(d time.Duration) Fault {
	f.period = d
	return f
}

// When makes the fault strike the calls that pick chooses; they are numbered
// from 1. It is not called concurrently.
func (f Fault) When(pick func(call int) bool) Fault {
	f.when = pick
	return f
}

// Stored makes a fault that would refuse something store it all the same: the
// answer lies.
func (f Fault) Stored() Fault {
	f.stored = true
	return f
}

// Trouble is a fault that is switched on.
type Trouble struct {
	fault Fault
	began time.Time
	off   chan struct{} // closed by Off
	once  sync.Once
	all   *Faults

	calls, hits int // guarded by all.mu
}

// Off ends the fault. Calls that hang or wait because of it go on.
func (t *Trouble) Off() {
	t.once.Do(func() {
		t.all.mu.Lock()
		defer t.all.mu.Unlock()
		t.all.on = slices.DeleteFunc(t.all.on, func(other *Trouble) bool { return other == t })
		close(t.off)
	})
}

// Hits returns how many calls the fault has struck; those that a quota let
// through are among them.
func (t *Trouble) Hits() int {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	return t.hits
}

// Faults are those that are switched on, in the order of that. A Host has some,
// which its calls meet; a service may have others, for what it does by itself.
// The zero value is ready, and safe for concurrent use.
type Faults struct {
	mu sync.Mutex
	on []*Trouble
}

// Fail switches a fault on.
func (f *Faults) Fail(fault Fault) *Trouble {
	t := &Trouble{fault: fault, began: time.Now(), off: make(chan struct{}), all: f}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = append(f.on, t)
	return t
}

// Heal switches all faults off.
func (f *Faults) Heal() {
	f.mu.Lock()
	on := slices.Clone(f.on)
	f.mu.Unlock()
	for _, t := range on {
		t.Off()
	}
}

// Fail switches a fault on. Several work together, in the order in which they
// were switched on; of several refusals the first counts. It panics if the fault
// is On an operation that there is not.
func (h *Host) Fail(f Fault) *Trouble {
	for _, name := range f.operations {
		if !h.config.Has(name) {
			panic(h.config.Service + " has no operation " + name)
		}
	}
	return h.faults.Fail(f)
}

// Heal switches all faults off.
func (h *Host) Heal() { h.faults.Heal() }

// Plan returns what is to go wrong with an operation; nil is nothing.
func (f *Faults) Plan(operation string, now time.Time) *Plan {
	f.mu.Lock()
	defer f.mu.Unlock()
	var p *Plan
	for _, t := range f.on {
		if !t.strikes(operation, now) {
			continue
		}
		if p == nil {
			p = &Plan{Operation: operation, Began: now}
		}
		t.fault.effect(p, Strike{Call: t.calls, Stored: t.fault.stored, off: t.off})
	}
	return p
}

// strikes counts a call and reports whether the fault is about it.
func (t *Trouble) strikes(operation string, now time.Time) bool {
	f := &t.fault
	if f.operations != nil && !slices.Contains(f.operations, operation) {
		return false
	}
	t.calls++
	switch {
	case t.calls <= f.after,
		f.times > 0 && t.hits >= f.times,
		f.period > 0 && now.Sub(t.began) >= f.period,
		f.when != nil && !f.when(t.calls):
		return false
	}
	t.hits++
	return true
}

// Plan is what is to go wrong with one call; nil is nothing.
type Plan struct {
	Operation string
	Began     time.Time

	steps   map[Stage][]step
	refusal *refusal
	answers []func(a *Answer)
	skew    time.Duration
	details []any
}

// step is something to do or to wait for at a stage.
type step func(c *Call) error

// refusal is the end of a call that is not served, or (stored) served and not
// told so. Without an error it has an empty answer.
type refusal struct {
	err    *Error
	stored bool
}

// Refuse ends the call with an error, or an empty answer if that is nil.
func (p *Plan) Refuse(err *Error, s Strike) {
	if p.refusal == nil {
		p.refusal = &refusal{err: err, stored: s.Stored}
	}
}

// Refusal returns the error that ends the call, nil if none does; a plan that is
// nil has none.
func (p *Plan) Refusal() *Error {
	if p == nil || p.refusal == nil {
		return nil
	}
	return p.refusal.err
}

// Spoil changes the answer.
func (p *Plan) Spoil(change func(a *Answer)) { p.answers = append(p.answers, change) }

// Add gives the plan something that the service knows what to do with: see
// Details.
func (p *Plan) Add(detail any) { p.details = append(p.details, detail) }

// Details returns what was added of a type; none from a plan that is nil.
func Details[T any](p *Plan) []T {
	if p == nil {
		return nil
	}
	var all []T
	for _, d := range p.details {
		if detail, ok := d.(T); ok {
			all = append(all, detail)
		}
	}
	return all
}

func (p *Plan) at(stage Stage, s step) {
	if p.steps == nil {
		p.steps = map[Stage][]step{}
	}
	p.steps[stage] = append(p.steps[stage], s)
}

// run does what stands at a stage. An error ends the call without an answer.
func (p *Plan) run(stage Stage, c *Call) error {
	if p == nil {
		return nil
	}
	for _, s := range p.steps[stage] {
		if err := s(c); err != nil {
			return err
		}
	}
	return nil
}
