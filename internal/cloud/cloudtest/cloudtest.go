// Package cloudtest is the AWS that our functions meet, in this process: streams,
// queues, functions and buckets, and a configuration of the SDK that leads to
// them. Streams, queues and functions are doubles of our own that fail when asked
// to; the buckets are github.com/johannesboyne/gofakes3.
package cloudtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// Region is where everything is.
const Region = "us-east-1"

// Config is what there is from the start.
type Config struct {
	Streams []kinesistest.Stream
	Queues  []sqstest.Queue
	Buckets []string
	// TimeScale is what waits of Lambda are multiplied by. Default 1.
	TimeScale float64
}

// AWS is an account in one region. It is safe for concurrent use.
type AWS struct {
	Streams *kinesistest.Server
	Queues  *sqstest.Server
	Lambda  *lambdatest.Server
	Buckets *Buckets
}

// New opens an account that is gone when the test ends.
func New(t testing.TB, c Config) *AWS {
	t.Helper()
	a, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// Open opens an account. Close ends it.
func Open(c Config) (*AWS, error) {
	a := &AWS{}
	var err error
	if a.Streams, err = kinesistest.Open(kinesistest.Config{Streams: c.Streams, Region: Region}); err != nil {
		return nil, err
	}
	if a.Queues, err = sqstest.Open(sqstest.Config{Queues: c.Queues, Region: Region}); err != nil {
		return nil, errors.Join(err, a.close())
	}
	if a.Lambda, err = lambdatest.Open(lambdatest.Config{Queues: a.Queues, Region: Region, TimeScale: c.TimeScale}); err != nil {
		return nil, errors.Join(err, a.close())
	}
	if a.Buckets, err = newBuckets(c.Buckets); err != nil {
		return nil, errors.Join(err, a.close())
	}
	a.Buckets.server = httptest.NewServer(a.Buckets)
	return a, nil
}

// Close ends the functions, then the rest.
func (a *AWS) Close() { _ = a.close() }

func (a *AWS) close() error {
	if a.Lambda != nil {
		a.Lambda.Close()
	}
	if a.Streams != nil {
		a.Streams.Stop()
	}
	if a.Queues != nil {
		a.Queues.Stop()
	}
	if a.Buckets != nil {
		a.Buckets.server.Close()
	}
	return nil
}

// Env returns the environment with which a program calls this account.
func (a *AWS) Env() []string {
	return []string{
		"AWS_REGION=" + Region, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret",
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_ENDPOINT_URL_KINESIS=" + a.Streams.URL(),
		"AWS_ENDPOINT_URL_SQS=" + a.Queues.URL(),
		"AWS_ENDPOINT_URL_LAMBDA=" + a.Lambda.URL(),
		"AWS_ENDPOINT_URL_S3=" + a.Buckets.URL(),
	}
}

// SDK returns the configuration with which clients in this process call it.
func (a *AWS) SDK() sdk.Config {
	return sdk.Config{
		Region: Region, BaseEndpoint: aws.String("http://service.invalid"), HTTPClient: &http.Client{Transport: a},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	}
}

// RoundTrip implements http.RoundTripper: a request goes to the service that it
// is signed for.
func (a *AWS) RoundTrip(r *http.Request) (*http.Response, error) {
	// "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/us-east-1/sqs/aws4_request, …"
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	parts := strings.SplitN(scope, "/", 5)
	if len(parts) < 5 {
		return nil, errors.New("a request that is not signed")
	}
	endpoints := map[string]string{"kinesis": a.Streams.URL(), "sqs": a.Queues.URL(), "lambda": a.Lambda.URL(), "s3": a.Buckets.URL()}
	endpoint, err := url.Parse(endpoints[parts[3]])
	if err != nil || endpoint.Host == "" {
		return nil, fmt.Errorf("there is no service %s", parts[3])
	}
	there := r.Clone(r.Context())
	there.URL.Scheme, there.URL.Host, there.Host = endpoint.Scheme, endpoint.Host, endpoint.Host
	return http.DefaultTransport.RoundTrip(there)
}

// Buckets are those of S3. They are an http.Handler of its calls.
type Buckets struct {
	backend gofakes3.Backend
	s3      http.Handler
	server  *httptest.Server // nil in memory

	mu   sync.Mutex
	fail func(*http.Request) int
	by   map[string]map[string]int
}

func newBuckets(names []string) (*Buckets, error) {
	b := &Buckets{backend: s3mem.New(), by: map[string]map[string]int{}}
	for _, name := range names {
		if err := b.backend.CreateBucket(name); err != nil {
			return nil, err
		}
	}
	b.s3 = gofakes3.New(b.backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	return b, nil
}

// ServeHTTP implements http.Handler.
func (b *Buckets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.count(r)
	b.mu.Lock()
	fail := b.fail
	b.mu.Unlock()
	if fail != nil {
		if status := fail(r); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	b.s3.ServeHTTP(w, r)
}

// URL returns the endpoint.
func (b *Buckets) URL() string { return b.server.URL }

// Fail answers the requests for which fail returns a status with that, and does
// nothing else with them. Nil heals.
func (b *Buckets) Fail(fail func(*http.Request) int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = fail
}

// count counts a request.
func (b *Buckets) count(r *http.Request) {
	operation := map[string]string{http.MethodGet: "GetObject", http.MethodHead: "GetObject", http.MethodPut: "PutObject", http.MethodDelete: "DeleteObject"}[r.Method]
	if r.URL.Query().Has("list-type") {
		operation = "ListBucket"
	}
	key := awstest.AccessKey(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by[key] == nil {
		b.by[key] = map[string]int{}
	}
	b.by[key][operation]++
}

// Actions returns what has been called with an access key, as policies name it,
// such as "sqs:SendMessage".
func (a *AWS) Actions(accessKey string) []string {
	a.Buckets.mu.Lock()
	objects := maps.Clone(a.Buckets.by[accessKey])
	a.Buckets.mu.Unlock()
	all := map[string]bool{}
	for service, calls := range map[string]map[string]int{
		"kinesis": a.Streams.Traffic().By[accessKey], "sqs": a.Queues.Traffic().By[accessKey], "lambda": a.Lambda.Traffic().By[accessKey], "s3": objects,
	} {
		for operation := range calls {
			operation = strings.TrimSuffix(operation, "Batch")
			if service == "lambda" { // it counts by function
				operation = "InvokeFunction"
			}
			all[service+":"+operation] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// Put writes an object.
func (b *Buckets) Put(bucket, key string, body []byte) error {
	_, err := b.backend.PutObject(bucket, key, map[string]string{}, bytes.NewReader(body), int64(len(body)), nil)
	return err
}

// Get reads an object.
func (b *Buckets) Get(bucket, key string) ([]byte, error) {
	o, err := b.backend.GetObject(bucket, key, nil)
	if err != nil {
		return nil, err
	}
	defer o.Contents.Close()
	return io.ReadAll(o.Contents)
}

// Keys lists the keys of a bucket.
func (b *Buckets) Keys(bucket string) ([]string, error) {
	list, err := b.backend.ListBucket(bucket, nil, gofakes3.ListBucketPage{})
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, o := range list.Contents {
		keys = append(keys, o.Key)
	}
	return keys, nil
}
