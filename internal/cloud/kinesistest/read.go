package kinesistest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Limits of GetRecords. Source: API reference, GetRecords.
const (
	maxReadRecords = 10000
	maxReadBytes   = 10 << 20
	tokenLife      = 300 * time.Second // of iterators and of NextToken
)

// iterator is a place in a shard. It travels as base64.
type iterator struct {
	Stream  string
	Created time.Time // of the stream: another of the same name is not meant
	Shard   string
	Next    int // the record to read, counting from 0
	Made    time.Time
}

// token is how a value travels through a client that is not to look into it.
func token(v any) string {
	b, _ := json.Marshal(v)
	return base64.StdEncoding.EncodeToString(b)
}

func parseToken(s string, v any) bool {
	b, err := base64.StdEncoding.DecodeString(s)
	return err == nil && json.Unmarshal(b, v) == nil
}

func (c *call) getShardIterator(in *getShardIteratorInput) (any, *Error) {
	st, err := c.stream(in.streamRef, true)
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	sh := st.shard(in.ShardId)
	if sh == nil {
		return nil, noShard(in.ShardId, st.Name)
	}
	it := iterator{Stream: st.Name, Created: st.created, Shard: sh.id, Made: time.Now()}
	switch in.ShardIteratorType {
	case "TRIM_HORIZON":
	case "LATEST":
		it.Next = sh.count
	case "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER":
		n, ok := sh.position(in.StartingSequenceNumber)
		if !ok || n > sh.count && sh.closed.IsZero() || n > sh.count+1 {
			return nil, badArgument("StartingSequenceNumber " + in.StartingSequenceNumber + " used in GetShardIterator on shard " + sh.id + " in stream " + st.Name + " under account " + account + " is invalid because it did not come from this stream.")
		}
		it.Next = max(n-1, 0)
		if in.ShardIteratorType == "AFTER_SEQUENCE_NUMBER" {
			it.Next = min(n, sh.count)
		}
	case "AT_TIMESTAMP":
		if in.Timestamp == nil {
			return nil, badArgument("Must either specify timestamp parameter when AT_TIMESTAMP is used.")
		}
		if in.Timestamp.After(it.Made) {
			return nil, badArgument(fmt.Sprintf("The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: %d, currentTimestampInMillis: %d", in.Timestamp.UnixMilli(), it.Made.UnixMilli()))
		}
		it.Next = sh.firstSince(in.Timestamp.Time)
	default:
		return nil, violation(in.ShardIteratorType, "shardIteratorType", "Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]")
	}
	return getShardIteratorOutput{ShardIterator: token(it)}, nil
}

// firstSince returns the first record that arrived at a time or later, to the
// millisecond.
func (sh *shard) firstSince(at time.Time) int {
	ms := at.UnixMilli()
	for i := range sh.records {
		if sh.records[i].ArrivedAt.UnixMilli() >= ms {
			return sh.trimmed() + i
		}
	}
	return sh.count
}

func (c *call) getRecords(in *getRecordsInput) (any, *Error) {
	limit := maxReadRecords
	if in.Limit != nil {
		limit = *in.Limit
		if limit < 1 || limit > maxReadRecords {
			return nil, violation(strconv.Itoa(limit), "limit", fmt.Sprintf("Member must have value between 1 and %d", maxReadRecords))
		}
	}
	var it iterator
	if !parseToken(in.ShardIterator, &it) {
		return nil, badArgument("Invalid ShardIterator.")
	}
	now := time.Now()
	if age := now.Sub(it.Made); age > tokenLife {
		return nil, &Error{Code: "ExpiredIteratorException", Message: fmt.Sprintf("Iterator expired. The iterator was created at time %s while right now it is %s which is further in the future than the tolerated delay of %d milliseconds.", it.Made.UTC().Format(time.UnixDate), now.UTC().Format(time.UnixDate), tokenLife.Milliseconds())}
	}
	st, err := c.stream(streamRef{StreamName: it.Stream}, true)
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	sh := st.shard(it.Shard)
	if sh == nil || !st.created.Equal(it.Created) {
		return nil, noShard(it.Shard, it.Stream)
	}
	it.Next = max(it.Next, sh.trimmed())
	out := getRecordsOutput{Records: []recordShape{}}
	size := 0
	for _, r := range sh.records[it.Next-sh.trimmed():] {
		if len(out.Records) == limit || size > 0 && size+len(r.Data) > maxReadBytes {
			break
		}
		size += len(r.Data)
		out.Records = append(out.Records, recordShape{
			ApproximateArrivalTimestamp: epoch{r.ArrivedAt},
			Data:                        r.Data,
			EncryptionType:              st.encrypted(),
			PartitionKey:                r.PartitionKey,
			SequenceNumber:              r.Sequence,
		})
		it.Next++
	}
	switch {
	case it.Next < sh.count:
		// More is there; a reader that is behind by less than a millisecond is
		// behind.
		out.MillisBehindLatest = max(now.Sub(sh.records[it.Next-sh.trimmed()].ArrivedAt).Milliseconds(), 1)
	case !sh.closed.IsZero():
		for _, child := range sh.children {
			out.ChildShards = append(out.ChildShards, child.asChild())
		}
		return out, nil // without an iterator: the shard ends here
	}
	it.Made = now
	out.NextShardIterator = token(it)
	return out, nil
}
