package kinesistest_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

func TestDescriptionsHaveTheShapeOfKinesis(t *testing.T) {
	t.Parallel()
	_, c := startWith(t, kinesistest.Config{Streams: []kinesistest.Stream{
		{Name: "events", Shards: 2},
		{Name: "other", OnDemand: true, MaxRecordKiB: 10240, KMSKey: "alias/other"},
	}})
	for in, shape := range map[string]string{
		`DescribeStreamSummary {"StreamName":"events"}`: `\{"StreamDescriptionSummary":\{"StreamARN":"arn:aws:kinesis:us-east-1:123456789012:stream/events","StreamCreationTimestamp":\d{10}(\.\d+)?,` +
			`"StreamModeDetails":\{"StreamMode":"PROVISIONED"\},"StreamName":"events","StreamStatus":"ACTIVE","ConsumerCount":0,"EncryptionType":"NONE",` +
			`"EnhancedMonitoring":\[\{"ShardLevelMetrics":\[\]\}\],"MaxRecordSizeInKiB":1024,"OpenShardCount":2,"RetentionPeriodHours":24\}\}`,
		`DescribeStreamSummary {"StreamARN":"arn:aws:kinesis:us-east-1:123456789012:stream/other"}`: `.*"StreamMode":"ON_DEMAND".*"EncryptionType":"KMS".*"KeyId":"alias/other","MaxRecordSizeInKiB":10240,"OpenShardCount":4,.*`,
		`DescribeStream {"StreamName":"events","Limit":1}`: `\{"StreamDescription":\{.*"HasMoreShards":true,"RetentionPeriodHours":24,"Shards":\[` +
			`\{"HashKeyRange":\{"EndingHashKey":"170141183460469231731687303715884105727","StartingHashKey":"0"\},"SequenceNumberRange":\{"StartingSequenceNumber":"49\d{54}"\},"ShardId":"shardId-000000000000"\}\]\}\}`,
		`DescribeStream {"StreamName":"events","ExclusiveStartShardId":"shardId-000000000000"}`: `.*"HasMoreShards":false.*"Shards":\[\{[^}]*\},[^}]*\},"ShardId":"shardId-000000000001"\}\].*`,
	} {
		operation, body, _ := strings.Cut(in, " ")
		if a := c.call(operation, body); !regexp.MustCompile(`^` + shape + `$`).Match(a.body) {
			t.Errorf("%s: %s", in, a.body)
		}
	}
}

func TestStreamsAreCreatedListedAndDeleted(t *testing.T) {
	t.Parallel()
	server, c := startWith(t, kinesistest.Config{})
	for i := range 5 {
		c.ok("CreateStream", fmt.Sprintf(`{"StreamName":"s%d","ShardCount":%d}`, i, i+1), nil)
	}
	c.ok("CreateStream", `{"StreamName":"s5","StreamModeDetails":{"StreamMode":"ON_DEMAND"},"MaxRecordSizeInKiB":2048}`, nil)
	for in, want := range map[string]string{
		`{"StreamName":"s1","ShardCount":1}`:                                                "ResourceInUseException",
		`{"StreamName":"s6","ShardCount":0}`:                                                "ValidationException",
		`{"StreamName":"s6"}`:                                                               "ValidationException",
		`{"StreamName":"s/6","ShardCount":1}`:                                               "ValidationException",
		`{"StreamName":"s6","ShardCount":1,"MaxRecordSizeInKiB":10241}`:                     "ValidationException",
		`{"StreamName":"s6","ShardCount":1,"StreamModeDetails":{"StreamMode":"ON_DEMAND"}}`: "ValidationException",
		`{"StreamName":"s6","ShardCount":10001}`:                                            "LimitExceededException",
	} {
		if code, message := c.call("CreateStream", in).refused(); code != want {
			t.Errorf("%s: %s: %s, want %s", in, code, message, want)
		}
	}
	if got := len(server.Shards("s4")); got != 5 {
		t.Errorf("s4 has %d shards, want 5", got)
	}
	c.ok("DeleteStream", `{"StreamName":"s3"}`, nil)
	var out struct {
		HasMoreStreams  bool
		NextToken       string
		StreamNames     []string
		StreamSummaries []struct{ StreamName, StreamStatus string }
	}
	var names []string
	for in := `{"Limit":2}`; in != ""; {
		c.ok("ListStreams", in, &out)
		names = append(names, out.StreamNames...)
		if len(out.StreamSummaries) != len(out.StreamNames) || out.StreamSummaries[0].StreamStatus != "ACTIVE" {
			t.Errorf("summaries %+v", out.StreamSummaries)
		}
		in = ""
		if out.HasMoreStreams {
			in = `{"Limit":2,"NextToken":"` + out.NextToken + `"}`
			out.NextToken = ""
		}
	}
	if want := []string{"s0", "s1", "s2", "s4", "s5"}; !slices.Equal(names, want) {
		t.Errorf("listed %v, want %v", names, want)
	}
	for _, operation := range []string{"DeleteStream", "DescribeStream", "DescribeStreamSummary", "ListShards"} {
		if code, _ := c.call(operation, `{"StreamName":"s3"}`).refused(); code != "ResourceNotFoundException" {
			t.Errorf("%s of a stream that is gone: %s", operation, code)
		}
	}
}

func TestAStreamIsCreatingThenActiveThenDeletingThenGone(t *testing.T) {
	inBubble(t, kinesistest.Config{Transition: 10 * time.Second}, func(t *testing.T, server *kinesistest.Server, c *client) {
		check := func(status string, stored bool) {
			t.Helper()
			var out struct{ StreamDescriptionSummary struct{ StreamStatus string } }
			c.ok("DescribeStreamSummary", `{"StreamName":"events"}`, &out)
			if got := out.StreamDescriptionSummary.StreamStatus; got != status {
				t.Errorf("status %s, want %s", got, status)
			}
			if a := c.call("PutRecords", entries("u1")); (a.of(1) == allStored) != stored {
				t.Errorf("%s: %d %s", status, a.status, a.body)
			}
		}
		check("CREATING", false)
		time.Sleep(10 * time.Second)
		check("ACTIVE", true)
		c.ok("SplitShard", `{"StreamName":"events","ShardToSplit":"shardId-000000000000","NewStartingHashKey":"10"}`, nil)
		check("UPDATING", true)
		time.Sleep(10 * time.Second)
		check("ACTIVE", true)
		c.ok("DeleteStream", `{"StreamName":"events"}`, nil)
		check("DELETING", false)
		if code, _ := c.call("CreateStream", `{"StreamName":"events","ShardCount":1}`).refused(); code != "ResourceInUseException" {
			t.Errorf("created while it is being deleted: %s", code)
		}
		time.Sleep(10 * time.Second)
		if code, _ := c.call("PutRecords", entries("u1")).refused(); code != "ResourceNotFoundException" {
			t.Errorf("after it was deleted: %s", code)
		}
		c.ok("CreateStream", `{"StreamName":"events","ShardCount":1}`, nil)
		check("CREATING", false)
	})
}

func TestAStatusCanBeSet(t *testing.T) {
	t.Parallel()
	server, c := start(t, 1)
	for status, want := range map[string]reply{"CREATING": refused, "DELETING": refused, "UPDATING": allStored, "ACTIVE": allStored} {
		if err := server.SetStatus("events", status); err != nil {
			t.Fatal(err)
		}
		if got := c.call("PutRecords", entries("u1")).of(1); got != want {
			t.Errorf("%s: %s", status, got)
		}
	}
	if server.SetStatus("events", "GONE") == nil || server.SetStatus("other", "ACTIVE") == nil {
		t.Error("a status or a stream that is none was taken")
	}
}
