package grave_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/cloudtest"
	"github.com/eventsluice/sluice/internal/cloud/grave"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
	"github.com/eventsluice/sluice/internal/deadletter"
	"github.com/eventsluice/sluice/internal/fault"
)

func letter() deadletter.Letter {
	return deadletter.Letter{
		ID: "e1", Destination: "crm", ARN: "arn:aws:lambda:us-east-1:123456789012:function:crm:prod",
		Event: json.RawMessage("{\"id\": \"e1\",\n\"name\":\"<&>\u2028\",\"data\":{\"n\":1.50e+00}}"), EventID: "e1", EventName: "<&>\u2028", PartitionKey: "u1",
		Attempts: 2, Class: "retryable", Message: "no\x00 \uFFFE", Request: "POST /", Tries: []deadletter.Try{{Class: "retryable"}},
	}
}

func TestAMessageHasTheBytesOfTheEvent(t *testing.T) {
	t.Parallel()
	l := letter()
	m, err := grave.Encode(l)
	if err != nil || !strings.HasSuffix(m.Body, `,"event":`+string(l.Event)+"}") {
		t.Fatalf("%v: %s", err, m.Body)
	}
	var back deadletter.Letter
	if err := json.Unmarshal([]byte(m.Body), &back); err != nil || !reflect.DeepEqual(back, l) {
		t.Errorf("%v\n got %+v\nwant %+v", err, back, l)
	}
	want := map[string]string{"Destination": "crm", "Class": "retryable", "EventName": "<&>\u2028", "EventID": "e1", "ErrorMessage": "no\uFFFD \uFFFD"}
	if !reflect.DeepEqual(m.Attributes, want) || m.Group == "" || m.Dedup == "" || m.Delay != 0 {
		t.Errorf("%+v", m)
	}
	// The same letter is the same to a FIFO queue, another try of it is not.
	again, _ := grave.Encode(l)
	l.Attempts++
	later, _ := grave.Encode(l)
	if again.Dedup != m.Dedup || later.Dedup == m.Dedup || later.Group != m.Group {
		t.Errorf("%+v, %+v", again, later)
	}
}

func TestAnEventThatIsNoJSONGoesAsBytes(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"{", "{\"name\":\"\xff\"}", "\xef\xbb\xbf{}"} {
		l := letter()
		l.Event = json.RawMessage(raw)
		m, err := grave.Encode(l)
		var back deadletter.Letter
		if err != nil || json.Unmarshal([]byte(m.Body), &back) != nil || string(back.Raw) != raw || back.Event != nil {
			t.Errorf("%q: %v, %s", raw, err, m.Body)
		}
	}
}

func TestALetterIsMeasuredWithItsAttributes(t *testing.T) {
	t.Parallel()
	l := letter()
	fill := func(n int) (queue.Message, error) {
		l.Event = json.RawMessage(`{"name":"` + strings.Repeat("x", n) + `"}`)
		return grave.Encode(l)
	}
	m, err := fill(0)
	if err != nil {
		t.Fatal(err)
	}
	size := len(m.Body)
	for name, value := range m.Attributes {
		size += len(name) + len("String") + len(value)
	}
	if _, err := fill(queue.MaxBytes - size); err != nil {
		t.Errorf("exactly as large as SQS takes: %v", err)
	}
	if _, err := fill(queue.MaxBytes - size + 1); fault.KindOf(err) != fault.TooLarge {
		t.Errorf("a byte more: %v", err)
	}
}

// Letters that wait cannot be received before their time, as far as SQS has
// delays; dead letters can at once.
func TestOnlyWhatWaitsIsDelayed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		aws := cloudtest.NewMemory(t, []sqstest.Queue{{Name: "q"}, {Name: "q.fifo"}})
		server, queues := aws.Queues, queue.New(aws.SDK())
		now := time.Now()
		at := func(id string, wait time.Duration) deadletter.Letter {
			l := letter()
			l.ID, l.NotBefore, l.Message = id, now.Add(wait), ""
			return l
		}
		for name, want := range map[string][]time.Duration{
			"q":      {0, 0, 1, 60, 900, 0, 0},
			"q.fifo": {0, 0, 0, 0, 0, 0, 0},
		} {
			ref, err := queues.Parse(server.ARN(name))
			if err != nil {
				t.Fatal(err)
			}
			g := &grave.Grave{Queue: queues, Ref: ref}
			errs := g.Keep(t.Context(), []deadletter.Letter{at("past", -time.Hour), at("now", 0), at("soon", time.Millisecond), at("minute", time.Minute), at("day", 24*time.Hour)})
			errs = append(errs, g.Bury(t.Context(), []deadletter.Letter{at("dead", time.Hour), at("dead too", 0)})...)
			for i, err := range errs {
				if err != nil {
					t.Errorf("%s: letter %d: %v", name, i, err)
				}
			}
			for i, m := range server.Messages(name) {
				delay := time.Duration(0)
				if m.State == sqstest.Delayed {
					delay = m.VisibleAt.Sub(m.SentAt)
				}
				if delay != want[i]*time.Second {
					t.Errorf("%s: letter %d is delayed by %v, want %ds", name, i, delay, want[i])
				}
			}
		}
	})
}

// FuzzEncode: whatever a letter holds, SQS takes its message, and the letter
// comes back from it.
func FuzzEncode(f *testing.F) {
	f.Add("e1", `{"name":"x"}`, "u1", "message")
	f.Add("\x00", "{\"a\":\"\uFFFE\uFFFF\"}", "\xff", "\u2028\n")
	f.Fuzz(func(t *testing.T, id, event, key, message string) {
		l := deadletter.Letter{ID: id, Event: json.RawMessage(event), PartitionKey: key, EventName: key, Message: message, Class: "held"}
		m, err := grave.Encode(l)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{m.Body, m.Attributes["EventName"], m.Attributes["ErrorMessage"]} {
			for _, r := range text {
				if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
					t.Fatalf("SQS does not take %q", text)
				}
			}
		}
		var back deadletter.Letter
		if err := json.Unmarshal([]byte(m.Body), &back); err != nil {
			t.Fatalf("%v: %s", err, m.Body)
		}
		if len(back.Event) == 0 && string(back.Raw) != event {
			t.Fatalf("%q came back as %+v", event, back)
		}
	})
}
