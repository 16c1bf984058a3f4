package lambdatest

import (
	"slices"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// Fault is what a server can be made to do wrong: by Server.Fail what a caller
// of the Invoke endpoint meets, by Server.FailRuns what everybody meets who has
// a function run. It is a value: the methods return a narrower one. On takes
// names of functions; Stored accepts what is refused all the same.
//
//	lambda.Fail(lambdatest.Calls(lambdatest.CallerThrottled).On("crm").After(10).Times(2))
type Fault = awstest.Fault

// Trouble is a fault that is switched on.
type Trouble = awstest.Trouble

// Stage is a moment in a call or in a run.
type Stage = awstest.Stage

// The moments at which something can go wrong.
const (
	// BeforeAccepting: the endpoint has read the call. Nothing has begun.
	BeforeAccepting = awstest.BeforeStoring
	// AfterAccepting: an asynchronous event is in its queue, a synchronous
	// function has run, and the caller does not hear of it.
	AfterAccepting = awstest.AfterStoring
	// BeforeRunning: the function has not seen the event.
	BeforeRunning = awstest.BeforeStoring
	// AfterRunning: the function has done its work, and its answer is lost.
	AfterRunning = awstest.AfterStoring
)

// Calls refuses calls, or runs, with an error. Runs are refused with Throttled as
// for want of a free environment, or with an error of the service: a synchronous
// caller gets that answer; an asynchronous event waits and tries again, as does
// a batch from Kinesis, and one from SQS while its messages are not visible.
func Calls(err *Error) Fault { return awstest.Calls(err) }

// LostAnswer closes the connection of a call that was accepted.
func LostAnswer() Fault { return awstest.Disconnect(AfterAccepting) }

// Disconnect closes the connections of calls.
func Disconnect(at Stage) Fault { return awstest.Disconnect(at) }

// Hang leaves calls without an answer until their caller gives up; if the fault
// is switched off earlier, they go on.
func Hang(at Stage) Fault { return awstest.Hang(at) }

// Delay makes calls wait so long before they are accepted. What a caller gave up
// meanwhile is accepted all the same, and later than it thinks.
func Delay(d time.Duration) Fault { return awstest.Delay(d) }

// crash is a detail of a plan.
type crash Stage

// Crash ends the environment of runs, BeforeRunning or AfterRunning: a function
// error. The next run starts another. It is for FailRuns.
func Crash(at Stage) Fault {
	return awstest.Effect(func(p *awstest.Plan, _ awstest.Strike) { p.Add(crash(at)) })
}

func crashes(p *awstest.Plan, at Stage) bool {
	return slices.Contains(awstest.Details[crash](p), crash(at))
}

// FailRuns switches on a fault of runs: Calls or Crash. A run is one try to
// invoke a function, by a synchronous caller, the queue of asynchronous events
// or an event source mapping.
func (s *Server) FailRuns(f Fault) *Trouble { return s.runs.Fail(f) }

// Heal switches all faults off, those of calls and those of runs.
func (s *Server) Heal() {
	s.Host.Heal()
	s.runs.Heal()
}
