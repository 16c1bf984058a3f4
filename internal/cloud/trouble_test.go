package cloud_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/cloud/kinesistest"
	"github.com/eventsluice/sluice/internal/stream"
)

// noCredentials is where a search for credentials ends that finds none.
type noCredentials struct{}

func (noCredentials) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, errors.New("no EC2 IMDS role found")
}

// hangingCredentials come from somewhere that does not answer.
type hangingCredentials struct{}

func (hangingCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	<-ctx.Done()
	return aws.Credentials{}, ctx.Err()
}

// The same conditions are refused at the start by Describe and kept as Trouble
// while running, each with what is wrong and what to do.
func TestWhatAnOperatorMustDoIsSaidInOneLine(t *testing.T) {
	t.Parallel()
	// As AWS words it, with the request that it got: the token is in it.
	signature := *kinesistest.InvalidSignature
	signature.Message += "\n\nThe Canonical String for this request should have been\n'POST\n/\n\nx-amz-security-token:" + token + "\n'"
	for _, c := range []struct {
		name  string
		fault kinesistest.Fault
		sdk   config.LoadOptionsFunc
		do    func(*kinesistest.Server) error
		want  []string
	}{
		{name: "stream missing", fault: kinesistest.Calls(kinesistest.NotFound), want: []string{`stream "events" does not exist in us-east-1: create it, or check AWS_REGION`}},
		{name: "stream being deleted", do: func(s *kinesistest.Server) error { return s.SetStatus("events", "DELETING") }, want: []string{"deleted"}},
		{name: "stream being created", do: func(s *kinesistest.Server) error { return s.SetStatus("events", "CREATING") }, want: []string{"being created"}},
		{name: "no credentials", sdk: config.WithCredentialsProvider(noCredentials{}), want: []string{"no AWS credentials", "AWS_PROFILE", "no EC2 IMDS role found"}},
		{name: "no endpoint", sdk: config.WithBaseEndpoint("://"), want: []string{"check AWS_ENDPOINT_URL"}},
		{name: "unknown key", fault: kinesistest.Calls(kinesistest.UnrecognizedClient), want: []string{"check AWS_ACCESS_KEY_ID"}},
		{name: "wrong secret", fault: kinesistest.Calls(&signature), want: []string{"check AWS_SECRET_ACCESS_KEY"}},
		{name: "wrong region", sdk: config.WithRegion("eu-west-1"), want: []string{"not that of eu-west-1", "AWS_REGION"}},
		{name: "no such region", sdk: noHost(), want: []string{"no host 127.0.0.1", "check AWS_REGION (us-east-1)"}},
		{name: "clock", fault: kinesistest.Calls(&kinesistest.Error{Code: "InvalidSignatureException", Status: 400, Message: "Signature expired: 20261123T100000Z is now earlier than 20261123T101500Z (20261123T102000Z - 5 min.)"}), want: []string{"the clock of this machine is wrong", "NTP"}},
		{name: "expired token", fault: kinesistest.Calls(kinesistest.ExpiredToken), want: []string{"session token has expired", "get new credentials"}},
		{name: "access denied", fault: kinesistest.Calls(kinesistest.AccessDenied), want: []string{"may not call kinesis:", `stream "events"`, "policy"}},
		{name: "KMS access denied", fault: kinesistest.Calls(kinesistest.KMSAccessDenied), want: []string{"KMS key", "kms:GenerateDataKey"}},
		{name: "KMS disabled", fault: kinesistest.Calls(kinesistest.KMSDisabled), want: []string{"KMS key", "enable it"}},
		{name: "KMS key gone", fault: kinesistest.Calls(&kinesistest.Error{Code: "KMSNotFoundException", Status: 400}), want: []string{"KMS key", "does not exist"}},
		{name: "KMS key being deleted", fault: kinesistest.Calls(&kinesistest.Error{Code: "KMSInvalidStateException", Status: 400}), want: []string{"KMS key", "pending deletion"}},
		{name: "KMS not signed up", fault: kinesistest.Calls(&kinesistest.Error{Code: "KMSOptInRequired", Status: 400}), want: []string{"not signed up for KMS"}},
		{name: "something else answers", fault: kinesistest.Calls(&kinesistest.Error{Code: "UnknownOperationException", Status: 404}), want: []string{`stream "events" in us-east-1`, "UnknownOperationException, status 404"}},
		{name: "region not opted in", fault: kinesistest.Calls(&kinesistest.Error{Code: "OptInRequired", Status: 403}), want: []string{"not signed up for Kinesis in us-east-1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := kinesistest.New(t, kinesistest.Config{Region: "us-east-1", Streams: []kinesistest.Stream{{Name: "events"}}})
			var log bytes.Buffer
			sdk := at(server.URL())
			if c.sdk != nil {
				sdk = append(sdk, c.sdk)
			}
			k, err := cloud.Open(t.Context(), cloud.Config{Stream: "events", Log: logTo(&log), SDK: sdk})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.do != nil:
				if err := c.do(server); err != nil {
					t.Fatal(err)
				}
			case c.sdk == nil:
				server.Fail(c.fault)
			}
			check := func(when string, err error) {
				t.Helper()
				if err == nil {
					t.Fatalf("%s: no error", when)
				}
				text := err.Error()
				for _, part := range c.want {
					if !strings.Contains(text, part) {
						t.Errorf("%s: %q does not say %q", when, text, part)
					}
				}
				if strings.ContainsAny(text, "\n\r") || strings.Contains(text+log.String(), token) || strings.Contains(text+log.String(), secret) {
					t.Errorf("%s: a secret, or more than a line: %q", when, text)
				}
			}
			_, err = k.Describe(t.Context())
			check("Describe", err)
			check("Trouble", k.Trouble())

			// While running nothing is lost: it is known that it was not stored.
			if c.do == nil {
				for range 3 {
					results, err := k.PutRecords(t.Context(), []stream.Record{record("b0", "1")})
					if err != nil || kinds(results)[0] != "unavailable" {
						t.Errorf("PutRecords: %v, %v", results, err)
					}
				}
				check("Trouble after PutRecords", k.Trouble())
				// One more where the operation is part of what to do.
				if n := strings.Count(log.String(), "level=ERROR"); n > 2 || n == 2 && c.name != "access denied" {
					t.Errorf("logged %d times:\n%s", n, &log)
				}
			}
			if c.sdk != nil {
				return
			}
			// And over when somebody has done it.
			server.Heal()
			if c.do != nil {
				if err := server.SetStatus("events", "ACTIVE"); err != nil {
					t.Fatal(err)
				}
			}
			mustPut(t, k, record("b0", "1"))
			if err := k.Trouble(); err != nil {
				t.Errorf("after it was mended: %v", err)
			}
			if n := strings.Count(log.String(), "level=INFO"); n != 1 {
				t.Errorf("that it is over is logged %d times:\n%s", n, &log)
			}
		})
	}
}

// What passes by itself is nobody's trouble, and does not end one.
func TestWhatPassesByItselfIsNoTrouble(t *testing.T) {
	t.Parallel()
	server, k := serve(t, 1)
	put := func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _ = k.PutRecords(ctx, []stream.Record{record("b0", "1")}) // its outcome is another test's
	}
	for name, f := range map[string]kinesistest.Fault{
		"throttled": kinesistest.Throttle(),
		"5xx":       kinesistest.Calls(kinesistest.Unavailable),
		"cut":       kinesistest.Disconnect(kinesistest.BeforeStoring),
		"rubbish":   kinesistest.Rubbish(kinesistest.HTML),
	} {
		trouble := server.Fail(f)
		if put(); k.Trouble() != nil {
			t.Errorf("%s: %v", name, k.Trouble())
		}
		trouble.Off()
	}
	denied := server.Fail(kinesistest.Calls(kinesistest.AccessDenied))
	put()
	denied.Off()
	server.Stop()
	if put(); k.Trouble() == nil {
		t.Error("an endpoint that is away ended the trouble with the policy")
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if put(); k.Trouble() != nil {
		t.Error(k.Trouble())
	}
}

// A clock that is wrong costs one call: the SDK reads the time from the answer.
func TestAWrongClockIsReportedAndPutRight(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{-time.Hour, time.Hour} {
		server, k := serve(t, 1)
		server.Fail(kinesistest.Skew(skew))
		results, err := k.PutRecords(t.Context(), []stream.Record{record("b0", "1")})
		if err != nil || kinds(results)[0] != "unavailable" {
			t.Fatalf("%v, %v", results, err)
		}
		want := "(1h0m0s behind)"
		if skew < 0 {
			want = "(1h0m0s ahead)"
		}
		if err := k.Trouble(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("skew %v: %v", skew, err)
		}
		mustPut(t, k, record("b0", "1"))
		if err := k.Trouble(); err != nil {
			t.Errorf("skew %v: %v", skew, err)
		}
	}
}

func TestASettingThatCannotBeUsedIsNamed(t *testing.T) {
	t.Parallel()
	none := func(o *config.LoadOptions) error { return config.WithSharedConfigFiles([]string{})(o) }
	for _, c := range []struct {
		cfg  cloud.Config
		want []string
	}{
		{cloud.Config{CallTimeout: -1}, []string{"Stream is empty", "CallTimeout is -1ns"}},
		{cloud.Config{Stream: "arn:aws:sqs:us-east-1:123456789012:events", SDK: at("http://127.0.0.1")}, []string{"not the ARN of a Kinesis stream"}},
		{cloud.Config{Stream: "arn:aws:kinesis:eu-west-1:123456789012:stream/events", SDK: at("http://127.0.0.1")}, []string{"is in eu-west-1, and the AWS region is us-east-1: set AWS_REGION=eu-west-1"}},
		{cloud.Config{Stream: "events", SDK: append(at("http://127.0.0.1"), none, config.WithSharedConfigProfile("nobody"))}, []string{"nobody"}},
	} {
		_, err := cloud.Open(t.Context(), c.cfg)
		for _, part := range c.want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%+v: %v does not say %q", c.cfg.Stream, err, part)
			}
		}
	}
}

// The environment of a machine that nobody has prepared.
func TestAnEmptyEnvironmentIsNamed(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_CONFIG_FILE", "")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	if _, err := cloud.Open(t.Context(), cloud.Config{Stream: "events"}); err == nil || !strings.Contains(err.Error(), "set AWS_REGION") {
		t.Errorf("without a region: %v", err)
	}
	server := kinesistest.New(t, kinesistest.Config{Streams: []kinesistest.Stream{{Name: "events"}}})
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ENDPOINT_URL_KINESIS", server.URL())
	k, err := cloud.Open(t.Context(), cloud.Config{Stream: "events"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Describe(t.Context()); err == nil || !strings.Contains(err.Error(), "no AWS credentials") {
		t.Errorf("without credentials: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "example")
	if k, err = cloud.Open(t.Context(), cloud.Config{Stream: "events"}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Describe(t.Context()); err != nil {
		t.Errorf("with both: %v", err)
	}
}
