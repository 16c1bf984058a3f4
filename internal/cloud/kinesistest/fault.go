package kinesistest

import (
	"slices"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// Fault is what a server can be made to do wrong, by Server.Fail. It is a
// value: the methods return a narrower one.
//
//	server.Fail(kinesistest.Calls(kinesistest.Unavailable).On("PutRecords").After(10).Times(2))
//
// Without On a fault about records strikes PutRecord and PutRecords, any other
// fault every operation.
type Fault = awstest.Fault

// Trouble is a fault that is switched on.
type Trouble = awstest.Trouble

// Stage is a moment in a call.
type Stage = awstest.Stage

// The moments at which a call can hang or lose its connection.
const (
	// BeforeReading: the server has seen the headers and not the records.
	// Nothing is stored.
	BeforeReading = awstest.BeforeReading
	// BeforeStoring: the server has read the call. Nothing is stored.
	BeforeStoring = awstest.BeforeStoring
	// AfterStoring: the records are stored, and the sender does not hear of it.
	AfterStoring = awstest.AfterStoring
)

// puts are the operations that write.
var puts = []string{"PutRecord", "PutRecords"}

// recordFault refuses single records of a call: the first whose pick says so.
type recordFault struct {
	pick   func(i, n int, r *Record) bool
	err    *Error
	stored bool
}

// resultFault changes the results of a call.
type resultFault func(results []result) []result

// refuses returns the error of record i of n, and whether it is stored all the
// same; nil if nothing is wrong with it.
func refuses(faults []recordFault, i, n int, r *Record) (*Error, bool) {
	for _, f := range faults {
		if f.pick(i, n, r) {
			return f.err, f.stored
		}
	}
	return nil, false
}

// Calls answers with an error, and stores nothing.
func Calls(err *Error) Fault { return awstest.Calls(err) }

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
	return awstest.Effect(func(p *awstest.Plan, s awstest.Strike) {
		p.Add(recordFault{
			pick: func(i, n int, r *Record) bool { return pick(s.Call, i, n, r) },
			err:  err, stored: s.Stored,
		})
	}).On(puts...)
}

// Hang leaves calls without an answer until their sender gives up; if the fault
// is switched off earlier, they go on. Before a call is read a server cannot
// see its sender leave: there it hangs until Off or Stop.
func Hang(at Stage) Fault { return awstest.Hang(at) }

// Disconnect closes the connection.
func Disconnect(at Stage) Fault { return awstest.Disconnect(at) }

// Delay makes calls take so long before they are served. A sender that gives up
// earlier finds its records stored all the same, and later than it thinks.
func Delay(d time.Duration) Fault { return awstest.Delay(d) }

// DelayBy is Delay with a time for each call, numbered from 1.
func DelayBy(wait func(call int) time.Duration) Fault { return awstest.DelayBy(wait) }

// Do calls a function when a call has been read and its records are not stored
// yet: it may split and merge shards, delete the stream or stop the server.
func Do(f func()) Fault { return awstest.Do(f) }

// Skew sets the clock of the server forward, or back if d is negative: it says
// so in the Date of its answers, and refuses what was signed more than five
// minutes from its time.
func Skew(d time.Duration) Fault { return awstest.Skew(d) }

// CutAnswer closes the connection in the middle of the answer. The records are
// stored.
func CutAnswer() Fault { return awstest.CutAnswer() }

// Junk is what Rubbish answers.
type Junk = awstest.Junk

// Answers with status 200 that are none.
const (
	// HTML is the page of something that stands in between. Nothing is stored.
	HTML = awstest.HTML
	// EmptyObject is {}. Nothing is stored.
	EmptyObject = awstest.EmptyObject
	// EmptyBody has no byte. Nothing is stored.
	EmptyBody = awstest.EmptyBody
	// HalfJSON is the first half of the answer. The records are stored.
	HalfJSON = awstest.HalfJSON
	// NoSequence is results with neither a sequence number nor an error.
	// Nothing is stored.
	NoSequence Junk = iota + 100
	// FewerResults lacks the last result. The records are stored.
	FewerResults
	// MoreResults has one result twice. The records are stored.
	MoreResults
)

// Rubbish answers with status 200 and what is no answer to a PutRecords call.
// Where nothing is stored, Stored makes it so that everything is.
func Rubbish(j Junk) Fault {
	change := func(f resultFault) Fault {
		return awstest.Effect(func(p *awstest.Plan, _ awstest.Strike) { p.Add(f) }).On(puts...)
	}
	switch j {
	case NoSequence:
		return records(untold, func(_, _, _ int, _ *Record) bool { return true })
	case FewerResults:
		return change(func(results []result) []result { return results[:max(len(results)-1, 0)] })
	case MoreResults:
		return change(func(results []result) []result { return append(results, results[:min(len(results), 1)]...) })
	}
	return awstest.Rubbish(j).On(puts...)
}

// What a shard takes. Source: API reference, PutRecords.
const (
	ShardRecords = 1000    // a second
	ShardBytes   = 1 << 20 // a second, data and partition keys
)

// ShardQuota lets every shard take so many records and bytes a second, with a
// second's worth at once, and fails the records above it. AWS's own are
// ShardQuota(ShardRecords, ShardBytes).
func ShardQuota(recordsPerSecond, bytesPerSecond int) Fault {
	var q awstest.Quota
	return records(Throughput, func(_, _, _ int, r *Record) bool {
		return !q.Take(time.Now(),
			awstest.Amount{Bucket: "records of " + r.Shard, PerSecond: recordsPerSecond, Wanted: 1},
			awstest.Amount{Bucket: "bytes of " + r.Shard, PerSecond: bytesPerSecond, Wanted: r.size()})
	})
}

// CallQuota lets so many calls of each operation through in a second, and
// refuses the others with err, such as Limit.
func CallQuota(perSecond int, err *Error) Fault { return awstest.CallQuota(perSecond, err) }
