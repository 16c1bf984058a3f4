package kinesistest_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

// ranges returns the open shards of the stream events, by hash range.
func ranges(s *kinesistest.Server) []kinesistest.Shard {
	open := slices.DeleteFunc(s.Shards("events"), func(sh kinesistest.Shard) bool { return !sh.Open })
	slices.SortFunc(open, func(a, b kinesistest.Shard) int { return number(a.StartingHashKey).Cmp(number(b.StartingHashKey)) })
	return open
}

func number(decimal string) *big.Int {
	n, _ := new(big.Int).SetString(decimal, 10)
	return n
}

// checkCovered checks that the open shards take every hash key once.
func checkCovered(t *testing.T, s *kinesistest.Server) {
	t.Helper()
	next := new(big.Int)
	for _, sh := range ranges(s) {
		if number(sh.StartingHashKey).Cmp(next) != 0 {
			t.Errorf("%s starts at %s, want %s", sh.ID, sh.StartingHashKey, next)
		}
		next.Add(number(sh.EndingHashKey), big.NewInt(1))
	}
	if want := new(big.Int).Lsh(big.NewInt(1), 128); next.Cmp(want) != 0 {
		t.Errorf("shards end before %s, want %s", next, want)
	}
}

func TestShardsStartWhereThoseOfAWSDo(t *testing.T) {
	t.Parallel()
	for shards, starts := range map[int][]string{
		1: {"0"},
		2: {"0", "170141183460469231731687303715884105728"},
		3: {"0", "113427455640312821154458202477256070485", "226854911280625642308916404954512140970"},
		4: {"0", "85070591730234615865843651857942052864", "170141183460469231731687303715884105728", "255211775190703847597530955573826158592"},
	} {
		server, _ := start(t, shards)
		checkCovered(t, server)
		for i, sh := range ranges(server) {
			if sh.StartingHashKey != starts[i] || sh.ID != fmt.Sprintf("shardId-%012d", i) {
				t.Errorf("shard %d of %d is %s and starts at %s, want %s", i, shards, sh.ID, sh.StartingHashKey, starts[i])
			}
		}
	}
}

func TestSplitShardHandsItsRangeToTwo(t *testing.T) {
	t.Parallel()
	server, c := start(t, 2)
	c.put("u1", "u2")
	c.ok("SplitShard", `{"StreamName":"events","ShardToSplit":"shardId-000000000000","NewStartingHashKey":"1000"}`, nil)
	checkCovered(t, server)
	var out struct {
		Shards []struct {
			ShardId, ParentShardId string
			HashKeyRange           struct{ StartingHashKey, EndingHashKey string }
			SequenceNumberRange    struct{ StartingSequenceNumber, EndingSequenceNumber string }
		}
	}
	c.ok("ListShards", `{"StreamName":"events"}`, &out)
	if len(out.Shards) != 4 {
		t.Fatalf("%d shards, want 4", len(out.Shards))
	}
	parent, low, high := out.Shards[0], out.Shards[2], out.Shards[3]
	if low.HashKeyRange.EndingHashKey != "999" || high.HashKeyRange.StartingHashKey != "1000" ||
		low.ParentShardId != parent.ShardId || high.ParentShardId != parent.ShardId {
		t.Errorf("children %+v and %+v", low, high)
	}
	if end := parent.SequenceNumberRange.EndingSequenceNumber; end <= parent.SequenceNumberRange.StartingSequenceNumber ||
		low.SequenceNumberRange.StartingSequenceNumber <= end {
		t.Errorf("the parent ends at %q, its child starts at %q", end, low.SequenceNumberRange.StartingSequenceNumber)
	}
	if got := c.put("u2").Records[0].ShardId; got != high.ShardId {
		t.Errorf("u2 goes to %s now, want %s", got, high.ShardId)
	}
}

func TestMergeShardsHandsTwoRangesToOne(t *testing.T) {
	t.Parallel()
	server, c := start(t, 3)
	c.ok("MergeShards", `{"StreamName":"events","ShardToMerge":"shardId-000000000001","AdjacentShardToMerge":"shardId-000000000000"}`, nil)
	checkCovered(t, server)
	child := server.Shards("events")[3]
	if !slices.Equal(child.Parents, []string{"shardId-000000000001", "shardId-000000000000"}) || !child.Open {
		t.Errorf("child %+v", child)
	}
	var out struct {
		Shards []struct{ ShardId, ParentShardId, AdjacentParentShardId string }
	}
	c.ok("ListShards", `{"StreamName":"events","ExclusiveStartShardId":"shardId-000000000002"}`, &out)
	if len(out.Shards) != 1 || out.Shards[0].ParentShardId != "shardId-000000000001" || out.Shards[0].AdjacentParentShardId != "shardId-000000000000" {
		t.Errorf("listed %+v", out.Shards)
	}
}

func TestReshardingIsRefusedWhereItCannotBe(t *testing.T) {
	t.Parallel()
	server, c := start(t, 3)
	for _, stream := range []kinesistest.Stream{{Name: "on-demand", OnDemand: true}, {Name: "busy"}} {
		if err := server.CreateStream(stream); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.SetStatus("busy", "UPDATING"); err != nil {
		t.Fatal(err)
	}
	c.ok("SplitShard", `{"StreamName":"events","ShardToSplit":"shardId-000000000002","NewStartingHashKey":"300000000000000000000000000000000000000"}`, nil)
	for _, test := range []struct{ operation, in, code string }{
		{"SplitShard", `{"StreamName":"events","ShardToSplit":"shardId-000000000000","NewStartingHashKey":"0"}`, "InvalidArgumentException"},
		{"SplitShard", `{"StreamName":"events","ShardToSplit":"shardId-000000000000","NewStartingHashKey":"113427455640312821154458202477256070485"}`, "InvalidArgumentException"},
		{"SplitShard", `{"StreamName":"events","ShardToSplit":"shardId-000000000000","NewStartingHashKey":"ten"}`, "ValidationException"},
		{"SplitShard", `{"StreamName":"events","ShardToSplit":"shardId-000000000002","NewStartingHashKey":"310000000000000000000000000000000000000"}`, "InvalidArgumentException"},
		{"SplitShard", `{"StreamName":"events","ShardToSplit":"shardId-000000000009","NewStartingHashKey":"10"}`, "ResourceNotFoundException"},
		{"SplitShard", `{"StreamName":"on-demand","ShardToSplit":"shardId-000000000000","NewStartingHashKey":"10"}`, "ValidationException"},
		{"SplitShard", `{"StreamName":"busy","ShardToSplit":"shardId-000000000000","NewStartingHashKey":"10"}`, "ResourceInUseException"},
		{"MergeShards", `{"StreamName":"events","ShardToMerge":"shardId-000000000000","AdjacentShardToMerge":"shardId-000000000004"}`, "InvalidArgumentException"},
		{"MergeShards", `{"StreamName":"events","ShardToMerge":"shardId-000000000000","AdjacentShardToMerge":"shardId-000000000000"}`, "InvalidArgumentException"},
		{"MergeShards", `{"StreamName":"events","ShardToMerge":"shardId-000000000001","AdjacentShardToMerge":"shardId-000000000002"}`, "InvalidArgumentException"},
		{"MergeShards", `{"StreamName":"events","ShardToMerge":"shardId-000000000001","AdjacentShardToMerge":"shardId-000000000009"}`, "ResourceNotFoundException"},
		{"UpdateShardCount", `{"StreamName":"events","TargetShardCount":9,"ScalingType":"UNIFORM_SCALING"}`, "ValidationException"},
		{"UpdateShardCount", `{"StreamName":"events","TargetShardCount":1,"ScalingType":"UNIFORM_SCALING"}`, "ValidationException"},
		{"UpdateShardCount", `{"StreamName":"events","TargetShardCount":0,"ScalingType":"UNIFORM_SCALING"}`, "ValidationException"},
		{"UpdateShardCount", `{"StreamName":"events","TargetShardCount":4}`, "ValidationException"},
	} {
		before := server.Shards("events")
		if code, message := c.call(test.operation, test.in).refused(); code != test.code {
			t.Errorf("%s %s: %s: %s, want %s", test.operation, test.in, code, message, test.code)
		}
		if after := server.Shards("events"); len(after) != len(before) {
			t.Errorf("%s %s: refused, and %d shards instead of %d", test.operation, test.in, len(after), len(before))
		}
	}
}

func TestUpdateShardCountMakesEvenShards(t *testing.T) {
	t.Parallel()
	for _, steps := range [][]int{{1, 2, 4, 8, 4, 2, 1}, {3, 6, 12, 6, 3}, {2, 3, 4, 5, 7, 9, 5, 3}, {10, 9, 8, 7}} {
		server, c := start(t, steps[0])
		for _, n := range steps[1:] {
			var out struct {
				CurrentShardCount, TargetShardCount int
				StreamName                          string
			}
			current := len(ranges(server))
			c.ok("UpdateShardCount", fmt.Sprintf(`{"StreamName":"events","ScalingType":"UNIFORM_SCALING","TargetShardCount":%d}`, n), &out)
			if out.CurrentShardCount != current || out.TargetShardCount != n || out.StreamName != "events" {
				t.Errorf("answer %+v", out)
			}
			checkCovered(t, server)
			open := ranges(server)
			if len(open) != n {
				t.Errorf("%v: %d shards, want %d", steps, len(open), n)
			}
			// Even, but for what earlier divisions rounded.
			width := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(int64(n)))
			for _, sh := range open {
				off := new(big.Int).Sub(number(sh.EndingHashKey), number(sh.StartingHashKey))
				if off.Sub(off, width).CmpAbs(big.NewInt(1000)) > 0 {
					t.Errorf("%v at %d: %s is off by %s", steps, n, sh.ID, off)
				}
			}
		}
	}
}

func TestNothingIsLostWhenShardsChangeUnderLoad(t *testing.T) {
	t.Parallel()
	server, c := start(t, 2)
	// A call is in the middle of its way when its shard is split, and later
	// merged again.
	server.Fail(kinesistest.Do(func() {
		if err := server.Resize("events", 4); err != nil {
			t.Error(err)
		}
	}).After(20).Times(1))
	server.Fail(kinesistest.Do(func() {
		if err := server.Resize("events", 2); err != nil {
			t.Error(err)
		}
	}).After(40).Times(1))
	var wg sync.WaitGroup
	for sender := range 4 {
		wg.Go(func() {
			for i := range 20 {
				var out putOutput
				a := c.call("PutRecords", entries(fmt.Sprintf("%d-%d-a", sender, i), fmt.Sprintf("%d-%d-b", sender, i)))
				if err := json.Unmarshal(a.body, &out); err != nil || out.FailedRecordCount != 0 {
					t.Errorf("answer %s (%v)", a.body, err)
				}
			}
		})
	}
	wg.Wait()
	checkCovered(t, server)
	if got := len(stored(server)); got != 160 {
		t.Errorf("stored %d records, want 160", got)
	}
	if got := len(server.Shards("events")); got != 2+4+2 {
		t.Errorf("%d shards were there, want 8", got)
	}
	used := map[string]bool{}
	for _, r := range server.Records("events") {
		used[r.Shard] = true
	}
	if len(used) != 8 {
		t.Errorf("records are in %d shards of 8", len(used))
	}
}

func TestListShardsPagesAndFilters(t *testing.T) {
	inBubble(t, kinesistest.Config{}, func(t *testing.T, server *kinesistest.Server, c *client) {
		created := fmt.Sprint(time.Now().Unix())
		time.Sleep(time.Second)
		if err := server.Split("events", "shardId-000000000000"); err != nil { // 2 and 3
			t.Fatal(err)
		}
		split := fmt.Sprint(time.Now().Unix())
		time.Sleep(time.Second)
		type output struct {
			NextToken string
			Shards    []struct{ ShardId string }
		}
		list := func(more string) (string, string) {
			t.Helper()
			var out output
			c.ok("ListShards", `{`+more+`}`, &out)
			var ids []string
			for _, sh := range out.Shards {
				ids = append(ids, sh.ShardId[len("shardId-00000000000"):])
			}
			return strings.Join(ids, " "), out.NextToken
		}
		const name = `"StreamName":"events",`
		for more, want := range map[string]string{
			`"MaxResults":1000`: "0 1 2 3",
			`"ExclusiveStartShardId":"shardId-000000000001"`:                           "2 3",
			`"ShardFilter":{"Type":"AT_LATEST"}`:                                       "1 2 3",
			`"ShardFilter":{"Type":"AT_TRIM_HORIZON"}`:                                 "0 1",
			`"ShardFilter":{"Type":"FROM_TRIM_HORIZON"}`:                               "0 1 2 3",
			`"ShardFilter":{"Type":"AFTER_SHARD_ID","ShardId":"shardId-000000000002"}`: "3",
			`"ShardFilter":{"Type":"AT_TIMESTAMP","Timestamp":` + created + `}`:        "0 1",
			`"ShardFilter":{"Type":"AT_TIMESTAMP","Timestamp":` + split + `.5}`:        "1 2 3",
			`"ShardFilter":{"Type":"FROM_TIMESTAMP","Timestamp":` + created + `}`:      "0 1 2 3",
			`"ShardFilter":{"Type":"FROM_TIMESTAMP","Timestamp":` + split + `.5}`:      "1 2 3",
		} {
			if got, next := list(name + more); got != want || next != "" {
				t.Errorf("%s: %s (next %q), want %s", more, got, next, want)
			}
		}
		first, next := list(name + `"MaxResults":2,"ShardFilter":{"Type":"AT_LATEST"}`)
		second, last := list(`"MaxResults":2,"NextToken":"` + next + `"`)
		if first != "1 2" || second != "3" || last != "" {
			t.Errorf("pages %q and %q (%q)", first, second, last)
		}
		for in, want := range map[string]string{
			`{` + name + `"NextToken":"` + next + `"}`:              "InvalidArgumentException",
			`{"NextToken":"AAAA"}`:                                  "InvalidArgumentException",
			`{` + name + `"MaxResults":0}`:                          "ValidationException",
			`{` + name + `"ShardFilter":{"Type":"ALL"}}`:            "ValidationException",
			`{` + name + `"ShardFilter":{"Type":"AT_TIMESTAMP"}}`:   "InvalidArgumentException",
			`{` + name + `"ShardFilter":{"Type":"AFTER_SHARD_ID"}}`: "InvalidArgumentException",
			`{"StreamName":"other"}`:                                "ResourceNotFoundException",
		} {
			if code, message := c.call("ListShards", in).refused(); code != want {
				t.Errorf("%s: %s: %s, want %s", in, code, message, want)
			}
		}
		time.Sleep(5*time.Minute + time.Second)
		if code, _ := c.call("ListShards", `{"NextToken":"`+next+`"}`).refused(); code != "ExpiredNextTokenException" {
			t.Errorf("a token of five minutes ago: %s", code)
		}
	})
}
