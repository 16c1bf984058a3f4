package kinesistest

import (
	"bytes"
	"crypto/md5" // what Kinesis places records by
	"math/big"
)

// hashKey is a place in the hash range of a stream: 128 bits, the highest
// first, so that bytes compare as numbers do.
type hashKey [md5.Size]byte

var (
	one      = big.NewInt(1)
	hashKeys = new(big.Int).Lsh(one, 128) // how many there are
)

// hashOf returns where a partition key belongs.
func hashOf(partitionKey string) hashKey {
	return md5.Sum([]byte(partitionKey))
}

// parseHashKey reads the decimal form. It reports whether the key is in range.
func parseHashKey(decimal string) (hashKey, bool) {
	n, ok := new(big.Int).SetString(decimal, 10)
	if !ok || n.Sign() < 0 || n.Cmp(hashKeys) >= 0 {
		return hashKey{}, false
	}
	return hashKeyFrom(n), true
}

func hashKeyFrom(n *big.Int) (k hashKey) {
	n.FillBytes(k[:])
	return k
}

func (k hashKey) number() *big.Int { return new(big.Int).SetBytes(k[:]) }

// before returns the key one below; k is not zero.
func (k hashKey) before() hashKey { return hashKeyFrom(new(big.Int).Sub(k.number(), one)) }

func (k hashKey) compare(other hashKey) int { return bytes.Compare(k[:], other[:]) }

// String returns the decimal form.
func (k hashKey) String() string { return k.number().String() }

// hashRange is what one shard takes, both ends included.
type hashRange struct{ start, end hashKey }

// divide splits the whole range into n, as CreateStream does: the shards start
// at multiples of 2^128/n, rounded down, and the last takes what is left over.
func divide(n int) []hashRange {
	width := new(big.Int).Div(hashKeys, big.NewInt(int64(n)))
	ranges := make([]hashRange, n)
	for i := range ranges {
		ranges[i].start = hashKeyFrom(new(big.Int).Mul(width, big.NewInt(int64(i))))
		if i > 0 {
			ranges[i-1].end = ranges[i].start.before()
		}
	}
	ranges[n-1].end = hashKeyFrom(new(big.Int).Sub(hashKeys, one))
	return ranges
}
