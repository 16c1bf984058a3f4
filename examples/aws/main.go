// Command aws runs what Sluice has on AWS on this machine, until it is
// interrupted: a Kinesis stream, SQS queues, S3 buckets and Lambda in memory, the
// built functions behind Lambda, and a vendor who can be made to refuse
// everything. It prints the environment with which sluice calls it all.
//
//	go build -tags lambda.norpc -o functions/ ./cmd/router ./cmd/connector
//	go run ./examples/aws -functions functions
//
// It takes any credentials and forgets everything at its end: it is for trying
// things out and for tests.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"

	"github.com/eventsluice/sluice/examples/program"
	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

func main() { program.Main("aws", run) }

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("aws", flag.ContinueOnError)
	functions := flags.String("functions", "", "folder with the built functions router and connector")
	if err := program.Parse(flags, args); err != nil {
		return err
	}
	if *functions == "" {
		fmt.Fprintln(flags.Output(), "-functions is needed")
		return program.ErrUsage
	}
	account, err := cloudtest.Open(cloudtest.Config{
		Streams: []kinesistest.Stream{{Name: "events", Shards: 2}},
		Queues:  []sqstest.Queue{{Name: "router-dead"}, {Name: "crm-dead"}, {Name: "crm-retry"}},
		Buckets: []string{"sluice"},
	})
	if err != nil {
		return err
	}
	defer account.Close()
	v := &vendor{}
	server := httptest.NewServer(v)
	defer server.Close()
	if err := deploy(account, *functions, server.URL); err != nil {
		return err
	}
	for _, variable := range append(account.Env(),
		"SLUICE_STREAM=kinesis://events", "SLUICE_RULES=s3://sluice/rules.json", "SLUICE_KEYS=s3://sluice/keys.json",
		"CRM_DEAD="+account.Queues.ARN("crm-dead"), "ROUTER_DEAD="+account.Queues.ARN("router-dead"), "VENDOR="+server.URL,
	) {
		fmt.Fprintln(out, variable)
	}
	<-ctx.Done()
	return nil
}

// deploy makes what deployments/sluice.yaml makes for one destination.
func deploy(account *cloudtest.AWS, functions, vendor string) error {
	rules := fmt.Sprintf(`[{"destination_name": "crm", "destination_arn": %q, "enabled_events": ["signed_up", "order_*"]}]`, account.Lambda.ARN("crm", "prod"))
	if err := account.Buckets.Put("sluice", "rules.json", []byte(rules)); err != nil {
		return err
	}
	env := func(more ...string) []string { return slices.Concat(account.Env(), more) }
	for _, f := range []lambdatest.Function{
		{
			Name: "router", Bootstrap: filepath.Join(functions, "router"),
			Env: env("RULES_BUCKET=sluice", "RULES_KEY=rules.json", "CLAIM_BUCKET=sluice", "DEAD_LETTER_QUEUE="+account.Queues.ARN("router-dead")),
		},
		{
			Name: "crm", Bootstrap: filepath.Join(functions, "connector"),
			Env: env("CONNECTOR=webhook", fmt.Sprintf(`SETTINGS={"url": %q, "allow_private": true}`, vendor), "DESTINATION=crm",
				"RETRY_MAX_ATTEMPTS=3", "RETRY_BASE_DELAY=200ms", "RETRY_MAX_DELAY=1s",
				"DEAD_LETTER_QUEUE="+account.Queues.ARN("crm-dead"), "RETRY_QUEUE="+account.Queues.ARN("crm-retry")),
			Async: lambdatest.Async{DeadLetterQueue: "crm-dead"},
		},
	} {
		f.Aliases = map[string]string{"prod": "1"}
		if err := account.Lambda.CreateFunction(f); err != nil {
			return err
		}
	}
	if _, err := account.Lambda.MapQueue(lambdatest.QueueSource{Function: "crm:prod", Queue: "crm-retry", ReportBatchItemFailures: true}); err != nil {
		return err
	}
	_, err := account.Lambda.MapKinesis(lambdatest.KinesisSource{
		Function: "router:prod", Server: account.Streams, Stream: "events", ReportBatchItemFailures: true, BisectBatchOnFunctionError: true,
	})
	return err
}

// vendor takes events by POST, unless PUT /broken has been said; PUT /well ends
// that. GET returns what it has taken, a line each.
type vendor struct {
	mu     sync.Mutex
	broken bool
	taken  []byte
}

func (v *vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case err != nil:
		w.WriteHeader(http.StatusBadRequest)
	case r.Method == http.MethodGet:
		_, _ = w.Write(v.taken) // a client that has gone needs nothing
	case r.Method == http.MethodPut:
		v.broken = r.URL.Path == "/broken"
	case v.broken:
		http.Error(w, `{"error":"database is down"}`, http.StatusInternalServerError)
	default:
		v.taken = append(append(v.taken, body...), '\n')
	}
}
