// Package cloud is the host "AWS": Kinesis as the stream of the gateway.
//
// It alone knows the AWS SDK, and leaves to it where credentials, region,
// endpoint, proxy and certificates come from. It owns how answers of the
// service are read: what counts as stored, as not stored and as unknown, and
// which failures an operator has to act on. It keeps no data, starts no
// goroutine, and never tries a write again: that is the producer's.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/stream/producer"
)

var _ producer.Stream = (*Kinesis)(nil)

// Config of a Kinesis stream. The zero value of a field stands for its default.
type Config struct {
	// Stream is the name of the stream, or its ARN. Needed.
	Stream string
	// CallTimeout bounds each call of Describe and Read. PutRecords is bounded
	// by the caller's context alone. Default 10 seconds.
	CallTimeout time.Duration
	// Log gets what an operator has to act on, once per change. Default: none.
	Log *slog.Logger
	// SDK changes what the AWS SDK reads from the environment and from its
	// files; tests name their endpoint and credentials with it.
	SDK []sdk.Option
}

// Validate reports every setting that cannot be used.
func (c Config) Validate() error {
	var faults []error
	if c.Stream == "" {
		faults = append(faults, errors.New("Stream is empty: want the name or the ARN of a Kinesis stream"))
	}
	if c.CallTimeout < 0 {
		faults = append(faults, fmt.Errorf("CallTimeout is %v: want more than 0", c.CallTimeout))
	}
	return errors.Join(faults...)
}

// Kinesis is a stream of Kinesis Data Streams. Its methods are safe for
// concurrent use.
type Kinesis struct {
	client *kinesis.Client
	// name and arn say which stream; one of them is nil.
	name, arn *string
	// label is what the stream is called in texts.
	label, region string
	timeout       time.Duration
	log           *slog.Logger

	stored atomic.Uint64
	// limit is the largest record that the stream takes, data and partition
	// key; 0 until Describe has been told.
	limit atomic.Int64

	mu      sync.Mutex
	trouble *sdk.Failure
}

// Open reads the configuration of the AWS SDK. It makes no call to Kinesis:
// Describe does.
func Open(ctx context.Context, cfg Config) (*Kinesis, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	loaded, err := sdk.Load(ctx, cfg.Log, cfg.SDK...)
	if err != nil {
		return nil, err
	}
	k := &Kinesis{
		client:  kinesis.NewFromConfig(loaded, tune),
		label:   cfg.Stream,
		region:  loaded.Region,
		timeout: cfg.CallTimeout,
		log:     cfg.Log,
	}
	if !arn.IsARN(cfg.Stream) {
		k.name = &cfg.Stream
		return k, nil
	}
	parsed, err := arn.Parse(cfg.Stream)
	if err != nil || parsed.Service != "kinesis" {
		return nil, fmt.Errorf("%s is not the ARN of a Kinesis stream", cfg.Stream)
	}
	if parsed.Region != loaded.Region {
		return nil, fmt.Errorf("the stream %s is in %s, and the AWS region is %s: set AWS_REGION=%[2]s", cfg.Stream, parsed.Region, loaded.Region)
	}
	k.arn = &cfg.Stream
	return k, nil
}

// Stored returns how many events are in records that Kinesis has given a
// sequence number.
func (k *Kinesis) Stored() uint64 { return k.stored.Load() }
