package kinesistest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// account is the owner of all streams.
const account = awstest.Account

// Limits of the service. Source: API reference, CreateStream, PutRecords,
// UpdateMaxRecordSize.
const (
	maxCallRecords  = 500
	maxCallBytes    = 10 << 20 // data and partition keys
	minRecordKiB    = 1024     // the default too
	maxRecordKiB    = 10 * 1024
	maxKeyRunes     = 256
	maxStreamShards = 10000
)

// Stream is what a stream is created with.
type Stream struct {
	Name string
	// Shards is how many there are at the start. Default 1; an on-demand
	// stream has 4.
	Shards int
	// MaxRecordKiB is the largest record, data and partition key. Default 1024.
	MaxRecordKiB int
	// OnDemand makes it the mode of the stream; provisioned is the default.
	OnDemand bool
	// KMSKey is the key that the stream is encrypted with. Default none.
	KMSKey string
}

// States of a stream.
type status string

const (
	creating status = "CREATING"
	active   status = "ACTIVE"
	updating status = "UPDATING"
	deleting status = "DELETING"
)

// kstream is a stream and what it holds.
type kstream struct {
	Stream
	arn     string
	created time.Time

	mu     sync.Mutex
	change status    // the last change of state
	until  time.Time // when it is over
	shards []*shard  // all, by number
	open   []*shard  // those that take records, by hash range

	changed chan struct{} // see Server.Changed; nil while nobody asks
}

// newStream returns a stream, with faults of its description.
func newStream(c Stream, arn string, now time.Time) (*kstream, *Error) {
	if c.Shards == 0 {
		c.Shards = 1
		if c.OnDemand {
			c.Shards = 4
		}
	}
	c.MaxRecordKiB = cmp.Or(c.MaxRecordKiB, minRecordKiB)
	switch {
	case !validName(c.Name):
		return nil, violation(c.Name, "streamName", "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+ and have length 1 to 128")
	case c.Shards < 1:
		return nil, violation(fmt.Sprint(c.Shards), "shardCount", "Member must have value greater than or equal to 1")
	case c.Shards > maxStreamShards:
		return nil, Limit.With(fmt.Sprintf("This request would exceed the shard limit for the account %s. Limit: %d", account, maxStreamShards))
	case c.MaxRecordKiB < minRecordKiB || c.MaxRecordKiB > maxRecordKiB:
		return nil, violation(fmt.Sprint(c.MaxRecordKiB), "maxRecordSizeInKiB", fmt.Sprintf("Member must have value between %d and %d", minRecordKiB, maxRecordKiB))
	}
	st := &kstream{Stream: c, arn: arn, created: now, change: active}
	for _, r := range divide(c.Shards) {
		st.add(r, now, nil)
	}
	return st, nil
}

func validName(name string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
	return name != "" && len(name) <= 128 && strings.Trim(name, allowed) == ""
}

// state returns the status that holds now.
func (st *kstream) state(now time.Time) status {
	if now.Before(st.until) {
		return st.change
	}
	return active
}

// gone reports whether the stream has been deleted.
func (st *kstream) gone(now time.Time) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.change == deleting && !now.Before(st.until)
}

// serves reports whether records can be written and read.
func (st *kstream) serves(now time.Time) bool {
	s := st.state(now)
	return s == active || s == updating
}

// add opens a shard, the child of others.
func (st *kstream) add(r hashRange, now time.Time, parents []*shard) *shard {
	sh := &shard{
		number:    len(st.shards),
		id:        fmt.Sprintf("shardId-%012d", len(st.shards)),
		hashRange: r,
		opened:    now,
		parents:   parents,
	}
	sh.prefix = sequencePrefix(sh)
	for _, p := range parents {
		p.children = append(p.children, sh)
	}
	st.shards = append(st.shards, sh)
	at, _ := st.find(r.start)
	st.open = slices.Insert(st.open, at, sh)
	st.signal()
	return sh
}

// close ends a shard: it takes no records any more.
func (st *kstream) close(sh *shard, now time.Time) {
	sh.closed = now
	at, _ := st.find(sh.start)
	st.open = slices.Delete(st.open, at, at+1)
	st.signal()
}

// find returns the index in open of the shard that starts at a key, or where
// it would stand.
func (st *kstream) find(start hashKey) (int, bool) {
	return slices.BinarySearchFunc(st.open, start, func(sh *shard, k hashKey) int { return sh.start.compare(k) })
}

// owner returns the open shard that a key belongs to.
func (st *kstream) owner(k hashKey) *shard {
	at, exact := st.find(k)
	if !exact {
		at--
	}
	return st.open[at]
}

// shard returns a shard by its id, nil if there is none.
func (st *kstream) shard(id string) *shard {
	for _, sh := range st.shards {
		if sh.id == id {
			return sh
		}
	}
	return nil
}
