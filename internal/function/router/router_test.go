package router

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
	"github.com/eventsluice/sluice/internal/event"
)

// patience bounds what must happen soon; only a failing test waits for it.
const patience = 20 * time.Second

// world is an account with the function "crm", which keeps what it gets, the
// queues "dead", "mail.fifo" and "plain", and the buckets "rules" and "claims".
type world struct {
	*cloudtest.AWS
	mu  sync.Mutex
	got [][]byte
}

func newWorld(t *testing.T) *world {
	w := &world{AWS: cloudtest.New(t, cloudtest.Config{
		Queues:  []sqstest.Queue{{Name: "dead"}, {Name: "plain"}, {Name: "mail.fifo"}},
		Buckets: []string{"rules", "claims"},
	})}
	err := w.Lambda.CreateFunction(lambdatest.Function{Name: "crm", Aliases: map[string]string{"prod": "1"}, Handler: func(_ context.Context, payload []byte) ([]byte, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.got = append(w.got, bytes.Clone(payload))
		return nil, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) rules(t *testing.T, doc string) {
	t.Helper()
	if err := w.Buckets.Put("rules", "rules.json", []byte(doc)); err != nil {
		t.Fatal(err)
	}
}

// arn is that of a function of the account.
func (w *world) arn(function string) string { return w.Lambda.ARN(function, "prod") }

// delivered waits until crm has handled what it was given and returns it in the
// order of the text.
func (w *world) delivered(t *testing.T) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.Lambda.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, payload := range w.got {
		all = append(all, string(payload))
	}
	slices.Sort(all)
	return all
}

// open makes the function, with more variables.
func (w *world) open(t *testing.T, log, metrics io.Writer, more ...string) *Function {
	t.Helper()
	env := map[string]string{"RULES_BUCKET": "rules", "RULES_KEY": "rules.json", "RULES_INTERVAL": "0s", "DEAD_LETTER_QUEUE": w.Queues.QueueURL("dead")}
	for i := 0; i < len(more); i += 2 {
		env[more[i]] = more[i+1]
	}
	f, err := New(w.SDK(), func(name string) (string, bool) { v, ok := env[name]; return v, ok }, slog.New(slog.NewJSONHandler(log, nil)), metrics)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// batch is what a Kinesis event source hands over.
func batch(events ...string) []byte {
	var records []string
	for i, e := range events {
		records = append(records, fmt.Sprintf(`{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"p","sequenceNumber":"4959%04d","data":%q,"approximateArrivalTimestamp":1790000000.123},
			"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-000000000006:4959%04d","eventName":"aws:kinesis:record","invokeIdentityArn":"arn:aws:iam::123456789012:role/router","awsRegion":"us-east-1","eventSourceARN":"arn:aws:kinesis:us-east-1:123456789012:stream/events"}`,
			i, base64.StdEncoding.EncodeToString([]byte(e)), i))
	}
	return []byte(`{"Records":[` + strings.Join(records, ",") + `]}`)
}

func handle(t *testing.T, f *Function, payload []byte) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answer, err := f.Handle(ctx, payload)
	return string(answer), err
}

func stored(id string) string {
	return fmt.Sprintf(`{"id":%q,"type":"track","name":"clicked","user_id":"u1","data":{"n": 1.0},"context":{}}`, id)
}

const none = `{"batchItemFailures":[]}`

func TestABatchIsRoutedByTheRulesInS3(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rules(t, `[{"destination_name":"crm","destination_arn":"`+w.arn("crm")+`","enabled_events":["clicked"]},
		{"destination_name":"mail","destination_arn":"`+w.Queues.ARN("mail.fifo")+`","enabled_events":["*"]},
		{"destination_name":"plain","destination_arn":"`+w.Queues.ARN("plain")+`","enabled_events":["*"],"max_batch":10}]`)
	var log, metrics bytes.Buffer
	f := w.open(t, &log, &metrics)
	answer, err := handle(t, f, batch(stored("e1"), "rubbish", `{"name":"viewed","data":{}}`, stored("e2")))
	if err != nil || answer != none {
		t.Fatalf("%s, %v", answer, err)
	}
	if got := w.delivered(t); !slices.Equal(got, []string{stored("e1"), stored("e2")}) {
		t.Errorf("crm got %v", got)
	}
	derived := event.DeriveID("shardId-000000000006", "49590002", 0)
	for queue, want := range map[string]int{"mail.fifo": 3, "plain": 1} {
		messages := w.Queues.Messages(queue)
		if len(messages) != want {
			t.Errorf("%s has %d messages, want %d", queue, len(messages), want)
		}
		all := ""
		for _, m := range messages {
			all += m.Body
		}
		for _, id := range []string{"e1", "e2", derived} {
			if !strings.Contains(all, `"`+id+`"`) {
				t.Errorf("%s has no event %s: %s", queue, id, all)
			}
		}
	}
	letters := w.Queues.Messages("dead")
	if len(letters) != 1 || !strings.Contains(letters[0].Body, base64.StdEncoding.EncodeToString([]byte("rubbish"))) {
		t.Errorf("dead letters: %+v", letters)
	}
	for _, want := range []string{`"Destination":"crm"`, `"Routed":2`, `"Filtered":1`, `"Residual":0`, `"Events":4`, `"DeadLetters":1`} {
		if !strings.Contains(metrics.String(), want) {
			t.Errorf("the metrics have no %s: %s", want, &metrics)
		}
	}
	for line := range strings.Lines(metrics.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	if strings.Contains(log.String(), "u1") || !strings.Contains(log.String(), `"events":4`) {
		t.Errorf("log: %s", &log)
	}
}

func TestWithoutRulesTheBatchFailsAndNothingIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.open(t, io.Discard, io.Discard)
	for doc, says := range map[string]string{
		"":       "empty",
		"  \n":   "empty",
		"{":      "rules.json",
		`[{}]`:   "destination_name",
		"absent": "there is no object",
		`[{"destination_name":"crm","enabled_events":["*"]}]`: "destination_arn",
		`[{"destination_name":"crm","destination_arn":"arn:aws:lambda:region:account-id:function:function-name:prod","enabled_events":["*"]}]`: "words of an example",
	} {
		f := f
		if doc == "absent" {
			f = newWorld(t).open(t, io.Discard, io.Discard)
		} else {
			w.rules(t, doc)
		}
		if _, err := handle(t, f, batch(stored("e1"))); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("rules %q: %v", doc, err)
		}
	}
}

func TestTheLastGoodRulesStayInForce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rules(t, `[{"destination_name":"crm","destination_arn":"`+w.arn("crm")+`","enabled_events":["*"]}]`)
	var log bytes.Buffer
	f := w.open(t, &log, io.Discard)
	sent := 0
	send := func() {
		t.Helper()
		sent++
		if answer, err := handle(t, f, batch(stored(fmt.Sprintf("e%d", sent)))); err != nil || answer != none {
			t.Fatalf("%s, %v", answer, err)
		}
		if got := len(w.delivered(t)); got != sent {
			t.Fatalf("crm got %d events of %d", got, sent)
		}
	}
	send()
	w.rules(t, "[{")
	send()
	w.Buckets.Fail(func(*http.Request) int { return http.StatusInternalServerError })
	send()
	w.Buckets.Fail(nil)
	w.rules(t, `[]`)
	if answer, err := handle(t, f, batch(stored("e9"))); err != nil || answer != none || len(w.delivered(t)) != sent {
		t.Errorf("with rules that want nothing: %s, %v", answer, err)
	}
	for _, want := range []string{"last good version stays in force", "names no destination"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, &log)
		}
	}
}

func TestRulesAreLookedAtOnceInAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rules(t, `[{"destination_name":"crm","destination_arn":"`+w.arn("crm")+`","enabled_events":["*"]}]`)
	var mu sync.Mutex
	looks := 0
	w.Buckets.Fail(func(*http.Request) int { mu.Lock(); defer mu.Unlock(); looks++; return 0 })
	f := w.open(t, io.Discard, io.Discard, "RULES_INTERVAL", "1h")
	for i := range 5 {
		if _, err := handle(t, f, batch(stored(fmt.Sprint(i)))); err != nil {
			t.Fatal(err)
		}
	}
	if mu.Lock(); looks != 1 {
		t.Errorf("%d looks", looks)
	}
	mu.Unlock()
}

func TestAFunctionThatDoesNotExistMakesDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rules(t, `[{"destination_name":"crm","destination_arn":"`+w.arn("crm")+`","enabled_events":["*"]},
		{"destination_name":"gone","destination_arn":"`+w.arn("gone")+`","enabled_events":["*"]},
		{"destination_name":"queue","destination_arn":"`+w.Queues.ARN("gone")+`","enabled_events":["*"]}]`)
	f := w.open(t, io.Discard, io.Discard)
	if answer, err := handle(t, f, batch(stored("e1"), stored("e2"))); err != nil || answer != none {
		t.Fatalf("%s, %v", answer, err)
	}
	if got := w.delivered(t); len(got) != 2 {
		t.Errorf("crm got %v", got)
	}
	letters := w.Queues.Messages("dead")
	if len(letters) != 4 {
		t.Fatalf("%d dead letters", len(letters))
	}
	for _, l := range letters {
		if !strings.Contains(l.Body, "does not exist") || !strings.Contains(l.Body, `"destination_arn":"`) || !strings.Contains(l.Body, `"event":{"id":"e`) {
			t.Errorf("letter %s", l.Body)
		}
	}
}

func TestAnEventThatIsTooLargeIsClaimed(t *testing.T) {
	t.Parallel()
	large := fmt.Sprintf(`{"id":"e1","type":"track","name":"upload","user_id":"u1","data":{"text":%q},"context":{}}`, strings.Repeat("x", 1<<20))
	for _, bucket := range []string{"claims", ""} {
		w := newWorld(t)
		w.rules(t, `[{"destination_name":"crm","destination_arn":"`+w.arn("crm")+`","enabled_events":["*"]}]`)
		f := w.open(t, io.Discard, io.Discard, "CLAIM_BUCKET", bucket)
		answer, err := handle(t, f, batch(large, stored("e2")))
		if err != nil {
			t.Fatal(err)
		}
		if bucket == "" {
			// It is too large for a dead letter as well: a note says where it is.
			notes := w.Queues.Messages("dead")
			if answer != none || len(notes) != 1 || !strings.Contains(notes[0].Body, `"startSequenceNumber":"49590000"`) || !strings.Contains(notes[0].Body, "CLAIM_BUCKET") ||
				!strings.Contains(notes[0].Body, `"streamArn":"arn:aws:kinesis:us-east-1:123456789012:stream/events"`) {
				t.Errorf("without a bucket: %s, %+v", answer, notes)
			}
			continue
		}
		got := w.delivered(t)
		if answer != none || len(got) != 2 {
			t.Fatalf("%s, crm got %.200v", answer, got)
		}
		claim, ok := event.ParseClaim([]byte(got[0]))
		if !ok {
			t.Fatalf("crm got %.200s", got[0])
		}
		body, err := w.Buckets.Get(claim.Bucket, claim.Key)
		if err != nil || string(body) != large || claim.Check(body) != nil {
			t.Errorf("%d bytes, %v, %v", len(body), err, claim.Check(body))
		}
	}
}

// The queue for dead letters is away: the record is not passed over.
func TestWhatIsNotSettledIsReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rules(t, `[{"destination_name":"crm","destination_arn":"`+w.arn("crm")+`","enabled_events":["*"]}]`)
	f := w.open(t, io.Discard, io.Discard, "DEAD_LETTER_QUEUE", w.Queues.QueueURL("nowhere"))
	answer, err := handle(t, f, batch(stored("e1"), "rubbish", stored("e2")))
	if err != nil || answer != `{"batchItemFailures":[{"itemIdentifier":"49590001"}]}` {
		t.Errorf("%s, %v", answer, err)
	}
}

func TestAnEventOfAnotherSourceIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.rules(t, `[]`)
	f := w.open(t, io.Discard, io.Discard)
	for _, payload := range []string{``, `null`, `[]`, `{}`, `{"Records":[]}`, `{"Records":[{"eventSource":"aws:sqs","messageId":"1"}]}`, `{"Records":[{"eventSource":"aws:kinesis"}]}`} {
		if _, err := handle(t, f, []byte(payload)); err == nil {
			t.Errorf("%s was taken", payload)
		}
	}
}

func TestVariablesThatCannotBeUsedAreAllNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := map[string]string{"RULES_INTERVAL": "soon", "DEAD_LETTER_QUEUE": "dead"}
	_, err := New(w.SDK(), func(name string) (string, bool) { v, ok := env[name]; return v, ok }, slog.New(slog.DiscardHandler), io.Discard)
	for _, want := range []string{`RULES_BUCKET=""`, `RULES_KEY=""`, `RULES_INTERVAL="soon"`, `DEAD_LETTER_QUEUE="dead"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named: %v", want, err)
		}
	}
}
