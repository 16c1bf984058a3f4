// Package client sends events to a gateway from Go. Types and methods are
// generated from openapi.yaml; what stands in client.go is what everybody would
// write around them.
//
//	c, err := client.NewClientWithResponses("http://127.0.0.1:8080", client.WithKey(key))
//	resp, err := c.SendEventsWithResponse(ctx, nil, client.EventBatch{Events: []client.Event{{Name: "order_placed"}}})
//	switch {
//	case err != nil: // it is not known whether the events are stored: send them again, with the same ids
//	case resp.Accepted() != nil: // what it accepts is durable, and its Errors say what is wrong with the others
//	default: // resp.Problem() says what is wrong, and resp.RetryAfter() when to send again
//	}
//
// The client sends once. Give events an Id, and then whatever sends them again,
// after an error, a 429 or a 503, cannot store them twice where the gateway
// removes duplicates, and destinations can tell.
package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config oapi-codegen.yaml -o client.gen.go ../openapi.yaml

// WithKey returns an option that sends a key with every request, as Bearer.
func WithKey(key string) ClientOption {
	return WithRequestEditorFn(func(_ context.Context, req *http.Request) error {
		req.Header.Set("Authorization", "Bearer "+key)
		return nil
	})
}

// Accepted returns the answer to a request of which all or some events are
// durable, nil for every other answer.
func (r SendEventsResponse) Accepted() *Accepted {
	if r.JSON202 != nil {
		return r.JSON202
	}
	return r.JSON207
}

// Problem returns what is wrong with the request, nil if some of it was
// accepted. An answer that is no problem document, from whatever stands between
// here and the gateway, has its status and nothing else.
func (r SendEventsResponse) Problem() *Problem {
	if r.Accepted() != nil {
		return nil
	}
	return problemIn(r.Body, r.StatusCode())
}

// RetryAfter returns how long to wait before what was not stored is sent again;
// zero if the gateway does not say.
func (r SendEventsResponse) RetryAfter() time.Duration { return retryAfter(r.HTTPResponse) }

// Problem returns what is wrong with the request, nil if all of it was taken.
func (r SendBatchResponse) Problem() *Problem {
	if r.JSON200 != nil {
		return nil
	}
	return problemIn(r.Body, r.StatusCode())
}

// RetryAfter returns how long to wait before the batch is sent again; zero if
// the gateway does not say.
func (r SendBatchResponse) RetryAfter() time.Duration { return retryAfter(r.HTTPResponse) }

func problemIn(body []byte, status int) *Problem {
	p := &Problem{}
	if json.Unmarshal(body, p) != nil || p.Code == "" {
		p = &Problem{Title: http.StatusText(status), Error: http.StatusText(status)}
	}
	p.Status = status
	return p
}

func retryAfter(resp *http.Response) time.Duration {
	if resp == nil {
		return 0
	}
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
