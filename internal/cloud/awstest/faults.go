package awstest

import (
	"context"
	"net/http"
	"time"
)

// Stage is a moment in a call.
type Stage int

// The moments at which a call can hang or lose its connection.
const (
	// BeforeReading: the server has seen the headers and not the body. Nothing
	// is stored.
	BeforeReading Stage = iota
	// BeforeStoring: the server has read the call. Nothing is stored.
	BeforeStoring
	// AfterStoring: the call is done, and the sender does not hear of it.
	AfterStoring
)

// Calls answers with an error, and stores nothing.
func Calls(err *Error) Fault {
	return Effect(func(p *Plan, s Strike) { p.Refuse(err, s) })
}

// Hang leaves calls without an answer until their sender gives up; if the fault
// is switched off earlier, they go on. Before a call is read a server cannot
// see its sender leave: there it hangs until Off or Stop.
func Hang(at Stage) Fault {
	return Effect(func(p *Plan, s Strike) {
		p.at(at, func(c *Call) error { return c.session.wait(c.Request.Context(), -1, s.off) })
	})
}

// Disconnect closes the connection.
func Disconnect(at Stage) Fault {
	return Effect(func(p *Plan, _ Strike) {
		p.at(at, func(*Call) error { return http.ErrAbortHandler })
	})
}

// Delay makes calls take so long before they are served. A sender that gives up
// earlier finds what it sent stored all the same, and later than it thinks.
func Delay(d time.Duration) Fault { return DelayBy(func(int) time.Duration { return d }) }

// DelayBy is Delay with a time for each call, numbered from 1.
func DelayBy(wait func(call int) time.Duration) Fault {
	return Effect(func(p *Plan, s Strike) {
		d := wait(s.Call)
		p.at(BeforeStoring, func(c *Call) error { return c.session.wait(context.Background(), d, s.off) })
	})
}

// Do calls a function when a call has been read and nothing of it is stored yet:
// it may change what the double holds, or stop it.
func Do(f func()) Fault {
	return Effect(func(p *Plan, _ Strike) {
		p.at(BeforeStoring, func(*Call) error { f(); return nil })
	})
}

// Skew sets the clock of the host forward, or back if d is negative: it says so
// in the Date of its answers, and refuses what was signed more than five minutes
// from its time.
func Skew(d time.Duration) Fault {
	return Effect(func(p *Plan, _ Strike) { p.skew += d })
}

// CutAnswer closes the connection in the middle of the answer. The call is done.
func CutAnswer() Fault {
	return Effect(func(p *Plan, _ Strike) {
		p.Spoil(func(a *Answer) { a.cut = true })
	})
}

// CallQuota lets so many calls of each operation through in a second, with a
// second's worth at once, and refuses the others with err.
func CallQuota(perSecond int, err *Error) Fault {
	var q Quota
	return Effect(func(p *Plan, s Strike) {
		if !q.Take(p.Began, Amount{p.Operation, perSecond, 1}) {
			p.Refuse(err, s)
		}
	})
}

// Junk is an answer with status 200 that is none.
type Junk int

// What Rubbish answers.
const (
	// HTML is the page of something that stands in between. Nothing is stored.
	HTML Junk = iota
	// EmptyObject is {}. Nothing is stored.
	EmptyObject
	// EmptyBody has no byte. Nothing is stored.
	EmptyBody
	// HalfJSON is the first half of the answer. The call is done.
	HalfJSON
)

// Rubbish answers with status 200 and what is no answer. Where nothing is
// stored, Stored makes it so that everything is.
func Rubbish(j Junk) Fault {
	return Effect(func(p *Plan, s Strike) {
		if j == HalfJSON {
			p.Spoil(func(a *Answer) { a.Body = a.Body[:len(a.Body)/2] })
			return
		}
		p.Refuse(nil, s)
		p.Spoil(func(a *Answer) {
			switch j {
			case HTML:
				a.ContentType = "text/html"
				a.Body = []byte("<html><body><h1>Please sign in</h1></body></html>")
			case EmptyObject:
				a.Body = []byte("{}")
			case EmptyBody:
				a.Body = nil
			}
		})
	})
}
