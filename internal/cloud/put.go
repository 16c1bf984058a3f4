package cloud

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
)

// PutRecords writes records in one call, without retries; see producer.Stream.
// A record is stored if its entry in the answer has a sequence number and no
// error code, and the answer has as many entries as the call: all else is
// either known not to be stored or unknown. A record above the limit that
// Describe has read is refused without a call, for Kinesis refuses the whole
// call for it.
func (k *Kinesis) PutRecords(ctx context.Context, records []stream.Record) ([]stream.Result, error) {
	results := make([]stream.Result, len(records))
	entries := make([]types.PutRecordsRequestEntry, 0, len(records))
	limit := int(k.limit.Load())
	for i := range records {
		r := &records[i]
		if limit > 0 && len(r.PartitionKey)+len(r.Data) > limit {
			results[i].Err = fault.New(fault.TooLarge, "the stream takes records of at most %d bytes", limit)
			continue
		}
		entries = append(entries, types.PutRecordsRequestEntry{PartitionKey: &r.PartitionKey, Data: r.Data})
	}
	if len(entries) == 0 {
		return results, nil
	}
	ctx, a := sdk.Watch(ctx)
	body := bodies.Get().(*[]byte)
	defer bodies.Put(body)
	out, err := k.client.PutRecords(withBody(ctx, body), &kinesis.PutRecordsInput{StreamName: k.name, StreamARN: k.arn, Records: entries}, once)
	if err != nil {
		f := k.subject().Failure(a, err)
		k.note(f)
		if f.Kind == fault.Ambiguous {
			return nil, f
		}
		refuse(records, results, f)
		return results, nil
	}
	if len(out.Records) != len(entries) {
		return nil, fmt.Errorf("%s: an answer with %d entries to a call with %d records", k.stream(), len(out.Records), len(entries))
	}
	k.note(nil)
	events, next := 0, 0
	for i := range results {
		if results[i].Err != nil {
			continue // not in the call
		}
		results[i] = result(&out.Records[next])
		next++
		if results[i].Err == nil {
			events += records[i].Events
		}
	}
	k.stored.Add(uint64(events))
	return results, nil
}

// refuse gives every record of a call that was refused as a whole its result.
// Where one of them is the reason, it alone is too large.
func refuse(records []stream.Record, results []stream.Result, f *sdk.Failure) {
	if f.Kind != fault.TooLarge {
		err := &fault.Error{Kind: f.Kind, Detail: "the stream did not take the event", Err: f}
		for i := range results {
			if results[i].Err == nil {
				results[i].Err = err
			}
		}
		return
	}
	// Kinesis does not say which record it was. Those above the limit of a
	// stream that has not raised it are suspects; a record alone is the one.
	// If there is no suspect, the records are tried again, in other company.
	neighbour := &fault.Error{Kind: fault.Unavailable, Detail: "another event of the same write was too large", Err: f}
	for i := range results {
		switch size := len(records[i].PartitionKey) + len(records[i].Data); {
		case results[i].Err != nil:
		case len(records) == 1 || size > DefaultRecordBytes:
			results[i].Err = &fault.Error{Kind: fault.TooLarge, Detail: fmt.Sprintf("the stream takes no record of %d bytes", size), Err: f}
		default:
			results[i].Err = neighbour
		}
	}
}

// Codes of entries that were not stored. Source: Kinesis API reference,
// PutRecordsResultEntry (read 2026-11): there are no others.
const (
	codeThroughput = "ProvisionedThroughputExceededException"
	codeInternal   = "InternalFailure"
)

// result reads the entry of a record.
func result(e *types.PutRecordsResultEntry) stream.Result {
	code, sequence := aws.ToString(e.ErrorCode), aws.ToString(e.SequenceNumber)
	switch {
	case code == "" && isSequence(sequence):
		return stream.Result{Sequence: aws.ToString(e.ShardId) + ":" + sequence}
	case sequence != "":
		// Stored and not stored at once, or with a number that is none.
	case code == codeThroughput:
		return stream.Result{Err: &fault.Error{Kind: fault.Throttled, Detail: "the stream is at capacity", Err: fmt.Errorf("%s: %s", code, sdk.OneLine(aws.ToString(e.ErrorMessage)))}}
	case code == codeInternal:
		// "A record that fails to be added to a stream includes ErrorCode and
		// ErrorMessage in the result" (PutRecords): so AWS says of this code
		// too that the record is not on the stream. Were that wrong, writing
		// it again would make a duplicate, and nothing would be lost.
		return stream.Result{Err: &fault.Error{Kind: fault.Unavailable, Detail: "the stream failed to take the event", Err: fmt.Errorf("%s: %s", code, sdk.OneLine(aws.ToString(e.ErrorMessage)))}}
	}
	return stream.Result{Err: &fault.Error{Kind: fault.Ambiguous, Detail: "the stream's answer for the event cannot be understood", Err: fmt.Errorf("error code %q, sequence number %q", sdk.OneLine(code), sdk.OneLine(sequence))}}
}

// isSequence reports whether s is a sequence number: decimal digits.
func isSequence(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
