package cloud

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
)

// idleConnections is how many connections are kept for the next calls. All
// calls go to one host, and the SDK's own limit (10) is below the calls that
// may be in flight: those above it would pay for a handshake each.
const idleConnections = 64

// tune makes the SDK's HTTP client, with its proxy, certificates and timeouts,
// one for a single host that says how far a request came.
func tune(o *kinesis.Options) {
	if client, ok := o.HTTPClient.(*awshttp.BuildableClient); ok {
		o.HTTPClient = client.WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = max(t.MaxIdleConnsPerHost, idleConnections)
			t.MaxIdleConns = max(t.MaxIdleConns, idleConnections)
		})
	}
	o.HTTPClient = watched{o.HTTPClient}
	o.Protocol = protocol{o.Protocol}
}

// once makes a call without the SDK's retries: what the caller decides about,
// throttling above all, must reach it.
func once(o *kinesis.Options) { o.Retryer = aws.NopRetryer{} }

// attempt is how far a call came.
type attempt struct {
	// sent: the SDK had credentials and an endpoint, and began to send.
	sent atomic.Bool
	// connected: there was a connection, so that from here on the service may
	// have got the request.
	connected atomic.Bool
	// body is the memory for the request of PutRecords.
	body *[]byte
}

type attemptKey struct{}

// watch returns a context whose call is watched.
func watch(ctx context.Context) (context.Context, *attempt) {
	a := new(attempt)
	return context.WithValue(ctx, attemptKey{}, a), a
}

// attemptOf returns the attempt of a call.
func attemptOf(ctx context.Context) *attempt { return ctx.Value(attemptKey{}).(*attempt) }

// watched is an HTTP client that notes in the attempt of a request how far it
// comes. The SDK gets its credentials through another client, so their
// requests are not noted.
type watched struct{ client kinesis.HTTPClient }

func (w watched) Do(r *http.Request) (*http.Response, error) {
	a := attemptOf(r.Context())
	a.sent.Store(true)
	return w.client.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { a.connected.Store(true) },
	})))
}

// call makes a call other than PutRecords: bounded in time, its failure put
// into words and kept as trouble if it is one.
func call[In, Out any](ctx context.Context, k *Kinesis, do func(context.Context, *In, ...func(*kinesis.Options)) (*Out, error), in *In, opts ...func(*kinesis.Options)) (*Out, error) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	ctx, a := watch(ctx)
	out, err := do(ctx, in, opts...)
	if err != nil {
		f := k.failure(a, err)
		k.note(f)
		return nil, f
	}
	k.note(nil)
	return out, nil
}
