package main

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// stored returns an event as the gateway stores it, and its id.
func stored(n, size int) (event, id string) {
	id = fmt.Sprintf("0198c000-0000-7000-8000-%012d", n)
	event = `{"id":"` + id + `","type":"track","name":"n","data":{"a":"`
	return event + strings.Repeat("x", max(0, size-len(event)-3)) + `"}}`, id
}

// aggregated returns a record of events as the Kinesis Producer Library writes
// it.
func aggregated(key string, events ...string) []byte {
	field := func(dst []byte, tag byte, value string) []byte {
		return append(binary.AppendUvarint(append(dst, tag), uint64(len(value))), value...)
	}
	message := field(nil, tagKey, key)
	for _, e := range events {
		message = field(message, tagRecord, string(field([]byte("\x08\x00"), 0x1a, e)))
	}
	sum := md5.Sum(message)
	return slices.Concat(magic, message, sum[:])
}

func encode(record []byte) encoded { return encoded(base64.StdEncoding.EncodeToString(record)) }

func TestEventsOfARecordAreCountedByTheirIDs(t *testing.T) {
	t.Parallel()
	for name, sizes := range map[string][]int{
		"one":                  {80},
		"two":                  {80, 81},
		"lengths of all kinds": {100, 127, 128, 129, 500, 501, 502, 16_383, 16_384, 70_000, 90, 91},
	} {
		// What comes before moves the events to every place in a base64 group.
		for _, key := range []string{"b", "b1", "b12"} {
			var want, got tally
			var events []string
			for i, size := range sizes {
				event, id := stored(i, size)
				events = append(events, event)
				want.add([]byte(id))
			}
			record := aggregated(key, events...)
			if err := got.countRecord(encode(record)); err != nil || got != want {
				t.Errorf("%s, key %s: %+v, %v, want %+v", name, key, got, err, want)
			}
			if size := encode(record).size(); size != len(record) {
				t.Errorf("%s: size %d, want %d", name, size, len(record))
			}
		}
	}
	event, id := stored(7, 300)
	var want, got tally
	want.add([]byte(id))
	if err := got.countRecord(encode([]byte(event))); err != nil || got != want {
		t.Errorf("an event alone: %+v, %v", got, err)
	}
}

func TestARecordThatIsNotUnderstoodIsNotCounted(t *testing.T) {
	t.Parallel()
	first, _ := stored(1, 200)
	second, _ := stored(2, 201)
	good := aggregated("b1", first, second)
	with := func(at int, b byte) []byte { d := bytes.Clone(good); d[at] = b; return d }
	event := bytes.Index(good, []byte(first))
	for name, record := range map[string]encoded{
		"nothing":               encode(nil),
		"no id":                 encode([]byte(`{"name":"n"}`)),
		"short id":              encode([]byte(`{"id":"7","name":"n"}`)),
		"magic alone":           encode(magic),
		"cut":                   encode(good[:len(good)-40]),
		"longer":                encode(append(bytes.Clone(good), 0)),
		"unknown field":         encode(with(4, 0x12)),
		"length beyond the end": encode(with(5, 0xff)),
		"another kind of event": encode(with(event-5, 0x09)),
		"event without an id":   encode(with(event+3, 'I')),
		"not base64":            append(encoded("!!!!"), encode(good)...),
		"half a group":          encode(good)[:57],
	} {
		var got tally
		if err := got.countRecord(record); err == nil {
			t.Errorf("%s: counted as %+v", name, got)
		}
	}
}

// BenchmarkEachRecord is what the sink takes from the load's core for an event
// of a full call.
func BenchmarkEachRecord(b *testing.B) {
	const records, events = 16, 60
	var all []map[string]any
	for i := range records {
		var of []string
		for range events {
			event, _ := stored(len(of), 600)
			of = append(of, event)
		}
		key := fmt.Sprint("b", i)
		all = append(all, map[string]any{"Data": aggregated(key, of...), "PartitionKey": key})
	}
	body, err := json.Marshal(map[string]any{"StreamName": streamName, "Records": all})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var got tally
		err := eachRecord(body, func(_ []byte, record encoded) error { return got.countRecord(record) })
		if err != nil || got.Events != records*events {
			b.Fatalf("%+v, %v", got, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(records*events), "ns/event")
}

// call calls the sink as an SDK does.
func call(t *testing.T, server *httptest.Server, operation, body string, answer any) (status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Target", "Kinesis_20131202."+operation)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(text, answer)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return resp.StatusCode
}

func startSink(t *testing.T, s *sink) *httptest.Server {
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server
}

func TestTheSinkNumbersAndCountsWhatItGets(t *testing.T) {
	t.Parallel()
	server := startSink(t, &sink{shards: 4, latency: time.Millisecond})
	var want tally
	var records []map[string]any
	bytes, units, kilobytes := 0, 0, 0
	for i, sizes := range [][]int{{100}, {500, 500}, {20_000, 20_000}} {
		key := fmt.Sprint("b", i)
		var events []string
		for _, size := range sizes {
			event, id := stored(want.Events, size)
			events = append(events, event)
			want.add([]byte(id))
		}
		record := aggregated(key, events...)
		if len(events) == 1 {
			record = []byte(events[0])
		}
		bytes += len(key) + len(record)
		units += 1 + len(record)/payloadUnit
		kilobytes += 1 + (len(key)+len(record))/1024
		records = append(records, map[string]any{"Data": record, "PartitionKey": key})
	}
	body, err := json.Marshal(map[string]any{"StreamName": streamName, "Records": records})
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]bool{}
	for range 2 {
		var answer struct {
			FailedRecordCount *int
			Records           []struct {
				SequenceNumber string
				Shard          string `json:"ShardId"`
			}
		}
		if status := call(t, server, "PutRecords", string(body), &answer); status != http.StatusOK || answer.FailedRecordCount == nil || *answer.FailedRecordCount != 0 {
			t.Fatalf("%d: %+v", status, answer)
		}
		if len(answer.Records) != len(records) {
			t.Fatalf("%d results of %d records", len(answer.Records), len(records))
		}
		for _, r := range answer.Records {
			numbers[r.SequenceNumber] = len(r.SequenceNumber) == 56 && strings.HasPrefix(r.Shard, "shardId-00000000000")
		}
	}
	if len(numbers) != 6 || slices.Contains(slices.Collect(maps.Values(numbers)), false) {
		t.Errorf("sequence numbers %v", numbers)
	}
	var got received
	if err := get(t.Context(), server.URL, &got); err != nil {
		t.Fatal(err)
	}
	want.join(want)
	if want := (received{Calls: 2, Records: 6, Bytes: 2 * bytes, Units: 2 * units, Kilobytes: 2 * kilobytes, tally: want}); got != want || units != 4 || kilobytes != 43 {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

func TestACallThatIsNotUnderstoodIsRefusedWhole(t *testing.T) {
	t.Parallel()
	server := startSink(t, &sink{shards: 1})
	event, _ := stored(1, 100)
	good := fmt.Sprintf(`{"Data":%q,"PartitionKey":"b1"}`, encode([]byte(event)))
	for _, body := range []string{
		``, `{`, `{}x`, `[]`, `{"Records":[` + good, `{"Records":[` + good + `,]}x`, `{"Records":[` + good + `]}{}`,
		`{"Records":[` + good + `,{"Data":"e30=","PartitionKey":"b1"}]}`,
		`{"Records":[{"Data":"a\/b=","PartitionKey":"b1"}]}`,
		`{"Records":[{"Data":"e30=","PartitionKey":"b1","ExplicitHashKey":"0"}]}`,
	} {
		var answer struct {
			Type string `json:"__type"`
		}
		if status := call(t, server, "PutRecords", body, &answer); status != http.StatusBadRequest || answer.Type != "SerializationException" {
			t.Errorf("%s: answered %d, %+v", body, status, answer)
		}
	}
	var got received
	if err := get(t.Context(), server.URL, &got); err != nil || got != (received{}) {
		t.Errorf("counted %+v, %v", got, err)
	}
}

func TestTheShardsOfTheSinkTakeEveryHash(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 4, 10, 500} {
		s := &sink{shards: n}
		server := startSink(t, s)
		var answer struct {
			Shards []struct {
				HashKeyRange struct{ StartingHashKey, EndingHashKey string }
			}
		}
		call(t, server, "ListShards", `{"StreamName":"bench"}`, &answer)
		if len(answer.Shards) != n {
			t.Fatalf("%d shards of %d", len(answer.Shards), n)
		}
		next := new(big.Int)
		starts := make([]*big.Int, n)
		for i, shard := range answer.Shards {
			first, _ := new(big.Int).SetString(shard.HashKeyRange.StartingHashKey, 10)
			last, _ := new(big.Int).SetString(shard.HashKeyRange.EndingHashKey, 10)
			if first.Cmp(next) != 0 || last.Cmp(first) < 0 {
				t.Fatalf("shard %d of %d starts at %v, want %v, and ends at %v", i, n, first, next, last)
			}
			starts[i] = first
			next.Add(last, big.NewInt(1))
		}
		if next.Cmp(new(big.Int).Lsh(big.NewInt(1), 128)) != 0 {
			t.Errorf("%d shards end before %v", n, next)
		}
		for i := range 100 {
			key := fmt.Sprint("b", i)
			hash := md5.Sum([]byte(key))
			at, exact := slices.BinarySearchFunc(starts, new(big.Int).SetBytes(hash[:]), (*big.Int).Cmp)
			if !exact {
				at--
			}
			if got := s.shardOf([]byte(key)); got != at {
				t.Errorf("%s is put in shard %d of %d, want %d", key, got, n, at)
			}
		}
	}
}
