package sqstest

import "github.com/eventsluice/sluice/internal/cloud/awstest"

// Fault is what a server can be made to do wrong, by Server.Fail. Those that any
// service can have are made by awstest: Calls, CallQuota, Hang, Disconnect,
// Delay, Do, Skew, CutAnswer, Rubbish.
//
//	server.Fail(awstest.Calls(sqstest.Throttled).On("SendMessageBatch").After(10).Times(2))
//
// Those made here are, unless On says otherwise, about calls that send, or
// receive.
type Fault = awstest.Fault

// Trouble is a fault that is switched on.
type Trouble = awstest.Trouble

// Entry is one of a batch, or all that a call is about.
type Entry struct {
	ID      string  // empty outside of a batch
	Message Message // of one that sends
	Receipt string  // of any other
}

// sends are the operations that store messages.
var sends = []string{"SendMessage", "SendMessageBatch"}

// Entries fails k entries of each batch, spread evenly over it, or all if there
// are fewer. A call without a batch fails as a whole. Beside sends it can be On
// DeleteMessage, ChangeMessageVisibility and batches of them.
func Entries(k int, err *Error) Fault {
	return entries(err, func(_, i, n int, _ Entry) bool { return k >= n || (i+1)*k/n > i*k/n })
}

// EntriesWhere fails the entries that pick chooses. Calls are numbered from 1,
// entries in a call from 0. Picks are not called concurrently, and may not call
// the server.
func EntriesWhere(pick func(call, i int, e Entry) bool, err *Error) Fault {
	return entries(err, func(call, i, _ int, e Entry) bool { return pick(call, i, e) })
}

// Unanswered leaves k entries of each batch out of the answer: they have neither
// succeeded nor failed. They are not stored, unless it is Stored. It is not for
// calls without a batch.
func Unanswered(k int) Fault { return Entries(k, untold).On("SendMessageBatch") }

// untold stands for an entry that the answer does not have.
var untold = &Error{}

// entryFault refuses single entries of a call.
type entryFault struct {
	pick   func(i, n int, e Entry) bool
	err    *Error
	stored bool
}

func entries(err *Error, pick func(call, i, n int, e Entry) bool) Fault {
	return awstest.Effect(func(p *awstest.Plan, s awstest.Strike) {
		p.Add(entryFault{
			pick: func(i, n int, e Entry) bool { return pick(s.Call, i, n, e) },
			err:  err, stored: s.Stored,
		})
	}).On(sends...)
}

// refuses returns the error of entry i of n, and whether it is done all the same;
// nil if nothing is wrong with it.
func (c call) refuses(i, n int, e Entry) (*Error, bool) {
	for _, f := range awstest.Details[entryFault](c.Plan) {
		if f.pick(i, n, e) {
			return f.err, f.stored
		}
	}
	return nil, false
}

// again says that what is received stays visible.
type again struct{}

// Again makes messages that are received visible at once, so that the next who
// receives gets them too: at least once is not exactly once.
func Again() Fault {
	return awstest.Effect(func(p *awstest.Plan, _ awstest.Strike) { p.Add(again{}) }).On("ReceiveMessage")
}
