package kinesistest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

// codec is how inputs and outputs travel. Most SDKs and the command line speak
// JSON to Kinesis; those of Java, and KCL with them, CBOR unless they are told
// not to.
type codec struct {
	contentType string
	decode      func(body []byte, in any) error
	encode      func(out any) ([]byte, error)
}

var codecs = []*codec{inJSON, inCBOR}

var inJSON = &codec{
	contentType: "application/x-amz-json-1.1",
	decode: func(body []byte, in any) error {
		if puts, ok := in.(*putRecordsInput); ok && puts.decodeFast(body) {
			return nil
		}
		return json.Unmarshal(body, in)
	},
	encode: func(out any) ([]byte, error) {
		if puts, ok := out.(*putRecordsOutput); ok {
			return puts.appendJSON(nil), nil
		}
		return json.Marshal(out)
	},
}

var inCBOR = &codec{
	contentType: "application/x-amz-cbor-1.1",
	decode:      cbor.Unmarshal,
	encode:      cbor.Marshal,
}

// codecOf returns the codec of a request, nil if it has none of them.
func codecOf(r *http.Request) *codec {
	for _, c := range codecs {
		if r.Header.Get("Content-Type") == c.contentType {
			return c
		}
	}
	return nil
}

// decode reads the input of the call.
func (c *call) decode(in any) *Error {
	if len(bytes.TrimSpace(c.body)) == 0 {
		return nil
	}
	if err := c.codec.decode(c.body, in); err != nil {
		return &Error{Code: "SerializationException", Message: err.Error()}
	}
	return nil
}

// accepted answers with an output; nil is an answer without a body.
func (c *codec) accepted(out any) *awstest.Answer {
	a := &awstest.Answer{ContentType: c.contentType}
	if out == nil {
		return a
	}
	var err error
	if a.Body, err = c.encode(out); err != nil {
		panic(err) // a shape of ours that is none
	}
	return a
}

// refused answers with an error; nil is an answer without a body.
func (c *codec) refused(err *Error) *awstest.Answer {
	if err == nil {
		return c.accepted(nil)
	}
	a := c.accepted(struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}{err.Code, err.Message})
	a.Status = cmp.Or(err.Status, http.StatusBadRequest)
	return a
}

// epoch is a time as it travels: in JSON seconds since 1970 with milliseconds
// as a fraction, in CBOR milliseconds with tag 1.
type epoch struct{ time.Time }

func (e epoch) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(e.UnixMilli())/1e3, 'f', -1, 64), nil
}

func (e *epoch) UnmarshalJSON(b []byte) error {
	seconds, err := strconv.ParseFloat(string(b), 64)
	e.Time = time.UnixMicro(int64(seconds * 1e6))
	return err
}

// epochTag is that of a time since 1970. Source: RFC 8949, 3.4.2; that the
// number counts milliseconds is AWS's own.
const epochTag = 1

func (e epoch) MarshalCBOR() ([]byte, error) {
	return cbor.Marshal(cbor.Tag{Number: epochTag, Content: e.UnixMilli()})
}

func (e *epoch) UnmarshalCBOR(b []byte) error {
	var tag cbor.RawTag
	if err := cbor.Unmarshal(b, &tag); err != nil {
		return err
	}
	var ms int64
	err := cbor.Unmarshal(tag.Content, &ms)
	e.Time = time.UnixMilli(ms)
	return err
}
