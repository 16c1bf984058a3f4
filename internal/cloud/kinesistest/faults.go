package kinesistest

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// Stage is a moment in a call.
type Stage int

// The moments at which a call can hang or lose its connection.
const (
	// BeforeReading: the server has seen the headers and not the records.
	// Nothing is stored.
	BeforeReading Stage = iota
	// BeforeStoring: the server has read the call. Nothing is stored.
	BeforeStoring
	// AfterStoring: the records are stored, and the sender does not hear of it.
	AfterStoring
)

// Calls answers with an error, and stores nothing.
func Calls(err *Error) Fault {
	return Fault{effect: func(p *plan, t *Trouble) { p.refuse(err, t) }}
}

// Records fails k records of each call, spread evenly over it, or all if there
// are fewer. A PutRecord call fails as a whole.
func Records(k int, err *Error) Fault {
	return records(err, func(_, i, n int, _ *Record) bool { return k >= n || (i+1)*k/n > i*k/n })
}

// RecordsWhere fails the records that pick chooses. Calls are numbered from 1,
// records in a call from 0; calls may be picked from concurrently.
func RecordsWhere(pick func(call, i int, r Record) bool, err *Error) Fault {
	return records(err, func(call, i, _ int, r *Record) bool { return pick(call, i, *r) })
}

// Throttle fails the records of these shards, or of all, as over their limit.
func Throttle(shards ...string) Fault {
	return records(Throughput, func(_, _, _ int, r *Record) bool {
		return len(shards) == 0 || slices.Contains(shards, r.Shard)
	})
}

// records fails the records that pick chooses: i is one of n in a call.
func records(err *Error, pick func(call, i, n int, r *Record) bool) Fault {
	return Fault{operations: puts, effect: func(p *plan, t *Trouble) {
		call := t.calls
		p.records = append(p.records, recordFault{
			pick: func(i, n int, r *Record) bool { return pick(call, i, n, r) },
			err:  err, stored: t.fault.stored,
		})
	}}
}

// Hang leaves calls without an answer until their sender gives up; if the fault
// is switched off earlier, they go on. Before a call is read a server cannot
// see its sender leave: there it hangs until Off or Stop.
func Hang(at Stage) Fault {
	return Fault{effect: func(p *plan, t *Trouble) {
		p.at(at, func(c *call) error { return c.session.wait(c.request.Context(), -1, t.off) })
	}}
}

// Disconnect closes the connection.
func Disconnect(at Stage) Fault {
	return Fault{effect: func(p *plan, _ *Trouble) {
		p.at(at, func(*call) error { return http.ErrAbortHandler })
	}}
}

// Delay makes calls take so long before they are served. A sender that gives up
// earlier finds its records stored all the same, and later than it thinks.
func Delay(d time.Duration) Fault { return DelayBy(func(int) time.Duration { return d }) }

// DelayBy is Delay with a time for each call, numbered from 1.
func DelayBy(wait func(call int) time.Duration) Fault {
	return Fault{effect: func(p *plan, t *Trouble) {
		d := wait(t.calls)
		p.at(BeforeStoring, func(c *call) error { return c.session.wait(context.Background(), d, t.off) })
	}}
}

// Do calls a function when a call has been read and its records are not stored
// yet: it may split and merge shards, delete the stream or stop the server.
func Do(f func()) Fault {
	return Fault{effect: func(p *plan, _ *Trouble) {
		p.at(BeforeStoring, func(*call) error { f(); return nil })
	}}
}

// Skew sets the clock of the server forward, or back if d is negative: it says
// so in the Date of its answers, and refuses what was signed more than five
// minutes from its time.
func Skew(d time.Duration) Fault {
	return Fault{effect: func(p *plan, _ *Trouble) { p.skew += d }}
}

// CutAnswer closes the connection in the middle of the answer. The records are
// stored.
func CutAnswer() Fault {
	return Fault{effect: func(p *plan, _ *Trouble) {
		p.answers = append(p.answers, func(a *answer) { a.cut = true })
	}}
}

// Junk is what Rubbish answers.
type Junk int

// Answers with status 200 that are none.
const (
	// HTML is the page of something that stands in between. Nothing is stored.
	HTML Junk = iota
	// EmptyObject is {}. Nothing is stored.
	EmptyObject
	// EmptyBody has no byte. Nothing is stored.
	EmptyBody
	// NoSequence is results with neither a sequence number nor an error.
	// Nothing is stored.
	NoSequence
	// HalfJSON is the first half of the answer. The records are stored.
	HalfJSON
	// FewerResults lacks the last result. The records are stored.
	FewerResults
	// MoreResults has one result twice. The records are stored.
	MoreResults
)

// Rubbish answers with status 200 and what is no answer to a PutRecords call.
// Where nothing is stored, Stored makes it so that everything is.
func Rubbish(j Junk) Fault {
	return Fault{operations: puts, effect: func(p *plan, t *Trouble) {
		spoil := func(f func(a *answer)) { p.answers = append(p.answers, f) }
		change := func(f func([]result) []result) { p.results = append(p.results, f) }
		switch j {
		case HTML:
			p.refuse(nil, t)
			spoil(func(a *answer) {
				a.contentType = "text/html"
				a.body = []byte("<html><body><h1>Please sign in</h1></body></html>")
			})
		case EmptyObject:
			p.refuse(nil, t)
			spoil(func(a *answer) { a.body = []byte("{}") })
		case EmptyBody:
			p.refuse(nil, t)
			spoil(func(a *answer) { a.body = nil })
		case NoSequence:
			records(untold, func(_, _, _ int, _ *Record) bool { return true }).effect(p, t)
		case HalfJSON:
			spoil(func(a *answer) { a.body = a.body[:len(a.body)/2] })
		case FewerResults:
			change(func(results []result) []result { return results[:max(len(results)-1, 0)] })
		case MoreResults:
			change(func(results []result) []result { return append(results, results[:min(len(results), 1)]...) })
		}
	}}
}
