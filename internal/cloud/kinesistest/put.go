package kinesistest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

func (c *call) putRecord(in *putRecordInput) (any, *Error) {
	st, err := c.stream(in.streamRef, true)
	if err != nil {
		return nil, err
	}
	p := placing{call: c, stream: st, single: true}
	if err := p.check([]entry{in.entry}); err != nil {
		return nil, err
	}
	if in.SequenceNumberForOrdering != "" && !st.has(in.SequenceNumberForOrdering) {
		return nil, badArgument("ExclusiveMinimumSequenceNumber " + in.SequenceNumberForOrdering + " used in PutRecord on stream " + st.Name + " under account " + account + " is invalid.")
	}
	r := p.store()[0]
	if err := p.failed; err != nil {
		return nil, err
	}
	return putRecordOutput{EncryptionType: st.encrypted(), SequenceNumber: r.SequenceNumber, ShardId: r.ShardId}, nil
}

func (c *call) putRecords(in *putRecordsInput) (any, *Error) {
	if n := len(in.Records); n == 0 {
		return nil, violation("[]", "records", "Member must have length greater than or equal to 1")
	} else if n > maxCallRecords {
		return nil, violation("["+strconv.Itoa(n)+" entries]", "records", "Member must have length less than or equal to "+strconv.Itoa(maxCallRecords))
	}
	st, err := c.stream(in.streamRef, true)
	if err != nil {
		return nil, err
	}
	p := placing{call: c, stream: st}
	if err := p.check(in.Records); err != nil {
		return nil, err
	}
	out := &putRecordsOutput{EncryptionType: st.encrypted(), Records: p.store()}
	for i := range out.Records {
		if out.Records[i].ErrorCode != "" {
			out.FailedRecordCount++
		}
	}
	for _, spoil := range awstest.Details[resultFault](c.plan) {
		out.Records = spoil(out.Records)
	}
	return out, nil
}

// placing is the records of one call on their way into a stream.
type placing struct {
	*call
	stream *kstream
	single bool // a PutRecord call, where fields stand outside a list

	records []Record
	hashes  []hashKey
	failed  *Error // of the last record that failed
}

// field is how an error names a field of entry i.
func (p *placing) field(i int, name string) string {
	if p.single {
		return name
	}
	return fmt.Sprintf("records.%d.member.%s", i+1, name)
}

// check takes the entries over if all are in order: one that is not refuses
// the call.
func (p *placing) check(entries []entry) *Error {
	p.records = make([]Record, len(entries))
	p.hashes = make([]hashKey, len(entries))
	limit, total := p.stream.MaxRecordKiB<<10, 0
	for i := range entries {
		e, r := &entries[i], &p.records[i]
		switch {
		case e.Data == nil:
			return p.null(i, "data")
		case e.PartitionKey == nil:
			return p.null(i, "partitionKey")
		}
		*r = Record{PartitionKey: *e.PartitionKey, ExplicitHashKey: e.ExplicitHashKey, Data: e.Data}
		runes := utf8.RuneCountInString(r.PartitionKey)
		switch {
		case runes < 1:
			return violation(r.PartitionKey, p.field(i, "partitionKey"), "Member must have length greater than or equal to 1")
		case runes > maxKeyRunes:
			return violation(r.PartitionKey, p.field(i, "partitionKey"), fmt.Sprintf("Member must have length less than or equal to %d", maxKeyRunes))
		case r.size() > limit:
			return violation(fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%[1]d]", len(r.Data)), p.field(i, "data"), fmt.Sprintf("Member must have length less than or equal to %d", limit))
		}
		p.hashes[i] = hashOf(r.PartitionKey)
		if explicit := e.ExplicitHashKey; explicit != "" {
			if !decimal(explicit) {
				return violation(explicit, p.field(i, "explicitHashKey"), `Member must satisfy regular expression pattern: 0|([1-9]\d{0,38})`)
			}
			hash, ok := parseHashKey(explicit)
			if !ok {
				return badArgument("Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was " + explicit)
			}
			p.hashes[i] = hash
		}
		total += r.size()
	}
	if total > maxCallBytes {
		return badArgument("Records size exceeds 10 MB limit")
	}
	return nil
}

func (p *placing) null(i int, name string) *Error {
	err := violation("", p.field(i, name), "Member must not be null")
	return invalid("1 validation error detected: Value null at " + err.Message[len("1 validation error detected: Value '' at "):])
}

// decimal reports whether s matches 0|([1-9]\d{0,38}).
func decimal(s string) bool {
	if s == "0" {
		return true
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s[0] != '0' && len(s) <= 39
}

// store gives every record its place, and a sequence number or an error.
func (p *placing) store() []result {
	results := make([]result, len(p.records))
	st, now := p.stream, time.Now()
	faults := awstest.Details[recordFault](p.plan)
	var records, bytes, units int64
	st.mu.Lock()
	for i := range p.records {
		r, out := &p.records[i], &results[i]
		sh := st.owner(p.hashes[i])
		r.Shard = sh.id
		err, stored := refuses(faults, i, len(p.records), r)
		if err == nil || stored {
			sh.count++
			r.Sequence, r.ArrivedAt = sh.sequence(sh.count, now), now
			if !p.config.Discard {
				sh.records = append(sh.records, *r)
			}
			records++
			bytes += int64(len(r.Data))
			units += int64((r.size() + payloadUnit - 1) / payloadUnit)
		}
		switch {
		case err == nil:
			out.SequenceNumber, out.ShardId = r.Sequence, sh.id
		case err == untold:
		case err.Code == Throughput.Code:
			p.failed = throttled(sh.id, st.Name)
			out.ErrorCode, out.ErrorMessage = p.failed.Code, p.failed.Message
		default:
			p.failed = err
			out.ErrorCode, out.ErrorMessage = err.Code, err.Message
		}
	}
	if records > 0 {
		st.signal()
	}
	st.mu.Unlock()
	p.stats.stored(records, bytes, units)
	return results
}

// has reports whether a sequence number is of this stream.
func (st *kstream) has(sequence string) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, sh := range st.shards {
		if n, ok := sh.position(sequence); ok && n <= sh.count {
			return true
		}
	}
	return false
}

// encrypted is the encryption type in answers about records; empty for none.
func (st *kstream) encrypted() string {
	if st.KMSKey == "" {
		return ""
	}
	return "KMS"
}

// appendJSON appends the answer; bench puts depend on it being cheap.
func (o *putRecordsOutput) appendJSON(b []byte) []byte {
	if b == nil {
		b = make([]byte, 0, 64+len(o.Records)*128)
	}
	b = append(b, '{')
	if o.EncryptionType != "" {
		b = append(append(append(b, `"EncryptionType":"`...), o.EncryptionType...), `",`...)
	}
	b = strconv.AppendInt(append(b, `"FailedRecordCount":`...), int64(o.FailedRecordCount), 10)
	b = append(b, `,"Records":[`...)
	for i := range o.Records {
		if i > 0 {
			b = append(b, ',')
		}
		b = o.Records[i].appendJSON(b)
	}
	return append(b, "]}"...)
}

// appendJSON appends a result. Only an error's message can have characters to
// escape.
func (r *result) appendJSON(b []byte) []byte {
	switch {
	case r.ErrorCode != "":
		message, _ := json.Marshal(r.ErrorMessage)
		b = append(append(append(b, `{"ErrorCode":"`...), r.ErrorCode...), `","ErrorMessage":`...)
		b = append(append(b, message...), '}')
	case r.SequenceNumber != "":
		b = append(append(append(b, `{"SequenceNumber":"`...), r.SequenceNumber...), `","ShardId":"`...)
		b = append(append(b, r.ShardId...), `"}`...)
	default:
		b = append(b, "{}"...)
	}
	return b
}
