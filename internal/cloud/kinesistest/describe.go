package kinesistest

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// retentionHours is the default of Kinesis; records here do not age.
const retentionHours = 24

func (st *kstream) shape(now time.Time) streamShape {
	mode := "PROVISIONED"
	if st.OnDemand {
		mode = "ON_DEMAND"
	}
	return streamShape{
		StreamARN:               st.arn,
		StreamCreationTimestamp: epoch{st.created},
		StreamModeDetails:       streamMode{mode},
		StreamName:              st.Name,
		StreamStatus:            st.state(now),
	}
}

// encryption is the encryption type in descriptions.
func (st *kstream) encryption() string {
	if st.KMSKey == "" {
		return "NONE"
	}
	return "KMS"
}

func (r hashRange) shape() rangeShape {
	return rangeShape{EndingHashKey: r.end.String(), StartingHashKey: r.start.String()}
}

func (sh *shard) shape() shardShape {
	out := shardShape{ShardId: sh.id, HashKeyRange: sh.hashRange.shape()}
	out.SequenceNumberRange.StartingSequenceNumber = sh.firstSequence()
	if !sh.closed.IsZero() {
		out.SequenceNumberRange.EndingSequenceNumber = sh.lastSequence()
	}
	if len(sh.parents) > 0 {
		out.ParentShardId = sh.parents[0].id
	}
	if len(sh.parents) > 1 {
		out.AdjacentParentShardId = sh.parents[1].id
	}
	return out
}

func (sh *shard) asChild() childShape {
	out := childShape{ShardId: sh.id, HashKeyRange: sh.hashRange.shape()}
	for _, p := range sh.parents {
		out.ParentShards = append(out.ParentShards, p.id)
	}
	return out
}

// page returns at most limit items, and whether there are more.
func page[T any](items []T, limit int) ([]T, bool) {
	if len(items) > limit {
		return items[:limit], true
	}
	return items, false
}

// limitOf is the limit that a caller gives, or the most.
func limitOf(given *int, most int) int {
	if given == nil {
		return most
	}
	return min(*given, most)
}

func (c *call) describeStream(in *describeStreamInput) (any, *Error) {
	st, err := c.stream(in.streamRef, false)
	if err != nil {
		return nil, err
	}
	limit := limitOf(in.Limit, 100)
	if limit < 1 {
		return nil, violation(strconv.Itoa(limit), "limit", "Member must have value greater than or equal to 1")
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	after := slices.DeleteFunc(slices.Clone(st.shards), func(sh *shard) bool { return sh.id <= in.ExclusiveStartShardId })
	shards, more := page(after, limit)
	out := streamDescription{
		streamShape:          st.shape(time.Now()),
		EncryptionType:       st.encryption(),
		EnhancedMonitoring:   []monitoring{{ShardLevelMetrics: []string{}}},
		HasMoreShards:        more,
		KeyId:                st.KMSKey,
		RetentionPeriodHours: retentionHours,
		Shards:               []shardShape{},
	}
	for _, sh := range shards {
		out.Shards = append(out.Shards, sh.shape())
	}
	return describeStreamOutput{out}, nil
}

func (c *call) describeStreamSummary(in *streamRef) (any, *Error) {
	st, err := c.stream(*in, false)
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return describeStreamSummaryOutput{streamSummary{
		streamShape:          st.shape(time.Now()),
		EncryptionType:       st.encryption(),
		EnhancedMonitoring:   []monitoring{{ShardLevelMetrics: []string{}}},
		KeyId:                st.KMSKey,
		MaxRecordSizeInKiB:   st.MaxRecordKiB,
		OpenShardCount:       len(st.open),
		RetentionPeriodHours: retentionHours,
	}}, nil
}

// listing is where a list of shards goes on. It travels as a NextToken.
type listing struct {
	Stream  string
	Created time.Time
	After   string // shard
	Filter  *shardFilter
	Made    time.Time
}

func (c *call) listShards(in *listShardsInput) (any, *Error) {
	now := time.Now()
	l := listing{Stream: in.StreamName, After: in.ExclusiveStartShardId, Filter: in.ShardFilter, Made: now}
	ref := in.streamRef
	if in.NextToken != "" {
		if in.StreamName != "" || in.ExclusiveStartShardId != "" {
			return nil, badArgument("NextToken and StreamName cannot be provided together.")
		}
		if !parseToken(in.NextToken, &l) {
			return nil, badArgument("Invalid NextToken.")
		}
		if now.Sub(l.Made) > tokenLife {
			return nil, &Error{Code: "ExpiredNextTokenException", Message: "The NextToken is older than five minutes."}
		}
		ref = streamRef{StreamName: l.Stream}
	}
	limit := limitOf(in.MaxResults, 1000)
	if limit < 1 {
		return nil, violation(strconv.Itoa(limit), "maxResults", "Member must have value greater than or equal to 1")
	}
	st, err := c.stream(ref, false)
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if in.NextToken != "" && !st.created.Equal(l.Created) {
		return nil, noStream(l.Stream)
	}
	wanted, err := l.Filter.wanted(st)
	if err != nil {
		return nil, err
	}
	matching := slices.DeleteFunc(slices.Clone(st.shards), func(sh *shard) bool { return sh.id <= l.After || !wanted(sh) })
	shards, more := page(matching, limit)
	out := listShardsOutput{Shards: []shardShape{}}
	for _, sh := range shards {
		out.Shards = append(out.Shards, sh.shape())
	}
	if more {
		out.NextToken = token(listing{Stream: st.Name, Created: st.created, After: shards[limit-1].id, Filter: l.Filter, Made: now})
	}
	return out, nil
}

// wanted returns which shards a filter lets through. Nothing is ever trimmed
// by age, so that TRIM_HORIZON is when the stream was created.
func (f *shardFilter) wanted(st *kstream) (func(*shard) bool, *Error) {
	if f == nil {
		return func(*shard) bool { return true }, nil
	}
	at := st.created
	switch f.Type {
	case "AFTER_SHARD_ID":
		if f.ShardId == "" {
			return nil, badArgument("ShardId must be specified for AFTER_SHARD_ID.")
		}
		return func(sh *shard) bool { return sh.id > f.ShardId }, nil
	case "AT_LATEST":
		return func(sh *shard) bool { return sh.closed.IsZero() }, nil
	case "FROM_TRIM_HORIZON":
		return func(*shard) bool { return true }, nil
	case "AT_TIMESTAMP", "FROM_TIMESTAMP":
		if f.Timestamp == nil {
			return nil, badArgument("Timestamp must be specified for " + f.Type + ".")
		}
		at = f.Timestamp.Time
	case "AT_TRIM_HORIZON":
	default:
		return nil, violation(f.Type, "shardFilter.type", "Member must satisfy enum value set: [AT_TIMESTAMP, FROM_TRIM_HORIZON, AT_TRIM_HORIZON, FROM_TIMESTAMP, AT_LATEST, AFTER_SHARD_ID]")
	}
	from := strings.HasPrefix(f.Type, "FROM")
	return func(sh *shard) bool {
		return (from || !sh.opened.After(at)) && (sh.closed.IsZero() || !sh.closed.Before(at))
	}, nil
}
