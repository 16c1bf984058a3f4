package kinesistest_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

// getOutput is the answer to GetRecords.
type getOutput struct {
	Records []struct {
		Data                         []byte
		PartitionKey, SequenceNumber string
		ApproximateArrivalTimestamp  float64
	}
	NextShardIterator  string
	MillisBehindLatest int64
	ChildShards        []struct {
		ShardId      string
		ParentShards []string
	}
}

func (o getOutput) keys() string {
	var keys []string
	for _, r := range o.Records {
		keys = append(keys, r.PartitionKey)
	}
	return strings.Join(keys, " ")
}

func (c *client) iterator(shard, how string) string {
	c.t.Helper()
	var out struct{ ShardIterator string }
	c.ok("GetShardIterator", `{"StreamName":"events","ShardId":"`+shard+`",`+how+`}`, &out)
	return out.ShardIterator
}

func (c *client) get(iterator, more string) getOutput {
	c.t.Helper()
	var out getOutput
	c.ok("GetRecords", `{"ShardIterator":"`+iterator+`"`+more+`}`, &out)
	return out
}

const firstShard = "shardId-000000000000"

func TestGetRecordsAnswersInTheShapeOfKinesis(t *testing.T) {
	t.Parallel()
	_, c := start(t, 1)
	c.ok("PutRecord", `{"StreamName":"events","Data":"aGVsbG8=","PartitionKey":"u1"}`, nil)
	a := c.call("GetRecords", `{"ShardIterator":"`+c.iterator(firstShard, `"ShardIteratorType":"TRIM_HORIZON"`)+`"}`)
	shape := regexp.MustCompile(`^\{"MillisBehindLatest":0,"NextShardIterator":"[\w+/=]+","Records":\[` +
		`\{"ApproximateArrivalTimestamp":\d{10}(\.\d{1,3})?,"Data":"aGVsbG8=","PartitionKey":"u1","SequenceNumber":"49\d{54}"\}\]\}$`)
	if !shape.Match(a.body) {
		t.Errorf("answer %s", a.body)
	}
}

func TestIteratorsStartWhereTheirTypeSays(t *testing.T) {
	inBubble(t, kinesistest.Config{}, func(t *testing.T, server *kinesistest.Server, c *client) {
		if err := server.Merge("events", firstShard, "shardId-000000000001"); err != nil {
			t.Fatal(err)
		}
		const shard = "shardId-000000000002"
		var sequences []string
		var times []float64
		for _, key := range []string{"a", "b", "c"} {
			times = append(times, float64(time.Now().UnixMilli())/1000)
			sequences = append(sequences, c.put(key).Records[0].SequenceNumber)
			time.Sleep(time.Second)
		}
		latest := c.iterator(shard, `"ShardIteratorType":"LATEST"`)
		c.put("d")
		seconds := func(at float64) string { return strconv.FormatFloat(at, 'f', 3, 64) }
		for how, want := range map[string]string{
			`"ShardIteratorType":"TRIM_HORIZON"`: "a b c d",
			`"ShardIteratorType":"LATEST"`:       "",
			`"ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":"` + sequences[1] + `"`:    "b c d",
			`"ShardIteratorType":"AFTER_SEQUENCE_NUMBER","StartingSequenceNumber":"` + sequences[1] + `"`: "c d",
			`"ShardIteratorType":"AT_TIMESTAMP","Timestamp":` + seconds(times[1]):                         "b c d",
			`"ShardIteratorType":"AT_TIMESTAMP","Timestamp":` + seconds(times[1]+0.001):                   "c d",
			`"ShardIteratorType":"AT_TIMESTAMP","Timestamp":1`:                                            "a b c d",
		} {
			if got := c.get(c.iterator(shard, how), "").keys(); got != want {
				t.Errorf("%s: %q, want %q", how, got, want)
			}
		}
		if got := c.get(latest, "").keys(); got != "d" {
			t.Errorf("after the iterator LATEST was made: %q, want d", got)
		}
	})
}

func TestIteratorsThatCannotBe(t *testing.T) {
	t.Parallel()
	server, c := start(t, 2)
	other := c.put("u1", "u2").Records[0].SequenceNumber // in the second shard
	if err := server.CreateStream(kinesistest.Stream{Name: "second"}); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		`{"StreamName":"events","ShardId":"shardId-000000000009","ShardIteratorType":"LATEST"}`:                                                                        "ResourceNotFoundException",
		`{"StreamName":"gone","ShardId":"shardId-000000000000","ShardIteratorType":"LATEST"}`:                                                                          "ResourceNotFoundException",
		`{"StreamName":"events","ShardId":"shardId-000000000000","ShardIteratorType":"OLDEST"}`:                                                                        "ValidationException",
		`{"StreamName":"events","ShardId":"shardId-000000000000","ShardIteratorType":"AT_SEQUENCE_NUMBER"}`:                                                            "InvalidArgumentException",
		`{"StreamName":"events","ShardId":"shardId-000000000000","ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":"` + other + `"}`:                   "InvalidArgumentException",
		`{"StreamName":"events","ShardId":"shardId-000000000000","ShardIteratorType":"AT_TIMESTAMP"}`:                                                                  "InvalidArgumentException",
		`{"StreamName":"events","ShardId":"shardId-000000000000","ShardIteratorType":"AT_TIMESTAMP","Timestamp":` + fmt.Sprint(time.Now().Add(time.Hour).Unix()) + `}`: "InvalidArgumentException",
	} {
		if code, message := c.call("GetShardIterator", in).refused(); code != want {
			t.Errorf("%s: %s: %s, want %s", in, code, message, want)
		}
	}
	it := c.iterator(firstShard, `"ShardIteratorType":"TRIM_HORIZON"`)
	for in, want := range map[string]string{
		`{"ShardIterator":"AAAA"}`:                     "InvalidArgumentException",
		`{"ShardIterator":"` + it + `","Limit":0}`:     "ValidationException",
		`{"ShardIterator":"` + it + `","Limit":10001}`: "ValidationException",
	} {
		if code, message := c.call("GetRecords", in).refused(); code != want {
			t.Errorf("%s: %s: %s, want %s", in, code, message, want)
		}
	}
}

func TestAnIteratorLivesFiveMinutes(t *testing.T) {
	inBubble(t, kinesistest.Config{}, func(t *testing.T, _ *kinesistest.Server, c *client) {
		it := c.iterator(firstShard, `"ShardIteratorType":"TRIM_HORIZON"`)
		time.Sleep(5 * time.Minute)
		next := c.get(it, "").NextShardIterator
		time.Sleep(time.Nanosecond)
		if code, message := c.call("GetRecords", `{"ShardIterator":"`+it+`"}`).refused(); code != "ExpiredIteratorException" {
			t.Errorf("after five minutes: %s: %s", code, message)
		}
		c.get(next, "")
	})
}

func TestAnIteratorDoesNotReadAStreamThatWasMadeAgain(t *testing.T) {
	t.Parallel()
	server, c := start(t, 1)
	it := c.iterator(firstShard, `"ShardIteratorType":"TRIM_HORIZON"`)
	c.ok("DeleteStream", `{"StreamName":"events"}`, nil)
	if err := server.CreateStream(kinesistest.Stream{Name: "events"}); err != nil {
		t.Fatal(err)
	}
	if code, message := c.call("GetRecords", `{"ShardIterator":"`+it+`"}`).refused(); code != "ResourceNotFoundException" {
		t.Errorf("%s: %s", code, message)
	}
}

func TestReadsAreLimited(t *testing.T) {
	inBubble(t, kinesistest.Config{}, func(t *testing.T, _ *kinesistest.Server, c *client) {
		const shard = "shardId-000000000001" // of u1
		c.put("u1")
		time.Sleep(3 * time.Second)
		c.put("u1")
		time.Sleep(2 * time.Second)
		out := c.get(c.iterator(shard, `"ShardIteratorType":"TRIM_HORIZON"`), `,"Limit":1`)
		if len(out.Records) != 1 || out.MillisBehindLatest != 2000 {
			t.Errorf("%d records, %d ms behind; want 1, 2000", len(out.Records), out.MillisBehindLatest)
		}
		out = c.get(out.NextShardIterator, `,"Limit":1`)
		if len(out.Records) != 1 || out.MillisBehindLatest != 0 {
			t.Errorf("%d records, %d ms behind; want 1, 0", len(out.Records), out.MillisBehindLatest)
		}
	})
}

func TestAReadHasTenMiBAtMost(t *testing.T) {
	t.Parallel()
	_, c := start(t, 1)
	data := base64.StdEncoding.EncodeToString(make([]byte, 1<<20-2))
	for range 11 {
		c.ok("PutRecords", `{"StreamName":"events","Records":[{"PartitionKey":"u1","Data":"`+data+`"}]}`, nil)
	}
	it := c.iterator(firstShard, `"ShardIteratorType":"TRIM_HORIZON"`)
	for _, want := range []struct {
		records int
		behind  bool
	}{{10, true}, {1, false}} {
		body := c.call("GetRecords", `{"ShardIterator":"`+it+`"}`).body // too long to be parsed under the race detector
		n, behind := bytes.Count(body, []byte("SequenceNumber")), !bytes.HasPrefix(body, []byte(`{"MillisBehindLatest":0,`))
		if n != want.records || behind != want.behind {
			t.Errorf("%d records of 1 MiB, behind: %v; want %+v (%.100s)", n, behind, want, body)
		}
		_, rest, _ := bytes.Cut(body, []byte(`"NextShardIterator":"`))
		next, _, _ := bytes.Cut(rest, []byte(`"`))
		it = string(next)
	}
}

func TestAClosedShardEndsAndNamesItsChildren(t *testing.T) {
	t.Parallel()
	server, c := start(t, 2)
	c.put("u1", "u2", "u1")
	it := c.iterator("shardId-000000000001", `"ShardIteratorType":"TRIM_HORIZON"`)
	if err := server.Merge("events", firstShard, "shardId-000000000001"); err != nil {
		t.Fatal(err)
	}
	c.put("u1")
	out := c.get(it, `,"Limit":1`)
	if out.keys() != "u1" || out.NextShardIterator == "" || out.ChildShards != nil {
		t.Errorf("before the end: %+v", out)
	}
	out = c.get(out.NextShardIterator, "")
	if out.keys() != "u1" || out.NextShardIterator != "" || out.MillisBehindLatest != 0 {
		t.Errorf("at the end: %+v", out)
	}
	if len(out.ChildShards) != 1 || out.ChildShards[0].ShardId != "shardId-000000000002" ||
		!slices.Equal(out.ChildShards[0].ParentShards, []string{firstShard, "shardId-000000000001"}) {
		t.Errorf("children %+v", out.ChildShards)
	}
	if got := c.get(c.iterator("shardId-000000000002", `"ShardIteratorType":"TRIM_HORIZON"`), "").keys(); got != "u1" {
		t.Errorf("the child has %q", got)
	}
	a := c.call("GetRecords", `{"ShardIterator":"`+c.iterator(firstShard, `"ShardIteratorType":"LATEST"`)+`"}`)
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(a.body, &raw); err != nil || raw["NextShardIterator"] != nil || raw["ChildShards"] == nil {
		t.Errorf("behind the end of a closed shard: %s (%v)", a.body, err)
	}
}

func TestTrimmedRecordsAreSkipped(t *testing.T) {
	t.Parallel()
	server, c := start(t, 1)
	old := c.put("a").Records[0].SequenceNumber
	it := c.iterator(firstShard, `"ShardIteratorType":"TRIM_HORIZON"`)
	if err := server.Trim("events"); err != nil {
		t.Fatal(err)
	}
	c.put("b")
	for name, it := range map[string]string{
		"made before": it,
		"horizon":     c.iterator(firstShard, `"ShardIteratorType":"TRIM_HORIZON"`),
		"at the old":  c.iterator(firstShard, `"ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":"`+old+`"`),
	} {
		if got := c.get(it, "").keys(); got != "b" {
			t.Errorf("%s: %q, want b", name, got)
		}
	}
}
