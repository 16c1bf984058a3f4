package cloud

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
)

// tune has the calls of the SDK watched, and its requests encoded by us.
func tune(o *kinesis.Options) {
	o.HTTPClient = sdk.Watched(o.HTTPClient)
	o.Protocol = protocol{o.Protocol}
}

// once makes a call without the SDK's retries: what the caller decides about,
// throttling above all, must reach it.
func once(o *kinesis.Options) { o.Retryer = aws.NopRetryer{} }

// call makes a call other than PutRecords: bounded in time, its failure put
// into words and kept as trouble if it is one.
func call[In, Out any](ctx context.Context, k *Kinesis, do func(context.Context, *In, ...func(*kinesis.Options)) (*Out, error), in *In, opts ...func(*kinesis.Options)) (*Out, error) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	out, err := sdk.Call(ctx, k.subject(), do, in, opts...)
	k.note(sdk.AsFailure(err))
	return out, err
}
