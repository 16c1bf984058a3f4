package letters_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/grave"
	"github.com/eventsluice/sluice/internal/cloud/letters"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/event"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sent is when the messages of these tests were sent.
var sent = time.Date(2026, 11, 23, 10, 6, 0, 0, time.UTC)

// message is one of the queue "dead".
func message(body []byte, attributes map[string]string) letters.Message {
	return letters.Message{ID: "m", Body: body, Attributes: attributes, SentAt: sent, Receives: 1, Queue: "dead"}
}

// describe is what matters of a letter, in a line.
func describe(l *deadletter.Letter) string {
	what := "nothing"
	switch {
	case l.Claim != nil:
		what = "claim of " + l.Claim.Key
	case l.Event != nil:
		what = "event " + l.EventName + " " + l.EventID + " of " + l.PartitionKey
	case l.Raw != nil:
		what = fmt.Sprintf("raw %.12q", l.Raw)
	}
	return strings.Join([]string{l.ID, l.Destination, l.ARN, l.Class, l.Code, fmt.Sprint(l.Status), fmt.Sprint(l.Attempts), l.LastTry.Format("15:04:05"), what}, " | ")
}

const (
	first   = "0198c2a4-0000-7000-8000-000000000001"
	second  = "0198c2a4-0000-7000-8000-000000000002"
	crm     = "arn:aws:lambda:eu-west-1:123456789012:function:crm:prod"
	crmFeed = "arn:aws:sqs:eu-west-1:123456789012:crm"
	shard   = "shardId-000000000006"
	start   = "49590338271490256608559692538361571095921575989136588898"
)

// The second event of the aggregate came without an id.
var derived = event.DeriveID(shard, start, 1)

// lambda are the attributes of the dead letter queue of a function.
var lambda = map[string]string{"RequestID": "e4b46cbf", "ErrorCode": "200", "ErrorMessage": "out of memory"}

func TestEveryShapeOfMessageIsTakenApart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		file       string
		attributes map[string]string
		source     string
		want       []string
	}{
		{"a letter of ours", "ours.json", nil, "", []string{
			"m | crm | " + crm + " | permanent | invalid_email | 422 | 3 | 10:00:09 | event order_placed " + first + " of u1",
		}},
		{"one that claims its event", "ours-claim.json", nil, "", []string{
			"m | crm | " + crm + " | too_large |  | 0 | 1 | 10:00:09 | claim of letters/crm/1.json",
		}},
		{"one of what the router cannot read", "ours-raw.json", nil, "", []string{
			`m | dead |  | permanent | unreadable | 0 | 0 | 10:00:09 | raw "not json"`,
		}},
		{"the event that a function was invoked with", "event.json", lambda, "", []string{
			"m | dead |  | invocation |  | 200 | 0 | 10:06:00 | event order_placed " + first + " of u1",
		}},
		{"an event that somebody has put there", "event.json", nil, "", []string{
			"m | dead |  | unknown |  | 0 | 0 | 10:06:00 | event order_placed " + first + " of u1",
		}},
		{"an event that was received too often", "event.json", nil, crmFeed, []string{
			"m | crm | " + crmFeed + " | invocation |  | 0 | 1 | 10:06:00 | event order_placed " + first + " of u1",
		}},
		{"several events", "array.json", lambda, "", []string{
			"m.0 | dead |  | invocation |  | 200 | 0 | 10:06:00 | event order_placed " + first + " of u1",
			"m.1 | dead |  | invocation |  | 200 | 0 | 10:06:00 | event order_placed " + second + " of u2",
			`m.2 | dead |  | unknown |  | 200 | 0 | 10:06:00 | raw "{\"not\":\"an e"`,
		}},
		{"a claim", "claim.json", lambda, "", []string{
			"m | dead |  | invocation |  | 200 | 0 | 10:06:00 | claim of claims/crm/shardId-000000000000/496-0.json",
		}},
		{"the event of a queue", "sqs-event.json", lambda, "", []string{
			"m.0 | crm | " + crmFeed + " | invocation |  | 200 | 0 | 10:06:00 | event order_placed " + first + " of u1",
			"m.1 | crm | " + crm + " | permanent | invalid_email | 422 | 3 | 10:00:09 | event order_placed " + first + " of u1",
			"m.2.0 | crm | " + crmFeed + " | invocation |  | 200 | 0 | 10:06:00 | event order_placed " + first + " of u1",
			"m.2.1 | crm | " + crmFeed + " | invocation |  | 200 | 0 | 10:06:00 | event order_placed " + second + " of u2",
		}},
		{"the event of a stream", "kinesis-event.json", lambda, "", []string{
			"m.0.0 | dead |  | invocation |  | 200 | 0 | 10:06:00 | event order_placed " + first + " of u1",
			"m.0.1 | dead |  | invocation |  | 200 | 0 | 10:06:00 | event order_paid " + derived + " of u1",
			`m.1.0 | dead |  | invocation | unreadable | 200 | 0 | 10:06:00 | raw "not json"`,
		}},
		{"an envelope", "envelope-event.json", nil, "", []string{
			"m | crm | " + crm + " | invocation | RetriesExhausted | 200 | 3 | 10:05:00 | event order_placed " + first + " of u1",
		}},
		{"an envelope of one that was never invoked", "envelope-aged.json", nil, "", []string{
			"m | crm | " + crm + " | invocation | EventAgeExceeded | 0 | 3 | 10:05:00 | event order_placed " + first + " of u1",
		}},
		{"an envelope of several events", "envelope-array.json", nil, "", []string{
			"m.0 | crm | " + crm + " | invocation | RetriesExhausted | 200 | 3 | 10:05:00 | event order_placed " + first + " of u1",
			"m.1 | crm | " + crm + " | invocation | RetriesExhausted | 200 | 3 | 10:05:00 | event order_placed " + second + " of u2",
		}},
		{"an envelope of a claim", "envelope-claim.json", nil, "", []string{
			"m | crm | " + crm + " | invocation | RetriesExhausted | 200 | 3 | 10:05:00 | claim of claims/crm/shardId-000000000000/496-0.json",
		}},
		{"an envelope of the event of a queue", "envelope-sqs.json", nil, "", []string{
			"m.0 | crm | " + crmFeed + " | invocation | RetriesExhausted | 200 | 3 | 10:05:00 | event order_placed " + first + " of u1",
			"m.1 | crm | " + crm + " | permanent | invalid_email | 422 | 3 | 10:00:09 | event order_placed " + first + " of u1",
			"m.2.0 | crm | " + crmFeed + " | invocation | RetriesExhausted | 200 | 3 | 10:05:00 | event order_placed " + first + " of u1",
			"m.2.1 | crm | " + crmFeed + " | invocation | RetriesExhausted | 200 | 3 | 10:05:00 | event order_placed " + second + " of u2",
		}},
		{"an envelope of what is none of ours", "envelope-strange.json", nil, "", []string{
			"m | crm | " + crm + ` | unknown | RetriesExhausted | 200 | 3 | 10:05:00 | raw "{\"detail\":\"a"`,
		}},
		{"a note with its records, as a text", "note-payload.json", nil, "", []string{
			"m.0.0 | router |  | invocation | RetryAttemptsExhausted | 200 | 4 | 10:38:06 | event order_placed " + first + " of u1",
			"m.0.1 | router |  | invocation | RetryAttemptsExhausted | 200 | 4 | 10:38:06 | event order_paid " + derived + " of u1",
			`m.1.0 | router |  | invocation | unreadable | 200 | 4 | 10:38:06 | raw "not json"`,
		}},
		{"a note with its records, as an object", "note-payload-object.json", nil, "", []string{
			"m.0.0 | router |  | invocation | RetryAttemptsExhausted | 200 | 4 | 10:38:06 | event order_placed " + first + " of u1",
			"m.0.1 | router |  | invocation | RetryAttemptsExhausted | 200 | 4 | 10:38:06 | event order_paid " + derived + " of u1",
			`m.1.0 | router |  | invocation | unreadable | 200 | 4 | 10:38:06 | raw "not json"`,
		}},
		{"the note of a table", "note-dynamodb.json", nil, "", []string{
			`m | dead |  | unknown |  | 0 | 0 | 10:06:00 | raw "{\"requestCon"`,
		}},
		{"a backup", "backup.jsonl", nil, "", []string{
			"m.0 | crm |  | permanent |  | 0 | 3 | 10:00:09 | event   of ",
			`m.1 | crm |  | permanent |  | 0 | 3 | 10:00:09 | raw "not json"`,
		}},
		{"a text", "text.txt", nil, "", []string{`m | dead |  | unknown |  | 0 | 0 | 10:06:00 | raw "hello, is th"`}},
		{"nothing", "empty.txt", nil, "", []string{`m | dead |  | unknown |  | 0 | 0 | 10:06:00 | raw ""`}},
		{"JSON of somebody else", "other.json", nil, "", []string{`m | dead |  | unknown |  | 0 | 0 | 10:06:00 | raw "{\"orderId\":1"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := message(fixture(t, c.file), c.attributes)
			m.Source = c.source
			got, batch := letters.Parse(m)
			if batch != nil {
				t.Fatalf("a batch: %+v", batch)
			}
			var lines []string
			for i := range got {
				lines = append(lines, describe(&got[i]))
			}
			if !reflect.DeepEqual(lines, c.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(lines, "\n  "), strings.Join(c.want, "\n  "))
			}
		})
	}
}

func TestANoteWithoutItsRecordsNamesThemOnTheStream(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"note.json", "note-payload-broken.json"} {
		got, batch := letters.Parse(message(fixture(t, file), nil))
		if len(got) != 0 || batch == nil {
			t.Fatalf("%s: %+v, %+v", file, got, batch)
		}
		if batch.Stream != "arn:aws:kinesis:eu-west-1:123456789012:stream/events" || batch.Shard != shard ||
			batch.Start != start || batch.End != "49590338271490256608559692540925702759324208523137515618" || batch.Size != 2 {
			t.Errorf("%s: %+v", file, batch)
		}
	}
}

func TestALetterTellsWhatLambdaSaid(t *testing.T) {
	t.Parallel()
	got, _ := letters.Parse(message(fixture(t, "envelope-event.json"), nil))
	l := got[0]
	if !strings.Contains(l.Message, "timed out after 30.00 seconds") || !strings.Contains(l.Response, "Sandbox.Timedout") || !strings.Contains(l.Request, "e4b46cbf-b738-xmpl-8880-a18cdf61200e") {
		t.Errorf("%+v", l)
	}
	got, _ = letters.Parse(message(fixture(t, "event.json"), lambda))
	if l := got[0]; l.Message != "out of memory" || !strings.Contains(l.Request, "e4b46cbf") {
		t.Errorf("%+v", l)
	}
}

// The destination gets the bytes that were sent.
func TestTheBytesOfAnEventAreKept(t *testing.T) {
	t.Parallel()
	want := fixture(t, "event.json")
	for _, file := range []string{"event.json", "ours.json", "envelope-event.json"} {
		got, _ := letters.Parse(message(fixture(t, file), nil))
		if !bytes.Equal(got[0].Event, want) {
			t.Errorf("%s: %s", file, got[0].Event)
		}
	}
}

func TestAnEventThatLooksLikeALetterIsAnEvent(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"id":"1","name":"n","destination":"d","class":"c","attempts":1,"event":{"name":"inner"}}`,
		`{"id":"1","name":"n","requestContext":{},"requestPayload":{"name":"inner"}}`,
		`{"id":"1","name":"n","Records":[]}`,
		`{"id":"1","name":"n","claim":{"bucket":"b","key":"k"}}`,
	} {
		got, _ := letters.Parse(message([]byte(body), nil))
		if len(got) != 1 || got[0].EventName != "n" || string(got[0].Event) != body {
			t.Errorf("%s: %+v", body, got)
		}
	}
}

func TestWhatAFunctionBuriesIsUnderstood(t *testing.T) {
	t.Parallel()
	claim := event.NewClaim("claims", "k", []byte("x"))
	for name, l := range map[string]deadletter.Letter{
		"an event": {
			ID: "a:1:0:crm", Destination: "crm", ARN: crm, Event: json.RawMessage("{ \"name\":\"n\\u2028\uFFFE\", \"data\":{\"a\": \"<&>\"}}"), EventID: "e", EventName: "n",
			PartitionKey: "u", Attempts: 2, FirstSeen: sent, LastTry: sent, Class: "permanent", Message: "no", Status: 400, Rule: "rules[0] crm",
			Tries: []deadletter.Try{{At: sent, Class: "retryable", Status: 503}},
		},
		"bytes":   {ID: "a:1:0", Raw: []byte{0, 0xff}, LastTry: sent, Class: "permanent"},
		"a claim": {ID: "a:1:0:crm", Destination: "crm", Claim: &claim, LastTry: sent, Class: "too_large"},
	} {
		m, err := grave.Encode(l)
		if err != nil {
			t.Fatal(err)
		}
		got, batch := letters.Parse(letters.Message{ID: "m", Body: []byte(m.Body), Attributes: m.Attributes, SentAt: sent.Add(time.Hour), Queue: "dead"})
		if len(got) != 1 || batch != nil {
			t.Fatalf("%s: %+v, %+v", name, got, batch)
		}
		want := l
		want.ID = "m"
		if want.Destination == "" {
			want.Destination = "dead"
		}
		want.Event = bytes.ReplaceAll(want.Event, []byte("\uFFFE"), []byte(`\ufffe`))
		if want.Event = bytes.Clone(want.Event); len(want.Event) == 0 {
			want.Event = nil
		}
		if !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got[0], want)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.*"))
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body, "", "")
		f.Add(body, "200", crmFeed)
	}
	f.Fuzz(func(t *testing.T, body []byte, code, source string) {
		m := message(body, map[string]string{"ErrorCode": code})
		m.Source = source
		got, batch := letters.Parse(m)
		again, _ := letters.Parse(m)
		if !reflect.DeepEqual(got, again) {
			t.Fatal("another time it is something else")
		}
		if len(got) == 0 && batch == nil {
			t.Fatal("skipped")
		}
		seen := map[string]bool{}
		for i := range got {
			l := &got[i]
			if !strings.HasPrefix(l.ID, "m") || seen[l.ID] {
				t.Fatalf("id %q", l.ID)
			}
			seen[l.ID] = true
			if l.Class == "" || l.Event == nil && l.Raw == nil && l.Claim == nil {
				t.Fatalf("%+v", l)
			}
			if l.Event != nil && !json.Valid(l.Event) {
				t.Fatalf("event %q", l.Event)
			}
			line, err := deadletter.AppendLine(nil, *l)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := deadletter.ParseLine(line); err != nil || bytes.Count(line, []byte("\n")) != 1 {
				t.Fatalf("line %q: %v", line, err)
			}
		}
	})
}
