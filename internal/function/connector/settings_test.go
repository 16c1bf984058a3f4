package connector_test

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/destination"
	"github.com/eventsluice/sluice/internal/connector/postgres"
	"github.com/eventsluice/sluice/internal/connector/webhook"
	function "github.com/eventsluice/sluice/internal/function/connector"
)

const region = "us-east-1"

var known = destination.Catalog()

func TestEveryFaultOfTheEnvironmentHasALine(t *testing.T) {
	t.Parallel()
	queue := "DEAD_LETTER_QUEUE=arn:aws:sqs:us-east-1:123456789012:dead"
	for name, c := range map[string]struct {
		environ []string
		want    []string
	}{
		"nothing is set": {nil, []string{
			`CONNECTOR="": right would be one of amplitude, clickhouse, ga4, gtm, hubspot, mailchimp, mixpanel, postgres, redshift, s3, slack, webhook`,
			`DESTINATION="": right would be the destination_name of the rules`,
			`DEAD_LETTER_QUEUE="": right would be the ARN or URL of the SQS queue`,
		}},
		"nothing is right": {[]string{
			"CONNECTOR=webhok", "SETTINGS=[\"s3cret\"]", "DESTINATION=a b", "RETRY_MAX_ATTEMPTS=0", "RETRY_BASE_DELAY=1", "RETRY_MAX_DELAY=-1s", "AMBIGUOUS=maybe",
			"DEAD_LETTER_QUEUE=dead", "RETRY_QUEUE=arn:aws:sqs:eu-west-1:123456789012:retry", "CLAIM_BUCKET=s3://claims",
		}, []string{
			`CONNECTOR="webhok": right would be one of amplitude, clickhouse, ga4, gtm, hubspot, mailchimp, mixpanel, postgres, redshift, s3, slack, webhook`,
			`SETTINGS: not a JSON object; right would be`,
			`DESTINATION="a b": right would be`,
			`RETRY_MAX_ATTEMPTS="0": right would be a number from 1`,
			`RETRY_BASE_DELAY="1": right would be a duration such as`,
			`RETRY_MAX_DELAY="-1s": right would be a duration such as`,
			`AMBIGUOUS="maybe": right would be "retry" or "dead"`,
			`DEAD_LETTER_QUEUE: "dead" is neither the URL nor the ARN of an SQS queue`,
			`RETRY_QUEUE: the queue arn:aws:sqs:eu-west-1:123456789012:retry is in eu-west-1`,
			`CLAIM_BUCKET="s3://claims": right would be the name of a bucket`,
		}},
		"delays the wrong way round": {[]string{"CONNECTOR=webhook", "DESTINATION=crm", queue, "RETRY_BASE_DELAY=1h", "RETRY_MAX_DELAY=1m"}, []string{
			`RETRY_MAX_DELAY="1m": right would be 1h0m0s or more`,
		}},
		"one queue for both": {[]string{"CONNECTOR=webhook", "DESTINATION=crm", queue, "RETRY_" + strings.TrimPrefix(queue, "DEAD_LETTER_")}, []string{
			`RETRY_QUEUE="arn:aws:sqs:us-east-1:123456789012:dead": it is the dead letter queue`,
		}},
	} {
		_, err := function.ParseSettings(c.environ, region, known)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(c.want) {
			t.Errorf("%s: %d faults:\n%v", name, len(lines), err)
			continue
		}
		for i, want := range c.want {
			if !strings.HasPrefix(lines[i], want) {
				t.Errorf("%s:\n got %s\nwant %s", name, lines[i], want)
			}
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error holds a setting: %v", name, err)
		}
	}
}

func TestTheEnvironmentSaysWhatIsMeant(t *testing.T) {
	t.Parallel()
	s, err := function.ParseSettings([]string{
		"CONNECTOR=webhook", "AWS_LAMBDA_FUNCTION_NAME=crm-prod", `SETTINGS={"url":"https://a.example","timeout":"5s","headers":{"X-A":"b"}}`,
		"SETTINGS_URL=https://b.example/?a=b", "SETTINGS_ALLOW_HTTP=true", `SETTINGS_SECRET="true"`, "SETTINGS_HEADERS={\"X-C\":\"d\"}", "SETTINGS_EMPTY=",
		"RETRY_MAX_ATTEMPTS=7", "RETRY_BASE_DELAY=2s", "RETRY_MAX_DELAY=1m", "AMBIGUOUS=dead",
		"DEAD_LETTER_QUEUE=https://sqs.us-east-1.amazonaws.com/123456789012/dead", "RETRY_QUEUE=arn:aws:sqs:us-east-1:123456789012:retry.fifo", "CLAIM_BUCKET=a-bucket",
	}, region, known)
	if err != nil {
		t.Fatal(err)
	}
	const values = `{"allow_http":true,"headers":{"X-C":"d"},"secret":"true","timeout":"5s","url":"https://b.example/?a=b"}`
	if string(s.Values) != values || s.Kind != "webhook" || s.Destination != "crm-prod" || s.Retry.MaxAttempts != 7 || s.Retry.BaseDelay != 2*time.Second || s.Retry.MaxDelay != time.Minute ||
		s.Ambiguous != "dead" || s.DeadLetters.Name != "dead" || !s.Waiting.FIFO() || s.Claims != "a-bucket" {
		t.Errorf("%+v, values %s", s, s.Values)
	}
	s, err = function.ParseSettings([]string{"CONNECTOR=postgres", "DESTINATION=dwh", "DEAD_LETTER_QUEUE=arn:aws:sqs:us-east-1:123456789012:dead"}, region, known)
	if err != nil || string(s.Values) != "{}" || s.Waiting.URL != "" || s.Ambiguous != "" {
		t.Errorf("%v, %+v", err, s)
	}
}

// What the connector says of its settings, and what a reference does not lead to.
func TestAConnectorThatCannotBeMadeStopsTheStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ setting, want string }{
		"a setting that is wrong":     {"SETTINGS_TOKEN=bad", "SETTINGS: token: is not a token"},
		"a secret that is not there":  {"SETTINGS_TOKEN=secretsmanager:gone", `SETTINGS: token: secretsmanager:gone: there is no secret "gone" in us-east-1`},
		"a member that is not there":  {"SETTINGS_TOKEN=secretsmanager:crm#gone", `SETTINGS: token: secretsmanager:crm#gone: it has no member "gone"`},
		"a member of no JSON at all":  {`SETTINGS={"a":{"b":["secretsmanager:plain#gone"]}}`, `SETTINGS: a.b[0]: secretsmanager:plain#gone: it is not a JSON object`},
		"a member that is no setting": {`SETTINGS={"a":"secretsmanager:crm#list"}`, `SETTINGS: a: secretsmanager:crm#list: its member "list" is neither a text nor a number`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := openRig(t)
				r.aws.SetSecret("crm", `{"token":"s3cret","list":["s3cret"]}`)
				r.aws.SetSecret("plain", "s3cret")
				_, err := r.make(env(c.setting)...)
				if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error()+r.log.String(), "s3cret") {
					t.Errorf("%v\nwant %s", err, c.want)
				}
			})
		})
	}
}

// The real connectors start with an environment alone.
func TestTheConnectorsOfTheProgramStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t)
		for kind, setting := range map[string]string{webhook.Kind: "SETTINGS_URL=https://example.com/", postgres.Kind: "SETTINGS_URL=postgres://user@127.0.0.1:1/db"} {
			f, err := function.New(t.Context(), r.aws.SDK(), append(env(setting), "CONNECTOR="+kind), slog.New(slog.DiscardHandler), r.metrics)
			if err != nil {
				t.Errorf("%s: %v", kind, err)
				continue
			}
			if err := f.Close(); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
	})
}
