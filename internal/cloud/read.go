package cloud

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/retry"
)

// ReadRecord is a record as it is on the stream; stream.AppendUserRecords says
// what is in its data.
type ReadRecord struct {
	Shard, Sequence string
	// ArrivedAt is when Kinesis took it, approximately.
	ArrivedAt    time.Time
	PartitionKey string
	Data         []byte
}

// ReadOptions say what is read. The zero value is the whole stream as it is
// now, from its oldest record.
type ReadOptions struct {
	// Shard, if not empty, is the only shard that is read, with those that it
	// was split or merged into after it.
	Shard string
	// From is where reading starts. Default Oldest.
	From Position
	// Follow goes on for what is written later, until the context is done or the
	// shards to read are closed and read to their ends.
	Follow bool
}

// Position is where reading a shard starts.
type Position struct {
	kind     types.ShardIteratorType
	sequence string
	time     time.Time
}

// Oldest is the oldest record that the stream keeps.
func Oldest() Position { return Position{kind: types.ShardIteratorTypeTrimHorizon} }

// Latest is what is written from now on.
func Latest() Position { return Position{kind: types.ShardIteratorTypeLatest} }

// Since is the first record that arrived at a time or later.
func Since(t time.Time) Position {
	return Position{kind: types.ShardIteratorTypeAtTimestamp, time: t}
}

// At is the record with a sequence number, of the one shard that is read.
func At(sequence string) Position {
	return Position{kind: types.ShardIteratorTypeAtSequenceNumber, sequence: sequence}
}

// After is what follows the record with a sequence number, in the one shard
// that is read.
func After(sequence string) Position {
	return Position{kind: types.ShardIteratorTypeAfterSequenceNumber, sequence: sequence}
}

// Paces of reading. A shard takes five calls a second, from all who read it:
// some are left for the others, most where there is nothing to catch up with.
// Source: Kinesis API reference, GetRecords (read 2026-11).
const (
	paceBehind = 250 * time.Millisecond
	paceAtTip  = time.Second
)

// patience is how a shard waits that is throttled or whose call failed;
// failures in a row that are no throttling end the reading when it is used up.
var patience = retry.Policy{MaxAttempts: 6, BaseDelay: paceBehind, MaxDelay: 2 * time.Second}

// Read yields the records of the stream until yield returns false. The records
// of a shard come in their order, and those of a shard that was split or
// merged before those of its children; so the records of a partition key come
// in their order. Without Follow it ends when every shard is read up to where
// it was at the time of the call.
//
// It calls yield on the caller's goroutine, one record after another, and
// reads one shard after another meanwhile: it is made for looking, and for
// tens of shards rather than thousands.
func (k *Kinesis) Read(ctx context.Context, o ReadOptions, yield func(ReadRecord) bool) error {
	if o.From.kind == "" {
		o.From = Oldest()
	}
	if o.From.sequence != "" && o.Shard == "" {
		return fault.New(fault.Invalid, "a sequence number is a position in one shard: name the shard")
	}
	r := &reading{k: k, options: o, began: time.Now(), shards: map[string]*reader{}, yield: yield}
	if err := r.begin(ctx); err != nil {
		return err
	}
	for len(r.queue) > 0 {
		next := slices.MinFunc(r.queue, func(a, b *reader) int { return a.due.Compare(b.due) })
		if err := retry.Sleep(ctx, time.Until(next.due)); err != nil {
			return err
		}
		more, err := r.step(ctx, next)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// reading is one call of Read.
type reading struct {
	k       *Kinesis
	options ReadOptions
	began   time.Time
	yield   func(ReadRecord) bool
	// shards are those that are read, were, or will be when their parents are;
	// queue those that are read now.
	shards map[string]*reader
	queue  []*reader
}

// reader reads one shard.
type reader struct {
	shard types.Shard
	// iterator is where the next call reads, empty if there has to be a new one:
	// it is valid for five minutes.
	iterator string
	// from is where a new iterator begins.
	from     Position
	due      time.Time
	failures int
	done     bool
}

// begin finds the shards to read.
func (r *reading) begin(ctx context.Context) error {
	var filter *types.ShardFilter
	switch from := r.options.From; {
	case r.options.Shard != "":
	case from.kind == types.ShardIteratorTypeLatest:
		filter = &types.ShardFilter{Type: types.ShardFilterTypeAtLatest}
	case from.kind == types.ShardIteratorTypeAtTimestamp:
		filter = &types.ShardFilter{Type: types.ShardFilterTypeFromTimestamp, Timestamp: &from.time}
	}
	all, err := r.k.listShards(ctx, filter)
	if err != nil {
		return err
	}
	if r.options.Shard == "" {
		for _, s := range all {
			r.add(s, r.options.From)
		}
	} else {
		i := slices.IndexFunc(all, func(s types.Shard) bool { return aws.ToString(s.ShardId) == r.options.Shard })
		if i < 0 {
			return fault.New(fault.NotFound, "%s has no shard %s", r.k.stream(), r.options.Shard)
		}
		r.add(all[i], r.options.From)
		from := r.options.From
		if from.sequence != "" {
			from = Oldest()
		}
		r.descend(all, from)
	}
	r.enqueue()
	return nil
}

// add makes a shard one that is read.
func (r *reading) add(s types.Shard, from Position) {
	id := aws.ToString(s.ShardId)
	if r.shards[id] == nil {
		r.shards[id] = &reader{shard: s, from: from}
	}
}

// descend adds the descendants of the shards that are read.
func (r *reading) descend(all []types.Shard, from Position) {
	for again := true; again; {
		again = false
		for _, s := range all {
			if r.shards[aws.ToString(s.ShardId)] == nil && len(r.parents(s)) > 0 {
				r.add(s, from)
				again = true
			}
		}
	}
}

// parents returns the parents of a shard that are read.
func (r *reading) parents(s types.Shard) (found []*reader) {
	for _, id := range []*string{s.ParentShardId, s.AdjacentParentShardId} {
		if parent := r.shards[aws.ToString(id)]; parent != nil {
			found = append(found, parent)
		}
	}
	return found
}

// enqueue begins to read the shards whose parents are read to their ends.
func (r *reading) enqueue() {
	r.queue = r.queue[:0]
	for _, s := range r.shards {
		waits := slices.ContainsFunc(r.parents(s.shard), func(parent *reader) bool { return !parent.done })
		if !s.done && !waits {
			r.queue = append(r.queue, s)
		}
	}
}

// step makes one call for a shard; more is false if yield wants no more.
func (r *reading) step(ctx context.Context, s *reader) (more bool, err error) {
	out, err := r.get(ctx, s)
	if err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return true, r.endure(s, err)
	}
	s.failures = 0
	for i := range out.Records {
		record := ReadRecord{
			Shard:        aws.ToString(s.shard.ShardId),
			Sequence:     aws.ToString(out.Records[i].SequenceNumber),
			ArrivedAt:    aws.ToTime(out.Records[i].ApproximateArrivalTimestamp),
			PartitionKey: aws.ToString(out.Records[i].PartitionKey),
			Data:         out.Records[i].Data,
		}
		if !r.yield(record) {
			return false, nil
		}
		s.from = After(record.Sequence)
	}
	s.iterator = aws.ToString(out.NextShardIterator)
	behind := time.Duration(aws.ToInt64(out.MillisBehindLatest)) * time.Millisecond
	switch {
	case s.iterator == "": // closed, and read to its end
		s.done = true
		if r.options.Follow {
			all, err := r.k.listShards(ctx, nil)
			if err != nil {
				return false, err
			}
			r.descend(all, Oldest())
		}
		r.enqueue()
	case !r.options.Follow && behind <= time.Since(r.began):
		// The shard is read up to a time after the call of Read.
		s.done = true
		r.enqueue()
	case behind > 0:
		s.due = time.Now().Add(paceBehind)
	default:
		s.due = time.Now().Add(paceAtTip)
	}
	return true, nil
}

// get reads from a shard where it was left.
func (r *reading) get(ctx context.Context, s *reader) (*kinesis.GetRecordsOutput, error) {
	if s.iterator == "" {
		in := &kinesis.GetShardIteratorInput{
			StreamName: r.k.name, StreamARN: r.k.arn,
			ShardId:           s.shard.ShardId,
			ShardIteratorType: s.from.kind,
		}
		if s.from.sequence != "" {
			in.StartingSequenceNumber = &s.from.sequence
		}
		if !s.from.time.IsZero() {
			in.Timestamp = &s.from.time
		}
		asked := time.Now()
		out, err := call(ctx, r.k, r.k.client.GetShardIterator, in, once)
		if err != nil {
			return nil, err
		}
		s.iterator = aws.ToString(out.ShardIterator)
		if s.from.kind == types.ShardIteratorTypeLatest {
			s.from = Since(asked) // another iterator must not skip what has come since
		}
	}
	return call(ctx, r.k, r.k.client.GetRecords, &kinesis.GetRecordsInput{ShardIterator: &s.iterator, StreamARN: r.k.arn}, once)
}

// endure makes a shard wait after a call that failed, or returns the error if
// it does not pass.
func (r *reading) endure(s *reader, err error) error {
	s.iterator = "" // it may be what is wrong: they expire
	s.failures++
	f, ok := errors.AsType[*sdk.Failure](err)
	if !ok || f.Trouble || f.Kind != fault.Throttled && patience.Exhausted(s.failures) {
		return err
	}
	s.due = time.Now().Add(patience.Delay(s.failures, paceBehind))
	return nil
}
