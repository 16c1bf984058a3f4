package kinesistest_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
)

func TestAStoppedServerComesBackAtItsAddressWithItsData(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]kinesistest.Config{"plain": {}, "TLS": {TLS: true}, "in memory": {InMemory: true}, "TLS in memory": {TLS: true, InMemory: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config.Streams = []kinesistest.Stream{{Name: "events"}}
			server, c := startWith(t, config)
			c.put("u1")
			addr := server.Addr()
			for range 3 {
				server.Stop()
				c.http.CloseIdleConnections()
				if a := c.do(c.request("PutRecords", entries("u2"))); !errors.Is(a.err, syscall.ECONNREFUSED) {
					t.Errorf("stopped: %d %s (%v)", a.status, a.body, a.err)
				}
				if err := server.Start(); err != nil {
					t.Fatal(err)
				}
				c.put("u3")
			}
			if server.Addr() != addr {
				t.Errorf("address %s, was %s", server.Addr(), addr)
			}
			if got := stored(server); !slices.Equal(got, []string{"u1", "u3", "u3", "u3"}) {
				t.Errorf("stored %v", got)
			}
		})
	}
}

func TestNothingIsStoredAfterAStop(t *testing.T) {
	inBubble(t, kinesistest.Config{}, func(t *testing.T, server *kinesistest.Server, c *client) {
		server.Fail(kinesistest.Delay(time.Minute).Times(1))
		server.Fail(kinesistest.Do(server.Stop).After(1).Times(1))
		replies := make(chan reply, 1)
		go func() { replies <- c.do(c.request("PutRecords", entries("u1"))).of(1) }()
		synctest.Wait()
		if got := c.do(c.request("PutRecords", entries("u2"))).of(1); got != noAnswer {
			t.Errorf("the call that stops the server: %s", got)
		}
		if got := <-replies; got != noAnswer {
			t.Errorf("the call that waits: %s", got)
		}
		time.Sleep(2 * time.Minute)
		if got := stored(server); len(got) != 0 {
			t.Errorf("stored %v", got)
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		c.put("u3")
	})
}

func TestCallsAreSigned(t *testing.T) {
	t.Parallel()
	server, c := startWith(t, kinesistest.Config{Region: "eu-west-1", Streams: []kinesistest.Stream{{Name: "events"}}})
	signed := func(authorization string, at time.Time) *http.Request {
		r := c.request("PutRecords", entries("u1"))
		r.Header.Set("Authorization", authorization)
		r.Header.Set("X-Amz-Date", at.UTC().Format("20060102T150405Z"))
		return r
	}
	good := "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261125/eu-west-1/kinesis/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + strings.Repeat("0a", 32)
	now := time.Now()
	for name, test := range map[string]struct {
		authorization string
		at            time.Time
		code, message string
	}{
		"no signature":        {"", now, "MissingAuthenticationTokenException", "Missing Authentication Token"},
		"another scheme":      {"Bearer key", now, "IncompleteSignatureException", "Credential"},
		"part of a signature": {strings.TrimSuffix(good, "0a"), now, "IncompleteSignatureException", "Signature"},
		"no time":             {good, time.Time{}, "InvalidSignatureException", "Signature expired: 00010101T000000Z is now earlier than"},
		"another region":      {strings.Replace(good, "eu-west-1", "us-east-1", 1), now, "InvalidSignatureException", "valid region, not 'us-east-1'"},
		"another service":     {strings.Replace(good, "/kinesis/", "/firehose/", 1), now, "InvalidSignatureException", "correct service: 'kinesis'"},
		"six minutes ago":     {good, now.Add(-6 * time.Minute), "InvalidSignatureException", "- 5 min.)"},
		"in six minutes":      {good, now.Add(6 * time.Minute), "InvalidSignatureException", "Signature not yet current: "},
	} {
		a := c.do(signed(test.authorization, test.at))
		if code, message := a.refused(); a.status != http.StatusBadRequest || code != test.code || !strings.Contains(message, test.message) {
			t.Errorf("%s: %d %s (%v), want %s: %s", name, a.status, a.body, a.err, test.code, test.message)
		}
	}
	if got := stored(server); len(got) != 0 {
		t.Errorf("stored %v", got)
	}
	if got := c.do(signed(good, now.Add(-4*time.Minute))).of(1); got != allStored {
		t.Errorf("signed four minutes ago: %s", got)
	}
}

func TestTheDateOfAnswersTellsTheServersTime(t *testing.T) {
	t.Parallel()
	server, c := start(t, 1)
	server.Fail(kinesistest.Skew(time.Hour))
	a := c.call("PutRecords", entries("u1"))
	at, err := http.ParseTime(a.header.Get("Date"))
	if off := time.Until(at); err != nil || off < 59*time.Minute || off > 61*time.Minute {
		t.Errorf("date %v (%v)", at, err)
	}
}

func TestWhatIsNoOperationIsRefused(t *testing.T) {
	t.Parallel()
	_, c := start(t, 1)
	wrong := c.request("PutRecords", "{}")
	wrong.Header.Set("X-Amz-Target", "DynamoDB_20120810.PutItem")
	get := c.request("PutRecords", "")
	get.Method = http.MethodGet
	for name, r := range map[string]*http.Request{
		"unknown operation": c.request("AddTagsToStream", "{}"),
		"another service":   wrong,
		"GET":               get,
	} {
		a := c.do(r)
		if code, _ := a.refused(); a.status != http.StatusNotFound || code != "UnknownOperationException" {
			t.Errorf("%s: %d %s (%v)", name, a.status, a.body, a.err)
		}
	}
	if a := c.do(c.request("PutRecords", strings.Repeat(" ", 16<<20))); a.err == nil && a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("16 MiB: %d %.100s", a.status, a.body)
	}
}

func TestTLSShowsTheCertificateThatIsGiven(t *testing.T) {
	t.Parallel()
	server, c := startWith(t, kinesistest.Config{TLS: true, Streams: []kinesistest.Stream{{Name: "events"}}})
	if !strings.HasPrefix(server.URL(), "https://127.0.0.1:") {
		t.Errorf("URL %s", server.URL())
	}
	c.put("u1")
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(server.Certificate()) {
		t.Fatal("the certificate is no PEM")
	}
	_, port, _ := strings.Cut(server.Addr(), ":")
	conn, err := tls.Dial("tcp", "localhost:"+port, &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatalf("by name: %v", err)
	}
	conn.Close()
	stranger := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}}}
	if a := (&client{t, c.url, stranger}).do(c.request("PutRecords", entries("u1"))); a.err == nil {
		t.Error("a client that does not trust the certificate got through")
	}
	plain, _ := start(t, 1)
	if plain.Certificate() != nil {
		t.Error("a server without TLS has a certificate")
	}
}

func TestTheEnvironmentNamesTheEndpoint(t *testing.T) {
	t.Parallel()
	server, _ := startWith(t, kinesistest.Config{Region: "eu-west-1"})
	env := server.Env()
	for _, want := range []string{"AWS_ENDPOINT_URL_KINESIS=" + server.URL(), "AWS_REGION=eu-west-1"} {
		if !slices.Contains(env, want) {
			t.Errorf("%v lacks %s", env, want)
		}
	}
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	server, _ := start(t, 1)
	for want, config := range map[string]kinesistest.Config{
		"streamName":         {Streams: []kinesistest.Stream{{Name: "no/name"}}},
		"already exists":     {Streams: []kinesistest.Stream{{Name: "a"}, {Name: "a"}}},
		"maxRecordSizeInKiB": {Streams: []kinesistest.Stream{{Name: "a", MaxRecordKiB: 512}}},
		"shardCount":         {Streams: []kinesistest.Stream{{Name: "a", Shards: -1}}},
		"shard limit":        {Streams: []kinesistest.Stream{{Name: "a", Shards: 10001}}},
		"missing port":       {Addr: "127.0.0.1"},
		"in use":             {Addr: server.Addr()},
	} {
		other, err := kinesistest.Open(config)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if other != nil {
			other.Stop()
		}
	}
}
