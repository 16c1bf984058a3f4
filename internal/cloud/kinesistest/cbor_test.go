package kinesistest_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

// cbor makes a call in CBOR, as the SDKs of Java do.
func (c *client) cbor(operation string, in, out any) answer {
	c.t.Helper()
	body, err := cbor.Marshal(in)
	if err != nil {
		c.t.Fatal(err)
	}
	r := c.request(operation, string(body))
	r.Header.Set("Content-Type", "application/x-amz-cbor-1.1")
	a := c.do(r)
	if a.err != nil || a.header.Get("Content-Type") != "application/x-amz-cbor-1.1" {
		c.t.Fatalf("%s: %d %q (%v)", operation, a.status, a.header, a.err)
	}
	if out == nil && len(a.body) == 0 {
		return a
	}
	if err := cbor.Unmarshal(a.body, out); err != nil {
		c.t.Fatalf("%s: %v in %x", operation, err, a.body)
	}
	return a
}

func TestEveryOperationSpeaksCBOR(t *testing.T) {
	t.Parallel()
	_, c := startWith(t, kinesistest.Config{})
	type in = map[string]any
	check := func(operation string, input, out any) {
		t.Helper()
		if a := c.cbor(operation, input, out); a.status != http.StatusOK {
			t.Fatalf("%s: %d %q", operation, a.status, a.body)
		}
	}
	began := time.Now().Add(-time.Second)
	check("CreateStream", in{"StreamName": "events", "ShardCount": 2}, nil)
	check("UpdateShardCount", in{"StreamName": "events", "TargetShardCount": 1, "ScalingType": "UNIFORM_SCALING"}, new(any))
	check("SplitShard", in{"StreamName": "events", "ShardToSplit": "shardId-000000000002", "NewStartingHashKey": "10"}, nil)
	check("MergeShards", in{"StreamName": "events", "ShardToMerge": "shardId-000000000003", "AdjacentShardToMerge": "shardId-000000000004"}, nil)

	var put struct{ SequenceNumber, ShardId string }
	check("PutRecord", in{"StreamName": "events", "Data": []byte("\xff\x00 raw"), "PartitionKey": "u1"}, &put)
	var puts putOutput
	check("PutRecords", in{"StreamName": "events", "Records": []in{{"Data": []byte{}, "PartitionKey": "u2"}}}, &puts)
	if len(puts.Records) != 1 || puts.FailedRecordCount != 0 || puts.Records[0].SequenceNumber <= put.SequenceNumber {
		t.Errorf("put %+v, then %+v", put, puts)
	}

	var summary struct {
		StreamDescriptionSummary struct {
			OpenShardCount          int
			StreamCreationTimestamp cbor.Tag
		}
	}
	check("DescribeStreamSummary", in{"StreamName": "events"}, &summary)
	created := summary.StreamDescriptionSummary.StreamCreationTimestamp
	if ms, ok := created.Content.(uint64); created.Number != 1 || !ok || time.UnixMilli(int64(ms)).Before(began) || summary.StreamDescriptionSummary.OpenShardCount != 1 {
		t.Errorf("summary %+v", summary)
	}
	for _, operation := range []string{"DescribeStream", "ListShards"} {
		check(operation, in{"StreamName": "events"}, new(any))
	}
	check("ListStreams", in{}, new(any))

	var it struct{ ShardIterator string }
	check("GetShardIterator", in{"StreamName": "events", "ShardId": put.ShardId, "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": cbor.Tag{Number: 1, Content: began.UnixMilli()}}, &it)
	var got struct {
		Records []struct {
			Data                        []byte
			PartitionKey                string
			ApproximateArrivalTimestamp cbor.Tag
		}
	}
	check("GetRecords", in{"ShardIterator": it.ShardIterator}, &got)
	if len(got.Records) != 2 || !bytes.Equal(got.Records[0].Data, []byte("\xff\x00 raw")) || got.Records[1].PartitionKey != "u2" || got.Records[0].ApproximateArrivalTimestamp.Number != 1 {
		t.Errorf("read %+v", got)
	}
	check("DeleteStream", in{"StreamName": "events"}, nil)

	var refused struct {
		Type    string `cbor:"__type"`
		Message string `cbor:"message"`
	}
	if a := c.cbor("DescribeStreamSummary", in{"StreamName": "events"}, &refused); a.status != 400 || refused.Type != "ResourceNotFoundException" || refused.Message == "" {
		t.Errorf("%d %+v", a.status, refused)
	}
	if a := c.cbor("PutRecords", []int{1}, &refused); a.status != 400 || refused.Type != "SerializationException" {
		t.Errorf("%d %+v", a.status, refused)
	}
}

func TestAnotherContentTypeIsRefused(t *testing.T) {
	t.Parallel()
	_, c := start(t, 1)
	r := c.request("PutRecords", entries("u1"))
	r.Header.Set("Content-Type", "application/json")
	a := c.do(r)
	if code, message := a.refused(); a.status != 400 || code != "SerializationException" || message == "" {
		t.Errorf("%d %s (%v)", a.status, a.body, a.err)
	}
}
