package cloud_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

func TestDescribeTellsWhatTheStreamSays(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:kinesis:us-east-1:123456789012:stream/"
	for _, c := range []struct {
		stream kinesistest.Stream
		want   cloud.Description
	}{
		{
			kinesistest.Stream{Name: "events", Shards: 2},
			cloud.Description{Name: "events", ARN: arn + "events", Region: "us-east-1", Status: "ACTIVE", Mode: "PROVISIONED", MaxRecordBytes: 1 << 20, Encryption: "NONE"},
		},
		{
			kinesistest.Stream{Name: "large", OnDemand: true, MaxRecordKiB: 10 << 10, KMSKey: "alias/aws/kinesis"},
			cloud.Description{Name: "large", ARN: arn + "large", Region: "us-east-1", Status: "ACTIVE", Mode: "ON_DEMAND", MaxRecordBytes: 10 << 20, Encryption: "KMS"},
		},
	} {
		server := kinesistest.New(t, kinesistest.Config{Streams: []kinesistest.Stream{c.stream}})
		for _, name := range []string{c.want.Name, c.want.ARN} {
			k, err := cloud.Open(t.Context(), cloud.Config{Stream: name, SDK: at(server.URL())})
			if err != nil {
				t.Fatal(err)
			}
			got, err := k.Describe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Shards) != len(server.Shards(c.want.Name)) {
				t.Errorf("%s: shards %v", name, got.Shards)
			}
			got.Shards = nil
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, c.want)
			}
			mustPut(t, k, record("b0", "1"))
		}
	}
}

// Shards come in pages, closed ones are left out, and what a shard says that it
// holds is where Kinesis puts it.
func TestShardsHoldWhatKinesisStoresInThem(t *testing.T) {
	t.Parallel()
	server, k := serve(t, 1500)
	for i := range 20 {
		if err := server.Split("events", fmt.Sprintf("shardId-%012d", i)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := k.Describe(t.Context())
	if err != nil || len(d.Shards) != 1520 {
		t.Fatalf("%d shards, %v", len(d.Shards), err)
	}
	for i := range 50 {
		key := fmt.Sprintf("key %d", i)
		shard, _, _ := strings.Cut(mustPut(t, k, record(key, "1"))[0], ":")
		var holders []string
		for _, s := range d.Shards {
			if s.Holds(key) {
				holders = append(holders, s.ID)
			}
		}
		if !slices.Equal(holders, []string{shard}) {
			t.Errorf("%s is stored in %s, and held by %v", key, shard, holders)
		}
	}
}

// At the start a throttled call is tried again: it is no reason not to start.
func TestDescribeOutlastsThrottling(t *testing.T) {
	t.Parallel()
	server, k := serve(t, 1)
	server.Fail(kinesistest.Calls(kinesistest.Limit).Times(1))
	if _, err := k.Describe(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDescribeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server, k := serve(t, 1)
	server.Fail(kinesistest.Hang(kinesistest.BeforeStoring))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := k.Describe(ctx); err == nil || !strings.Contains(err.Error(), "no answer") || k.Trouble() != nil {
		t.Errorf("%v, trouble %v", err, k.Trouble())
	}
}
