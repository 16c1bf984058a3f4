package source

import (
	"sync/atomic"
	"time"
)

// Restriction is one thing that a key can demand of what is sent with it.
type Restriction uint8

// The restrictions of a key, each by the field of the document that it has.
const (
	RestrictOrigins   Restriction = iota // the web origin of the request
	RestrictEvents                       // the names of events
	RestrictIPs                          // the address of the sender
	RestrictSignature                    // a signature of the body
	RestrictToken                        // a token, and that events are its user's
	RestrictRate                         // events of the key
	RestrictUserRate                     // events of one user
	RestrictEventRate                    // events of one name
	Restrictions                         // how many there are
)

var restrictionNames = [Restrictions]string{
	RestrictOrigins: "origins", RestrictEvents: "events", RestrictIPs: "ips", RestrictSignature: "signature",
	RestrictToken: "token", RestrictRate: "rate", RestrictUserRate: "user_rate", RestrictEventRate: "event_rate",
}

// String returns the name of the restriction in documents and metrics.
func (r Restriction) String() string { return restrictionNames[r] }

// Mode is what becomes of a request, or an event, that does not meet a
// restriction.
type Mode uint8

const (
	// Enforce refuses it. It is the default.
	Enforce Mode = iota
	// Observe lets it pass, counts it and logs it: for a new restriction, until
	// the count says whom it would hit.
	Observe
	// Off lets it pass. The restriction is not looked at.
	Off
)

var modeNames = [...]string{Enforce: "enforce", Observe: "observe", Off: "off"}

// String returns the name of the mode in documents.
func (m Mode) String() string { return modeNames[m] }

// observed counts what passed in mode observe. It passes from one table of
// keys to the next, by the id of the key.
type observed [Restrictions]struct {
	count  atomic.Uint64
	logged atomic.Int64 // when, in nanoseconds of Unix time
}

// logInterval is how often one restriction of one key may be logged.
const logInterval = time.Minute

// WouldRefuse counts one request, or event, that mode Observe let pass. It
// returns how many there are by now, and whether to log this one: once a minute
// for each restriction of a key.
func (k *Key) WouldRefuse(r Restriction, now time.Time) (count uint64, log bool) {
	o := &k.observed[r]
	count = o.count.Add(1)
	last := o.logged.Load()
	log = now.UnixNano()-last >= int64(logInterval) && o.logged.CompareAndSwap(last, now.UnixNano())
	return count, log
}

// Observation is how often one restriction of a key would have refused.
type Observation struct {
	Key         string
	Restriction Restriction
	// Count is in requests; of events and users, in events.
	Count uint64
}

// Observed returns what mode Observe has let pass since the start of the
// process, those of 0 left out.
func (ks *Keys) Observed() []Observation {
	var all []Observation
	for _, k := range ks.list {
		if k.observed == nil {
			continue
		}
		for r := range Restrictions {
			if n := k.observed[r].count.Load(); n > 0 {
				all = append(all, Observation{Key: k.ID, Restriction: r, Count: n})
			}
		}
	}
	return all
}

// Reason says why a token or a signature was not accepted.
type Reason uint8

// The reasons.
const (
	// Undecided is not the sender's fault: it may try again as it is.
	Undecided Reason = iota
	InvalidToken
	ExpiredToken
	MissingToken
	MissingSignature
	InvalidSignature
	StaleSignature
	ReplayedSignature
	Reasons // how many there are
)

// Refusal is why a token or a signature was not accepted. Detail may be shown
// to the sender: it holds nothing of the token, the secret or the signature.
type Refusal struct {
	Reason Reason
	Detail string
	// RetryAfter is how long to wait, if the reason is Undecided.
	RetryAfter time.Duration
	// Err is the cause, for the log only; nil if Detail says it all.
	Err error
}

// Error returns Detail.
func (r *Refusal) Error() string { return r.Detail }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }
