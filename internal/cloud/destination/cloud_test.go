package destination_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/jackc/pgx/v5"

	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/destination"
	"github.com/eventsluice/sluice/internal/cloud/redshifttest"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/testenv"
)

// secret is what nobody may see of the credentials of these tests.
const secret = "wJalrXUtnFEMI/K7MDENG"

// cloud is an S3 with the bucket "lake", which fails when asked to, and perhaps
// a Redshift.
type cloud struct {
	*cloudtest.Memory
	s3       *httptest.Server
	redshift *redshifttest.Server // nil without
	postgres string

	mu   sync.Mutex
	mode mode
}

// mode is how S3 answers.
type mode struct {
	refuse string // with this code
	hang   chan struct{}
	lose   bool   // after it has done what it was asked
	once   bool   // and then it is well
	only   string // this method; empty is all
}

func newCloud(t testing.TB) *cloud {
	t.Helper()
	c := &cloud{Memory: cloudtest.NewMemory(t, nil, "lake")}
	c.s3 = httptest.NewServer(c)
	t.Cleanup(c.s3.Close)
	return c
}

func newWarehouse(t testing.TB) *cloud {
	t.Helper()
	c := newCloud(t)
	c.postgres = testenv.Postgres(t)
	c.redshift = redshifttest.New(t, redshifttest.Config{Postgres: c.postgres, Buckets: c.Buckets, Region: cloudtest.Region})
	return c
}

// set makes S3 answer otherwise, and returns what makes it well again.
func (c *cloud) set(m mode) (heal func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mode = m
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.mode.hang != nil {
			close(c.mode.hang)
		}
		c.mode = mode{}
	}
}

// loseOnce makes S3 do the next call with a method and lose its answer.
func (c *cloud) loseOnce(method string) { c.set(mode{lose: true, once: true, only: method}) }

// ServeHTTP implements http.Handler: it is S3.
func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	m := c.mode
	if m.only != "" && m.only != r.Method {
		m = mode{}
	}
	if m.once {
		c.mode = mode{}
	}
	c.mu.Unlock()
	switch {
	case m.refuse != "":
		_, _ = io.Copy(io.Discard, r.Body)
		status := map[string]int{"SlowDown": http.StatusServiceUnavailable, "NoSuchBucket": http.StatusNotFound, "PermanentRedirect": http.StatusMovedPermanently, "InvalidStorageClass": http.StatusBadRequest}[m.refuse]
		if status == 0 {
			status = http.StatusForbidden
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>no</Message></Error>`, m.refuse)
	case m.hang != nil:
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-m.hang:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case m.lose:
		c.Buckets.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	default:
		c.Buckets.ServeHTTP(w, r)
	}
}

// RoundTrip implements http.RoundTripper: a call goes to the service that it is
// signed for.
func (c *cloud) RoundTrip(r *http.Request) (*http.Response, error) {
	address := c.s3.URL
	if strings.Contains(r.Header.Get("Authorization"), "/redshift-data/") {
		address = c.redshift.URL()
	}
	endpoint, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	there := r.Clone(r.Context())
	there.URL.Scheme, there.URL.Host, there.Host = endpoint.Scheme, endpoint.Host, endpoint.Host
	return http.DefaultTransport.RoundTrip(there)
}

// factory returns the factory of a connector that calls this cloud.
func (c *cloud) factory(t testing.TB, kind string) connector.Factory {
	t.Helper()
	options := []sdk.Option{
		config.WithRegion(cloudtest.Region), config.WithHTTPClient(&http.Client{Transport: c}),
		config.WithBaseEndpoint("http://service.invalid"),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", secret, "")),
		config.WithSharedConfigFiles([]string{}), config.WithSharedCredentialsFiles([]string{}),
	}
	spec, ok := destination.Catalog(options...)[kind]
	if !ok {
		t.Fatalf("there is no %s", kind)
	}
	return spec.New
}

func (c *cloud) open(t testing.TB, kind, settings string) connector.Connector {
	t.Helper()
	conn, err := c.factory(t, kind)([]byte(settings), connector.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// send plans and sends, and returns the results by event.
func send(t testing.TB, c connector.Connector, deliveries []connector.Delivery) []connector.Result {
	t.Helper()
	results := make([]connector.Result, len(deliveries))
	plan := c.Plan(deliveries)
	for _, d := range plan.Done {
		results[d.Event] = d.Result
	}
	for _, call := range plan.Calls {
		for i, r := range c.Send(context.Background(), call) {
			results[call.Events[i]] = r
		}
	}
	return results
}

// ids returns the ids of the events in the NDJSON files of the bucket, file by
// file.
func (c *cloud) ids(t testing.TB) []string {
	t.Helper()
	keys, err := c.Keys("lake")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, key := range keys {
		body, err := c.Get("lake", key)
		if err != nil {
			t.Fatal(err)
		}
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.SplitSeq(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
			var e struct{ ID string }
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatalf("%s: %q: %v", key, line, err)
			}
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// query returns a column of text from the database behind Redshift.
func (c *cloud) query(t testing.TB, sql string) []string {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), c.postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(context.Background(), sql)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return texts
}

// stored returns the ids in the table, in the order in which they came.
func (c *cloud) stored(t testing.TB) []string {
	t.Helper()
	if c.query(t, "SELECT coalesce(to_regclass('public.events')::text, '')")[0] == "" {
		return nil
	}
	return c.query(t, "SELECT id FROM events ORDER BY ctid")
}

// TestMain forgets a bundle of certificates of this machine: the SDK gives it to
// clients of its own kind only, and nothing here has a certificate.
func TestMain(m *testing.M) {
	_ = os.Unsetenv("AWS_CA_BUNDLE")
	os.Exit(m.Run())
}
