package kinesistest_test

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

func TestPutRecordsAnswersInTheShapeOfKinesis(t *testing.T) {
	t.Parallel()
	server, c := start(t, 2)
	a := c.call("PutRecords", `{"StreamName":"events","Records":[{"Data":"aGVsbG8=","PartitionKey":"u1"},{"Data":"","PartitionKey":"u2"}]}`)
	shape := regexp.MustCompile(`^\{"FailedRecordCount":0,"Records":\[` +
		`\{"SequenceNumber":"49\d{54}","ShardId":"shardId-000000000001"\},` +
		`\{"SequenceNumber":"49\d{54}","ShardId":"shardId-000000000000"\}\]\}$`)
	if !shape.Match(a.body) {
		t.Errorf("answer %s", a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/x-amz-json-1.1" {
		t.Errorf("content type %q", got)
	}
	if id := a.header.Get("X-Amzn-Requestid"); !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("request id %q", id)
	}
	for _, r := range server.Records("events") {
		if want := map[string]string{"u1": "hello", "u2": ""}[r.PartitionKey]; string(r.Data) != want || r.Data == nil {
			t.Errorf("%s has %q, want %q", r.PartitionKey, r.Data, want)
		}
		if time.Since(r.ArrivedAt) > time.Minute {
			t.Errorf("%s arrived at %v", r.PartitionKey, r.ArrivedAt)
		}
	}
}

func TestAFailedRecordIsNamedInTheShapeOfKinesis(t *testing.T) {
	t.Parallel()
	server, c := start(t, 1)
	server.Fail(kinesistest.Records(1, kinesistest.Throughput))
	a := c.call("PutRecords", entries("u1"))
	want := `{"FailedRecordCount":1,"Records":[{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"Rate exceeded for shard shardId-000000000000 in stream events under account 123456789012."}]}`
	if string(a.body) != want {
		t.Errorf("answer %s\nwant   %s", a.body, want)
	}
}

func TestRecordsOfAnEncryptedStreamSaySo(t *testing.T) {
	t.Parallel()
	_, c := startWith(t, kinesistest.Config{Streams: []kinesistest.Stream{{Name: "events", KMSKey: "alias/events"}}})
	var out struct{ EncryptionType string }
	c.ok("PutRecords", entries("u1"), &out)
	if out.EncryptionType != "KMS" {
		t.Errorf("encryption %q", out.EncryptionType)
	}
}

func TestPutRecordStoresOne(t *testing.T) {
	t.Parallel()
	server, c := start(t, 2)
	var first, second struct{ SequenceNumber, ShardId string }
	c.ok("PutRecord", `{"StreamName":"events","Data":"aGVsbG8=","PartitionKey":"u1"}`, &first)
	c.ok("PutRecord", `{"StreamName":"events","Data":"","PartitionKey":"u1","SequenceNumberForOrdering":"`+first.SequenceNumber+`"}`, &second)
	if first.ShardId != "shardId-000000000001" || second.SequenceNumber <= first.SequenceNumber {
		t.Errorf("stored at %v, then %v", first, second)
	}
	if got := stored(server); !slices.Equal(got, []string{"u1", "u1"}) {
		t.Errorf("stored %v", got)
	}
	if code, _ := c.call("PutRecord", `{"StreamName":"events","Data":"","PartitionKey":"u1","SequenceNumberForOrdering":"12"}`).refused(); code != "InvalidArgumentException" {
		t.Errorf("a sequence number from elsewhere: %s", code)
	}
}

func TestRecordsGoToTheShardOfTheirHash(t *testing.T) {
	t.Parallel()
	server, c := start(t, 7)
	var keys []string
	for i := range 200 {
		keys = append(keys, fmt.Sprintf("user-%d-é", i))
	}
	c.put(keys...)
	used := map[string]bool{}
	for _, r := range server.Records("events") {
		sum := md5.Sum([]byte(r.PartitionKey))
		hash := new(big.Int).SetBytes(sum[:])
		at := slices.IndexFunc(server.Shards("events"), func(sh kinesistest.Shard) bool { return within(hash, sh) })
		if want := server.Shards("events")[at].ID; r.Shard != want {
			t.Errorf("%s is in %s, want %s", r.PartitionKey, r.Shard, want)
		}
		used[r.Shard] = true
	}
	if len(used) != 7 {
		t.Errorf("200 keys use %d shards of 7", len(used))
	}
}

func within(hash *big.Int, sh kinesistest.Shard) bool {
	start, _ := new(big.Int).SetString(sh.StartingHashKey, 10)
	end, _ := new(big.Int).SetString(sh.EndingHashKey, 10)
	return start.Cmp(hash) <= 0 && hash.Cmp(end) <= 0
}

func TestAnExplicitHashKeyDecides(t *testing.T) {
	t.Parallel()
	server, c := start(t, 2)
	for hash, shard := range map[string]string{
		"0": "shardId-000000000000",
		"170141183460469231731687303715884105727": "shardId-000000000000",
		"170141183460469231731687303715884105728": "shardId-000000000001",
		"340282366920938463463374607431768211455": "shardId-000000000001",
	} {
		var out putOutput
		c.ok("PutRecords", `{"StreamName":"events","Records":[{"Data":"","PartitionKey":"a","ExplicitHashKey":"`+hash+`"}]}`, &out)
		if got := out.Records[0].ShardId; got != shard {
			t.Errorf("hash key %s is in %s, want %s", hash, got, shard)
		}
	}
	for _, r := range server.Records("events") {
		if r.ExplicitHashKey == "" {
			t.Errorf("the explicit hash key of %s is lost", r.Sequence)
		}
	}
}

func TestSequenceNumbersGrowWithinAShardAndIntoItsChildren(t *testing.T) {
	t.Parallel()
	server, c := start(t, 1)
	last := ""
	for round := range 4 {
		for range 12 {
			for _, r := range c.put("u1", "u1", "u1").Records {
				if len(r.SequenceNumber) != 56 || r.SequenceNumber <= last {
					t.Fatalf("sequence %s after %s", r.SequenceNumber, last)
				}
				last = r.SequenceNumber
			}
		}
		shards := server.Shards("events")
		owner := shards[slices.IndexFunc(shards, func(sh kinesistest.Shard) bool {
			sum := md5.Sum([]byte("u1"))
			return sh.Open && within(new(big.Int).SetBytes(sum[:]), sh)
		})]
		if err := server.Split("events", owner.ID); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

func TestPutsAreValidatedAsAWhole(t *testing.T) {
	t.Parallel()
	record := func(data, key, more string) string {
		return `{"Data":"` + data + `","PartitionKey":"` + key + `"` + more + `}`
	}
	body := func(records ...string) string {
		return `{"StreamName":"events","Records":[` + strings.Join(records, ",") + `]}`
	}
	// data of so many bytes
	data := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	good := record("aGVsbG8=", "u1", "")
	const MiB = 1 << 20
	for _, test := range []struct {
		name, body    string
		code, message string // none: all is stored
	}{
		{name: "no record", body: body(), code: "ValidationException", message: "at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{name: "500 records", body: body(slices.Repeat([]string{good}, 500)...)},
		{name: "501 records", body: body(slices.Repeat([]string{good}, 501)...), code: "ValidationException", message: "Member must have length less than or equal to 500"},
		{name: "no data", body: body(good, `{"PartitionKey":"u1"}`), code: "ValidationException", message: "Value null at 'records.2.member.data'"},
		{name: "no key", body: body(good, `{"Data":""}`), code: "ValidationException", message: "Value null at 'records.2.member.partitionKey'"},
		{name: "empty key", body: body(good, record("", "", "")), code: "ValidationException", message: "'records.2.member.partitionKey' failed to satisfy constraint: Member must have length greater"},
		{name: "key of 256 characters", body: body(record("", strings.Repeat("é", 256), ""))},
		{name: "key of 257 characters", body: body(good, record("", strings.Repeat("é", 257), "")), code: "ValidationException", message: "Member must have length less than or equal to 256"},
		{name: "record of 1 MiB, key included", body: body(record(data(MiB-2), "u1", ""))},
		{name: "record of 1 MiB and a byte, key included", body: body(good, record(data(MiB-1), "u1", "")), code: "ValidationException", message: "'records.2.member.data' failed to satisfy constraint: Member must have length less than or equal to 1048576"},
		{name: "call of 10 MiB, keys included", body: body(slices.Repeat([]string{record(data(MiB-2), "u1", "")}, 10)...)},
		{name: "call of 10 MiB and a byte, keys included", body: body(append(slices.Repeat([]string{record(data(MiB-2), "u1", "")}, 10), record("", "u", ""))...), code: "InvalidArgumentException", message: "Records size exceeds 10 MB limit"},
		{name: "hash key above the range", body: body(good, record("", "u1", `,"ExplicitHashKey":"340282366920938463463374607431768211456"`)), code: "InvalidArgumentException", message: "must be in the range: [0, 2^128-1]"},
		{name: "hash key that is no number", body: body(good, record("", "u1", `,"ExplicitHashKey":"-1"`)), code: "ValidationException", message: "regular expression"},
		{name: "hash key with a leading zero", body: body(good, record("", "u1", `,"ExplicitHashKey":"01"`)), code: "ValidationException", message: "regular expression"},
		{name: "unknown stream", body: `{"StreamName":"other","Records":[` + good + `]}`, code: "ResourceNotFoundException", message: "Stream other under account 123456789012 not found."},
		{name: "no stream", body: `{"Records":[` + good + `]}`, code: "ValidationException", message: "StreamARN or StreamName"},
		{name: "by ARN", body: `{"StreamARN":"arn:aws:kinesis:us-east-1:123456789012:stream/events","Records":[` + good + `]}`},
		{name: "ARN of another region", body: `{"StreamARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/events","Records":[` + good + `]}`, code: "ResourceNotFoundException", message: "not found"},
		{name: "no ARN", body: `{"StreamARN":"events","Records":[` + good + `]}`, code: "ValidationException", message: "regular expression"},
		{name: "ARN and name of two streams", body: `{"StreamName":"other","StreamARN":"arn:aws:kinesis:us-east-1:123456789012:stream/events","Records":[` + good + `]}`, code: "ValidationException", message: "two streams"},
		{name: "no JSON", body: `{"StreamName":`, code: "SerializationException"},
		{name: "no base64", body: body(good, record("%", "u1", "")), code: "SerializationException"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server, c := start(t, 2)
			a := c.call("PutRecords", test.body)
			if test.code == "" {
				var out putOutput
				if err := json.Unmarshal(a.body, &out); a.status != http.StatusOK || err != nil || out.FailedRecordCount != 0 || len(out.Records) != len(stored(server)) {
					t.Errorf("answer %d %.300s (%v), stored %d", a.status, a.body, err, len(stored(server)))
				}
				return
			}
			code, message := a.refused()
			if a.status != http.StatusBadRequest || code != test.code || !strings.Contains(message, test.message) {
				t.Errorf("answer %d %.300s, want %s: %s", a.status, a.body, test.code, test.message)
			}
			if got := stored(server); len(got) != 0 {
				t.Errorf("stored %d records of a call that was refused", len(got))
			}
		})
	}
}

func TestTheRecordLimitIsTheStreams(t *testing.T) {
	t.Parallel()
	server, c := startWith(t, kinesistest.Config{Streams: []kinesistest.Stream{{Name: "events", MaxRecordKiB: 2048}}})
	put := func(n int) answer {
		return c.call("PutRecords", `{"StreamName":"events","Records":[{"PartitionKey":"u1","Data":"`+base64.StdEncoding.EncodeToString(make([]byte, n))+`"}]}`)
	}
	if a := put(2<<20 - 2); a.status != http.StatusOK {
		t.Errorf("2 MiB: %d %s", a.status, a.body)
	}
	if code, message := put(2<<20 - 1).refused(); code != "ValidationException" || !strings.Contains(message, "less than or equal to 2097152") {
		t.Errorf("2 MiB and a byte: %s: %s", code, message)
	}
	if got := len(stored(server)); got != 1 {
		t.Errorf("stored %d records", got)
	}
}

func TestCountersCountWhatIsStored(t *testing.T) {
	t.Parallel()
	server, c := start(t, 1)
	data := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	c.ok("PutRecords", `{"StreamName":"events","Records":[{"Data":"`+data(25600-2)+`","PartitionKey":"u1"},{"Data":"`+data(25600-1)+`","PartitionKey":"u1"},{"Data":"","PartitionKey":"u1"}]}`, nil)
	c.call("PutRecords", entries())
	server.Fail(kinesistest.Records(1, kinesistest.Internal))
	c.call("PutRecord", `{"StreamName":"events","Data":"eA==","PartitionKey":"u1"}`)
	got := server.Stats()
	if got.Records != 3 || got.Bytes != 2*25600-3 || got.Units != 1+2+1 {
		t.Errorf("%d records of %d bytes, %d units; want 3 of %d, 4", got.Records, got.Bytes, got.Units, 2*25600-3)
	}
	if got.Calls["PutRecords"] != 2 || got.Calls["PutRecord"] != 1 || got.InFlight != 0 || got.MostInFlight != 1 {
		t.Errorf("calls %+v", got)
	}
}

func TestDiscardedRecordsAreCountedAndNumbered(t *testing.T) {
	t.Parallel()
	server, c := startWith(t, kinesistest.Config{Discard: true, Streams: []kinesistest.Stream{{Name: "events"}}})
	first, second := c.put("u1"), c.put("u1", "u2")
	if first.Records[0].SequenceNumber >= second.Records[0].SequenceNumber {
		t.Errorf("sequence %s, then %s", first.Records[0].SequenceNumber, second.Records[0].SequenceNumber)
	}
	if n := server.Stats().Records; n != 3 || len(server.Records("events")) != 0 {
		t.Errorf("counted %d, kept %d", n, len(server.Records("events")))
	}
	it := c.iterator("shardId-000000000000", `"ShardIteratorType":"TRIM_HORIZON"`)
	if out := c.get(it, ""); len(out.Records) != 0 || out.NextShardIterator == "" {
		t.Errorf("read %+v", out)
	}
}
