package kinesistest

import (
	"net/http"
	"strings"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// target is what stands before the operation in X-Amz-Target.
const target = "Kinesis_20131202."

// maxBody is the most that a request has: 10 MiB in base64, and the names of
// 500 entries.
const maxBody = maxCallBytes/3*4 + maxCallRecords*(maxKeyRunes*4+256)

// call is one request while it is served.
type call struct {
	*Server
	codec *codec
	plan  *awstest.Plan
	body  []byte
}

// route finds the operation of a request.
func (s *Server) route(r *http.Request) (*awstest.Route, *awstest.Answer) {
	operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), target)
	serve := operations[operation]
	if !ok || serve == nil || r.Method != http.MethodPost {
		return nil, inJSON.refused(&Error{Code: "UnknownOperationException", Status: http.StatusNotFound, Message: "POST of an operation of " + target + " is wanted"})
	}
	codec := codecOf(r)
	if codec == nil {
		return nil, inJSON.refused(&Error{Code: "SerializationException", Message: "Content-Type is to be " + inJSON.contentType + " or " + inCBOR.contentType})
	}
	return &awstest.Route{
		Operation: operation,
		Refused:   codec.refused,
		Run: func(c *awstest.Call) *awstest.Answer {
			var out any
			var err *Error
			c.Work(func() { out, err = serve(&call{s, codec, c.Plan, c.Body}) })
			if err != nil {
				return codec.refused(err)
			}
			return codec.accepted(out)
		},
	}, nil
}
