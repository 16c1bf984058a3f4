package kinesistest

import (
	"strings"
	"time"
)

// operation serves a call and returns the output; nil has no body.
type operation func(c *call) (any, *Error)

// operations are those that the server has.
var operations map[string]operation

func init() { // not a literal: faults, which operations run, look names up in it
	operations = map[string]operation{
		"CreateStream":          on((*call).createStream),
		"DeleteStream":          on((*call).deleteStream),
		"DescribeStream":        on((*call).describeStream),
		"DescribeStreamSummary": on((*call).describeStreamSummary),
		"GetRecords":            on((*call).getRecords),
		"GetShardIterator":      on((*call).getShardIterator),
		"ListShards":            on((*call).listShards),
		"ListStreams":           on((*call).listStreams),
		"MergeShards":           on((*call).mergeShards),
		"PutRecord":             on((*call).putRecord),
		"PutRecords":            on((*call).putRecords),
		"SplitShard":            on((*call).splitShard),
		"UpdateShardCount":      on((*call).updateShardCount),
	}
}

// on makes an operation of a method.
func on[In any](serve func(*call, *In) (any, *Error)) operation {
	return func(c *call) (any, *Error) {
		in := new(In)
		if err := c.decode(in); err != nil {
			return nil, err
		}
		return serve(c, in)
	}
}

// stream returns the stream that a call names. Only descriptions are given of
// one that does not serve (yet, or any more).
func (c *call) stream(ref streamRef, serving bool) (*kstream, *Error) {
	name := ref.StreamName
	if ref.StreamARN != "" {
		_, fromARN, ok := strings.Cut(ref.StreamARN, ":stream/")
		if !ok || !strings.HasPrefix(ref.StreamARN, "arn:aws") {
			return nil, violation(ref.StreamARN, "streamARN", "Member must satisfy regular expression pattern: arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+")
		}
		if name != "" && name != fromARN {
			return nil, invalid("StreamARN and StreamName are of two streams.")
		}
		name = fromARN
	}
	if name == "" {
		return nil, invalid("Either StreamARN or StreamName must be given.")
	}
	st := c.lookup(name)
	if st == nil || ref.StreamARN != "" && ref.StreamARN != st.arn {
		return nil, noStream(name)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if serving && !st.serves(time.Now()) {
		return nil, noStream(name)
	}
	return st, nil
}
