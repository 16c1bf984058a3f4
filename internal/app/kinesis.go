package app

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/document"
	"github.com/eventsluice/sluice/internal/engine"
	"github.com/eventsluice/sluice/internal/stream"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

const (
	// bucketsPerShard leave room for Lambda to work on the buckets of a shard
	// side by side, and for the shards to double before some are without a
	// bucket. More would make for smaller records, and those cost.
	bucketsPerShard = 2
	// unknownShards stands for their number while Kinesis is away at the first
	// start.
	unknownShards = 4
	// fullRecord is when a record takes no further event: about ten payload
	// units, so that rounding up to whole ones costs little, and little enough
	// for Lambda to be given many of them at once (6 MB, base64 included).
	fullRecord = 256 << 10
	// mostRecord bounds a record where the stream takes larger ones: the
	// largest event needs no more.
	mostRecord = 1 << 20
	// kinesisCalls are in flight at most: a call that takes longer than most
	// must not hold up the buckets that are not in it. They start at least
	// kinesisStagger apart, which is what a bucket waits for company at most, and
	// bounds what calls cost: 0.1 ms of CPU each, beside the bytes.
	kinesisCalls   = 16
	kinesisStagger = 5 * time.Millisecond
	// kinesisTimeout bounds a call; what the KPL waits is 6 s.
	kinesisTimeout = 5 * time.Second
)

// jsonCall is the most data that a PutRecords call may carry so that its body,
// in JSON and base64, stays below the limit of a call as well.
const jsonCall = (cloud.MaxCallBytes - cloud.MaxCallRecords*128) / 4 * 3

// onKinesis is the host on AWS: a Kinesis stream, with a spool in front.
type onKinesis struct {
	*program
	kinesis *cloud.Kinesis
	spool   *spooled // nil if there is none
	// about is what the stream has said of itself at the start, shards how many
	// of them were open then, or the last time it said so.
	about  cloud.Description
	shards int
	// base is what earlier processes have stored, as far as it was kept.
	base uint64
}

var _ host = (*onKinesis)(nil)

// openHost opens the host that the settings name.
func (p *program) openHost(ctx context.Context) (host, error) {
	name, ok := p.settings.kinesisName()
	if !ok {
		return embedded{p}, nil
	}
	k, err := cloud.Open(ctx, cloud.Config{Stream: name, Log: p.log})
	if err != nil {
		return nil, fmt.Errorf("SLUICE_STREAM=%q: %w", p.settings.Stream, err)
	}
	h := &onKinesis{program: p, kinesis: k}
	if h.about, err = k.Describe(ctx); err != nil {
		if k.Trouble() != nil || p.settings.Spool == "" {
			return nil, fmt.Errorf("SLUICE_STREAM=%q: %w", p.settings.Stream, err)
		}
		// It is away: what the spool is for.
		p.log.Warn("the stream does not answer: starting with the spool", "error", err)
		h.about.MaxRecordBytes = cloud.DefaultRecordBytes
		h.shards = p.recallShards()
	} else {
		h.shards = len(h.about.Shards)
		if err := p.rememberShards(h.shards); err != nil {
			return nil, err
		}
	}
	if p.settings.Spool != "" {
		if h.spool, err = p.openSpool(ctx, k); err != nil {
			return nil, fmt.Errorf("SLUICE_SPOOL=%q: %w", p.settings.Spool, err)
		}
	}
	return h, nil
}

// shardsFile keeps how many shards the stream had, so that a start while it is
// away does not move keys to other buckets.
const shardsFile = "kinesis.json"

type keptShards struct {
	Stream string `json:"stream"`
	Shards int    `json:"shards"`
}

func (p *program) rememberShards(n int) error {
	text, err := json.Marshal(keptShards{Stream: p.settings.Stream, Shards: n})
	if err != nil {
		return err
	}
	return document.WriteFile(filepath.Join(p.settings.DataDir, shardsFile), append(text, '\n'))
}

func (p *program) recallShards() int {
	var kept keptShards
	text, err := os.ReadFile(filepath.Join(p.settings.DataDir, shardsFile))
	if err != nil || json.Unmarshal(text, &kept) != nil || kept.Stream != p.settings.Stream || kept.Shards < 1 {
		return unknownShards
	}
	return kept.Shards
}

func (h *onKinesis) stream() producer.Stream {
	if h.spool != nil {
		return h.spool
	}
	return h.kinesis
}

func (h *onKinesis) producerConfig(c producer.Config) producer.Config {
	c.Format = stream.KPL
	c.OneEventPerRecord = !h.settings.Aggregation
	c.Keys = producer.SpreadKeys(h.buckets())
	c.MaxCallRecords, c.MaxCallBytes = cloud.MaxCallRecords, jsonCall
	c.MaxRecordBytes = min(h.about.MaxRecordBytes, mostRecord)
	c.FullRecordBytes = min(fullRecord, c.MaxRecordBytes)
	c.MaxInFlightCalls, c.Stagger, c.CallTimeout = kinesisCalls, kinesisStagger, kinesisTimeout
	if h.spool != nil {
		c.RetryAfter = h.spool.Wait
	}
	return c
}

// buckets returns how many there are. A bucket has a record in flight, so
// where each event is a record of its own there have to be many.
func (h *onKinesis) buckets() int {
	switch {
	case h.settings.Buckets > 0:
		return h.settings.Buckets
	case !h.settings.Aggregation:
		return cloud.MaxCallRecords
	}
	return min(bucketsPerShard*max(1, h.shards), cloud.MaxCallRecords)
}

// events is nil: what is on Kinesis is read by Lambda functions.
func (*onKinesis) events() *engine.Events { return nil }

func (h *onKinesis) open(kept uint64) uint64 {
	h.base = kept
	return h.stored() + h.spooled()
}

func (h *onKinesis) stored() uint64 { return h.base + h.kinesis.Stored() }
func (h *onKinesis) keep() uint64   { return h.stored() }

func (h *onKinesis) spooled() uint64 {
	if h.spool == nil {
		return 0
	}
	return h.spool.Spooled()
}

func (h *onKinesis) refused() uint64 {
	if h.spool == nil {
		return 0
	}
	return h.spool.Stats().Refused
}

func (h *onKinesis) spoolFolder() (spoolFolder, error) {
	if h.spool == nil {
		return spoolFolder{}, errNoSpool
	}
	return spoolFolder{folder: h.settings.Spool, engine: h.spool.engine, live: h.spool.Spool}, nil
}

func (h *onKinesis) start(s *stages) {
	if h.spool != nil {
		s.start("spool", h.spool.Run)
	}
}

// notReady names the trouble that somebody has to end. A stream that is away
// or throttles for a while is what the spool is for.
func (h *onKinesis) notReady(context.Context) []string {
	var reasons []string
	if err := h.kinesis.Trouble(); err != nil {
		reasons = append(reasons, err.Error())
	}
	if h.spool != nil && h.spool.Stats().Full {
		reasons = append(reasons, "the spool is full: the stream does not take what is in it, or SLUICE_SPOOL_LIMIT is too small")
	}
	return reasons
}

func (h *onKinesis) metrics(g *gauges) func(metric.Observer) {
	if h.spool == nil {
		return func(metric.Observer) {}
	}
	return h.spool.metrics(g)
}

func (h *onKinesis) close(ctx context.Context) error {
	if h.spool == nil {
		return nil
	}
	return h.spool.close(ctx)
}
