package sqstest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

const (
	// target is what stands before the operation in X-Amz-Target.
	target = "AmazonSQS."
	// contentType is that of requests and answers.
	contentType = "application/x-amz-json-1.0"
	// maxBody is the most that a request has: in JSON a byte of a message can
	// take six.
	maxBody = 7 << 20
)

// call is one request while it is served.
type call struct {
	*Server
	*awstest.Call
}

// operation serves a call and returns the output; nil has no body.
type operation func(c call) (any, *Error)

// operations are those that the server has.
var operations map[string]operation

func init() { // not a literal: operations look at faults, which look names up in it
	operations = map[string]operation{
		"ChangeMessageVisibility":      on(call.changeMessageVisibility),
		"ChangeMessageVisibilityBatch": on(call.changeMessageVisibilityBatch),
		"CreateQueue":                  on(call.createQueue),
		"DeleteMessage":                on(call.deleteMessage),
		"DeleteMessageBatch":           on(call.deleteMessageBatch),
		"DeleteQueue":                  on(call.deleteQueue),
		"GetQueueAttributes":           on(call.getQueueAttributes),
		"GetQueueUrl":                  on(call.getQueueURL),
		"ListDeadLetterSourceQueues":   on(call.listDeadLetterSourceQueues),
		"ListQueueTags":                on(call.listQueueTags),
		"ListQueues":                   on(call.listQueues),
		"PurgeQueue":                   on(call.purgeQueue),
		"ReceiveMessage":               on(call.receiveMessage),
		"SendMessage":                  on(call.sendMessage),
		"SendMessageBatch":             on(call.sendMessageBatch),
		"SetQueueAttributes":           on(call.setQueueAttributes),
		"TagQueue":                     on(call.tagQueue),
		"UntagQueue":                   on(call.untagQueue),
	}
}

// on makes an operation of a method.
func on[In any](serve func(call, *In) (any, *Error)) operation {
	return func(c call) (any, *Error) {
		in := new(In)
		if body := bytes.TrimSpace(c.Body); len(body) > 0 {
			if err := json.Unmarshal(body, in); err != nil {
				return nil, refuse("SerializationException", "%v", err)
			}
		}
		return serve(c, in)
	}
}

// route finds the operation of a request.
func (s *Server) route(r *http.Request) (*awstest.Route, *awstest.Answer) {
	name, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), target)
	serve := operations[name]
	switch {
	case !ok || serve == nil || r.Method != http.MethodPost:
		return nil, refused(&Error{Code: "UnknownOperationException", Status: http.StatusNotFound, Message: "POST of an operation of " + target + " is wanted"})
	case r.Header.Get("Content-Type") != contentType:
		return nil, refused(refuse("SerializationException", "Content-Type is to be %s", contentType))
	}
	return &awstest.Route{
		Operation: name,
		Refused:   refused,
		Run: func(c *awstest.Call) *awstest.Answer {
			out, err := serve(call{s, c})
			if err != nil {
				return refused(err)
			}
			return accepted(out)
		},
	}, nil
}

// with does something to a queue, in a call that has not been cut off.
func (c call) with(url string, do func(q *queue) *Error) (err *Error) {
	c.locked(func() {
		var q *queue
		if q, err = c.queueAt(url); err == nil {
			err = do(q)
		}
	})
	return err
}

// locked does something to queues, in a call that has not been cut off.
func (c call) locked(do func()) {
	c.Work(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		do()
	})
}

// accepted answers with an output; nil is an answer without a body.
func accepted(out any) *awstest.Answer {
	a := &awstest.Answer{ContentType: contentType}
	if out == nil {
		return a
	}
	var err error
	if a.Body, err = json.Marshal(out); err != nil {
		panic(err) // a shape of ours that is none
	}
	return a
}

// refused answers with an error; nil is an answer without a body. The header
// says what the code was in the older query protocol, which clients go by.
// Source: Smithy, "AWS query compatible trait".
func refused(err *Error) *awstest.Answer {
	if err == nil {
		return accepted(nil)
	}
	status, party := cmp.Or(err.Status, http.StatusBadRequest), "Sender"
	if status >= http.StatusInternalServerError {
		party = "Receiver"
	}
	a := accepted(struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}{shapeOf(err.Code), err.Message})
	a.Status = status
	a.Header = http.Header{"X-Amzn-Query-Error": {queryCode(err.Code) + ";" + party}}
	return a
}
