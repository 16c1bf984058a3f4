package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/fault"
	"github.com/eventsluice/sluice/internal/stream"
)

// read returns what a reading yields until it ends.
func read(t testing.TB, k *cloud.Kinesis, o cloud.ReadOptions) []cloud.ReadRecord {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var got []cloud.ReadRecord
	err := k.Read(ctx, o, func(r cloud.ReadRecord) bool {
		got = append(got, r)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// data returns the data of records, joined.
func data(records []cloud.ReadRecord) string {
	var all []string
	for _, r := range records {
		all = append(all, string(r.Data))
	}
	return strings.Join(all, " ")
}

// follow reads in the background; next waits for the data of the next record.
func follow(t testing.TB, k *cloud.Kinesis, o cloud.ReadOptions) (next func() string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	records, ended := make(chan string), make(chan error, 1)
	o.Follow = true
	go func() {
		ended <- k.Read(ctx, o, func(r cloud.ReadRecord) bool {
			select {
			case records <- string(r.Data):
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Read: %v", err)
		}
	})
	return func() string {
		t.Helper()
		select {
		case r := <-records:
			return r
		case err := <-ended:
			ended <- err
			t.Fatalf("Read ended: %v", err)
		case <-time.After(patience):
			t.Fatal("nothing came")
		}
		return ""
	}
}

func TestReadYieldsWhatWasWritten(t *testing.T) {
	t.Parallel()
	_, k := serve(t, 3)
	before := time.Now()
	want := map[string]string{}
	for i := range 30 {
		r := record(fmt.Sprintf("b%d", i), fmt.Sprint(i))
		want[mustPut(t, k, r)[0]] = r.PartitionKey
	}
	got := map[string]string{}
	for _, r := range read(t, k, cloud.ReadOptions{}) {
		got[r.Shard+":"+r.Sequence] = r.PartitionKey
		if r.ArrivedAt.Before(before.Add(-time.Second)) || r.ArrivedAt.After(time.Now().Add(time.Second)) {
			t.Errorf("arrived at %v", r.ArrivedAt)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestReadStartsWhereItIsTold(t *testing.T) {
	t.Parallel()
	_, k := serve(t, 1)
	const shard = "shardId-000000000000"
	var sequences []string
	var middle time.Time
	for i := range 5 {
		if i == 3 {
			// Kinesis keeps milliseconds: the time must be between two.
			<-time.After(5 * time.Millisecond)
			middle = time.Now()
			<-time.After(5 * time.Millisecond)
		}
		_, sequence, _ := strings.Cut(mustPut(t, k, record("b0", fmt.Sprint(i)))[0], ":")
		sequences = append(sequences, sequence)
	}
	for _, c := range []struct {
		name    string
		options cloud.ReadOptions
		want    string
	}{
		{"from the oldest", cloud.ReadOptions{}, "0 1 2 3 4"},
		{"from the oldest, one shard", cloud.ReadOptions{Shard: shard, From: cloud.Oldest()}, "0 1 2 3 4"},
		{"from a time", cloud.ReadOptions{From: cloud.Since(middle)}, "3 4"},
		{"from a record", cloud.ReadOptions{Shard: shard, From: cloud.At(sequences[2])}, "2 3 4"},
		{"after a record", cloud.ReadOptions{Shard: shard, From: cloud.After(sequences[2])}, "3 4"},
		{"after the last one", cloud.ReadOptions{Shard: shard, From: cloud.After(sequences[4])}, ""},
		{"from now on, not following", cloud.ReadOptions{From: cloud.Latest()}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := data(read(t, k, c.options)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestReadStopsWhenItIsTold(t *testing.T) {
	t.Parallel()
	_, k := serve(t, 2)
	for i := range 10 {
		mustPut(t, k, record(fmt.Sprintf("b%d", i), "x"))
	}
	n := 0
	if err := k.Read(t.Context(), cloud.ReadOptions{Follow: true}, func(cloud.ReadRecord) bool { n++; return n < 3 }); err != nil || n != 3 {
		t.Errorf("%d records, %v", n, err)
	}
}

func TestFollowingFromNowOnMissesNothing(t *testing.T) {
	t.Parallel()
	server, k := serve(t, 2)
	mustPut(t, k, record("b0", "old"))
	next := follow(t, k, cloud.ReadOptions{From: cloud.Latest()})
	for server.Stats().Calls["GetRecords"] < 2 { // until both shards are at their ends
		<-time.After(time.Millisecond)
	}
	for i := range 3 {
		want := fmt.Sprint(i)
		mustPut(t, k, record(fmt.Sprintf("b%d", i), want))
		if got := next(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// reshard writes records of the same keys before, between and after a split
// and a merge, so that they lie in shards of three generations.
func reshard(t *testing.T, server *kinesistest.Server, k *cloud.Kinesis, step int) {
	t.Helper()
	open := func() (ids []string) {
		for _, s := range server.Shards("events") {
			if s.Open {
				ids = append(ids, s.ID)
			}
		}
		return ids
	}
	var err error
	switch step {
	case 1:
		err = server.Split("events", open()[0])
	case 2:
		err = server.Merge("events", open()[0], open()[1])
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		mustPut(t, k, record(fmt.Sprintf("key %d", i), fmt.Sprint(step)))
	}
}

// inOrder fails the test unless every key has the records of all steps.
func inOrder(t *testing.T, records []cloud.ReadRecord, want string) {
	t.Helper()
	byKey := map[string][]cloud.ReadRecord{}
	for _, r := range records {
		byKey[r.PartitionKey] = append(byKey[r.PartitionKey], r)
	}
	if len(byKey) != 8 {
		t.Errorf("%d keys", len(byKey))
	}
	for key, got := range byKey {
		if data(got) != want {
			t.Errorf("%s: got %q, want %q", key, data(got), want)
		}
	}
}

func TestAKeyStaysInOrderOverSplitAndMerge(t *testing.T) {
	t.Parallel()
	server, k := serve(t, 1)
	for step := range 3 {
		reshard(t, server, k, step)
	}
	inOrder(t, read(t, k, cloud.ReadOptions{}), "0 1 2")
	inOrder(t, read(t, k, cloud.ReadOptions{From: cloud.Since(time.Now().Add(-time.Hour))}), "0 1 2")
	// A shard with what it became, and none of its ancestors.
	inOrder(t, read(t, k, cloud.ReadOptions{Shard: "shardId-000000000000"}), "0 1 2")
	inOrder(t, read(t, k, cloud.ReadOptions{Shard: "shardId-000000000003"}), "2")
	var half []string
	for _, r := range read(t, k, cloud.ReadOptions{Shard: "shardId-000000000001"}) {
		half = append(half, string(r.Data))
	}
	// The keys of one half, then those of both.
	if n := len(half); n <= 8 || n >= 16 || !slices.IsSorted(half) {
		t.Errorf("one half and what it became: %v", half)
	}
}

func TestFollowingGoesOnOverSplitAndMerge(t *testing.T) {
	t.Parallel()
	server, k := serve(t, 1)
	next := follow(t, k, cloud.ReadOptions{})
	for step := range 3 {
		reshard(t, server, k, step)
		for range 8 {
			if got := next(); got != fmt.Sprint(step) {
				t.Fatalf("step %d: got %s", step, got)
			}
		}
	}
}

func TestAShardThatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	_, k := serve(t, 1)
	err := k.Read(t.Context(), cloud.ReadOptions{Shard: "shardId-000000000007"}, nil)
	if fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "shardId-000000000007") {
		t.Error(err)
	}
	if err := k.Read(t.Context(), cloud.ReadOptions{From: cloud.At("1")}, nil); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a sequence number without a shard: %v", err)
	}
}

// Readers share five calls a second for each shard.
func TestReadingLeavesCallsForOthers(t *testing.T) {
	t.Parallel()
	server, k := serve(t, 2)
	next := follow(t, k, cloud.ReadOptions{})
	for i := range 6 {
		mustPut(t, k, record("b0", fmt.Sprint(i)))
		next()
	}
	if most := server.Stats().PerSecond["GetRecords"]; most > 2*4 {
		t.Errorf("%d calls within a second, for two shards", most)
	}
}

func TestReadOutlastsWhatPasses(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]kinesistest.Fault{
		"throttled longer than failures may last": kinesistest.Calls(kinesistest.Throughput).On("GetRecords").Times(7),
		"no iterator":      kinesistest.Calls(kinesistest.Throughput).On("GetShardIterator").Times(2),
		"5xx":              kinesistest.Calls(kinesistest.Internal).On("GetRecords").Times(2),
		"cut":              kinesistest.Disconnect(kinesistest.BeforeStoring).On("GetRecords").Times(2),
		"iterator expired": kinesistest.Calls(&kinesistest.Error{Code: "ExpiredIteratorException", Status: 400, Message: "Iterator expired"}).On("GetRecords").After(1).Times(1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, k := serve(t, 1)
			server.Fail(f)
			next := follow(t, k, cloud.ReadOptions{})
			for i := range 3 {
				want := fmt.Sprint(i)
				mustPut(t, k, record("b0", want))
				if got := next(); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		})
	}
}

func TestReadEndsWithWhatDoesNotPass(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault kinesistest.Fault
		want  string
	}{
		"denied":   {kinesistest.Calls(kinesistest.AccessDenied).On("GetRecords"), "may not call kinesis:GetRecords"},
		"key":      {kinesistest.Calls(kinesistest.KMSAccessDenied).On("GetRecords"), "kms:Decrypt"},
		"no shard": {kinesistest.Calls(kinesistest.NotFound).On("GetShardIterator"), "does not exist, or not any more"},
		"always":   {kinesistest.Calls(kinesistest.Internal).On("GetRecords"), "InternalFailure"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, k := serve(t, 1)
			server.Fail(c.fault)
			err := k.Read(t.Context(), cloud.ReadOptions{Follow: true}, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v does not say %q", err, c.want)
			}
		})
	}
}

func TestReadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	_, k := serve(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := k.Read(ctx, cloud.ReadOptions{Follow: true}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// What is read can be taken apart by the package that puts it together.
func TestWhatIsReadCanBeTakenApart(t *testing.T) {
	t.Parallel()
	_, k := serve(t, 1)
	mustPut(t, k, record("b0", `{"id":"1"}`, `{"id":"2"}`))
	got := read(t, k, cloud.ReadOptions{})
	events := stream.AppendUserRecords(nil, stream.Record{PartitionKey: got[0].PartitionKey, Data: got[0].Data})
	if len(events) != 2 || string(events[1].Data) != `{"id":"2"}` || events[1].PartitionKey != "b0" {
		t.Errorf("%+v", events)
	}
}
