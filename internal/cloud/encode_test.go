package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/schemas"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/aws/smithy-go/transport/http/protocol/awsjson"
)

// request returns the request for a call as a protocol writes it, and its body.
func request(t *testing.T, p smithyhttp.ClientProtocol, in *kinesis.PutRecordsInput) (*smithyhttp.Request, []byte) {
	t.Helper()
	ctx := withBody(context.Background(), &[]byte{'o', 'l', 'd'})
	r := smithyhttp.NewStackRequest().(*smithyhttp.Request)
	op := smithy.NewOperationSchema(schemas.PutRecords, schemas.PutRecordsInput, schemas.PutRecordsOutput)
	if err := p.SerializeRequest(ctx, op, in, r); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.GetStream())
	if err != nil {
		t.Fatal(err)
	}
	if r.ContentLength != int64(len(body)) {
		t.Errorf("length %d, body of %d bytes", r.ContentLength, len(body))
	}
	return r, body
}

// FuzzRequestsAreTheSDKs compares what is sent with what the SDK would send.
func FuzzRequestsAreTheSDKs(f *testing.F) {
	f.Add("b0", []byte(`{"id":"1"}`), false)
	f.Add("a \"key\" with \\ and <&>, ümlauts, 日本 and \x01\u2028", []byte{}, true)
	f.Add("~", bytes.Repeat([]byte{0xff, 0}, 1000), true)
	f.Fuzz(func(t *testing.T, key string, data []byte, byARN bool) {
		if !utf8.ValidString(key) {
			return // no partition key is
		}
		if data == nil {
			data = []byte{}
		}
		name, other := "events", "b1"
		in := &kinesis.PutRecordsInput{Records: []types.PutRecordsRequestEntry{
			{PartitionKey: &key, Data: data}, {PartitionKey: &other, Data: []byte("x")},
		}}
		if byARN {
			in.StreamARN = &name
		} else {
			in.StreamName = &name
		}
		sdk := awsjson.New11(schemas.Kinesis_20131202)
		wantRequest, wantBody := request(t, sdk, in)
		gotRequest, gotBody := request(t, protocol{sdk}, in)
		if !reflect.DeepEqual(gotRequest.Header, wantRequest.Header) || gotRequest.Method != wantRequest.Method || gotRequest.URL.String() != wantRequest.URL.String() {
			t.Errorf("got %v %v %v, want %v %v %v", gotRequest.Method, gotRequest.URL, gotRequest.Header, wantRequest.Method, wantRequest.URL, wantRequest.Header)
		}
		var got, want any
		if err := json.Unmarshal(gotBody, &got); err != nil {
			t.Fatalf("%v in %s", err, gotBody)
		}
		if err := json.Unmarshal(wantBody, &want); err != nil {
			t.Fatalf("%v in the SDK's own %s", err, wantBody)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %s\nwant %s", gotBody, wantBody)
		}
	})
}
