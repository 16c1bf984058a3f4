package cloud

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // Kinesis chooses shards by it
	"fmt"
	"math/big"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/fault"
)

// Limits of PutRecords. Source: Kinesis API reference, PutRecords (read
// 2026-11).
const (
	// MaxCallRecords is the most records that one call may carry.
	MaxCallRecords = 500
	// MaxCallBytes is the most bytes that one call may carry, data and partition
	// keys.
	MaxCallBytes = 10 << 20
	// DefaultRecordBytes is the largest record, data and partition key, of a
	// stream that has not raised it (UpdateMaxRecordSize).
	DefaultRecordBytes = 1 << 20
)

// Description is what a stream says of itself.
type Description struct {
	Name, ARN, Region string
	// Status is ACTIVE, or UPDATING while shards are split or merged.
	Status string
	// Mode is PROVISIONED or ON_DEMAND.
	Mode string
	// MaxRecordBytes is the largest record that it takes, data and partition
	// key.
	MaxRecordBytes int
	// Encryption is NONE or KMS.
	Encryption string
	// Shards are those that are open, in the order of their ids.
	Shards []Shard
}

// Shard is a shard that takes records.
type Shard struct {
	ID string
	// First and Last are the ends of its part of the hash range, both within.
	First, Last [md5.Size]byte
}

// Holds reports whether records with a partition key are stored in the shard.
func (s Shard) Holds(partitionKey string) bool {
	hash := md5.Sum([]byte(partitionKey)) //nolint:gosec // as above
	return bytes.Compare(s.First[:], hash[:]) <= 0 && bytes.Compare(hash[:], s.Last[:]) <= 0
}

// Describe asks what the stream is. If it cannot be the gateway's, the error
// says in one line why, and what to do.
func (k *Kinesis) Describe(ctx context.Context) (Description, error) {
	out, err := call(ctx, k, k.client.DescribeStreamSummary, &kinesis.DescribeStreamSummaryInput{StreamName: k.name, StreamARN: k.arn})
	if err != nil {
		return Description{}, err
	}
	summary := out.StreamDescriptionSummary
	if summary == nil {
		return Description{}, fmt.Errorf("%s: DescribeStreamSummary was answered without a description: is the endpoint that of Kinesis?", k.stream())
	}
	d := Description{
		Name:           aws.ToString(summary.StreamName),
		ARN:            aws.ToString(summary.StreamARN),
		Region:         k.region,
		Status:         string(summary.StreamStatus),
		Mode:           string(types.StreamModeProvisioned),
		MaxRecordBytes: DefaultRecordBytes,
		Encryption:     string(types.EncryptionTypeNone),
	}
	if mode := summary.StreamModeDetails; mode != nil && mode.StreamMode != "" {
		d.Mode = string(mode.StreamMode)
	}
	if size := aws.ToInt32(summary.MaxRecordSizeInKiB); size > 0 {
		d.MaxRecordBytes = int(size) << 10
	}
	if summary.EncryptionType != "" {
		d.Encryption = string(summary.EncryptionType)
	}
	if f := k.unfit(summary); f != nil {
		k.note(f)
		return d, f
	}
	k.limit.Store(int64(d.MaxRecordBytes))
	d.Shards, err = k.openShards(ctx)
	return d, err
}

// unfit returns why a stream that exists cannot be the gateway's, nil if it can.
func (k *Kinesis) unfit(s *types.StreamDescriptionSummary) *sdk.Failure {
	f := &sdk.Failure{Kind: fault.Unavailable}
	switch {
	case s.StreamStatus == types.StreamStatusDeleting:
		f.Act("deleting", "%s is being deleted: create it again, or name another one", k.stream())
	case s.StreamStatus == types.StreamStatusCreating:
		f.Act("creating", "%s is being created: wait until it is ACTIVE", k.stream())
	case s.RecordDistributionStrategy == types.RecordDistributionStrategyAuto:
		f.Act("distribution", "%s ignores partition keys, which costs the order of events: set its record distribution strategy to USER_PARTITION_KEY", k.stream())
	default:
		return nil
	}
	return f
}

// openShards lists the shards that take records.
func (k *Kinesis) openShards(ctx context.Context) ([]Shard, error) {
	all, err := k.listShards(ctx, &types.ShardFilter{Type: types.ShardFilterTypeAtLatest})
	if err != nil {
		return nil, err
	}
	var open []Shard
	for _, s := range all {
		if s.SequenceNumberRange != nil && s.SequenceNumberRange.EndingSequenceNumber != nil {
			continue // closed: emulators know no filter
		}
		shard := Shard{ID: aws.ToString(s.ShardId)}
		if s.HashKeyRange == nil || !hashKey(&shard.First, s.HashKeyRange.StartingHashKey) || !hashKey(&shard.Last, s.HashKeyRange.EndingHashKey) {
			return nil, fmt.Errorf("%s: shard %s has no valid hash range", k.stream(), shard.ID)
		}
		open = append(open, shard)
	}
	return open, nil
}

// listShards lists shards page by page.
func (k *Kinesis) listShards(ctx context.Context, filter *types.ShardFilter) ([]types.Shard, error) {
	var all []types.Shard
	in := &kinesis.ListShardsInput{StreamName: k.name, StreamARN: k.arn, ShardFilter: filter}
	for {
		out, err := call(ctx, k, k.client.ListShards, in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Shards...)
		if aws.ToString(out.NextToken) == "" {
			return all, nil
		}
		// The token stands for stream and filter.
		in = &kinesis.ListShardsInput{NextToken: out.NextToken}
	}
}

// hashKey reads a decimal number of 128 bits.
func hashKey(to *[md5.Size]byte, decimal *string) bool {
	n, ok := new(big.Int).SetString(aws.ToString(decimal), 10)
	if !ok || n.Sign() < 0 || n.BitLen() > 8*len(to) {
		return false
	}
	n.FillBytes(to[:])
	return true
}
