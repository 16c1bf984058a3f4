package lambdatest

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Stage is a moment in a call or in a run.
type Stage int

// The moments at which something can go wrong.
const (
	// BeforeAccepting: the endpoint has read the call. Nothing has begun.
	BeforeAccepting Stage = iota
	// AfterAccepting: an asynchronous event is in its queue, a synchronous
	// function has run, and the caller does not hear of it.
	AfterAccepting
	// BeforeRunning: the function has not seen the event.
	BeforeRunning
	// AfterRunning: the function has done its work, and its answer is lost.
	AfterRunning
)

// Fault is what a server can be made to do wrong, by Server.Fail. There are
// faults of calls, which a caller of the Invoke endpoint meets, and faults of
// runs, which whoever invokes a function meets: a synchronous caller, the queue
// of asynchronous events, an event source mapping. A fault is a value: the
// methods return a narrower one.
//
//	lambda.Fail(lambdatest.Calls(lambdatest.Throttled).Of("postgres").After(10).Times(2))
type Fault struct {
	runs      bool
	functions []string
	after     int
	times     int
	period    time.Duration
	when      func(n int) bool
	accepted  bool
	effect    func(p *plan, t *Trouble)
}

// Of makes the fault strike calls or runs of these functions only.
func (f Fault) Of(functions ...string) Fault {
	f.functions = functions
	return f
}

// After leaves the first ones alone.
func (f Fault) After(n int) Fault {
	f.after = n
	return f
}

// Times ends the fault after it struck so often.
func (f Fault) Times(n int) Fault {
	f.times = n
	return f
}

// For ends the fault that long after it was switched on.
func (f Fault) For(d time.Duration) Fault {
	f.period = d
	return f
}

// When makes the fault strike those that pick chooses; they are numbered from 1.
// It is not called concurrently.
func (f Fault) When(pick func(n int) bool) Fault {
	f.when = pick
	return f
}

// Accepted makes a fault that would refuse calls accept them all the same: the
// answer lies.
func (f Fault) Accepted() Fault {
	f.accepted = true
	return f
}

// Calls answers calls with an error, and accepts nothing.
func Calls(err *Error) Fault {
	return Fault{effect: func(p *plan, t *Trouble) {
		if p.refuse == nil {
			p.refuse, p.accepted = err, t.fault.accepted
		}
	}}
}

// Disconnect closes the connections of calls, BeforeAccepting or AfterAccepting.
func Disconnect(at Stage) Fault {
	return Fault{effect: func(p *plan, _ *Trouble) {
		p.at(at, func(context.Context, *Server) error { return http.ErrAbortHandler })
	}}
}

// LostAnswer closes the connection of a call that was accepted.
func LostAnswer() Fault { return Disconnect(AfterAccepting) }

// Hang leaves calls without an answer until their caller gives up, from
// BeforeAccepting or AfterAccepting on; if the fault is switched off earlier,
// they go on.
func Hang(at Stage) Fault {
	return Fault{effect: func(p *plan, t *Trouble) {
		p.at(at, func(ctx context.Context, s *Server) error { return s.hold(ctx, -1, t.off) })
	}}
}

// Delay makes calls wait so long before they are accepted. What a caller gave up
// meanwhile is accepted all the same, and later than it thinks.
func Delay(d time.Duration) Fault { return DelayBy(func(int) time.Duration { return d }) }

// DelayBy is Delay with a time for each call, numbered from 1.
func DelayBy(wait func(n int) time.Duration) Fault {
	return Fault{effect: func(p *plan, t *Trouble) {
		d := wait(t.calls)
		p.at(BeforeAccepting, func(_ context.Context, s *Server) error { return s.hold(s.ctx, d, t.off) })
	}}
}

// Do calls a function when a call has been read and nothing is accepted yet.
func Do(f func()) Fault {
	return Fault{effect: func(p *plan, _ *Trouble) {
		p.at(BeforeAccepting, func(context.Context, *Server) error { f(); return nil })
	}}
}

// Runs refuses runs with an error: Throttled as for want of a free environment,
// or one of the service. A synchronous caller gets that answer; an asynchronous
// event waits and tries again, as does a batch from Kinesis; one from SQS comes
// back when its messages are visible again.
func Runs(err *Error) Fault {
	return Fault{runs: true, effect: func(p *plan, _ *Trouble) {
		if p.refuse == nil {
			p.refuse = err
		}
	}}
}

// Crash ends the environment of runs, BeforeRunning or AfterRunning: a function
// error. The next run starts another.
func Crash(at Stage) Fault {
	return Fault{runs: true, effect: func(p *plan, _ *Trouble) { p.crash = append(p.crash, at) }}
}

// hold waits for d, or for ever if d is negative. It ends early when stop is
// closed, and fails when ctx is done or the server ends.
func (s *Server) hold(ctx context.Context, d time.Duration, stop <-chan struct{}) error {
	var timer <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
		return nil
	case <-stop:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
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

// Hits returns how many calls or runs the fault has struck.
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

// call and run return what is to go wrong with a call or a run; nil is nothing.
func (f *faults) call(function string) *plan { return f.plan(function, false) }
func (f *faults) run(function string) *plan  { return f.plan(function, true) }

func (f *faults) plan(function string, run bool) *plan {
	f.mu.Lock()
	defer f.mu.Unlock()
	var p *plan
	for _, t := range f.on {
		if t.fault.runs != run || !t.strikes(function) {
			continue
		}
		if p == nil {
			p = &plan{}
		}
		t.fault.effect(p, t)
	}
	return p
}

// strikes counts and reports whether the fault is about this one.
func (t *Trouble) strikes(function string) bool {
	f := &t.fault
	if f.functions != nil && !slices.Contains(f.functions, function) {
		return false
	}
	t.calls++
	switch {
	case t.calls <= f.after,
		f.times > 0 && t.hits >= f.times,
		f.period > 0 && time.Since(t.began) >= f.period,
		f.when != nil && !f.when(t.calls):
		return false
	}
	t.hits++
	return true
}

// plan is what is to go wrong with one call or run; nil is nothing.
type plan struct {
	steps    map[Stage][]func(ctx context.Context, s *Server) error
	refuse   *Error
	accepted bool // though refused
	crash    []Stage
}

func (p *plan) at(stage Stage, step func(ctx context.Context, s *Server) error) {
	if p.steps == nil {
		p.steps = map[Stage][]func(context.Context, *Server) error{}
	}
	p.steps[stage] = append(p.steps[stage], step)
}

// do does what stands at a stage. An error ends the call without an answer.
func (p *plan) do(stage Stage, ctx context.Context, s *Server) error {
	if p == nil {
		return nil
	}
	for _, step := range p.steps[stage] {
		if err := step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) refusal() *Error {
	if p == nil {
		return nil
	}
	return p.refuse
}

func (p *plan) crashes(stage Stage) bool { return p != nil && slices.Contains(p.crash, stage) }
