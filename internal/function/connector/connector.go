// Package connector is the Lambda function of one destination: it delivers the
// events that it is invoked with, or that an SQS event source hands over, and
// says "done" only when each is delivered, or durable as a letter that waits or
// as a dead one.
//
// Payloads: one event in its stored form, an array of events, a claim of either
// (event.Claim), or a letter that has waited. In the event of an SQS event source
// each message has such a body.
//
// # What waits
//
// Waits of seconds are slept (attempt.Config.Nap). Longer ones go to RETRY_QUEUE,
// a queue that is an event source of the same function, as a letter with all that
// is known: attempts and history are exact, but a standard queue keeps no order
// between events that wait. One that comes before its time is put off for the
// rest. Without RETRY_QUEUE the payload of an invocation is slept on as long as
// time allows, and is then a dead letter.
//
// A message of a FIFO queue waits in its place, and those of its group behind it,
// so that order is kept: it is put off and reported as failed. Nothing can be
// written into it, so its attempts are the times it was received, which is too
// many, and what was delivered of a message with several events is delivered
// again. Messages of a standard queue wait that way too if there is no
// RETRY_QUEUE.
//
// # What cannot be delivered
//
// It goes to DEAD_LETTER_QUEUE, with its whole story. What can neither wait nor
// be buried fails the invocation, or is reported as failed if it is a message:
// Lambda, or the queue, delivers it again, and puts what fails for good into the
// dead letter queue of its own.
//
// # Twice
//
// Lambda and SQS may deliver anything twice, and a failed invocation repeats what
// it had delivered. That does no harm where the destination knows an event by its
// id: connectors hand it over (the header webhook-id, the primary key of a
// table). An event without an id gets one of the request or the message that it
// came with, which is the same each time.
package connector

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/destination"
	"github.com/eventsluice/sluice/internal/cloud/grave"
	"github.com/eventsluice/sluice/internal/cloud/lambdahost"
	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/cloud/secret"
	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/attempt"
	"github.com/eventsluice/sluice/internal/connector/catalog"
	"github.com/eventsluice/sluice/internal/deadletter"
)

// Grave keeps letters of events that are given up.
type Grave interface {
	// Bury makes letters durable. It returns an error for each that is not known
	// to be, in order.
	Bury(ctx context.Context, letters []deadletter.Letter) []error
}

// WaitingRoom keeps letters until their NotBefore, more or less, and then hands
// them to this function.
type WaitingRoom interface {
	// Keep makes letters durable. It returns an error for each that is not known
	// to be, in order.
	Keep(ctx context.Context, letters []deadletter.Letter) []error
}

var (
	_ Grave       = (*grave.Grave)(nil)
	_ WaitingRoom = (*grave.Grave)(nil)
)

// Function is the connector of one environment. It handles one invocation at a
// time, as Lambda has it.
type Function struct {
	settings Settings
	factory  connector.Factory
	stage    *attempt.Stage
	grave    Grave
	room     WaitingRoom // nil without RETRY_QUEUE
	queues   *queue.Client
	objects  *object.Client
	secrets  *secret.Client
	log      *slog.Logger
	metrics  io.Writer

	// values are the settings of the connector with the secrets in them; secretsAt
	// is when these were read.
	values    json.RawMessage
	secretsAt time.Time
}

// New makes the function of an environment ("NAME=value" each): it reads the
// secrets and makes the connector. The error has one line for each variable that
// cannot be used. metrics gets lines of embedded metrics.
func New(ctx context.Context, cfg sdk.Config, environ []string, log *slog.Logger, metrics io.Writer) (*Function, error) {
	return build(ctx, cfg, environ, destination.Catalog(), log, metrics)
}

func build(ctx context.Context, cfg sdk.Config, environ []string, known catalog.Catalog, log *slog.Logger, metrics io.Writer) (*Function, error) {
	settings, err := parseSettings(environ, cfg.Region, known)
	if err != nil {
		return nil, err
	}
	f := &Function{
		settings: settings, factory: known[settings.Kind].New, log: log, metrics: metrics,
		queues: queue.New(cfg), objects: object.New(cfg), secrets: secret.New(cfg),
	}
	if f.values, err = f.resolve(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", envSettings, err)
	}
	conn, err := f.connect(f.values)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", envSettings, err)
	}
	f.grave = &grave.Grave{Queue: f.queues, Ref: settings.DeadLetters, Objects: f.objects, Bucket: settings.Claims}
	config := attempt.Config{Destination: settings.Destination, Retry: settings.Retry, Ambiguous: settings.Ambiguous, Concurrency: settings.Concurrency, Renew: f.renew}
	if settings.Waiting.URL != "" {
		f.room = &grave.Grave{Queue: f.queues, Ref: settings.Waiting, Objects: f.objects, Bucket: settings.Claims}
	} else {
		config.Nap = math.MaxInt64 // as long as time allows
	}
	f.stage, err = attempt.New(conn, config, log)
	return f, err
}

// Close closes the connector.
func (f *Function) Close() error { return f.stage.Close() }

// secretsTime bounds a reading of secrets, secretsEvery how often they are read.
const (
	secretsTime  = 5 * time.Second
	secretsEvery = time.Minute
)

func (f *Function) resolve(ctx context.Context) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, secretsTime)
	defer cancel()
	f.secretsAt = time.Now()
	return f.secrets.Resolve(ctx, f.settings.Values)
}

func (f *Function) connect(values json.RawMessage) (connector.Connector, error) {
	return f.factory(values, connector.Env{Destination: f.settings.Destination, Log: f.log})
}

// renew reads the secrets again, once the destination has refused those that are
// in use, and returns a connector if they have changed.
func (f *Function) renew(ctx context.Context) connector.Connector {
	if !secret.HasReferences(f.settings.Values) || time.Since(f.secretsAt) < secretsEvery {
		return nil
	}
	values, err := f.resolve(ctx)
	if err != nil {
		f.log.Error("the destination refuses the credentials, and they cannot be read again", "error", err)
		return nil
	}
	if bytes.Equal(values, f.values) {
		f.log.Error("the destination refuses the credentials, and the secrets are still the same")
		return nil
	}
	conn, err := f.connect(values)
	if err != nil {
		f.log.Error("the secrets have changed to what the connector cannot use", "error", err)
		return nil
	}
	f.log.Info("the secrets have changed, and the connector has been made again")
	f.values = values
	return conn
}

// Times of an invocation.
const (
	// The reserve is what delivery leaves of the time for letters, a quarter
	// within these bounds, but never more than half. One second of it is the
	// grace of a call that does not return.
	leastReserve = 2 * time.Second
	mostReserve  = 10 * time.Second
	// farewell is what is left to report, before Lambda ends the environment.
	farewell = 200 * time.Millisecond
	// noDeadline is how long an invocation may take that has no deadline: it is
	// not from Lambda.
	noDeadline = 15 * time.Minute
)

// times returns when delivery and when everything has to end.
func times(ctx context.Context, now time.Time) (deliver, end time.Time) {
	end, ok := ctx.Deadline()
	if !ok {
		end = now.Add(noDeadline)
	}
	left := end.Sub(now)
	return end.Add(-max(min(left/4, mostReserve), min(left/2, leastReserve))), end.Add(-farewell)
}

// share returns the moment at which so many percent of the time till end are
// over.
func share(end time.Time, percent int) time.Time {
	left := time.Until(end)
	return time.Now().Add(left / 100 * time.Duration(percent))
}

// Handle handles one invocation. If its time is less than three seconds, a
// connector that does not return uses it up.
func (f *Function) Handle(ctx context.Context, payload []byte) ([]byte, error) {
	b := &batch{f: f, began: time.Now()}
	b.arn, b.request = lambdahost.Invoked(ctx)
	b.receive(payload)
	deliver, end := times(ctx, b.began)
	within(ctx, deliver, b.deliver)
	within(ctx, share(end, 50), b.keep)
	within(ctx, share(end, 80), b.bury)
	within(ctx, end, b.postpone)
	return b.answer()
}

// within calls do with a context that ends then.
func within(ctx context.Context, then time.Time, do func(context.Context)) {
	ctx, cancel := context.WithDeadline(ctx, then)
	defer cancel()
	do(ctx)
}
