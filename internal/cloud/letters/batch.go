package letters

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/aws/smithy-go"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/cloud/lambdahost"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

// Batch is a batch of records that an event source has given up. They are on the
// stream, until its retention ends.
type Batch struct {
	// Stream is an ARN.
	Stream, Shard string
	// Start and End are sequence numbers of the shard, both of the batch. Size
	// is how many records it has, 0 if nobody says.
	Start, End string
	Size       int
	// base is the letter that all its letters begin with.
	base deadletter.Letter
}

// Stream is where batches are read back from.
type Stream interface {
	// Read is that of cloud.Kinesis.
	Read(ctx context.Context, o cloud.ReadOptions, yield func(cloud.ReadRecord) bool) error
}

// read returns the letters of a batch: those of its records, and one of
// ClassExpired if the stream does not have all of them any more.
func (b *Batch) read(ctx context.Context, s Stream) ([]deadletter.Letter, error) {
	var records []lambdahost.Record
	err := s.Read(ctx, cloud.ReadOptions{Shard: b.Shard, From: cloud.At(b.Start)}, func(r cloud.ReadRecord) bool {
		if r.Shard != b.Shard || compareSequences(r.Sequence, b.End) > 0 {
			return false
		}
		records = append(records, lambdahost.Record{
			Shard: r.Shard, Sequence: r.Sequence, PartitionKey: r.PartitionKey, Data: r.Data, ArrivedAt: r.ArrivedAt.UTC(),
		})
		return r.Sequence != b.End
	})
	if err != nil && (len(records) > 0 || !gone(err)) {
		return nil, fmt.Errorf("the records of shard %s from %s to %s cannot be read back: %w", b.Shard, b.Start, b.End, err)
	}
	// The oldest records expire first. The last record of the batch has the same
	// number whether or not those before it are there.
	lost, first := 0, 0
	if n := len(records); n == 0 || records[0].Sequence != b.Start || records[n-1].Sequence != b.End {
		lost = max(1, b.Size-n)
		if n > 0 && records[0].Sequence != b.Start {
			first = lost
		}
	}
	base := b.base
	base.Raw = nil
	letters := recordLetters(base, first, records)
	if lost > 0 || len(letters) == 0 {
		l := b.base
		l.ID += ".lost"
		l.Class = ClassExpired
		l.Message = fmt.Sprintf("%d records of the batch from %s on, of %s, are not on the stream %s any more: its retention has ended for them", lost, b.Start, b.Shard, lastPart(b.Stream))
		letters = append(letters, l)
	}
	return letters, nil
}

// gone reports whether an error says that the records will never be read: the
// stream or the shard is not there any more, or is another one of the same name.
func gone(err error) bool {
	if f := sdk.AsFailure(err); f != nil {
		api, ok := errors.AsType[smithy.APIError](f.Err)
		return ok && (api.ErrorCode() == "ResourceNotFoundException" || api.ErrorCode() == "InvalidArgumentException")
	}
	return fault.KindOf(err) == fault.NotFound
}

// compareSequences compares sequence numbers, which have no leading zeros.
func compareSequences(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}
