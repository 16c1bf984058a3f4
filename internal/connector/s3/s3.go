// Package s3 delivers events to files in a bucket: NDJSON or Parquet, many
// events in each. Settings, keys, columns, limits and outcomes are described in
// README.md. It does not know how S3 is called: its Bucket does.
package s3

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/fault"
)

// Kind is the connector's name in the destinations file.
const Kind = "s3"

// version changes when the mapping of an event to a line or row changes.
const version = "1"

// Bounds of a call. A file of 32 MiB is three to six in the call.
const (
	sendTimeout = 2 * time.Minute
	putTimeout  = 30 * time.Second
	hasTimeout  = 10 * time.Second
	// throttlePause is the wait that a store that asks for patience is given: it
	// names none.
	throttlePause = 5 * time.Second
)

// pauses are the waits before a file whose fate is not known is written again.
var pauses = [...]time.Duration{500 * time.Millisecond, 2 * time.Second}

// Connector puts files into one bucket.
type Connector struct {
	cfg     Config
	open    Open
	masker  httpcall.Masker
	parquet *parquetWriters

	mu     sync.Mutex
	bucket Bucket // nil until the first call
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Checker   = (*Connector)(nil)
)

// Spec is the connector, for a program that opens buckets so.
func Spec(open Open) connector.Spec {
	return connector.Spec{
		Kind:     Kind,
		Summary:  "Amazon S3 or a store like it: files of events, NDJSON or Parquet",
		Settings: DefaultConfig(),
		Dedup:    "none; the same call writes the same file, and readers keep one of each id",
		Order:    "within a file",
		Limits:   "10,000 events or 32 MiB in a file (max_events)",
		New: func(raw json.RawMessage, _ connector.Env) (connector.Connector, error) {
			cfg, err := parseConfig(raw)
			if err != nil {
				return nil, err
			}
			return &Connector{
				cfg: cfg, open: open, masker: httpcall.NewMasker(cfg.SecretAccessKey),
				parquet: newParquetWriters(cfg.Compression),
			}, nil
		},
	}
}

// Kind implements connector.Connector.
func (c *Connector) Kind() string { return Kind }

// Version implements connector.Connector.
func (c *Connector) Version() string { return version }

// maxConcurrency is how many files are on their way: each more is one more file
// after each linger, and two of 10,000 events already make some 20,000 a second.
const maxConcurrency = 2

// Limits implements connector.Connector.
func (c *Connector) Limits() connector.Limits {
	return connector.Limits{
		MaxEvents: c.cfg.MaxEvents, MaxConcurrency: maxConcurrency,
		Timeout: sendTimeout, Linger: time.Duration(c.cfg.Linger),
	}
}

// Plan implements connector.Connector. The payload of a call is a *file; what is
// in it is encoded by Send, so that only files on their way take memory.
func (c *Connector) Plan(events []connector.Delivery) connector.Plan {
	return c.cfg.filter.Plan(events, c.plan)
}

func (c *Connector) plan(events []connector.Delivery) connector.Plan {
	var (
		plan   connector.Plan
		drafts []*draft
		open   = make(map[string]*draft, 2) // by partition
		parts  = partitioner{byDay: c.cfg.Partition == byDay, byEvent: c.cfg.ByEvent}
	)
	for i := range events {
		d := &events[i]
		var r row
		if c.cfg.Format == formatParquet {
			var refused *connector.Result
			if r, refused = makeRow(&d.Event); refused != nil {
				plan.Done = append(plan.Done, connector.Done{Event: i, Result: *refused})
				continue
			}
		}
		path := parts.pathOf(&d.Event)
		f := open[path]
		if f == nil || !f.fits(len(d.Raw), c.cfg.MaxEvents) {
			f = &draft{path: path}
			open[path], drafts = f, append(drafts, f)
		}
		f.add(i, d)
		if c.cfg.Format == formatParquet {
			f.rows = append(f.rows, r)
		} else {
			f.lines = append(f.lines, d.Raw)
		}
	}
	plan.Calls = make([]connector.Call, len(drafts))
	for i, d := range drafts {
		d.key = c.cfg.Prefix + d.path + d.name() + c.extension()
		plan.Calls[i] = connector.Call{Events: d.events, Payload: &file{key: d.key, lines: d.lines, rows: d.rows}}
	}
	return plan
}

func (c *Connector) extension() string {
	if c.cfg.Format == formatParquet {
		return "." + c.cfg.Compression + ".parquet"
	}
	return ".ndjson.gz"
}

func (c *Connector) encode(f *file) (body []byte, contentType string, err error) {
	if c.cfg.Format == formatParquet {
		body, err = c.parquet.encode(f.rows)
		return body, "application/vnd.apache.parquet", err
	}
	body, err = encodeNDJSON(f.lines)
	return body, "application/gzip", err
}

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return connector.All(len(call.Events), c.send(ctx, call.Payload.(*file)))
}

func (c *Connector) send(ctx context.Context, f *file) connector.Result {
	if ctx.Err() != nil {
		return connector.Result{Class: connector.Retryable, Code: "timeout", Message: "the time was over before the file was written"}
	}
	bucket, err := c.connect(ctx)
	if err != nil {
		return c.explain(err)
	}
	body, contentType, err := c.encode(f)
	if err != nil {
		return connector.Result{Class: connector.Retryable, Code: "encode", Message: httpcall.Cut(err.Error(), httpcall.MaxMessage)}
	}
	return c.write(ctx, bucket, f.key, body, contentType)
}

// write puts a file. Without an answer it looks whether the file is there, and
// if that is not known either, or it is not, puts it again: the key and the bytes
// are the same, so that this does no harm. Once a write may have been done, only
// an answer that it is done can say more than that.
func (c *Connector) write(ctx context.Context, bucket Bucket, key string, body []byte, contentType string) connector.Result {
	var unknown error
	for puts := 0; ; puts++ {
		err := within(ctx, putTimeout, func(ctx context.Context) error { return bucket.Put(ctx, key, body, contentType) })
		if err == nil {
			return connector.Result{Class: connector.Delivered}
		}
		class := classify(err)
		if class == connector.Ambiguous {
			unknown = err
			there := false
			if within(ctx, hasTimeout, func(ctx context.Context) (err error) {
				there, err = bucket.Has(ctx, key, body)
				return err
			}) == nil && there {
				return connector.Result{Class: connector.Delivered}
			}
		}
		if unknown == nil {
			return c.explain(err)
		}
		if class == connector.Auth || class == connector.TooLarge || puts == len(pauses) || !sleep(ctx, pauses[puts]) {
			return c.explain(unknown)
		}
	}
}

// within makes a call that may take so long.
func within(ctx context.Context, d time.Duration, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return call(ctx)
}

// sleep waits, and reports whether it did so to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// connect returns the bucket, which is opened once.
func (c *Connector) connect(ctx context.Context) (Bucket, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bucket != nil {
		return c.bucket, nil
	}
	// What is opened outlives the call.
	bucket, err := c.open(context.WithoutCancel(ctx), Location{
		Bucket: c.cfg.Bucket, Region: c.cfg.Region, Endpoint: c.cfg.Endpoint,
		AccessKeyID: c.cfg.AccessKeyID, SecretAccessKey: c.cfg.SecretAccessKey,
		StorageClass: c.cfg.StorageClass, KMSKeyID: c.cfg.KMSKeyID,
	})
	if err != nil {
		return nil, err
	}
	c.bucket = bucket
	return bucket, nil
}

// Check implements connector.Checker.
func (c *Connector) Check(ctx context.Context) connector.Result {
	bucket, err := c.connect(ctx)
	if err == nil {
		err = bucket.Check(ctx, c.cfg.Prefix)
	}
	switch {
	case err == nil:
		return connector.Result{Class: connector.Delivered, Message: "the bucket " + c.cfg.Bucket + " is there; whether it takes files shows the first one"}
	case fault.KindOf(err) == fault.Forbidden:
		// To deliver it is enough to be allowed to write.
		return connector.Result{Class: connector.Delivered, Message: c.text("the bucket may not be listed, which delivery does not need: ", err)}
	}
	r := c.explain(err)
	if r.Class == connector.Ambiguous {
		r.Class = connector.Retryable // nothing was written
	}
	return r
}

// Close implements connector.Connector.
func (c *Connector) Close() error { return nil }

// classify returns the class of a write that failed.
func classify(err error) connector.Class {
	switch fault.KindOf(err) {
	case fault.Throttled:
		return connector.Throttled
	case fault.Unavailable, fault.Conflict:
		return connector.Retryable
	case fault.TooLarge:
		return connector.TooLarge
	case fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Invalid:
		return connector.Auth
	}
	return connector.Ambiguous
}

// settingOf says which setting to look at.
var settingOf = map[fault.Kind]string{
	fault.Unauthenticated: "access_key_id, or the AWS credentials of the program: ",
	fault.Forbidden:       "bucket, or the policy of the AWS credentials: ",
	fault.NotFound:        "bucket: ",
	fault.Invalid:         "region, endpoint, storage_class or kms_key_id: ",
}

// explain returns the result of a write that failed.
func (c *Connector) explain(err error) connector.Result {
	kind := fault.KindOf(err)
	r := connector.Result{Class: classify(err), Code: kind.String(), Message: c.text(settingOf[kind], err), RetryAfter: fault.RetryAfter(err)}
	if r.Class == connector.Throttled && r.RetryAfter == 0 {
		r.RetryAfter = throttlePause
	}
	return r
}

// text says what an error says to the operator.
func (c *Connector) text(before string, err error) string {
	text := err.Error()
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Detail != "" {
		text = f.Detail
	}
	return c.masker.Text(strings.TrimSpace(before+text), httpcall.MaxMessage)
}
