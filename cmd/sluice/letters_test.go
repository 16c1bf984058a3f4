package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sluice": main})
}

// patience bounds every wait for the program; only a failing test waits for it.
const patience = time.Minute

// TestLettersOnAWS runs the scripts of testdata/letters: what an operator does
// with dead letter queues. Each has an account of its own, with the queues
// crm-dead and crm, the stream events and the buckets failed and claims.
func TestLettersOnAWS(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/letters",
		UpdateScripts: os.Getenv("SLUICE_UPDATE") == "1",
		Setup: func(env *testscript.Env) error {
			aws, err := cloudtest.Open(cloudtest.Config{
				Queues: []sqstest.Queue{{Name: "crm-dead"}, {Name: "crm"}}, Buckets: []string{"failed", "claims"},
				Streams: []kinesistest.Stream{{Name: "events", Shards: 1}},
			})
			if err != nil {
				return err
			}
			env.Defer(aws.Close)
			env.Values[account{}] = aws
			env.Vars = append(env.Vars, aws.Env()...)
			env.Setenv("SLUICE_DATA_DIR", env.WorkDir+"/data")
			env.Setenv("QUEUE", aws.Queues.QueueURL("crm-dead"))
			env.Setenv("FEED", aws.Queues.ARN("crm"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":   status,
			"bury":     bury,
			"put":      put,
			"holds":    holds,
			"gone":     gone,
			"wait-for": waitForMessages,
		},
	})
}

type account struct{}

func awsOf(ts *testscript.TestScript) *cloudtest.AWS { return ts.Value(account{}).(*cloudtest.AWS) }

// status N COMMAND… wants this exit status of a command.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

// bury FILE N sends a message to crm-dead N times, with the number of each for
// every # in it.
func bury(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: bury file n")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	body := strings.TrimSpace(ts.ReadFile(args[0]))
	body = strings.ReplaceAll(body, "$FEED", ts.Getenv("FEED"))
	for i := range n {
		_, err := awsOf(ts).Queues.Send("crm-dead", sqstest.Message{Body: strings.ReplaceAll(body, "#", strconv.Itoa(i))})
		ts.Check(err)
	}
}

// put FILE BUCKET KEY writes an object.
func put(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: put file bucket key")
	}
	ts.Check(awsOf(ts).Buckets.Put(args[1], args[2], []byte(strings.TrimSpace(ts.ReadFile(args[0])))))
}

// count returns how many messages of a queue are waiting and in flight.
func count(ts *testscript.TestScript, queue string) (waiting, held int) {
	for _, m := range awsOf(ts).Queues.Messages(queue) {
		if m.State == sqstest.InFlight {
			held++
		} else {
			waiting++
		}
	}
	return waiting, held
}

// holds QUEUE N wants N messages in a queue, and none in flight.
func holds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: holds queue n")
	}
	if waiting, held := count(ts, args[0]); strconv.Itoa(waiting) != args[1] || held != 0 {
		ts.Fatalf("%s: %d messages waiting, %d in flight; want %s and 0", args[0], waiting, held, args[1])
	}
}

// gone QUEUE N wants some of N messages in a queue to be gone, and none in
// flight.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: gone queue n")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	if waiting, held := count(ts, args[0]); waiting == 0 || waiting >= n || held != 0 {
		ts.Fatalf("%s: %d messages waiting, %d in flight; want less than %d and 0", args[0], waiting, held, n)
	}
}

// wait-for QUEUE waits for the first message in a queue.
func waitForMessages(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: wait-for queue")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := awsOf(ts).Queues.Wait(ctx, args[0]); err != nil {
		ts.Fatalf("%s: %v", args[0], fmt.Errorf("nothing came: %w", err))
	}
}
