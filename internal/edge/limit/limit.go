// Package limit is about how much may be sent: token buckets for keys,
// addresses, users and event names, kept by one gateway alone or shared by all
// of them through Redis.
//
// # The bucket
//
// A bucket is one time: when it will be full again. Taking n events moves that
// time n intervals on, an interval being what one event takes to grow back; n
// events are there if that leaves it no further ahead of now than the burst
// takes to grow back. (The generic cell rate algorithm calls it the theoretical
// arrival time.) So a bucket is eight bytes, a full one and one that nobody
// knows are the same, and what a gateway remembers and what Redis does compare
// as durations, without their clocks having to agree.
//
// # Whole requests and single events
//
// The rates of a key and of an address admit a request whole or not at all: a
// batch cannot be split by the gateway. A batch larger than the burst is
// admitted by a full bucket and leaves a debt that the following wait for;
// otherwise it would be refused for ever. The rates of users and event names
// judge each event by itself: the neighbours of one that is over pass.
//
// # What it promises
//
// A request that is refused takes nothing from the buckets of its key, and an
// event that is over nothing from those of its user and name. Memory is bounded by
// Config.MaxBuckets. Nobody waits for Redis longer than its timeout, and while
// it is away nobody waits for it at all.
package limit

import (
	"crypto/sha256"
	"strconv"
	"time"
)

// Rate is a token bucket in events.
type Rate struct {
	// PerSecond is how many events a second are allowed in the long run.
	PerSecond float64 `json:"per_second" validate:"gt=0,lte=1e9"`
	// Burst is how many events may come at once after a pause. Default:
	// PerSecond, rounded up.
	Burst int `json:"burst,omitempty" validate:"gte=0,lte=1000000000"`
}

// burst returns Burst with its default.
func (r Rate) burst() int {
	if r.Burst > 0 {
		return r.Burst
	}
	return max(1, int(r.PerSecond+0.999999))
}

// String returns the rate in words: "5 events a second, 20 at once".
func (r Rate) String() string {
	return strconv.FormatFloat(r.PerSecond, 'g', -1, 64) + " events a second, " + strconv.Itoa(r.burst()) + " at once"
}

// Kind is what a rule counts by.
type Kind uint8

// The kinds of rules. The first three admit whole requests, the others single
// events.
const (
	Key        Kind = iota // events of a key
	Address                // requests of an address
	KeyAddress             // events of an address that come with a key
	User                   // events of a user that come with a key
	Name                   // events of a name that come with a key
	kinds
)

var kindNames = [kinds]string{Key: "key", Address: "address", KeyAddress: "key_address", User: "user", Name: "event"}

func (k Kind) String() string { return kindNames[k] }

// maxAhead bounds how far from full a bucket can get, and so what a burst and a
// debt can be: it keeps sums within 63 bits, and what Redis computes within the
// 53 of a double.
const maxAhead = 10 * 365 * 24 * time.Hour

// maxWait is the longest wait that is asked for.
const maxWait = 24 * time.Hour

// Rule is a rate, and what it is the rate of. It is immutable.
type Rule struct {
	kind     Kind
	rate     Rate
	observe  bool
	interval float64       // nanoseconds that one event takes to grow back
	burst    time.Duration // what the burst takes
	prefix   string        // of what a bucket is known by
	shared   string        // of its key in Redis
	own      ID
}

// NewRule returns a rule of the owner, a key's id or "" for the gateway. With
// observe it refuses nothing; what it would have refused can be asked of the
// Request.
//
// A bucket is known by kind, owner, rate and what it is for: with a new rate
// it begins full, and with the same it goes on, also after the keys have been
// read again.
func NewRule(kind Kind, owner string, rate Rate, observe bool) *Rule {
	r := &Rule{kind: kind, rate: rate, observe: observe, interval: float64(time.Second) / rate.PerSecond}
	r.burst = r.cost(rate.burst())
	r.prefix = kind.String() + "\x00" + owner + "\x00" +
		strconv.FormatFloat(rate.PerSecond, 'g', -1, 64) + "/" + strconv.Itoa(rate.burst()) + "\x00"
	r.shared = sharedPrefix(kind, owner)
	r.own = r.id()
	return r
}

// Kind returns what the rule counts by.
func (r *Rule) Kind() Kind { return r.kind }

// Rate returns the rule's rate.
func (r *Rule) Rate() Rate { return r.rate }

// Rules are those of a key; each is nil if the key has no such rate.
type Rules struct {
	Key, Address, User, Name *Rule
}

// PerEvent reports whether there are rules that judge each event by itself. It
// is false for nil.
func (r *Rules) PerEvent() bool { return r != nil && (r.User != nil || r.Name != nil) }

// ID is what a bucket is known by: a hash, so that the memory of a bucket does
// not depend on what a sender calls a user, and Redis learns no names.
type ID [16]byte

// Bucket names one bucket. The zero value is none: it admits everything.
type Bucket struct {
	rule *Rule
	id   ID
}

// Own returns the one bucket of a rule that counts by nothing else, such as
// the rate of a key.
func (r *Rule) Own() Bucket {
	if r == nil {
		return Bucket{}
	}
	return Bucket{r, r.own}
}

// Of returns the bucket of a user, a name or an address, which may have several
// parts. It does not keep what. That of a nil rule is none.
func (r *Rule) Of(what ...string) Bucket {
	if r == nil {
		return Bucket{}
	}
	return Bucket{r, r.id(what...)}
}

func (r *Rule) id(what ...string) ID {
	var room [256]byte // most fit, and then nothing is allocated
	text := append(room[:0], r.prefix...)
	for _, part := range what {
		text = append(append(text, part...), 0)
	}
	sum := sha256.Sum256(text)
	return ID(sum[:16])
}

// cost is how long n events take to grow back.
func (r *Rule) cost(n int) time.Duration {
	if c := float64(n) * r.interval; c < float64(maxAhead) {
		return time.Duration(c)
	}
	return maxAhead
}

// need is what must be there for n events to be admitted: they themselves, or
// a full bucket if they are more than the burst.
func (r *Rule) need(n int) time.Duration { return min(r.cost(n), r.burst) }

// missing returns how long it takes until a bucket that is full in ahead
// admits n events: zero if it does now.
func (r *Rule) missing(ahead time.Duration, n int) time.Duration {
	return max(ahead+r.need(n)-r.burst, 0)
}
