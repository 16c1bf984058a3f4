package lambdatest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
)

// put stores a record for each text, with the text up to a colon as its key.
func (r *rig) put(texts ...string) {
	r.t.Helper()
	for batch := range slices.Chunk(texts, 500) {
		var entries []string
		for _, text := range batch {
			key, _, _ := strings.Cut(text, ":")
			entries = append(entries, fmt.Sprintf(`{"Data":%q,"PartitionKey":%q}`, base64.StdEncoding.EncodeToString([]byte(text)), key))
		}
		body := `{"StreamName":"events","Records":[` + strings.Join(entries, ",") + `]}`
		request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.streams.URL()+"/", strings.NewReader(body))
		if err != nil {
			r.t.Fatal(err)
		}
		sign(request, "kinesis", "us-east-1", time.Now())
		request.Header.Set("X-Amz-Target", "Kinesis_20131202.PutRecords")
		request.Header.Set("Content-Type", "application/x-amz-json-1.1")
		c := r.streams.Client()
		resp, err := c.Do(request)
		if err != nil {
			r.t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != 200 {
			r.t.Fatal(resp.Status)
		}
		c.CloseIdleConnections()
	}
}

// mapped starts a mapping from the stream events to f.
func (r *rig) mapped(k lambdatest.KinesisSource) *lambdatest.Mapping {
	r.t.Helper()
	k.Function, k.Server, k.Stream = "f:prod", r.streams, "events"
	m, err := r.MapKinesis(k)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// records is an event as a function reads it.
type records struct {
	Records []struct {
		Kinesis struct {
			PartitionKey, SequenceNumber string
			Data                         []byte
		}
	}
}

func read(payload string) (r records) {
	if err := json.Unmarshal([]byte(payload), &r); err != nil {
		panic(err)
	}
	return r
}

// texts are what the records of an event hold, with spaces between.
func (r records) texts() string {
	var out []string
	for _, one := range r.Records {
		out = append(out, string(one.Kinesis.Data))
	}
	return strings.Join(out, " ")
}

// report is an answer that names the records with these texts.
func (r records) report(texts ...string) string {
	type item struct {
		ID string `json:"itemIdentifier"`
	}
	items := []item{}
	for _, one := range r.Records {
		if slices.Contains(texts, string(one.Kinesis.Data)) {
			items = append(items, item{one.Kinesis.SequenceNumber})
		}
	}
	b, _ := json.Marshal(map[string]any{"batchItemFailures": items})
	return string(b)
}

// batches are the texts of each invocation.
func (c *calls) batches() []string {
	var out []string
	for _, payload := range c.all() {
		out = append(out, read(payload).texts())
	}
	return out
}

// singles makes all records of a rig go to one shard.
func (r *rig) oneShard() {
	r.t.Helper()
	if err := r.streams.Merge("events", "shardId-000000000000", "shardId-000000000001"); err != nil {
		r.t.Fatal(err)
	}
}

func TestARecordOfKinesisInItsEvent(t *testing.T) {
	var c calls
	inBubble(t, one(lambdatest.Function{Handler: c.handler(succeeds)}), func(t *testing.T, r *rig) {
		time.Sleep(1234567 * time.Microsecond)
		r.put(`u"1:hello`)
		stored := r.streams.Records("events")[0]
		time.Sleep(3 * time.Second)
		r.mapped(lambdatest.KinesisSource{})
		r.drain()
		want := `{"Records":[{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"u\"1","sequenceNumber":"` + stored.Sequence + `","data":"` +
			base64.StdEncoding.EncodeToString([]byte(`u"1:hello`)) + `","approximateArrivalTimestamp":946684801.234},` +
			`"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"` + stored.Shard + `:` + stored.Sequence + `","eventName":"aws:kinesis:record",` +
			`"invokeIdentityArn":"arn:aws:iam::123456789012:role/f","awsRegion":"us-east-1","eventSourceARN":"arn:aws:kinesis:us-east-1:123456789012:stream/events"}]}`
		if got := c.all(); len(got) != 1 || got[0] != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		if age := r.Stats("f").IteratorAge; age != 3*time.Second {
			t.Errorf("iterator age %s", age)
		}
	})
}

func TestBatchesOfKinesis(t *testing.T) {
	texts := numbered("a:%d", 7)
	for name, test := range map[string]struct {
		k    lambdatest.KinesisSource
		do   func(r *rig)
		want []string
	}{
		"what is there, up to the batch size": {
			lambdatest.KinesisSource{BatchSize: 3}, func(r *rig) { r.put(texts...) },
			[]string{"a:0 a:1 a:2", "a:3 a:4 a:5", "a:6"},
		},
		"one by one": {
			lambdatest.KinesisSource{BatchSize: 1}, func(r *rig) { r.put(texts[:3]...) },
			[]string{"a:0", "a:1", "a:2"},
		},
		"a window gathers": {
			lambdatest.KinesisSource{MaximumBatchingWindow: 10 * time.Second},
			func(r *rig) {
				for _, text := range texts { // 0 to 9 s, 12 to 21 s, 24 s
					r.put(text)
					time.Sleep(3 * time.Second)
				}
			},
			[]string{"a:0 a:1 a:2 a:3", "a:4 a:5 a:6"},
		},
		"a full batch does not wait for its window": {
			lambdatest.KinesisSource{BatchSize: 2, MaximumBatchingWindow: time.Minute},
			func(r *rig) {
				for _, text := range texts[:4] {
					r.put(text)
					time.Sleep(3 * time.Second)
				}
			},
			[]string{"a:0 a:1", "a:2 a:3"},
		},
		"a closed shard does not wait for its window": {
			lambdatest.KinesisSource{MaximumBatchingWindow: time.Minute},
			func(r *rig) {
				r.put(texts[0])
				time.Sleep(time.Second)
				if err := r.streams.Split("events", "shardId-000000000002"); err != nil {
					r.t.Fatal(err)
				}
			},
			[]string{"a:0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var c calls
			inBubble(t, one(lambdatest.Function{Handler: c.handler(succeeds)}), func(t *testing.T, r *rig) {
				r.oneShard()
				r.mapped(test.k)
				began := time.Now()
				test.do(r)
				r.drain()
				if got := c.batches(); !slices.Equal(got, test.want) {
					t.Errorf("%q", got)
				}
				if took := time.Since(began); took > 40*time.Second {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

func TestAnEventHasAtMost6MiB(t *testing.T) {
	var sizes []int
	var sequences []string
	do := func(_ context.Context, payload []byte) ([]byte, error) {
		sizes = append(sizes, len(payload))
		for _, rest, ok := strings.Cut(string(payload), `"sequenceNumber":"`); ok; _, rest, ok = strings.Cut(rest, `"sequenceNumber":"`) {
			sequences = append(sequences, rest[:56])
		}
		return nil, nil
	}
	inBubble(t, one(lambdatest.Function{Handler: do}), func(t *testing.T, r *rig) {
		r.oneShard()
		for range 10 { // 1 MB each, a third more in base64
			r.put("a:" + strings.Repeat("x", 1_000_000))
		}
		r.mapped(lambdatest.KinesisSource{})
		r.drain()
		if len(sizes) != 3 || slices.Max(sizes) > 6<<20 || sizes[0] < 5<<20 {
			t.Errorf("events of %v bytes", sizes)
		}
		for i, record := range r.streams.Records("events") {
			if i >= len(sequences) || sequences[i] != record.Sequence {
				t.Fatalf("record %d of %v", i, sequences)
			}
		}
	})
}

// A record of 4.75 MB, a third more in base64, fits into no event: it goes to the destination and the shard
// goes on.
func TestARecordThatFitsIntoNoEventIsGivenUp(t *testing.T) {
	var c calls
	inBubble(t, one(lambdatest.Function{Handler: c.handler(succeeds)}), func(t *testing.T, r *rig) {
		if err := r.streams.CreateStream(kinesistest.Stream{Name: "large", MaxRecordKiB: 10240}); err != nil {
			t.Fatal(err)
		}
		body := func(key, data string) string {
			return `{"StreamName":"large","PartitionKey":"` + key + `","Data":"` + base64.StdEncoding.EncodeToString([]byte(data)) + `"}`
		}
		for _, one := range []string{body("a", strings.Repeat("x", 4_750_000)), body("a", "small")} {
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, r.streams.URL()+"/", strings.NewReader(one))
			sign(request, "kinesis", "us-east-1", time.Now())
			request.Header.Set("X-Amz-Target", "Kinesis_20131202.PutRecord")
			request.Header.Set("Content-Type", "application/x-amz-json-1.1")
			client := r.streams.Client()
			resp, err := client.Do(request)
			if err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
			resp.Body.Close()
			client.CloseIdleConnections()
		}
		m, err := r.MapKinesis(lambdatest.KinesisSource{Function: "f", Server: r.streams, Stream: "large", OnFailure: "failed"})
		if err != nil {
			t.Fatal(err)
		}
		r.drain()
		if got := c.batches(); !slices.Equal(got, []string{"small"}) || m.Discarded() != 1 || len(r.queues.Messages("failed")) != 1 {
			t.Errorf("ran %q, %d given up", got, m.Discarded())
		}
		if got := r.queues.Messages("failed")[0].Body; !strings.Contains(got, `"statusCode":413`) || !strings.Contains(got, `"approximateInvokeCount":0`) {
			t.Error(got)
		}
	})
}

func TestWhereAMappingStarts(t *testing.T) {
	for position, want := range map[lambdatest.Position]string{
		"":                     "a:1 a:2 a:3 a:4",
		lambdatest.TrimHorizon: "a:1 a:2 a:3 a:4",
		lambdatest.Latest:      "a:3 a:4",
		lambdatest.AtTimestamp: "a:2 a:3 a:4",
	} {
		t.Run(string(position), func(t *testing.T) {
			var c calls
			inBubble(t, one(lambdatest.Function{Handler: c.handler(succeeds)}), func(t *testing.T, r *rig) {
				shard := func() string {
					all := r.streams.Shards("events")
					return all[len(all)-1].ID
				}
				r.oneShard()
				r.put("a:1")
				time.Sleep(time.Minute)
				at := time.Now()
				r.put("a:2")
				time.Sleep(time.Minute)
				r.mapped(lambdatest.KinesisSource{StartingPosition: position, StartingTimestamp: at})
				r.put("a:3")
				if err := r.streams.Split("events", shard()); err != nil {
					t.Fatal(err)
				}
				r.put("a:4") // in a shard that is read from its start
				r.drain()
				if got := strings.Join(c.batches(), " "); got != want {
					t.Errorf("read %q, want %q", got, want)
				}
			})
		})
	}
}

func TestParentsAreReadBeforeTheirChildren(t *testing.T) {
	var c calls
	do := c.handler(func(n int, payload string) (string, error) {
		time.Sleep(time.Second) // longer than a put takes
		if n%3 == 0 {
			return "", errBroken
		}
		return "null", nil
	})
	inBubble(t, one(lambdatest.Function{Handler: do}), func(t *testing.T, r *rig) {
		r.mapped(lambdatest.KinesisSource{BatchSize: 2, ParallelizationFactor: 3})
		keys := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
		for round := range 6 {
			for _, key := range keys {
				r.put(fmt.Sprintf("%s:%d", key, round))
			}
			var open []string
			for _, sh := range r.streams.Shards("events") {
				if sh.Open {
					open = append(open, sh.ID)
				}
			}
			var err error
			if round%2 == 0 {
				err = r.streams.Split("events", open[len(open)-1])
			} else {
				err = r.streams.Merge("events", open[len(open)-2], open[len(open)-1])
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		r.drain()
		got := map[string]string{} // by key, in the order of their first appearance
		seen := map[string]bool{}
		for _, batch := range c.batches() {
			for text := range strings.FieldsSeq(batch) {
				if !seen[text] {
					seen[text] = true
					got[text[:1]] += text[2:]
				}
			}
		}
		for _, key := range keys {
			if got[key] != "012345" {
				t.Errorf("%s: %s", key, got[key])
			}
		}
	})
}

// Eight keys, batches at once: never two of a key, and each in its order.
func TestAPartitionKeyIsInOneBatchAtATime(t *testing.T) {
	for _, factor := range []int{1, 4, 10} {
		t.Run(fmt.Sprint(factor), func(t *testing.T) {
			var mu sync.Mutex
			running := map[string]bool{}
			order := map[string][]string{}
			most := 0
			do := func(_ context.Context, payload []byte) ([]byte, error) {
				mine := map[string]bool{}
				mu.Lock()
				for _, record := range read(string(payload)).Records {
					key := record.Kinesis.PartitionKey
					if running[key] && !mine[key] {
						t.Errorf("%s runs twice at once", key)
					}
					mine[key], running[key] = true, true
					order[key] = append(order[key], string(record.Kinesis.Data))
				}
				most = max(most, len(running))
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				for key := range mine {
					delete(running, key)
				}
				mu.Unlock()
				return nil, nil
			}
			inBubble(t, one(lambdatest.Function{Handler: do, Concurrency: 100}), func(t *testing.T, r *rig) {
				r.oneShard()
				var texts []string
				for n := range 20 {
					for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
						texts = append(texts, fmt.Sprintf("%s:%02d", key, n))
					}
				}
				r.put(texts...)
				r.mapped(lambdatest.KinesisSource{BatchSize: 4, ParallelizationFactor: factor})
				r.drain()
				for key, seen := range order {
					if len(seen) != 20 || !slices.IsSorted(seen) {
						t.Errorf("%s: %v", key, seen)
					}
				}
				stats := r.Stats("f")
				if factor == 1 && stats.MostConcurrent != 1 || factor > 1 && stats.MostConcurrent < 2 || stats.MostConcurrent > factor || len(order) != 8 {
					t.Errorf("%d batches at once", stats.MostConcurrent)
				}
			})
		})
	}
}

// Each way in which a batch can fail, with all its invocations.
func TestHowABatchOfKinesisIsTriedAgain(t *testing.T) {
	type do = func(n int, r records) (string, error)
	failing := func(texts ...string) do { // as a function error
		return func(_ int, r records) (string, error) {
			if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(r.texts(), text) }) {
				return "", errBroken
			}
			return "", nil
		}
	}
	reporting := func(texts ...string) do {
		return func(_ int, r records) (string, error) { return r.report(texts...), nil }
	}
	answering := func(answer string) do {
		return func(n int, r records) (string, error) {
			if n == 1 {
				return strings.ReplaceAll(answer, "SECOND", r.Records[1].Kinesis.SequenceNumber), nil
			}
			return "null", nil
		}
	}
	const all = "a:0 a:1 a:2 a:3"
	twice, once := []string{all, all}, []string{all}
	for _, test := range []struct {
		name      string
		k         lambdatest.KinesisSource
		do        do
		want      []string
		discarded int
	}{
		{"an error, with retries", lambdatest.KinesisSource{MaximumRetryAttempts: new(2)}, failing("a:2"), []string{all, all, all}, 4},
		{"an error, without retries", lambdatest.KinesisSource{MaximumRetryAttempts: new(0)}, failing("a:2"), once, 4},
		{"an error, once", lambdatest.KinesisSource{}, func(n int, _ records) (string, error) {
			if n == 1 {
				return "", errBroken
			}
			return "", nil
		}, twice, 0},
		{"an error is bisected without use of retries", lambdatest.KinesisSource{MaximumRetryAttempts: new(1), BisectBatchOnFunctionError: true}, failing("a:2"),
			[]string{all, "a:0 a:1", "a:2 a:3", "a:2", "a:2", "a:3"}, 1},
		{"two errors, bisected", lambdatest.KinesisSource{MaximumRetryAttempts: new(0), BisectBatchOnFunctionError: true}, failing("a:0", "a:3"),
			[]string{all, "a:0 a:1", "a:0", "a:1", "a:2 a:3", "a:2", "a:3"}, 2},
		{"failures that nobody asked for", lambdatest.KinesisSource{}, reporting("a:1"), once, 0},

		{"the lowest number is where it goes on", lambdatest.KinesisSource{ReportBatchItemFailures: true, MaximumRetryAttempts: new(1)}, reporting("a:3", "a:1"),
			[]string{all, "a:1 a:2 a:3"}, 3},
		{"with bisect that costs no retry", lambdatest.KinesisSource{ReportBatchItemFailures: true, BisectBatchOnFunctionError: true, MaximumRetryAttempts: new(0)}, reporting("a:1"),
			[]string{all, "a:1 a:2 a:3", "a:1", "a:2 a:3"}, 1},
		{"an error is bisected by halves though failures are reported", lambdatest.KinesisSource{ReportBatchItemFailures: true, BisectBatchOnFunctionError: true, MaximumRetryAttempts: new(0)}, failing("a:3"),
			[]string{all, "a:0 a:1", "a:2 a:3", "a:2", "a:3"}, 1},
		{"step by step", lambdatest.KinesisSource{ReportBatchItemFailures: true}, func(_ int, r records) (string, error) {
			if len(r.Records) > 1 {
				return r.report(string(r.Records[1].Kinesis.Data)), nil
			}
			return "", nil
		}, []string{all, "a:1 a:2 a:3", "a:2 a:3", "a:3"}, 0},

		{"nothing is success", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(""), once, 0},
		{"null is success", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering("null"), once, 0},
		{"an empty object is success", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering("{}"), once, 0},
		{"a list that is null is success", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(`{"batchItemFailures":null}`), once, 0},
		{"an empty list is success", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(`{"batchItemFailures":[]}`), once, 0},
		{"another list is success", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(`{"BatchItemFailures":[{"itemIdentifier":"SECOND"}]}`), once, 0},

		{"no identifier fails all", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(`{"batchItemFailures":[{}]}`), twice, 0},
		{"an empty one", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(`{"batchItemFailures":[{"itemIdentifier":""}]}`), twice, 0},
		{"one that is null", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(`{"batchItemFailures":[{"itemIdentifier":null}]}`), twice, 0},
		{"one under another name", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(`{"batchItemFailures":[{"ItemIdentifier":"SECOND"}]}`), twice, 0},
		{"one that is a number", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(`{"batchItemFailures":[{"itemIdentifier":7}]}`), twice, 0},
		{"one of no record", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(`{"batchItemFailures":[{"itemIdentifier":"7"}]}`), twice, 0},
		{"one that is right and one that is not", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(`{"batchItemFailures":[{"itemIdentifier":"SECOND"},{"itemIdentifier":"7"}]}`), twice, 0},
		{"no list", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(`{"batchItemFailures":7}`), twice, 0},
		{"no object", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(`"done"`), twice, 0},
		{"the right one, to see that it is", lambdatest.KinesisSource{ReportBatchItemFailures: true}, answering(`{"batchItemFailures":[{"itemIdentifier":"SECOND"}]}`), []string{all, "a:1 a:2 a:3"}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var c calls
			config := one(lambdatest.Function{Handler: c.handler(func(n int, payload string) (string, error) { return test.do(n, read(payload)) })})
			inBubble(t, config, func(t *testing.T, r *rig) {
				r.oneShard()
				r.put(numbered("a:%d", 4)...)
				m := r.mapped(test.k)
				r.drain()
				if got := c.batches(); !slices.Equal(got, test.want) {
					t.Errorf("invoked with %q, want %q", got, test.want)
				}
				if m.Discarded() != test.discarded {
					t.Errorf("%d records given up", m.Discarded())
				}
				// The shard goes on behind them.
				before := len(c.all())
				r.put("a:9")
				r.drain()
				if got := c.batches()[before:]; !slices.Equal(got, []string{"a:9"}) {
					t.Errorf("then invoked with %q", got)
				}
			})
		})
	}
}

func TestAFailedBatchHoldsUpItsLaneOnly(t *testing.T) {
	var c calls
	do := c.handler(func(_ int, payload string) (string, error) {
		if strings.Contains(read(payload).texts(), "poison") {
			return "", errBroken
		}
		return "", nil
	})
	inBubble(t, one(lambdatest.Function{Handler: do}), func(t *testing.T, r *rig) {
		m := r.mapped(lambdatest.KinesisSource{BatchSize: 1})
		r.put("u1:poison", "u1:1", "u2:1", "u1:2", "u2:2") // u1 and u2 are in different shards
		time.Sleep(time.Hour)
		var others []string
		tries := 0
		for _, batch := range c.batches() {
			if batch == "u1:poison" {
				tries++
			} else {
				others = append(others, batch)
			}
		}
		// 1 + 2 + ... + 256 s, and then every five minutes, for an hour.
		if want := 1 + 9 + 10; !slices.Equal(others, []string{"u2:1", "u2:2"}) || tries != want {
			t.Errorf("%q, and %d tries of the other", others, tries)
		}
		m.Stop()
		m.Stop()
		before := len(c.all())
		time.Sleep(time.Hour)
		r.drain() // which waits for it no more
		if len(c.all()) != before {
			t.Error("a mapping that was stopped tries again")
		}
	})
}

func TestThrottledBatchesWaitAndUseUpNoRetry(t *testing.T) {
	var c calls
	inBubble(t, one(lambdatest.Function{Handler: c.handler(fails)}), func(t *testing.T, r *rig) {
		r.oneShard()
		r.FailRuns(lambdatest.Calls(lambdatest.Throttled).When(func(n int) bool { return n <= 5 || n == 7 }))
		began := time.Now()
		r.put("a:1", "a:2")
		m := r.mapped(lambdatest.KinesisSource{MaximumRetryAttempts: new(1)})
		r.drain()
		// 1+2+4+8+16 s throttled, an error and 1 s, 1 s throttled, an error.
		if got := c.batches(); !slices.Equal(got, []string{"a:1 a:2", "a:1 a:2"}) || m.Discarded() != 2 || time.Since(began) != 33*time.Second {
			t.Errorf("%q, %d given up, in %s", got, m.Discarded(), time.Since(began))
		}
	})
}

func TestRecordsThatAreTooOldAreGivenUp(t *testing.T) {
	var c calls
	inBubble(t, one(lambdatest.Function{Handler: c.handler(fails)}), func(t *testing.T, r *rig) {
		r.oneShard()
		r.put("a:1")
		time.Sleep(time.Minute)
		r.put("a:2", "a:3")
		time.Sleep(2 * time.Second)
		m := r.mapped(lambdatest.KinesisSource{MaximumRecordAge: time.Minute, OnFailure: "failed"})
		r.drain()
		// a:1 was too old from the start; the others at 64 s, after tries at 2, 3,
		// 5, 9, 17 and 33 s of their age.
		got := c.batches()
		if len(got) != 6 || strings.Count(strings.Join(got, " "), "a:2 a:3") != 6 || m.Discarded() != 3 {
			t.Errorf("%q, %d given up", got, m.Discarded())
		}
		for i, want := range []string{`"condition":"RecordAgeExceeded","approximateInvokeCount":0`, `"condition":"RecordAgeExceeded","approximateInvokeCount":6`} {
			if messages := r.queues.Messages("failed"); len(messages) != 2 || !strings.Contains(messages[i].Body, want) {
				t.Errorf("%+v", messages)
			}
		}
	})
}

func TestARecordOfAFailedBatch(t *testing.T) {
	var c calls
	objects := map[string]string{}
	do := c.handler(func(_ int, payload string) (string, error) {
		if text := read(payload).texts(); strings.Contains(text, "reported") {
			return read(payload).report(text), nil
		}
		return "", errBroken
	})
	inBubble(t, one(lambdatest.Function{Handler: do}), func(t *testing.T, r *rig) {
		r.oneShard()
		time.Sleep(time.Second)
		r.put("a:1")
		time.Sleep(1234 * time.Millisecond)
		r.put("a:2")
		m := r.mapped(lambdatest.KinesisSource{
			MaximumRetryAttempts: new(1), ReportBatchItemFailures: true, OnFailure: "failed",
			OnFailureObject: func(key string, body []byte) error {
				objects[key] = string(body)
				return nil
			},
		})
		r.drain()
		stored := r.streams.Records("events")
		want := compact(t, `{
			"requestContext":{"requestId":"`+c.ids[len(c.ids)-1]+`","functionArn":"arn:aws:lambda:us-east-1:123456789012:function:f:prod","condition":"RetryAttemptsExhausted","approximateInvokeCount":2},
			"responseContext":{"statusCode":200,"executedVersion":"7","functionError":"Unhandled"},
			"version":"1.0","timestamp":"2000-01-01T00:00:03.234Z",
			"KinesisBatchInfo":{"shardId":"shardId-000000000002","startSequenceNumber":"`+stored[0].Sequence+`","endSequenceNumber":"`+stored[1].Sequence+`",
				"approximateArrivalOfFirstRecord":"2000-01-01T00:00:01.000Z","approximateArrivalOfLastRecord":"2000-01-01T00:00:02.234Z",
				"batchSize":2,"streamArn":"arn:aws:kinesis:us-east-1:123456789012:stream/events"}}`)
		if messages := r.queues.Messages("failed"); len(messages) != 1 || compact(t, messages[0].Body) != want {
			t.Errorf("%+v\nwant %s", messages, want)
		}
		if len(objects) != 1 {
			t.Errorf("%d objects", len(objects))
		}
		for key, body := range objects {
			pattern := `^aws/lambda/` + m.UUID + `/shardId-000000000002/2000/01/01/2000-01-01T00\.00\.03-[0-9a-f-]{36}$`
			if !regexp.MustCompile(pattern).MatchString(key) {
				t.Errorf("key %s", key)
			}
			var with map[string]any
			if err := json.Unmarshal([]byte(body), &with); err != nil {
				t.Fatal(err)
			}
			payload, _ := with["payload"].(string)
			delete(with, "payload")
			without, _ := json.Marshal(with)
			if string(without) != want || payload != c.all()[1] {
				t.Errorf("%s\nwant %s\nwith %s", without, want, payload)
			}
		}
		// What the function has reported is no error of it.
		r.put("a:reported")
		r.drain()
		if messages := r.queues.Messages("failed"); len(messages) != 2 || !strings.Contains(messages[1].Body, `"responseContext":{"statusCode":200,"executedVersion":"7"},`) {
			t.Errorf("%+v", messages)
		}
	})
}

func TestARecordOfAFailedBatchThatCannotBeWrittenIsCounted(t *testing.T) {
	var c calls
	inBubble(t, one(lambdatest.Function{Handler: c.handler(fails)}), func(t *testing.T, r *rig) {
		r.oneShard()
		r.put("a:1")
		m := r.mapped(lambdatest.KinesisSource{
			MaximumRetryAttempts: new(0), OnFailure: "none",
			OnFailureObject: func(string, []byte) error { return errors.New("no bucket") },
		})
		r.drain()
		if stats := r.Stats("f"); stats.DestinationDeliveryFailures != 2 || m.Discarded() != 1 {
			t.Errorf("%+v", stats)
		}
	})
}
