package cloudtest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// Memory is queues, buckets and secrets without a network, so that a test may run
// in a synctest bubble.
type Memory struct {
	Queues  *sqstest.Server
	client  *http.Client
	backend gofakes3.Backend
	s3      http.Handler

	mu      sync.Mutex
	s3Down  bool
	secrets map[string]string
	reads   int
}

// NewMemory opens an account that is gone when the test ends.
func NewMemory(t testing.TB, queues []sqstest.Queue, buckets ...string) *Memory {
	t.Helper()
	m := &Memory{
		Queues:  sqstest.New(t, sqstest.Config{InMemory: true, Region: Region, Queues: queues}),
		backend: s3mem.New(), secrets: map[string]string{},
	}
	for _, name := range buckets {
		if err := m.backend.CreateBucket(name); err != nil {
			t.Fatal(err)
		}
	}
	m.s3 = gofakes3.New(m.backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	m.client = m.Queues.Client()
	t.Cleanup(m.client.CloseIdleConnections)
	return m
}

// SDK returns the configuration with which clients call it.
func (m *Memory) SDK() sdk.Config {
	return sdk.Config{
		Region: Region, BaseEndpoint: aws.String(m.Queues.URL()), HTTPClient: &http.Client{Transport: m},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	}
}

// RoundTrip implements http.RoundTripper: a call goes to the service that its
// target names, or to S3 if it has none.
func (m *Memory) RoundTrip(r *http.Request) (*http.Response, error) {
	target := r.Header.Get("X-Amz-Target")
	if strings.HasPrefix(target, "AmazonSQS.") {
		return m.client.Transport.RoundTrip(r)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close()
	}
	w := httptest.NewRecorder()
	m.mu.Lock()
	down := m.s3Down
	m.mu.Unlock()
	switch {
	case target != "":
		m.secret(w, target, body)
	case down:
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		r = r.Clone(r.Context())
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		r.Body, r.RequestURI = io.NopCloser(bytes.NewReader(body)), r.URL.RequestURI()
		m.s3.ServeHTTP(w, r)
	}
	return w.Result(), nil
}

// secret answers as Secrets Manager.
func (m *Memory) secret(w http.ResponseWriter, target string, body []byte) {
	var in struct{ SecretId string } //nolint:revive // the name is AWS's
	_ = json.Unmarshal(body, &in)
	m.mu.Lock()
	m.reads++
	value, ok := m.secrets[in.SecretId]
	m.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if target != "secretsmanager.GetSecretValue" || !ok {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find the specified secret."}`)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"SecretString": value})
}

// SetSecret sets a secret of Secrets Manager.
func (m *Memory) SetSecret(name, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.secrets[name] = value
}

// SecretReads returns how often secrets were asked for.
func (m *Memory) SecretReads() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads
}

// StopS3 makes S3 unavailable, or available again.
func (m *Memory) StopS3(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.s3Down = down
}

// Put writes an object.
func (m *Memory) Put(bucket, key string, body []byte) error {
	_, err := m.backend.PutObject(bucket, key, map[string]string{}, bytes.NewReader(body), int64(len(body)), nil)
	return err
}

// Get reads an object.
func (m *Memory) Get(bucket, key string) ([]byte, error) {
	o, err := m.backend.GetObject(bucket, key, nil)
	if err != nil {
		return nil, err
	}
	defer o.Contents.Close()
	return io.ReadAll(o.Contents)
}
