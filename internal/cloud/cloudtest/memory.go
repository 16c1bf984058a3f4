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

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

// Memory is queues, buckets and secrets without a network, so that a test may run
// in a synctest bubble.
type Memory struct {
	*Buckets
	Queues *sqstest.Server
	client *http.Client

	mu      sync.Mutex
	secrets map[string]string
	reads   int
}

// NewMemory opens an account that is gone when the test ends.
func NewMemory(t testing.TB, queues []sqstest.Queue, buckets ...string) *Memory {
	t.Helper()
	b, err := newBuckets(buckets)
	if err != nil {
		t.Fatal(err)
	}
	m := &Memory{
		Buckets: b, secrets: map[string]string{},
		Queues: sqstest.New(t, sqstest.Config{InMemory: true, Region: Region, Queues: queues}),
	}
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
	if target != "" {
		m.secret(w, target, body)
	} else {
		r = r.Clone(r.Context())
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		r.Body, r.RequestURI = io.NopCloser(bytes.NewReader(body)), r.URL.RequestURI()
		m.Buckets.ServeHTTP(w, r)
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
	if !down {
		m.Fail(nil)
		return
	}
	m.Fail(func(*http.Request) int { return http.StatusServiceUnavailable })
}
