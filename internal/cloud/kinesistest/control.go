package kinesistest

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

func (c *call) createStream(in *createStreamInput) (any, *Error) {
	stream := Stream{Name: in.StreamName, MaxRecordKiB: in.MaxRecordSizeInKiB, OnDemand: in.StreamModeDetails.StreamMode == "ON_DEMAND"}
	switch {
	case in.ShardCount != nil && stream.OnDemand:
		return nil, invalid("ShardCount must not be given for an ON_DEMAND stream.")
	case in.ShardCount != nil && *in.ShardCount < 1:
		return nil, violation(fmt.Sprint(*in.ShardCount), "shardCount", "Member must have value greater than or equal to 1")
	case in.ShardCount != nil:
		stream.Shards = *in.ShardCount
	case !stream.OnDemand:
		return nil, invalid("ShardCount must be given for a PROVISIONED stream.")
	}
	return nil, c.Server.createStream(stream)
}

func (c *call) deleteStream(in *streamRef) (any, *Error) {
	st, err := c.stream(*in, false)
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.change, st.until = deleting, time.Now().Add(c.config.Transition)
	st.signal()
	return nil, nil
}

func (c *call) listStreams(in *listStreamsInput) (any, *Error) {
	after := in.ExclusiveStartStreamName
	if in.NextToken != "" && !parseToken(in.NextToken, &after) {
		return nil, badArgument("Invalid NextToken.")
	}
	limit := limitOf(in.Limit, 100)
	if limit < 1 {
		return nil, violation(fmt.Sprint(limit), "limit", "Member must have value greater than or equal to 1")
	}
	now := time.Now()
	c.mu.Lock()
	all := slices.Sorted(maps.Keys(c.streams))
	c.mu.Unlock()
	out := listStreamsOutput{StreamNames: []string{}, StreamSummaries: []streamShape{}}
	names, more := page(slices.DeleteFunc(all, func(name string) bool { return name <= after || c.lookup(name) == nil }), limit)
	for _, name := range names {
		st := c.lookup(name)
		if st == nil {
			continue
		}
		st.mu.Lock()
		out.StreamNames = append(out.StreamNames, name)
		out.StreamSummaries = append(out.StreamSummaries, st.shape(now))
		st.mu.Unlock()
	}
	if out.HasMoreStreams = more; more {
		out.NextToken = token(names[limit-1])
	}
	return out, nil
}

func (c *call) splitShard(in *splitShardInput) (any, *Error) {
	at, ok := parseHashKey(in.NewStartingHashKey)
	if !ok || !decimal(in.NewStartingHashKey) {
		return nil, violation(in.NewStartingHashKey, "newStartingHashKey", `Member must satisfy regular expression pattern: 0|([1-9]\d{0,38})`)
	}
	return nil, c.reshard(in.streamRef, func(st *kstream, now time.Time) *Error {
		sh := st.shard(in.ShardToSplit)
		if sh == nil {
			return noShard(in.ShardToSplit, st.Name)
		}
		return st.split(sh, at, now)
	})
}

func (c *call) mergeShards(in *mergeShardsInput) (any, *Error) {
	return nil, c.reshard(in.streamRef, func(st *kstream, now time.Time) *Error {
		a, b := st.shard(in.ShardToMerge), st.shard(in.AdjacentShardToMerge)
		switch {
		case a == nil:
			return noShard(in.ShardToMerge, st.Name)
		case b == nil:
			return noShard(in.AdjacentShardToMerge, st.Name)
		}
		_, err := st.merge(a, b, now)
		return err
	})
}

func (c *call) updateShardCount(in *updateShardCountInput) (any, *Error) {
	if in.ScalingType != "UNIFORM_SCALING" {
		return nil, violation(in.ScalingType, "scalingType", "Member must satisfy enum value set: [UNIFORM_SCALING]")
	}
	if in.TargetShardCount < 1 {
		return nil, violation(fmt.Sprint(in.TargetShardCount), "targetShardCount", "Member must have value greater than or equal to 1")
	}
	out := updateShardCountOutput{TargetShardCount: in.TargetShardCount}
	err := c.reshard(in.streamRef, func(st *kstream, now time.Time) *Error {
		out.CurrentShardCount, out.StreamARN, out.StreamName = len(st.open), st.arn, st.Name
		return st.resize(in.TargetShardCount, now)
	})
	return out, err
}

// reshard changes the shards of a stream, as a caller may.
func (c *call) reshard(ref streamRef, change func(st *kstream, now time.Time) *Error) *Error {
	st, err := c.stream(ref, false)
	if err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	now := time.Now()
	if state := st.state(now); state != active {
		return inUse("Stream " + st.Name + " under account " + account + " not ACTIVE, instead in state " + string(state))
	}
	if st.OnDemand {
		return invalid("Shards of an ON_DEMAND stream are not managed by hand.")
	}
	if err := change(st, now); err != nil {
		return err
	}
	st.change, st.until = updating, now.Add(c.config.Transition)
	return nil
}
