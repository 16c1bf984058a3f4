package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// functions builds the Lambda functions, once, and returns the path of one.
func functions(t *testing.T, name string) string {
	t.Helper()
	dir, err := builtFunctions()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

var builtFunctions = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(filepath.Dir(binary), "functions")
	cmd := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", dir+string(filepath.Separator), "./cmd/router", "./cmd/connector", "./cmd/redrive")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("build the functions: %w", err), errors.New(string(out)))
	}
	return dir, nil
})

// vendor is who events are delivered to: an endpoint of webhooks that keeps what
// it takes and refuses some of it.
type vendor struct {
	server *httptest.Server
	mu     sync.Mutex
	random *rand.Rand
	well   bool // takes everything
	took   map[string]*taken
}

// taken is what one destination was given.
type taken struct {
	first   map[string]int // event id: its place among the first copies
	order   []hooked
	repeats int
}

// hooked is an event as a webhook brings it.
type hooked struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	UserID string `json:"user_id"`
	Data   struct {
		N int `json:"n"`
	} `json:"data"`
}

func newVendor(t *testing.T, seed uint64) *vendor {
	v := &vendor{random: rand.New(rand.NewPCG(seed, 1)), took: map[string]*taken{}}
	v.server = httptest.NewServer(v)
	t.Cleanup(v.server.Close)
	return v
}

// ServeHTTP takes an event, or fails in one of the ways that vendors have.
func (v *vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var e hooked
	if err != nil || json.Unmarshal(body, &e) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	to := v.took[r.URL.Path]
	if to == nil {
		to = &taken{first: map[string]int{}}
		v.took[r.URL.Path] = to
	}
	chance := v.random.Float64()
	switch {
	case v.well:
	case e.Data.N%1499 == 7:
		w.WriteHeader(http.StatusUnprocessableEntity) // never
		return
	case chance < 0.01:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case chance < 0.015:
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	if _, again := to.first[e.ID]; again {
		to.repeats++
	} else {
		to.first[e.ID] = len(to.order)
		to.order = append(to.order, e)
	}
	if !v.well && chance > 0.995 { // taken, and the answer is lost
		panic(http.ErrAbortHandler)
	}
}

// has returns how many different events a destination has.
func (v *vendor) has(path string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.took[path] == nil {
		return 0
	}
	return len(v.took[path].order)
}

// awsAccount is AWS with the gateway's stream, and what the template makes around
// it.
type awsAccount struct {
	*cloudtest.AWS
	t      *testing.T
	vendor *vendor
}

// destinationsOnAWS are the destinations, by how events get there.
var destinationsOnAWS = []string{"crm", "audit", "mail"}

func newAccount(t *testing.T, seed uint64) *awsAccount {
	t.Helper()
	queues := []sqstest.Queue{{Name: "router-dead", Retention: 14 * 24 * time.Hour}}
	for _, d := range destinationsOnAWS {
		queues = append(queues, sqstest.Queue{Name: d + "-dead", Retention: 14 * 24 * time.Hour},
			sqstest.Queue{Name: d + "-retry", VisibilityTimeout: 6 * time.Second, MaxReceives: 1000, DeadLetterQueue: d + "-dead"})
	}
	// The dead letter queue of a FIFO queue is one too.
	queues = append(queues, sqstest.Queue{Name: "mail-lost.fifo"}, sqstest.Queue{Name: "mail.fifo", VisibilityTimeout: 6 * time.Second, MaxReceives: 1000, DeadLetterQueue: "mail-lost.fifo"})
	a := &awsAccount{t: t, vendor: newVendor(t, seed), AWS: cloudtest.New(t, cloudtest.Config{
		Streams: []kinesistest.Stream{{Name: kinesisStream, Shards: 2}},
		Queues:  queues, Buckets: []string{"rules", "claims", "failed"},
		TimeScale: 0.001,
	})}
	return a
}

// must fails the test for an error.
func (a *awsAccount) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// rules puts the rules into their bucket.
func (a *awsAccount) rules() {
	a.t.Helper()
	a.must(a.Buckets.Put("rules", "rules.json", fmt.Appendf(nil, `[
		{"destination_name":"crm","destination_arn":%q,"enabled_events":["*"],"max_batch":20},
		{"destination_name":"audit","destination_arn":%q,"enabled_events":["order_*"]},
		{"destination_name":"mail","destination_arn":%q,"enabled_events":["step_*"]}]`,
		a.Lambda.ARN("crm", "prod"), a.Lambda.ARN("audit", "prod"), a.Queues.ARN("mail.fifo"))))
}

// create creates the functions and the event sources of the connectors.
func (a *awsAccount) create() {
	a.t.Helper()
	a.must(a.Lambda.CreateFunction(lambdatest.Function{
		Name: "router", Aliases: map[string]string{"prod": "1"}, Bootstrap: functions(a.t, "router"), Timeout: 20 * time.Second, MemoryMB: 512, Concurrency: 4,
		Env: slices.Concat(a.Env(), as("router"), []string{"RULES_BUCKET=rules", "RULES_KEY=rules.json", "RULES_INTERVAL=100ms", "CLAIM_BUCKET=claims", "DEAD_LETTER_QUEUE=" + a.Queues.ARN("router-dead")}),
	}))
	for _, d := range destinationsOnAWS {
		a.must(a.Lambda.CreateFunction(lambdatest.Function{
			Name: d, Aliases: map[string]string{"prod": "1"}, Bootstrap: functions(a.t, "connector"), Timeout: 5 * time.Second, MemoryMB: 256, Concurrency: 4,
			Env: slices.Concat(a.Env(), as(d), []string{
				"CONNECTOR=webhook", "SETTINGS=" + fmt.Sprintf(`{"url":%q,"allow_private":true,"timeout":"5s"}`, a.vendor.server.URL+"/"+d),
				"DESTINATION=" + d, "RETRY_BASE_DELAY=5ms", "RETRY_MAX_DELAY=100ms", "RETRY_MAX_ATTEMPTS=200",
				"DEAD_LETTER_QUEUE=" + a.Queues.ARN(d+"-dead"), "RETRY_QUEUE=" + a.Queues.ARN(d+"-retry"), "CLAIM_BUCKET=claims",
			}),
			Async: lambdatest.Async{DeadLetterQueue: d + "-dead", DuplicateEvery: 500, Shuffle: true},
		}))
		_, err := a.Lambda.MapQueue(lambdatest.QueueSource{Function: d + ":prod", Queue: d + "-retry", ReportBatchItemFailures: true, MaximumConcurrency: 2})
		a.must(err)
	}
	_, err := a.Lambda.MapQueue(lambdatest.QueueSource{Function: "mail:prod", Queue: "mail.fifo", ReportBatchItemFailures: true, MaximumConcurrency: 4})
	a.must(err)
}

// as makes a program sign with an access key of its own, so that its calls are
// known.
func as(program string) []string { return []string{"AWS_ACCESS_KEY_ID=" + program} }

// wantAllowed wants a program to have called what its role in the template allows
// it to call, and nothing else. Of that, what the test gives no reason for may be
// missing: unused names it.
func (a *awsAccount) wantAllowed(program, role string, unused ...string) {
	a.t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "deployments", "testdata", "permissions.json"))
	a.must(err)
	var table map[string][]struct{ Action, By string }
	a.must(json.Unmarshal(raw, &table))
	allowed := map[string]bool{}
	for _, p := range table[role] {
		if p.By == "function" {
			allowed[p.Action] = true
		}
	}
	called := a.Actions(program)
	for _, action := range called {
		if !allowed[action] {
			a.t.Errorf("%s has called %s, which %s does not allow", program, action, role)
		}
		delete(allowed, action)
	}
	for _, action := range unused {
		delete(allowed, action)
	}
	for action := range allowed {
		a.t.Errorf("%s may call %s and has not", program, action)
	}
	if len(called) == 0 {
		a.t.Errorf("%s has called nothing", program)
	}
}

// deploy starts everything.
func (a *awsAccount) deploy() {
	a.t.Helper()
	a.rules()
	a.create()
	retries := 50
	_, err := a.Lambda.MapKinesis(lambdatest.KinesisSource{
		Function: "router:prod", Server: a.Streams, Stream: kinesisStream, BatchSize: 5, ParallelizationFactor: 2, MaximumRetryAttempts: &retries,
		BisectBatchOnFunctionError: true, ReportBatchItemFailures: true,
		OnFailureObject: func(key string, body []byte) error { return a.Buckets.Put("failed", key, body) },
	})
	a.must(err)
}

// trouble makes everything fail now and then.
func (a *awsAccount) trouble(seed uint64) {
	random := rand.New(rand.NewPCG(seed, 2))
	var mu sync.Mutex
	chance := func(p float64) func(int) bool {
		return func(int) bool {
			mu.Lock()
			defer mu.Unlock()
			return random.Float64() < p
		}
	}
	a.Streams.Fail(kinesistest.Records(2, kinesistest.Throughput).When(chance(0.05)))
	a.Streams.Fail(kinesistest.CutAnswer().When(chance(0.02)))
	a.Lambda.Fail(lambdatest.Calls(lambdatest.CallerThrottled).When(chance(0.02)))
	a.Lambda.Fail(lambdatest.LostAnswer().When(chance(0.005)))
	a.Lambda.Fail(lambdatest.Disconnect(lambdatest.BeforeAccepting).When(chance(0.005)))
	a.Lambda.FailRuns(lambdatest.Calls(lambdatest.Throttled).When(chance(0.02)))
	a.Lambda.FailRuns(lambdatest.Crash(lambdatest.BeforeRunning).When(chance(0.002)))
	a.Lambda.FailRuns(lambdatest.Crash(lambdatest.AfterRunning).When(chance(0.002)))
	// The router is invoked seldom: more of it fails.
	a.Lambda.FailRuns(lambdatest.Crash(lambdatest.BeforeRunning).On("router").When(chance(0.05)))
	a.Lambda.FailRuns(lambdatest.Crash(lambdatest.AfterRunning).On("router").When(chance(0.05)))
	a.Queues.Fail(sqstest.Entries(2, awstest.Internal).When(chance(0.05)))
	a.Queues.Fail(sqstest.Unanswered(1).Stored().When(chance(0.02)))
	a.Queues.Fail(awstest.Disconnect(awstest.AfterStoring).When(chance(0.01)))
	a.Buckets.Fail(func(*http.Request) int {
		if chance(0.05)(0) {
			return http.StatusServiceUnavailable
		}
		return 0
	})
}

// heal ends all trouble.
func (a *awsAccount) heal() {
	a.Streams.Heal()
	a.Lambda.Heal()
	a.Queues.Heal()
	a.Buckets.Fail(nil)
	a.vendor.mu.Lock()
	defer a.vendor.mu.Unlock()
	a.vendor.well = true
}

// drain waits until nothing is on its way.
func (a *awsAccount) drain() {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 6*patience)
	defer cancel()
	if err := a.Lambda.Drain(ctx); err != nil {
		a.t.Fatalf("not drained: %v", err)
	}
}

// put writes records to the stream as a back end does that does not go through
// the gateway.
func (a *awsAccount) put(records ...[]byte) {
	a.t.Helper()
	type entry struct {
		Data         string
		PartitionKey string
	}
	var in struct {
		StreamName string
		Records    []entry
	}
	in.StreamName = kinesisStream
	for i, r := range records {
		in.Records = append(in.Records, entry{base64.StdEncoding.EncodeToString(r), fmt.Sprint("PK-", i)})
	}
	body, err := json.Marshal(in)
	if err != nil {
		a.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, a.Streams.URL(), bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("X-Amz-Target", "Kinesis_20131202.PutRecords")
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	awstest.Sign(req, "kinesis", cloudtest.Region)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		a.t.Fatalf("%d %s", resp.StatusCode, text)
	}
}

// sluice runs a command of sluice with this account.
func (a *awsAccount) sluice(args ...string) string {
	a.t.Helper()
	cmd := exec.CommandContext(a.t.Context(), binary, args...)
	cmd.Env = slices.Concat(cleanEnv(), a.Env(), []string{"SLUICE_STREAM=kinesis://" + kinesisStream, "SLUICE_RULES=s3://rules/rules.json", "SLUICE_KEYS=s3://rules/keys.json"})
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		a.t.Fatalf("sluice %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// dead returns the ids of the events in a dead letter queue, whoever put them
// there.
func (a *awsAccount) dead(queue string) []string {
	a.t.Helper()
	var ids []string
	for line := range strings.Lines(a.sluice("dlq", "list", a.Queues.ARN(queue), "--limit", "1000000", "--json")) {
		var l struct {
			EventID string `json:"event_id"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			a.t.Fatalf("%s: %v", line, err)
		}
		ids = append(ids, l.EventID)
	}
	return ids
}

// Everything of the system is real but AWS: gateway, router and connectors are
// the built binaries, and every hop fails now and then. Each event is delivered
// to each destination that wants it or is a dead letter; those that a FIFO queue
// carries arrive in the order of their user; and replayed, the dead letters
// arrive too.
func TestOnAWSEveryEventIsDeliveredOrADeadLetter(t *testing.T) {
	t.Parallel()
	count := 100_000
	if text := os.Getenv("SLUICE_E2E_EVENTS"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	a := newAccount(t, seed)
	a.deploy()
	key := strings.TrimSpace(a.sluice("keys", "new", "--id", "backend", "--kind", "secret"))
	p := startCommand(t, "gateway", t.TempDir(), slices.Concat(a.Env(), as("gateway"), []string{
		"SLUICE_STREAM=kinesis://" + kinesisStream, "SLUICE_KEYS=s3://rules/keys.json", "SLUICE_EMF=gateway", "SLUICE_REQUEST_TIMEOUT=60s",
	})...)
	// Other producers write to the stream themselves, some of them rubbish.
	a.put([]byte("no JSON"), []byte{0xf3, 0x89, 0x9a, 0xc2, 1, 2}, []byte(`{"data":{}}`), []byte(`{"name":"order_imported","data":{"n":-1}}`))
	a.trouble(seed)

	const users, batch = 200, 500
	want := map[string]map[string]bool{"crm": {}, "audit": {}, "mail": {}}
	var ids sync.Mutex
	var senders sync.WaitGroup
	parts := make(chan int)
	for sender := range 4 { // each has users of its own, and sends one batch after another
		senders.Go(func() {
			for from := range parts {
				var events []string
				for n := from; n < from+batch; n++ {
					name := []string{"step_a", "page_viewed", "page_viewed", "clicked", "step_b", "clicked"}[n%6]
					if n%20 == 3 {
						name = "order_completed"
					}
					id := fmt.Sprintf("e%06d", n)
					ids.Lock()
					want["crm"][id] = true
					if strings.HasPrefix(name, "order_") {
						want["audit"][id] = true
					}
					if strings.HasPrefix(name, "step_") {
						want["mail"][id] = true
					}
					ids.Unlock()
					events = append(events, fmt.Sprintf(`{"id":%q,"name":%q,"user_id":"u%d-%d","data":{"n":%d}}`, id, name, sender, n%(users/4), n))
				}
				ans := p.send("/v1/events", "["+strings.Join(events, ",")+"]", http.Header{"Authorization": {"Bearer " + key}})
				if ans.status != http.StatusAccepted || ans.Accepted != batch {
					t.Errorf("%d %.300s", ans.status, ans.body)
				}
			}
		})
	}
	for from := 0; from < count; from += batch {
		parts <- from
	}
	close(parts)
	senders.Wait()
	if t.Failed() {
		return
	}
	a.drain()
	// A lost answer would hide dead letters from whoever looks for five minutes.
	a.Queues.Heal()

	if l := p.ledger(); l.Residual != 0 || l.Accepted != uint64(count) || l.Stored != uint64(count) {
		t.Errorf("the ledger of the gateway: %+v", l)
	}
	unreadable := a.dead("router-dead")
	if len(unreadable) < 3 {
		t.Errorf("%d dead letters of the router, want the 3 records that cannot be read", len(unreadable))
	}
	dead := map[string]map[string]bool{}
	for _, d := range destinationsOnAWS {
		dead[d] = map[string]bool{}
		for _, id := range a.dead(d + "-dead") {
			dead[d][id] = true
		}
		took := a.vendor.took["/"+d]
		missing := 0
		for id := range want[d] {
			if _, has := took.first[id]; !has && !dead[d][id] {
				missing++
				if missing <= 5 {
					t.Errorf("%s: %s is neither delivered nor a dead letter", d, id)
				}
			}
		}
		for _, e := range took.order {
			if !want[d][e.ID] && e.Data.N >= 0 {
				t.Errorf("%s got %s, which it does not want", d, e.ID)
			}
		}
		t.Logf("%s: %d of %d delivered, %d repeated, %d dead", d, len(took.order), len(want[d]), took.repeats, len(dead[d]))
		if missing > 0 {
			t.Errorf("%s: %d events are missing", d, missing)
		}
	}
	last := map[string]int{}
	for _, e := range a.vendor.took["/mail"].order {
		if e.Data.N < last[e.UserID] {
			t.Errorf("mail got %d after %d of %s", e.Data.N, last[e.UserID], e.UserID)
		}
		last[e.UserID] = e.Data.N
	}
	if keys, err := a.Buckets.Keys("failed"); err != nil || len(keys) > 0 {
		t.Errorf("batches were given up: %v, %v", keys, err)
	}
	for _, f := range append([]string{"router"}, destinationsOnAWS...) {
		lines := 0
		for line := range strings.Lines(a.Lambda.Log(f)) {
			if strings.Contains(line, `"_aws"`) && strings.Contains(line, `"Residual":`) {
				lines++
				if !strings.Contains(line, `"Residual":0`) {
					t.Errorf("%s: %s", f, line)
				}
			}
		}
		if lines == 0 {
			t.Errorf("%s has written no metrics", f)
		}
		s := a.Lambda.Stats(f)
		if s.DeadLetterErrors != 0 {
			t.Errorf("%s: %d events were lost by Lambda", f, s.DeadLetterErrors)
		}
		slices.Sort(s.InitDurations)
		t.Logf("%s: %d invocations, %d errors, %d cold starts, the fastest %v, the median %v", f, s.Invocations, s.Errors, s.ColdStarts, s.InitDurations[0], s.InitDurations[len(s.InitDurations)/2])
	}

	// The cause is mended, and the dead letters are sent again.
	a.heal()
	for _, d := range destinationsOnAWS {
		if d != "crm" {
			a.sluice("dlq", "replay", a.Queues.ARN(d+"-dead"), "--to", a.Lambda.ARN(d, "prod"))
		}
	}
	a.redrive(fmt.Sprintf(`{"queue":%q,"action":"replay","to":%q}`, a.Queues.ARN("crm-dead"), a.Lambda.ARN("crm", "prod")))
	a.drain()
	for _, d := range destinationsOnAWS {
		if n := len(a.Queues.Messages(d + "-dead")); n > 0 {
			t.Errorf("%s: %d dead letters are left after the replay", d, n)
		}
		foreign := map[string]int{"crm": 1, "audit": 1}[d]
		if n := a.vendor.has("/" + d); n != len(want[d])+foreign {
			t.Errorf("%s has %d events after the replay, want %d", d, n, len(want[d])+foreign)
		}
	}
	a.wantAllowed("gateway", "GatewayRole")
	a.wantAllowed("router", "RouterRole", "s3:PutObject")
	// Only what is too large is put into a bucket, no setting is a secret, and
	// whether a message has to be put off is chance.
	for _, d := range destinationsOnAWS {
		a.wantAllowed(d, "ConnectorRole", "s3:GetObject", "s3:PutObject", "secretsmanager:GetSecretValue", "ssm:GetParameter", "sqs:ChangeMessageVisibility")
	}
	// One order of many: it only counts what it cannot see, and reads no stream.
	a.wantAllowed("redrive", "RedriveRole", "kinesis:DescribeStreamSummary", "kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards", "kinesis:PutRecords",
		"s3:GetObject", "s3:DeleteObject", "s3:ListBucket", "sqs:GetQueueUrl", "sqs:ChangeMessageVisibility", "sqs:SendMessage")
}

// redrive invokes the function redrive as a person does, until it is done.
func (a *awsAccount) redrive(request string) {
	a.t.Helper()
	a.must(a.Lambda.CreateFunction(lambdatest.Function{
		Name: "redrive", Aliases: map[string]string{"prod": "1"}, Bootstrap: functions(a.t, "redrive"), Timeout: time.Minute,
		Env: slices.Concat(a.Env(), as("redrive"), []string{"BACKUP_BUCKET=claims", "SLUICE_STREAM=kinesis://" + kinesisStream, "RULES_BUCKET=rules", "RULES_KEY=rules.json"}),
	}))
	for {
		answer, err := a.Lambda.Invoke("redrive:prod", []byte(request))
		a.must(err)
		var said struct{ Done bool }
		if err := json.Unmarshal(answer.Payload, &said); err != nil || answer.FunctionError != "" {
			a.t.Fatalf("redrive said %s, %s, %v", answer.FunctionError, answer.Payload, err)
		}
		if said.Done {
			return
		}
	}
}

// Without rules the router fails. Its event source gives the records up after
// some attempts, and leaves them in a bucket, or a note of them in a queue; both
// lead back to the stream when there are rules.
func TestOnAWSBatchesThatWereGivenUpComeBack(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"bucket", "queue"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t, 1)
			a.heal()
			retries := 1
			source := lambdatest.KinesisSource{
				Function: "router:prod", Server: a.Streams, Stream: kinesisStream, BatchSize: 1, MaximumRetryAttempts: &retries, ReportBatchItemFailures: true,
			}
			place := "s3://failed/aws/lambda/"
			if where == "bucket" {
				source.OnFailureObject = func(key string, body []byte) error { return a.Buckets.Put("failed", key, body) }
			} else {
				source.OnFailure, place = "router-dead", a.Queues.ARN("router-dead")
			}
			a.create()
			if _, err := a.Lambda.MapKinesis(source); err != nil {
				t.Fatal(err)
			}
			a.put([]byte(`{"id":"e1","name":"clicked","user_id":"u1"}`), []byte(`{"id":"e2","name":"order_completed","user_id":"u1"}`))
			a.drain()
			if n := a.vendor.has("/crm"); n != 0 || a.Lambda.Stats("router").Errors == 0 {
				t.Fatalf("%d events were delivered without rules, %+v", n, a.Lambda.Stats("router"))
			}
			if out := a.sluice("dlq", "list", place); !strings.Contains(out, "e1") || !strings.Contains(out, "e2") {
				t.Errorf("the dead letters are\n%s", out)
			}
			a.rules()
			a.sluice("dlq", "replay", place, "--to", "stream")
			a.drain()
			if crm, audit := a.vendor.has("/crm"), a.vendor.has("/audit"); crm != 2 || audit != 1 {
				t.Errorf("after the replay crm has %d events and audit %d", crm, audit)
			}
			if out := a.sluice("dlq", "count", place); !strings.HasPrefix(out, "0") {
				t.Errorf("left: %s", out)
			}
		})
	}
}

// Several people add a key to the same document at the same time, and the gateway
// that runs takes each of them.
func TestOnAWSKeysAndRulesAreReadFromS3(t *testing.T) {
	t.Parallel()
	a := newAccount(t, 1)
	a.rules()
	if out := a.sluice("rules", "check", "s3://rules/rules.json"); !strings.Contains(out, "3 rules for 3 destinations") {
		t.Errorf("rules check: %s", out)
	}
	first := strings.TrimSpace(a.sluice("keys", "new", "--id", "first", "--kind", "secret"))
	p := startCommand(t, "gateway", t.TempDir(), slices.Concat(a.Env(), []string{
		"SLUICE_STREAM=kinesis://" + kinesisStream, "SLUICE_KEYS=s3://rules/keys.json", "SLUICE_SPOOL=off", "SLUICE_EMF=the-gateway",
	})...)
	keys := make([]string, 4)
	var adding sync.WaitGroup
	for i := range keys {
		adding.Go(func() {
			keys[i] = strings.TrimSpace(a.sluice("keys", "new", "--id", fmt.Sprint("shop", i), "--kind", "secret"))
		})
	}
	adding.Wait()
	if out := a.sluice("keys", "list"); strings.Count(out, "\n") != 1+5 {
		t.Errorf("not every key is in the document:\n%s", out)
	}
	with := func(key string) int {
		return p.send("/v1/events", `{"name":"clicked","user_id":"u1"}`, http.Header{"Authorization": {"Bearer " + key}}).status
	}
	if status := with(first); status != http.StatusAccepted {
		t.Errorf("the first key: %d", status)
	}
	for _, key := range keys {
		p.until("a key that was added is known", func() bool { return with(key) == http.StatusAccepted })
	}
	if status := with("sk_nobody"); status != http.StatusUnauthorized {
		t.Errorf("an unknown key: %d", status)
	}
	// What was counted since the last minute is written at the end.
	p.stop()
	if out := p.out.String(); !strings.Contains(out, `"Namespace":"Sluice"`) || !strings.Contains(out, `"Program":"the-gateway","Accepted":5,"Rejected":0,"Stored":5,"Spooled":0,"Residual":0}`) {
		t.Errorf("no metrics for CloudWatch in\n%s", out)
	}
}
