package kinesistest

import (
	"slices"
	"sync"
	"time"
)

// Fault is what a server can be made to do wrong, by Server.Fail. It is a
// value: the methods return a narrower one.
//
//	server.Fail(kinesistest.Calls(kinesistest.Unavailable).On("PutRecords").After(10).Times(2))
type Fault struct {
	operations []string
	after      int
	times      int
	period     time.Duration
	when       func(call int) bool
	stored     bool
	effect     func(p *plan, t *Trouble)
}

// puts are the operations that write.
var puts = []string{"PutRecord", "PutRecords"}

// On makes the fault strike these operations only. Without it a fault about
// records strikes PutRecord and PutRecords, any other fault every operation.
func (f Fault) On(names ...string) Fault {
	for _, name := range names {
		if operations[name] == nil {
			panic("kinesistest: no operation " + name)
		}
	}
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

// Stored makes a fault that would refuse records store them all the same: the
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
	all   *faults

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

// faults are those that are switched on, in the order of that.
type faults struct {
	mu sync.Mutex
	on []*Trouble
}

// Fail switches a fault on. Several work together, in the order in which they
// were switched on; of several refusals the first counts.
func (s *Server) Fail(f Fault) *Trouble {
	t := &Trouble{fault: f, began: time.Now(), off: make(chan struct{}), all: &s.faults}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.on = append(s.faults.on, t)
	return t
}

// Heal switches all faults off.
func (s *Server) Heal() {
	s.faults.mu.Lock()
	on := slices.Clone(s.faults.on)
	s.faults.mu.Unlock()
	for _, t := range on {
		t.Off()
	}
}

// plan returns what is to go wrong with a call; nil is nothing.
func (f *faults) plan(operation string, now time.Time) *plan {
	f.mu.Lock()
	defer f.mu.Unlock()
	var p *plan
	for _, t := range f.on {
		if !t.strikes(operation, now) {
			continue
		}
		if p == nil {
			p = &plan{operation: operation, began: now}
		}
		t.fault.effect(p, t)
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

// plan is what is to go wrong with one call; nil is nothing.
type plan struct {
	operation string
	began     time.Time

	steps   map[Stage][]step
	refusal *refusal
	records []recordFault
	results []func(results []result) []result
	answers []func(a *answer)
	skew    time.Duration
}

// step is something to do or to wait for at a stage.
type step func(c *call) error

// refusal is the end of a call that is not served, or (stored) served and not
// told so. Without an error it has an empty answer.
type refusal struct {
	err    *Error
	stored bool
}

// recordFault refuses single records of a call: the first whose pick says so.
type recordFault struct {
	pick   func(i, n int, r *Record) bool
	err    *Error
	stored bool
}

func (p *plan) refuse(err *Error, t *Trouble) {
	if p.refusal == nil {
		p.refusal = &refusal{err: err, stored: t.fault.stored}
	}
}

func (p *plan) at(stage Stage, s step) {
	if p.steps == nil {
		p.steps = map[Stage][]step{}
	}
	p.steps[stage] = append(p.steps[stage], s)
}

// run does what stands at a stage. An error ends the call without an answer.
func (p *plan) run(stage Stage, c *call) error {
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

// refuses returns the error of record i of n, and whether it is stored all the
// same; nil if nothing is wrong with it.
func (p *plan) refuses(i, n int, r *Record) (*Error, bool) {
	if p == nil {
		return nil, false
	}
	for _, f := range p.records {
		if f.pick(i, n, r) {
			return f.err, f.stored
		}
	}
	return nil, false
}
