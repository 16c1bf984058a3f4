package kinesistest

import (
	"fmt"
	"math/big"
	"time"
)

// split closes a shard and opens two in its place; the second starts at a key.
func (st *kstream) split(sh *shard, at hashKey, now time.Time) *Error {
	if !sh.closed.IsZero() {
		return badArgument("Shard " + sh.id + " in stream " + st.Name + " under account " + account + " has already been merged or split, and thus is not eligible for merging or splitting.")
	}
	if at.compare(sh.start) <= 0 || at.compare(sh.end) >= 0 {
		return badArgument("NewStartingHashKey " + at.String() + " used in SplitShard() on shard " + sh.id + " in stream " + st.Name + " under account " + account + " is not both greater than one plus the shard's StartingHashKey " + sh.start.String() + " and less than the shard's EndingHashKey " + sh.end.String() + ".")
	}
	st.close(sh, now)
	st.add(hashRange{sh.start, at.before()}, now, []*shard{sh})
	st.add(hashRange{at, sh.end}, now, []*shard{sh})
	return nil
}

// merge closes two neighbours and opens one in their place.
func (st *kstream) merge(a, b *shard, now time.Time) (*shard, *Error) {
	for _, sh := range []*shard{a, b} {
		if !sh.closed.IsZero() {
			return nil, badArgument("Shard " + sh.id + " in stream " + st.Name + " under account " + account + " has already been merged or split, and thus is not eligible for merging or splitting.")
		}
	}
	low, high := a, b
	if low.start.compare(high.start) > 0 {
		low, high = high, low
	}
	if low == high || low.end != high.start.before() {
		return nil, badArgument("Shards " + a.id + " and " + b.id + " in stream " + st.Name + " under account " + account + " are not an adjacent pair of shards eligible for merging.")
	}
	st.close(a, now)
	st.close(b, now)
	return st.add(hashRange{low.start, high.end}, now, []*shard{a, b}), nil
}

// resize makes n shards of even width, by splits at the new borders and merges
// between them, as UpdateShardCount does; that needs shards that are open for a
// moment only.
func (st *kstream) resize(n int, now time.Time) *Error {
	if current := len(st.open); n > 2*current || 2*n < current {
		return invalid(fmt.Sprintf("UpdateShardCount cannot scale from %d to %d shards: at most double and at least half", current, n))
	}
	target := divide(n)
	for i := range target {
		start := target[i].start
		owner := st.owner(start)
		switch {
		case near(start, owner.start):
			start = owner.start
		case near(owner.end, start):
			at, _ := st.find(owner.start)
			start = st.open[at+1].start
		default:
			if err := st.split(owner, start, now); err != nil {
				return err
			}
		}
		target[i].start = start
		if i > 0 {
			target[i-1].end = start.before()
		}
	}
	for _, r := range target {
		for sh := st.owner(r.start); sh.end != r.end; {
			at, _ := st.find(sh.start)
			merged, err := st.merge(sh, st.open[at+1], now)
			if err != nil {
				return err
			}
			sh = merged
		}
	}
	return nil
}

// near reports whether two borders, the second below, are one but for
// rounding: a shard of fewer keys than this would get no records.
func near(high, low hashKey) bool {
	distance := new(big.Int).Sub(high.number(), low.number())
	return distance.Sign() >= 0 && distance.IsUint64()
}

// middle is where a shard is split evenly.
func (r hashRange) middle() hashKey {
	sum := new(big.Int).Add(r.start.number(), r.end.number())
	return hashKeyFrom(sum.Rsh(sum.Add(sum, one), 1))
}
