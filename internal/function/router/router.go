// Package router is the Lambda function between a Kinesis stream and the
// destinations: it reads the rules from S3 and hands events over as package
// fanout says.
//
// Its environment:
//
//   - RULES_BUCKET, RULES_KEY: the rules document. Needed.
//   - RULES_INTERVAL: how often it is looked at again at most. Default 5s.
//   - DEAD_LETTER_QUEUE: URL or ARN of the SQS queue for what cannot be read,
//     transformed or ever delivered. Without it such a record is reported as
//     failed, and the event source decides what becomes of it.
//   - CLAIM_BUCKET: where events go that are too large to be sent.
package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/grave"
	"github.com/eventsluice/sluice/internal/cloud/invoke"
	"github.com/eventsluice/sluice/internal/cloud/lambdahost"
	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/document"
	"github.com/eventsluice/sluice/internal/event"
	"github.com/eventsluice/sluice/internal/router"
	"github.com/eventsluice/sluice/internal/router/fanout"
	"github.com/eventsluice/sluice/internal/telemetry/emf"
)

// Function is the router. Its methods are safe for concurrent use.
type Function struct {
	name     string
	rules    document.Source
	interval time.Duration
	fanout   *fanout.Fanout
	log      *slog.Logger
	metrics  io.Writer

	mu     sync.Mutex
	stream string // ARN of what is read
	live   *document.Live[*router.Table]
	looked time.Time // when the rules were looked at last
}

// New makes the function of an environment. The error has one line for each
// variable that cannot be used. It makes no call. metrics gets lines of embedded
// metrics.
func New(cfg sdk.Config, lookup func(string) (string, bool), log *slog.Logger, metrics io.Writer) (*Function, error) {
	get := func(name string) string { value, _ := lookup(name); return value }
	f := &Function{name: lambdahost.FunctionName(), interval: 5 * time.Second, log: log, metrics: metrics}
	var faults []error
	objects, queues := object.New(cfg), queue.New(cfg)
	bucket, key := get("RULES_BUCKET"), get("RULES_KEY")
	if bucket == "" {
		faults = append(faults, errors.New(`RULES_BUCKET="": right would be the bucket of the rules document`))
	}
	if key == "" {
		faults = append(faults, errors.New(`RULES_KEY="": right would be the key of the rules document, such as "rules.json"`))
	}
	f.rules = objects.Source(bucket, key)
	if text := get("RULES_INTERVAL"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			faults = append(faults, fmt.Errorf(`RULES_INTERVAL=%q: right would be a duration such as "5s"`, text))
		}
		f.interval = d
	}
	claims := get("CLAIM_BUCKET")
	var dead fanout.Grave
	if text := get("DEAD_LETTER_QUEUE"); text != "" {
		ref, err := queues.Parse(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("DEAD_LETTER_QUEUE=%q: %w", text, err))
		}
		dead = &burial{grave: grave.Grave{Queue: queues, Ref: ref, Objects: objects, Bucket: claims}, function: f}
	}
	var bucketOfClaims fanout.Claims
	if claims != "" {
		bucketOfClaims = claimer{objects, claims}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	var err error
	f.fanout, err = fanout.New(invoke.New(cfg), bucketOfClaims, dead, fanout.Config{MaxPayload: invoke.MaxPayload, Log: log})
	return f, err
}

type claimer struct {
	objects *object.Client
	bucket  string
}

func (c claimer) Claim(ctx context.Context, key string, payload []byte) (event.Claim, error) {
	return c.objects.Claim(ctx, c.bucket, key, payload)
}

// parse reads a rules document for AWS: each rule in use has an ARN.
func parse(doc []byte) (*router.Table, error) {
	if len(strings.TrimSpace(string(doc))) == 0 {
		return nil, errors.New("the document is empty; right would be a JSON array of rules, [] for none")
	}
	table, err := router.Parse(doc)
	if err != nil {
		return nil, err
	}
	return table, table.RequireARNs()
}

// lookTime bounds a look at the rules: while there is a version in force, S3
// must not keep events from being routed.
const lookTime = 5 * time.Second

// Rules returns the rules in force, and looks for newer ones if the last look is
// long enough ago. The error says why there are none yet.
func (f *Function) Rules(ctx context.Context) (*router.Table, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	if f.live == nil {
		live, err := document.Open(ctx, f.rules, parse, f.log)
		if err != nil {
			return nil, fmt.Errorf("rules: %w", err)
		}
		f.live, f.looked = live, time.Now()
		f.loaded()
		return live.Get(), nil
	}
	if time.Since(f.looked) >= f.interval {
		f.looked = time.Now()
		if changed, _ := f.live.Reload(ctx); changed { // Live logs why not
			f.loaded()
		}
	}
	return f.live.Get(), nil
}

func (f *Function) loaded() {
	table := f.live.Get()
	if len(table.Destinations()) == 0 {
		f.log.Warn("the rules document names no destination: every event is filtered", "source", f.rules.String())
		return
	}
	f.log.Info("rules loaded", "source", f.rules.String(), "rules", len(table.Rules()))
}

// Handle handles a batch of records of a Kinesis event source.
func (f *Function) Handle(ctx context.Context, payload []byte) ([]byte, error) {
	began := time.Now()
	records, err := lambdahost.ParseRecords(payload)
	if err != nil {
		return nil, err
	}
	table, err := f.Rules(ctx)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.stream = records[0].Stream
	f.mu.Unlock()
	batch := make([]fanout.Record, len(records))
	for i, r := range records {
		batch[i] = fanout.Record(r)
	}
	o := f.fanout.Process(ctx, table, batch)
	f.report(ctx, &o, len(records), time.Since(began))
	if o.Failed != "" {
		return lambdahost.Failures(o.Failed), nil
	}
	return lambdahost.Failures(), nil
}

// report writes a line of the log and the metrics of a batch.
func (f *Function) report(ctx context.Context, o *fanout.Outcome, records int, took time.Duration) {
	_, request := lambdahost.Invoked(ctx)
	attrs := []any{"request_id", request, "records", records, "settled", o.Records, "events", o.Events, "sends", o.Sends, "attempts", o.Attempts, "took_ms", took.Milliseconds()}
	switch {
	case o.Residual != 0:
		f.log.Error("events of the batch are not accounted for", append(attrs, "residual", o.Residual)...)
	case o.Failed != "":
		f.log.Warn("the batch is to be read again from a record on", append(attrs, "failed", o.Failed, "reason", o.Why.Error())...)
	default:
		f.log.Info("batch routed", attrs...)
	}
	failed := 0.0
	if o.Failed != "" {
		failed = 1
	}
	total := fanout.Counts{DeadLetters: o.Unreadable}
	program := emf.Dimension{Name: "Program", Value: f.name}
	var lines []byte
	for name, c := range o.Destinations {
		total.Routed += c.Routed
		total.Filtered += c.Filtered
		total.DeadLetters += c.DeadLetters
		if c.Routed+c.DeadLetters == 0 {
			continue // lines are paid for, and of many destinations most want nothing of a small batch
		}
		lines = append(lines, emf.Line(emf.Namespace, []emf.Dimension{program, {Name: "Destination", Value: name}}, handed(c))...)
	}
	lines = append(lines, emf.Line(emf.Namespace, []emf.Dimension{program}, append(handed(total),
		emf.Value{Name: "Filtered", Value: float64(total.Filtered)},
		emf.Value{Name: "Events", Value: float64(o.Events)},
		emf.Value{Name: "Failed", Value: failed},
		emf.Value{Name: "Residual", Value: float64(o.Residual)},
	))...)
	if _, err := f.metrics.Write(lines); err != nil {
		f.log.Error("metrics cannot be written", "error", err)
	}
}

func handed(c fanout.Counts) []emf.Value {
	return []emf.Value{{Name: "Routed", Value: float64(c.Routed)}, {Name: "DeadLetters", Value: float64(c.DeadLetters)}}
}
