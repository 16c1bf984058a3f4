// Command kinesis runs a Kinesis endpoint in memory, with one stream, until it
// is interrupted. It prints the environment with which an AWS SDK, or sluice,
// calls it.
//
//	go run ./examples/kinesis -stream events -shards 2
//
// It takes any credentials, checks limits as Kinesis does, and forgets
// everything at its end: it is for trying things out and for tests.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"github.com/eventsluice/sluice/examples/program"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

func main() { program.Main("kinesis", run) }

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("kinesis", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:0", "address to listen on; port 0 is one from the system")
	stream := flags.String("stream", "events", "stream to create")
	shards := flags.Int("shards", 1, "its shards")
	quota := flags.Bool("quota", false, "let a shard take 1 MB and 1000 records a second and no more, as Kinesis does")
	if err := program.Parse(flags, args); err != nil {
		return err
	}
	server, err := kinesistest.Open(kinesistest.Config{
		Addr:    *addr,
		Streams: []kinesistest.Stream{{Name: *stream, Shards: *shards}},
	})
	if err != nil {
		return err
	}
	defer server.Stop()
	if *quota {
		server.Fail(kinesistest.ShardQuota(kinesistest.ShardRecords, kinesistest.ShardBytes))
	}
	for _, variable := range server.Env() {
		fmt.Fprintln(out, variable)
	}
	<-ctx.Done()
	return nil
}
