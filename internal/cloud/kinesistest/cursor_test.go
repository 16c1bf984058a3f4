package kinesistest_test

import (
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

func TestACursorReadsAShardToItsEnd(t *testing.T) {
	t.Parallel()
	server, c := start(t, 1)
	read := func(after string, most int) (string, string, bool) {
		t.Helper()
		records, ended, err := server.Read("events", "shardId-000000000000", after, most)
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, r := range records {
			keys = append(keys, r.PartitionKey)
			after = r.Sequence
		}
		return strings.Join(keys, " "), after, ended
	}
	if got := server.Shards("events")[0].LastSequence; got == "" {
		t.Error("a shard without records has no place to start at")
	} else if keys, after, ended := read(got, 9); keys != "" || after != got || ended {
		t.Errorf("an open shard without records: %q %q %t", keys, after, ended)
	}
	c.put("u1", "u2", "u3")
	keys, after, ended := read("", 2)
	if keys != "u1 u2" || ended {
		t.Errorf("read %q, ended %t", keys, ended)
	}
	if keys, end, ended := read(after, 9); keys != "u3" || ended || end != server.Shards("events")[0].LastSequence {
		t.Errorf("read %q to %s, ended %t", keys, end, ended)
	}
	if err := server.Split("events", "shardId-000000000000"); err != nil {
		t.Fatal(err)
	}
	if keys, _, ended := read("", 2); keys != "u1 u2" || ended {
		t.Errorf("a closed shard, not to its end: %q %t", keys, ended)
	}
	if keys, after, ended = read(after, 1); keys != "u3" || !ended {
		t.Errorf("a closed shard, to its end: %q %t", keys, ended)
	}
	if keys, _, ended := read(after, 1); keys != "" || !ended {
		t.Errorf("behind its end: %q %t", keys, ended)
	}
	if err := server.Trim("events"); err != nil {
		t.Fatal(err)
	}
	if keys, _, ended := read("", 9); keys != "" || !ended {
		t.Errorf("trimmed: %q %t", keys, ended)
	}
}

func TestACursorKnowsItsShard(t *testing.T) {
	t.Parallel()
	server, c := start(t, 2)
	of := c.put("u1").Records[0]
	if of.ShardId != "shardId-000000000001" {
		t.Fatal("u1 moved")
	}
	for name, read := range map[string]func() error{
		"no stream": func() error { _, _, err := server.Read("none", of.ShardId, "", 1); return err },
		"no shard":  func() error { _, _, err := server.Read("events", "shardId-000000000007", "", 1); return err },
		"another's number": func() error {
			_, _, err := server.Read("events", "shardId-000000000000", of.SequenceNumber, 1)
			return err
		},
		"no number":            func() error { _, _, err := server.Read("events", of.ShardId, "49", 1); return err },
		"a number of no shard": func() error { _, _, err := server.Read("events", of.ShardId, strings.Repeat("9", 56), 1); return err },
	} {
		if read() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAChangeIsHeardOf(t *testing.T) {
	t.Parallel()
	server, c := start(t, 1)
	silent := func(changed <-chan struct{}) bool {
		select {
		case <-changed:
			return false
		default:
			return true
		}
	}
	for name, change := range map[string]func() error{
		"put":   func() error { c.put("u1"); return nil },
		"split": func() error { return server.Split("events", server.Shards("events")[0].ID) },
		"trim":  func() error { return server.Trim("events") },
	} {
		before := server.Changed("events")
		server.Fail(kinesistest.Throttle().Times(1))
		c.call("PutRecords", entries("u1"))
		if !silent(before) {
			t.Errorf("before %s: nothing was stored", name)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if silent(before) {
			t.Errorf("%s was not heard of", name)
		}
		if !silent(server.Changed("events")) {
			t.Errorf("after %s: heard of twice", name)
		}
	}
	last := server.Changed("events")
	c.ok("DeleteStream", `{"StreamName":"events"}`, nil)
	if silent(last) || server.Changed("events") != nil {
		t.Error("the stream is gone, and that was not heard of")
	}
}
