package kinesistest

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Record is what a stream holds.
type Record struct {
	Shard           string
	PartitionKey    string
	ExplicitHashKey string // empty if the key decided
	Data            []byte
	Sequence        string
	ArrivedAt       time.Time
}

// size is what limits count.
func (r *Record) size() int { return len(r.Data) + len(r.PartitionKey) }

// shard is one shard. The stream's mu guards it.
type shard struct {
	hashRange
	number   int
	id       string
	prefix   string // of its sequence numbers
	opened   time.Time
	closed   time.Time // zero while it takes records
	parents  []*shard  // one after a split, two after a merge
	children []*shard

	// count is how many records it ever took; records are the last of them,
	// all unless some were trimmed or not kept.
	count   int
	records []Record
}

// trimmed is how many records are not there any more.
func (sh *shard) trimmed() int { return sh.count - len(sh.records) }

// A sequence number has 56 digits, as those of Kinesis have:
//
//	49 | seconds of the shard's opening, 10 | shard, 8 | record, 20 | µs of arrival, 16
//
// It grows within a shard, and from a shard to its children.
const (
	shardDigits  = 2 + 10 + 8
	recordDigits = 20
	timeDigits   = 16
)

func sequencePrefix(sh *shard) string {
	return fmt.Sprintf("49%010d%08d", sh.opened.Unix(), sh.number)
}

// sequence returns the number of the n-th record, counting from 1. Number 0 is
// where the shard starts.
func (sh *shard) sequence(n int, at time.Time) string {
	b := make([]byte, 0, shardDigits+recordDigits+timeDigits)
	b = append(b, sh.prefix...)
	b = appendDigits(b, uint64(n), recordDigits)
	return string(appendDigits(b, uint64(at.UnixMicro()), timeDigits))
}

// appendDigits appends n in decimal with leading zeros.
func appendDigits(b []byte, n uint64, width int) []byte {
	b = append(b, "00000000000000000000"[:width]...)
	for i := len(b) - 1; n > 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}

// position returns which record a sequence number of this shard is of.
func (sh *shard) position(sequence string) (int, bool) {
	rest, ok := strings.CutPrefix(sequence, sh.prefix)
	if !ok || len(rest) != recordDigits+timeDigits {
		return 0, false
	}
	n, err := strconv.Atoi(rest[:recordDigits])
	return n, err == nil && n >= 0
}

// lastSequence is the end of a closed shard, behind its last record.
func (sh *shard) lastSequence() string { return sh.sequence(sh.count+1, sh.closed) }

func (sh *shard) firstSequence() string { return sh.sequence(0, sh.opened) }
