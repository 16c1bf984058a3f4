// Package webhook delivers events to an HTTP endpoint, one per call, signed as
// Standard Webhooks describes (https://www.standardwebhooks.com). Settings,
// body, limits and outcomes are described in README.md.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/telemetry/tracing"
)

// Kind is the connector's name in the destinations file.
const Kind = "webhook"

// version changes when the mapping of an event to a call changes.
const version = "1"

// Connector posts events to one endpoint.
type Connector struct {
	cfg      Config
	endpoint endpoint
	client   *httpcall.Client
}

var (
	_ connector.Connector = (*Connector)(nil)
	_ connector.Factory   = New
)

// Spec describes the connector.
func Spec() connector.Spec {
	return connector.Spec{
		Kind: Kind, Summary: "any HTTP endpoint, signed as Standard Webhooks describes", Settings: DefaultConfig(),
		Dedup:  "webhook-id, the event's id, by which receivers ignore repetitions",
		Order:  "kept for each user",
		Limits: "one event a call, 64 connections; the destination's rate and concurrency decide",
		New:    New,
	}
}

// New makes a connector from its settings. It does not connect.
func New(raw json.RawMessage, env connector.Env) (connector.Connector, error) {
	cfg, endpoint, err := parseConfig(raw)
	if err != nil {
		return nil, err
	}
	return &Connector{
		cfg: cfg, endpoint: endpoint,
		client: httpcall.NewClient(httpcall.Config{AllowPrivate: cfg.AllowPrivate, Dial: env.Dial}),
	}, nil
}

// Kind implements connector.Connector.
func (c *Connector) Kind() string { return Kind }

// Version implements connector.Connector.
func (c *Connector) Version() string { return version }

// Limits implements connector.Connector.
func (c *Connector) Limits() connector.Limits {
	return connector.Limits{MaxEvents: maxEvents, Dedups: c.cfg.RetryAmbiguous, Timeout: time.Duration(c.cfg.Timeout)}
}

// maxEvents is how many calls are planned at once. Each carries one event, so
// a larger number saves nothing.
const maxEvents = 100

// message is the payload of a call. The body is made once, so that every
// attempt sends the same bytes; time and signature are made for each.
type message struct {
	id   string
	body []byte
	// traceparent is that of the event, "" if it has none.
	traceparent string
}

// Plan implements connector.Connector.
func (c *Connector) Plan(events []connector.Delivery) connector.Plan {
	return c.endpoint.privacy.Plan(events, c.plan)
}

func (c *Connector) plan(events []connector.Delivery) connector.Plan {
	calls := make([]connector.Call, len(events))
	for i := range events {
		calls[i] = connector.Call{
			Events:  []int{i},
			Payload: message{id: messageID(events[i].Event.ID), body: c.body(&events[i]), traceparent: events[i].Event.Traceparent},
		}
	}
	return connector.Plan{Calls: calls}
}

// Send implements connector.Connector.
func (c *Connector) Send(ctx context.Context, call connector.Call) []connector.Result {
	m := call.Payload.(message)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.cfg.Timeout))
	defer cancel()
	req := c.request(ctx, m, time.Now())
	answer := c.client.Do(req)
	result := connector.Result{Class: answer.Class(), Status: answer.Status, RetryAfter: answer.RetryAfter}
	if answer.Status == http.StatusBadGateway || answer.Status == http.StatusGatewayTimeout {
		// The receiver is overloaded. Source: Standard Webhooks, "Delivery success
		// and failure".
		result.Class = connector.Throttled
	}
	if !result.Class.Settled() {
		c.explain(&result, req, m, &answer)
	}
	return connector.All(len(call.Events), result)
}

// Close implements connector.Connector.
func (c *Connector) Close() error {
	c.client.Close()
	return nil
}

func (c *Connector) request(ctx context.Context, m message, now time.Time) *http.Request {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	// One array holds the values of this call; those of the others are shared.
	values := [4]string{m.id, timestamp, "", ""}
	header := make(http.Header, len(c.endpoint.header)+len(values))
	for name, value := range c.endpoint.header {
		header[name] = value
	}
	header["Webhook-Id"], header["Webhook-Timestamp"] = values[0:1:1], values[1:2:2]
	if len(c.endpoint.keys) > 0 {
		values[2] = sign(c.endpoint.keys, m.id, timestamp, m.body)
		header["Webhook-Signature"] = values[2:3:3]
	}
	if header["Traceparent"] == nil {
		if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
			m.traceparent = tracing.Text(span) // of this attempt, within the event's
		}
		if m.traceparent != "" {
			values[3] = m.traceparent
			header["Traceparent"] = values[3:4:4]
		}
	}
	req := &http.Request{
		Method: http.MethodPost, URL: c.endpoint.url, Host: c.endpoint.url.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(m.body)), ContentLength: int64(len(m.body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.body)), nil },
	}
	return req.WithContext(ctx)
}

// explain says what went wrong, for the dead letter and the operator.
func (c *Connector) explain(result *connector.Result, req *http.Request, m message, answer *httpcall.Answer) {
	// The signature of this attempt is known only here.
	signatures := strings.Fields(req.Header.Get("Webhook-Signature"))
	masker := httpcall.NewMasker(slices.Concat(c.endpoint.secrets, signatures)...)
	result.Request = httpcall.RequestExcerpt(masker, req, m.body, "Content-Type", "User-Agent", "Webhook-Id", "Webhook-Timestamp")
	result.Response = answer.Excerpt(masker)
	if answer.Err != nil {
		result.Code = httpcall.ErrorCode(answer.Err)
		text := answer.Err.Error()
		if result.Class == connector.Auth {
			text += "; set allow_private if that is meant"
		}
		result.Message = masker.Text(text, httpcall.MaxMessage)
		return
	}
	result.Code = "http_" + strconv.Itoa(answer.Status)
	result.Message = fmt.Sprintf("the endpoint answered %d %s%s", answer.Status, http.StatusText(answer.Status), hint(answer.Status))
}

// hint adds what a person should do about a status.
func hint(status int) string {
	switch {
	case status >= 300 && status < 400:
		return ": redirects are not followed, correct the setting url"
	case status == http.StatusGone:
		return ": the receiver wants no more events at the setting url"
	case httpcall.Classify(status, 0) == connector.Auth:
		return ": check the settings secret, headers and url"
	}
	return ""
}
