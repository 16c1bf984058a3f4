package connector

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/connector/catalog"
	"github.com/eventsluice/sluice/internal/connector/guard"
	"github.com/eventsluice/sluice/internal/retry"
)

// Settings are what the environment of the function says.
type Settings struct {
	// Kind is that of the connector, Values its settings, with references to
	// secrets in them: variables CONNECTOR, SETTINGS and SETTINGS_….
	Kind   string
	Values json.RawMessage
	// Destination is its name: DESTINATION, or the name of the function.
	Destination string
	// Retry bounds the attempts of an event: RETRY_MAX_ATTEMPTS, RETRY_BASE_DELAY,
	// RETRY_MAX_DELAY.
	Retry retry.Policy
	// Concurrency is the most calls at once: CONCURRENCY; 0 is the default.
	Concurrency int
	// Ambiguous is what becomes of events that were written and not answered:
	// AMBIGUOUS.
	Ambiguous guard.Ambiguous
	// DeadLetters is the queue of the events that are given up, Waiting that of
	// those that are tried again later: DEAD_LETTER_QUEUE, RETRY_QUEUE.
	DeadLetters, Waiting queue.Ref
	// Claims is the bucket of letters that are too large for a message:
	// CLAIM_BUCKET.
	Claims string
}

// Names of variables.
const (
	envConnector   = "CONNECTOR"
	envSettings    = "SETTINGS"
	envDestination = "DESTINATION"
	envConcurrency = "CONCURRENCY"
	envMaxAttempts = "RETRY_MAX_ATTEMPTS"
	envBaseDelay   = "RETRY_BASE_DELAY"
	envMaxDelay    = "RETRY_MAX_DELAY"
	envAmbiguous   = "AMBIGUOUS"
	envDeadLetters = "DEAD_LETTER_QUEUE"
	envRetryQueue  = "RETRY_QUEUE"
	envClaims      = "CLAIM_BUCKET"
	envFunction    = "AWS_LAMBDA_FUNCTION_NAME"
)

// destinationName is what names a destination: it stands in metrics and keys.
var destinationName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// bucketName is what a bucket may be called. Source: Amazon S3 user guide,
// "General purpose bucket naming rules" (read 2026-11).
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// parseSettings reads an environment of "NAME=value". An empty value is none. The
// error has one line per fault, each naming the variable, its value unless that
// may be secret, and what would be right. region is where the queues are.
func parseSettings(environ []string, region string, known catalog.Catalog) (Settings, error) {
	var s Settings
	var faults []error
	env := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && value != "" {
			env[name] = value
		}
	}
	bad := func(name, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s=%q: %s", name, env[name], fmt.Sprintf(format, args...)))
	}
	s.Kind = env[envConnector]
	if _, ok := known[s.Kind]; !ok {
		bad(envConnector, "right would be one of %s", strings.Join(known.Kinds(), ", "))
	}
	var err error
	if s.Values, err = values(env); err != nil {
		faults = append(faults, err)
	}
	s.Destination = env[envDestination]
	if s.Destination == "" {
		s.Destination = env[envFunction]
	}
	if !destinationName.MatchString(s.Destination) {
		bad(envDestination, "right would be the destination_name of the rules: it starts with a letter or digit and has only letters, digits, _ . and -, at most 64")
	}
	if text := env[envMaxAttempts]; text != "" {
		if s.Retry.MaxAttempts, err = strconv.Atoi(text); err != nil || s.Retry.MaxAttempts < 1 || s.Retry.MaxAttempts > 1_000_000 {
			bad(envMaxAttempts, "right would be a number from 1 to 1000000")
		}
	}
	if text := env[envConcurrency]; text != "" {
		if s.Concurrency, err = strconv.Atoi(text); err != nil || s.Concurrency < 1 || s.Concurrency > 1024 {
			bad(envConcurrency, "right would be a number from 1 to 1024")
		}
	}
	for _, d := range []struct {
		name string
		into *time.Duration
	}{{envBaseDelay, &s.Retry.BaseDelay}, {envMaxDelay, &s.Retry.MaxDelay}} {
		if text := env[d.name]; text != "" {
			if *d.into, err = time.ParseDuration(text); err != nil || *d.into <= 0 {
				bad(d.name, `right would be a duration such as "1s" or "10m"`)
				*d.into = 0
			}
		}
	}
	if p := guard.Patience(s.Retry); p.MaxDelay < p.BaseDelay {
		bad(envMaxDelay, "right would be %v or more, which is %s", p.BaseDelay, envBaseDelay)
	}
	if s.Ambiguous = guard.Ambiguous(env[envAmbiguous]); !s.Ambiguous.Known() {
		bad(envAmbiguous, `right would be "retry" or "dead"`)
	}
	for _, q := range []struct {
		name   string
		needed bool
		into   *queue.Ref
	}{{envDeadLetters, true, &s.DeadLetters}, {envRetryQueue, false, &s.Waiting}} {
		text := env[q.name]
		if text == "" && !q.needed {
			continue
		}
		if text == "" {
			bad(q.name, "right would be the ARN or URL of the SQS queue for what cannot be delivered")
		} else if *q.into, err = queue.ParseRef(text, region); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", q.name, err))
		}
	}
	if s.DeadLetters.URL != "" && s.DeadLetters == s.Waiting {
		bad(envRetryQueue, "it is the dead letter queue; right would be a queue of its own")
	}
	if s.Claims = env[envClaims]; s.Claims != "" && !bucketName.MatchString(s.Claims) {
		bad(envClaims, "right would be the name of a bucket")
	}
	return s, errors.Join(faults...)
}

// values returns the settings of the connector: those of SETTINGS, and of
// SETTINGS_NAME, which is the member "name". The value of such a variable is
// JSON if it is an object, an array, a quoted text, a number, true, false or
// null, and a text otherwise. Its faults do not repeat values.
func values(env map[string]string) (json.RawMessage, error) {
	text := env[envSettings]
	if text == "" {
		text = "{}"
	}
	single := map[string]json.RawMessage{}
	for name, value := range env {
		if member, ok := strings.CutPrefix(name, envSettings+"_"); ok && member != "" {
			raw := json.RawMessage(value)
			if !json.Valid(raw) {
				raw, _ = json.Marshal(value) // a string always marshals
			}
			single[strings.ToLower(member)] = raw
		}
	}
	var members map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &members) != nil || members == nil {
		return nil, errors.New(envSettings + `: not a JSON object; right would be such as {"url":"https://example.com/events"}`)
	}
	if len(single) == 0 {
		return json.RawMessage(text), nil // as it is: its reader finds members that are given twice
	}
	maps.Copy(members, single)
	return json.Marshal(members)
}
