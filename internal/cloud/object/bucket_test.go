package object_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/fault"
)

// store is an S3 with the bucket "lake", which a test may answer for.
type store struct {
	*httptest.Server
	mu       sync.Mutex
	answer   func(w http.ResponseWriter, r *http.Request) bool // whether it did
	requests []http.Header
}

func newStore(t *testing.T) *store {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("lake"); err != nil {
		t.Fatal(err)
	}
	s3 := gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	s := &store{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		answer := s.answer
		s.requests = append(s.requests, r.Header.Clone())
		s.mu.Unlock()
		if answer == nil || !answer(w, r) {
			s3.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *store) set(answer func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// last returns the header of the last request.
func (s *store) last() http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[len(s.requests)-1]
}

// open opens the bucket at its endpoint.
func (s *store) open(t *testing.T, change func(l *object.Location)) *object.Bucket {
	t.Helper()
	l := object.Location{Bucket: "lake", Region: "us-east-1", Endpoint: s.URL, AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"}
	if change != nil {
		change(&l)
	}
	b, err := object.OpenBucket(t.Context(), l, config.WithSharedConfigFiles([]string{}), config.WithSharedCredentialsFiles([]string{}))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestABucketHasWhatWasPutAndNothingElse(t *testing.T) {
	t.Parallel()
	b := newStore(t).open(t, nil)
	has := func(key, body string) bool {
		t.Helper()
		there, err := b.Has(t.Context(), key, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return there
	}
	if has("a/1", "x") {
		t.Error("an object that was never put is there")
	}
	for _, body := range []string{"x", "y"} { // the second over the first
		if err := b.Put(t.Context(), "a/1", []byte(body), "text/plain"); err != nil {
			t.Fatal(err)
		}
		if !has("a/1", body) || has("a/1", "z") || has("a/1", "longer") {
			t.Errorf("%s: put, and another is there", body)
		}
	}
	if err := b.Check(t.Context(), "a/"); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := b.Delete(t.Context(), "a/1"); err != nil {
			t.Fatal(err)
		}
	}
	if has("a/1", "y") {
		t.Error("deleted, and there")
	}
}

func TestObjectsAreKeptAsTheLocationSays(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	b := s.open(t, func(l *object.Location) { l.StorageClass, l.KMSKeyID = "STANDARD_IA", "alias/lake" })
	if err := b.Put(t.Context(), "a", []byte("x"), "application/gzip"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/gzip", "X-Amz-Storage-Class": "STANDARD_IA",
		"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "alias/lake",
		// Of a store of others: no checksum that it may not know.
		"X-Amz-Trailer": "", "X-Amz-Checksum-Crc32": "",
	} {
		if got := s.last().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if err := s.open(t, nil).Put(t.Context(), "a", []byte("x"), "application/gzip"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"X-Amz-Storage-Class", "X-Amz-Server-Side-Encryption"} {
		if got := s.last().Get(name); got != "" {
			t.Errorf("%s: %q, though the bucket decides", name, got)
		}
	}
}

func TestFaultsOfABucketSayWhatBecameOfTheWrite(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	code := func(status int, code string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(status)
			fmt.Fprintf(w, `<Error><Code>%s</Code><Message>no</Message></Error>`, code)
			return true
		}
	}
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request) bool
		want   fault.Kind
		says   string
	}{
		{"slow down", code(503, "SlowDown"), fault.Throttled, "SlowDown"},
		{"service unavailable", code(503, "ServiceUnavailable"), fault.Unavailable, "unavailable"},
		{"503 of what stands before it", func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }, fault.Unavailable, "unavailable"},
		{"internal error", code(500, "InternalError"), fault.Ambiguous, "InternalError"},
		{"no answer", func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, fault.Ambiguous, "no answer"},
		{"key not known", code(403, "InvalidAccessKeyId"), fault.Unauthenticated, "access key"},
		{"signature", code(403, "SignatureDoesNotMatch"), fault.Unauthenticated, "secret access key"},
		{"no right", code(403, "AccessDenied"), fault.Forbidden, "s3:PutObject"},
		{"no bucket", code(404, "NoSuchBucket"), fault.NotFound, `"lake"`},
		{"another region", code(301, "PermanentRedirect"), fault.Invalid, "region"},
		{"storage class", code(400, "InvalidStorageClass"), fault.Invalid, "InvalidStorageClass"},
	} {
		s.set(c.answer)
		err := s.open(t, nil).Put(t.Context(), "a", []byte("x"), "text/plain")
		if fault.KindOf(err) != c.want || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s with %q", c.name, err, c.want, c.says)
		}
	}
	s.mu.Lock()
	tried := len(s.requests)
	s.mu.Unlock()
	if tried != 11 {
		t.Errorf("%d requests for 11 calls: who calls decides what is tried again", tried)
	}
	s.set(nil)
	s.Close()
	if err := s.open(t, nil).Put(t.Context(), "a", []byte("x"), "text/plain"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("nobody there: %v", err)
	}
}

func TestABucketWithoutRegionOrCredentialsSaysSo(t *testing.T) {
	for _, name := range os.Environ() {
		if name, _, _ = strings.Cut(name, "="); strings.HasPrefix(name, "AWS_") && name != "AWS_CA_BUNDLE" {
			t.Setenv(name, "")
		}
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	none := []sdk.Option{config.WithSharedConfigFiles([]string{}), config.WithSharedCredentialsFiles([]string{})}
	if _, err := object.OpenBucket(t.Context(), object.Location{Bucket: "lake"}, none...); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "region") {
		t.Errorf("no region: %v", err)
	}
	b, err := object.OpenBucket(t.Context(), object.Location{Bucket: "lake", Region: "us-east-1"}, none...)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "a", []byte("x"), "text/plain"); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("no credentials: %v", err)
	}
}
