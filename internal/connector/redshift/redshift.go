// Package redshift delivers events to a table of Amazon Redshift, one row per
// event: it puts a file into a bucket, and has the Data API load and merge it in
// one transaction. Settings, schema, limits and outcomes are described in
// README.md. It does not know how AWS is called: its Bucket and Database do.
package redshift

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/warehouse"
)

// Kind is the connector's name in the destinations file.
const Kind = "redshift"

// version changes when the mapping of an event to a row changes.
const version = "1"

// sendTimeout bounds a call: a load takes seconds, and minutes when the cluster
// is busy or wakes up.
const sendTimeout = 5 * time.Minute

// Connector loads events into one table.
type Connector struct {
	cfg   Config
	table table
	open  Open
	log   *slog.Logger

	mu       sync.Mutex
	bucket   Bucket // nil until the first call
	database Database
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Checker   = (*Connector)(nil)
)

// Spec is the connector, for a program that opens buckets and databases so.
func Spec(open Open) connector.Spec {
	return connector.Spec{
		Kind:     Kind,
		Summary:  "Amazon Redshift: a table, loaded from S3 through the Data API",
		Settings: DefaultConfig(),
		Dedup:    "the event id, in the table",
		Order:    "none: a table has no order",
		Limits:   "10,000 events or 8 MiB in a load (max_events); 4 MiB in an event",
		New: func(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
			cfg, table, err := parseConfig(raw)
			if err != nil {
				return nil, err
			}
			return &Connector{cfg: cfg, table: table, open: open, log: env.Logger()}, nil
		},
	}
}

// Kind implements connector.Connector.
func (c *Connector) Kind() string { return Kind }

// Version implements connector.Connector.
func (c *Connector) Version() string { return version }

// maxConcurrency is how many loads are on their way: more would wait for each
// other's lock, and few large ones are what a cluster wants.
const maxConcurrency = 1

// Limits implements connector.Connector.
func (c *Connector) Limits() connector.Limits {
	return connector.Limits{
		MaxEvents: c.cfg.MaxEvents, MaxConcurrency: maxConcurrency, Dedups: true,
		Timeout: sendTimeout, Linger: time.Duration(c.cfg.Linger),
	}
}

// Plan implements connector.Connector. The payload of a call is its rows.
func (c *Connector) Plan(events []connector.Delivery) connector.Plan {
	return warehouse.Plan(c.cfg.filter, events, c.cfg.MaxEvents, makeRow)
}

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return connector.All(len(call.Events), c.send(ctx, call.Payload.([]row)))
}

func (c *Connector) send(ctx context.Context, rows []row) connector.Result {
	if ctx.Err() != nil {
		return connector.Result{Class: connector.Retryable, Code: "timeout", Message: "the time was over before anything was sent"}
	}
	bucket, database, err := c.connect(ctx)
	if err != nil {
		return explain("region: ", err, connector.Retryable)
	}
	key := c.key(rows)
	body, err := encode(rows)
	if err != nil {
		return connector.Result{Class: connector.Retryable, Code: "encode", Message: cut(err.Error())}
	}
	if err := stage(ctx, bucket, key, body); err != nil {
		// The file is not the table: whether it is there or not, nothing has
		// arrived.
		return explain("staging_bucket: ", err, connector.Retryable)
	}
	r := c.load(ctx, database, key, len(rows))
	if r.Class.Settled() || r.Code == codeRow {
		c.discard(ctx, bucket, key)
	}
	return r
}

// connect returns bucket and database, which are opened once.
func (c *Connector) connect(ctx context.Context) (Bucket, Database, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.database == nil {
		// What is opened outlives the call.
		bucket, database, err := c.open(context.WithoutCancel(ctx), Target{
			Region: c.cfg.Region, Bucket: c.cfg.StagingBucket,
			Cluster: c.cfg.ClusterIdentifier, Workgroup: c.cfg.WorkgroupName,
			Database: c.cfg.Database, DBUser: c.cfg.DBUser, SecretARN: c.cfg.SecretARN,
		})
		if err != nil {
			return nil, nil, err
		}
		c.bucket, c.database = bucket, database
	}
	return c.bucket, c.database, nil
}

// key is where the file of a load is put: a digest of the table and of the ids in
// their order, so that another attempt of the same call writes over the file of
// the last one, and other tables have files of their own.
func (c *Connector) key(rows []row) string {
	h := sha256.New()
	var length [binary.MaxVarintLen64]byte
	add := func(s string) {
		_, _ = h.Write(length[:binary.PutUvarint(length[:], uint64(len(s)))])
		_, _ = h.Write([]byte(s))
	}
	for _, s := range [...]string{c.cfg.ClusterIdentifier, c.cfg.WorkgroupName, c.cfg.Database, c.table.name} {
		add(s)
	}
	for i := range rows {
		add(rows[i].id)
	}
	return c.cfg.StagingPrefix + hex.EncodeToString(h.Sum(nil)[:16]) + "-" + strconv.Itoa(len(rows)) + ".ndjson.gz"
}

// gzips are writers that are not in use; each holds most of a megabyte.
var gzips = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// encode returns rows as NDJSON, gzip, each with its place.
func encode(rows []row) ([]byte, error) {
	var out bytes.Buffer
	w := gzips.Get().(*gzip.Writer)
	defer gzips.Put(w)
	w.Reset(&out)
	var begin []byte
	for i := range rows {
		begin = strconv.AppendInt(append(begin[:0], `{"`+nthColumn+`":`...), int64(i), 10)
		for _, part := range [...][]byte{append(begin, ','), rows[i].line[len("{"):]} {
			if _, err := w.Write(part); err != nil {
				return nil, fmt.Errorf("gzip: %w", err)
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	return out.Bytes(), nil
}

// Bounds of the calls that a load is made of. maxTries is how often one is made
// that may be made again: that of a file, and that of a batch with its token.
const (
	maxTries   = 3
	putTimeout = time.Minute
	apiTimeout = 20 * time.Second
)

// within makes a call that may take so long.
func within(ctx context.Context, d time.Duration, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return call(ctx)
}

// stage puts the file of a load.
func stage(ctx context.Context, bucket Bucket, key string, body []byte) error {
	return again(ctx, putTimeout, func(ctx context.Context) error { return bucket.Put(ctx, key, body, "application/gzip") })
}

// again makes a call until its fate is known.
func again(ctx context.Context, d time.Duration, call func(context.Context) error) error {
	for tries := 1; ; tries++ {
		err := within(ctx, d, call)
		if err == nil || classify(err) != connector.Ambiguous || tries == maxTries || !sleep(ctx, firstPoll) {
			return err
		}
	}
}

// discard deletes the file of a load that is done, or will be made in halves. If that fails it stays until the lifecycle
// rule of the bucket deletes it, which makes no other difference.
func (c *Connector) discard(ctx context.Context, bucket Bucket, key string) {
	err := within(ctx, apiTimeout, func(ctx context.Context) error { return bucket.Delete(ctx, key) })
	if err != nil {
		c.log.Warn("staged file is not deleted", "key", key, "error", err)
	}
}

// load has the staged file loaded. Missing tables are created, if the settings
// say so.
func (c *Connector) load(ctx context.Context, database Database, key string, n int) connector.Result {
	// Names of temporary tables are of a session, and sessions are used again.
	token := strings.ToLower(rand.Text())
	statements := c.table.load(token, "s3://"+c.cfg.StagingBucket+"/"+key, c.cfg.IAMRole)
	r := c.run(ctx, database, token, statements, n)
	if r.Code != codeMissing || !c.cfg.CreateTable {
		return r
	}
	c.log.Info("table is missing and is created", "table", c.table.name)
	created := c.run(ctx, database, "create-"+token, c.table.create(), 1)
	switch created.Class {
	case connector.Auth, connector.Throttled:
		return created
	}
	// Two that create a table at the same time may fail on each other's; what
	// matters is the second load. A token is of one call: with that of a batch that
	// failed, the answer would be that it failed.
	r = c.run(ctx, database, "again-"+token, statements, n)
	if r.Code == codeMissing && !created.Class.Settled() {
		created.Class = connector.Retryable // of no row, and it says nothing of the settings
		return created
	}
	return r
}

// Poll intervals, from the first to the longest.
const (
	firstPoll   = 250 * time.Millisecond
	longestPoll = 3 * time.Second
)

// run runs statements as one transaction that brings n rows, and waits for the
// outcome. When most of the time is over it asks for them to be stopped, so that
// there is one.
func (c *Connector) run(ctx context.Context, database Database, token string, statements []string, n int) connector.Result {
	var id string
	err := again(ctx, apiTimeout, func(ctx context.Context) (err error) {
		id, err = database.Begin(ctx, token, statements)
		return err
	})
	if err != nil {
		return explain("cluster_identifier or workgroup_name, database, db_user or secret_arn: ", err, connector.Ambiguous)
	}
	deadline, _ := ctx.Deadline()
	patience := time.Now().Add(time.Until(deadline) * 3 / 4)
	var last error
	for wait, cancelled := firstPoll, false; sleep(ctx, wait); wait = min(wait*3/2, longestPoll) {
		var o Outcome
		err := within(ctx, apiTimeout, func(ctx context.Context) (err error) {
			o, err = database.Outcome(ctx, id)
			return err
		})
		switch {
		case err == nil && o.Status == finished:
			return inserted(o, n)
		case err == nil && (o.Status == failed || o.Status == aborted):
			return explainFailure(o, n)
		case err != nil && classify(err) == connector.Auth:
			return explain("the policy of the AWS credentials: ", err, connector.Auth)
		}
		last = err
		switch left := time.Until(patience); {
		case cancelled:
		case left > 0:
			wait = min(wait, left)
		default:
			cancelled = within(ctx, apiTimeout, func(ctx context.Context) error { return database.Cancel(ctx, id) }) == nil
			wait = firstPoll
		}
	}
	message := "the statements had not ended when the time was over"
	if last != nil {
		message += ": " + detail(last)
	}
	return connector.Result{Class: connector.Ambiguous, Code: "timeout", Message: cut(message)}
}

// inserted is the result of a load that is committed.
func inserted(o Outcome, n int) connector.Result {
	if n > 0 && len(o.Rows) > insertStatement && o.Rows[insertStatement] == 0 {
		return connector.Result{Class: connector.Duplicate}
	}
	return connector.Result{Class: connector.Delivered}
}

// Check implements connector.Checker. It needs a statement that runs.
func (c *Connector) Check(ctx context.Context) connector.Result {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	bucket, database, err := c.connect(ctx)
	if err != nil {
		return explain("region: ", err, connector.Retryable)
	}
	if err := bucket.Check(ctx, c.cfg.StagingPrefix); err != nil && !forbidden(err) {
		return explain("staging_bucket: ", err, connector.Retryable)
	}
	r := c.run(ctx, database, "check-"+strings.ToLower(rand.Text()), []string{c.table.check()}, 0)
	switch {
	case r.Class == connector.Delivered:
		r.Message = "the table " + c.table.name + " can be read; whether it can be loaded shows the first call"
	case r.Code == codeMissing && c.cfg.CreateTable:
		r = connector.Result{Class: connector.Delivered, Message: "there is no table " + c.table.name + " yet; the first call creates it"}
	case r.Class == connector.Ambiguous:
		r.Class = connector.Retryable // it writes nothing
	}
	return r
}

// Close implements connector.Connector.
func (c *Connector) Close() error { return nil }

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
