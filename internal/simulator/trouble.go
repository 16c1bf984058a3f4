package simulator

import (
	"sync/atomic"
	"time"
)

// Trouble is how a vendor misbehaves. The zero value: not at all. Which calls a
// share hits is decided by Seed and the number of the call since Trouble was
// set, so that it is the same in every run that makes the same calls in the
// same order. If several fields are set, the first of Hang, Away, Status,
// Denied and Throttle that applies to a call decides.
type Trouble struct {
	// Seed decides which calls the shares hit.
	Seed uint64
	// Away answers every call with 503, as the vendor's edge says it: an HTML
	// page.
	Away bool
	// Denied refuses the credentials, as this vendor refuses them.
	Denied bool
	// Hang takes each request and never answers, until the client goes.
	// Nothing is carried out.
	Hang bool
	// Delay is how long each call takes before it is carried out.
	Delay time.Duration
	// Status answers every call with this status, with headers and body as the
	// vendor has them for it. Nothing is carried out. From 200 to 999; 0: no.
	Status int
	// Throttle is the share of calls that are refused as too many, in this
	// vendor's way; 1 is all. Nothing of them is carried out.
	Throttle float64
	// Wait is the wait that Status and throttling ask for, at vendors that say
	// how long; it is rounded up to seconds. 0: the vendor's own.
	Wait time.Duration
	// Lose is the share of calls that are carried out, whose answer is lost:
	// the connection is cut.
	Lose float64
	// Refuse says which items are refused for what they hold, as this vendor
	// refuses items. It is given Item.ID or, where the vendor has no field for an
	// id, Item.User, or else Item.Name. It is called by several goroutines at once.
	Refuse func(id string) bool
}

// mood is a Trouble and the calls since it was set.
type mood struct {
	Trouble
	calls atomic.Uint64
}

// Shares of the same call are decided apart.
const (
	throttleShare = iota
	loseShare
	flavourShare
)

// share returns a number from 0 up to, not including, 1 for the n-th call.
func share(seed, n, which uint64) float64 {
	// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
	x := seed + (n*3+which+1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}
