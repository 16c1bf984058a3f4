package interop

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/ledger"
	"github.com/eventsluice/sluice/internal/retry"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

// TestReadersLoseNothingWhileShardsSplitAndMerge writes with the producer while
// the stream is resharded under it, and reads it as a KCL application does.
func TestReadersLoseNothingWhileShardsSplitAndMerge(t *testing.T) {
	t.Parallel()
	everyThird := func(call int) bool { return call%3 == 0 }
	cases := []struct {
		name   string
		faults []kinesistest.Fault
	}{
		{name: "nothing else goes wrong"},
		// Tried again, a record may belong to a shard that was not there before.
		{name: "records are refused", faults: []kinesistest.Fault{
			kinesistest.Records(2, kinesistest.Throughput).When(everyThird),
		}},
		// Then the first copy is in the parent and the second may be in a child.
		{name: "answers are lost", faults: []kinesistest.Fault{
			kinesistest.Disconnect(kinesistest.AfterStoring).On("PutRecords").When(everyThird),
		}},
	}
	read := make([][]placed, len(cases))
	t.Run("by the rule", func(t *testing.T) {
		for i, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				server := newEndpoint(t, 2, false)
				for _, f := range c.faults {
					server.Fail(f)
				}
				sent, figures := writeAndReshard(t, server)
				server.Heal()
				read[i] = server.readAll(t)
				if stored := server.Stats().Records; int64(len(read[i])) != stored {
					t.Errorf("%d records read, %d are stored", len(read[i]), stored)
				}
				checkReading(t, read[i], sent, figures)
			})
		}
	})
	t.Run("by the client library", func(t *testing.T) {
		records := slices.Concat(read...)
		for i, got := range kclJudges(t, records) {
			compare(t, got, records[i].users())
		}
	})
}

const (
	senders, keysEach = 8, 4
	reshards          = 12
	// putsBetween is how many batches are durable between one change of the
	// shards and the next.
	putsBetween, batchSize = 30, 8
)

// counts has a number for each partition key.
type counts [senders * keysEach]int

// writeAndReshard returns how many events of each partition key are durable,
// and what the producer counted.
func writeAndReshard(t *testing.T, e endpoint) (sent counts, figures producer.Stats) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))

	host, err := cloud.Open(t.Context(), cloud.Config{Stream: streamName, SDK: []func(*config.LoadOptions) error{
		config.WithRegion("eu-west-1"), config.WithBaseEndpoint(e.URL()),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("test", "test", "")),
	}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := producer.New(host, new(ledger.Intake), producer.Config{
		Keys: producer.SpreadKeys(32), Retry: retry.Policy{BaseDelay: time.Millisecond}, RetriesPerSecond: 1e6,
	})
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(run) }()

	durable, enough := make(chan struct{}), make(chan struct{})
	var group sync.WaitGroup
	for s := range senders {
		group.Go(func() {
			for {
				var b stream.Batch
				for i := range batchSize {
					key := s*keysEach + i%keysEach
					b.Add(&event.Event{ID: fmt.Sprintf("%d.%d", key, sent[key]), Type: event.TypeTrack, Name: "order_placed", UserID: fmt.Sprintf("u%d", key)})
					sent[key]++
				}
				if err := p.Put(t.Context(), &b); err != nil {
					t.Errorf("Put: %v", err)
					return
				}
				select {
				case durable <- struct{}{}:
				case <-enough:
					return
				}
			}
		})
	}
	go func() {
		group.Wait()
		close(durable)
	}()
	for i := range reshards {
		for range putsBetween {
			<-durable
		}
		e.reshard(t, rng, i%3 == 2)
	}
	for range putsBetween {
		<-durable
	}
	close(enough)
	for range durable { // until it is closed
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	return sent, p.Stats()
}

// reshard merges two neighbours, or splits the widest shard around its middle.
func (e endpoint) reshard(t *testing.T, rng *rand.Rand, merge bool) {
	t.Helper()
	open := slices.DeleteFunc(e.shards(t), func(s types.Shard) bool { return s.SequenceNumberRange.EndingSequenceNumber != nil })
	if merge {
		slices.SortFunc(open, func(a, b types.Shard) int { return rangeOf(t, a).start.Cmp(rangeOf(t, b).start) })
		i := 1 + rng.IntN(len(open)-1)
		if _, err := e.client.MergeShards(t.Context(), &kinesis.MergeShardsInput{
			StreamName: aws.String(streamName), ShardToMerge: open[i-1].ShardId, AdjacentShardToMerge: open[i].ShardId,
		}); err != nil {
			t.Fatal(err)
		}
		return
	}
	width := func(s types.Shard) *big.Int { return new(big.Int).Sub(rangeOf(t, s).end, rangeOf(t, s).start) }
	widest := slices.MaxFunc(open, func(a, b types.Shard) int { return width(a).Cmp(width(b)) })
	at := width(widest)
	at.Mul(at, big.NewInt(6+rng.Int64N(5))).Rsh(at, 4) // 6 to 10 of 16 parts
	at.Add(at, rangeOf(t, widest).start)
	if _, err := e.client.SplitShard(t.Context(), &kinesis.SplitShardInput{
		StreamName: aws.String(streamName), ShardToSplit: widest.ShardId, NewStartingHashKey: aws.String(at.String()),
	}); err != nil {
		t.Fatal(err)
	}
}

// checkReading takes the records of a stream apart, parents before their
// children, and wants every event that is durable, and those of a partition
// key in order. More copies of an event stand behind the first.
func checkReading(t *testing.T, records []placed, sent counts, figures producer.Stats) {
	t.Helper()
	var next counts
	events, copies, aggregates := 0, uint64(0), 0
	shards := map[string]bool{}
	for _, r := range records {
		users := kclRead(r.record, r.shard)
		if len(users) != len(r.users()) {
			t.Errorf("a reader of %s drops record %s of %q with %d events", r.Shard, r.SequenceNumber, r.PartitionKey, len(r.users()))
		}
		shards[r.Shard] = true
		if r.aggregated() {
			aggregates++
		}
		for _, u := range users {
			e, err := event.ParseStored(u.Data)
			if err != nil {
				t.Fatal(err)
			}
			var key, n int
			if _, err := fmt.Sscanf(e.ID, "%d.%d", &key, &n); err != nil || e.PartitionKey() != fmt.Sprintf("u%d", key) {
				t.Fatalf("event %s: %v", u.Data, err)
			}
			switch {
			case n < next[key]:
				copies++
			case n > next[key]:
				t.Fatalf("partition key %s: event %d comes where %d should", e.PartitionKey(), n, next[key])
			default:
				next[key]++
				events++
			}
		}
	}
	if next != sent {
		t.Errorf("events read by partition key: %v, durable: %v", next, sent)
	}
	if copies > figures.Repeated {
		t.Errorf("%d events come again, the producer repeated %d", copies, figures.Repeated)
	}
	if len(shards) < reshards/2 || aggregates == 0 {
		t.Errorf("the records are in %d shards, and %d are aggregates: that proves nothing", len(shards), aggregates)
	}
	t.Logf("%d events in %d records of %d shards, %d read again; attempts that failed: %d known, %d unknown",
		events, len(records), len(shards), copies, figures.Throttled+figures.Unavailable, figures.Ambiguous)
}
