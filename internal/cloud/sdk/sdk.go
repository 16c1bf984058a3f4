// Package sdk is what the clients of AWS services share: where the AWS SDK gets
// its configuration, how far a call came, and what its failure means.
//
// It leaves to the SDK where credentials, region, endpoint, proxy and
// certificates come from.
package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
)

// Config is what clients are made of.
type Config = aws.Config

// Option changes what the SDK reads from the environment and from its files;
// tests name their endpoint and credentials with it.
type Option = func(*config.LoadOptions) error

// idleConnections is how many connections are kept for the next calls. All
// calls of a client go to one host, and the SDK's own limit (10) is below the
// calls that may be in flight: those above it would pay for a handshake each.
const idleConnections = 64

// Load reads the configuration of the SDK. It makes no call to AWS. The HTTP
// client of the configuration is one for few hosts, and notes in the Attempt of
// a call how far it came. log may be nil.
func Load(ctx context.Context, log *slog.Logger, options ...Option) (aws.Config, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	says := logging.LoggerFunc(func(_ logging.Classification, format string, args ...any) {
		log.Debug("the AWS SDK says", slog.String("text", fmt.Sprintf(format, args...)))
	})
	cfg, err := config.LoadDefaultConfig(ctx, append([]Option{config.WithLogger(says)}, options...)...)
	if err != nil {
		return cfg, fmt.Errorf("AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return cfg, errors.New("no AWS region is set: set AWS_REGION, or region in the profile")
	}
	return cfg, nil
}

// HTTPClient is what the SDK makes its requests with.
type HTTPClient interface {
	Do(*http.Request) (*http.Response, error)
}

// Watched makes the HTTP client of a service one for a single host that notes
// how far its calls come. The SDK gets credentials through another client, so
// that their requests are not noted.
func Watched(client HTTPClient) HTTPClient {
	if c, ok := client.(*awshttp.BuildableClient); ok {
		client = c.WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = max(t.MaxIdleConnsPerHost, idleConnections)
			t.MaxIdleConns = max(t.MaxIdleConns, idleConnections)
		})
	}
	return watched{client}
}

// Attempt is how far a call came.
type Attempt struct {
	// sent: the SDK had credentials and an endpoint, and began to send.
	sent atomic.Bool
	// connected: there was a connection, so that from here on the service may
	// have got the request.
	connected atomic.Bool
}

type attemptKey struct{}

// Watch returns a context whose call is watched.
func Watch(ctx context.Context) (context.Context, *Attempt) {
	a := new(Attempt)
	return context.WithValue(ctx, attemptKey{}, a), a
}

type watched struct{ client HTTPClient }

func (w watched) Do(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	if a, ok := ctx.Value(attemptKey{}).(*Attempt); ok {
		a.sent.Store(true)
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { a.connected.Store(true) },
		})
	}
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = closedTwice{r.Body}
	}
	return w.client.Do(r)
}

// closedTwice is the body of a request, which the SDK closes when there is an
// answer, and net/http when it has written it: whichever comes second gets an
// error from the SDK's body. If that is net/http, it takes the request for not
// written and closes the connection, with the rest of the answer on it.
type closedTwice struct{ io.ReadCloser }

func (b closedTwice) Close() error {
	if err := b.ReadCloser.Close(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// Call makes one call of a service, watched, and returns its failure put into
// words: a *Failure.
func Call[In, Out, Options any](ctx context.Context, s Subject, do func(context.Context, *In, ...func(*Options)) (*Out, error), in *In, options ...func(*Options)) (*Out, error) {
	ctx, a := Watch(ctx)
	out, err := do(ctx, in, options...)
	if err != nil {
		return nil, s.Failure(a, err)
	}
	return out, nil
}
