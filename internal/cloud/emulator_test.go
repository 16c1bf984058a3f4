package cloud_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/streamtest"
	"github.com/eventsluice/sluice/internal/testenv"
)

// emulator is kinesalite: a Kinesis that is not ours. It knows neither faults
// nor quotas, and the wire protocol and the rules of splits as others read
// them.
type emulator struct {
	url   string
	admin *kinesis.Client
	made  atomic.Int64
}

// startEmulator starts kinesalite on the loopback; it ends with the test.
func startEmulator(t *testing.T) *emulator {
	t.Helper()
	const folder = "testdata/emulator"
	testenv.NodeModules(t, folder)
	cmd := exec.Command(testenv.Node(t), "-r", "./preload.js", "node_modules/kinesalite/cli.js",
		"--createStreamMs", "20", "--updateStreamMs", "20", "--deleteStreamMs", "20", "--shardLimit", "1000")
	cmd.Dir = folder
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("kinesalite: %v\n%s", err, &stderr)
		}
	})
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "Listening at ")
	if err != nil || !ok || !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Fatalf("kinesalite says %q (%v)", line, err)
	}
	go io.Copy(io.Discard, lines)
	sdk, err := config.LoadDefaultConfig(context.Background(), at(url)...)
	if err != nil {
		t.Fatal(err)
	}
	return &emulator{url: url, admin: kinesis.NewFromConfig(sdk)}
}

// create makes a stream and waits for it.
func (e *emulator) create(t *testing.T, shards int32) (name string, k *cloud.Kinesis) {
	t.Helper()
	name = fmt.Sprintf("events-%d", e.made.Add(1))
	if _, err := e.admin.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &name, ShardCount: &shards}); err != nil {
		t.Fatal(err)
	}
	k = named(t, e.url, name)
	e.await(t, k, "ACTIVE")
	return name, k
}

// await waits until a stream is in a state.
func (e *emulator) await(t *testing.T, k *cloud.Kinesis, status string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(10 * time.Millisecond) {
		d, err := k.Describe(t.Context())
		if err == nil && d.Status == status {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("status %q, %v", d.Status, err)
		}
	}
}

func TestEmulatorKeepsTheContractOfAStreamForThisClient(t *testing.T) {
	t.Parallel()
	e := startEmulator(t)
	// Its limits are those of Kinesis before 2025.
	limits := streamtest.Limits{MaxCallRecords: 500, MaxCallBytes: 5 << 20, MaxRecordBytes: 1 << 20}
	t.Run("suite", func(t *testing.T) {
		streamtest.Run(t, func(t *testing.T) streamtest.Host {
			name, _ := e.create(t, 2)
			return host(t, e.url, name, limits, &positions{of: map[string]uint64{}})
		})
	})
}

func TestEmulatorIsReadOverSplitAndMerge(t *testing.T) {
	t.Parallel()
	e := startEmulator(t)
	name, k := e.create(t, 1)
	next := follow(t, k, cloud.ReadOptions{})
	put := func(step int) {
		for i := range 8 {
			mustPut(t, k, record(fmt.Sprintf("key %d", i), fmt.Sprint(step)))
		}
		for range 8 {
			if got := next(); got != fmt.Sprint(step) {
				t.Fatalf("following: got %s in step %d", got, step)
			}
		}
	}
	put(0)
	_, err := e.admin.SplitShard(t.Context(), &kinesis.SplitShardInput{
		StreamName: &name, ShardToSplit: aws.String("shardId-000000000000"), NewStartingHashKey: aws.String("170141183460469231731687303715884105728"),
	})
	if err != nil {
		t.Fatal(err)
	}
	e.await(t, k, "ACTIVE")
	put(1)
	_, err = e.admin.MergeShards(t.Context(), &kinesis.MergeShardsInput{
		StreamName: &name, ShardToMerge: aws.String("shardId-000000000001"), AdjacentShardToMerge: aws.String("shardId-000000000002"),
	})
	if err != nil {
		t.Fatal(err)
	}
	e.await(t, k, "ACTIVE")
	put(2)
	inOrder(t, read(t, k, cloud.ReadOptions{}), "0 1 2")

	d, err := k.Describe(t.Context())
	if err != nil || len(d.Shards) != 1 || d.Shards[0].ID != "shardId-000000000003" {
		t.Errorf("%+v, %v", d, err)
	}
}

// What is refused is worded as the emulator's authors saw it on AWS.
func TestEmulatorsRefusalsAreUnderstood(t *testing.T) {
	t.Parallel()
	e := startEmulator(t)
	k := named(t, e.url, "missing")
	if _, err := k.Describe(t.Context()); err == nil || !strings.Contains(err.Error(), `stream "missing" does not exist in us-east-1`) {
		t.Error(err)
	}
	_, k = e.create(t, 1)
	large := record("b0", strings.Repeat("x", 1<<20+1))
	for _, k := range []*cloud.Kinesis{k, named(t, e.url, "events-1")} { // limit known, and not
		results, err := k.PutRecords(t.Context(), []stream.Record{large})
		if err != nil || kinds(results)[0] != "too_large" {
			t.Errorf("%v, %v", results, err)
		}
	}
}
