package kinesistest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

// reply is what a sender can tell of a call.
type reply string

const (
	allStored  reply = "every record has a sequence number"
	someFailed reply = "some results are errors"
	refused    reply = "the call is refused"
	noAnswer   reply = "there is no answer"
	halfAnswer reply = "the answer breaks off"
	rubbish    reply = "the answer is none"
)

// of returns what a sender of n records makes of an answer.
func (a answer) of(n int) reply {
	var out putOutput
	switch {
	case errors.Is(a.err, io.ErrUnexpectedEOF):
		return halfAnswer
	case a.err != nil:
		return noAnswer
	case a.status != http.StatusOK:
		return refused
	case json.Unmarshal(a.body, &out) != nil || len(out.Records) != n:
		return rubbish
	case out.FailedRecordCount > 0:
		return someFailed
	}
	for _, r := range out.Records {
		if r.SequenceNumber == "" {
			return rubbish
		}
	}
	return allStored
}

// Every fault with what the sender sees and what the stream has after it. Where
// one reply stands with both, stored and not stored, a sender cannot know.
func TestFaultsAsTheSenderSeesThem(t *testing.T) {
	t.Parallel()
	records := []string{"u1", "u2", "u3", "u4"} // all but u1 are in the first shard
	for _, test := range []struct {
		name   string
		fault  kinesistest.Fault
		reply  reply
		stored string
	}{
		{"no fault strikes", kinesistest.Calls(kinesistest.Internal).On("ListShards"), allStored, "u1 u2 u3 u4"},

		// Single records: not stored, and said so.
		{"one record over the limit", kinesistest.Records(1, kinesistest.Throughput), someFailed, "u1 u2 u3"},
		{"two records fail inside", kinesistest.Records(2, kinesistest.Internal), someFailed, "u1 u3"},
		{"more records than there are", kinesistest.Records(9, kinesistest.Internal), someFailed, ""},
		{"one key fails", kinesistest.RecordsWhere(func(_, _ int, r kinesistest.Record) bool { return r.PartitionKey == "u3" }, kinesistest.Internal), someFailed, "u1 u2 u4"},
		{"a shard is throttled", kinesistest.Throttle("shardId-000000000000"), someFailed, "u1"},
		{"all shards are throttled", kinesistest.Throttle(), someFailed, ""},
		{"a shard takes two a second", kinesistest.ShardQuota(2, 1<<20), someFailed, "u1 u2 u3"},
		{"a shard takes five bytes a second", kinesistest.ShardQuota(1000, 5), someFailed, "u1 u2"},
		// The answer lies: stored, and said to have failed.
		{"a record fails, it seems", kinesistest.Records(1, kinesistest.Internal).Stored(), someFailed, "u1 u2 u3 u4"},

		// Whole calls.
		{"unavailable", kinesistest.Calls(kinesistest.Unavailable), refused, ""},
		{"failed inside, not stored", kinesistest.Calls(kinesistest.Internal), refused, ""},
		{"failed inside, stored", kinesistest.Calls(kinesistest.Internal).Stored(), refused, "u1 u2 u3 u4"},
		{"the clock is ten minutes ahead", kinesistest.Skew(10 * time.Minute), refused, ""},
		{"the clock is ten minutes late", kinesistest.Skew(-10 * time.Minute), refused, ""},
		{"the clock is four minutes late", kinesistest.Skew(-4 * time.Minute), allStored, "u1 u2 u3 u4"},

		// Connections: the fate is unknown to the sender.
		{"closed before it is read", kinesistest.Disconnect(kinesistest.BeforeReading), noAnswer, ""},
		{"closed before it is stored", kinesistest.Disconnect(kinesistest.BeforeStoring), noAnswer, ""},
		{"closed after it is stored", kinesistest.Disconnect(kinesistest.AfterStoring), noAnswer, "u1 u2 u3 u4"},
		{"cut in the middle", kinesistest.CutAnswer(), halfAnswer, "u1 u2 u3 u4"},

		// Answers that are none: unknown again.
		{"HTML, not stored", kinesistest.Rubbish(kinesistest.HTML), rubbish, ""},
		{"HTML, stored", kinesistest.Rubbish(kinesistest.HTML).Stored(), rubbish, "u1 u2 u3 u4"},
		{"an empty object, not stored", kinesistest.Rubbish(kinesistest.EmptyObject), rubbish, ""},
		{"an empty object, stored", kinesistest.Rubbish(kinesistest.EmptyObject).Stored(), rubbish, "u1 u2 u3 u4"},
		{"nothing, not stored", kinesistest.Rubbish(kinesistest.EmptyBody), rubbish, ""},
		{"nothing, stored", kinesistest.Rubbish(kinesistest.EmptyBody).Stored(), rubbish, "u1 u2 u3 u4"},
		{"no sequence numbers, not stored", kinesistest.Rubbish(kinesistest.NoSequence), rubbish, ""},
		{"no sequence numbers, stored", kinesistest.Rubbish(kinesistest.NoSequence).Stored(), rubbish, "u1 u2 u3 u4"},
		{"half of the answer", kinesistest.Rubbish(kinesistest.HalfJSON), rubbish, "u1 u2 u3 u4"},
		{"a result too few", kinesistest.Rubbish(kinesistest.FewerResults), rubbish, "u1 u2 u3 u4"},
		{"a result too many", kinesistest.Rubbish(kinesistest.MoreResults), rubbish, "u1 u2 u3 u4"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server, c := start(t, 2)
			trouble := server.Fail(test.fault)
			a := c.do(c.request("PutRecords", entries(records...)))
			if got := a.of(len(records)); got != test.reply {
				t.Errorf("%s, want: %s (%d %.300s, %v)", got, test.reply, a.status, a.body, a.err)
			}
			keys := stored(server)
			slices.Sort(keys)
			if got := strings.Join(keys, " "); got != test.stored {
				t.Errorf("stored %q, want %q", got, test.stored)
			}
			trouble.Off()
			if got := c.do(c.request("PutRecords", entries(records...))).of(len(records)); got != allStored {
				t.Errorf("switched off: %s", got)
			}
		})
	}
}

func TestFaultsStrikeOverTLSToo(t *testing.T) {
	t.Parallel()
	server, c := startWith(t, kinesistest.Config{TLS: true, Streams: []kinesistest.Stream{{Name: "events"}}})
	c.put("u1")
	for fault, want := range map[*kinesistest.Fault]reply{
		new(kinesistest.Disconnect(kinesistest.BeforeReading)): noAnswer,
		new(kinesistest.Disconnect(kinesistest.AfterStoring)):  noAnswer,
		new(kinesistest.CutAnswer()):                           halfAnswer,
	} {
		trouble := server.Fail(*fault)
		if got := c.do(c.request("PutRecords", entries("u1"))).of(1); got != want {
			t.Errorf("%s, want: %s", got, want)
		}
		trouble.Off()
	}
	if got := len(stored(server)); got != 3 {
		t.Errorf("stored %d records, want 3", got)
	}
}

func TestErrorsHaveTheShapeOfKinesis(t *testing.T) {
	t.Parallel()
	for err, status := range map[*kinesistest.Error]int{
		kinesistest.Throughput:         400,
		kinesistest.Limit:              400,
		kinesistest.Internal:           500,
		kinesistest.Unavailable:        503,
		kinesistest.ExpiredToken:       400,
		kinesistest.UnrecognizedClient: 400,
		kinesistest.InvalidSignature:   400,
		kinesistest.AccessDenied:       400,
		kinesistest.KMSAccessDenied:    400,
		kinesistest.KMSDisabled:        400,
		kinesistest.KMSThrottling:      400,
		kinesistest.NotFound:           400,
	} {
		server, c := start(t, 1)
		server.Fail(kinesistest.Calls(err))
		a := c.call("DescribeStreamSummary", `{"StreamName":"events"}`)
		want := `{"__type":"` + err.Code + `","message":"` + err.Message + `"}`
		if a.status != status || string(a.body) != want {
			t.Errorf("%d %s\nwant %d %s", a.status, a.body, status, want)
		}
		if a.header.Get("X-Amzn-Requestid") == "" || a.header.Get("Content-Type") != "application/x-amz-json-1.1" {
			t.Errorf("header %v", a.header)
		}
	}
}

func TestPutRecordFailsAsAWhole(t *testing.T) {
	t.Parallel()
	server, c := start(t, 1)
	server.Fail(kinesistest.Throttle())
	a := c.call("PutRecord", `{"StreamName":"events","Data":"","PartitionKey":"u1"}`)
	if code, message := a.refused(); a.status != 400 || code != "ProvisionedThroughputExceededException" || !strings.Contains(message, "shard shardId-000000000000 in stream events") {
		t.Errorf("answer %d %s", a.status, a.body)
	}
	if got := stored(server); len(got) != 0 {
		t.Errorf("stored %v", got)
	}
}

func TestRubbishComesInsteadOfAnyAnswer(t *testing.T) {
	t.Parallel()
	server, c := start(t, 1)
	trouble := server.Fail(kinesistest.Rubbish(kinesistest.NoSequence))
	if a := c.call("PutRecord", `{"StreamName":"events","Data":"","PartitionKey":"u1"}`); a.status != 200 || string(a.body) != `{"SequenceNumber":"","ShardId":""}` {
		t.Errorf("PutRecord: %d %s", a.status, a.body)
	}
	trouble.Off()
	server.Fail(kinesistest.Rubbish(kinesistest.HTML).On("ListShards", "DescribeStreamSummary"))
	for _, operation := range []string{"ListShards", "DescribeStreamSummary"} {
		if a := c.call(operation, `{"StreamName":"events"}`); a.status != 200 || !strings.HasPrefix(string(a.body), "<html>") {
			t.Errorf("%s: %d %s", operation, a.status, a.body)
		}
	}
	c.put("u1")
}

func TestAnErrorCanBeMadeUp(t *testing.T) {
	t.Parallel()
	server, c := start(t, 1)
	server.Fail(kinesistest.Calls(&kinesistest.Error{Code: "KMSNotFoundException", Message: "no key"}))
	if a := c.call("PutRecords", entries("u1")); a.status != 400 || string(a.body) != `{"__type":"KMSNotFoundException","message":"no key"}` {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestAFaultStrikesTheCallsItIsAbout(t *testing.T) {
	inBubble(t, kinesistest.Config{}, func(t *testing.T, server *kinesistest.Server, c *client) {
		strikes := func(f kinesistest.Fault, operations ...string) string {
			trouble := server.Fail(f)
			defer trouble.Off()
			var out strings.Builder
			hits := 0
			for _, operation := range operations {
				in := entries("u1")
				if operation != "PutRecords" {
					in = `{"StreamName":"events"}`
				}
				if c.call(operation, in).status == http.StatusOK {
					out.WriteByte('.')
				} else {
					out.WriteByte('x')
					hits++
				}
				time.Sleep(time.Second)
			}
			if trouble.Hits() != hits {
				t.Errorf("%d hits are counted, %d were felt", trouble.Hits(), hits)
			}
			return out.String()
		}
		fault := kinesistest.Calls(kinesistest.Unavailable)
		six := slices.Repeat([]string{"PutRecords"}, 6)
		mixed := []string{"PutRecords", "ListShards", "PutRecords", "DescribeStreamSummary"}
		for name, test := range map[string]struct {
			fault      kinesistest.Fault
			operations []string
			want       string
		}{
			"always":          {fault, six, "xxxxxx"},
			"times":           {fault.Times(2), six, "xx...."},
			"after":           {fault.After(2), six, "..xxxx"},
			"after and times": {fault.After(1).Times(3), six, ".xxx.."},
			"for":             {fault.For(3 * time.Second), six, "xxx..."},
			"when":            {fault.When(func(call int) bool { return call%2 == 0 }), six, ".x.x.x"},
			"any operation":   {fault, mixed, "xxxx"},
			"one operation":   {fault.On("ListShards"), mixed, ".x.."},
			"its own times":   {fault.On("PutRecords").Times(1), mixed, "x..."},
		} {
			if got := strikes(test.fault, test.operations...); got != test.want {
				t.Errorf("%s: %s, want %s", name, got, test.want)
			}
		}
	})
}

func TestAnUnknownOperationIsAMistakeOfTheTest(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("Fail took PutRecrods")
		}
	}()
	server, _ := start(t, 1)
	server.Fail(kinesistest.Calls(kinesistest.Internal).On("PutRecrods"))
}

func TestFaultsWorkTogetherAndHealTogether(t *testing.T) {
	inBubble(t, kinesistest.Config{}, func(t *testing.T, server *kinesistest.Server, c *client) {
		server.Fail(kinesistest.Delay(3 * time.Second))
		server.Fail(kinesistest.Throttle("shardId-000000000000"))
		server.Fail(kinesistest.CutAnswer())
		began := time.Now()
		if got := c.do(c.request("PutRecords", entries("u1", "u2"))).of(2); got != halfAnswer || time.Since(began) != 3*time.Second {
			t.Errorf("%s after %v", got, time.Since(began))
		}
		if got := stored(server); !slices.Equal(got, []string{"u1"}) {
			t.Errorf("stored %v, want u1", got)
		}
		server.Heal()
		began = time.Now()
		c.put("u1", "u2")
		if took := time.Since(began); took != 0 {
			t.Errorf("healed, and took %v", took)
		}
	})
}

func TestQuotasFillUpWithTime(t *testing.T) {
	inBubble(t, kinesistest.Config{}, func(t *testing.T, server *kinesistest.Server, c *client) {
		trouble := server.Fail(kinesistest.ShardQuota(10, kinesistest.ShardBytes))
		put := func(n int) int {
			var out putOutput
			c.ok("PutRecords", entries(slices.Repeat([]string{"u1"}, n)...), &out)
			return n - out.FailedRecordCount
		}
		if got := put(25); got != 10 {
			t.Errorf("stored %d at once, want 10", got)
		}
		time.Sleep(500 * time.Millisecond)
		if got := put(25); got != 5 {
			t.Errorf("stored %d half a second later, want 5", got)
		}
		time.Sleep(time.Hour)
		if got := put(25); got != 10 {
			t.Errorf("stored %d after a rest, want 10", got)
		}
		trouble.Off()

		server.Fail(kinesistest.ShardQuota(kinesistest.ShardRecords, 3))
		if got := put(1); got != 1 {
			t.Error("a record larger than the quota did not get through a full bucket")
		}
		time.Sleep(900 * time.Millisecond)
		if got := put(1); got != 0 {
			t.Error("a record got through a bucket that was not full again")
		}

		server.Fail(kinesistest.CallQuota(3, kinesistest.Limit).On("ListShards"))
		var codes []string
		for range 4 {
			code, _ := c.call("ListShards", `{"StreamName":"events"}`).refused()
			codes = append(codes, code)
		}
		if !slices.Equal(codes, []string{"", "", "", "LimitExceededException"}) {
			t.Errorf("answers %q", codes)
		}
	})
}

func TestACallThatHangsEndsWhenItsSenderGivesUp(t *testing.T) {
	inBubble(t, kinesistest.Config{}, func(t *testing.T, server *kinesistest.Server, c *client) {
		for at, want := range map[kinesistest.Stage]int{kinesistest.BeforeStoring: 0, kinesistest.AfterStoring: 1} {
			before := len(stored(server))
			trouble := server.Fail(kinesistest.Hang(at))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			began := time.Now()
			a := c.do(c.request("PutRecords", entries("u1")).WithContext(ctx))
			cancel()
			if !errors.Is(a.err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
				t.Errorf("answer %s (%v) after %v", a.body, a.err, time.Since(began))
			}
			synctest.Wait()
			if got := len(stored(server)) - before; got != want {
				t.Errorf("stage %d: stored %d, want %d", at, got, want)
			}
			if n := server.Stats().InFlight; n != 0 {
				t.Errorf("%d calls are in flight", n)
			}
			trouble.Off()
		}
	})
}

func TestACallThatHangsGoesOnWhenTheFaultIsOff(t *testing.T) {
	inBubble(t, kinesistest.Config{}, func(t *testing.T, server *kinesistest.Server, c *client) {
		for _, at := range []kinesistest.Stage{kinesistest.BeforeReading, kinesistest.BeforeStoring, kinesistest.AfterStoring} {
			trouble := server.Fail(kinesistest.Hang(at))
			done := make(chan answer)
			go func() { done <- c.do(c.request("PutRecords", entries("u1"))) }()
			synctest.Wait()
			if n := server.Stats().InFlight; n != 1 {
				t.Errorf("%d calls are in flight, want 1", n)
			}
			trouble.Off()
			if got := (<-done).of(1); got != allStored {
				t.Errorf("stage %d: %s", at, got)
			}
		}
	})
}

// The sender gives up, tries again and hears of success; then the first call
// comes through.
func TestADelayedCallIsStoredAfterItsSenderGaveUp(t *testing.T) {
	inBubble(t, kinesistest.Config{}, func(t *testing.T, server *kinesistest.Server, c *client) {
		server.Fail(kinesistest.DelayBy(func(int) time.Duration { return 10 * time.Second }).Times(1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if a := c.do(c.request("PutRecords", entries("u1")).WithContext(ctx)); a.err == nil {
			t.Errorf("answer %s", a.body)
		}
		first := c.put("u1").Records[0].SequenceNumber
		time.Sleep(10 * time.Second)
		records := server.Records("events")
		if len(records) != 2 || records[0].Sequence != first {
			t.Errorf("stored %+v", records)
		}
	})
}

func TestTheRateOfCallsIsMeasured(t *testing.T) {
	inBubble(t, kinesistest.Config{}, func(t *testing.T, server *kinesistest.Server, c *client) {
		for _, n := range []int{2, 5, 3} { // at 0.0 s, 0.9 s and 1.8 s
			for range n {
				c.call("PutRecords", entries("u1"))
			}
			c.call("ListShards", `{"StreamName":"events"}`)
			time.Sleep(900 * time.Millisecond)
		}
		got := server.Stats()
		if got.PerSecond["PutRecords"] != 8 || got.PerSecond["ListShards"] != 2 {
			t.Errorf("most calls within a second: %v, want 8 and 2", got.PerSecond)
		}
	})
}

func TestFaultsAreSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	server, c := start(t, 2)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				trouble := server.Fail(kinesistest.Records(1, kinesistest.Throughput).Times(3))
				c.call("PutRecords", entries("u1", "u2"))
				server.Stats()
				server.Records("events")
				trouble.Off()
				trouble.Off()
			}
			server.Heal()
		})
	}
	wg.Wait()
	if got := c.do(c.request("PutRecords", entries("u1", "u2"))).of(2); got != allStored {
		t.Error(got)
	}
}
